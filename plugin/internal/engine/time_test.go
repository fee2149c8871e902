package engine

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/plugin/internal/delivery"
	"github.com/chat-recall/recall/shared"
)

// jumps are what people and NTP do to a wall clock.
var jumps = []time.Duration{0, time.Hour, -time.Hour, -24 * time.Hour, 40 * 365 * 24 * time.Hour}

func TestClock_JumpsChangeNeitherBackoffNorLedger(t *testing.T) {
	for _, jump := range jumps {
		t.Run(fmt.Sprint(jump), func(t *testing.T) {
			r := newActive(t, "")
			r.index(r.message("a"))
			r.recall(request("r", "a"))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			events := make(chan settler, 10)
			go func() {
				ended <- r.deliver(ctx, func(s settler) { events <- s })
			}()
			const failures = 6
			for attempt := 1; attempt <= failures; attempt++ {
				e := <-events
				if e.Attempt != attempt || len(events) > 0 {
					t.Fatalf("attempt %d, want %d; %d others", e.Attempt, attempt, len(events))
				}
				if err := e.settle(ctx, shared.OutcomeFailed, fmt.Errorf("cause %d", attempt)); err != nil {
					t.Fatal(err)
				}
				if attempt == 1 {
					r.clock.Shift(jump)
				}
				delay := delivery.FirstRetry << (attempt - 1)
				r.clock.WaitArmed(r.clock.Elapsed() + delay)
				r.clock.Advance(delay - 1)
				if r.metric("recall_step_in_flight", "step", "notify"); len(events) > 0 {
					t.Fatalf("attempt %d came before its time", attempt+1)
				}
				r.clock.Advance(1)
			}
			<-events
			cancel()
			<-ended
			s := r.ledger("r")[0].Steps[0]
			if s.Attempts != failures || s.Error != fmt.Sprint("cause ", failures) || s.Outcome != shared.OutcomeFailed {
				t.Errorf("the ledger has %+v", s)
			}
		})
	}
}

func TestClock_JumpsChangeNoLimit(t *testing.T) {
	const text = `
limit "few" {
  key  = actor.id
  rate = "2/1m"
}
permit "own" {
  sender = true
  limit  = "few"
}
`
	for _, jump := range jumps {
		t.Run(fmt.Sprint(jump), func(t *testing.T) {
			r := newActive(t, text)
			recalled := func(id string) shared.RecallResult {
				t.Helper()
				r.index(r.message(id))
				return r.recall(request("r-"+id, id))[0]
			}
			for _, id := range []string{"a", "b"} {
				if got := recalled(id); got.Status != shared.StatusRecalled {
					t.Fatalf("%s: %+v", id, got)
				}
			}
			r.clock.Advance(20 * time.Second)
			r.clock.Shift(jump)
			got := recalled("c")
			if want := r.clock.Now().Add(40 * time.Second); got.Code != shared.CodeRateLimited || !got.RetryAt.Equal(want) {
				t.Errorf("within the minute: %+v, want to try again at %s", got, want)
			}
			r.clock.Advance(40 * time.Second)
			if got := recalled("d"); got.Status != shared.StatusRecalled {
				t.Errorf("after the minute: %+v", got)
			}
		})
	}
}

func TestRecall_Held(t *testing.T) {
	held := func(id string, d time.Duration) shared.RecallRequest {
		req := request("r-"+id, id)
		req.Held = d
		return req
	}
	r := newActive(t, "")
	r.index(r.message("a"), r.message("b"), r.message("c"))
	sent := r.clock.Now()
	r.clock.Advance(10 * time.Second)
	t.Run("is judged by when it was made", func(t *testing.T) {
		got := r.recall(held("a", 4*time.Second))[0]
		if want := sent.Add(6 * time.Second); got.Status != shared.StatusRecalled || !got.RecalledAt.Equal(want) {
			t.Errorf("%+v, want it at %s", got, want)
		}
	})
	t.Run("is never before the message was sent", func(t *testing.T) {
		if got := r.recall(held("b", time.Hour))[0]; got.Status != shared.StatusRecalled || !got.RecalledAt.Equal(sent) {
			t.Errorf("%+v, want it at %s", got, sent)
		}
	})
	ahead := func(id string) shared.Message { // by a server whose clock is ahead
		m := r.message(id)
		m.SentAt = m.SentAt.Add(3 * time.Second)
		return m
	}
	t.Run("for no time is made now", func(t *testing.T) {
		r.index(ahead("now"))
		if got := r.recall(held("now", 0))[0]; got.Status != shared.StatusRecalled || !got.RecalledAt.Equal(r.clock.Now()) {
			t.Errorf("%+v, want it at %s", got, r.clock.Now())
		}
	})
	t.Run("does not change the time that a request has", func(t *testing.T) {
		r.index(ahead("then"))
		req := held("then", time.Minute)
		req.RequestedAt = r.clock.Now().Add(-time.Second)
		if got := r.recall(req)[0]; got.Status != shared.StatusRecalled || !got.RecalledAt.Equal(req.RequestedAt) {
			t.Errorf("%+v, want it at %s", got, req.RequestedAt)
		}
	})
	t.Run("is not refused after the clock was set back", func(t *testing.T) {
		r.clock.Shift(-time.Hour)
		if got := r.recall(held("c", 2*time.Second))[0]; got.Status != shared.StatusRecalled {
			t.Errorf("%+v", got)
		}
	})
}

func TestDeliver_NotifyNotSettled(t *testing.T) {
	r := newActive(t, "")
	r.clock.WaitArmed(delivery.NotifyFirst) // for what was there before
	r.clock.Advance(delivery.NotifyFirst)
	r.index(r.message("a"))
	r.recall(request("r", "a"))
	r.clock.WaitArmed(r.clock.Elapsed() + delivery.NotifyFirst)
	ctx, cancel := context.WithCancel(t.Context())
	steps, ended := make(chan string, 10), make(chan error, 1)
	go func() { ended <- r.deliver(ctx, func(s settler) { steps <- s.Step }) }()
	if step := <-steps; step != shared.StepNotify {
		t.Errorf("%s is delivered first", step)
	}
	r.clock.Advance(delivery.NotifyFirst - 1)
	if n := r.metric("recall_step_in_flight"); n != 1 {
		t.Errorf("%v steps are delivered before the time is up", n)
	}
	r.clock.Advance(1)
	got := []string{<-steps, <-steps}
	if slices.Sort(got); !slices.Equal(got, []string{"history", "wipe"}) {
		t.Errorf("then %v", got)
	}
	cancel()
	<-ended
}

func TestRecall_IDOfAnotherActor(t *testing.T) {
	r := newActive(t, "")
	other := r.message("b")
	other.Sender = "bob"
	r.index(r.message("a"), other)
	r.recall(request("r", "a"))
	req := request("r", "b")
	req.Actor.ID = "bob"
	for name, call := range map[string]func(context.Context, shared.RecallRequest) ([]shared.RecallResult, error){
		"Check": r.Check, "Recall": r.Recall,
	} {
		got, err := call(t.Context(), req)
		want := shared.RecallResult{MessageID: "b", Status: shared.StatusDenied, Code: shared.CodeRecallIDUsed,
			Text: shared.Words(shared.StatusDenied, shared.CodeRecallIDUsed)}
		if err != nil || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	req.Targets = targets("a") // nothing of it is recalled
	if got := r.recall(req)[0]; got.Status != shared.StatusAlreadyRecalled {
		t.Errorf("a recalled message: %+v", got)
	}
}
