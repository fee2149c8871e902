package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/chat-recall/recall/plugin/internal/index"
	"github.com/chat-recall/recall/shared"
)

var _ shared.BatchSettler = (*Service)(nil)

// SettleAll is shared.BatchSettler: one operation of the log for all. Where one of them cannot be recorded each goes by
// itself, so that it stops no other.
func (s *Service) SettleAll(ctx context.Context, all []shared.Settlement) ([]error, error) {
	if err := shared.ValidateSettlements(len(all)); err != nil {
		return nil, err
	}
	err := s.settleTogether(ctx, all)
	switch {
	case err == nil:
		return make([]error, len(all)), nil
	case errors.Is(err, shared.ErrUnavailable), errors.Is(err, shared.ErrOverloaded), ctx.Err() != nil:
		return nil, err
	}
	return shared.SettleEach(ctx, s, all)
}

// settleTogether records all settlements or none, unless one of them cannot be applied.
func (s *Service) settleTogether(ctx context.Context, all []shared.Settlement) error {
	a, leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	if len(all) == 0 {
		return nil
	}
	ops := make([]index.Op, len(all))
	for i, x := range all {
		if ops[i], err = s.settle(ctx, a, x); err != nil {
			return err
		}
	}
	applied, err := a.log.Append(ctx, ops)
	if err != nil {
		return fmt.Errorf("settle %d steps: %w", len(all), err)
	}
	n := map[shared.Outcome]float64{}
	for i, x := range all {
		a.dispatcher.settle(x.Sequence, x.Step, applied[i].Step)
		n[x.Outcome]++
	}
	for outcome, n := range n {
		s.counts.add("steps_"+string(outcome)+"_total", n)
	}
	return nil
}
