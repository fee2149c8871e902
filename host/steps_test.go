package host_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// shortSteps opens hosts of this test whose attempts time out soon.
func shortSteps(t *testing.T, d time.Duration) {
	t.Helper()
	t.Cleanup(host.SetStepTimeout(d))
}

// recallMany indexes and recalls messages by the hundred, in order, and returns their ids.
func recallMany(t *testing.T, h *host.Host, prefix, recallID string, n int) (ids []string) {
	t.Helper()
	for from := 0; from < n; from += shared.MaxRecallTargets {
		var msgs []shared.Message
		req := shared.RecallRequest{Tenant: "acme", Actor: shared.Actor{ID: "ann"}, RecallID: recallID}
		for i := from; i < min(from+shared.MaxRecallTargets, n); i++ {
			m := message(fmt.Sprintf("%s%d", prefix, i))
			msgs, req.Targets = append(msgs, m), append(req.Targets, target(m.ID))
			ids = append(ids, m.ID)
		}
		if _, err := h.Index(within(t), msgs); err != nil {
			t.Fatal(err)
		}
		results, err := h.Recall(within(t), req)
		if err != nil || results[0].Status != shared.StatusRecalled {
			t.Fatalf("recall: %+v, %v", results, err)
		}
	}
	return ids
}

// stepOf is where a step of the only message of a recall stands.
func stepOf(t *testing.T, h *host.Host, recallID, step string) shared.StepRecord {
	t.Helper()
	ledger, err := shared.ReadLedger(within(t), h, "acme", recallID)
	if err != nil || len(ledger) != 1 {
		t.Fatalf("ledger %+v, %v", ledger, err)
	}
	for _, s := range ledger[0].Steps {
		if s.Step == step {
			return s
		}
	}
	t.Fatalf("there is no step %s", step)
	return shared.StepRecord{}
}

// eventually waits until it is so; within bounds it.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for ctx := within(t); !so(); time.Sleep(5 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestSteps_FailingEventsDoNotBlock(t *testing.T) {
	const failing, good = 10_000, 10_000
	var mu sync.Mutex
	var mended bool
	done := map[string]bool{}
	var order []string
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	steps := map[string]host.Step{shared.StepHistory: {Concurrency: shared.MaxDeliveries,
		Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
			mu.Lock()
			defer mu.Unlock()
			if strings.HasPrefix(e.Message.ID, "bad") && !mended {
				return "", errors.New("the shard is away")
			}
			if strings.HasPrefix(e.Message.ID, "good") {
				order = append(order, e.Message.ID)
			}
			done[e.Message.ID] = true
			return shared.OutcomeDone, nil
		}}}
	h := hosttest.Open(t, host.Config{File: file, Steps: steps})
	bad := recallMany(t, h, "bad", "r-bad", failing)
	fine := recallMany(t, h, "good", "r-good", good)
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(order)
	}
	eventually(t, "the good events", func() bool { return count() == good })
	at := map[string]int{}
	for i, id := range order {
		at[id] = i
	}
	for i, id := range fine { // up to 128 run side by side
		if d := at[id] - i; d < -256 || d > 256 {
			t.Fatalf("event %d of the good ones came as number %d", i, at[id])
		}
	}
	metrics, err := h.Metrics(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics {
		if m.Name == "recall_step_backing_off" && m.Labels["step"] == shared.StepHistory && m.Value < failing/2 {
			t.Errorf("%v back off", m.Value)
		}
	}
	hosttest.Kill(t, h)
	mu.Lock()
	mended = true
	mu.Unlock()
	for _, id := range bad {
		eventually(t, id, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return done[id]
		})
	}
}

func TestSteps_IgnoredContext(t *testing.T) {
	shortSteps(t, 50*time.Millisecond)
	const stuck = 300 // more than a step has in flight
	release := make(chan struct{})
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	var mu sync.Mutex
	running := map[string]int{}
	h := hosttest.Open(t, host.Config{File: file, Steps: map[string]host.Step{
		shared.StepHistory: {Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
			mu.Lock()
			running[e.Message.ID]++
			first := running[e.Message.ID] == 1
			mu.Unlock()
			if strings.HasPrefix(e.Message.ID, "stuck") && first {
				<-release
			}
			return shared.OutcomeDone, nil
		}},
	}})
	recallMany(t, h, "stuck", "r-stuck", stuck)
	index(t, h, "good")
	good := takeBack(t, h, "good")
	t.Run("does not stop the step", func(t *testing.T) {
		settled(t, h, good.RecallID)
	})
	t.Run("is tried again while it runs", func(t *testing.T) {
		settled(t, h, "r-stuck")
		ledger, err := shared.ReadLedger(within(t), h, "acme", "r-stuck")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range ledger[0].Steps {
			if s.Step == shared.StepHistory && (s.Attempts != 2 || !strings.Contains(s.Error,
				"ignores the end of its context")) {
				t.Errorf("the ledger has %+v", s)
			}
		}
	})
	t.Run("counts as failed in the metrics", func(t *testing.T) {
		metrics, err := h.Metrics(within(t))
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]uint64{}
		for _, m := range metrics {
			if m.Name == "recall_host_step_seconds" && m.Count > 0 {
				counts[m.Labels["outcome"]] = m.Count
			}
		}
		if want := (map[string]uint64{"failed": stuck, "done": stuck + 1}); !maps.Equal(counts, want) {
			t.Errorf("%v; want %v", counts, want)
		}
	})
	t.Run("Close names the step", func(t *testing.T) {
		if err := h.Close(); err == nil || !strings.Contains(err.Error(), "step history") {
			t.Errorf("got %v", err)
		}
	})
	close(release)
}

func TestSteps_LateSuccess(t *testing.T) {
	shortSteps(t, 50*time.Millisecond)
	release := make(chan struct{})
	var mu sync.Mutex
	calls := 0
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepHistory: {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
			mu.Lock()
			calls++
			first := calls == 1
			mu.Unlock()
			if first {
				<-release
				return shared.OutcomeDone, nil
			}
			return "", errors.New("the first one has the lock")
		}},
	}})
	index(t, h, "m1")
	result := takeBack(t, h, "m1")
	eventually(t, "a further attempt", func() bool {
		return stepOf(t, h, result.RecallID,
			shared.StepHistory).Attempts >= 3
	})
	close(release)
	settled(t, h, result.RecallID)
	mu.Lock()
	defer mu.Unlock()
	if s := stepOf(t, h, result.RecallID, shared.StepHistory); s.Outcome != shared.OutcomeDone || s.Attempts > calls {
		t.Errorf("%+v after %d calls", s, calls)
	}
}

func TestClose_StepIgnoresItsContext(t *testing.T) {
	release, started := make(chan struct{}), make(chan struct{})
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	h := hosttest.Open(t, host.Config{File: file, Steps: map[string]host.Step{
		"previews": {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
			close(started)
			<-release
			return shared.OutcomeDone, nil
		}},
	}})
	index(t, h, "m1")
	result := takeBack(t, h, "m1")
	<-started
	began := time.Now()
	err := h.Close()
	if err == nil || !strings.Contains(err.Error(), "step previews") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	close(release)
	h = hosttest.Open(t, host.Config{File: file, Steps: map[string]host.Step{
		"previews": {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) { return shared.OutcomeDone, nil }},
	}})
	if got := settled(t, h, result.RecallID)["previews"]; got != shared.OutcomeDone {
		t.Errorf("the next host has %s", got)
	}
}

// logs collects what is logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestOpen_WithoutAStepOfEarlierRecalls(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	ok := func(context.Context, shared.Delivery) (shared.Outcome, error) { return shared.OutcomeDone, nil }
	tried := make(chan struct{}, 1000)
	broken := func(context.Context, shared.Delivery) (shared.Outcome, error) {
		tried <- struct{}{}
		return "", errors.New("not now")
	}
	h := hosttest.Open(t, host.Config{File: file, Steps: map[string]host.Step{shared.StepNotify: {Run: ok},
		shared.StepHistory: {Run: broken}}})
	index(t, h, "m1")
	first := takeBack(t, h, "m1")
	<-tried
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	out := &logs{}
	h = hosttest.Open(t, host.Config{File: file, Steps: map[string]host.Step{shared.StepNotify: {Run: ok}},
		Logger: hclog.New(&hclog.LoggerOptions{Output: out})})
	eventually(t, "a warning", func() bool {
		for line := range strings.Lines(out.String()) {
			if strings.Contains(line, "stays open") {
				return strings.Contains(line, "step=history") && strings.Contains(line, "recalls=1")
			}
		}
		return false
	})
	index(t, h, "m2")
	second := takeBack(t, h, "m2")
	if got := settled(t, h, second.RecallID)[shared.StepHistory]; got != shared.OutcomeUnsupported {
		t.Errorf("a recall committed now has %s", got)
	}
	if s := stepOf(t, h, first.RecallID, shared.StepHistory); s.Outcome.Settles() {
		t.Errorf("the step of the earlier recall is %s", s.Outcome)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = hosttest.Open(t, host.Config{File: file, Steps: map[string]host.Step{shared.StepNotify: {Run: ok},
		shared.StepHistory: {Run: ok}}})
	if got := settled(t, h, first.RecallID)[shared.StepHistory]; got != shared.OutcomeDone {
		t.Errorf("with the step it is %s", got)
	}
}

func TestSteps_FailingNotify(t *testing.T) {
	removed := make(chan time.Time, 1)
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepNotify: {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
			return "", errors.New("the gateway is away")
		}},
		shared.StepHistory: {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
			removed <- time.Now()
			return shared.OutcomeDone, nil
		}},
	}})
	index(t, h, "m1")
	began := time.Now()
	result := takeBack(t, h, "m1")
	select {
	case at := <-removed:
		if took := at.Sub(began); took < 30*time.Second {
			t.Errorf("history began %s after the recall", took)
		}
	case <-within(t).Done():
		t.Fatal("the text stays readable")
	}
	eventually(t, "the outcome", func() bool {
		return stepOf(t, h, result.RecallID, shared.StepHistory).Outcome == shared.OutcomeDone
	})
	if s := stepOf(t, h, result.RecallID, shared.StepNotify); s.Outcome != shared.OutcomeFailed {
		t.Errorf("notify is %s", s.Outcome)
	}
}

func TestRecall_IDOfAnotherActor(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	for _, id := range []string{"m1", "m2"} {
		index(t, h, id)
	}
	first := takeBack(t, h, "m1")
	req := recallOf("m2")
	req.RecallID, req.Actor.ID, req.Targets[0].Role = first.RecallID, "mod", shared.RoleAdmin
	got, err := h.Recall(within(t), req)
	if err != nil || got[0].Status != shared.StatusDenied || got[0].Code != shared.CodeRecallIDUsed {
		t.Errorf("got %+v, %v", got, err)
	}
	if ledger, err := shared.ReadLedger(within(t), h, "acme", first.RecallID); err != nil || len(ledger) != 1 {
		t.Errorf("the ledger has %+v, %v", ledger, err)
	}
	recallMany(t, h, "many", "full", shared.MaxRecallMessages)
	index(t, h, "one more")
	req = recallOf("one more")
	req.RecallID = "full"
	if _, err := h.Recall(within(t), req); !errors.Is(err, shared.ErrInvalid) ||
		!strings.Contains(err.Error(), "recall_id") {
		t.Errorf("one more than the limit: %v", err)
	}
	page, err := h.Ledger(within(t), shared.LedgerRequest{Tenant: "acme", RecallID: "full", Limit: 10})
	if err != nil || len(page.Entries) != 10 || !page.More {
		t.Errorf("a page of %d, %v", len(page.Entries), err)
	}
	if ledger, err := shared.ReadLedger(within(t), h, "acme", "full"); err != nil ||
		len(ledger) != shared.MaxRecallMessages {
		t.Errorf("%d entries, %v", len(ledger), err)
	}
}
