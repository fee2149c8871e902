package index

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/chat-recall/recall/plugin/internal/badgerdir"
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

// Nobody waits for a settlement but the step behind it, and each recall brings some. So settlements wait for another
// operation, for a batch of their kind, or for settleDelay. A recall by one caller is then one sync of the disk and not
// two, because the settlement of the one before goes along (bench speed: p50 0.7 ×).
const (
	settleDelay = time.Millisecond
	settleBatch = 64
)

// call is one Append that waits for its answer. One that pads the log has no operations.
type call struct {
	ops     []Op
	padding int // bytes
	bytes   int
	patient bool // it only settles

	answer func([]Result, error) // called once, by whoever commits; it does not block
}

// queue is what waits for the committer.
type queue struct {
	wake     chan struct{} // one token: there is something to do
	maxDelay time.Duration // settleDelay

	mu        sync.Mutex
	calls     []*call
	bytes     int
	closed    bool
	overloads uint64

	patient  int       // of calls, those that only settle
	settling int       // operations of those
	due      time.Time // when those are committed alone
}

func newQueue() queue { return queue{wake: make(chan struct{}, 1), maxDelay: settleDelay} }

// push adds a call, and leaves it to the caller to signal.
func (q *queue) push(c *call) error {
	c.patient = len(c.ops) > 0
	for i := range c.ops {
		c.bytes += c.ops[i].bytes()
		c.patient = c.patient && c.ops[i].Settle != nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return badgerdir.ErrClosed
	}
	// Padding is not bounded by what waits: its caller waits for each.
	if c.padding == 0 && (len(q.calls) >= maxQueueCalls || len(q.calls) > 0 && q.bytes+c.bytes > maxQueueBytes) {
		q.overloads++
		return fmt.Errorf("%w: %d calls of %d bytes wait for the disk", shared.ErrOverloaded, len(q.calls), q.bytes)
	}
	c.bytes += c.padding
	q.calls = append(q.calls, c)
	q.bytes += c.bytes
	if c.patient {
		q.settling += len(c.ops)
		if q.patient++; q.patient == 1 {
			q.due = time.Now().Add(q.maxDelay)
		}
	}
	return nil
}

// signal wakes the committer.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// wait returns once there is something to commit; false once the queue is closed and empty.
func (q *queue) wait() bool {
	for {
		q.mu.Lock()
		waiting, closed, delay := len(q.calls), q.closed, time.Duration(0)
		if waiting == q.patient && q.settling < settleBatch && !closed {
			delay = time.Until(q.due)
		}
		q.mu.Unlock()
		switch {
		case waiting == 0 && closed:
			return false
		case waiting == 0:
			<-q.wake
		case delay <= 0:
			return true
		default:
			timer := time.NewTimer(delay)
			select {
			case <-q.wake:
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}

// take returns the next group of calls; none where none wait.
func (q *queue) take() []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, ops, bytes := 0, 0, 0
	for _, c := range q.calls {
		if n > 0 && (ops+len(c.ops) > maxGroupOps || bytes+c.bytes > maxGroupBytes) {
			break
		}
		n, ops, bytes = n+1, ops+len(c.ops), bytes+c.bytes
		if c.patient {
			q.patient--
			q.settling -= len(c.ops)
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

// gather lets those add their calls who are about to: calls come in by the frame, and the first of one must not leave
// the others behind for a sync of their own (bench speed: 64 and 256 callers index 1.17 × as many messages a second).
func (q *queue) gather() {
	q.mu.Lock()
	defer q.mu.Unlock()
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
	q.signal()
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.calls) == 0
}

func (q *queue) stats() (calls, bytes int, overloads uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.calls), q.bytes, q.overloads
}
