package policy

import "time"

// Limit allows at most Count recalls in any period of the length Per, for each value of its key.
type Limit struct {
	Name  string
	Key   []*Field
	Count int
	Per   time.Duration
}
