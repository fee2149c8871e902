package host

import "time"

// SetStepTimeout changes StepTimeout for hosts that are opened from then on, until restore is called.
func SetStepTimeout(d time.Duration) (restore func()) {
	before := stepTimeout
	stepTimeout = d
	return func() { stepTimeout = before }
}
