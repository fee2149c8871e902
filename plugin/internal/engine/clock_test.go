package engine

import (
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeClock stands still until a test moves it. Its timers are of the monotonic time, which only advance moves.
type fakeClock struct {
	mu      sync.Mutex
	armed   sync.Cond
	now     time.Time // wall
	elapsed time.Duration
	timers  map[chan time.Time]time.Duration
}

func newFakeClock() *fakeClock {
	c := &fakeClock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), timers: map[chan time.Time]time.Duration{}}
	c.armed.L = &c.mu
	return c
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.timers[ch] = c.elapsed + d
	c.fire()
	c.armed.Broadcast()
	return ch
}

func (c *fakeClock) fire() {
	for ch, at := range c.timers {
		if at <= c.elapsed {
			ch <- c.now
			delete(c.timers, ch)
		}
	}
}

// Elapsed is monotonic.
func (c *fakeClock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elapsed
}

// advance moves the clock.
func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.elapsed = c.now.Add(d), c.elapsed+d
	c.fire()
}

// set changes the wall clock alone, also back.
func (c *fakeClock) set(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// waitArmed waits until somebody waits for exactly this moment.
func (c *fakeClock) waitArmed(at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for _, t := range c.timers {
			if t == at {
				return
			}
		}
		c.armed.Wait()
	}
}
