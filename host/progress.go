package host

import (
	"fmt"
	"time"

	"github.com/chat-recall/recall/shared"
)

// progress watches whether a plugin gets on with its work. One that is busy, for minutes if need be, is not hung: hung is one
// in which something waits and nothing is done for healthDeadline.
type progress struct {
	process *process
	done    uint64    // by the last health call that told of progress
	since   time.Time // when that was
}

// healthy takes in an answer to a health call, and tells whether the plugin is hung.
func (g *progress) healthy(p *process, h shared.Health, now time.Time) error {
	if g.process != p || h.Waiting == 0 || h.Done != g.done {
		*g = progress{process: p, done: h.Done, since: now}
		return nil
	}
	if stuck := now.Sub(g.since); stuck >= healthDeadline {
		return fmt.Errorf("it is hung: %d calls wait, and none was done for %s", h.Waiting, stuck.Round(time.Second))
	}
	return nil
}

// silent takes in a health call that was not answered within healthDeadline, during which answered calls were answered.
func (g *progress) silent(answered uint64) error {
	if answered > 0 {
		return nil
	}
	return fmt.Errorf("it is hung: it answered neither a health call nor any other within %s", healthDeadline)
}
