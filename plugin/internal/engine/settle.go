package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

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
	err := e.settle(ctx, all)
	switch {
	case err == nil:
		return make([]error, len(all)), nil
	case isOfTheCall(ctx, err):
		return nil, err
	}
	errs := make([]error, len(all))
	var each sync.WaitGroup
	for i := range all {
		each.Go(func() { errs[i] = e.settle(ctx, all[i:i+1]) })
	}
	each.Wait()
	for _, err := range errs {
		if err != nil && isOfTheCall(ctx, err) {
			return nil, err
		}
	}
	return errs, nil
}

// isOfTheCall tells whether an error is of the whole call, and not of one settlement.
func isOfTheCall(ctx context.Context, err error) bool {
	return errors.Is(err, shared.ErrUnavailable) || errors.Is(err, shared.ErrOverloaded) || ctx.Err() != nil
}

// settle records settlements in one operation. Its error may be that of one of them.
func (e *Engine) settle(ctx context.Context, all []wire.Settlement) error {
	a, leave, err := e.enter()
	if err != nil {
		return err
	}
	ops := make([]index.Op, 0, len(all))
	for i := range all {
		op, err := e.settleOp(ctx, a, &all[i])
		if err != nil {
			leave()
			return err
		}
		if all[i].Outcome == shared.OutcomeDeferred { // nothing is recorded
			a.dispatcher.Defer(op.Settle.Sequence, op.Settle.Step, op.Settle.Attempt)
			continue
		}
		ops = append(ops, op)
	}
	if len(ops) == 0 {
		leave()
		e.counts.settled(all)
		return nil
	}
	// Whoever settles waits for nothing, so it is never committed alone: it goes along with the next commit.
	_, err = await(ctx, func(then func(struct{}, error)) {
		a.log.AppendThen(ops, false, func(applied []index.Result, err error) {
			defer leave()
			if err != nil { // the consumer still has the steps, and asks again
				then(struct{}{}, fmt.Errorf("settle %d steps: %w", len(all), err))
				return
			}
			for i, op := range ops {
				a.dispatcher.Settle(op.Settle.Sequence, op.Settle.Step, applied[i].Step)
			}
			e.counts.settled(all)
			then(struct{}{}, nil)
		})
	})
	return err
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
