// Package clock is where the plugin takes the time from.
package clock

import "time"

// Clock has two times. Now is the wall clock, which people and NTP set: it goes into what is kept and shown, and judges
// the times of requests. Nothing is waited for or ordered by it. Elapsed and At are monotonic.
//
// At takes a moment and not a duration: a duration would count from whenever the timer is set, which is after the
// caller has looked at the clock.
type Clock interface {
	Now() time.Time
	Elapsed() time.Duration                    // since some moment; nobody sets it
	At(elapsed time.Duration) <-chan time.Time // receives once Elapsed is there
}

// System is the clock of the machine.
type System struct{}

// started is when the process did, as far as this package can tell.
var started = time.Now()

// Now is [time.Now].
func (System) Now() time.Time { return time.Now() }

// Elapsed is the time since the process started.
func (System) Elapsed() time.Duration { return time.Since(started) }

// At is [time.After].
func (s System) At(elapsed time.Duration) <-chan time.Time { return time.After(elapsed - s.Elapsed()) }
