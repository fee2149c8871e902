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
	_, err := await(ctx, func(then func(struct{}, error)) {
		s.settleTogether(ctx, all, func(err error) { then(struct{}{}, err) })
	})
	switch {
	case err == nil:
		return make([]error, len(all)), nil
	case errors.Is(err, shared.ErrUnavailable), errors.Is(err, shared.ErrOverloaded), ctx.Err() != nil:
		return nil, err
	}
	return shared.SettleEach(ctx, s, all)
}

// settleTogether records all settlements, and calls then as SettleThen does. An error may be that of one of them.
func (s *Service) settleTogether(ctx context.Context, all []shared.Settlement, then func(error)) {
	a, leave, err := s.enter()
	if err != nil {
		then(err)
		return
	}
	if len(all) == 0 {
		leave()
		then(nil)
		return
	}
	ops := make([]index.Op, len(all))
	for i, x := range all {
		if ops[i], err = s.settle(ctx, a, x); err != nil {
			leave()
			then(err)
			return
		}
	}
	a.log.AppendThen(ops, false, func(applied []index.Result, err error) {
		defer leave()
		if err != nil { // the consumer still has the steps, and asks again
			then(fmt.Errorf("settle %d steps: %w", len(all), err))
			return
		}
		for i, x := range all {
			a.dispatcher.settle(x.Sequence, x.Step, applied[i].Step)
		}
		s.counts.settled(all)
		then(nil)
	})
}
