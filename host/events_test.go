package host

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// A plugin that is started while an attempt runs can count it as failed, and deliver the next one before that ends.
func TestWorker_DeliveredAgainWhileUnderWay(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := make(chan int, 10)
	w := newWorker(ctx, map[string]Step{"wipe": {Run: func(
		ctx context.Context, e shared.Delivery,
	) (shared.Outcome, error) {
		calls <- e.Attempt
		<-ctx.Done()
		return "", ctx.Err()
	}}}, newGate(nil), hclog.NewNullLogger())
	for attempt := 1; attempt <= 2; attempt++ {
		w.take(shared.Delivery{Step: "wipe", Attempt: attempt, Event: shared.Event{Sequence: 7}})
	}
	if first := <-calls; first != 1 {
		t.Errorf("attempt %d ran first", first)
	}
	if got := w.finish(w.pending[work{7, "wipe"}], false); got != 2 {
		t.Errorf("its outcome is that of attempt %d, want 2", got)
	}
	cancel()
	w.handed.Wait()
	if len(calls) > 0 {
		t.Error("the second delivery ran beside the first")
	}
}

// The plugin waits for the outcome of the attempt that it delivered last.
func TestWorker_DeferredAfterALaterDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		goOn := make(chan struct{})
		w := newWorker(ctx, map[string]Step{"wipe": {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
			<-goOn
			return shared.OutcomeDeferred, nil
		}}}, newGate(nil), hclog.NewNullLogger())
		for attempt := 1; attempt <= 2; attempt++ {
			if err := w.take(shared.Delivery{Step: "wipe", Attempt: attempt, Event: shared.Event{Sequence: 7}}); err != nil {
				t.Fatal(err)
			}
		}
		close(goOn)
		synctest.Wait() // until its outcome waits to be reported
		if n := len(w.reports.waiting); n != 1 {
			t.Fatalf("%d outcomes wait", n)
		}
		if o := w.reports.waiting[0]; o.Attempt != 2 || o.Outcome != shared.OutcomeDeferred {
			t.Errorf("%s of attempt %d is reported; want that of attempt 2", o.Outcome, o.Attempt)
		}
		cancel()
		w.handed.Wait()
	})
}

func TestWorker_TooManyAbandonedAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := make(chan string, 10)
		step := func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
			calls <- e.Step
			return shared.OutcomeDone, nil
		}
		w := newWorker(ctx, map[string]Step{"wipe": {Run: step}, "previews": {Run: step}}, newGate(nil),
			hclog.NewNullLogger())
		w.steps["wipe"].abandoned = maxAbandoned
		for _, name := range []string{"wipe", "previews"} {
			if err := w.take(shared.Delivery{Step: name, Attempt: 1, Event: shared.Event{Sequence: 1}}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // until both wait for a plugin to report to
		if len(calls) != 1 || <-calls != "previews" {
			t.Error("a step with too many attempts that still run was called, or the other one was not")
		}
		cancel()
		w.handed.Wait()
	})
}

func TestWorker_ClosingStartsNoAttempt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var calls atomic.Int64
	w := newWorker(ctx, map[string]Step{"wipe": {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
		calls.Add(1)
		return shared.OutcomeDone, nil
	}}}, newGate(nil), hclog.NewNullLogger())
	for sequence := range uint64(100) {
		if err := w.take(shared.Delivery{Step: "wipe", Attempt: 1, Event: shared.Event{Sequence: sequence}}); err != nil {
			t.Fatal(err)
		}
	}
	w.handed.Wait()
	if n := calls.Load(); n > 0 || len(w.pending) > 0 {
		t.Errorf("%d attempts began while the host was closing, %d are said to run", n, len(w.pending))
	}
}
