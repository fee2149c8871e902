package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/plugin/internal/config"
	"github.com/chat-recall/recall/shared"
)

// ticking moves the clock on until what do returns is there, no faster than the machine's.
func ticking[T any](r *rig, do func() (T, error)) (T, error) {
	r.t.Helper()
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := do()
		answers <- answer{value, err}
	}()
	for {
		select {
		case a := <-answers:
			return a.value, a.err
		case <-time.After(time.Millisecond):
			r.clock.Advance(time.Millisecond)
		}
	}
}

func (r *rig) forget(req shared.ForgetRequest) shared.ForgetResult {
	r.t.Helper()
	result, err := ticking(r, func() (shared.ForgetResult, error) {
		return r.Forget(r.t.Context(), req)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return result
}

func (r *rig) state(id string) shared.MessageState {
	r.t.Helper()
	statuses, err := r.Status(r.t.Context(), "acme", []string{id})
	if err != nil {
		r.t.Fatal(err)
	}
	return statuses[0].State
}

var ofAnn = shared.ForgetRequest{Tenant: "acme", Sender: "ann"}

func TestForget_LooksAgainUntilStepsAreSettled(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("live"), r.message("gone"))
	r.recall(request("r", "gone"))
	began := r.clock.Elapsed()
	if got := r.forget(ofAnn); got.Done || got.Live != 1 || got.Waiting != 1 {
		t.Fatalf("%+v", got)
	}
	if took := r.clock.Elapsed() - began; took >= forgetWait {
		t.Errorf("it took %s, and all that was left waited", took)
	}
	for _, step := range []string{"notify", "history", "wipe"} {
		if err := r.settleStep(t.Context(), 1, step, shared.OutcomeDone, ""); err != nil {
			t.Fatal(err)
		}
	}
	r.waitUntil(func() bool { // by itself
		r.clock.Advance(time.Second)
		return len(r.ledger("r")) == 0
	})
	if r.state("gone") != shared.MessageRecalled || r.state("live") != shared.MessageUnknown {
		t.Errorf("%s, %s", r.state("gone"), r.state("live"))
	}
	r.waitUntil(func() bool { return r.metric("recall_messages_erased_total", "reason", "forget") == 2 })
	r.forget(ofAnn) // the pass has still to come to its end
	if got := r.forget(ofAnn); !got.Done || got.Live+got.Recalled+got.Waiting != 0 {
		t.Errorf("again: %+v", got)
	}
}

func TestForget_ManyMessages(t *testing.T) {
	r := newActive(t, "")
	for i := range 30 {
		var msgs []shared.Message
		for k := range 100 {
			msgs = append(msgs, r.message(fmt.Sprint(i, "-", k)))
		}
		r.index(msgs...)
	}
	got := r.forget(ofAnn)
	for !got.Done { // the clock of the test runs fast
		got = r.forget(ofAnn)
	}
	if got.Live != 3000 {
		t.Errorf("%+v", got)
	}
}

func TestForget_GoesOnInTheNextProcess(t *testing.T) {
	r := newActive(t, "")
	for i := range 20 {
		r.index(r.message(fmt.Sprint(i)))
	}
	r.recall(request("r", "0"))
	r.forget(ofAnn)
	if err := r.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.activate()
	for _, step := range []string{"notify", "history", "wipe"} {
		if err := r.settleStep(t.Context(), 1, step, shared.OutcomeDone, ""); err != nil {
			t.Fatal(err)
		}
	}
	r.waitUntil(func() bool {
		r.clock.Advance(time.Second)
		return len(r.ledger("r")) == 0
	})
}

// Recalls that waited and were refused are listed until they are forgotten.
func TestForget_EndedWaits(t *testing.T) {
	r := newActive(t, "")
	r.recall(wait("w", "m"))
	bobs := r.message("m")
	bobs.Sender = "bob"
	if got := r.indexOne(bobs); got != shared.IndexAdded || len(r.waits()) != 1 {
		t.Fatalf("%s, waits %q", got, r.waits())
	}
	if got := r.forget(ofAnn); !got.Done || len(r.waits()) != 0 {
		t.Errorf("%+v, waits %q", got, r.waits())
	}
}

func TestForget_Refused(t *testing.T) {
	r := newActive(t, "")
	_, err := r.Forget(t.Context(), shared.ForgetRequest{Tenant: "acme"})
	field(t, "nothing", err, "sender")
	r.index(r.message("m"))
	r.recall(request("r", "m"))
	for i := range 100 { // each waits for the steps
		before := shared.ForgetRequest{Tenant: "acme", Before: r.clock.Now().Add(time.Duration(i+1) * time.Hour)}
		if got := r.forget(before); got.Done || got.Waiting != 1 {
			t.Fatalf("%+v", got)
		}
	}
	if _, err := r.Forget(t.Context(), ofAnn); !errors.Is(err, shared.ErrOverloaded) {
		t.Errorf("one more: %v", err)
	}
}

// newKeeping is a plugin that keeps messages for 7 days, and has looked for older ones.
func newKeeping(t *testing.T, log hclog.Logger) *rig {
	t.Helper()
	r := newLogging(t, "", log)
	r.write("plugin.hcl", "index {\n path = \"index\"\n keep_messages = \"7d\"\n}\n")
	if ds, err := r.Prepare(t.Context(), r.path("plugin.hcl")); err != nil || len(ds) > 0 {
		t.Fatal(ds, err)
	}
	r.activate()
	r.waitUntil(func() bool {
		r.clock.Advance(time.Second)
		return r.clock.Elapsed() > time.Minute && r.hasLooked()
	})
	return r
}

// hasLooked reports whether the plugin has looked for older messages, and does so again much later.
func (r *rig) hasLooked() bool {
	r.runner.mu.Lock()
	defer r.runner.mu.Unlock()
	t := r.runner.works["keep_messages"]
	return t != nil && t.due > r.clock.Elapsed()+expireEvery/2
}

// A clock that jumps ahead drops no messages until it has stayed so for a day.
func TestKeepMessages_ClockJumps(t *testing.T) {
	log := &hosttest.LogBuffer{}
	r := newKeeping(t, hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Warn}))
	const years = 10 * 365 * 24 * time.Hour
	n := 0
	pass := func() { // which drops what is old by the clock before the jump
		t.Helper()
		n++
		old := r.message(fmt.Sprint("old", n))
		old.SentAt = clockStart.Add(-8 * 24 * time.Hour)
		r.index(old)
		r.clock.Advance(expireEvery)
		r.waitUntil(func() bool {
			r.clock.Advance(time.Second)
			return r.state(old.ID) == shared.MessageUnknown && r.hasLooked()
		})
	}
	r.index(r.message("young"))
	r.clock.Shift(years)
	for range 13 {
		pass()
	}
	if got := strings.Count(log.String(), "the clock jumped ahead"); got != 1 {
		t.Errorf("%d warnings: %s", got, log)
	}
	r.clock.Shift(-years)
	pass()
	r.clock.Shift(years)
	pass()
	for range 13 {
		pass()
	}
	if r.state("young") != shared.MessageLive {
		t.Fatal("the young one is dropped by a clock that jumped")
	}
	r.waitUntil(func() bool {
		r.clock.Advance(expireEvery)
		return r.state("young") == shared.MessageUnknown
	})
}

func TestKeepMessages(t *testing.T) {
	r := newKeeping(t, hclog.NewNullLogger())
	old, young := r.message("old"), r.message("young")
	old.SentAt = r.clock.Now().Add(-8 * 24 * time.Hour)
	r.index(old, young)
	r.clock.Advance(expireEvery)
	r.waitUntil(func() bool {
		r.clock.Advance(time.Second)
		return r.state("old") == shared.MessageUnknown
	})
	if r.state("young") != shared.MessageLive {
		t.Errorf("the young one is %s", r.state("young"))
	}
	r.waitUntil(func() bool { return r.metric("recall_messages_erased_total", "reason", "keep_messages") == 1 })
	if n := r.metric("recall_jobs_running"); n != 0 {
		t.Errorf("%v jobs run", n)
	}
	_, ds := config.Parse("plugin.hcl", []byte("index {\n path = \"i\"\n keep_messages = \"6d\"\n}"))
	if !ds.HasErrors() || !strings.Contains(ds.Err().Error(), "7d") {
		t.Errorf("%v", ds)
	}
}
