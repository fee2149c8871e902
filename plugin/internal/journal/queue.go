package journal

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// Limits of what waits for the committer. Beyond them a call is refused at once: on the slowest useful disk, 4,096
// calls wait for seconds, and by then their callers have given up. A single call may be larger than the bytes.
const (
	maxQueueCalls = 4096
	maxQueueBytes = 32 << 20
)

// Limits of one entry of a single machine, unless a single call is larger.
const (
	maxEntryOps   = 4096
	maxEntryBytes = 1 << 20
)

// Settlements wait for another operation, for batchSize of their kind, or for maxDelay: only the step that follows
// waits for one, and each recall brings some. So a recall by one caller is one sync of the disk and not two, because
// the settlement of the recall before goes along (bench speed: p50 0.7 ×).
const (
	maxDelay  = time.Millisecond
	batchSize = 64
)

// call is one Append that waits for its answer.
type call struct {
	ops       []index.Op
	bytes     int
	deferable bool // it only settles
	alone     bool // no other call is in its entry

	since   time.Time // of a log that is not of this machine: when it began to wait
	expired bool      // of such a log: it was answered because it waited for too long

	answer func([]index.Result, error) // called once, by whoever commits; it does not block
}

// errClosed says that the log was closed.
var errClosed = fmt.Errorf("%w: the index is released", shared.ErrUnavailable)

// queue holds the calls that wait for the committer.
type queue struct {
	wake     chan struct{} // one token: there is something to do
	maxDelay time.Duration // maxDelay

	mu        sync.Mutex
	calls     []*call
	bytes     int
	closed    bool
	overloads uint64

	deferred int       // of calls, those that only settle
	settling int       // operations of those
	due      time.Time // when those are committed alone
}

func newQueue() queue { return queue{wake: make(chan struct{}, 1), maxDelay: maxDelay} }

// push adds calls, all of them or none. The caller calls signal.
func (q *queue) push(calls ...*call) error {
	bytes := 0
	for _, c := range calls {
		c.deferable = len(c.ops) > 0
		for i := range c.ops {
			c.bytes += c.ops[i].Bytes()
			c.deferable = c.deferable && c.ops[i].Settle != nil
		}
		bytes += c.bytes
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errClosed
	}
	if len(q.calls)+len(calls) > maxQueueCalls || len(q.calls) > 0 && q.bytes+bytes > maxQueueBytes {
		q.overloads++
		return fmt.Errorf("%w: %d calls of %d bytes wait for the disk", shared.ErrOverloaded, len(q.calls), q.bytes)
	}
	q.calls = append(q.calls, calls...)
	q.bytes += bytes
	for _, c := range calls {
		if !c.deferable {
			continue
		}
		q.settling += len(c.ops)
		if q.deferred++; q.deferred == 1 {
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
		if waiting == q.deferred && q.settling < batchSize && !closed {
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

// take returns the calls of the next entry, of at most so many bytes unless a single one is larger; none if none wait.
func (q *queue) take(maxBytes int) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, ops, bytes := 0, 0, 0
	for _, c := range q.calls {
		if n > 0 && (c.alone || q.calls[n-1].alone || ops+len(c.ops) > maxEntryOps || bytes+c.bytes > maxBytes) {
			break
		}
		n, ops, bytes = n+1, ops+len(c.ops), bytes+c.bytes
		if c.deferable {
			q.deferred--
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

// gather yields until no more calls arrive: a frame brings many calls, and the first of them must not leave the others
// to a sync of their own (bench speed: 64 and 256 callers index 1.17 × as many messages a second).
func (q *queue) gather() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for waiting := 0; waiting < len(q.calls) && len(q.calls) < maxEntryOps; {
		waiting = len(q.calls)
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
	}
}

// expire removes and returns the calls that began to wait before a moment.
func (q *queue) expire(before time.Time) (expired []*call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := q.calls[:0]
	for _, c := range q.calls {
		if !c.since.Before(before) {
			kept = append(kept, c)
			continue
		}
		expired = append(expired, c)
		q.bytes -= c.bytes
		if c.deferable {
			q.deferred--
			q.settling -= len(c.ops)
		}
	}
	clear(q.calls[len(kept):])
	q.calls = kept
	return expired
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
