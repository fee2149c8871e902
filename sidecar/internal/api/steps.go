package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/internal/pull"
)

const (
	maxWait     = 30 * time.Second // of Take
	defaultWait = 20 * time.Second
	defaultTake = 10 // deliveries
)

// Take implements StepService.
func (s *Service) Take(ctx context.Context, r *v1.TakeRequest) (*v1.TakeResponse, error) {
	pulled := s.Broker.Steps()
	for i, step := range r.GetSteps() {
		if !slices.Contains(pulled, step) {
			return nil, Invalid(fmt.Sprintf("steps[%d]", i), fmt.Sprintf("%.80q is not a pulled step; sidecar.hcl has %q",
				step, pulled))
		}
	}
	if len(pulled) == 0 {
		return nil, Invalid("steps", "no step is pulled: sidecar.hcl has no step with pull = true")
	}
	if r.GetMax() < 0 || r.GetMax() > pull.MaxTake {
		return nil, Invalid("max", fmt.Sprintf("is %d; 1 to %d, or 0 for %d", r.GetMax(), pull.MaxTake, defaultTake))
	}
	wait := defaultWait
	if r.GetWait() != "" {
		var err error
		if wait, err = time.ParseDuration(r.GetWait()); err != nil || wait < 0 || wait > maxWait {
			return nil, Invalid("wait", fmt.Sprintf(`is %.80q; a duration from "0s" to %q`, r.GetWait(), maxWait))
		}
	}
	out := &v1.TakeResponse{}
	if len(r.GetSettle()) > 0 {
		var err error
		if out.Late, err = s.settleAll(ctx, r.GetSettle()); err != nil {
			return nil, err
		}
	}
	steps, most := r.GetSteps(), int(r.GetMax())
	if len(steps) == 0 {
		steps = pulled
	}
	if most == 0 {
		most = defaultTake
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(s.leaving, cancel)()
	leased := s.Broker.Take(waiting, steps, most)
	if ctx.Err() != nil { // the worker has gone
		s.Broker.Release(leased)
		return nil, Error(ctx.Err())
	}
	out.Deliveries = each(leased, encodeLeased)
	return out, nil
}

// Settle implements StepService.
func (s *Service) Settle(ctx context.Context, r *v1.SettleRequest) (*v1.SettleResponse, error) {
	if len(r.GetSettle()) == 0 {
		return nil, Invalid("settle", fmt.Sprintf("is empty; 1 to %d", pull.MaxTake))
	}
	late, err := s.settleAll(ctx, r.GetSettle())
	if err != nil {
		return nil, err
	}
	return &v1.SettleResponse{Late: late}, nil
}

// settleAll reports outcomes together and returns the ids of those that are late, in order.
func (s *Service) settleAll(ctx context.Context, list []*v1.Settlement) (late []string, err error) {
	if len(list) > pull.MaxTake {
		return nil, Invalid("settle", fmt.Sprintf("has %d elements; at most %d", len(list), pull.MaxTake))
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	settled, errs := make([]bool, len(list)), make([]error, len(list))
	var all sync.WaitGroup
	for i, one := range list {
		all.Go(func() {
			outcome, cause := shared.Outcome(one.GetOutcome()), error(nil)
			if one.GetError() != "" {
				cause = errors.New(one.GetError())
			} else if outcome == shared.OutcomeFailed {
				cause = errors.New("the worker gave no reason")
			}
			settled[i], errs[i] = s.Broker.Settle(ctx, one.GetId(), outcome, cause)
		})
	}
	all.Wait()
	for i, one := range list {
		var field *shared.FieldError
		switch {
		case errors.As(errs[i], &field):
			return nil, Invalid(fmt.Sprintf("settle[%d].%s", i, field.Field), field.Problem)
		case errs[i] != nil:
			return nil, Error(errs[i])
		case !settled[i]:
			late = append(late, one.GetId())
		}
	}
	return late, nil
}
