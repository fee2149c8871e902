package host

import (
	"container/list"
	"context"
	"math/rand/v2"
	"time"
)

// After a crash, calls come back to the next plugin a few at a time: what crashed the last one, the load or one
// call, is most likely among them.
const (
	comebackCalls = 8       // let in at first; half as many after each crash before healthyCalls
	comebackBytes = 1 << 20 // of their requests; a larger call goes alone

	healthyCalls = 64 // after so many the next crash has another cause

	// fullCalls ends a comeback: as many as the plugin queues.
	fullCalls = 4096

	// A call that was cut off waits before it is repeated, twice as long each time, with jitter, so that one that
	// ends every plugin meets the others of its crash less and less.
	firstRepeat = 10 * time.Millisecond
	lastRepeat  = time.Second
)

// repeatDelay is how long a call waits after it was cut off for the nth time.
func repeatDelay(cuts int) time.Duration {
	d := min(firstRepeat<<min(cuts-1, 16), lastRepeat)
	return d/2 + rand.N(d/2)
}

// A comeback is how much is let in while calls come back, as in the slow start of TCP: each answer makes room for
// the next call and for one more.
type comeback struct {
	calls int
	bytes int64
}

// A queue is calls that wait for room, in their order. Its gate's mu guards it.
type queue struct{ waiting list.List } // of chan struct{}

// wake lets at most n calls look for room.
func (q *queue) wake(n int) {
	for ; n > 0 && q.waiting.Len() > 0; n-- {
		close(q.waiting.Remove(q.waiting.Front()).(chan struct{}))
	}
}

// crashed begins a comeback.
func (g *gate) crashed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.relapses++
	g.comeback = &comeback{calls: max(1, comebackCalls>>(g.relapses-1)), bytes: comebackBytes}
}

// hasRoom tells, with mu held, whether a call of this size is let in.
func (g *gate) hasRoom(size int64) bool {
	c := g.comeback
	return c == nil || g.inside == 0 || g.inside < c.calls && g.insideBytes+size <= c.bytes
}

// answered makes room, with mu held, after a call of this size was answered.
func (g *gate) answered(size int64) {
	c := g.comeback
	if c == nil {
		return
	}
	c.calls++
	c.bytes += size
	if c.calls >= healthyCalls {
		g.relapses = 0
	}
	if c.calls >= fullCalls || c.bytes >= maxCallBytes {
		g.comeback = nil
		g.queue.wake(g.queue.waiting.Len())
	}
}

// awaitRoom waits, with mu held, until a call of this size may look for room again, or ctx ends.
func (g *gate) awaitRoom(ctx context.Context) error {
	turn, change := make(chan struct{}), g.change
	place := g.queue.waiting.PushBack(turn)
	g.mu.Unlock()
	select {
	case <-turn:
	case <-change:
	case <-ctx.Done():
	}
	g.mu.Lock()
	select {
	case <-turn:
		if ctx.Err() != nil { // its turn is another's
			g.queue.wake(1)
		}
	default:
		g.queue.waiting.Remove(place)
	}
	return ctx.Err()
}
