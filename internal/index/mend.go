package index

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// lostText stands for what was lost, in records that are kept for their recall alone.
const lostText = "(lost)"

// mending makes an index whole again of which keys are missing: whatever has any trace of a recall is recalled, every
// step that is open is in its queue, every message is in a group, and no key points to one that is gone. Only the use
// of an attachment outlives its message: that may be live on the host, and then needs the attachment.
type mending struct {
	txn       *badger.Txn
	batch     *badger.WriteBatch
	out       *Salvaged
	sequence  uint64          // the highest of any recall
	relations uint64          // of live messages
	failures  uint64          // the highest position of any failed attempt
	forgotten uint64          // keyed hashes
	jobs      uint64          // the highest number of a job
	mended    map[string]bool // keys of records that batch writes

	group  groupWriter
	groups uint64 // written

	recallID    key // of the ledger that is visited
	recallIDNow indexpb.RecallID
}

// pass visits the keys of one kind.
type pass struct {
	kind byte
	each func(item *badger.Item) error
}

func mend(ctx context.Context, db *badger.DB, out *Salvaged) error {
	m := &mending{out: out, mended: map[string]bool{}}
	passes := []pass{
		{'r', m.conversation},
		{'l', m.ledger},
		{'m', m.message},
		{'t', m.drop},
		{'c', m.drop},
		{'x', m.drop},
		{'z', m.drop},
		{'H', m.hash},
	}
	if err := m.run(ctx, db, 0, passes, m.countRecallID); err != nil {
		return err
	}
	// Once every event is found by its sequence again, those of lost ledgers can be told, and once every record has its
	// tombstone again, the uses of recalled messages. And every message is in a group again, in the order of their ids,
	// because that of their indexing is lost. Versions go on above those of groups.
	passes = []pass{
		{'q', m.event}, {'e', m.queued}, {'b', m.queued}, {'w', m.queued}, {'d', m.queued}, {'s', m.attempts},
		{'m', m.grouped}, {'a', m.use}, {'v', m.wait}, {'j', m.job}, {'F', m.forget},
	}
	return m.run(ctx, db, uint64(out.Messages), passes, func() error {
		if err := m.endGroup(); err != nil {
			return err
		}
		return m.set(sequenceKey, &indexpb.Counter{
			Next: m.sequence + 1, Failures: m.failures, Relations: m.relations, Forgotten: m.forgotten, Jobs: m.jobs,
		})
	})
}

// run makes passes over what is there, and writes as one version, above another one.
func (m *mending) run(ctx context.Context, db *badger.DB, above uint64, passes []pass, last func() error) error {
	version := max(db.MaxVersion(), 1)
	m.txn, m.batch = db.NewTransactionAt(version, false), db.NewWriteBatchAt(max(version, above)+1)
	defer m.txn.Discard()
	defer m.batch.Cancel()
	for _, pass := range passes {
		err := each(ctx, m.txn, newKey(pass.kind), nil, func(item *badger.Item) (bool, error) {
			return true, pass.each(item)
		})
		if err != nil {
			return err
		}
	}
	if err := last(); err != nil {
		return err
	}
	return m.batch.Flush()
}

func (m *mending) set(k key, value proto.Message) error {
	data, err := encode(value)
	if err != nil {
		return err
	}
	return m.batch.Set(k, data)
}

// conversation mends what an entry in the list of recalls of a conversation points to.
func (m *mending) conversation(item *badger.Item) error {
	k := item.KeyCopy(nil)
	var pointer indexpb.Pointer
	if err := decode(item, &pointer); err != nil {
		return err
	}
	tenant := textAt(k, 2)
	at := 2 + len(tenant) + 1
	c := shared.Conversation{Type: conversationTypes.word[indexpb.ConversationType(k[at])], ID: textAt(k, at+1)}
	sequence := lastNumber(k)
	m.sequence = max(m.sequence, sequence)
	var entry indexpb.Entry
	whole, err := get(m.txn, ledgerKey(tenant, pointer.RecallId, sequence), &entry)
	if err != nil {
		return err
	}
	if !whole {
		entry = indexpb.Entry{Sequence: sequence, ActorId: lostText}
		if err := m.batch.Delete(k); err != nil {
			return err
		}
	}
	return m.recalled(tenant, pointer.RecallId, pointer.MessageId, c, &entry)
}

// ledger mends the message of an entry of a ledger.
func (m *mending) ledger(item *badger.Item) error {
	k := item.KeyCopy(nil)
	var entry indexpb.Entry
	if err := decode(item, &entry); err != nil {
		return err
	}
	tenant := textAt(k, 2)
	recallID := textAt(k, 2+len(tenant)+1)
	m.sequence = max(m.sequence, entry.Sequence)
	pointer := &indexpb.Pointer{Tenant: tenant, RecallId: recallID, MessageId: entry.MessageId}
	if err := m.set(eventKey(entry.Sequence), pointer); err != nil {
		return err
	}
	if err := m.queue(&entry); err != nil {
		return err
	}
	if owner := recallIDKey(tenant, recallID); !bytes.Equal(owner, m.recallID) {
		if err := m.countRecallID(); err != nil {
			return err
		}
		m.recallID, m.recallIDNow = owner, indexpb.RecallID{ActorId: entry.ActorId}
	}
	if entry.Cause == nil { // what was recalled with another message does not count
		m.recallIDNow.Messages++
	}
	lost := shared.Conversation{Type: shared.ConversationGroup, ID: lostText}
	return m.recalled(tenant, recallID, entry.MessageId, lost, &entry)
}

// countRecallID writes whose the recall id is whose ledger was visited, and how many messages it has.
func (m *mending) countRecallID() error {
	if m.recallID == nil {
		return nil
	}
	return m.set(m.recallID, &m.recallIDNow)
}

// queue puts the open steps of an entry where they wait.
func (m *mending) queue(entry *indexpb.Entry) error {
	keys, err := m.queueKeys(entry)
	for _, k := range keys {
		err = errors.Join(err, m.batch.Set(k, nil))
	}
	return err
}

// queueKeys are the keys by which the open steps of an entry wait. Where notify is open and no other was settled, tried
// or queued, the others wait for it: better once more than never. A step that was neither tried nor queued waits for
// those that it comes after and that are open.
func (m *mending) queueKeys(entry *indexpb.Entry) (keys []key, err error) {
	var others []key
	notify, opened, waiting := false, false, false
	for _, s := range entry.Steps {
		a, err := readAttempts(m.txn, entry, s)
		if err != nil {
			return nil, err
		}
		m.failures = max(m.failures, a.Position)
		if settled(a) {
			opened = opened || isBehindNotify(s)
			continue
		}
		k := queueKey(s.Name, entry.Sequence, a)
		if s.Name == shared.StepNotify {
			notify, keys = true, append(keys, k)
			continue
		}
		unopened, err := isUnopened(m.txn, entry.Sequence, s.Name)
		if err != nil {
			return nil, err
		}
		opened = opened || !unopened
		if unopened {
			waitsFor, err := unsettled(m.txn, entry.Sequence, s.After, "")
			if err != nil {
				return nil, err
			}
			if len(waitsFor) > 0 {
				waiting = true
				continue
			}
		}
		others = append(others, k)
	}
	if notify && !opened && len(others) > 0 {
		others = []key{gateKey(entry.Sequence)}
	}
	if waiting {
		keys = append(keys, dependentsKey(entry.Sequence))
	}
	return append(keys, others...), nil
}

// recalled makes a message recalled that is not. One that is gone is made anew, with what is known of it.
func (m *mending) recalled(tenant, recallID, id string, c shared.Conversation, entry *indexpb.Entry) error {
	k := messageKey(tenant, id)
	if m.mended[string(k)] {
		return nil
	}
	rec, err := recordAt(m.txn, k, tenant, id)
	if err != nil || rec != nil && rec.Tombstone != nil {
		return err
	}
	if rec == nil {
		m.out.FactsLost++
		at := entry.RecalledAt
		if at == 0 {
			at = 1
		}
		rec = &Record{Message: shared.Message{
			Tenant: tenant, ID: id, Conversation: c, Sender: lostText, Type: shared.TypeCustom, SentAt: decodeTime(at),
		}}
	} else {
		m.out.RecalledByLedger++
		if err := m.uses(rec, entry); err != nil {
			return err
		}
	}
	rec.Tombstone = &Tombstone{
		RecallID: recallID, RecalledBy: entry.ActorId, Role: roles.word[entry.Role],
		RecalledAt: decodeTime(entry.RecalledAt), Sequence: entry.Sequence,
	}
	if rec.Tombstone.RecalledAt.IsZero() {
		rec.Tombstone.RecalledAt = rec.Message.SentAt
	}
	data, err := encode(encodeRecord(rec))
	if err != nil {
		return err
	}
	m.mended[string(k)] = true
	m.out.Messages++
	m.out.Recalls++
	return m.batch.Set(k, data)
}

// event drops what points to the ledger of an event that is gone.
func (m *mending) event(item *badger.Item) error {
	entry, err := m.entryOf(lastNumber(item.Key()))
	if err != nil || entry != nil {
		return err
	}
	return m.drop(item)
}

func (m *mending) drop(item *badger.Item) error { return m.batch.Delete(item.KeyCopy(nil)) }

// entryOf is the ledger of an event; nil where it is gone.
func (m *mending) entryOf(sequence uint64) (*indexpb.Entry, error) {
	var pointer indexpb.Pointer
	var entry indexpb.Entry
	found, err := get(m.txn, eventKey(sequence), &pointer)
	if err == nil && found {
		found, err = get(m.txn, ledgerKey(pointer.Tenant, pointer.RecallId, sequence), &entry)
	}
	if err != nil || !found {
		return nil, err
	}
	return &entry, nil
}

// attempts drops what came of a step of an event that is gone.
func (m *mending) attempts(item *badger.Item) error {
	sequence := numberAt(item.Key(), 2)
	m.sequence = max(m.sequence, sequence)
	entry, err := m.entryOf(sequence)
	if err != nil || entry != nil {
		return err
	}
	return m.drop(item)
}

// hash counts a hash of a message that was forgotten.
func (m *mending) hash(item *badger.Item) error {
	if len(item.Key()) > len(secretKey) {
		m.forgotten++
	}
	return nil
}

// queued drops a key of a queue that is not where the ledger has its event: that is gone, or the step was settled or
// failed since, and that key was only deleted in what was lost.
func (m *mending) queued(item *badger.Item) error {
	k := item.KeyCopy(nil)
	sequence := lastNumber(k)
	m.sequence = max(m.sequence, sequence) // also of an event that is gone
	entry, err := m.entryOf(sequence)
	if err != nil {
		return err
	}
	if entry != nil {
		keys, err := m.queueKeys(entry)
		if err != nil || slices.ContainsFunc(keys, func(q key) bool { return bytes.Equal(q, k) }) {
			return err
		}
	}
	return m.batch.Delete(k)
}
