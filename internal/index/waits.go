package index

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// A recall may come before its message. It then waits under the id of the message, and is decided when the message is
// indexed, in the same operation. How many wait is in memory too, so that a message of which none waits costs no read.

// Waited is what was decided about a recall that waited for a message.
type Waited struct {
	RecallID    string
	RequestedAt int64   // microseconds since 1970; the host may have asked again under the same recall id, in another role
	Recall      *Recall // it recalls the message: the first one that was permitted

	// Otherwise: why not, and when that was decided; or that it is forgotten, because one before it recalls the message.
	End *EndWait
}

// EndWait ends the wait of a recall that does not recall its message, or forgets one that has ended. The host may ask
// again between the decision and the commit: a wait that then goes on for longer does not expire, and one that waits
// again is not forgotten.
type EndWait struct {
	Tenant, MessageID, RecallID string

	State shared.WaitState // WaitRefused or WaitExpired; empty: it is forgotten
	Code  shared.Code      // of WaitRefused
	Rule  shared.Rule      // of WaitRefused
	At    int64            // microseconds since 1970; of one that is forgotten: it has ended by then, 0: it may still wait
}

// isEarly reports whether a wait goes on for longer than when it was decided that it expires.
func (op *EndWait) isEarly(until int64) bool { return op.State == shared.WaitExpired && until > op.At }

var waitStates = newEnum(map[shared.WaitState]indexpb.WaitState{
	shared.WaitWaiting: indexpb.WaitState_WAIT_STATE_WAITING,
	shared.WaitRefused: indexpb.WaitState_WAIT_STATE_REFUSED,
	shared.WaitExpired: indexpb.WaitState_WAIT_STATE_EXPIRED,
})

func encodeWait(x *shared.Waiting) *indexpb.Wait {
	return &indexpb.Wait{
		ActorId: x.Actor.ID, ActorLabels: x.Actor.Labels, Role: roles.number[x.Role],
		ConversationType: conversationTypes.number[x.Conversation.Type], ConversationId: x.Conversation.ID, Labels: x.Labels,
		Ext: x.Ext, Reason: x.Reason, RequestedAt: encodeTime(x.RequestedAt), Until: encodeTime(x.Until),
		State: waitStates.number[x.State], Code: string(x.Code), RuleName: x.Rule.Name, RuleFile: x.Rule.File,
		RuleLine: int32(x.Rule.Line), EndedAt: encodeTime(x.EndedAt),
	}
}

func decodeWait(tenant, messageID, recallID string, pb *indexpb.Wait) shared.Waiting {
	return shared.Waiting{
		Tenant: tenant, MessageID: messageID, RecallID: recallID,
		Actor: shared.Actor{ID: pb.ActorId, Labels: pb.ActorLabels}, Role: roles.word[pb.Role],
		Conversation: shared.Conversation{Type: conversationTypes.word[pb.ConversationType], ID: pb.ConversationId},
		Labels:       pb.Labels, Ext: pb.Ext, Reason: pb.Reason, RequestedAt: decodeTime(pb.RequestedAt),
		Until: decodeTime(pb.Until), State: waitStates.word[pb.State], Code: shared.Code(pb.Code),
		Rule: shared.Rule{Name: pb.RuleName, File: pb.RuleFile, Line: int(pb.RuleLine)}, EndedAt: decodeTime(pb.EndedAt),
	}
}

// waitCounts count waiting recalls: all, those of each actor, and those for each message. The caller of Apply changes
// them, others read.
type waitCounts struct {
	mu  sync.RWMutex
	n   map[string]int
	all atomic.Int64 // that of allWaits, which every message asks for
}

const (
	allWaits   = "" // the waiting ones
	endedWaits = "e"
)

func waitsOfActor(tenant, actor string) string { return "a" + tenant + "\x00" + actor }

func waitsForMessage(tenant, id string) string { return "m" + tenant + "\x00" + id }

func (c *waitCounts) get(of string) int {
	if of == allWaits {
		return int(c.all.Load())
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.n[of]
}

func (c *waitCounts) add(changes map[string]int) {
	if len(changes) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for of, n := range changes {
		if n += c.n[of]; n == 0 {
			delete(c.n, of)
		} else {
			c.n[of] = n
		}
	}
	c.all.Store(int64(c.n[allWaits]))
}

// read counts what an index has.
func (c *waitCounts) read(txn *badger.Txn) error {
	c.n = map[string]int{}
	return each(context.Background(), txn, newKey('v'), nil, func(item *badger.Item) (bool, error) {
		w, err := waitAt(item)
		changes := map[string]int{}
		countWait(changes, &w, 1)
		c.add(changes)
		return true, err
	})
}

// countWait adds a waiting recall to changes of counts, or one that has ended.
func countWait(changes map[string]int, w *shared.Waiting, n int) {
	if w.State != shared.WaitWaiting {
		changes[endedWaits] += n
		return
	}
	changes[allWaits] += n
	changes[waitsOfActor(w.Tenant, w.Actor.ID)] += n
	changes[waitsForMessage(w.Tenant, w.MessageID)] += n
}

func waitPrefix(tenant, id string) key { return newKey('v').text(tenant).text(id) }

func waitKey(tenant, id, recallID string) key { return waitPrefix(tenant, id).text(recallID) }

// waitAt reads a waiting recall with its key.
func waitAt(item *badger.Item) (shared.Waiting, error) {
	var pb indexpb.Wait
	err := decode(item, &pb)
	k := item.Key()
	tenant := textAt(k, 2)
	id := textAt(k, 2+len(tenant)+1)
	return decodeWait(tenant, id, textAt(k, 2+len(tenant)+1+len(id)+1), &pb), err
}

// HasWaits reports whether any recall waits for its message.
func (x *Index) HasWaits() bool { return x.waits.get(allWaits) > 0 }

// HasEndedWaits reports whether a recall is listed that has waited.
func (x *Index) HasEndedWaits() bool { return x.waits.get(endedWaits) > 0 }

// WaitsFor lists the recalls that wait for a message in its conversation, in the order of their requests. Those that
// wait for the same id elsewhere go on to wait, as they would without the message: so nobody learns of it.
func (x *Index) WaitsFor(m *shared.Message) (list []shared.Waiting, err error) {
	if x.waits.get(waitsForMessage(m.Tenant, m.ID)) == 0 || checkTexts("waits", "tenant", m.Tenant, "id", m.ID) != nil {
		return nil, nil
	}
	err = x.dir.View(func(txn *badger.Txn) error {
		list, err = waitsFor(txn, m)
		return err
	})
	return list, err
}

func waitsFor(txn *badger.Txn, m *shared.Message) (list []shared.Waiting, err error) {
	err = each(context.Background(), txn, waitPrefix(m.Tenant, m.ID), nil, func(item *badger.Item) (bool, error) {
		w, err := waitAt(item)
		if w.State == shared.WaitWaiting && isThere(&w, m) {
			list = append(list, w)
		}
		return true, err
	})
	slices.SortStableFunc(list, func(a, b shared.Waiting) int { return a.RequestedAt.Compare(b.RequestedAt) })
	return list, err
}

// isThere tells whether a message is where a recall waits for it.
func isThere(x *shared.Waiting, m *shared.Message) bool {
	return x.Conversation == shared.Conversation{} || x.Conversation == m.Conversation
}

// waitsNow is how many there are as the batch leaves it.
func (b *batch) waitsNow(of string) int { return b.waits.get(of) + b.waitChanges[of] }

// planWait plans that a recall waits for its message. For a message that is known there it is Stale.
func (b *batch) planWait(x *shared.Waiting, w *writes) (Result, error) {
	rec, err := readRecord(b.txn, x.Tenant, x.MessageID)
	if err != nil || rec != nil && isThere(x, &rec.Message) {
		return Result{Stale: err == nil}, err
	}
	if rec == nil {
		if is, err := b.isForgotten(x.Tenant, x.MessageID); err != nil || is {
			return Result{Stale: is}, err
		}
	}
	var used indexpb.RecallID
	if is, err := get(b.txn, recallIDKey(x.Tenant, x.RecallID), &used); err != nil || is && used.ActorId != x.Actor.ID {
		return Result{OtherActor: err == nil}, err
	}
	k := waitKey(x.Tenant, x.MessageID, x.RecallID)
	var was indexpb.Wait
	switch there, err := get(b.txn, k, &was); {
	case err != nil:
		return Result{}, err
	case there && was.ActorId != x.Actor.ID:
		return Result{OtherActor: true}, nil
	case there && was.State == indexpb.WaitState_WAIT_STATE_WAITING: // a retry
		if until := encodeTime(x.Until); until > was.Until {
			was.Until = until
			return Result{New: true}, w.set(k, &was)
		}
		return Result{New: true}, nil
	case b.waitsNow(allWaits) >= shared.MaxWaits,
		b.waitsNow(waitsOfActor(x.Tenant, x.Actor.ID)) >= shared.MaxActorWaits,
		b.waitsNow(waitsForMessage(x.Tenant, x.MessageID)) >= shared.MaxIDWaits:
		return Result{Full: true}, nil
	case there: // one that has ended waits again
		b.endWait(x.Tenant, x.MessageID, x.RecallID, &was, w)
	}
	countWait(w.countWaits(), x, 1)
	return Result{New: true}, w.set(k, encodeWait(x))
}

func (w *writes) countWaits() map[string]int {
	if w.waits == nil {
		w.waits = map[string]int{}
	}
	return w.waits
}

// endWait takes a waiting recall out of the counts.
func (b *batch) endWait(tenant, id, recallID string, was *indexpb.Wait, w *writes) {
	wait := decodeWait(tenant, id, recallID, was)
	countWait(w.countWaits(), &wait, -1)
}

// planEndWait plans the end of a wait. It changes nothing if that has ended, or is gone.
func (b *batch) planEndWait(op *EndWait, w *writes) error {
	k := waitKey(op.Tenant, op.MessageID, op.RecallID)
	var pb indexpb.Wait
	there, err := get(b.txn, k, &pb)
	waits := pb.State == indexpb.WaitState_WAIT_STATE_WAITING
	if err != nil || !there || op.State != "" && !waits {
		return err
	}
	if op.isEarly(pb.Until) || op.State == "" && op.At > 0 && (waits || pb.EndedAt > op.At) { // the host asked again
		return nil
	}
	b.endWait(op.Tenant, op.MessageID, op.RecallID, &pb, w)
	if op.State == "" || b.waitsNow(endedWaits)+w.countWaits()[endedWaits] >= shared.MaxWaits {
		w.delete(k)
		return nil
	}
	pb.State, pb.Code, pb.EndedAt = waitStates.number[op.State], string(op.Code), op.At
	pb.RuleName, pb.RuleFile, pb.RuleLine = op.Rule.Name, op.Rule.File, int32(op.Rule.Line)
	w.countWaits()[endedWaits]++
	return w.set(k, &pb)
}

// planWaited plans what waited for a new message. recalls is the recall that takes the message back at once; nil:
// none does. stale says that what waits is not what was decided about, or that the recall id cannot be used any more.
func (b *batch) planWaited(m *shared.Message, waited []Waited, w *writes) (recalls *Recall, stale bool, err error) {
	if b.waitsNow(allWaits) == 0 || b.waitsNow(waitsForMessage(m.Tenant, m.ID)) == 0 {
		return nil, len(waited) > 0, nil
	}
	waits, err := waitsFor(b.txn, m)
	if err != nil {
		return nil, false, err
	}
	if !slices.EqualFunc(waits, waited, func(x shared.Waiting, d Waited) bool {
		return x.RecallID == d.RecallID && encodeTime(x.RequestedAt) == d.RequestedAt &&
			(d.End == nil || !d.End.isEarly(encodeTime(x.Until)))
	}) {
		return nil, true, nil
	}
	for i := range waited {
		end := waited[i].End
		if r := waited[i].Recall; r != nil {
			recalls = r
			switch otherActor, err := checkRecallID(b.txn, m.Tenant, r.Event.RecallID, r.Event.Actor.ID, 1); {
			case otherActor, errors.Is(err, shared.ErrInvalid):
				w.reset()
				return nil, true, nil
			case err != nil:
				return nil, false, err
			}
			end = &EndWait{Tenant: m.Tenant, MessageID: m.ID, RecallID: waited[i].RecallID}
		}
		if err := b.planEndWait(end, w); err != nil {
			return nil, false, err
		}
	}
	return recalls, false, nil
}

// dropWaits drops what waited for a message that is recalled by another recall.
func (b *batch) dropWaits(m *shared.Message, w *writes) error {
	if b.waitsNow(allWaits) == 0 || b.waitsNow(waitsForMessage(m.Tenant, m.ID)) == 0 {
		return nil
	}
	waits, err := waitsFor(b.txn, m)
	for i := range waits {
		if err == nil {
			err = b.planEndWait(&EndWait{Tenant: m.Tenant, MessageID: m.ID, RecallID: waits[i].RecallID}, w)
		}
	}
	return err
}

func checkWaiting(x *shared.Waiting) error {
	err := checkTexts("wait", "tenant", x.Tenant, "message_id", x.MessageID, "recall_id", x.RecallID, "actor", x.Actor.ID)
	if err != nil {
		return err
	}
	_, known := conversationTypes.number[x.Conversation.Type]
	if !known && x.Conversation != (shared.Conversation{}) {
		return shared.Invalidf("wait.conversation.type", "unknown conversation type %q", x.Conversation.Type)
	}
	if _, ok := roles.number[x.Role]; !ok {
		return shared.Invalidf("wait.role", "unknown role %q", x.Role)
	}
	if x.State != shared.WaitWaiting || x.Until.UnixMicro() <= 0 {
		return shared.Invalidf("wait", "is %s until %s", x.State, x.Until)
	}
	return nil
}

func (op *EndWait) check() error {
	err := checkTexts("end_wait", "tenant", op.Tenant, "message_id", op.MessageID, "recall_id", op.RecallID)
	if err == nil && op.State != "" && op.State != shared.WaitRefused && op.State != shared.WaitExpired {
		err = shared.Invalidf("end_wait.state", "is %q", op.State)
	}
	return err
}

func checkWaited(waited []Waited, m *shared.Message) error {
	recalled := false
	for i := range waited {
		d := &waited[i]
		var err error
		switch {
		case (d.Recall == nil) == (d.End == nil):
			err = shared.Invalidf("recall", "is set if the recall is permitted, and end if not")
		case d.Recall != nil && recalled:
			err = shared.Invalidf("recall", "is the second one")
		case d.Recall != nil:
			recalled = true
			if err = d.Recall.check(); err == nil && (d.Recall.Event.RecallID != d.RecallID ||
				!SameFacts(d.Recall.Event.Message, *m)) {
				err = shared.Invalidf("recall", "is of another message or recall id")
			}
		default:
			if err = d.End.check(); err == nil && (d.End.Tenant != m.Tenant || d.End.MessageID != m.ID ||
				d.End.RecallID != d.RecallID) {
				err = shared.Invalidf("end", "is of another message or recall id")
			}
		}
		if err != nil {
			return fmt.Errorf("put.waited[%d]: %w", i, err)
		}
	}
	return nil
}

// Waits is [shared.Recall] Waits, of a valid request.
func (x *Index) Waits(ctx context.Context, req shared.WaitsRequest) (shared.WaitPage, error) {
	if err := checkTexts("waits", "tenant", req.Tenant); err != nil {
		return shared.WaitPage{}, err
	}
	if req.Limit == 0 {
		req.Limit = shared.MaxWaitsLimit
	}
	after, err := base64.RawURLEncoding.DecodeString(req.After)
	if err != nil || len(after) > 0 && bytes.Count(after, []byte{0}) != 2 {
		return shared.WaitPage{}, shared.Invalidf("after", "%.80q is not the next of a page", req.After)
	}
	page, prefix, size := shared.WaitPage{Waits: []shared.Waiting{}}, newKey('v').text(req.Tenant), 0
	err = x.dir.View(func(txn *badger.Txn) error {
		from := append(slices.Clone(prefix), after...)
		return each(ctx, txn, prefix, from, func(item *badger.Item) (bool, error) {
			at := item.KeyCopy(nil)[len(prefix):]
			if len(after) > 0 && bytes.Equal(at, after) {
				return true, nil
			}
			if len(page.Waits) == req.Limit || size > maxPageBytes {
				page.More = true
				return false, nil
			}
			w, err := waitAt(item)
			page.Waits, after = append(page.Waits, w), at
			size += int(item.ValueSize()) + len(at)
			return true, err
		})
	})
	page.Next = base64.RawURLEncoding.EncodeToString(after)
	return page, err
}

// OverdueWaits lists operations that end the waits whose time is over at a moment, and forget those that ended before
// another one: at most limit. Both are microseconds since 1970.
func (x *Index) OverdueWaits(ctx context.Context, now, forget int64, limit int) (ends []EndWait, err error) {
	err = x.dir.View(func(txn *badger.Txn) error {
		return each(ctx, txn, newKey('v'), nil, func(item *badger.Item) (bool, error) {
			w, err := waitAt(item)
			end := EndWait{
				Tenant: w.Tenant, MessageID: w.MessageID, RecallID: w.RecallID,
			}
			switch {
			case w.State == shared.WaitWaiting && encodeTime(w.Until) < now:
				end.State, end.At = shared.WaitExpired, now
				ends = append(ends, end)
			case w.State != shared.WaitWaiting && encodeTime(w.EndedAt) < forget:
				end.At = forget
				ends = append(ends, end)
			}
			return len(ends) < limit, err
		})
	})
	return ends, err
}
