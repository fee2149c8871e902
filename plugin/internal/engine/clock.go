package engine

import "time"

// Clock is where the engine takes the time from, so that a test can set it. Now is the wall clock, which people and
// NTP set: it goes into what is kept and shown, and judges the times of requests. Nothing is waited for or ordered by
// it.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// systemClock is the clock of the machine.
type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// monotonic is a clock that nobody sets: its time since some moment only grows. A Clock of a test can be one.
type monotonic interface{ Elapsed() time.Duration }

// started is when the process did, as far as this package can tell.
var started = time.Now()

// elapsedOf is the monotonic time of a clock: that of the machine where it has none of its own.
func elapsedOf(c Clock) func() time.Duration {
	if m, ok := c.(monotonic); ok {
		return m.Elapsed
	}
	return func() time.Duration { return time.Since(started) }
}
