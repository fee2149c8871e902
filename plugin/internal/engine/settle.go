package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// Settle is [wire.Plugin]: one operation of the log for all. Where one of them cannot be recorded each goes by itself,
// so that it stops no other.
func (e *Engine) Settle(ctx context.Context, all []wire.Settlement) ([]error, error) {
	if err := wire.ValidateSettlements(len(all)); err != nil || len(all) == 0 {
		return nil, err
	}
	errs, err := e.settleParts(ctx, all, len(all))
	switch {
	case err != nil:
		return nil, err
	case errs[0] == nil:
		return make([]error, len(all)), nil
	}
	return e.settleParts(ctx, all, 1)
}

// settleParts records settlements in operations of size each, and returns an error for each part. The parts go to the
// log in their order, because a step may wait for one that is settled before it.
func (e *Engine) settleParts(ctx context.Context, all []wire.Settlement, size int) ([]error, error) {
	errs, err := await(ctx, func(then func([]error, error)) {
		parts := slices.Collect(slices.Chunk(all, size))
		errs := make([]error, len(parts))
		var waiting atomic.Int64
		waiting.Store(int64(len(parts)))
		for i, part := range parts {
			e.settle(ctx, part, func(err error) {
				errs[i] = err
				if waiting.Add(-1) == 0 {
					then(errs, nil)
				}
			})
		}
	})
	for _, partErr := range errs {
		if partErr != nil && isOfTheCall(ctx, partErr) {
			err = partErr
		}
	}
	if err != nil {
		return nil, err
	}
	return errs, nil
}

// isOfTheCall tells whether an error is of the whole call, and not of one settlement.
func isOfTheCall(ctx context.Context, err error) bool {
	return errors.Is(err, shared.ErrUnavailable) || errors.Is(err, shared.ErrOverloaded) || ctx.Err() != nil
}

// settle records settlements in one operation, and calls then once. Its error may be that of one of them.
func (e *Engine) settle(ctx context.Context, all []wire.Settlement, then func(error)) {
	a, leave, err := e.enter()
	if err != nil {
		then(err)
		return
	}
	ops := make([]index.Op, 0, len(all))
	for i := range all {
		op, err := e.settleOp(ctx, a, &all[i])
		if err != nil {
			leave()
			then(err)
			return
		}
		if all[i].Outcome == shared.OutcomeDeferred { // nothing is recorded
			a.dispatcher.Defer(op.Settle.Sequence, op.Settle.Step, op.Settle.Attempt)
			continue
		}
		ops = append(ops, op)
	}
	answer := func(applied []index.Result, err error) {
		defer leave()
		if err != nil { // the consumer still has the steps, and asks again
			then(fmt.Errorf("settle %d steps: %w", len(all), err))
			return
		}
		for i, op := range ops {
			a.dispatcher.Settle(op.Settle.Sequence, op.Settle.Step, applied[i].Step)
		}
		e.counts.settled(all)
		then(nil)
	}
	if len(ops) == 0 {
		answer(nil, nil)
		return
	}
	// Whoever settles waits for nothing, so it is never committed alone: it goes along with the next commit.
	a.log.AppendThen(ops, false, answer)
}

// settleOp is the operation that records an outcome.
func (e *Engine) settleOp(ctx context.Context, a *active, x *wire.Settlement) (index.Op, error) {
	if err := errors.Join(ctx.Err(), x.Validate()); err != nil {
		return index.Op{}, err
	}
	op := &index.Settle{
		Sequence: x.Sequence, Step: x.Step, Attempt: x.Attempt, Outcome: x.Outcome, Error: x.Error, At: e.now(),
	}
	if op.Sequence == 0 {
		tenant, recallID, messageID, err := shared.ParseEventKey(x.Key)
		if err != nil {
			return index.Op{}, err
		}
		if op.Sequence, err = a.index.Sequence(tenant, recallID, messageID); err != nil {
			return index.Op{}, fmt.Errorf("find the event: %w", err)
		}
		if op.Sequence == 0 {
			return index.Op{}, shared.Invalidf("key", "there is no recall %q of message %q", recallID, messageID)
		}
	}
	if op.Attempt == 0 && op.Outcome == shared.OutcomeFailed {
		var err error
		if op.Attempt, err = nextAttempt(a, op.Sequence, op.Step); err != nil {
			return index.Op{}, err
		}
	}
	return index.Op{Settle: op}, nil
}

// nextAttempt is the attempt of a step that nobody has reported yet; 1 where the step is not open, which the log
// refuses or passes over.
func nextAttempt(a *active, sequence uint64, step string) (int, error) {
	entry, err := a.index.Entry(sequence, step)
	switch {
	case err != nil:
		return 0, fmt.Errorf("read event %d: %w", sequence, err)
	case entry == nil:
		return 1, nil
	}
	return entry.Steps[0].Attempts + 1, nil
}
