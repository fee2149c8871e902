package engine

import (
	"fmt"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/rules"
)

// What recalls spend of the limits of the rules is in the index, so that it outlives the process, and in the log, so
// that the nodes of a cluster count together. Limits count by a clock that is never set. Its readings mean nothing to
// another process, which has when a recall counts as a time of the wall clock, or as how long ago that was.

// spendOf is what the recall of a request that arrived at a moment spends of limits; nil if nothing.
func spendOf(reserved rules.Reservation, arrived moment) *index.Spend {
	u, ok := reserved.Unit()
	if !ok {
		return nil
	}
	waited := max(steady.Add(arrived.elapsed).Sub(u.At), 0)
	return &index.Spend{Limit: u.Limit, At: arrived.now.Add(-waited), Waited: waited, Kept: u.Kept}
}

// countSpends has the limiter count what was spent before this process began, and what is spent elsewhere.
func (e *Engine) countSpends(log journal.Log) error {
	err := log.Spends(rules.MaxUnits,
		func(s *index.Spend) { e.spent(s, max(e.now().Sub(s.At), 0)) },
		func(s *index.Spend) { e.spent(s, s.Waited) })
	if err != nil {
		return fmt.Errorf("read what was spent of limits: %w", err)
	}
	return nil
}

// spent counts what another process spent so long ago.
func (e *Engine) spent(s *index.Spend, ago time.Duration) {
	if ago < s.Kept {
		e.limiter.Add(rules.Unit{Limit: s.Limit, At: steady.Add(e.clock.Elapsed() - ago), Kept: s.Kept})
	}
}
