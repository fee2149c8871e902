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
	// Run carries out the step for one recalled message. It is called at least once. It is called again after an error,
	// and if the server or the plugin died before the outcome was on disk. It is not called again after the outcome is
	// recorded. Calls for different recalls, and for different steps of one recall, run concurrently. The step "notify"
	// comes first, so that it can still read what it shows: the other steps of a recall start when notify is settled, or
	// 30 s after the recall. See After for another order.
	//
	// Run returns OutcomeDone, OutcomeNothingToDo if the server holds nothing of the message, or OutcomeUnsupported if it
	// cannot carry out the step for this message. Each of them is final. After an error, OutcomeFailed or a panic, Run is
	// called again, after a delay that grows from 100 ms to a minute. OutcomeDeferred says that another part of the system
	// carries out the step and calls [Host.Settle]. No attempt is counted, and Run is called again only if the plugin or
	// the host starts again before that.
	//
	// ctx ends after Timeout, or when the host is closed. An attempt that does not return then is given up: it counts as
	// failed, and the next attempt may start while it still runs. If it succeeds later, while the step is open, it settles
	// the step.
	Run func(ctx context.Context, d shared.Delivery) (shared.Outcome, error)

	// Verify, if not nil, checks that the message is gone after Run returned OutcomeDone. A storage system may report
	// success although its server is gone. If Verify returns an error, the attempt failed and the step runs again. Run and
	// Verify share one Timeout.
	Verify func(ctx context.Context, d shared.Delivery) error

	// After names steps of this host that must be settled before Run is called for the same recall: done, nothing to do,
	// or unsupported. A step that the recall does not have counts as settled. A step that keeps failing, or that a later
	// host does not have, delays this step for as long as it is open, also across crashes of the server and the plugin.
	// "notify" comes first by default, and delays the other steps by at most 30 s; a step that names it here waits without
	// that limit. Notify itself waits for no step. A recall keeps the order that was set when it was committed.
	After []string

	// EachNode says that in a cluster every node runs the step, for its own clients and caches. Otherwise one node does it
	// for all: choose that for what the nodes share, such as a database. Notify is always run by every node, and counts
	// as settled when the last of them has settled it. A node that is gone delays nothing; when it is back, it runs what
	// it missed. On a single machine EachNode changes nothing.
	EachNode bool

	Timeout     time.Duration // of one attempt, Run and Verify together; 0 means StepTimeout
	Concurrency int           // concurrent attempts, 1 to shared.MaxDeliveries; 0 means StepConcurrency
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
		plan = append(plan, wire.StepPlan{
			Name: name, After: slices.Clone(step.After), EachNode: step.EachNode || name == shared.StepNotify,
		})
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
