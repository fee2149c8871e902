package service

import (
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeClock stands still until a test moves it.
type fakeClock struct {
	mu     sync.Mutex
	armed  sync.Cond
	now    time.Time
	timers map[chan time.Time]time.Time
}

func newFakeClock() *fakeClock {
	c := &fakeClock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), timers: map[chan time.Time]time.Time{}}
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
	c.timers[ch] = c.now.Add(d)
	c.fire()
	c.armed.Broadcast()
	return ch
}

func (c *fakeClock) fire() {
	for ch, at := range c.timers {
		if !at.After(c.now) {
			ch <- c.now
			delete(c.timers, ch)
		}
	}
}

// advance moves the clock, also back.
func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.fire()
}

// waitArmed waits until somebody waits for exactly this moment.
func (c *fakeClock) waitArmed(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for _, t := range c.timers {
			if t.Equal(at) {
				return
			}
		}
		c.armed.Wait()
	}
}
