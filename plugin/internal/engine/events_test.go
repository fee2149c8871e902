package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/delivery"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

// outcomes are those of the steps of a recall, in the order of the ledger.
func (r *rig) outcomes(recallID string) []string {
	r.t.Helper()
	var out []string
	for _, e := range r.ledger(recallID) {
		for _, s := range e.Steps {
			out = append(out, fmt.Sprintf("%s=%s/%d", s.Step, s.Outcome, s.Attempts))
		}
	}
	return out
}

func TestDeliver_NotifyFirst(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"))
	r.recall(request("r", "a"))
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan shared.Delivery, 10)
	var settlers sync.Map
	ended := make(chan error, 1)
	go func() {
		ended <- r.deliver(ctx, func(s settler) {
			settlers.Store(s.Step, s)
			events <- s.Delivery
		})
	}()
	settle := func(step string, o shared.Outcome, cause error) {
		t.Helper()
		s, _ := settlers.Load(step)
		if err := s.(settler).settle(ctx, o, cause); err != nil {
			t.Fatal(err)
		}
	}
	e := <-events
	if e.Step != "notify" || e.Attempt != 1 || e.Message.ID != "a" || e.RecallID != "r" {
		t.Fatalf("first delivery %+v", e)
	}
	settle("notify", shared.OutcomeFailed, errors.New("nobody listens"))
	if n := r.metric("recall_step_backing_off", "step", "notify"); n != 1 || len(events) > 0 {
		t.Fatalf("%v back off, %d delivered", n, len(events))
	}
	r.clock.Advance(delivery.FirstRetry)
	if e := <-events; e.Step != "notify" || e.Attempt != 2 {
		t.Fatalf("second delivery %+v", e)
	}
	settle("notify", shared.OutcomeDone, nil)
	rest := []string{(<-events).Step, (<-events).Step}
	slices.Sort(rest)
	if !slices.Equal(rest, []string{"history", "wipe"}) {
		t.Fatalf("then %v", rest)
	}
	settle("history", shared.OutcomeDone, nil)
	settle("wipe", shared.OutcomeNothingToDo, nil)
	settle("history", shared.OutcomeFailed, nil) // it has its outcome
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Events ended with %v", err)
	}
	want := []string{"notify=done/2", "history=done/1", "offline=unsupported/0", "roaming=unsupported/0",
		"attachments=unsupported/0", "search=unsupported/0", "push=unsupported/0", "wipe=nothing_to_do/1"}
	if got := r.outcomes("r"); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// Handles run side by side, fail at random and lose their consumer; in the end every step of every recall is settled.
func TestDeliver_UnreliableHost(t *testing.T) {
	r := newActive(t, "")
	const all = 300
	for i := range all {
		r.index(r.message(fmt.Sprint(i)))
	}
	var mu sync.Mutex
	settled := map[string]int{}
	everything := make(chan struct{})
	handle := func(s settler) {
		key := fmt.Sprint(s.Step, s.Sequence)
		if s.Attempt == 1 && s.Sequence%7 == 0 {
			_ = s.settle(t.Context(), shared.OutcomeFailed, errors.New("not now"))
			return
		}
		if err := s.settle(t.Context(), shared.OutcomeDone, nil); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if settled[key]++; len(settled) == 3*all && settled[key] == 1 {
			close(everything)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var consumers sync.WaitGroup
	for i := range all {
		if i%60 == 0 { // a newer consumer
			consumers.Go(func() { _ = r.deliver(ctx, handle) })
		}
		r.recall(request(fmt.Sprint("r", i), fmt.Sprint(i)))
	}
	consumers.Go(func() { _ = r.deliver(ctx, handle) })
	tick := time.NewTicker(time.Millisecond) // the clock of the retries
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-everything:
			done = true
		case <-tick.C:
			r.clock.Advance(delivery.FirstRetry)
		}
	}
	cancel()
	consumers.Wait()
	for i := range all {
		for _, s := range r.outcomes(fmt.Sprint("r", i)) {
			if slices.Contains([]string{"notify=/0", "history=/0", "wipe=/0"}, s) {
				t.Fatalf("recall %d: %s", i, s)
			}
		}
	}
}

func TestDeliver_AfterARestart(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"), r.message("b"))
	r.recall(request("r", "a", "b"))
	if err := r.settleStep(t.Context(), 1, "notify", shared.OutcomeDone, ""); err != nil {
		t.Fatal(err)
	}
	if err := r.settleStep(t.Context(), 2, "notify", shared.OutcomeFailed, "not now"); err != nil {
		t.Fatal(err)
	}
	if err := r.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.activate()
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan shared.Delivery, 10)
	ended := make(chan error, 1)
	go func() { ended <- r.deliver(ctx, func(s settler) { events <- s.Delivery }) }()
	var got []string
	for i := range 3 {
		if i == 2 { // what failed comes after its delay
			r.clock.WaitArmed(r.clock.Elapsed() + delivery.FirstRetry)
			r.clock.Advance(delivery.FirstRetry)
		}
		e := <-events
		got = append(got, fmt.Sprint(e.Sequence, " ", e.Step, " ", e.Attempt))
	}
	cancel()
	<-ended
	slices.Sort(got)
	if want := []string{"1 history 1", "1 wipe 1", "2 notify 2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// fullLog refuses the next Append, as an index does for which too much is waiting.
type fullLog struct {
	journal.Log
	full bool
}

func (l *fullLog) AppendThen(ops []index.Op, alone bool, then func([]index.Result, error)) {
	if l.full {
		l.full = false
		then(nil, fmt.Errorf("%w: too much is waiting", shared.ErrOverloaded))
		return
	}
	l.Log.AppendThen(ops, alone, then)
}

func TestSettle_OutcomeNotRecorded(t *testing.T) {
	r := newActive(t, "")
	log := &fullLog{Log: r.active.log}
	r.active.log = log
	r.index(r.message("a"))
	r.recall(request("r", "a"))
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan shared.Delivery, 10)
	ended := make(chan error, 1)
	go func() { ended <- r.deliver(ctx, func(s settler) { events <- s.Delivery }) }()
	e := <-events
	for _, outcome := range []shared.Outcome{shared.OutcomeFailed, shared.OutcomeDone} {
		log.full = true
		if err := r.settleStep(ctx, e.Sequence, "notify", outcome, ""); !errors.Is(err, shared.ErrOverloaded) {
			t.Fatal(err)
		}
		r.clock.Advance(delivery.NotifyFirst / 4) // long after a retry; before the other steps start without it
		if n := r.metric("recall_step_in_flight", "step", "notify"); n != 1 || len(events) > 0 {
			t.Errorf("%s, not recorded: %v with the consumer, %d delivered again", outcome, n, len(events))
		}
	}
	if err := r.settleStep(ctx, e.Sequence, "notify", shared.OutcomeDone, ""); err != nil {
		t.Fatal(err)
	}
	<-events
	<-events // history and wipe
	cancel()
	<-ended
	if len(events) > 0 {
		t.Errorf("delivered again: %+v", <-events)
	}
}
