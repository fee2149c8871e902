package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

// countingLog counts operations that were appended.
type countingLog struct {
	journal.Log
	appends, ops atomic.Int64
	fail         error // instead
}

func (l *countingLog) AppendThen(ops []index.Op, alone bool, then func([]index.Result, error)) {
	l.appends.Add(1)
	l.ops.Add(int64(len(ops)))
	if l.fail != nil {
		then(nil, l.fail)
		return
	}
	l.Log.AppendThen(ops, alone, then)
}

// recalledMany is an active engine with so many recalled messages, of which nothing but notify is open.
func recalledMany(t *testing.T, n int) (*rig, *countingLog) {
	t.Helper()
	r := newActive(t, "")
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprint("m", i))
		r.index(r.message(ids[i]))
	}
	r.recall(request("r", ids...))
	log := &countingLog{Log: r.active.log}
	r.active.log = log
	return r, log
}

func done(sequence uint64, step string) wire.Settlement {
	return wire.Settlement{Sequence: sequence, Step: step, Attempt: 1, Outcome: shared.OutcomeDone}
}

func TestSettle(t *testing.T) {
	t.Run("is one operation of the log", func(t *testing.T) {
		r, log := recalledMany(t, 3)
		failed := wire.Settlement{Sequence: 2, Step: "notify", Outcome: shared.OutcomeFailed, Error: "not now"}
		errs, err := r.Settle(t.Context(), []wire.Settlement{done(1, "notify"), failed, done(3, "notify")})
		if err != nil || len(errs) != 3 || errors.Join(errs...) != nil {
			t.Fatalf("got %v, %v", errs, err)
		}
		if log.appends.Load() != 1 || log.ops.Load() != 3 {
			t.Errorf("%d appends of %d operations", log.appends.Load(), log.ops.Load())
		}
		var got []string
		for _, s := range r.outcomes("r") {
			if strings.HasPrefix(s, "notify") {
				got = append(got, s)
			}
		}
		if want := []string{"notify=done/1", "notify=failed/1", "notify=done/1"}; !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
		if r.metric("recall_steps_total", "outcome", "done") != 2 ||
			r.metric("recall_steps_total", "outcome", "failed") != 1 {
			t.Errorf("counted %v done, %v failed", r.metric("recall_steps_total", "outcome", "done"),
				r.metric("recall_steps_total", "outcome", "failed"))
		}
	})
	t.Run("one that is refused does not refuse the others", func(t *testing.T) {
		r, _ := recalledMany(t, 2)
		long := done(1, "notify")
		long.Error = strings.Repeat("x", shared.MaxStepErrorBytes+1)
		for name, tc := range map[string]struct {
			refused wire.Settlement
			field   string
		}{
			"no such event":       {done(99, "notify"), "sequence"},
			"no such step":        {done(1, "paint"), "step"},
			"a step that waits":   {done(2, "history"), "step"},
			"an error too long":   {long, "error"},
			"no name of a step":   {done(1, "No Step"), "step"},
			"an unknown outcome":  {wire.Settlement{Sequence: 1, Step: "notify"}, "outcome"},
			"a negative attempt ": {wire.Settlement{Sequence: 1, Step: "notify", Attempt: -1}, "attempt"},
		} {
			errs, err := r.Settle(t.Context(), []wire.Settlement{done(1, "notify"), tc.refused, done(1, "wipe")})
			if err != nil || len(errs) != 3 {
				t.Fatalf("%s: got %v, %v", name, errs, err)
			}
			field(t, name, errs[1], tc.field)
		}
		if got := r.outcomes("r"); !slices.Contains(got, "notify=done/1") || !slices.Contains(got, "wipe=done/1") ||
			!slices.Contains(got, "history=/0") {
			t.Errorf("got %v", got)
		}
	})
	t.Run("steps in the order in which they wait for each other", func(t *testing.T) {
		const messages = 20
		r, _ := recalledMany(t, messages)
		var batch []wire.Settlement
		for sequence := uint64(1); sequence <= messages; sequence++ {
			batch = append(batch, done(sequence, "notify"), done(sequence, "history"), done(sequence, "wipe"))
		}
		errs, err := r.Settle(t.Context(), batch)
		if err != nil || errors.Join(errs...) != nil {
			t.Errorf("got %v, %v", err, errors.Join(errs...))
		}
	})
	t.Run("over the limit", func(t *testing.T) {
		r, log := recalledMany(t, 1)
		_, err := r.Settle(t.Context(), make([]wire.Settlement, wire.MaxSettlements+1))
		field(t, "513 settlements", err, "settlements")
		if log.appends.Load() > 0 {
			t.Error("some were recorded")
		}
	})
	t.Run("none are recorded where too much is waiting", func(t *testing.T) {
		r, log := recalledMany(t, 2)
		log.fail = fmt.Errorf("%w: too much is waiting", shared.ErrOverloaded)
		errs, err := r.Settle(t.Context(), []wire.Settlement{done(1, "notify"), done(2, "notify")})
		if !errors.Is(err, shared.ErrOverloaded) || errs != nil || log.appends.Load() != 1 {
			t.Errorf("got %v, %v after %d appends", errs, err, log.appends.Load())
		}
	})
	t.Run("one that cannot be applied harms no other", func(t *testing.T) {
		r, log := recalledMany(t, 2)
		torn := errors.New("a torn record")
		r.active.log = &tornLog{log, 2, torn}
		errs, err := r.Settle(t.Context(), []wire.Settlement{done(1, "notify"), done(2, "notify")})
		if err != nil || errs[0] != nil || !errors.Is(errs[1], torn) {
			t.Errorf("got %v, %v", errs, err)
		}
	})
	t.Run("the dispatcher hears of what is stored after its caller gave up", func(t *testing.T) {
		r, log := recalledMany(t, 2)
		held := &heldLog{Log: log, release: make(chan struct{}), told: make(chan struct{})}
		r.active.log = held
		events, stop := make(chan shared.Delivery, 10), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(stop)
			_ = r.deliver(ctx, func(s settler) { events <- s.Delivery })
		}()
		<-events
		<-events
		gone, giveUp := context.WithCancel(t.Context())
		held.waiting = giveUp
		if _, err := r.Settle(gone, []wire.Settlement{done(1, "notify"), done(2, "notify")}); !errors.Is(err,
			context.Canceled) {
			t.Errorf("got %v", err)
		}
		if n := r.metric("recall_step_in_flight", "step", "notify"); n != 2 {
			t.Errorf("before they are stored %v are in flight", n)
		}
		close(held.release)
		<-held.told
		if n := r.metric("recall_step_in_flight", "step", "notify"); n != 0 {
			t.Errorf("then %v are in flight", n)
		}
		cancel()
		<-stop
	})
	t.Run("a deferred step is not delivered again when an earlier event opens", func(t *testing.T) {
		r, log := recalledMany(t, 2)
		ctx, cancel := context.WithCancel(within(t, time.Minute))
		events, stop := make(chan shared.Delivery, 10), make(chan struct{})
		go func() {
			defer close(stop)
			_ = r.deliver(ctx, func(s settler) {
				if s.Step == shared.StepHistory {
					events <- s.Delivery
				}
			})
		}()
		next := func(sequence uint64) {
			t.Helper()
			select {
			case d := <-events:
				if d.Sequence != sequence {
					t.Fatalf("history of event %d is delivered, want %d", d.Sequence, sequence)
				}
			case <-ctx.Done():
				t.Fatal("nothing is delivered")
			}
		}
		settle := func(x wire.Settlement) {
			t.Helper()
			if err := settleOne(ctx, r.Engine, x); err != nil {
				t.Fatal(err)
			}
		}
		settle(done(2, shared.StepNotify))
		next(2)
		deferred := done(2, shared.StepHistory)
		deferred.Outcome = shared.OutcomeDeferred
		appends := log.appends.Load()
		settle(deferred)
		if log.appends.Load() != appends {
			t.Error("it is recorded")
		}
		settle(done(1, shared.StepNotify))
		next(1)
		if n := r.metric("recall_step_in_flight", "step", shared.StepHistory); n != 1 || len(events) > 0 {
			t.Errorf("%v in flight, %d more deliveries", n, len(events))
		}
		cancel()
		<-stop
	})
	t.Run("of nothing", func(t *testing.T) {
		r, log := recalledMany(t, 1)
		if errs, err := r.Settle(t.Context(), nil); err != nil || len(errs) > 0 || log.appends.Load() > 0 {
			t.Errorf("got %v, %v", errs, err)
		}
	})
	t.Run("in standby", func(t *testing.T) {
		if _, err := newStandby(t, "").Settle(t.Context(), []wire.Settlement{done(1, "notify")}); !errors.Is(err,
			shared.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSettle_ByKey(t *testing.T) {
	r, _ := recalledMany(t, 2)
	event := r.ledger("r")[1].Event
	x := wire.Settlement{Key: event.Key(), Step: "notify", Outcome: shared.OutcomeDone}
	if err := settleOne(t.Context(), r.Engine, x); err != nil {
		t.Error(err)
	}
	if got := r.outcomes("r"); got[0] != "notify=/0" || !slices.Contains(got, "notify=done/1") {
		t.Errorf("got %v", got)
	}
	unknown := event
	unknown.RecallID = "other"
	for name, key := range map[string]string{"no key": "!", "no such recall": unknown.Key()} {
		x.Key = key
		field(t, name, settleOne(t.Context(), r.Engine, x), "key")
	}
}

func TestSettle_Attempts(t *testing.T) {
	r, _ := recalledMany(t, 1)
	for _, tc := range []struct {
		what          string
		attempt, want int // reported, and those that failed then
	}{
		{"the first", 1, 1}, {"the first again", 1, 1}, {"the next", 0, 2}, {"the next after that", 0, 3},
		{"one that was counted", 3, 3},
	} {
		err := settleOne(t.Context(), r.Engine, wire.Settlement{
			Sequence: 1, Step: "notify", Attempt: tc.attempt, Outcome: shared.OutcomeFailed, Error: "no",
		})
		if s := r.ledger("r")[0].Steps[0]; err != nil || s.Attempts != tc.want {
			t.Errorf("%s: %d attempts, want %d; %v", tc.what, s.Attempts, tc.want, err)
		}
	}
	if err := r.settleStep(t.Context(), 1, "notify", shared.OutcomeDone, ""); err != nil {
		t.Error(err)
	}
	if err := r.settleStep(t.Context(), 1, "notify", shared.OutcomeFailed, "late"); err != nil {
		t.Errorf("a failure of a settled step: %v", err)
	}
	if s := r.ledger("r")[0].Steps[0]; s.Outcome != shared.OutcomeDone || s.Attempts != 4 {
		t.Errorf("got %+v", s)
	}
}

// heldLog holds back its answers until it is released.
type heldLog struct {
	journal.Log
	waiting func() // called when it holds one
	release chan struct{}
	told    chan struct{} // closed once it has answered
}

func (l *heldLog) AppendThen(ops []index.Op, alone bool, then func([]index.Result, error)) {
	l.Log.AppendThen(ops, alone, func(results []index.Result, err error) {
		go func() {
			defer close(l.told)
			<-l.release
			then(results, err)
		}()
	})
	l.waiting()
}

// tornLog cannot apply what is about one event.
type tornLog struct {
	journal.Log
	sequence uint64
	err      error
}

func (l *tornLog) isTorn(ops []index.Op) bool {
	return slices.ContainsFunc(ops, func(op index.Op) bool { return op.Settle.Sequence == l.sequence })
}

func (l *tornLog) AppendThen(ops []index.Op, alone bool, then func([]index.Result, error)) {
	if l.isTorn(ops) {
		then(nil, l.err)
		return
	}
	l.Log.AppendThen(ops, alone, then)
}
