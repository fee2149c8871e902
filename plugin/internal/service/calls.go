package service

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/chat-recall/recall/plugin/internal/index"
	"github.com/chat-recall/recall/shared"
)

// Index is shared.Recall.
func (s *Service) Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	a, leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := shared.ValidateIndex(msgs); err != nil || len(msgs) == 0 {
		return nil, err
	}
	policy, now := a.rules.Policy(), s.now()
	ops, all := make([]index.Op, len(msgs)), slices.Clone(msgs)
	for i := range msgs {
		m := &all[i]
		m.SentAt = micros(m.SentAt)
		if ahead(m.SentAt, now, policy) {
			return nil, notAhead(fmt.Sprintf("messages[%d].sent_at", i), m.SentAt, now, policy)
		}
		ops[i].Put = m
	}
	applied, err := a.log.Append(ctx, ops)
	if err != nil {
		return nil, fmt.Errorf("index messages: %w", err)
	}
	results := make([]shared.IndexResult, len(msgs))
	for i := range msgs {
		results[i] = shared.IndexResult{MessageID: msgs[i].ID, Status: applied[i].Put}
	}
	s.counts.indexed(results)
	return results, nil
}

// Recall is shared.Recall. RecallID must be set.
func (s *Service) Recall(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	a, leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := ctx.Err(); err != nil { // before it spends of a limit
		return nil, err
	}
	v, err := s.judge(a, &req, s.limiter.Take)
	if err != nil {
		return nil, err
	}
	if len(v.ops) > 0 {
		applied, err := a.log.Append(ctx, v.ops)
		if err != nil {
			if ctx.Err() == nil { // else it may still be applied
				for _, spend := range v.spends {
					s.limiter.Refund(spend)
				}
			}
			return nil, fmt.Errorf("recall messages: %w", err)
		}
		for n, i := range v.at {
			result := &v.results[i]
			result.Until = time.Time{}
			if !applied[n].New { // another recall came between the judgement and the commit
				s.limiter.Refund(v.spends[n])
				result.Rule = shared.Rule{}
				took(result, &applied[n].Tombstone, &req)
			}
		}
	}
	s.counts.recalled(v.results)
	for _, shadow := range v.shadows {
		if result := &v.results[shadow.at]; result.Rule != (shared.Rule{}) { // else another recall came first
			s.reportShadow(&req, result, &shadow.Shadow)
		}
	}
	return v.results, nil
}

// Check is shared.Recall. RecallID must be set, and may be any that is not used.
func (s *Service) Check(_ context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	a, leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	v, err := s.judge(a, &req, s.limiter.Trial().Take)
	if err != nil {
		return nil, err
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
	records, err := a.index.Messages(tenant, ids)
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
func (s *Service) Since(_ context.Context, req shared.SinceRequest) (shared.SincePage, error) {
	a, leave, err := s.enter()
	if err != nil {
		return shared.SincePage{}, err
	}
	defer leave()
	if err := req.Validate(); err != nil {
		return shared.SincePage{}, err
	}
	page, err := a.index.Since(req)
	if err != nil {
		return shared.SincePage{}, fmt.Errorf("read recalls: %w", err)
	}
	return page, nil
}

// Ledger is shared.Recall.
func (s *Service) Ledger(_ context.Context, tenant, recallID string) (shared.Ledger, error) {
	a, leave, err := s.enter()
	if err != nil {
		return shared.Ledger{}, err
	}
	defer leave()
	if err := shared.ValidateLedger(tenant, recallID); err != nil {
		return shared.Ledger{}, err
	}
	ledger, err := a.index.Ledger(tenant, recallID)
	if err != nil {
		return shared.Ledger{}, fmt.Errorf("read the ledger: %w", err)
	}
	return ledger, nil
}

// Events is shared.Recall. Each delivery asks for one step.
func (s *Service) Events(ctx context.Context, handle func(shared.Event, shared.Settler)) error {
	a, leave, err := s.enter()
	if err != nil {
		return err
	}
	leave() // Quiesce waits for the dispatcher, and not for what the host does in handle
	return a.dispatcher.run(ctx, func(e shared.Event) { handle(e, shared.NewSettler(s, e.Sequence)) })
}

// Settle is shared.Plugin.
func (s *Service) Settle(ctx context.Context, sequence uint64, step string, outcome shared.Outcome, cause string) error {
	a, leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := shared.ValidateStep("step", step); err != nil {
		return err
	}
	if !outcome.Settles() && outcome != shared.OutcomeFailed {
		return shared.Invalidf("outcome", "unknown outcome %q; one of %s, %s, %s, %s", outcome,
			shared.OutcomeDone, shared.OutcomeNothingToDo, shared.OutcomeUnsupported, shared.OutcomeFailed)
	}
	if len(cause) > shared.MaxStepErrorBytes {
		return shared.Invalidf("error", "is %d bytes long; at most %d", len(cause), shared.MaxStepErrorBytes)
	}
	_, err = a.log.Append(ctx, []index.Op{{Settle: &index.Settle{
		Sequence: sequence, Step: step, Outcome: outcome, Error: cause, At: s.now(),
	}}})
	if err != nil { // the consumer still has the step, and asks again
		return fmt.Errorf("settle step %s of event %d: %w", step, sequence, err)
	}
	a.dispatcher.settle(sequence, step, outcome.Settles())
	s.counts.add("steps_"+string(outcome)+"_total", 1)
	return nil
}
