package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// wait answers for an unknown message whose recall waits for it. One in another conversation than the target says is
// like an unknown one: the answer must not tell that it exists.
func (v *verdicts) wait(req *shared.RecallRequest, i int, asked time.Time) {
	target, result := &req.Targets[i], &v.results[i]
	result.Status, result.RecallID, result.Until = shared.StatusWaiting, req.RecallID, asked.Add(req.Wait)
	v.at = append(v.at, i)
	v.reservations = append(v.reservations, rules.Reservation{})
	v.ops = append(v.ops, index.Op{Wait: &shared.Waiting{
		Tenant: req.Tenant, MessageID: target.MessageID, RecallID: req.RecallID, Actor: req.Actor, Role: roleOf(target),
		Conversation: target.Conversation, Labels: target.Labels, Ext: req.Ext, Reason: req.Reason, RequestedAt: asked,
		Until: result.Until, State: shared.WaitWaiting,
	}})
}

// waited is what was decided about the recalls that wait for a message, until the message is on disk.
type waited struct {
	permitted   bool              // one of them
	reservation rules.Reservation // of that
	refusals    []refusedWait
}

// refusedWait is a waiting recall that is refused, for the log.
type refusedWait struct {
	request  shared.RecallRequest
	verdicts verdicts
}

// judgeWaits decides about the recalls that wait for the message of an operation of a batch.
func (e *Engine) judgeWaits(a *active, b *batch, n int) error {
	op := &b.ops[n]
	if !a.index.HasWaits() {
		return nil
	}
	waits, err := a.index.WaitsFor(op.Put)
	if err != nil {
		return fmt.Errorf("find the recalls that wait for message %q: %w", op.Put.ID, err)
	}
	if len(waits) == 0 {
		return nil
	}
	if b.waited == nil {
		b.waited = map[int]*waited{}
	}
	if op.Judged == nil {
		op.Judged = &index.Judged{}
	}
	w := &waited{}
	b.waited[n] = w
	for i := range waits {
		x := &waits[i]
		decided := index.Waited{RecallID: x.RecallID, RequestedAt: x.RequestedAt.UnixMicro(), End: &index.EndWait{
			Tenant: x.Tenant, MessageID: x.MessageID, RecallID: x.RecallID,
		}}
		if !w.permitted {
			if err = e.judgeWait(a, w, x, op.Put, &decided); err != nil {
				return err
			}
		}
		op.Judged.Waited = append(op.Judged.Waited, decided)
	}
	return nil
}

// judgeWait sets in out what is decided about one recall that waits for a message. It is judged by its request, as if
// that were made when the message was sent if it came before. Those after the one that is permitted are forgotten.
func (e *Engine) judgeWait(a *active, w *waited, x *shared.Waiting, m *shared.Message, out *index.Waited) error {
	arrived, end := e.moment(), out.End
	end.State, end.At = shared.WaitRefused, arrived.now.UnixMicro()
	if x.Until.Before(arrived.now) {
		end.State = shared.WaitExpired
		return nil
	}
	switch otherActor, err := a.index.CheckRecallID(x.Tenant, x.RecallID, x.Actor.ID, 1); {
	case otherActor:
		end.Code = shared.CodeRecallIDUsed
		return nil
	case errors.Is(err, shared.ErrInvalid): // as many messages as may share it
		end.Code = shared.CodeRateLimited
		return nil
	case err != nil:
		return err
	}
	req := shared.RecallRequest{
		Tenant: x.Tenant, Actor: x.Actor, Ext: x.Ext, Reason: x.Reason, RecallID: x.RecallID,
		Targets: []shared.Target{{MessageID: x.MessageID, Conversation: x.Conversation, Role: x.Role, Labels: x.Labels}},
	}
	asked := x.RequestedAt
	if asked.Before(m.SentAt) {
		asked = m.SentAt
	}
	policy := a.rules.Policy()
	relations, record := a.newRelations(policy), &index.Record{Message: *m}
	judged, originals, err := relations.facts(record)
	if err != nil {
		return err
	}
	in := input(&req, &req.Targets[0], asked, &judged)
	in.CountedAt = steady.Add(arrived.elapsed)
	d, reservation := e.limiter.Reserve(policy, in)
	if !d.Permit {
		end.Code, end.Rule = shared.Code(d.Code), ruleOf(d.Rule)
		w.refusals = append(w.refusals, refusedWait{req, verdicts{
			digest: policy.Digest(), refusals: []refusal{{0, m, asked}},
			results: []shared.RecallResult{{
				MessageID: m.ID, Status: shared.StatusDenied, Code: end.Code, Rule: end.Rule,
			}},
		}})
		return nil
	}
	w.permitted, w.reservation = true, reservation
	op, err := a.recallOp(&req, in, policy.Digest(), &d, record)
	if err == nil {
		_, err = relations.find(op, in)
	}
	if err != nil {
		return err
	}
	op.Spend, op.Originals = spendOf(reservation, arrived), originals
	out.Recall, out.End = op, nil
	return nil
}

// endJudged gives back what the waiting recalls of operations reserved and did not use, and logs those that were
// refused. applied is nil if the operations were not applied.
func (e *Engine) endJudged(b *batch, list []int, applied []index.Result) {
	for n, w := range b.waited {
		at := n
		if list != nil {
			at = slices.Index(list, n)
		}
		if at < 0 {
			continue
		}
		delete(b.waited, n)
		recalled := at < len(applied) && applied[at].New
		if w.permitted && !recalled {
			e.limiter.Cancel(w.reservation)
		}
		if at < len(applied) && !applied[at].Stale {
			for i := range w.refusals {
				e.audit.refused(&w.refusals[i].request, &w.refusals[i].verdicts)
			}
		}
	}
}

const (
	waitKept      = 7 * 24 * time.Hour // for which a wait that has ended is listed
	waitEndsEvery = 15 * time.Second
	waitsAtOnce   = 4096 // that are found together: each time all waits are read
	endsAtOnce    = 256  // that are written together
)

// endWaits ends waits whose time is over, and forgets those that ended long ago.
func (e *Engine) endWaits(ctx context.Context, a *active) (more bool, err error) {
	if !a.index.HasWaits() && !a.index.HasEndedWaits() {
		return false, nil
	}
	now := e.now()
	ends, err := a.index.OverdueWaits(ctx, now.UnixMicro(), now.Add(-waitKept).UnixMicro(), waitsAtOnce)
	if err != nil || len(ends) == 0 {
		return false, err
	}
	for some := range slices.Chunk(ends, endsAtOnce) {
		ops := make([]index.Op, len(some))
		for i := range some {
			ops[i].EndWait = &some[i]
		}
		if _, err := a.log.Append(ctx, ops); err != nil {
			return false, err
		}
	}
	return len(ends) == waitsAtOnce, nil
}
