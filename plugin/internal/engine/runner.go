package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/plugin/internal/clock"
	"github.com/chat-recall/recall/shared"
)

// work is durable work that goes on in slices, between the calls of the host: what is left of it is in the index.
type work interface {
	// name tells it from other work.
	name() string

	// changed says that a call has changed it in the index. It is called beside slice.
	changed()

	// slice does the next part, and at most one commit. It takes about a millisecond and the time of the commit. After an
	// error it is called again later. One goroutine calls it.
	slice(ctx context.Context, a *active) (progress, error)
}

// progress is where work stands after a slice.
type progress struct {
	done bool
	due  time.Duration // when the next slice is, at the earliest, by the monotonic clock
}

// source finds work that is to be done.
type source interface {
	// find returns all work that is not done; nil if that is the same as at its last call. It is called often.
	find(ctx context.Context, a *active) ([]work, error)
}

// A slice is short, so that no call waits for long behind one. And for each slice the runner pauses: while the host
// calls, so long that calls find the index idle most of the time.
const (
	busyPause = 8 // times as long as the slice took
	idlePause = 0.5
	maxPause  = 250 * time.Millisecond // after a slice that had to wait, as for a disk

	findEvery = time.Second // other nodes of a cluster start work, too

	// The first of several errors in a row delays the next slice by firstRetry, and each further one by twice as much as
	// the one before, up to lastRetry.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// runner does work in slices, each of several works in its turn.
type runner struct {
	engine  *Engine
	clock   clock.Clock
	logger  hclog.Logger
	sources []source

	wake chan struct{} // one token: there may be new work
	done chan struct{} // closed when run has returned

	mu    sync.Mutex
	works map[string]*turn
	turns uint64 // that were taken
}

// turn is a work and when its next slice is due.
type turn struct {
	work
	due    time.Duration // by the monotonic clock
	poked  bool          // since its slice began
	last   uint64        // number of its last turn
	errors int           // in a row
	err    error         // the last one; nil after a slice without one
}

func newRunner(e *Engine, sources ...source) *runner {
	return &runner{
		engine: e, clock: e.clock, logger: e.logger, sources: sources, wake: make(chan struct{}, 1),
		done: make(chan struct{}), works: map[string]*turn{},
	}
}

// poke says that a call has added or changed a work. It does not block.
func (r *runner) poke(name string) {
	r.mu.Lock()
	if t := r.works[name]; t != nil {
		t.changed()
		t.due, t.poked = r.clock.Elapsed(), true
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run does work until ctx ends or the index is released.
func (r *runner) run(ctx context.Context) {
	defer close(r.done)
	asked := r.engine.asked.Load()
	for found := r.clock.Elapsed() - findEvery; ; {
		if now := r.clock.Elapsed(); now-found >= findEvery {
			if !r.find(ctx) {
				return
			}
			found = now
		}
		next, due := r.next()
		if next == nil {
			select {
			case <-ctx.Done():
				return
			case <-r.wake:
				found = r.clock.Elapsed() - findEvery
			case <-r.clock.At(min(due, found+findEvery)):
			}
			continue
		}
		began := time.Now() // what a slice costs is the machine's time, not the clock's
		if !r.slice(ctx, next) {
			return
		}
		var pause time.Duration
		pause, asked = r.engine.pauseAfter(time.Since(began), asked)
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			found = r.clock.Elapsed() - findEvery
		case <-time.After(pause):
		}
	}
}

// pauseAfter returns for how long work pauses after a slice, and how often the host has called. asked is how often that
// was after the slice before.
func (e *Engine) pauseAfter(took time.Duration, asked uint64) (pause time.Duration, now uint64) {
	now = e.asked.Load()
	e.busy.Store(now != asked)
	if now != asked {
		return min(busyPause*took, maxPause), now
	}
	return min(time.Duration(idlePause*float64(took)), maxPause), now
}

// find takes up what is to be done; false: the index is released.
func (r *runner) find(ctx context.Context) bool {
	a, leave, err := r.engine.enter()
	if err != nil {
		return false
	}
	defer leave()
	for _, s := range r.sources {
		found, err := s.find(ctx, a)
		if err != nil {
			r.logger.Error("work that is to be done cannot be found; the plugin tries again", "error", err)
			continue
		}
		r.mu.Lock()
		for _, w := range found {
			if r.works[w.name()] == nil {
				r.turns++
				r.works[w.name()] = &turn{work: w, due: r.clock.Elapsed(), last: r.turns}
			}
		}
		r.mu.Unlock()
	}
	return ctx.Err() == nil
}

// next returns the work whose turn it is, of those that are due the one that waits longest; and when another
// one is due.
func (r *runner) next() (first *turn, due time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Elapsed()
	due = now + findEvery
	for _, t := range r.works {
		switch {
		case t.due > now:
			due = min(due, t.due)
		case first == nil || t.last < first.last:
			first = t
		}
	}
	if first != nil {
		r.turns++
		first.last, first.poked = r.turns, false
	}
	return first, due
}

// slice does a slice of a work; false: the index is released.
func (r *runner) slice(ctx context.Context, t *turn) bool {
	a, leave, err := r.engine.enter()
	if err != nil {
		return false
	}
	defer leave()
	p, err := t.work.slice(ctx, a)
	now := r.clock.Elapsed()
	if ctx.Err() != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.err = err
	switch {
	case err != nil:
		p.due = now + min(firstRetry<<min(t.errors, 16), lastRetry)
		if t.errors++; t.errors == 1 || errors.Is(err, shared.ErrDamaged) {
			r.logger.Error("background work does not get on; the plugin tries again", "work", t.name(), "error", err)
		}
	case p.done:
		delete(r.works, t.name())
	default:
		t.errors = 0
	}
	if t.due = p.due; t.poked {
		t.due = now
	}
	return true
}

// at returns the work of a name that is being done, and why it does not get on; nil if there is none.
func (r *runner) at(name string) (work, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.works[name]; t != nil {
		return t.work, t.err
	}
	return nil, nil
}

// count is how many works there are of a kind.
func (r *runner) count(is func(work) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.works {
		if is(t.work) {
			n++
		}
	}
	return n
}
