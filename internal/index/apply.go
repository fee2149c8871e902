package index

import (
	"slices"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// plan works out what an operation does to the index as the batch leaves it.
func (b *batch) plan(op *Op, w *writes) (Result, error) {
	switch {
	case op.Put != nil:
		return b.planPut(op, w)
	case op.Amend != nil:
		return b.planAmend(op.Amend, w)
	case op.Recall != nil:
		r, err := b.planRecall(op.Recall, w)
		if err == nil && r.New {
			err = b.dropWaits(&op.Recall.Event.Message, w)
		}
		return r, err
	case op.Settle != nil:
		state, err := b.planSettle(op.Settle, w)
		return Result{Step: state}, err
	case op.Wait != nil:
		return b.planWait(op.Wait, w)
	case op.EndWait != nil:
		return Result{}, b.planEndWait(op.EndWait, w)
	case op.Cascade != nil:
		return b.planCascade(op.Cascade, w)
	case op.Job != nil:
		return b.planJob(op.Job, w)
	default:
		return Result{}, b.planUngate(op.Ungate.Sequence, w)
	}
}

func (b *batch) planPut(op *Op, w *writes) (Result, error) {
	m := normal(*op.Put)
	k := messageKey(m.Tenant, m.ID)
	hash := b.ids.hash(k)
	var known *Record
	if !b.ids.isNew(hash) {
		var err error
		if known, err = recordAt(b.txn, k, m.Tenant, m.ID); err != nil {
			return Result{}, err
		}
	}
	if known == nil {
		if is, err := b.isForgotten(m.Tenant, m.ID); err != nil || is {
			return Result{Put: shared.IndexRecalled}, err
		}
	}
	switch {
	case known == nil:
		recalls, stale, err := b.planWaited(&m, op.waited(), w)
		if err != nil || stale {
			return Result{Stale: stale}, err
		}
		if recalls != nil {
			r, err := b.planRecall(recalls, w)
			if err != nil || r.Stale {
				w.reset()
				return Result{Stale: r.Stale}, err
			}
			return Result{Put: shared.IndexRecalled, New: true}, nil
		}
		w.newMessage(m, hash)
		for _, a := range m.Attachments {
			w.use(m.Tenant, a.Key, m.ID, true)
		}
		value, err := []byte(op.record), error(nil)
		if op.record == "" {
			value, err = encodeNew(&m)
		}
		w.entries = append(w.entries, entry{key: k, value: value})
		if err != nil || len(m.Relations) == 0 {
			return Result{Put: shared.IndexAdded}, err
		}
		w.link(&m, true)
		r, err := b.planLate(&m, op.late())
		if r.Stale {
			w.reset()
		}
		return r, err
	case known.Tombstone != nil: // whatever the facts: the answer keeps a copy of it from being delivered
		return Result{Put: shared.IndexRecalled}, nil
	case !SameFacts(known.Message, m):
		return Result{Put: shared.IndexConflict}, nil
	}
	related, err := b.relatedTo(&m)
	return Result{Put: shared.IndexUnchanged, Related: related}, err
}

func (b *batch) planAmend(change *shared.Amendment, w *writes) (Result, error) {
	rec, err := readRecord(b.txn, change.Tenant, change.MessageID)
	switch {
	case err != nil:
		return Result{}, err
	case rec == nil:
		if is, err := b.isForgotten(change.Tenant, change.MessageID); err != nil || is {
			return Result{Put: shared.IndexRecalled}, err
		}
		return Result{Put: shared.IndexNotFound}, nil
	case rec.Tombstone != nil:
		return Result{Put: shared.IndexRecalled}, nil
	}
	m := rec.Message
	if change.Conversation != nil {
		m.Conversation = *change.Conversation
	}
	if change.Attachments != nil {
		m.Attachments = change.Attachments
	}
	if change.Labels != nil {
		m.Labels = change.Labels
	}
	if change.Ref != nil {
		m.Ref = *change.Ref
	}
	if m = normal(m); SameFacts(rec.Message, m) {
		return Result{Put: shared.IndexUnchanged}, nil
	}
	uses := func(m *shared.Message, key string) bool {
		return slices.ContainsFunc(m.Attachments, func(a shared.Attachment) bool { return a.Key == key })
	}
	for _, a := range rec.Message.Attachments {
		if !uses(&m, a.Key) {
			w.use(m.Tenant, a.Key, m.ID, false)
		}
	}
	for _, a := range m.Attachments {
		if !uses(&rec.Message, a.Key) {
			w.use(m.Tenant, a.Key, m.ID, true)
		}
	}
	rec.Message = m
	return Result{Put: shared.IndexAmended}, w.set(messageKey(m.Tenant, m.ID), encodeRecord(rec))
}

func (b *batch) planRecall(r *Recall, w *writes) (Result, error) {
	m := normal(r.Event.Message)
	rec, err := readRecord(b.txn, m.Tenant, m.ID)
	if err != nil {
		return Result{}, err
	}
	switch {
	case rec != nil && rec.Tombstone != nil:
		return Result{Tombstone: rec.Tombstone}, nil
	case rec != nil && !SameFacts(rec.Message, m):
		return Result{Stale: true}, nil
	case rec == nil:
		if is, err := b.isForgotten(m.Tenant, m.ID); err != nil || is {
			return Result{Tombstone: forgottenRecord(m.Tenant, m.ID).Tombstone}, err
		}
		if r.Known { // it was erased since
			return Result{Stale: true}, nil
		}
	}
	var id indexpb.RecallID
	idKey := recallIDKey(m.Tenant, r.Event.RecallID)
	switch used, err := get(b.txn, idKey, &id); {
	case err != nil:
		return Result{}, err
	case used && id.ActorId != r.Event.Actor.ID:
		return Result{OtherActor: true}, nil
	}
	same, err := b.sameOriginals(&m, r.Originals)
	if err != nil || !same {
		return Result{Stale: true}, err
	}
	with, err := b.findRelated(m.Tenant, m.ID, nil, r.Cascade, r.eventBytes(), r.With)
	switch {
	case err != nil:
		return Result{}, err
	case !sameWith(r.With, with.with):
		return Result{Stale: true}, nil
	}
	if rec == nil {
		w.newMessage(m, b.ids.hash(messageKey(m.Tenant, m.ID)))
		rec = &Record{Message: m}
	}
	b.cascade = newCascade(&r.Event, r.Cascade, stepPlan{r.Steps, r.Unsupported, r.After}, with)
	event := r.Event
	event.Message = m
	if err := b.planEvent(&event, rec, w); err != nil {
		return Result{}, err
	}
	id.ActorId = event.Actor.ID
	id.Messages++
	if r.Spend != nil {
		if err := b.planSpend(r.Spend, w); err != nil {
			return Result{}, err
		}
	}
	return Result{Tombstone: rec.Tombstone, New: true}, w.set(idKey, &id)
}

// planEvent plans the recall of one message, of the cascade that has begun. rec is its record, which gets a tombstone.
func (b *batch) planEvent(event *shared.Event, rec *Record, w *writes) error {
	c, m := &b.cascade, &rec.Message
	event.Sequence = b.sequence + 1
	event.Related, event.MoreRelated = c.related[m.ID], c.isUnfinished(m.ID)
	var err error
	if event.Attachments, err = b.release(m, w); err != nil {
		return err
	}
	event.RecalledAt = decodeTime(encodeTime(event.RecalledAt))
	rec.Tombstone = &Tombstone{
		RecallID: event.RecallID, RecalledBy: event.Actor.ID, Role: event.Role, RecalledAt: event.RecalledAt,
		Sequence: event.Sequence, Cascade: c.kinds,
	}
	w.link(m, false)
	pb := encodeEntry(event)
	for _, step := range c.plan.steps {
		s := &indexpb.Step{Name: step}
		switch {
		case slices.Contains(c.plan.unsupported, step):
			s.Outcome = indexpb.Outcome_OUTCOME_UNSUPPORTED
		case step == shared.StepAttachments && len(event.Attachments) == 0:
			s.Outcome = indexpb.Outcome_OUTCOME_NOTHING_TO_DO
		}
		pb.Steps = append(pb.Steps, s)
	}
	for _, s := range pb.Steps {
		open, settled := openAmong(pb.Steps, c.plan.after[s.Name])
		switch s.Outcome {
		case indexpb.Outcome_OUTCOME_UNSPECIFIED:
			s.After, s.AfterSettled = open, settled
		case indexpb.Outcome_OUTCOME_NOTHING_TO_DO: // a message that is recalled with this one may have something to do
			s.AfterSettled = append(open, settled...)
		}
	}
	if c.isUnfinished(m.ID) {
		if err := b.planUnfinished(event.Sequence, c.unfinished[m.ID], w); err != nil {
			return err
		}
	}
	if err := b.openFirst(pb, w); err != nil {
		return err
	}
	w.recalled = &recentEvent{decodeEvent(event.RecallID, *m, pb), pb}
	pointer := &indexpb.Pointer{RecallId: event.RecallID, MessageId: m.ID}
	for _, write := range []struct {
		key   key
		value proto.Message
	}{
		{conversationKey(m.Tenant, m.Conversation, pb.Sequence), pointer},
		{eventKey(pb.Sequence), &indexpb.Pointer{Tenant: m.Tenant, RecallId: event.RecallID, MessageId: m.ID}},
		{messageKey(m.Tenant, m.ID), encodeRecord(rec)},
		{ledgerKey(m.Tenant, event.RecallID, pb.Sequence), pb},
	} {
		if err := w.set(write.key, write.value); err != nil {
			return err
		}
	}
	return nil
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
			err = b.refusedSettle(op.Settle)
		case op.Job != nil:
			err = b.jobRefused(op.Job)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// recallRefused refuses a recall whose recall id is full. messages counts the recalls of the call by recall id.
func (b *batch) recallRefused(r *Recall, messages map[string]int) error {
	m, e := r.Event.Message, &r.Event
	rec, err := readRecord(b.txn, m.Tenant, m.ID)
	if err != nil || rec != nil && rec.Tombstone != nil { // it changes nothing
		return err
	}
	k := recallIDKey(e.Tenant, e.RecallID)
	messages[string(k)]++
	_, err = checkRecallID(b.txn, e.Tenant, e.RecallID, e.Actor.ID, messages[string(k)])
	return err
}

// checkRecallID reports whether a recall id is another actor's, and refuses to recall more messages under it than may
// share it.
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

func (w *writes) newMessage(m shared.Message, hash uint64) {
	w.indexed = append(w.indexed, newMember(&m))
	w.hashes = append(w.hashes, hash)
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
