package clients_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/sidecar/sidecartest"
)

// await polls until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not within a minute: " + what)
		}
	}
}

// ledger returns the messages of a recall with those of their steps that sidecar.hcl has, and whether all are settled.
func ledger(s *sidecartest.Sidecar, recallID string) (entries []entry, settled bool) {
	var page struct{ Entries []entry }
	s.Post("ledger", fmt.Sprintf(`{"tenant":"acme","recall_id":%q}`, recallID), &page)
	settled = len(page.Entries) > 0
	for i, e := range page.Entries {
		page.Entries[i].Steps = slices.DeleteFunc(e.Steps, func(one step) bool { return one.Outcome == "unsupported" })
		for _, one := range page.Entries[i].Steps {
			settled = settled && one.Outcome == "done"
		}
	}
	return page.Entries, settled
}

// indexed indexes messages and returns their ids.
func indexed(d *driver, n int) (ids []string) {
	d.t.Helper()
	var messages []string
	for i := range n {
		ids = append(ids, fmt.Sprint("m", i))
		messages = append(messages, message(ids[i]))
	}
	d.must("index", `{"messages":[`+strings.Join(messages, ",")+`]}`, nil)
	return ids
}

// hadAttempts reports whether the worker carried out a delivery in that attempt and no other.
func (d *driver) hadAttempts(key string, attempts ...int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprint(d.did[key]) == fmt.Sprint(attempts)
}

func TestRun_FailsOnce(t *testing.T) {
	eachWorker(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t, pulled)
		d := drive(t, l, at{socket: s.Socket})
		d.do(`{"run":["notify","history"],"fail":4,"parallel":4}`, nil)
		var r results
		d.must("recall", request("", indexed(d, 10)...), &r)
		await(t, "all steps are settled", func() bool { _, settled := ledger(s, r.Results[0].RecallID); return settled })
		if p := d.do(`{"stop":true}`, nil); p != nil {
			t.Errorf("the worker ended with %+v", *p)
		}
		entries, _ := ledger(s, r.Results[0].RecallID)
		twice := 0
		for _, e := range entries {
			for _, one := range e.Steps {
				if one.Attempts == 2 {
					twice++
					if !strings.HasSuffix(one.Error, "Error: this step fails once") {
						t.Errorf("the error in the ledger is %q", one.Error)
					}
				}
				if !d.hadAttempts(e.Event.Key+":"+one.Step, one.Attempts) {
					t.Errorf("the worker did not carry out %+v as the ledger says", one)
				}
			}
		}
		if len(entries) != 10 || twice == 0 {
			t.Errorf("%d messages, of whose steps %d had two attempts", len(entries), twice)
		}
	})
}

func TestRun_Lease(t *testing.T) {
	eachWorker(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t, "step \"history\" {\n  pull    = true\n  timeout = \"1s\"\n}")
		d := drive(t, l, at{socket: s.Socket})
		d.do(`{"run":["history"],"fail":1000,"parallel":4,"first":"hang"}`, nil)
		var r results
		d.must("recall", request("", indexed(d, 2)...), &r)
		await(t, "all steps are settled", func() bool { _, settled := ledger(s, r.Results[0].RecallID); return settled })
		entries, _ := ledger(s, r.Results[0].RecallID)
		for _, e := range entries {
			d.mu.Lock()
			attempts := d.did[e.Event.Key+":history"] // a third one if the second was settled after its lease
			d.mu.Unlock()
			if len(attempts) == 0 || slices.Contains(attempts, 1) {
				t.Errorf("%s was carried out in the attempts %d, not in its second", e.Event.Message.ID, attempts)
			}
		}
		if p := d.do(`{"stop":true}`, nil); p != nil {
			t.Errorf("the worker ended with %+v", *p)
		}
	})
}

// begun waits until the worker has begun n deliveries.
func (d *driver) begun(n int) {
	d.t.Helper()
	await(d.t, "deliveries have begun", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.began >= n })
}

func TestRun_StopSettles(t *testing.T) {
	eachWorker(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t, `step "history" { pull = true }`)
		d := drive(t, l, at{socket: s.Socket})
		d.do(`{"run":["history"],"fail":1000,"parallel":4,"slow":500,"first":"stop"}`, nil)
		var r results
		d.must("recall", request("", indexed(d, 4)...), &r)
		d.begun(4)
		if p := d.do(`{"stop":true}`, nil); p != nil {
			t.Errorf("the worker ended with %+v", *p)
		}
		if entries, settled := ledger(s, r.Results[0].RecallID); !settled || d.carriedOut() != 4 {
			t.Errorf("%d steps were carried out; the ledger: %+v", d.carriedOut(), entries)
		}
	})
}

// A worker that is stopped waits for its handlers no longer than their leases.
func TestRun_StuckHandlers(t *testing.T) {
	eachWorker(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t, "step \"history\" {\n  pull    = true\n  timeout = \"1s\"\n}")
		d := drive(t, l, at{socket: s.Socket})
		d.do(`{"run":["history"],"fail":1000,"parallel":2,"first":"stuck"}`, nil)
		d.must("recall", request("", indexed(d, 2)...), nil)
		d.begun(2)
		if p := d.do(`{"stop":true}`, nil); p != nil {
			t.Errorf("the worker ended with %+v", *p)
		}
	})
}

// A worker whose requests are refused ends, and says why.
func TestRun_UnknownStep(t *testing.T) {
	eachWorker(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t, pulled)
		p, socket := newProxy(t, s)
		d := drive(t, l, at{socket: socket})
		d.do(`{"run":["typo"],"fail":1000,"parallel":4}`, nil)
		await(t, "the worker takes", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.seen) > 0 })
		if got := d.do(`{"stop":true}`, nil); got == nil || got.Status != 400 || got.Errors[0].Field != "steps[0]" {
			t.Errorf("the worker ended with %+v", got)
		}
	})
}

func TestClients_LedgerReset(t *testing.T) {
	eachWorker(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t)
		p, socket := newProxy(t, s)
		d := drive(t, l, at{socket: socket})
		page := func(text string) answer {
			return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { _, _ = w.Write([]byte(text)) }
		}
		p.plan(page(`{"entries":[{}],"next":"n","more":true,"reset":false}`),
			page(`{"entries":[],"next":"","more":false,"reset":true}`))
		got := d.call("ledger", `{"tenant":"acme","recall_id":"r"}`, timeout, nil)
		if got == nil || got.Code != "reset" {
			t.Errorf("the error is %+v", got)
		}
	})
}

// chaosTime is how long faults follow each other.
const chaosTime = 20 * time.Second

// Users and a worker meet the end of every process, again and again: no call fails, and every step is carried out.
func TestChaos(t *testing.T) {
	eachWorker(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t, pulled)
		worker, users := drive(t, l, at{socket: s.Socket}), drive(t, l, at{socket: s.Socket})
		worker.do(`{"run":["notify","history"],"fail":7,"parallel":32}`, nil)
		users.do(`{"crowd":16}`, nil)
		faults := []func(){
			s.KillPlugin,
			s.Upgrade,
			func() { s.Stop(); s.Start() },
			func() { s.Kill(); s.Start() },
		}
		rounds := 0
		for began := time.Now(); rounds == 0 || time.Since(began) < chaosTime; rounds++ {
			for _, fault := range faults {
				before := worker.carriedOut()
				await(t, "steps are carried out", func() bool { return worker.carriedOut() >= before+50 })
				fault()
			}
		}
		var total struct{ Recalls, Failures []string }
		if p := users.do(`{"end":true}`, &total); p != nil {
			t.Fatalf("the users: %+v", *p)
		}
		for _, failure := range total.Failures {
			t.Error("a call failed: ", failure)
		}
		steps, retried := 0, 0
		for _, recallID := range total.Recalls {
			await(t, "all steps are settled", func() bool { _, settled := ledger(s, recallID); return settled })
		}
		if p := worker.do(`{"stop":true}`, nil); p != nil {
			t.Errorf("the worker ended with %+v", *p)
		}
		for _, recallID := range total.Recalls {
			entries, _ := ledger(s, recallID)
			if len(entries) != 1 || len(entries[0].Steps) != 2 {
				text, _ := json.Marshal(entries)
				t.Errorf("the ledger of %s: %s", recallID, text)
				continue
			}
			for _, one := range entries[0].Steps {
				steps++
				if one.Attempts > 1 {
					retried++
				}
				worker.mu.Lock()
				if len(worker.did[entries[0].Event.Key+":"+one.Step]) == 0 {
					t.Errorf("the worker did not carry out %s of %s", one.Step, recallID)
				}
				worker.mu.Unlock()
			}
		}
		if steps != worker.carriedOut() {
			t.Errorf("the worker carried out %d steps, the ledger has %d", worker.carriedOut(), steps)
		}
		t.Logf("%d rounds of faults, %d recalls, %d steps, %d of them in more than one attempt", rounds, len(total.Recalls),
			steps, retried)
	})
}
