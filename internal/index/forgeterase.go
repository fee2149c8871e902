package index

import (
	"context"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// eraseMessage erases a message, if it is of the request, and before it what names it in others. waits says that a step
// is open that needs it; left, that what names it was more than fits.
func (f *forgetter) eraseMessage(id string) (waits, left bool, err error) {
	rec, waits, err := f.find(id)
	if err != nil || waits || rec == nil {
		return waits, false, err
	}
	if f.relations > 0 {
		if left, err = f.unlink(rec); err != nil || left {
			return false, left, err
		}
	}
	return false, false, f.apply(func() error { return f.erase(rec) })
}

// find reads the record of a message that is to be erased; nil if it is not. waits says that a step is open that needs
// it.
func (f *forgetter) find(id string) (found *Record, waits bool, err error) {
	err = f.dir.Guard(func() error {
		rec, err := readRecord(f.txn, f.of.What.Tenant, id)
		if err != nil || rec == nil || !forgets(&f.of.What, &rec.Message) || f.of.Expire && rec.Tombstone != nil {
			return err
		}
		found = rec
		if rec.Tombstone != nil {
			entry, err := f.entryAt(rec)
			if err == nil && entry != nil {
				waits, err = f.isOpen(entry)
			}
			if err != nil || waits {
				return err
			}
		}
		if f.relations == 0 {
			return nil
		}
		for _, r := range rec.Message.Relations { // whose events may name it, for the server to carry out
			entry, _, err := f.naming(r.MessageID, id)
			if err == nil && entry != nil {
				waits, err = f.isOpen(entry)
			}
			if err != nil || waits {
				return err
			}
		}
		return nil
	})
	return found, waits, err
}

// entryAt reads the ledger entry of a recalled message; nil where it was lost.
func (f *forgetter) entryAt(rec *Record) (*indexpb.Entry, error) {
	t, entry := rec.Tombstone, &indexpb.Entry{}
	whole, err := get(f.txn, ledgerKey(rec.Message.Tenant, t.RecallID, t.Sequence), entry)
	if err != nil || !whole {
		return nil, err
	}
	return entry, nil
}

// naming reads the ledger entry of a recalled message whose event names another one as related to it, and its recall
// id; nil if it does not.
func (f *forgetter) naming(recalled, related string) (*indexpb.Entry, string, error) {
	rec, err := readRecord(f.txn, f.of.What.Tenant, recalled)
	if err != nil || rec == nil || rec.Tombstone == nil {
		return nil, "", err
	}
	entry, err := f.entryAt(rec)
	if err != nil || !slices.ContainsFunc(entry.GetRelated(), func(r *indexpb.Related) bool {
		return r.MessageId == related
	}) {
		return nil, "", err
	}
	return entry, rec.Tombstone.RecallID, nil
}

// unlinkAtOnce bounds the relations to a message that are read at once.
const unlinkAtOnce = 50

// unlink removes a message from the events of those that it relates to, and from the live messages that relate to it
// unless it is only old: those are younger, and stay as they are. left says that not all of it fits.
func (f *forgetter) unlink(rec *Record) (left bool, err error) {
	m := &rec.Message
	for _, r := range m.Relations {
		if f.isFull() { // an entry may name a hundred messages
			return true, nil
		}
		err := f.apply(func() error {
			entry, recallID, err := f.naming(r.MessageID, m.ID)
			if err != nil || entry == nil {
				return err
			}
			entry.Related = slices.DeleteFunc(entry.Related, func(r *indexpb.Related) bool { return r.MessageId == m.ID })
			f.w.changed = append(f.w.changed, entry.Sequence)
			return f.w.set(ledgerKey(m.Tenant, recallID, entry.Sequence), entry)
		})
		if err != nil {
			return false, err
		}
	}
	if f.of.Expire {
		return false, nil
	}
	for {
		reads := relations{txn: f.txn, base: f.base, changed: f.links, tenant: m.Tenant}
		var suffixes [][]byte
		err := f.dir.Guard(func() (err error) { suffixes, _, err = reads.linksTo(m.ID, nil, unlinkAtOnce); return err })
		if err != nil || len(suffixes) == 0 {
			return false, err
		}
		for _, suffix := range suffixes {
			if f.isFull() {
				return true, nil
			}
			if err := f.apply(func() error { return f.unlinkFrom(m, suffix) }); err != nil {
				return false, err
			}
		}
	}
}

// unlinkFrom plans to remove a message from one that relates to it.
func (f *forgetter) unlinkFrom(m *shared.Message, suffix []byte) error {
	prefix := relationPrefix(m.Tenant, m.ID)
	f.w.delete(append(slices.Clone(prefix), suffix...))
	f.w.links = append(f.w.links, changedLink{prefix: prefix, suffix: suffix})
	rec, err := readRecord(f.txn, m.Tenant, relating(suffix))
	if err != nil || rec == nil {
		return err
	}
	kind := relationKinds.word[kindOf(suffix)]
	for i := range rec.Message.Relations {
		if r := &rec.Message.Relations[i]; r.Kind == kind && r.MessageID == m.ID {
			r.MessageID = shared.Forgotten
		}
	}
	rec.Message = normal(rec.Message)
	return f.w.set(messageKey(m.Tenant, rec.Message.ID), encodeRecord(rec))
}

// erase plans to erase a message.
func (f *forgetter) erase(rec *Record) error {
	m := &rec.Message
	if rec.Tombstone == nil {
		f.out.Live++
		f.w.link(m, false)
	} else {
		f.out.Recalled++
		if err := f.eraseRecall(rec); err != nil {
			return err
		}
	}
	f.w.delete(messageKey(m.Tenant, m.ID))
	f.erased[m.ID] = true
	for _, attachment := range keysOf(m.Attachments) {
		if rec.Tombstone == nil {
			f.w.use(m.Tenant, attachment, m.ID, false)
		}
		// Once no message uses an attachment, nobody can release it any more.
		marker := ownerRecalledKey(m.Tenant, attachment)
		if marked, err := find(f.txn, marker); err != nil {
			return err
		} else if marked == nil {
			continue
		}
		if used, err := f.usedByOther(m.Tenant, attachment, m.ID); err != nil {
			return err
		} else if !used {
			f.w.delete(marker)
		}
	}
	return nil
}

// eraseRecall plans to erase the recall of a message, and to keep its hash.
func (f *forgetter) eraseRecall(rec *Record) error {
	t, m := rec.Tombstone, &rec.Message
	entry, err := f.entryAt(rec)
	if err != nil {
		return err
	}
	if entry != nil { // it may be lost in a salvaged index
		if err := f.eraseAttempts(entry); err != nil {
			return err
		}
		f.w.delete(ledgerKey(m.Tenant, t.RecallID, t.Sequence))
		f.w.delete(eventKey(t.Sequence))
		f.w.delete(conversationKey(m.Tenant, m.Conversation, t.Sequence))
		if err := f.leaveRecall(m.Tenant, t.RecallID, entry); err != nil {
			return err
		}
	}
	hash := f.hashOf(m.Tenant, m.ID)
	f.w.forgets = append(f.w.forgets, hash)
	f.w.add(forgottenKey(&hash))
	f.w.changed = append(f.w.changed, t.Sequence)
	return nil
}

// leaveRecall plans a recall id without one of its events. It belongs to its actor as long as it has others.
func (f *forgetter) leaveRecall(tenant, recallID string, without *indexpb.Entry) error {
	k := recallIDKey(tenant, recallID)
	var id indexpb.RecallID
	if found, err := get(f.txn, k, &id); err != nil || !found {
		return err
	}
	if without.Cause == nil && id.Messages > 0 { // what was recalled with another message does not count
		id.Messages--
	}
	if id.Messages > 0 {
		return f.w.set(k, &id)
	}
	others, prefix := false, recallPrefix(tenant, recallID)
	err := each(context.Background(), f.base, prefix, nil, func(item *badger.Item) (bool, error) {
		there, err := find(f.txn, item.KeyCopy(nil))
		others = there != nil && lastNumber(item.Key()) != without.Sequence
		return !others, err
	})
	switch {
	case err != nil:
		return err
	case others:
		return f.w.set(k, &id)
	}
	f.w.delete(k)
	return nil
}

// isOpen reports whether an event still needs its messages: a step is not settled, or may be opened again for a node
// that was gone when the event was committed, or others are still to be recalled with it.
func (f *forgetter) isOpen(pb *indexpb.Entry) (bool, error) {
	if f.relations > 0 {
		if cascade, err := find(f.txn, cascadeKey(pb.Sequence)); err != nil || cascade != nil {
			return true, err
		}
	}
	for _, s := range pb.Steps {
		a, err := readAttempts(f.txn, pb, s)
		if err != nil || !settled(a) {
			return true, err
		}
		for _, m := range f.members {
			if m.Missed > 0 && m.Missed <= pb.Sequence && isOpen(s) && slices.Contains(m.EachNode, s.Name) {
				return true, nil
			}
		}
	}
	return false, nil
}

// eraseAttempts plans to erase what came of the steps of an event.
func (f *forgetter) eraseAttempts(pb *indexpb.Entry) error {
	var names []string // of steps, and of those of nodes
	for _, s := range pb.Steps {
		names = append(names, s.Name)
		for node := range f.members {
			names = append(names, onNode(s.Name, node))
		}
	}
	prefix := newKey('s').number(pb.Sequence)
	it := f.base.NewIterator(badger.IteratorOptions{Prefix: prefix}) // nodes that have left may have some, too
	defer it.Close()
	for it.Seek(prefix); it.Valid(); it.Next() {
		names = append(names, textAt(it.Item().Key(), len(prefix)))
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		k := attemptsKey(pb.Sequence, name)
		switch item, err := find(f.txn, k); {
		case err != nil:
			return err
		case item != nil:
			f.w.delete(k)
		}
	}
	return nil
}

// eraseJobs plans to erase the jobs of the request that have ended, and returns how many run.
func (f *forgetter) eraseJobs() (running int, err error) {
	what := &f.of.What
	err = eachJob(context.Background(), f.txn, what.Tenant, func(j *Job) error {
		r := &j.Request
		var of bool
		switch {
		case what.Sender != "":
			of = r.Actor.ID == what.Sender || r.Filter.Sender == what.Sender
		case what.Conversation != (shared.Conversation{}):
			of = r.Filter.Conversation != nil && *r.Filter.Conversation == what.Conversation
		default:
			of = j.StartedAt.Before(what.Before)
		}
		switch {
		case !of:
		case j.State == shared.JobRunning:
			running++
		default:
			f.w.delete(jobKey(what.Tenant, r.JobID))
		}
		return nil
	})
	return running, err
}

// group lists the ids that the group of the operation has of the tenant.
func (f *forgetter) group() (map[string]bool, error) {
	listed := map[string]bool{}
	var pb indexpb.Group
	if found, err := get(f.txn, groupKey(f.of.Position), &pb); err != nil || !found {
		return listed, err
	}
	in, err := members(&pb)
	for i := range in {
		if in[i].tenant == f.of.What.Tenant {
			listed[in[i].id] = true
		}
	}
	return listed, err
}

// shrinkGroup plans the group without the messages that were erased. What it keeps of them is their places: those of
// the others stay.
func (f *forgetter) shrinkGroup() error {
	k := groupKey(f.of.Position)
	var pb indexpb.Group
	if _, err := get(f.txn, k, &pb); err != nil {
		return err
	}
	var out groupWriter
	left := false
	for _, part := range pb.Parts {
		r, err := newPartReader(part)
		if err != nil {
			return err
		}
		sentAt := int64(0)
		for range part.Senders {
			m, err := r.next()
			if err != nil {
				return err
			}
			if m.tenant == f.of.What.Tenant && f.erased[m.id] {
				m = member{tenant: m.tenant}
			}
			if m.id == "" {
				m.sentAt = sentAt
			} else {
				left = true
			}
			sentAt = m.sentAt
			out.add(&m)
		}
		if err := r.end(); err != nil {
			return err
		}
	}
	if !left {
		f.w.delete(k)
		return nil
	}
	value, err := out.encode()
	f.w.entries = append(f.w.entries, entry{key: k, value: value})
	return err
}
