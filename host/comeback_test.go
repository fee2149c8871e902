package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// fakePlugin takes a millisecond for each call, and ends under a poisonous one.
type fakePlugin struct {
	gate *gate

	mu     sync.Mutex
	now    *process
	ended  chan struct{} // closed when now ends
	inside int
	peak   []int // of each millisecond
	ends   int
	start  time.Time
}

func newFakePlugin(g *gate) *fakePlugin {
	return &fakePlugin{gate: g, now: &process{}, ended: make(chan struct{}), start: time.Now()}
}

// call is one call of it.
func (p *fakePlugin) call(ctx context.Context, size int64, poison bool) error {
	_, err := sizedCall(ctx, p.gate, size, func(*wire.Client) (struct{}, error) {
		p.mu.Lock()
		ended := p.ended
		p.inside++
		for at := int(time.Since(p.start) / time.Millisecond); len(p.peak) <= at; {
			p.peak = append(p.peak, 0)
		}
		p.peak[len(p.peak)-1] = max(p.peak[len(p.peak)-1], p.inside)
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			p.inside--
			p.mu.Unlock()
		}()
		select {
		case <-ended:
			return struct{}{}, shared.ErrUnavailable
		case <-time.After(time.Millisecond):
		}
		if poison {
			p.crash()
			return struct{}{}, shared.ErrUnavailable
		}
		return struct{}{}, nil
	})
	return err
}

// crash ends it and starts the next one.
func (p *fakePlugin) crash() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends++
	close(p.ended)
	p.ended = make(chan struct{})
	p.gate.crashed()
	p.gate.hold()
	p.now = &process{}
	time.AfterFunc(20*time.Millisecond, func() { p.gate.open(p.now) })
}

func TestGate_RequestsAreBoundedByBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(nil)
		p := newFakePlugin(g)
		var all sync.WaitGroup
		for range maxCallBytes / (1 << 20) {
			all.Go(func() {
				if err := p.call(t.Context(), 1<<20, false); err != nil {
					t.Errorf("within the bound: %v", err)
				}
			})
		}
		synctest.Wait()
		err := p.call(t.Context(), smallCall, false)
		if !errors.Is(err, shared.ErrOverloaded) || !strings.Contains(err.Error(), fmt.Sprint(maxCallBytes)) {
			t.Errorf("one more: %v", err)
		}
		g.open(p.now)
		all.Wait()
		if err := p.call(t.Context(), 1<<40, false); err != nil { // refused by its own validation, elsewhere
			t.Errorf("alone: %v", err)
		}
	})
}

func TestGate_CallsComeBackSlowlyAfterACrash(t *testing.T) {
	for name, tc := range map[string]struct {
		size    int64
		calls   int
		first   int // at once at first
		within  time.Duration
		crashes int
	}{
		"small calls": {size: smallCall, calls: 5000, first: comebackCalls, within: 20 * time.Millisecond,
			crashes: 1},
		"large calls": {size: 1 << 20, calls: 60, first: 1, within: 20 * time.Millisecond, crashes: 1},
		"after three crashes": {size: smallCall, calls: 5000, first: comebackCalls / 4, within: 20 * time.Millisecond,
			crashes: 3},
		"after many": {size: smallCall, calls: 100, first: 1, within: 20 * time.Millisecond, crashes: 50},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(nil)
				p := newFakePlugin(g)
				for range tc.crashes {
					g.crashed()
				}
				g.hold()
				var all sync.WaitGroup
				for range tc.calls {
					all.Go(func() {
						if err := p.call(t.Context(), tc.size, false); err != nil {
							t.Error(err)
						}
					})
				}
				synctest.Wait()
				p.start = time.Now()
				g.open(p.now)
				all.Wait()
				if p.peak[0] != tc.first {
					t.Errorf("%d calls at once at first, want %d", p.peak[0], tc.first)
				}
				for i, n := range p.peak[1:] {
					if n > 3*p.peak[i] {
						t.Errorf("%d calls at once after %d", n, p.peak[i])
					}
				}
				if took := time.Since(p.start); took > tc.within {
					t.Errorf("all were answered after %s, want %s", took, tc.within)
				}
			})
		})
	}
}

func TestGate_PoisonousCallHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(nil)
		p := newFakePlugin(g)
		g.open(p.now)
		var all sync.WaitGroup
		for i := range 500 {
			all.Go(func() {
				err := p.call(t.Context(), smallCall, i == 250)
				if poison := i == 250; poison != errors.Is(err, shared.ErrUnavailable) || !poison && err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		all.Wait()
		if p.ends != maxCuts {
			t.Errorf("it ended %d plugins, want %d", p.ends, maxCuts)
		}
	})
}

func TestGate_CallWhoseContextEndsWhileItWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(nil)
		p := newFakePlugin(g)
		g.crashed()
		g.open(p.now)
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%3)*500*time.Microsecond)
				defer cancel()
				if i%3 == 0 {
					ctx = t.Context()
				}
				err := p.call(ctx, smallCall, false)
				if err != nil && (i%3 == 0 || !errors.Is(err, context.DeadlineExceeded)) {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		all.Wait()
	})
}

func TestGate_CallCutOffByAnUpgradeIsRepeatedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(nil)
		old := &process{}
		g.open(old)
		start, cuts := time.Now(), 0
		err := answer(t.Context(), g, func() error {
			if cuts++; cuts > 1 {
				return nil
			}
			old.retired.Store(true)
			g.hold()
			g.open(&process{})
			return shared.ErrUnavailable
		})
		if err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}
