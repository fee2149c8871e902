package host_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

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
	if !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "10 plugins in a row ended under this call") {
		t.Errorf("the poisonous call: %v", err)
	}
	if st := h.State(); !strings.Contains(st.Error, "panic: fault: poison") {
		t.Errorf("state says %q", st.Error)
	}
	index(t, h, "afterwards")
}

func TestHost_AnswersInAnotherOrderAreRefused(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildFaulty(t, "swapped-answers"), t.TempDir())
	h := hosttest.Open(t, host.Config{File: file})
	_, err := h.Index(within(t), []shared.Message{message("m1"), message("m2")})
	if err == nil || !strings.Contains(err.Error(), `results[0]: is about message "m2", asked was "m1"`) {
		t.Errorf("got %v", err)
	}
}
