package index

import (
	"context"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/plugin/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// lostText stands for what was lost, in records that are kept for their recall alone.
const lostText = "(lost)"

// mending makes an index whole again of which keys are missing: no key points to one that is gone, and whatever has any
// trace of a recall is recalled.
type mending struct {
	txn      *badger.Txn
	batch    *badger.WriteBatch
	out      *Salvaged
	sequence uint64          // the highest of any recall
	mended   map[string]bool // keys of records that batch writes
}

func mend(ctx context.Context, db *badger.DB, out *Salvaged) error {
	version := max(db.MaxVersion(), 1)
	txn := db.NewTransactionAt(version, false)
	defer txn.Discard()
	m := &mending{txn: txn, batch: db.NewWriteBatchAt(version + 1), out: out, mended: map[string]bool{}}
	defer m.batch.Cancel()
	for _, pass := range []struct {
		kind byte
		each func(item *badger.Item) error
	}{{'r', m.conversation}, {'l', m.ledger}, {'e', m.open}, {'m', m.message}} {
		err := each(txn, newKey(pass.kind), nil, func(item *badger.Item) (bool, error) {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			return true, pass.each(item)
		})
		if err != nil {
			return err
		}
	}
	next, err := encode(&indexpb.Counter{Next: m.sequence + 1})
	if err != nil {
		return err
	}
	if err := m.batch.Set(sequenceKey, next); err != nil {
		return err
	}
	return m.batch.Flush()
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
	whole, err := get(m.txn, ledgerKey(tenant, pointer.RecallId, pointer.MessageId), &entry)
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
	m.sequence = max(m.sequence, entry.Sequence)
	tenant := textAt(k, 2)
	recallID := textAt(k, 2+len(tenant)+1)
	id := textAt(k, 2+len(tenant)+1+len(recallID)+1)
	return m.recalled(tenant, recallID, id, shared.Conversation{Type: shared.Group, ID: lostText}, &entry)
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
		rec = &Record{Message: shared.Message{Tenant: tenant, ID: id, Conversation: c, Sender: lostText, Type: shared.Custom,
			SentAt: decodeTime(at)}}
	} else {
		m.out.RecalledByLedger++
	}
	rec.Tombstone = &Tombstone{
		RecallID: recallID, RecalledBy: shared.Actor{ID: entry.ActorId, Role: roles.word[entry.Role]},
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

// open drops an open step whose ledger is gone.
func (m *mending) open(item *badger.Item) error {
	k := item.KeyCopy(nil)
	var pointer indexpb.Pointer
	if err := decode(item, &pointer); err != nil {
		return err
	}
	m.sequence = max(m.sequence, lastNumber(k))
	entry, err := find(m.txn, ledgerKey(pointer.Tenant, pointer.RecallId, pointer.MessageId))
	if err != nil || entry != nil {
		return err
	}
	return m.batch.Delete(k)
}

// message counts a message, and has its attachments used by it as long as it is live.
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
	if t := rec.Tombstone; t != nil {
		m.out.Recalls++
		m.sequence = max(m.sequence, t.Sequence)
		entry, err := find(m.txn, ledgerKey(tenant, t.RecallID, id))
		if err != nil {
			return err
		}
		if entry == nil {
			m.out.LedgersLost++
		}
	}
	for _, a := range rec.Message.Attachments {
		var err error
		if used := attachmentKey(tenant, a, id); rec.Tombstone == nil {
			err = m.batch.Set(used, nil)
		} else {
			err = m.batch.Delete(used)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
