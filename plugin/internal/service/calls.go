package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chat-recall/recall/plugin/internal/index"
	"github.com/chat-recall/recall/shared"
)

// await makes a call that is answered by then, and waits for its answer or the end of ctx.
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

// Index is shared.Recall.
func (s *Service) Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	return await(ctx, func(then func([]shared.IndexResult, error)) { s.IndexThen(ctx, slices.Clone(msgs), false, then) })
}

// IndexThen is Index that does not wait: it calls then once, from any goroutine and perhaps before it returns. then
// must not block, and msgs are no longer the caller's. alone says that no other call waits.
func (s *Service) IndexThen(ctx context.Context, msgs []shared.Message, alone bool,
	then func([]shared.IndexResult, error)) {
	a, leave, err := s.enter()
	if err != nil {
		then(nil, err)
		return
	}
	ops, err := s.puts(ctx, a, msgs)
	if err != nil || len(msgs) == 0 {
		leave()
		then(nil, err)
		return
	}
	a.log.AppendThen(ops, alone, func(applied []index.Result, err error) {
		defer leave()
		if err != nil {
			then(nil, fmt.Errorf("index messages: %w", err))
			return
		}
		results := make([]shared.IndexResult, len(msgs))
		for i := range msgs {
			results[i] = shared.IndexResult{MessageID: msgs[i].ID, Status: applied[i].Put}
		}
		s.counts.indexed(results)
		then(results, nil)
	})
}

// puts are the operations that index messages.
func (s *Service) puts(ctx context.Context, a *active, msgs []shared.Message) ([]index.Op, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := shared.ValidateIndex(msgs); err != nil {
		return nil, err
	}
	policy, now := a.rules.Policy(), s.now()
	ops := make([]index.Op, len(msgs))
	for i := range msgs {
		m := &msgs[i]
		m.SentAt = micros(m.SentAt)
		if ahead(m.SentAt, now, policy) {
			return nil, notAhead(fmt.Sprintf("messages[%d].sent_at", i), m.SentAt, now, policy)
		}
		ops[i].Put = m
	}
	return ops, nil
}

// Recall is shared.Recall. RecallID must be set.
func (s *Service) Recall(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	return await(ctx, func(then func([]shared.RecallResult, error)) { s.RecallThen(ctx, req, false, then) })
}

// RecallThen is to Recall what IndexThen is to Index.
func (s *Service) RecallThen(ctx context.Context, req shared.RecallRequest, alone bool,
	then func([]shared.RecallResult, error)) {
	a, leave, err := s.enter()
	if err != nil {
		then(nil, err)
		return
	}
	if err = ctx.Err(); err != nil { // before it reserves a unit of a limit
		leave()
		then(nil, err)
		return
	}
	v, err := s.judge(a, &req, s.limiter.Reserve)
	if err != nil {
		leave()
		then(nil, err)
		return
	}
	committed := func(applied []index.Result, err error) {
		defer leave()
		if err != nil {
			for _, reservation := range v.reservations {
				s.limiter.Cancel(reservation)
			}
			then(nil, fmt.Errorf("recall messages: %w", err))
			return
		}
		s.recalled(&req, v, applied)
		then(v.results, nil)
	}
	if len(v.ops) == 0 {
		committed(nil, nil)
		return
	}
	a.log.AppendThen(v.ops, alone, committed)
}

// recalled completes the results of a request by what was committed of it, and counts and reports them.
func (s *Service) recalled(req *shared.RecallRequest, v *verdicts, applied []index.Result) {
	for n, i := range v.at {
		result := &v.results[i]
		result.Until = time.Time{}
		if applied[n].New {
			continue
		}
		s.limiter.Cancel(v.reservations[n]) // another recall came between the judgement and the commit
		result.Rule = shared.Rule{}
		if applied[n].OtherActor {
			denyRecallID(result)
		} else {
			took(result, &applied[n].Tombstone, req)
		}
	}
	s.counts.recalled(v.results)
	for _, shadow := range v.shadows {
		if result := &v.results[shadow.at]; result.Rule != (shared.Rule{}) { // else another recall came first
			s.reportShadow(req, result, &shadow.Shadow)
		}
	}
}

// Check is shared.Recall. RecallID must be set, and may be any that is not used.
func (s *Service) Check(_ context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	a, leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	v, err := s.judge(a, &req, s.limiter.Trial().Reserve)
	if err != nil {
		return nil, err
	}
	if len(v.ops) > 0 {
		otherActor, err := a.index.CheckRecallID(req.Tenant, req.RecallID, req.Actor.ID, len(v.ops))
		if err != nil {
			return nil, err
		}
		for _, i := range v.at {
			if otherActor {
				denyRecallID(&v.results[i])
			}
		}
	}
	s.counts.add("checks_total", float64(len(v.results)))
	return v.results, nil
}

// Status is shared.Recall.
func (s *Service) Status(_ context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	a, leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := shared.ValidateStatus(tenant, ids); err != nil || len(ids) == 0 {
		return nil, err
	}
	records, err := a.index.States(tenant, ids)
	if err != nil {
		return nil, fmt.Errorf("find the messages: %w", err)
	}
	out := make([]shared.MessageStatus, len(ids))
	for i, r := range records {
		out[i] = shared.MessageStatus{MessageID: ids[i], State: shared.MessageLive}
		switch {
		case r == nil:
			out[i].State = shared.MessageUnknown
		case r.Tombstone != nil:
			out[i].State, out[i].RecallID, out[i].RecalledAt = shared.MessageRecalled, r.Tombstone.RecallID, r.Tombstone.RecalledAt
		}
	}
	return out, nil
}

// Since is shared.Recall.
func (s *Service) Since(ctx context.Context, req shared.SinceRequest) (shared.SincePage, error) {
	a, leave, err := s.enter()
	if err != nil {
		return shared.SincePage{}, err
	}
	defer leave()
	if err := req.Validate(); err != nil {
		return shared.SincePage{}, err
	}
	page, err := a.index.Since(ctx, req)
	if err != nil {
		return shared.SincePage{}, fmt.Errorf("read recalls: %w", err)
	}
	return page, nil
}

// Ledger is shared.Recall. It reads page by page.
func (s *Service) Ledger(ctx context.Context, tenant, recallID string) (shared.Ledger, error) {
	return shared.ReadLedger(ctx, s, tenant, recallID)
}

// LedgerPage is shared.LedgerReader.
func (s *Service) LedgerPage(ctx context.Context, req shared.LedgerRequest) (shared.LedgerPage, error) {
	a, leave, err := s.enter()
	if err != nil {
		return shared.LedgerPage{}, err
	}
	defer leave()
	if err := req.Validate(); err != nil {
		return shared.LedgerPage{}, err
	}
	page, err := a.index.LedgerPage(ctx, req)
	if err != nil {
		return shared.LedgerPage{}, fmt.Errorf("read the ledger: %w", err)
	}
	return page, nil
}

// Settle is shared.Plugin. A failure is taken for that of the attempt that is next.
func (s *Service) Settle(ctx context.Context, sequence uint64, step string, outcome shared.Outcome, cause string) error {
	return s.SettleAttempt(ctx, shared.Settlement{Sequence: sequence, Step: step, Outcome: outcome, Error: cause})
}

// SettleAttempt is shared.AttemptSettler.
func (s *Service) SettleAttempt(ctx context.Context, x shared.Settlement) error {
	_, err := await(ctx, func(then func(struct{}, error)) {
		s.SettleThen(ctx, x, false, func(err error) { then(struct{}{}, err) })
	})
	return err
}

// SettleThen is to SettleAttempt what IndexThen is to Index. Whoever settles waits for nothing, so it is never
// committed alone: it goes along with the next commit.
func (s *Service) SettleThen(ctx context.Context, x shared.Settlement, _ bool, then func(error)) {
	a, leave, err := s.enter()
	if err != nil {
		then(err)
		return
	}
	op, err := s.settle(ctx, a, x)
	if err != nil {
		leave()
		then(err)
		return
	}
	a.log.AppendThen([]index.Op{op}, false, func(applied []index.Result, err error) {
		defer leave()
		if err != nil { // the consumer still has the step, and asks again
			then(fmt.Errorf("settle step %s of event %d: %w", x.Step, x.Sequence, err))
			return
		}
		a.dispatcher.settle(x.Sequence, x.Step, applied[0].Step)
		s.counts.add("steps_"+string(x.Outcome)+"_total", 1)
		then(nil)
	})
}

// settle is the operation that records an outcome.
func (s *Service) settle(ctx context.Context, a *active, x shared.Settlement) (index.Op, error) {
	if err := errors.Join(ctx.Err(), x.Validate()); err != nil {
		return index.Op{}, err
	}
	if x.Attempt == 0 && !x.Outcome.Settles() {
		var err error
		if x.Attempt, err = nextAttempt(a, x.Sequence, x.Step); err != nil {
			return index.Op{}, err
		}
	}
	return index.Op{Settle: &index.Settle{
		Sequence: x.Sequence, Step: x.Step, Attempt: x.Attempt, Outcome: x.Outcome, Error: x.Error, At: s.now(),
	}}, nil
}

// nextAttempt is the attempt of a step that nobody has reported yet; 1 where the step is not open, which the log
// refuses or passes over.
func nextAttempt(a *active, sequence uint64, step string) (int, error) {
	entry, err := a.index.Entry(sequence, step)
	if err != nil {
		return 0, fmt.Errorf("read event %d: %w", sequence, err)
	}
	if entry != nil {
		for _, r := range entry.Steps {
			if r.Step == step {
				return r.Attempts + 1, nil
			}
		}
	}
	return 1, nil
}
