package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// anonymousMemory is what a process has in RAM that is no mapped file, in bytes.
func anonymousMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatalf("no RssAnon of process %d", pid)
	return 0
}

// More callers than the committer's queue has places: who finds none is told so, and it costs no memory without bound.
func TestPressure_TenThousandCallers(t *testing.T) {
	const calls, most = 3, 256 << 20
	h := hosttest.Open(t, host.Config{})
	ctx := within(t)
	var answered, refused atomic.Int64
	var all sync.WaitGroup
	for c := range crowd {
		all.Go(func() {
			for n := range calls {
				got, err := h.Index(ctx, []shared.Message{message(fmt.Sprintf("%d-%d", c, n))})
				switch {
				case errors.Is(err, shared.ErrOverloaded):
					refused.Add(1)
				case err != nil:
					t.Errorf("got %v; want an answer or ErrOverloaded", err)
					return
				case got[0].Status != shared.IndexAdded:
					t.Errorf("message is %s", got[0].Status)
				default:
					answered.Add(1)
				}
			}
		})
	}
	all.Wait()
	if answered.Load() == 0 {
		t.Error("nobody was answered")
	}
	if used := anonymousMemory(t, h.State().PID); used > most {
		t.Errorf("the plugin has %d MiB; at most %d", used>>20, most>>20)
	}
	var here runtime.MemStats
	runtime.ReadMemStats(&here)
	if here.HeapInuse > most {
		t.Errorf("the host has a heap of %d MiB; at most %d", here.HeapInuse>>20, most>>20)
	}
	t.Logf("%d answered, %d refused", answered.Load(), refused.Load())
	index(t, h, "afterwards") // a plugin that was overloaded is as good as before
}

// More recalls than are in flight at a time wait for one step; everything else goes on.
func TestStep_SlowStepDelaysNoOther(t *testing.T) {
	const recalls = 300
	release := make(chan struct{})
	var free sync.Once
	t.Cleanup(func() { free.Do(func() { close(release) }) })
	searched := make(chan string, recalls)
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		shared.StepHistory: {Run: func(ctx context.Context, e shared.Delivery) (shared.Outcome, error) {
			select {
			case <-release:
				return shared.OutcomeDone, nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}},
		shared.StepSearch: {Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
			searched <- e.Message.ID
			return shared.OutcomeDone, nil
		}},
	}})
	last := shared.RecallResult{}
	for i := range recalls {
		id := fmt.Sprint("m", i)
		index(t, h, id)
		last = takeBack(t, h, id)
	}
	ctx := within(t)
	for got := 0; got < recalls; got++ {
		select {
		case <-searched:
		case <-ctx.Done():
			t.Fatalf("step search ran for %d of %d recalls", got, recalls)
		}
	}
	free.Do(func() { close(release) })
	if got := settled(t, h, last.RecallID)[shared.StepHistory]; got != shared.OutcomeDone {
		t.Errorf("the slow step is %s", got)
	}
}
