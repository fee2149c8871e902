// Package clock is where the plugin takes the time from.
package clock

import "time"

// Clock has two times. Now is the wall clock, which people and NTP set: it goes into what is kept and shown, and judges
// the times of requests. Nothing is waited for or ordered by it. Elapsed and After are monotonic.
type Clock interface {
	Now() time.Time
	Elapsed() time.Duration // since some moment; nobody sets it
	After(d time.Duration) <-chan time.Time
}

// System is the clock of the machine.
type System struct{}

// started is when the process did, as far as this package can tell.
var started = time.Now()

// Now is [time.Now].
func (System) Now() time.Time { return time.Now() }

// Elapsed is the time since the process started.
func (System) Elapsed() time.Duration { return time.Since(started) }

// After is [time.After].
func (System) After(d time.Duration) <-chan time.Time { return time.After(d) }
