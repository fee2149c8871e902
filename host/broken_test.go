package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

func TestHost_PoisonousCallHarmsNoOther(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, "panic-poison"), t.TempDir())
	h := hosttest.Open(t, host.Config{File: file})
	ctx := within(t)
	stop := make(chan struct{})
	var others sync.WaitGroup
	for c := range 64 {
		others.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := h.Index(ctx, []shared.Message{message(fmt.Sprintf("%d-%d", c, n))}); err != nil {
					t.Errorf("another call: %v", err)
					return
				}
			}
		})
	}
	_, err := h.Index(ctx, []shared.Message{message("poison")})
	close(stop)
	others.Wait()
	if !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(),
		"10 plugins in a row ended under this call") {
		t.Errorf("the poisonous call: %v", err)
	}
	if st := h.State(); !strings.Contains(st.Error, "panic: fault: poison") {
		t.Errorf("state says %q", st.Error)
	}
	index(t, h, "afterwards")
}

func TestHost_FloodOfDeliveries(t *testing.T) {
	var running, most atomic.Int64
	log := &hosttest.LogBuffer{}
	file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, "event-flood"), t.TempDir())
	h := hosttest.Open(t, host.Config{
		File: file, Logger: hclog.New(&hclog.LoggerOptions{Output: log}),
		Steps: map[string]host.Step{shared.StepHistory: {Concurrency: shared.MaxDeliveries,
			Run: func(ctx context.Context, _ shared.Delivery) (shared.Outcome, error) {
				n := running.Add(1)
				defer running.Add(-1)
				for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
				}
				<-ctx.Done()
				return "", ctx.Err()
			}}},
	})
	eventually(t, "the flood is stopped", func() bool {
		return strings.Contains(log.String(), "more than 256 deliveries of step history have no outcome")
	})
	eventually(t, "as many run as may", func() bool { return running.Load() == shared.MaxDeliveries })
	index(t, h, "m1") // calls go on
	h.Close()
	if n := most.Load(); n != shared.MaxDeliveries {
		t.Errorf("%d ran at once, want %d", n, shared.MaxDeliveries)
	}
}

func TestHost_AnswersInAnotherOrderAreRefused(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, "swapped-answers"), t.TempDir())
	h := hosttest.Open(t, host.Config{File: file})
	_, err := h.Index(within(t), []shared.Message{message("m1"), message("m2")})
	if err == nil || !strings.Contains(err.Error(), `results[0]: is about message "m2", want "m1"`) {
		t.Errorf("got %v", err)
	}
}
