package host

import (
	"fmt"
	"time"

	"github.com/chat-recall/recall/internal/wire"
)

// progress tells a busy plugin from a hung one. A plugin is hung when calls wait and none is completed for
// healthDeadline, however long it has been busy before.
type progress struct {
	process *process
	done    uint64    // of the last health call that showed progress
	since   time.Time // when that was
}

// healthy evaluates an answer to a health call. It returns an error if the plugin is hung.
func (g *progress) healthy(p *process, h wire.Health, now time.Time) error {
	if g.process != p || h.Waiting == 0 || h.Done != g.done {
		*g = progress{process: p, done: h.Done, since: now}
		return nil
	}
	if stuck := now.Sub(g.since); stuck >= healthDeadline {
		return fmt.Errorf("it is hung: %d calls wait, and none was done for %s", h.Waiting, stuck.Round(time.Second))
	}
	return nil
}

// silent evaluates a health call that got no answer within healthDeadline, in which the plugin answered so many other
// calls.
func (g *progress) silent(answered uint64) error {
	if answered > 0 {
		return nil
	}
	return fmt.Errorf("it is hung: it answered neither a health call nor any other within %s", healthDeadline)
}
