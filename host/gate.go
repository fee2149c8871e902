package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

const (
	// maxCalls bounds the calls that are under way or held, since each keeps a goroutine and its request in the
	// host's memory. One more is answered with shared.ErrOverloaded at once.
	maxCalls = 16384

	// maxCallBytes bounds their requests, by about what they take on the wire.
	maxCallBytes = 64 << 20

	// changeTime is how long a plugin that answered "unavailable" may take to be seen dead or be replaced before
	// that answer goes to the caller.
	changeTime = 5 * time.Second

	// overloadRetry is how long a call that was cut off waits before it is repeated on a plugin that was overloaded.
	overloadRetry = 20 * time.Millisecond

	// maxCuts is how many plugins may end under one call. Repeats are bounded so that a call which crashes the plugin
	// cannot crash every restart.
	maxCuts = 10
)

// errClosed says that the host was closed.
var errClosed = fmt.Errorf("%w: the host is closed", shared.ErrUnavailable)

// A gate lets calls through to the plugin that is in force. While there is none it holds them: until there is one
// again, until their own context ends, or until refuse says that none will come.
type gate struct {
	mu      sync.Mutex
	through *process      // nil: calls are held
	refusal error         // not nil: calls are not held but answered with it
	change  chan struct{} // closed when through or refusal changes
	calls   int           // under way or held
	bytes   int64         // of their requests
	inside  int           // calls under way in a plugin
	empty   chan struct{} // closed when inside falls to 0; nil while nobody waits for that

	insideBytes int64     // of the requests of the calls under way in a plugin
	comeback    *comeback // nil: all calls are let in
	relapses    int       // crashes since all calls were
	queue       queue     // calls that are held until there is room

	onHeld func(time.Duration) // told of each call that was held and then let through; may be nil
}

func newGate(onHeld func(time.Duration)) *gate {
	return &gate{change: make(chan struct{}), onHeld: onHeld}
}

func (g *gate) open(p *process)  { g.set(p, nil) }
func (g *gate) hold()            { g.set(nil, nil) }
func (g *gate) refuse(err error) { g.set(nil, err) }

func (g *gate) set(p *process, refusal error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.through, g.refusal = p, refusal
	close(g.change)
	g.change = make(chan struct{})
}

// smallCall is about the size of a request that holds some ids and no more.
const smallCall = 256

// call is sizedCall for a request that holds little.
func call[T any](ctx context.Context, g *gate, f func(*wire.Client) (T, error)) (T, error) {
	return sizedCall(ctx, g, smallCall, f)
}

// sizedCall makes one call of the plugin in force, with a request of about size bytes. A call that was cut off by
// the end of its plugin is repeated on the next one: every call of the contract may be.
func sizedCall[T any](ctx context.Context, g *gate, size int64, f func(*wire.Client) (T, error)) (T, error) {
	var zero T
	size = min(size, wire.MaxWireBytes) // what is larger is refused before it is sent
	if err := g.admit(size); err != nil {
		return zero, err
	}
	defer g.dismiss(size)
	var held time.Time // since when; zero: it was not held
	for cuts := 0; ; {
		p, err := g.enter(ctx, size, &held)
		if err != nil {
			return zero, err
		}
		if !held.IsZero() && g.onHeld != nil {
			g.onHeld(time.Since(held))
		}
		v, err := f(p.api)
		g.leave(size, err == nil)
		switch {
		case err == nil:
			p.answered.Add(1)
			return v, nil
		case cuts > 0 && errors.Is(err, shared.ErrOverloaded): // which says that nothing was done; the plugin before may have
			select {
			case <-ctx.Done():
				return zero, ctx.Err()
			case <-time.After(overloadRetry):
				held = time.Time{}
			}
		case ctx.Err() != nil:
			return v, err
		case errors.Is(err, shared.ErrUnavailable):
			if cuts++; cuts == maxCuts {
				return zero, fmt.Errorf("%w; %d plugins in a row ended under this call", err, cuts)
			}
			held = time.Now()
			if !g.changed(ctx, p, changeTime) {
				return zero, err
			}
			if p.retired.Load() { // its successor is well
				continue
			}
			select {
			case <-ctx.Done():
				return zero, ctx.Err()
			case <-time.After(repeatDelay(cuts)):
			}
		default:
			return v, err
		}
	}
}

// admit counts a call in, unless too much is under way or held; dismiss must follow.
func (g *gate) admit(size int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.calls >= maxCalls:
		return fmt.Errorf("%w: %d calls are waiting for it", shared.ErrOverloaded, maxCalls)
	case g.calls > 0 && g.bytes+size > maxCallBytes:
		return fmt.Errorf("%w: requests of %d bytes are waiting for it, and another of %d would be more than %d (host)",
			shared.ErrOverloaded, g.bytes, size, maxCallBytes)
	}
	g.calls++
	g.bytes += size
	return nil
}

func (g *gate) dismiss(size int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
	g.bytes -= size
}

// enter waits for a plugin in force, and after a crash for room, and lets one call in; leave must follow. If it has
// to wait it says since when.
func (g *gate) enter(ctx context.Context, size int64, held *time.Time) (*process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		ready := g.through != nil && g.hasRoom(size)
		if held.IsZero() && g.refusal == nil && !ready {
			*held = time.Now()
		}
		err := g.await(ctx, func() bool { return g.through != nil || g.refusal != nil })
		if err == nil {
			err = g.refusal
		}
		if err == nil && !g.hasRoom(size) {
			if err = g.awaitRoom(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		g.inside++
		g.insideBytes += size
		return g.through, nil
	}
}

// leave ends what enter began.
func (g *gate) leave(size int64, answered bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.insideBytes -= size
	if answered {
		g.answered(size)
	}
	g.queue.wake(2) // for its room, and for what an answer adds to it
	if g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// inForce is the plugin in force, nil while there is none.
func (g *gate) inForce() *process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.through
}

// current waits for a plugin in force, however long none will come.
func (g *gate) current(ctx context.Context) (*process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.await(ctx, func() bool { return g.through != nil }); err != nil {
		return nil, err
	}
	return g.through, nil
}

// changed waits until p is not in force any more, and tells whether that came within patience.
func (g *gate) changed(ctx context.Context, p *process, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.await(ctx, func() bool { return g.through != p }) == nil
}

// await waits until ready, which is asked with mu held, or until ctx ends.
func (g *gate) await(ctx context.Context, ready func() bool) error {
	for !ready() {
		change := g.change
		g.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
		}
		g.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// drain waits until no call is inside any more, or ctx ends. It is of use only while the gate holds.
func (g *gate) drain(ctx context.Context) error {
	g.mu.Lock()
	if g.inside == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
