package index

import (
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
)

// How messages are mended: their records, groups, relations and uses of attachments.

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
