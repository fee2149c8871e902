package engine

import (
	"context"
	"errors"
	"time"

	"github.com/chat-recall/recall/shared"
)

const (
	choreEvery = time.Second      // another node may have left some to do, or have gone
	choreRetry = 10 * time.Second // after a failure, such as a full disk
)

// chores is what the plugin does by itself, between calls: it goes on with open cascades, and ends waits.
type chores struct {
	engine *Engine
	active *active
	wake   chan struct{} // one token: there may be an open cascade
	done   chan struct{} // closed when run has returned
}

func newChores(e *Engine, a *active) *chores {
	return &chores{engine: e, active: a, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// recalled says that there may be a new open cascade. It does not block.
func (c *chores) recalled() {
	if !c.active.index.HasOpenCascades() {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run does chores until ctx ends.
func (c *chores) run(ctx context.Context) {
	defer close(c.done)
	for waitsEnd := time.Duration(0); ctx.Err() == nil; {
		more, err := false, error(nil)
		now := c.engine.clock.Elapsed()
		again := now + choreEvery
		if c.isMine() {
			more, err = c.active.cascade(ctx)
			if err == nil && !more && now >= waitsEnd {
				if more, err = c.engine.endWaits(ctx, c.active); !more {
					waitsEnd = now + waitEndsEvery
				}
			}
		}
		switch {
		case more && err == nil:
			continue
		case err != nil && !errors.Is(err, shared.ErrUnavailable) && ctx.Err() == nil:
			c.engine.logger.Error("what recalls left to do is not done yet", "error", err)
			again = c.engine.clock.Elapsed() + choreRetry
		}
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-c.engine.clock.At(again):
		}
	}
}

// isMine reports whether this machine does the chores of the cluster: the first of the live members does. If two of
// them think so, the second one changes nothing.
func (c *chores) isMine() bool {
	if c.active.cluster == nil {
		return true
	}
	members, err := c.active.index.Members()
	if err != nil {
		return false
	}
	self, _ := c.active.cluster.log.Node()
	for name, m := range members {
		if name < self && !m.Gone {
			return false
		}
	}
	return true
}
