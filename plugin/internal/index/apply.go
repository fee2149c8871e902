package index

import (
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
	case op.Settle != nil:
		state, err := b.planSettle(op.Settle, w)
		return Result{Step: state}, err
	default:
		return Result{}, b.openRest(op.Ungate.Sequence, w)
	}
}

func (b *batch) planPut(put *shared.Message, w *writes) (Result, error) {
	m := normal(*put)
	k := messageKey(m.Tenant, m.ID)
	hash := b.ids.hash(k)
	var known *Record
	if !b.ids.isNew(hash) {
		var err error
		if known, err = recordAt(b.txn, k, m.Tenant, m.ID); err != nil {
			return Result{}, err
		}
	}
	switch {
	case known == nil:
		w.newMessage(m, hash)
		for _, a := range m.Attachments {
			w.use(m.Tenant, a, m.ID, true)
		}
		value, err := encodeNew(&m)
		w.entries = append(w.entries, entry{key: k, value: value})
		return Result{Put: shared.Indexed}, err
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
		w.newMessage(m, b.ids.hash(messageKey(m.Tenant, m.ID)))
		rec = &Record{Message: m}
	} else {
		for _, a := range m.Attachments {
			w.use(m.Tenant, a, m.ID, false)
		}
	}
	event := r.Event
	event.Sequence, event.Attachments = b.sequence+1, nil
	for _, a := range m.Attachments {
		used, err := b.usedByOther(m.Tenant, a, m.ID)
		if err != nil {
			return Result{}, err
		}
		if !used {
			event.Attachments = append(event.Attachments, a)
		}
	}
	event.RecalledAt = decodeTime(encodeTime(event.RecalledAt))
	rec.Tombstone = &Tombstone{
		RecallID: event.RecallID, RecalledBy: event.Actor, RecalledAt: event.RecalledAt, Sequence: event.Sequence,
	}
	pb := encodeEntry(&event)
	for _, step := range r.Steps {
		s := &indexpb.Step{Name: step}
		switch {
		case slices.Contains(r.Unsupported, step):
			s.Outcome = indexpb.Outcome_OUTCOME_UNSUPPORTED
		case step == shared.StepAttachments && len(event.Attachments) == 0:
			s.Outcome = indexpb.Outcome_OUTCOME_NOTHING_TO_DO
		}
		pb.Steps = append(pb.Steps, s)
	}
	id.ActorId = event.Actor.ID
	id.Messages++
	pointer := &indexpb.Pointer{RecallId: event.RecallID, MessageId: m.ID}
	w.openFirst(pb)
	w.recalled = &recentEvent{decodeEvent(event.RecallID, m, pb), pb}
	for _, write := range []struct {
		key   key
		value proto.Message
	}{
		{conversationKey(m.Tenant, m.Conversation, pb.Sequence), pointer},
		{eventKey(pb.Sequence), &indexpb.Pointer{Tenant: m.Tenant, RecallId: event.RecallID, MessageId: m.ID}},
		{idKey, &id},
		{messageKey(m.Tenant, m.ID), encodeRecord(rec)},
		{ledgerKey(m.Tenant, event.RecallID, pb.Sequence), pb},
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
			err = b.refusedSettle(op.Settle)
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

func (w *writes) newMessage(m shared.Message, hash uint64) {
	w.indexed = append(w.indexed, member{m.Tenant, m.ID, senderSum(m.Sender), m.SentAt.UnixMilli()})
	w.hashes = append(w.hashes, hash)
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
