package index

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

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

// Nobody waits for a settlement but the step behind it, and each recall brings some. So settlements wait for company:
// for another operation, for settleCompany of their kind, or for settlePatience. A recall by one caller is then one
// sync of the disk and not two, for the settlement of the one before goes along (bench speed: p50 0.7 ×).
const (
	settlePatience = time.Millisecond
	settleCompany  = 64
)

// call is one Append that waits for its answer. A filler is one that writes filler.
type call struct {
	ops     []Op
	filler  int // bytes
	bytes   int
	patient bool // it only settles

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
	wake     chan struct{} // one token: there is something to do
	patience time.Duration // settlePatience

	mu        sync.Mutex
	calls     []*call
	bytes     int
	closed    bool
	overloads uint64

	patient int       // calls among calls that are
	due     time.Time // when those go alone
}

func newQueue() queue { return queue{wake: make(chan struct{}, 1), patience: settlePatience} }

func (q *queue) push(ops []Op) (*call, error) {
	c := &call{ops: ops, done: make(chan struct{}), patient: len(ops) > 0}
	for i := range ops {
		c.bytes += ops[i].bytes()
		c.patient = c.patient && ops[i].Settle != nil
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

// filler is not bounded by what waits: its caller waits for each.
func (q *queue) filler(bytes int) (*call, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, errClosed
	}
	c := &call{filler: bytes, bytes: bytes, done: make(chan struct{})}
	q.add(c)
	return c, nil
}

func (q *queue) add(c *call) {
	q.calls = append(q.calls, c)
	q.bytes += c.bytes
	if c.patient {
		if q.patient++; q.patient == 1 {
			q.due = time.Now().Add(q.patience)
		}
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for calls and returns the next group of them; none once the queue is closed and empty.
func (q *queue) take() []*call {
	for {
		q.mu.Lock()
		waiting, patience := len(q.calls), time.Duration(0)
		if waiting == q.patient && q.patient < settleCompany && !q.closed {
			patience = time.Until(q.due)
		}
		if waiting == 0 && q.closed {
			q.mu.Unlock()
			return nil
		}
		if waiting > 0 && patience <= 0 {
			break
		}
		q.mu.Unlock()
		q.wait(waiting, patience)
	}
	q.gather()
	defer q.mu.Unlock()
	n, ops, bytes := 0, 0, 0
	for _, c := range q.calls {
		if n > 0 && (ops+len(c.ops) > maxGroupOps || bytes+c.bytes > maxGroupBytes) {
			break
		}
		n, ops, bytes = n+1, ops+len(c.ops), bytes+c.bytes
		if c.patient {
			q.patient--
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

// wait returns when there may be something new; where calls wait already, after patience at the latest.
func (q *queue) wait(waiting int, patience time.Duration) {
	if waiting == 0 {
		<-q.wake
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-q.wake:
	case <-timer.C:
	}
}

// gather lets those add their calls who are about to: calls come in by the frame, and the first of one must not leave
// the others behind for a sync of their own (bench speed: 64 and 256 callers index 1.17 × as many messages a second).
// It is called and returns with mu held.
func (q *queue) gather() {
	for waiting := 0; waiting < len(q.calls) && len(q.calls) < maxGroupOps; {
		waiting = len(q.calls)
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
	}
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
