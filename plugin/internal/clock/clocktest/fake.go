// Package clocktest has a clock for tests.
package clocktest

import (
	"sync"
	"time"
)

// Fake is a [github.com/chat-recall/recall/plugin/internal/clock.Clock] that stands still until a test moves it. Its
// timers are of the monotonic time, which only Advance moves.
type Fake struct {
	mu      sync.Mutex
	armed   sync.Cond
	now     time.Time // wall
	elapsed time.Duration
	timers  map[chan time.Time]time.Duration
}

// New makes a clock that stands at noon of a day, with Elapsed at zero.
func New() *Fake {
	c := &Fake{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), timers: map[chan time.Time]time.Duration{}}
	c.armed.L = &c.mu
	return c
}

// Now is the wall clock.
func (c *Fake) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// At is a timer of the monotonic time.
func (c *Fake) At(elapsed time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.timers[ch] = elapsed
	c.fire()
	c.armed.Broadcast()
	return ch
}

func (c *Fake) fire() {
	for ch, at := range c.timers {
		if at <= c.elapsed {
			ch <- c.now
			delete(c.timers, ch)
		}
	}
}

// Elapsed is the monotonic time.
func (c *Fake) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elapsed
}

// Advance moves both times.
func (c *Fake) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.elapsed = c.now.Add(d), c.elapsed+d
	c.fire()
}

// Shift moves the wall clock alone, also back.
func (c *Fake) Shift(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// WaitArmed waits until somebody waits for exactly this moment.
func (c *Fake) WaitArmed(at time.Duration) {
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
