package index

import (
	"slices"
	"strings"

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
	case op.Settle != nil:
		state, err := b.planSettle(op.Settle, w)
		return Result{Step: state}, err
	default:
		return Result{}, b.planUngate(op.Ungate, w)
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
	if err != nil {
		return Result{}, err
	}
	if rec != nil && rec.Tombstone != nil {
		return Result{Tombstone: *rec.Tombstone}, nil
	}
	var id indexpb.RecallID
	idKey := recallIDKey(m.Tenant, r.Event.RecallID)
	switch used, err := get(b.txn, idKey, &id); {
	case err != nil:
		return Result{}, err
	case used && id.ActorId != r.Event.Actor.ID:
		return Result{OtherActor: true}, nil
	}
	if rec == nil {
		w.newMessage(m)
		rec = &Record{Message: m}
	} else {
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
	id.ActorId = r.Event.Actor.ID
	id.Messages++
	pb := encodeEntry(&entry)
	pointer := &indexpb.Pointer{RecallId: r.Event.RecallID, MessageId: m.ID}
	w.openFirst(pb)
	w.recalled = true
	for _, write := range []struct {
		key   key
		value proto.Message
	}{
		{conversationKey(m.Tenant, m.Conversation, pb.Sequence), pointer},
		{eventKey(pb.Sequence), &indexpb.Pointer{Tenant: m.Tenant, RecallId: r.Event.RecallID, MessageId: m.ID}},
		{idKey, &id},
		{messageKey(m.Tenant, m.ID), encodeRecord(rec)},
		{ledgerKey(m.Tenant, r.Event.RecallID, pb.Sequence), pb},
	} {
		if err := w.set(write.key, write.value); err != nil {
			return Result{}, err
		}
	}
	return Result{Tombstone: *rec.Tombstone, New: true}, nil
}

// refused says why operations of one call are not applied, none of them.
func (b *batch) refused(ops []Op) error {
	messages := map[string]int{} // that these operations recall, by the key of their recall id
	for i := range ops {
		var err error
		switch op := &ops[i]; {
		case op.Recall != nil:
			err = b.recallRefused(op.Recall, messages)
		case op.Settle != nil:
			_, _, _, err = b.stepOf(op.Settle)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// recallRefused holds a recall against what was applied since it was judged: its message may be indexed by now with
// other facts than the request brought along, and its recall id may be full.
func (b *batch) recallRefused(r *Recall, messages map[string]int) error {
	m, e := r.Event.Message, &r.Event
	rec, err := readRecord(b.txn, m.Tenant, m.ID)
	switch {
	case err != nil:
		return err
	case rec != nil && rec.Tombstone != nil:
		return nil // it changes nothing
	case rec != nil && !SameFacts(rec.Message, m):
		return shared.Invalidf("messages", "the message %q is indexed with other facts, which stay; leave it out", m.ID)
	}
	k := recallIDKey(e.Tenant, e.RecallID)
	messages[string(k)]++
	_, err = checkRecallID(b.txn, e.Tenant, e.RecallID, e.Actor.ID, messages[string(k)])
	return err
}

// checkRecallID tells whether a recall id is another actor's, and refuses to recall more messages under it than it
// has room for.
func checkRecallID(txn *badger.Txn, tenant, recallID, actor string, more int) (otherActor bool, err error) {
	var id indexpb.RecallID
	switch used, err := get(txn, recallIDKey(tenant, recallID), &id); {
	case err != nil:
		return false, err
	case used && id.ActorId != actor:
		return true, nil
	case int(id.Messages)+more > shared.MaxRecallMessages:
		return false, shared.Invalidf("recall_id",
			"%q has %d messages, and %d more are to be recalled under it; at most %d share a recall id",
			recallID, id.Messages, more, shared.MaxRecallMessages)
	}
	return false, nil
}

// stepOf finds the step that a settlement is about, in the ledger entry of its event.
func (b *batch) stepOf(s *Settle) (at key, pb *indexpb.Entry, step *indexpb.Step, err error) {
	var pointer indexpb.Pointer
	switch found, err := get(b.txn, eventKey(s.Sequence), &pointer); {
	case err != nil:
		return nil, nil, nil, err
	case !found:
		return nil, nil, nil, shared.Invalidf("sequence", "there is no event %d", s.Sequence)
	}
	at, pb = ledgerKey(pointer.Tenant, pointer.RecallId, s.Sequence), &indexpb.Entry{}
	if err := mustGet(b.txn, at, pb, s.Sequence); err != nil {
		return nil, nil, nil, err
	}
	var names []string
	for _, step := range pb.Steps {
		if step.Name != s.Step {
			names = append(names, step.Name)
			continue
		}
		if pb.Gated && step.Name != shared.StepNotify && !settled(step) {
			return nil, nil, nil, shared.Invalidf("step", "%s of event %d waits for %s, which is not settled",
				s.Step, s.Sequence, shared.StepNotify)
		}
		return at, pb, step, nil
	}
	return nil, nil, nil, shared.Invalidf("step", "event %d has no step %s; it has %s", s.Sequence, s.Step, strings.Join(names, ", "))
}

func (b *batch) planSettle(s *Settle, w *writes) (StepState, error) {
	at, pb, step, err := b.stepOf(s)
	if err != nil || settled(step) {
		return StepState{}, err
	}
	settles, next := s.Outcome.Settles(), step.Attempts+1
	if !settles && uint32(s.Attempt) != next {
		return stateOf(step), nil // it is counted already
	}
	w.delete(queueKey(step, s.Sequence))
	if s.Attempt == 0 || uint32(s.Attempt) >= next {
		step.Attempts = next
	}
	step.Outcome = outcomes.number[s.Outcome]
	step.ChangedAt = encodeTime(s.At)
	switch {
	case !settles:
		step.Error, step.Position = s.Error, b.failures+1
		w.failed = true
		w.add(queueKey(step, s.Sequence))
	case s.Step == shared.StepNotify && pb.Gated:
		w.openRest(pb)
	}
	return stateOf(step), w.set(at, pb)
}

func (b *batch) planUngate(o *Ungate, w *writes) error {
	if item, err := find(b.txn, gateKey(o.Sequence)); item == nil {
		return err
	}
	var pointer indexpb.Pointer
	if err := mustGet(b.txn, eventKey(o.Sequence), &pointer, o.Sequence); err != nil {
		return err
	}
	at, pb := ledgerKey(pointer.Tenant, pointer.RecallId, o.Sequence), &indexpb.Entry{}
	if err := mustGet(b.txn, at, pb, o.Sequence); err != nil {
		return err
	}
	w.openRest(pb)
	return w.set(at, pb)
}

func settled(s *indexpb.Step) bool { return outcomes.word[s.Outcome].Settles() }

func stateOf(s *indexpb.Step) StepState {
	if settled(s) {
		return StepState{}
	}
	return StepState{Open: true, Attempts: int(s.Attempts), Position: s.Position}
}

// queueKey is where an open step waits: in the step queue, or for the end of its backoff.
func queueKey(s *indexpb.Step, sequence uint64) key {
	if s.Attempts == 0 {
		return stepKey(s.Name, sequence)
	}
	return backoffKey(s.Name, BackoffLevel(int(s.Attempts)), s.Position, sequence)
}

// BackoffLevels is how many levels of backoff there are. A step whose attempts failed n times is on level n; those that
// failed more often are on the last one.
const BackoffLevels = 11

// BackoffLevel is the level of a step after so many failed attempts, from 1.
func BackoffLevel(attempts int) int { return min(attempts, BackoffLevels) }

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

// openFirst queues the steps of a new entry: notify alone where it is open, and otherwise all.
func (w *writes) openFirst(pb *indexpb.Entry) {
	var notify, others bool
	for _, s := range pb.Steps {
		if !settled(s) {
			notify, others = notify || s.Name == shared.StepNotify, others || s.Name != shared.StepNotify
		}
	}
	if pb.Gated = notify && others; pb.Gated {
		w.add(gateKey(pb.Sequence))
	}
	w.queue(pb, func(s *indexpb.Step) bool { return !pb.Gated || s.Name == shared.StepNotify })
}

// openRest queues the steps that wait for notify.
func (w *writes) openRest(pb *indexpb.Entry) {
	pb.Gated = false
	w.delete(gateKey(pb.Sequence))
	w.queue(pb, func(s *indexpb.Step) bool { return s.Name != shared.StepNotify })
}

func (w *writes) queue(pb *indexpb.Entry, which func(*indexpb.Step) bool) {
	for _, s := range pb.Steps {
		if settled(s) || !which(s) {
			continue
		}
		w.add(stepKey(s.Name, pb.Sequence))
		w.opened, w.openedOf = append(w.opened, s.Name), pb.Sequence
	}
}

func (w *writes) newMessage(m shared.Message) {
	w.add(senderKey(m.Tenant, m.Sender, m.SentAt, m.ID))
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

// add sets a key that has no value.
func (w *writes) add(k key) { w.entries = append(w.entries, entry{key: k}) }

func (w *writes) delete(k key) { w.entries = append(w.entries, entry{key: k, delete: true}) }
