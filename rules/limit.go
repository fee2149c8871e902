package rules

import "time"

// limit is a bound on how many recalls may be committed in any period of a length, for each value of its key.
type limit struct {
	name  string
	key   []*field
	count int
	per   time.Duration
}
