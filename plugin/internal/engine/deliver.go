package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/chat-recall/recall/shared"
)

// Deliver is [wire.Plugin].
func (e *Engine) Deliver(ctx context.Context, handle func([]shared.Delivery)) error {
	a, leave, err := e.enter()
	if err != nil {
		return err
	}
	leave() // Quiesce waits for the dispatcher, but not for handle
	return a.dispatcher.Run(ctx, handle)
}

// Retry is [wire.Plugin].
func (e *Engine) Retry(_ context.Context, steps []string) error {
	a, leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	for i, step := range steps {
		if _, ok := slices.BinarySearch(a.steps, step); !ok {
			return shared.Invalidf(fmt.Sprintf("steps[%d]", i), "%.80q is no step of this host; it has %s", step,
				strings.Join(a.steps, ", "))
		}
	}
	if len(steps) == 0 {
		steps = a.steps
	}
	a.dispatcher.Retry(steps)
	return nil
}
