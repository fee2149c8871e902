package index

import (
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// replace plans to replace, in a message that stays, the sender as the owner of attachments and as the actor of the
// recall, and the ids of messages that are gone. waits says that a step of its recall is open.
func (f *forgetter) replace(id string) (waits bool, err error) {
	tenant, person := f.of.What.Tenant, f.of.What.Sender
	rec, err := readRecord(f.txn, tenant, id)
	if err != nil || rec == nil {
		return false, err
	}
	if rec.Message.Sender == person { // it is erased as a whole, or was sent since the request
		person = ""
	}
	var entry *indexpb.Entry
	changed := false
	for i := range rec.Message.Attachments {
		if a := &rec.Message.Attachments[i]; person != "" && a.Owner == person {
			a.Owner, changed = shared.Forgotten, true
		}
	}
	if t := rec.Tombstone; t != nil {
		if entry, err = f.entryAt(rec); err != nil {
			return false, err
		}
		for i := range rec.Message.Relations {
			r := &rec.Message.Relations[i]
			gone, err := isGone(f.txn, tenant, r.MessageID)
			if err != nil {
				return false, err
			}
			if !gone {
				continue
			}
			if c := entry.GetCause(); c != nil && c.MessageId == r.MessageID {
				c.MessageId = shared.Forgotten
			}
			r.MessageID, changed = shared.Forgotten, true
		}
		isActor := person != "" && t.RecalledBy == person && t.Sequence <= f.work.Sequence
		if entry != nil && (changed || isActor) {
			if waits, err := f.isOpen(entry); waits || err != nil {
				return waits && !forgets(&f.of.What, &rec.Message), err // those of the request are counted already
			}
		}
		if isActor {
			changed, t.RecalledBy = true, shared.Forgotten
			if entry != nil {
				entry.ActorId, entry.ActorLabels = shared.Forgotten, nil
			}
			if err := f.replaceActor(tenant, t.RecallID, person); err != nil {
				return false, err
			}
		}
		if changed && entry != nil {
			if err := f.w.set(ledgerKey(tenant, t.RecallID, t.Sequence), entry); err != nil {
				return false, err
			}
		}
		f.w.changed = append(f.w.changed, t.Sequence)
	}
	if !changed {
		return false, nil
	}
	f.out.Replaced++
	rec.Message = normal(rec.Message)
	return false, f.w.set(messageKey(tenant, id), encodeRecord(rec))
}

// isGone reports whether there is no record of a message that another one names.
func isGone(txn *badger.Txn, tenant, id string) (bool, error) {
	if id == shared.Forgotten {
		return false, nil
	}
	item, err := find(txn, messageKey(tenant, id))
	return item == nil, err
}

// replaceActor plans a recall id that is nobody's any more.
func (f *forgetter) replaceActor(tenant, recallID, person string) error {
	k := recallIDKey(tenant, recallID)
	var id indexpb.RecallID
	if found, err := get(f.txn, k, &id); err != nil || !found || id.ActorId != person {
		return err
	}
	id.ActorId = shared.Forgotten
	return f.w.set(k, &id)
}

// Naming is what a walk over records found.
type Naming struct {
	Messages []string // ids of messages for Forget.Replace
	After    string   // the message that was visited last
	More     bool
}

// Naming lists messages of the tenant of a request, in the order of their ids after one of them, that name the sender
// who is forgotten, as the owner of an attachment or as the actor of the recall; or that are recalled and relate to a
// message that is gone. It stops when it has found limit, or after a time.
func (x *Index) Naming(
	what *shared.ForgetRequest, after string, limit int, most time.Duration,
) (out Naming, err error) {
	out.After = after
	end := time.Now().Add(most)
	prefix := newKey('m').text(what.Tenant)
	from := prefix
	if after != "" {
		from = append(messageKey(what.Tenant, after), 0)
	}
	err = x.dir.Read(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		n := 0
		for it.Seek(from); it.Valid(); it.Next() {
			if n++; len(out.Messages) == limit || n%timedMembers == 0 && time.Now().After(end) {
				out.More = true
				return nil
			}
			var pb indexpb.Record
			if err := decode(it.Item(), &pb); err != nil {
				return err
			}
			out.After = textAt(it.Item().Key(), len(prefix))
			names, err := isNaming(txn, what, &pb)
			if err != nil {
				return err
			}
			if names {
				out.Messages = append(out.Messages, out.After)
			}
		}
		return nil
	})
	if err != nil {
		return Naming{}, fmt.Errorf("find what names what was forgotten: %w", err)
	}
	return out, nil
}

func isNaming(txn *badger.Txn, what *shared.ForgetRequest, pb *indexpb.Record) (bool, error) {
	if person := what.Sender; person != "" && pb.Sender != person &&
		(pb.Tombstone.GetActorId() == person || slices.Contains(pb.Owners, person)) {
		return true, nil
	}
	if pb.Tombstone == nil {
		return false, nil
	}
	for _, r := range pb.Relations {
		if gone, err := isGone(txn, what.Tenant, r.MessageId); err != nil || gone {
			return gone, err
		}
	}
	return false, nil
}
