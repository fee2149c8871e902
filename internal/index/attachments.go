package index

import (
	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/shared"
)

// An attachment is released, for the host to delete, when no live message uses it and a message of its owner that used
// it was recalled. So the index has a key for each live message that uses an attachment, and one that says that a
// message of its owner with it was recalled, and others use it.

// changedUse is a use of an attachment that an operation changes.
type changedUse struct {
	attachment key // prefix
	message    string
	uses       bool
}

func (w *writes) use(tenant, attachment, id string, uses bool) {
	w.entries = append(w.entries, entry{key: attachmentKey(tenant, attachment, id), delete: !uses})
	w.uses = append(w.uses, changedUse{attachment: attachmentPrefix(tenant, attachment), message: id, uses: uses})
}

// release plans what recalling a message does to its attachments, and returns those that are released. The message is
// [normal].
func (b *batch) release(m *shared.Message, w *writes) (released []shared.Attachment, err error) {
	for first := 0; first < len(m.Attachments); {
		attachment, next := m.Attachments[first].Key, first+1
		own := m.Attachments[first].Owner == "" // the sender's; one key may be there for several owners, the sender first
		for next < len(m.Attachments) && m.Attachments[next].Key == attachment {
			next++
		}
		live, err := b.usedByOther(m.Tenant, attachment, m.ID)
		if err != nil {
			return nil, err
		}
		marker := ownerRecalledKey(m.Tenant, attachment)
		marked, err := find(b.txn, marker)
		if err != nil {
			return nil, err
		}
		w.use(m.Tenant, attachment, m.ID, false)
		switch {
		case live && own && marked == nil:
			w.add(marker)
		case !live && (own || marked != nil):
			released = append(released, m.Attachments[first:next]...)
			if marked != nil {
				w.delete(marker)
			}
		}
		first = next
	}
	return released, nil
}

// usedByOther reports whether a live message other than this one uses an attachment.
func (b *batch) usedByOther(tenant, attachment, id string) (bool, error) {
	prefix := attachmentPrefix(tenant, attachment)
	changed := b.uses[string(prefix)]
	for other, uses := range changed {
		if uses && other != id {
			return true, nil
		}
	}
	if b.usesBefore == nil { // one for the batch: to make it costs more than to use it
		b.usesBefore = b.base.NewIterator(badger.IteratorOptions{Prefix: newKey('a')})
	}
	it := b.usesBefore
	for it.Seek(prefix); it.ValidForPrefix(prefix); it.Next() {
		other := textAt(it.Item().Key(), len(prefix))
		if _, known := changed[other]; other != id && !known {
			return true, nil
		}
	}
	return false, nil
}
