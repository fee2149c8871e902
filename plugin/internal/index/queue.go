package index

import (
	"context"
	"fmt"
	"sync"

	"github.com/chat-recall/recall/shared"
)

// What may wait for the committer. Over it a call is refused at once: at the slowest that a disk is useful, 4,096
// calls are a wait of seconds, after which their callers have given up. A single call may be larger than the bytes.
const (
	maxQueueCalls = 4096
	maxQueueBytes = 32 << 20
)

// What the committer takes at a time, unless one call alone is more.
const (
	maxGroupOps   = 4096
	maxGroupBytes = 1 << 20
)

// call is one Append that waits for its answer. A ping is a call without operations.
type call struct {
	ops   []Op
	bytes int

	done    chan struct{} // closed by the committer, after it set what follows
	results []Result
	err     error
}

func (c *call) answer(results []Result, err error) {
	c.results, c.err = results, err
	close(c.done)
}

func (c *call) wait(ctx context.Context) ([]Result, error) {
	select {
	case <-c.done:
		return c.results, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// queue is what waits for the committer.
type queue struct {
	wake chan struct{} // one token: there is something to do

	mu        sync.Mutex
	calls     []*call
	pinging   *call // the ping among calls; all who ask wait for the same
	bytes     int
	closed    bool
	overloads uint64
}

func (q *queue) push(ops []Op) (*call, error) {
	c := &call{ops: ops, done: make(chan struct{})}
	for i := range ops {
		c.bytes += ops[i].bytes()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, errClosed
	}
	if len(q.calls) >= maxQueueCalls || len(q.calls) > 0 && q.bytes+c.bytes > maxQueueBytes {
		q.overloads++
		return nil, fmt.Errorf("%w: %d calls of %d bytes wait for the disk", shared.ErrOverloaded, len(q.calls), q.bytes)
	}
	q.add(c)
	return c, nil
}

// ping is not bounded by what waits, for a full queue is no failure.
func (q *queue) ping() (*call, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, errClosed
	}
	if q.pinging == nil {
		q.pinging = &call{done: make(chan struct{})}
		q.add(q.pinging)
	}
	return q.pinging, nil
}

func (q *queue) add(c *call) {
	q.calls = append(q.calls, c)
	q.bytes += c.bytes
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for calls and returns the next group of them; none once the queue is closed and empty.
func (q *queue) take() []*call {
	for {
		q.mu.Lock()
		if len(q.calls) > 0 {
			break
		}
		if q.closed {
			q.mu.Unlock()
			return nil
		}
		q.mu.Unlock()
		<-q.wake
	}
	defer q.mu.Unlock()
	n, ops, bytes := 0, 0, 0
	for _, c := range q.calls {
		if n > 0 && (ops+len(c.ops) > maxGroupOps || bytes+c.bytes > maxGroupBytes) {
			break
		}
		n, ops, bytes = n+1, ops+len(c.ops), bytes+c.bytes
		if c == q.pinging {
			q.pinging = nil
		}
	}
	group := make([]*call, n)
	copy(group, q.calls)
	rest := copy(q.calls, q.calls[n:])
	clear(q.calls[rest:])
	q.calls = q.calls[:rest]
	q.bytes -= bytes
	return group
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) stats() (calls, bytes int, overloads uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.calls), q.bytes, q.overloads
}
