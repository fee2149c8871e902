package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// await makes a call that answers through then, and waits for the answer or the end of ctx.
func await[T any](ctx context.Context, call func(then func(T, error))) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	call(func(value T, err error) { answers <- answer{value, err} })
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// Index is [shared.Recall].
func (e *Engine) Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	return await(ctx, func(then func([]shared.IndexResult, error)) { e.IndexThen(ctx, slices.Clone(msgs), false, then) })
}

// IndexThen is like [Engine.Index] but does not wait. It calls then once, from any goroutine and perhaps before it
// returns. then must not block. The caller must not use msgs any more. alone says that no other call waits.
func (e *Engine) IndexThen(ctx context.Context, msgs []shared.Message, alone bool,
	then func([]shared.IndexResult, error)) {
	e.change(ctx, alone, then, func(a *active) (*batch, error) {
		if err := wire.ValidateBatch("messages", len(msgs)); err != nil {
			return nil, err
		}
		policy, now := a.rules.Policy(), e.now()
		b := newBatch(len(msgs))
		for i := range msgs {
			m := &msgs[i]
			err := wire.ValidateMessage(m)
			if err == nil {
				m.SentAt = micros(m.SentAt)
				if inFuture(m.SentAt, now, policy) {
					err = notInFuture("sent_at", m.SentAt, now, policy)
				}
			}
			b.add(m.ID, index.Op{Put: m}, err)
		}
		for n := range b.ops {
			if err := e.judgeNew(a, b, n); err != nil {
				return b, err
			}
		}
		return b, nil
	})
}

// judgeNew decides what is to be decided about the message of an operation of a batch, if it is new.
func (e *Engine) judgeNew(a *active, b *batch, n int) error {
	b.ops[n].Judged = nil
	if err := a.judgeLate(&b.ops[n]); err != nil {
		return err
	}
	return e.judgeWaits(a, b, n)
}

// Amend is [shared.Recall].
func (e *Engine) Amend(ctx context.Context, amendments []shared.Amendment) ([]shared.IndexResult, error) {
	return await(ctx, func(then func([]shared.IndexResult, error)) {
		e.change(ctx, false, then, func(*active) (*batch, error) {
			if err := wire.ValidateBatch("amendments", len(amendments)); err != nil {
				return nil, err
			}
			b := newBatch(len(amendments))
			for i := range amendments {
				amendment := amendments[i]
				b.add(amendment.MessageID, index.Op{Amend: &amendment}, wire.ValidateAmendment(&amendment))
			}
			return b, nil
		})
	})
}

// batch is what Index or Amend writes, and its results.
type batch struct {
	results []shared.IndexResult
	ops     []index.Op
	at      []int // the index in results of each op; nil if they are the same

	waited map[int]*waited // what was decided about the recalls that wait for the message of an op
}

func newBatch(n int) *batch {
	return &batch{results: make([]shared.IndexResult, 0, n), ops: make([]index.Op, 0, n)}
}

// add adds an operation; err says why it is not applied.
func (b *batch) add(id string, op index.Op, err error) {
	b.results = append(b.results, shared.IndexResult{MessageID: id})
	i := len(b.results) - 1
	if err != nil {
		b.results[i] = wire.InvalidResult(id, err)
		if b.at == nil {
			b.at = make([]int, len(b.ops), cap(b.ops))
			for k := range b.at {
				b.at[k] = k
			}
		}
		return
	}
	b.ops = append(b.ops, op)
	if b.at != nil {
		b.at = append(b.at, i)
	}
}

// change applies the batch that prepare returns, and calls then once.
func (e *Engine) change(ctx context.Context, alone bool, then func([]shared.IndexResult, error),
	prepare func(*active) (*batch, error)) {
	a, leave, err := e.enter()
	if err != nil {
		then(nil, err)
		return
	}
	var b *batch
	if err = ctx.Err(); err == nil {
		b, err = prepare(a)
	}
	if err != nil {
		if b != nil {
			e.endJudged(b, nil, nil)
		}
		leave()
		then(nil, err)
		return
	}
	e.write(a, b, nil, alone, maxJudgements, func(err error) {
		defer leave()
		if err != nil {
			then(nil, fmt.Errorf("write %d messages: %w", len(b.ops), err))
			return
		}
		e.counts.indexed(b.results)
		then(b.results, nil)
	})
}

// write applies the operations of a batch, or those that are listed, and calls done once.
func (e *Engine) write(a *active, b *batch, list []int, alone bool, left int, done func(error)) {
	ops := b.ops
	if list != nil {
		ops = make([]index.Op, len(list))
		for i, n := range list {
			ops[i] = b.ops[n]
		}
	}
	if len(ops) == 0 {
		done(nil)
		return
	}
	a.log.AppendThen(ops, alone, func(applied []index.Result, err error) {
		stale := e.applied(b, list, applied)
		switch {
		case err != nil || len(stale) == 0:
			done(err)
		case left == 1:
			done(fmt.Errorf("%w: recalls that concern message %q came %d times while it was judged", shared.ErrOverloaded,
				b.ops[stale[0]].Put.ID, maxJudgements))
		default: // in a goroutine of its own: this one may be the committer, which must not wait
			go func() {
				for _, n := range stale {
					if err := e.judgeNew(a, b, n); err != nil {
						e.endJudged(b, stale, nil)
						done(err)
						return
					}
				}
				e.write(a, b, stale, false, left-1, done)
			}()
		}
	})
}

// applied sets the results of operations of a batch, and returns those that must be judged again.
func (e *Engine) applied(b *batch, list []int, applied []index.Result) (stale []int) {
	for i := range applied {
		n := i
		if list != nil {
			n = list[i]
		}
		at := n
		if b.at != nil {
			at = b.at[n]
		}
		b.results[at].Status, b.results[at].Related = applied[i].Put, applied[i].Related
		if applied[i].Stale {
			stale = append(stale, n)
		}
	}
	e.endJudged(b, list, applied)
	return stale
}

// Recall is [shared.Recall]. RecallID must be set.
func (e *Engine) Recall(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	return await(ctx, func(then func([]shared.RecallResult, error)) { e.RecallThen(ctx, req, false, then) })
}

// RecallThen is like [Engine.Recall] but does not wait: see [Engine.IndexThen].
func (e *Engine) RecallThen(ctx context.Context, req shared.RecallRequest, alone bool,
	then func([]shared.RecallResult, error)) {
	e.recall(ctx, req, e.moment(), alone, judgements{left: maxJudgements}, then)
}

// maxJudgements bounds how often a request is judged. It is judged again if the facts of a message changed between the
// judgement and the commit.
const maxJudgements = 10

// judgements are those of one request.
type judgements struct {
	left  int
	known bool // everything is applied that was acknowledged anywhere before the request
}

func (e *Engine) recall(ctx context.Context, req shared.RecallRequest, arrived moment, alone bool, now judgements,
	then func([]shared.RecallResult, error)) {
	a, leave, err := e.enter()
	if err != nil {
		then(nil, err)
		return
	}
	if err = ctx.Err(); err != nil { // before it reserves units of limits
		leave()
		then(nil, err)
		return
	}
	v, err := a.judge(&req, arrived, e.limiter.Reserve, e.limiter.Cancel)
	if err != nil {
		leave()
		then(nil, err)
		return
	}
	if v.unknown && a.cluster != nil && !now.known { // another node may have indexed it just now
		e.cancel(v)
		go func() { // this goroutine may be one that must not wait
			err := a.log.Barrier(ctx)
			leave()
			if err != nil {
				then(nil, fmt.Errorf("find the messages: %w", err))
				return
			}
			now.known = true
			e.recall(ctx, req, arrived, false, now, then)
		}()
		return
	}
	committed := func(applied []index.Result, err error) {
		defer leave()
		if err != nil {
			e.cancel(v)
			then(nil, fmt.Errorf("recall messages: %w", err))
			return
		}
		stale := e.recalled(&req, v, applied)
		if len(stale) == 0 {
			then(v.results, nil)
			return
		}
		if now.left == 1 {
			then(nil, fmt.Errorf("%w: the facts of message %q changed %d times while it was judged", shared.ErrOverloaded,
				req.Targets[stale[0]].MessageID, maxJudgements))
			return
		}
		again := req
		again.Targets = nil
		for _, i := range stale {
			again.Targets = append(again.Targets, req.Targets[i])
		}
		// In a goroutine of its own: this one may be the committer, which must not wait.
		now.left--
		go e.recall(ctx, again, arrived, false, now, func(results []shared.RecallResult, err error) {
			if err != nil {
				then(nil, err)
				return
			}
			for n, i := range stale {
				v.results[i] = results[n]
			}
			then(v.results, nil)
		})
	}
	if len(v.ops) == 0 {
		committed(nil, nil)
		return
	}
	a.log.AppendThen(v.ops, alone, committed)
}

// cancel returns the units of limits that verdicts hold.
func (e *Engine) cancel(v *verdicts) {
	for _, reservation := range v.reservations {
		e.limiter.Cancel(reservation)
	}
}

// recalled completes the results of a request after the commit, and counts and reports them. It returns the targets
// that must be judged again. Their results are not counted or reported yet.
func (e *Engine) recalled(req *shared.RecallRequest, v *verdicts, applied []index.Result) (stale []int) {
	for n, i := range v.at {
		result, applied := &v.results[i], &applied[n]
		if result.Status != shared.StatusWaiting {
			result.Until = time.Time{}
		}
		if applied.New {
			continue
		}
		e.limiter.Cancel(v.reservations[n])
		result.Rule, result.With = shared.Rule{}, nil
		switch {
		case applied.Stale || applied.Aborted: // only a stale one aborts others: all have one recall id and actor
			stale = append(stale, i)
		case applied.Full:
			*result = shared.RecallResult{
				MessageID: result.MessageID, Status: shared.StatusDenied, Code: shared.CodeRateLimited,
			}
			v.refusals = append(v.refusals, refusal{at: i, asked: v.ops[n].Wait.RequestedAt})
		case applied.OtherActor && v.ops[n].Wait != nil:
			denyRecallID(result)
			v.refusals = append(v.refusals, refusal{at: i, asked: v.ops[n].Wait.RequestedAt})
		case applied.OtherActor:
			denyRecallID(result)
			event := &v.ops[n].Recall.Event
			v.refusals = append(v.refusals, refusal{i, &event.Message, event.RecalledAt})
		default: // another recall came between the judgement and the commit
			alreadyRecalled(result, applied.Tombstone, req)
		}
	}
	v.recalledWith()
	v.setTexts()
	for i := range v.results {
		if !slices.Contains(stale, i) {
			e.counts.recalled(&v.results[i])
		}
	}
	e.audit.refused(req, v)
	for _, shadow := range v.shadows {
		if result := &v.results[shadow.at]; result.Rule != (shared.Rule{}) { // else another recall came first
			e.reportShadow(req, result, &shadow.Shadow)
		}
	}
	return stale
}

// Check is [shared.Recall]. RecallID must be set; an id that no recall uses will do.
func (e *Engine) Check(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	a, leave, err := e.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	v, err := e.check(ctx, a, &req)
	if err != nil {
		return nil, err
	}
	e.counts.checks.Add(float64(len(v.results)))
	return v.results, nil
}

// noCancel is for a judgement that commits nothing: its reservations are discarded with the trial of the limiter.
func noCancel(rules.Reservation) {}

// check returns what Recall would answer now.
func (e *Engine) check(ctx context.Context, a *active, req *shared.RecallRequest) (*verdicts, error) {
	v, err := a.judge(req, e.moment(), e.limiter.Trial().Reserve, noCancel)
	if err == nil && v.unknown && a.cluster != nil { // another node may have indexed it just now
		if err := a.log.Barrier(ctx); err != nil {
			return nil, fmt.Errorf("find the messages: %w", err)
		}
		v, err = a.judge(req, e.moment(), e.limiter.Trial().Reserve, noCancel)
	}
	if err != nil || len(v.ops) == 0 {
		return v, err
	}
	otherActor, err := a.index.CheckRecallID(req.Tenant, req.RecallID, req.Actor.ID, len(v.ops))
	if err != nil {
		return v, err
	}
	if otherActor {
		for _, i := range v.at {
			denyRecallID(&v.results[i])
		}
	}
	v.recalledWith()
	v.setTexts()
	return v, nil
}
