package host_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// openSteps counts the steps of a recall that have no outcome, and those that failed.
func openSteps(t *testing.T, h *host.Host, recallID, step string) (open, failed int) {
	t.Helper()
	ledger, err := shared.ReadLedger(within(t), h, "acme", recallID)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range ledger {
		for _, s := range e.Steps {
			if s.Step == step && s.Outcome == "" {
				open++
			}
			if s.Step == step && s.Outcome == shared.OutcomeFailed {
				failed++
			}
		}
	}
	return open, failed
}

func TestSettle_KilledAmongManyOutcomes(t *testing.T) {
	const all = 10_000
	var done atomic.Int64
	release := make(chan struct{})
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepHistory: {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
			<-release
			done.Add(1)
			return shared.OutcomeDone, nil
		}},
	}})
	recallMany(t, h, "m", "r", all)
	close(release)
	for _, at := range []int64{all / 4, all / 2, 3 * all / 4} {
		eventually(t, "the next part of the steps", func() bool { return done.Load() >= at })
		pid := h.State().PID
		hosttest.Kill(t, h)
		eventually(t, "the next plugin", func() bool { return h.State().PID != pid })
	}
	eventually(t, "the last steps", func() bool { return done.Load() >= all })
	eventually(t, "every outcome", func() bool {
		open, failed := openSteps(t, h, "r", shared.StepHistory)
		if failed > 0 {
			t.Fatalf("%d failed", failed)
		}
		return open == 0
	})
}

func TestSettle_OneRefusedAmongMany(t *testing.T) {
	const all = 1000
	log := &hosttest.LogBuffer{}
	var ghosts atomic.Int64
	file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, "ghost-events"), t.TempDir())
	h := hosttest.Open(t, host.Config{
		File: file, Logger: hclog.New(&hclog.LoggerOptions{Output: log}),
		Steps: map[string]host.Step{
			shared.StepHistory: {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
				return shared.OutcomeDone, nil
			}},
			"ghost": {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
				ghosts.Add(1)
				return shared.OutcomeDone, nil
			}},
		},
	})
	recallMany(t, h, "m", "r", all)
	eventually(t, "every outcome of an event", func() bool {
		open, _ := openSteps(t, h, "r", shared.StepHistory)
		return open == 0
	})
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	refused := strings.Count(log.String(), "outcome of a step refused")
	if n := int(ghosts.Load()); n == 0 || refused != n {
		t.Errorf("%d refusals are logged for %d outcomes of no event: each once, and it is not asked again", refused, n)
	}
	if strings.Contains(log.String(), "stream ended by the host") {
		t.Error("the stream ended")
	}
	if !strings.Contains(log.String(), "there is no event") {
		t.Error("the log does not say why")
	}
}

func TestSettle_AnswersThatDoNotFit(t *testing.T) {
	for fault, words := range map[string]string{
		"few-statuses": "0 statuses for 1 settlements", "many-statuses": "2 statuses for 1 settlements",
	} {
		t.Run(fault, func(t *testing.T) {
			log := &hosttest.LogBuffer{}
			var done atomic.Int64
			file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, fault), t.TempDir())
			h := hosttest.Open(t, host.Config{
				File: file, Logger: hclog.New(&hclog.LoggerOptions{Output: log}),
				Steps: map[string]host.Step{shared.StepHistory: {Run: func(
					context.Context, shared.Delivery,
				) (shared.Outcome, error) {
					done.Add(1)
					return shared.OutcomeDone, nil
				}}},
			})
			index(t, h, "m1")
			result := takeBack(t, h, "m1")
			eventually(t, "it is asked again and again", func() bool { return strings.Count(log.String(), words) >= 3 })
			// A plugin that answers as it should takes the outcome, and the step is not carried out again.
			if _, err := h.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
				t.Fatal(err)
			}
			settled(t, h, result.RecallID)
			if err := h.Close(); err != nil || done.Load() != 1 {
				t.Errorf("%v; the step was carried out %d times", err, done.Load())
			}
		})
	}
}

func TestClose_WhileOutcomesAreGathered(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir())
	var mu sync.Mutex
	carriedOut := map[string]int{}
	running := 0
	step := func(ctx context.Context, e shared.Delivery) (shared.Outcome, error) {
		mu.Lock()
		running++
		mu.Unlock()
		<-ctx.Done()
		mu.Lock()
		defer mu.Unlock()
		carriedOut[e.Message.ID]++
		return shared.OutcomeDone, nil
	}
	isRunning := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return running == shared.MaxDeliveries
	}
	t.Run("what is done is stored", func(t *testing.T) {
		h := hosttest.Open(t, host.Config{File: file,
			Steps: map[string]host.Step{shared.StepHistory: {Concurrency: shared.MaxDeliveries, Run: step}}})
		recallMany(t, h, "m", "r", shared.MaxDeliveries)
		eventually(t, "all steps", isRunning)
		if err := h.Close(); err != nil { // and all of them are done at once
			t.Fatal(err)
		}
		h = hosttest.Open(t, host.Config{File: file,
			Steps: map[string]host.Step{shared.StepHistory: {Concurrency: shared.MaxDeliveries, Run: step}}})
		if open, failed := openSteps(t, h, "r", shared.StepHistory); open+failed > 0 {
			t.Errorf("%d are open, %d failed", open, failed)
		}
		if err := h.Close(); err != nil || len(carriedOut) != shared.MaxDeliveries {
			t.Errorf("%v; %d carried out", err, len(carriedOut))
		}
		for id, n := range carriedOut {
			if n != 1 {
				t.Errorf("%s was carried out %d times", id, n)
			}
		}
	})
	t.Run("a plugin that hangs does not hold it up, and nothing is lost", func(t *testing.T) {
		running = 0
		h := hosttest.Open(t, host.Config{File: file,
			Steps: map[string]host.Step{shared.StepHistory: {Concurrency: shared.MaxDeliveries, Run: step}}})
		recallMany(t, h, "hangs", "r-hangs", shared.MaxDeliveries)
		eventually(t, "all steps", isRunning)
		hosttest.Hang(t, h)
		began := time.Now()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("it took %s", took)
		}
		h = hosttest.Open(t, host.Config{File: file, Steps: map[string]host.Step{
			shared.StepHistory: {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
				return shared.OutcomeNothingToDo, nil
			}},
		}})
		eventually(t, "the steps once more", func() bool {
			open, failed := openSteps(t, h, "r-hangs", shared.StepHistory)
			return open+failed == 0
		})
	})
}

func TestSettle_FailuresOfMany(t *testing.T) {
	const all = 300
	var mu sync.Mutex
	attempts := map[string][]int{}
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepHistory: {Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
			mu.Lock()
			defer mu.Unlock()
			attempts[e.Message.ID] = append(attempts[e.Message.ID], e.Attempt)
			if e.Attempt < 3 {
				return "", errors.New(strings.Repeat("the shard is away; ", 100)) // longer than a ledger keeps
			}
			return shared.OutcomeDone, nil
		}},
	}})
	recallMany(t, h, "m", "r", all)
	eventually(t, "the third attempts", func() bool {
		open, failed := openSteps(t, h, "r", shared.StepHistory)
		return open+failed == 0
	})
	mu.Lock()
	defer mu.Unlock()
	for id, a := range attempts {
		if len(a) != 3 || a[0] != 1 || a[1] != 2 || a[2] != 3 {
			t.Errorf("%s had attempts %v", id, a)
		}
	}
	if len(attempts) != all {
		t.Errorf("%d events", len(attempts))
	}
}
