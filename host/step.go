package host

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

const (
	// StepTimeout is the default of Step.Timeout.
	StepTimeout = time.Minute

	// StepConcurrency is the default of Step.Concurrency.
	StepConcurrency = 16
)

// A Step carries out one part of a recall in the chat server.
type Step struct {
	// Run carries out the step for one recalled message. It is called at least once: again after an error, and again when
	// the server or the plugin died before the outcome was on disk. Once an outcome is recorded it is not called again.
	// Calls for different recalls, and of different steps of one recall, run side by side. The step "notify" comes first,
	// so that what it shows can still be read: the other steps of a recall start when notify is settled, or 30 s after the
	// recall. See After for another order.
	//
	// It returns OutcomeDone, OutcomeNothingToDo where the server held nothing, or OutcomeUnsupported where it cannot do
	// this for this message; each is final. An error, OutcomeFailed or a panic makes it run again, after a delay that
	// grows from 100 ms to a minute. OutcomeDeferred says that somebody else carries the step out and calls [Host.Settle]:
	// no attempt is counted, and Run is called again only when the plugin or the host starts again before that.
	//
	// ctx ends after Timeout, or when the host is closed. An attempt that does not return then is given up: it counts as
	// failed, and the step is tried again while it still runs. If it succeeds later, while the step is open, it settles
	// the step.
	Run func(ctx context.Context, d shared.Delivery) (shared.Outcome, error)

	// Verify, if not nil, proves the effect after Run returned OutcomeDone, within the same Timeout: a system may report
	// success although its server is gone. An error means that the attempt failed, and the step is tried again.
	Verify func(ctx context.Context, d shared.Delivery) error

	// After names steps of this host that are settled first, of the same recall: Run is not called before each of them
	// is done, has nothing to do or is unsupported. A step that the recall does not have counts as settled. One that
	// fails, or that a later host does not have, holds this one up for as long as it is open, also across crashes of the
	// server and the plugin. "notify" comes first by default, and holds the other steps up for at most 30 s; a step that
	// names it here waits without that limit. Notify itself waits for no step. A recall keeps the order in which it was
	// committed.
	After []string

	Timeout     time.Duration // of one attempt; 0 means StepTimeout
	Concurrency int           // attempts at once, 1 to shared.MaxDeliveries; 0 means StepConcurrency
}

// planSteps checks the steps of a server, and puts them in the order of their names.
func planSteps(steps map[string]Step) ([]wire.StepPlan, error) {
	if len(steps) > shared.MaxSteps {
		return nil, shared.Invalidf("host.Config.Steps", "%d steps; at most %d", len(steps), shared.MaxSteps)
	}
	plan := make([]wire.StepPlan, 0, len(steps))
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		if err := shared.ValidateStep("host.Config.Steps", name); err != nil {
			return nil, err
		}
		step := steps[name]
		if err := step.check(name); err != nil {
			return nil, err
		}
		plan = append(plan, wire.StepPlan{Name: name, After: slices.Clone(step.After)})
	}
	err := wire.CheckAfter(plan, func(i, k int) string {
		return fmt.Sprintf("host.Config.Steps.%s.After[%d]", plan[i].Name, k)
	})
	return plan, err
}

// check says what is wrong with a step by itself.
func (s *Step) check(name string) error {
	field := "host.Config.Steps." + name
	switch {
	case s.Run == nil:
		return shared.Invalidf(field+".Run", "is not set")
	case s.Timeout < 0:
		return shared.Invalidf(field+".Timeout", "is %s; 0 means %s", s.Timeout, StepTimeout)
	case s.Concurrency < 0 || s.Concurrency > shared.MaxDeliveries:
		return shared.Invalidf(field+".Concurrency", "is %d; 1 to %d, or 0 for %d", s.Concurrency, shared.MaxDeliveries,
			StepConcurrency)
	}
	return nil
}

// withDefaults fills in what is not set.
func (s Step) withDefaults() Step {
	if s.Timeout == 0 {
		s.Timeout = stepTimeout
	}
	if s.Concurrency == 0 {
		s.Concurrency = StepConcurrency
	}
	return s
}

// stepTimeout is StepTimeout, for tests to shorten.
var stepTimeout = StepTimeout
