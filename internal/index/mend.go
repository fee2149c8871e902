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

// maxGroupMembers bounds the groups that are written anew.
const maxGroupMembers = 1000

// grouped puts a message into a group.
func (m *mending) grouped(item *badger.Item) error {
	tenant := textAt(item.Key(), 2)
	id := textAt(item.Key(), 2+len(tenant)+1)
	var pb indexpb.Record
	if err := decode(item, &pb); err != nil {
		return err
	}
	rec := decodeRecord(tenant, id, &pb)
	if rec.Tombstone == nil {
		if err := m.links(rec); err != nil {
			return err
		}
	}
	m.group.add(&member{tenant, id, senderSum(rec.Message.Sender), rec.Message.SentAt.UnixMilli()})
	if m.group.count < maxGroupMembers {
		return nil
	}
	return m.endGroup()
}

func (m *mending) endGroup() error {
	if m.group.count == 0 {
		return nil
	}
	data, err := m.group.encode()
	if err != nil {
		return err
	}
	m.groups++
	m.group = groupWriter{}
	return m.batch.Set(groupKey(m.groups), data)
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

// message counts a message, and sets the keys of its attachments.
func (m *mending) message(item *badger.Item) error {
	k := item.KeyCopy(nil)
	if m.mended[string(k)] {
		return nil
	}
	tenant := textAt(k, 2)
	id := textAt(k, 2+len(tenant)+1)
	var pb indexpb.Record
	if err := decode(item, &pb); err != nil {
		return err
	}
	rec := decodeRecord(tenant, id, &pb)
	m.out.Messages++
	var entry *indexpb.Entry
	if t := rec.Tombstone; t != nil {
		m.out.Recalls++
		m.sequence = max(m.sequence, t.Sequence)
		found := &indexpb.Entry{}
		switch there, err := get(m.txn, ledgerKey(tenant, t.RecallID, t.Sequence), found); {
		case err != nil:
			return err
		case there:
			entry = found
		default:
			m.out.LedgersLost++
		}
	}
	return m.uses(rec, entry)
}

// links sets the keys of the relations of a live message. If it relates to a recalled one with which it is to be
// recalled, the cascade of that one is open again.
func (m *mending) links(rec *Record) error {
	tenant := rec.Message.Tenant
	for _, r := range rec.Message.Relations {
		m.relations++
		if err := m.batch.Set(relationKey(tenant, r, rec.Message.ID), nil); err != nil {
			return err
		}
		to, err := readRecord(m.txn, tenant, r.MessageID)
		if err != nil {
			return err
		}
		if to == nil || to.Tombstone == nil || !to.Tombstone.Cascade.has(r.Kind) {
			continue
		}
		entry, err := m.entryOf(to.Tombstone.Sequence)
		if err != nil {
			return err
		}
		if entry == nil { // what to do with it is lost
			continue
		}
		if err := m.set(cascadeKey(to.Tombstone.Sequence), &indexpb.Cascade{}); err != nil {
			return err
		}
	}
	return nil
}

// uses sets the keys of the attachments of a message. entry has what its recall released; nil for a live message, and
// where it is lost: then the attachments may stay for ever, which is better than to delete one that is used.
func (m *mending) uses(rec *Record, entry *indexpb.Entry) error {
	for i := range rec.Message.Attachments {
		a, tenant := &rec.Message.Attachments[i], rec.Message.Tenant
		var k key
		switch {
		case entry == nil && rec.Tombstone == nil:
			k = attachmentKey(tenant, a.Key, rec.Message.ID)
		case entry != nil && a.Owner == "" && !slices.Contains(entry.Attachments, a.Key):
			k = ownerRecalledKey(tenant, a.Key)
		default:
			continue
		}
		if err := m.batch.Set(k, nil); err != nil {
			return err
		}
	}
	return nil
}

// use drops the use of an attachment by a message that is recalled.
func (m *mending) use(item *badger.Item) error {
	k := item.Key()
	tenant := textAt(k, 2)
	attachment := textAt(k, len(newKey('a').text(tenant)))
	id := textAt(k, len(attachmentPrefix(tenant, attachment)))
	rec, err := readRecord(m.txn, tenant, id)
	if err != nil || rec == nil || rec.Tombstone == nil {
		return err
	}
	return m.drop(item)
}
