package index

import (
	"context"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// What is recalled with a message is a cascade: each of its messages is a plan of its own, in the transaction of the
// operation that recalls the first one. So it sees what those before it changed, such as the use of an attachment.

// stepPlan is what the recalls of a cascade have in common of their steps, as in [Recall].
type stepPlan struct {
	steps, unsupported []string
	after              map[string][]string
}

// cascade is what an operation recalls with a message.
type cascade struct {
	event      *shared.Event // of the first message; the others have theirs from it
	kinds      Kinds
	plan       stepPlan
	going      []With                      // that are not planned yet
	related    map[string][]shared.Related // by the id that they relate to, those that stay
	unfinished map[string][]byte
}

func newCascade(event *shared.Event, kinds Kinds, plan stepPlan, found walked) cascade {
	c := cascade{event: event, kinds: kinds, plan: plan, unfinished: found.unfinished}
	for i := range found.with {
		if w := &found.with[i]; !w.Stays {
			c.going = append(c.going, *w)
			continue
		} else if c.related == nil {
			c.related = map[string][]shared.Related{}
		}
		c.related[found.with[i].To] = append(c.related[found.with[i].To], found.with[i].related())
	}
	return c
}

// isUnfinished reports whether messages may relate to this one that are not in the cascade.
func (c *cascade) isUnfinished(id string) bool {
	_, is := c.unfinished[id]
	return is
}

// sameOriginals reports whether what an edit has from its originals is what it was judged by.
func (b *batch) sameOriginals(m *shared.Message, judged uint64) (bool, error) {
	if len(m.Relations) == 0 {
		return true, nil
	}
	reads := relations{txn: b.txn, tenant: m.Tenant}
	sum, err := reads.originalsOf(m)
	return sum == judged, err
}

// findRelated finds what relates to a message for an operation that judged it so.
func (b *batch) findRelated(
	tenant, id string,
	after []byte,
	kinds Kinds,
	eventBytes int,
	judged []With,
) (walked, error) {
	if b.relations == 0 {
		return walked{}, nil
	}
	reads := relations{txn: b.txn, base: b.base, changed: b.links, gone: b.planned, tenant: tenant}
	return reads.walk(id, after, kinds, eventBytes+OpeningBytes(b.members), asJudged(judged))
}

// notePlanned notes what the plan of a recall that is not applied yet would recall.
func (b *batch) notePlanned(r *Recall) {
	if b.planned[r.Event.Message.ID] { // what goes with it goes with another one, or follows that
		return
	}
	b.planned[r.Event.Message.ID] = true
	for i := range r.With {
		if !r.With[i].Stays {
			b.planned[r.With[i].Message.ID] = true
		}
	}
}

// planWith plans the recall of the next message of the cascade.
func (b *batch) planWith(w *writes) error {
	with := b.cascade.going[0]
	b.cascade.going = b.cascade.going[1:]
	event := *b.cascade.event
	rec, err := readRecord(b.txn, event.Tenant, with.Message.ID)
	if err != nil {
		return err
	}
	event.Message = rec.Message
	event.Cause = &shared.Relation{Kind: with.Kind, MessageID: with.To}
	return b.planEvent(&event, rec, w)
}

// planLate begins the cascade of a new message that relates to a message that is recalled already. If it does not go
// with that one, the result names the recalled messages that it relates to.
func (b *batch) planLate(m *shared.Message, late *Late) (Result, error) {
	for _, r := range m.Relations {
		to, err := readRecord(b.txn, m.Tenant, r.MessageID)
		if err != nil {
			return Result{}, err
		}
		if to == nil || to.Tombstone == nil || !to.Tombstone.Cascade.has(r.Kind) {
			continue
		}
		event, plan, err := eventOf(b.txn, to.Tombstone.Sequence)
		if err != nil {
			return Result{}, err
		}
		switch {
		case event.Sequence == 0: // its ledger was lost, and with it what to do
			continue
		case late == nil:
		case event.Sequence > late.UpTo:
			return Result{Stale: true}, nil
		case slices.Contains(late.Stays, event.Sequence):
			continue
		default:
			same, err := b.sameOriginals(m, late.Originals)
			if err != nil || !same {
				return Result{Stale: true}, err
			}
		}
		found := walked{with: []With{{Kind: r.Kind, To: r.MessageID, Message: *m}}}
		reads := relations{txn: b.txn, base: b.base, changed: b.links, tenant: m.Tenant}
		suffixes, more, err := reads.linksTo(m.ID, nil, 0)
		if err != nil {
			return Result{}, err
		}
		if more || len(suffixes) > 0 { // messages that relate to it came before it
			found.unfinished = map[string][]byte{m.ID: nil}
		}
		b.cascade = newCascade(&event, to.Tombstone.Cascade, plan, found)
		return Result{Put: shared.IndexRecalled}, nil
	}
	related, err := b.relatedTo(m)
	return Result{Put: shared.IndexAdded, Related: related}, err
}

// Late is what was decided about a message that may come after the recall of one that it relates to.
type Late struct {
	UpTo      uint64   // sequence of the last recall that there was
	Stays     []uint64 // sequences of recalls with which it does not go, although its relation is of that kind
	Originals uint64   // as in a Recall
}

// FindLate finds the recalls with which a new message would go. stays is asked about each, with the
// [Index.EditFacts] of the message.
func (x *Index) FindLate(m *shared.Message, stays func(e *shared.Event, facts *shared.Message) bool) (*Late, error) {
	late := &Late{UpTo: x.lastSequence.Load()}
	err := x.dir.View(func(txn *badger.Txn) (err error) {
		reads := relations{txn: txn, base: txn, tenant: m.Tenant}
		for _, r := range m.Relations {
			to, err := readRecord(txn, m.Tenant, r.MessageID)
			if err != nil {
				return err
			}
			if to == nil || to.Tombstone == nil || !to.Tombstone.Cascade.has(r.Kind) {
				continue
			}
			event, _, err := eventOf(txn, to.Tombstone.Sequence)
			if err != nil {
				return err
			}
			if event.Sequence == 0 {
				continue
			}
			facts, err := reads.editFacts(*m)
			if err != nil {
				return err
			}
			if stays(&event, &facts) {
				late.Stays = append(late.Stays, event.Sequence)
			}
		}
		late.Originals, err = reads.originalsOf(m)
		return err
	})
	return late, err
}

func (l *Late) check(m *shared.Message) error {
	if l != nil && len(l.Stays) > len(m.Relations) {
		return shared.Invalidf("put.late", "has %d recalls for %d relations", len(l.Stays), len(m.Relations))
	}
	return nil
}

// eventOf reads an event, and the steps that it was committed with. Without such an event both are zero.
func eventOf(txn *badger.Txn, sequence uint64) (shared.Event, stepPlan, error) {
	pointer, entry, err := entryOf(txn, sequence)
	if err != nil || entry == nil {
		return shared.Event{}, stepPlan{}, err
	}
	event, err := readEvent(txn, pointer.Tenant, pointer.RecallId, entry)
	if err != nil {
		return shared.Event{}, stepPlan{}, err
	}
	plan := stepPlan{after: map[string][]string{}}
	for _, s := range entry.Steps {
		plan.steps = append(plan.steps, s.Name)
		if s.Outcome == indexpb.Outcome_OUTCOME_UNSUPPORTED {
			plan.unsupported = append(plan.unsupported, s.Name)
		}
		plan.after[s.Name] = append(append([]string{}, s.After...), s.AfterSettled...)
	}
	return event, plan, nil
}

// planCascade goes on with the cascade of an event.
func (b *batch) planCascade(op *Cascade, w *writes) (Result, error) {
	var at indexpb.Cascade
	there, err := get(b.txn, cascadeKey(op.Sequence), &at)
	if err != nil || !there || string(at.After) != op.After {
		return Result{}, err
	}
	event, plan, kinds, err := cascadeOf(b.txn, op.Sequence)
	if err != nil {
		return Result{}, err
	}
	found, err := b.findRelated(event.Tenant, event.Message.ID, at.After, kinds, eventBytesOf(event, plan), op.With)
	switch {
	case err != nil:
		return Result{}, err
	case !sameWith(op.With, found.with):
		return Result{Stale: true}, nil
	}
	b.cascade = newCascade(&event, kinds, plan, found)
	if !b.cascade.isUnfinished(event.Message.ID) {
		w.cascades--
		w.delete(cascadeKey(op.Sequence))
		return Result{New: true}, nil
	}
	after := b.cascade.unfinished[event.Message.ID]
	return Result{New: true}, w.set(cascadeKey(op.Sequence), &indexpb.Cascade{After: after})
}

// cascadeOf reads the event of an open cascade.
func cascadeOf(txn *badger.Txn, sequence uint64) (event shared.Event, plan stepPlan, kinds Kinds, err error) {
	if event, plan, err = eventOf(txn, sequence); err != nil {
		return event, plan, 0, err
	}
	rec, err := readRecord(txn, event.Tenant, event.Message.ID)
	if err == nil && (event.Sequence == 0 || rec == nil || rec.Tombstone == nil) {
		err = missing(sequence, cascadeKey(sequence))
	}
	if err != nil {
		return event, plan, 0, err
	}
	return event, plan, rec.Tombstone.Cascade, nil
}

// openingBytes is what opening the steps of an event writes besides, in a cluster.
func (x *Index) openingBytes(txn *badger.Txn) (int, error) {
	if x.logID == "" {
		return 0, nil
	}
	members, err := readMembers(txn)
	return OpeningBytes(members), err
}

func eventBytesOf(event shared.Event, plan stepPlan) int {
	event.Related, event.Attachments = nil, nil
	return (&Recall{Event: event, Steps: plan.steps, After: plan.after}).eventBytes()
}

// planUnfinished notes that further messages relate to the message of an event.
func (b *batch) planUnfinished(sequence uint64, after []byte, w *writes) error {
	w.cascades++
	return w.set(cascadeKey(sequence), &indexpb.Cascade{After: after})
}

// OpenCascade is an event of a message with which others are still to be recalled.
type OpenCascade struct {
	Sequence uint64
	After    string // up to which relation they are
}

// HasOpenCascades reports whether there are any.
func (x *Index) HasOpenCascades() bool { return x.openCascades.Load() > 0 }

// OpenCascades lists events of messages with which others are still to be recalled, the oldest first, at most limit.
func (x *Index) OpenCascades(ctx context.Context, limit int) (open []OpenCascade, err error) {
	err = x.dir.View(func(txn *badger.Txn) error {
		return each(ctx, txn, newKey('z'), nil, func(item *badger.Item) (bool, error) {
			var at indexpb.Cascade
			err := decode(item, &at)
			open = append(open, OpenCascade{lastNumber(item.Key()), string(at.After)})
			return len(open) < limit, err
		})
	})
	return open, err
}

// FindCascade returns the operation that goes on with an open cascade. stays is as in [Index.FindRelated].
func (x *Index) FindCascade(
	open OpenCascade, stays func(e *shared.Event, facts *shared.Message) bool,
) (*Cascade, error) {
	op := &Cascade{Sequence: open.Sequence, After: open.After}
	err := x.dir.View(func(txn *badger.Txn) error {
		event, plan, kinds, err := cascadeOf(txn, open.Sequence)
		if err != nil {
			return err
		}
		opening, err := x.openingBytes(txn)
		if err != nil {
			return err
		}
		reads := relations{txn: txn, base: txn, tenant: event.Tenant}
		found, err := reads.walk(event.Message.ID, []byte(open.After), kinds, eventBytesOf(event, plan)+opening,
			reads.asFacts(func(facts *shared.Message) bool { return stays(&event, facts) }))
		op.Tenant, op.With = event.Tenant, found.with
		return err
	})
	return op, err
}
