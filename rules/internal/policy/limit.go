package policy

import "time"

// Limit is a bound on how many recalls may be committed in any period of a length, for each value of its key.
type Limit struct {
	Name  string
	Key   []*Field
	Count int
	Per   time.Duration
}
