package host

import (
	"context"
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

// isStuck watches a plugin that becomes active, until ended is closed. It returns true if health shows no progress for
// long.
func isStuck(ended <-chan struct{}, health func(context.Context) (wire.Health, error), every, long time.Duration) bool {
	tick := time.NewTicker(every)
	defer tick.Stop()
	done, since := uint64(0), time.Now()
	for time.Since(since) < long {
		select {
		case <-ended:
			return false
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), healthDeadline)
		h, err := health(ctx)
		cancel()
		if err == nil && h.Done != done {
			done, since = h.Done, time.Now()
		}
	}
	return true
}
