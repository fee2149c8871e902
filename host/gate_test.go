package host

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// answer makes one call that gives what f gives.
func answer(ctx context.Context, g *gate, f func() error) error {
	_, err := call(ctx, g, func(*wire.Client) (struct{}, error) { return struct{}{}, f() })
	return err
}

func ok() error { return nil }

func TestGate_HoldsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []time.Duration
		g := newGate(func(d time.Duration) { told = append(told, d) })
		done := make(chan error, 1)
		go func() { done <- answer(t.Context(), g, ok) }()
		time.Sleep(time.Second) // of the test's own clock
		select {
		case err := <-done:
			t.Fatalf("answered %v without a plugin", err)
		default:
		}
		g.open(&process{})
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := answer(t.Context(), g, ok); err != nil {
			t.Error(err)
		}
		if len(told) != 1 || told[0] != time.Second {
			t.Errorf("held calls told as %v; one was, for a second", told)
		}
	})
}

func TestGate_ContextOfAHeldCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := answer(ctx, newGate(nil), ok); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestGate_RepeatsACallThatWasCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(nil)
		g.open(&process{})
		calls := 0
		done := make(chan error, 1)
		go func() {
			done <- answer(t.Context(), g, func() error {
				if calls++; calls == 1 {
					return fmt.Errorf("connection lost: %w", shared.ErrUnavailable)
				}
				return nil
			})
		}()
		synctest.Wait()
		g.hold()
		synctest.Wait()
		g.open(&process{})
		if err := <-done; err != nil || calls != 2 {
			t.Errorf("%d calls, error %v", calls, err)
		}
	})
}

func TestGate_OverloadedAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		g := newGate(func(time.Duration) { told++ })
		g.open(&process{})
		next, calls := &process{}, 0
		cutThenBusy := func() error {
			switch calls++; {
			case calls == 1:
				g.open(next)
				return shared.ErrUnavailable
			case calls < 5:
				return shared.ErrOverloaded
			}
			return nil
		}
		if err := answer(t.Context(), g, cutThenBusy); err != nil || calls != 5 || told != 1 {
			t.Errorf("%v after %d calls, told %d times that it was held", err, calls, told)
		}
		ctx, cancel := context.WithTimeout(t.Context(), overloadRetry)
		defer cancel()
		calls, next = 0, &process{}
		if err := answer(ctx, g, cutThenBusy); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("at the end of its context: %v", err)
		}
		calls = 1
		if err := answer(t.Context(), g, cutThenBusy); !errors.Is(err, shared.ErrOverloaded) {
			t.Errorf("one that was not cut off: %v", err)
		}
	})
}

func TestGate_PluginThatStaysUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(nil)
		g.open(&process{})
		start := time.Now()
		err := answer(t.Context(), g, func() error { return shared.ErrUnavailable })
		if !errors.Is(err, shared.ErrUnavailable) || time.Since(start) != changeTime {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

func TestGate_Refuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(nil)
		done := make(chan error, 1)
		go func() { done <- answer(t.Context(), g, ok) }()
		synctest.Wait()
		g.refuse(errClosed)
		if err := <-done; !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("held call: %v", err)
		}
		if err := answer(t.Context(), g, ok); !errors.Is(err, errClosed) {
			t.Errorf("new call: %v", err)
		}
	})
}

func TestGate_MaxCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(nil)
		var refused atomic.Int32
		for range maxCalls {
			go func() {
				if answer(t.Context(), g, ok) != nil {
					refused.Add(1)
				}
			}()
		}
		synctest.Wait()
		if err := answer(t.Context(), g, ok); !errors.Is(err, shared.ErrOverloaded) {
			t.Errorf("one call too many got %v", err)
		}
		g.open(&process{})
		synctest.Wait()
		if n := refused.Load(); n != 0 {
			t.Errorf("%d calls within the bound failed", n)
		}
		if err := answer(t.Context(), g, ok); err != nil {
			t.Errorf("after the crowd: %v", err)
		}
	})
}

func TestGate_Drain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(nil)
		g.open(&process{})
		finish := make(chan struct{})
		done := make(chan error, 2)
		go func() { done <- answer(t.Context(), g, func() error { <-finish; return nil }) }()
		synctest.Wait()
		g.hold()
		go func() { done <- answer(t.Context(), g, ok) }() // held: drain does not wait for it
		bounded, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.drain(bounded); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drain with a call inside: %v", err)
		}
		close(finish)
		if err := g.drain(t.Context()); err != nil {
			t.Error(err)
		}
		g.open(&process{})
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestGate_MaxCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(nil)
		g.open(&process{})
		calls := 0
		err := answer(t.Context(), g, func() error {
			calls++
			g.open(&process{})
			return shared.ErrUnavailable
		})
		if !errors.Is(err, shared.ErrUnavailable) || calls != maxCuts {
			t.Errorf("%d calls, error %v", calls, err)
		}
	})
}
