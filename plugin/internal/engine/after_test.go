package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

func TestAfter_OrderOfDeliveries(t *testing.T) {
	steps := []wire.StepPlan{
		{Name: "notify"}, {Name: "wipe"}, {Name: "history", After: []string{"search"}},
		{Name: "search", After: []string{"wipe"}},
	}
	const short = `permit "own" {
		sender = true
		on_recall { steps = ["notify", "history", "wipe"] }
	}`
	for name, c := range map[string]struct {
		rules string
		want  []string
	}{
		"all steps":                          {"", []string{"notify", "wipe", "search", "history"}},
		"a recall that lacks the middle one": {short, []string{"notify", "wipe", "history"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStandby(t, c.rules)
			if err := r.Activate(t.Context(), steps); err != nil {
				t.Fatal(err)
			}
			r.index(r.message("a"))
			r.recall(request("r", "a"))
			var got []string
			for range c.want {
				s, end := r.first(t)
				got = append(got, s.Step)
				if n := len(r.active.dispatcher.InFlight()); n != len(steps) {
					t.Fatalf("%d queues", n)
				}
				for step, n := range r.active.dispatcher.InFlight() {
					if n > 0 && step != s.Step {
						t.Errorf("%s is delivered before %s is settled", step, s.Step)
					}
				}
				if err := s.settle(t.Context(), shared.OutcomeFailed, errors.New("not now")); err != nil {
					t.Fatal(err)
				}
				for step, n := range r.active.dispatcher.InFlight() {
					if n > 0 {
						t.Errorf("%s is delivered after %s failed", step, s.Step)
					}
				}
				err := s.settle(t.Context(), shared.OutcomeDone, nil)
				if end(); err != nil {
					t.Fatal(err)
				}
				if err := r.Quiesce(t.Context()); err != nil { // the next process goes on
					t.Fatal(err)
				}
				r.start()
				if err := r.Activate(t.Context(), plan("notify", "history", "search", "wipe")); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			for _, e := range r.ledger("r") {
				for _, s := range e.Steps {
					if !s.Outcome.Settles() {
						t.Errorf("%+v", s)
					}
				}
			}
		})
	}
}

// first is the first delivery to a consumer, which end stops.
func (r *rig) first(t *testing.T) (s settler, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	deliveries, ended := make(chan settler, 100), make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.deliver(ctx, func(s settler) { deliveries <- s })
	}()
	select {
	case s = <-deliveries:
	case <-ctx.Done():
		t.Fatal("nothing is delivered")
	}
	return s, func() { cancel(); <-ended }
}
