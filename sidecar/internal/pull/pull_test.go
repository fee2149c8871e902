package pull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chat-recall/recall/shared"
)

// plugin stands for the plugin: it stores outcomes.
type plugin struct {
	mu     sync.Mutex
	stored map[string]shared.Outcome // by step key
	fail   error
	slow   time.Duration
}

func (p *plugin) settle(ctx context.Context, key, step string, o shared.Outcome, _ error) error {
	select {
	case <-time.After(p.slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	p.stored[key+":"+step] = o
	return nil
}

func newBroker(atATime int) (*Broker, *plugin) {
	p := &plugin{stored: map[string]shared.Outcome{}}
	return New(map[string]Step{
		"history": {Lease: time.Minute, AtATime: atATime}, "notify": {Lease: time.Minute, AtATime: atATime},
	}, p.settle), p
}

func due(n uint64, step string, attempt int) shared.Delivery {
	return shared.Delivery{Step: step, Attempt: attempt, Event: shared.Event{
		Sequence: n, Tenant: "acme", RecallID: fmt.Sprint("r", n), Message: shared.Message{ID: fmt.Sprint("m", n)},
	}}
}

// run starts the Run of a delivery.
func run(ctx context.Context, b *Broker, d shared.Delivery) <-chan result {
	out := make(chan result, 1)
	go func() {
		o, err := b.Run(ctx, d)
		out <- result{o, err}
	}()
	return out
}

func take(t *testing.T, b *Broker, most int, steps ...string) []Leased {
	t.Helper()
	if len(steps) == 0 {
		steps = b.Steps()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return b.Take(ctx, steps, most)
}

func ids(list []Leased) (out []string) {
	for _, l := range list {
		out = append(out, fmt.Sprintf("%s %s", l.Message.ID, l.Step))
	}
	return out
}

func TestTake_OrderAndLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(3)
		ctx, cancel := context.WithCancel(t.Context())
		for n := uint64(5); n > 0; n-- {
			run(ctx, b, due(n, "history", 1))
		}
		run(ctx, b, due(2, "notify", 1))
		synctest.Wait()
		if got := ids(take(t, b, 2)); !slices.Equal(got, []string{"m1 history", "m2 history"}) {
			t.Errorf("the oldest first: %v", got)
		}
		if got := ids(take(t, b, 10, "history")); !slices.Equal(got, []string{"m3 history"}) {
			t.Errorf("at_a_time is 3: %v", got)
		}
		if got := ids(take(t, b, 10)); !slices.Equal(got, []string{"m2 notify"}) {
			t.Errorf("the other step: %v", got)
		}
		want := []Count{{Step: "history", Waiting: 2, Leased: 3}, {Step: "notify", Leased: 1}}
		got := b.Counts()
		if got[0].Since.IsZero() || !got[1].Since.IsZero() {
			t.Errorf("%+v", got)
		}
		if got[0].Since = (time.Time{}); !slices.Equal(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if got := take(t, b, 10); got != nil {
			t.Errorf("leased twice: %v", ids(got))
		}
		cancel()
		synctest.Wait()
		if len(b.open)+len(b.waiters)+b.leased["history"]+b.leased["notify"] != 0 {
			t.Errorf("left: %v %v %v", b.open, b.waiters, b.leased)
		}
	})
}

func TestTake_WaitsUntilThereIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(100)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := make(chan []Leased, 3)
		for range 3 {
			go func() { got <- b.Take(ctx, b.Steps(), 10) }()
		}
		synctest.Wait()
		for n := range uint64(3) {
			run(ctx, b, due(n+1, "history", 1))
			synctest.Wait()
			if list := <-got; len(list) != 1 {
				t.Errorf("%v", ids(list))
			}
		}
		if list := take(t, b, 1); list != nil {
			t.Errorf("%v", ids(list))
		}
	})
}

// A Take that was woken and has to go must not keep what it was woken for from the others.
func TestTake_WokenAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(100)
		first, leave := context.WithCancel(t.Context())
		none := make(chan []Leased, 1)
		go func() { none <- b.Take(first, b.Steps(), 10) }()
		synctest.Wait()
		got := make(chan []Leased, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() { got <- b.Take(ctx, b.Steps(), 10) }()
		synctest.Wait()
		b.mu.Lock()
		leave()
		d := due(1, "history", 1)
		b.open[StepKey(&d)] = &delivery{Delivery: d, key: StepKey(&d), result: make(chan result, 1)}
		b.wake("history")
		b.mu.Unlock()
		if len(<-none)+len(<-got) != 1 {
			t.Error("nobody has it")
		}
	})
}

func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := newBroker(100)
		p.slow = time.Millisecond
		for i, outcome := range []shared.Outcome{
			shared.OutcomeDone, shared.OutcomeNothingToDo, shared.OutcomeUnsupported, shared.OutcomeFailed,
		} {
			d := due(uint64(i+1), "history", 2)
			ended := run(t.Context(), b, d)
			synctest.Wait()
			leased := take(t, b, 1)
			if leased[0].ID != ID(&d) || time.Until(leased[0].Until) != time.Minute {
				t.Fatalf("%+v", leased)
			}
			var cause error
			if outcome == shared.OutcomeFailed {
				cause = errors.New("no room")
			}
			if ok, err := b.Settle(t.Context(), leased[0].ID, outcome, cause); !ok || err != nil {
				t.Fatalf("%s: %v %v", outcome, ok, err)
			}
			r := <-ended
			if outcome == shared.OutcomeFailed {
				if r.outcome != shared.OutcomeFailed || r.cause != cause || p.stored[StepKey(&d)] != "" {
					t.Errorf("%+v, stored %v", r, p.stored)
				}
				continue
			}
			if r.outcome != shared.OutcomeDeferred || r.cause != nil || p.stored[StepKey(&d)] != outcome {
				t.Errorf("%+v, stored %v", r, p.stored)
			}
		}
	})
}

func TestSettle_Late(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := newBroker(100)
		d := due(1, "history", 1)
		ended := run(t.Context(), b, d)
		synctest.Wait()
		id := take(t, b, 1)[0].ID
		time.Sleep(time.Minute)
		synctest.Wait()
		if r := <-ended; r.outcome != shared.OutcomeFailed || !strings.Contains(r.cause.Error(), "settled it within 1m0s") {
			t.Errorf("%+v", r)
		}
		func() { // a failure does not count
			if ok, err := b.Settle(t.Context(), id, shared.OutcomeFailed, errors.New("x")); ok || err != nil {
				t.Error(ok, err)
			}
		}()
		second := run(t.Context(), b, due(1, "history", 2))
		synctest.Wait()
		take(t, b, 1)
		func() { // nor does one of an earlier attempt
			if ok, err := b.Settle(t.Context(), id, shared.OutcomeFailed, errors.New("x")); ok || err != nil {
				t.Error(ok, err)
			}
		}()
		func() { // a success counts, and ends the later attempt
			if ok, err := b.Settle(t.Context(), id, shared.OutcomeDone, nil); !ok || err != nil ||
				p.stored[StepKey(&d)] != "done" {
				t.Error(ok, err, p.stored)
			}
			if r := <-second; r.outcome != shared.OutcomeDeferred {
				t.Errorf("%+v", r)
			}
		}()
		func() { // what the plugin does not know is late
			p.fail = shared.Invalidf("key", "there is no such event")
			if ok, err := b.Settle(t.Context(), id, shared.OutcomeDone, nil); ok || err != nil {
				t.Error(ok, err)
			}
		}()
	})
}

func TestSettle_PluginAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := newBroker(100)
		ended := run(t.Context(), b, due(1, "history", 1))
		synctest.Wait()
		id := take(t, b, 1)[0].ID
		p.fail = shared.ErrUnavailable
		if ok, err := b.Settle(t.Context(), id, shared.OutcomeDone, nil); ok || !errors.Is(err, shared.ErrUnavailable) {
			t.Fatal(ok, err)
		}
		func() { // the lease goes on, and the worker can try again
			p.fail = nil
			if ok, err := b.Settle(t.Context(), id, shared.OutcomeDone, nil); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if r := <-ended; r.outcome != shared.OutcomeDeferred {
				t.Errorf("%+v", r)
			}
		}()
		func() { // a lease that ends meanwhile ends with the call
			ended := run(t.Context(), b, due(2, "history", 1))
			synctest.Wait()
			id := take(t, b, 1)[0].ID
			p.fail, p.slow = shared.ErrUnavailable, 2*time.Minute
			if ok, err := b.Settle(t.Context(), id, shared.OutcomeDone, nil); ok || !errors.Is(err, shared.ErrUnavailable) {
				t.Fatal(ok, err)
			}
			if r := <-ended; r.outcome != shared.OutcomeFailed || !errors.Is(r.cause, shared.ErrUnavailable) {
				t.Errorf("%+v", r)
			}
		}()
	})
}

func TestSettle_Invalid(t *testing.T) {
	b, _ := newBroker(1)
	d, other := due(1, "history", 1), due(1, "search", 1)
	for _, c := range []struct {
		id      string
		outcome shared.Outcome
		cause   error
		field   string
	}{
		{"", "done", nil, "id"},
		{"x:history:1", "done", nil, "id"},
		{StepKey(&d), "done", nil, "id"},
		{StepKey(&d) + ":one", "done", nil, "id"},
		{ID(&other), "done", nil, "id"},
		{strings.Repeat("a:", 1<<20), "done", nil, "id"},
		{ID(&d), "deferred", nil, "outcome"},
		{ID(&d), "", nil, "outcome"},
		{ID(&d), "done", errors.New("x"), "error"},
	} {
		_, err := b.Settle(t.Context(), c.id, c.outcome, c.cause)
		var field *shared.FieldError
		if !errors.As(err, &field) || field.Field != c.field || len(field.Problem) > 400 {
			t.Errorf("%.40q %s: %v", c.id, c.outcome, err)
		}
	}
}

// What was leased to a worker that has gone is there for the next one at once.
func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newBroker(1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		run(ctx, b, due(1, "history", 1))
		synctest.Wait()
		first := take(t, b, 1)
		time.Sleep(time.Second)
		b.Release(first)
		again := take(t, b, 1)
		if len(again) != 1 || again[0].ID != first[0].ID {
			t.Errorf("%v", ids(again))
		}
		time.Sleep(time.Second)
		b.Release(first) // of a lease that has ended: nothing
		b.Release([]Leased{{Delivery: due(9, "history", 1)}})
		if got := take(t, b, 1); got != nil {
			t.Errorf("%v", ids(got))
		}
	})
}

// However callers come and go, each delivery is settled once and none is forgotten.
func TestBroker_Crowd(t *testing.T) {
	b, p := newBroker(50)
	const deliveries = 2000
	ctx, cancel := context.WithCancel(t.Context())
	var workers, runs sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for ctx.Err() == nil {
				wait, done := context.WithTimeout(ctx, 5*time.Millisecond)
				for i, l := range b.Take(wait, b.Steps(), 7) {
					if i == 3 {
						b.Release([]Leased{l})
						continue
					}
					if ok, err := b.Settle(t.Context(), l.ID, shared.OutcomeDone, nil); !ok || err != nil {
						t.Error(l.ID, ok, err)
					}
				}
				done()
			}
		})
	}
	for n := range uint64(deliveries) {
		runs.Go(func() {
			if o, err := b.Run(t.Context(), due(n, "history", 1)); o != shared.OutcomeDeferred || err != nil {
				t.Error(n, o, err)
			}
		})
	}
	runs.Wait()
	cancel()
	workers.Wait()
	if len(p.stored) != deliveries || len(b.open) != 0 || b.leased["history"] != 0 {
		t.Errorf("%d stored, %d open, %d leased", len(p.stored), len(b.open), b.leased["history"])
	}
}
