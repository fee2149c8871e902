package index

import (
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/plugin/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// plan works out what an operation does to the index as the batch leaves it.
func (b *batch) plan(op *Op, w *writes) (Result, error) {
	switch {
	case op.Put != nil:
		return b.planPut(op.Put, w)
	case op.Recall != nil:
		return b.planRecall(op.Recall, w)
	default:
		return Result{}, b.planSettle(op.Settle, w)
	}
}

func (b *batch) planPut(put *shared.Message, w *writes) (Result, error) {
	m := normal(*put)
	k := messageKey(m.Tenant, m.ID)
	known, err := recordAt(b.txn, k, m.Tenant, m.ID)
	switch {
	case err != nil:
		return Result{}, err
	case known == nil:
		w.newMessage(m)
		for _, a := range m.Attachments {
			w.use(m.Tenant, a, m.ID, true)
		}
		return Result{Put: shared.Indexed}, w.set(k, encodeRecord(&Record{Message: m}))
	case known.Tombstone != nil: // whatever the facts: the answer keeps a copy of it from being delivered
		return Result{Put: shared.IndexRecalled}, nil
	case !SameFacts(known.Message, m):
		return Result{Put: shared.IndexConflict}, nil
	}
	return Result{Put: shared.IndexUnchanged}, nil
}

func (b *batch) planRecall(r *Recall, w *writes) (Result, error) {
	m := normal(r.Event.Message)
	rec, err := readRecord(b.txn, m.Tenant, m.ID)
	switch {
	case err != nil:
		return Result{}, err
	case rec == nil:
		w.newMessage(m)
		rec = &Record{Message: m}
	case rec.Tombstone != nil:
		return Result{Tombstone: *rec.Tombstone}, nil
	default:
		for _, a := range m.Attachments {
			w.use(m.Tenant, a, m.ID, false)
		}
	}
	entry := shared.LedgerEntry{Event: r.Event}
	entry.Event.Sequence = b.sequence + 1
	entry.Event.Attachments = nil
	for _, a := range m.Attachments {
		used, err := b.usedByOther(m.Tenant, a, m.ID)
		if err != nil {
			return Result{}, err
		}
		if !used {
			entry.Event.Attachments = append(entry.Event.Attachments, a)
		}
	}
	rec.Tombstone = &Tombstone{
		RecallID:   r.Event.RecallID,
		RecalledBy: r.Event.Actor,
		RecalledAt: decodeTime(encodeTime(r.Event.RecalledAt)),
		Sequence:   entry.Event.Sequence,
	}
	for _, step := range r.Steps {
		s := shared.StepRecord{Step: step}
		switch {
		case slices.Contains(r.Unsupported, step):
			s.Outcome, s.ChangedAt = shared.OutcomeUnsupported, r.Event.RecalledAt
		case step == shared.StepAttachments && len(entry.Event.Attachments) == 0:
			s.Outcome, s.ChangedAt = shared.OutcomeNothingToDo, r.Event.RecalledAt
		}
		entry.Steps = append(entry.Steps, s)
	}
	pb := encodeEntry(&entry)
	pointer := &indexpb.Pointer{RecallId: r.Event.RecallID, MessageId: m.ID}
	if err := w.set(conversationKey(m.Tenant, m.Conversation, pb.Sequence), pointer); err != nil {
		return Result{}, err
	}
	pointer.Tenant = m.Tenant
	if err := w.open(pb, pointer); err != nil {
		return Result{}, err
	}
	if err := w.set(messageKey(m.Tenant, m.ID), encodeRecord(rec)); err != nil {
		return Result{}, err
	}
	w.recalled = true
	return Result{Tombstone: *rec.Tombstone, New: true}, w.set(ledgerKey(m.Tenant, r.Event.RecallID, m.ID), pb)
}

// refused tells why operations of one call are not applied, none of them: a message was indexed after its recall was judged
// by what the request brought along, and with other facts.
func (b *batch) refused(ops []Op) error {
	for i := range ops {
		if ops[i].Recall == nil {
			continue
		}
		m := ops[i].Recall.Event.Message
		rec, err := readRecord(b.txn, m.Tenant, m.ID)
		if err != nil {
			return err
		}
		if rec != nil && rec.Tombstone == nil && !SameFacts(rec.Message, m) {
			return shared.Invalidf("messages", "the message %q is indexed with other facts, which stay; leave it out", m.ID)
		}
	}
	return nil
}

func (b *batch) planSettle(s *Settle, w *writes) error {
	var pointer indexpb.Pointer
	if open, err := get(b.txn, stepKey(s.Step, s.Sequence), &pointer); err != nil || !open {
		return err
	}
	k := ledgerKey(pointer.Tenant, pointer.RecallId, pointer.MessageId)
	var pb indexpb.Entry
	if found, err := get(b.txn, k, &pb); err != nil {
		return err
	} else if !found {
		return fmt.Errorf("%w: step %s of event %d is open and its ledger is missing", ErrCorrupt, s.Step, s.Sequence)
	}
	i := slices.IndexFunc(pb.Steps, func(r *indexpb.Step) bool { return r.Name == s.Step })
	if i < 0 {
		return fmt.Errorf("%w: step %s of event %d is open and not in its ledger", ErrCorrupt, s.Step, s.Sequence)
	}
	step := pb.Steps[i]
	if !s.Outcome.Settles() && encodeTime(s.At) <= step.ChangedAt {
		return nil // a failure that is applied already, or older than one that is
	}
	step.Attempts++
	step.Outcome = outcomes.number[s.Outcome]
	step.ChangedAt = encodeTime(s.At)
	if s.Outcome.Settles() {
		w.delete(stepKey(s.Step, s.Sequence))
		if s.Step == shared.StepNotify {
			if err := w.open(&pb, &pointer); err != nil {
				return err
			}
		}
	} else {
		step.Error = s.Error
	}
	return w.set(k, &pb)
}

// usedByOther tells whether a live message other than this one uses an attachment.
func (b *batch) usedByOther(tenant, attachment, id string) (bool, error) {
	prefix := attachmentPrefix(tenant, attachment)
	changed := b.users[string(prefix)]
	for other, uses := range changed {
		if uses && other != id {
			return true, nil
		}
	}
	if b.usersBefore == nil { // one for the batch: to make it costs more than to use it
		b.usersBefore = b.base.NewIterator(badger.IteratorOptions{Prefix: newKey('a')})
	}
	it := b.usersBefore
	for it.Seek(prefix); it.ValidForPrefix(prefix); it.Next() {
		other := textAt(it.Item().Key(), len(prefix))
		if _, known := changed[other]; other != id && !known {
			return true, nil
		}
	}
	return false, nil
}

// open queues the steps of an entry that may be delivered now: notify while it is open, then the others.
func (w *writes) open(pb *indexpb.Entry, pointer *indexpb.Pointer) error {
	settled := func(s *indexpb.Step) bool { return outcomes.word[s.Outcome].Settles() }
	gated := slices.ContainsFunc(pb.Steps, func(s *indexpb.Step) bool {
		return s.Name == shared.StepNotify && !settled(s)
	})
	for _, s := range pb.Steps {
		if settled(s) || gated && s.Name != shared.StepNotify {
			continue
		}
		if err := w.set(stepKey(s.Name, pb.Sequence), pointer); err != nil {
			return err
		}
		w.opened, w.openedOf = append(w.opened, s.Name), pb.Sequence
	}
	return nil
}

func (w *writes) newMessage(m shared.Message) {
	w.entries = append(w.entries, entry{key: senderKey(m.Tenant, m.Sender, m.SentAt, m.ID)})
}

func (w *writes) use(tenant, attachment, id string, uses bool) {
	w.entries = append(w.entries, entry{key: attachmentKey(tenant, attachment, id), delete: !uses})
	w.users = append(w.users, user{attachment: attachmentPrefix(tenant, attachment), message: id, uses: uses})
}

func (w *writes) set(k key, value proto.Message) error {
	data, err := encode(value)
	if err != nil {
		return err
	}
	w.entries = append(w.entries, entry{key: k, value: data})
	return nil
}

func (w *writes) delete(k key) { w.entries = append(w.entries, entry{key: k, delete: true}) }
