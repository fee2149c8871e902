package journal

import (
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// slowQueue is a queue whose settlements wait longer than any test.
func slowQueue() *queue {
	q := newQueue()
	q.maxDelay = time.Hour
	return &q
}

func mustPush(t *testing.T, q *queue, op index.Op) {
	t.Helper()
	if err := q.push(&call{ops: []index.Op{op}}); err != nil {
		t.Fatal(err)
	}
	q.signal()
}

// next returns what the committer commits next.
func next(q *queue) []*call {
	if !q.wait() {
		return nil
	}
	return q.take(maxEntryBytes)
}

func TestQueue_SettlementGoesAlongWithTheNextOperation(t *testing.T) {
	q := slowQueue()
	mustPush(t, q, settle(1, "notify", "done"))
	taken := make(chan []*call, 1)
	go func() { taken <- next(q) }()
	for len(q.wake) > 0 && len(taken) == 0 { // until it has looked at the queue, or did not wait
		runtime.Gosched()
	}
	mustPush(t, q, put(message("m")))
	if group := <-taken; len(group) != 2 {
		t.Errorf("%d calls in a group; want the settlement with the message", len(group))
	}
}

func TestQueue_SettlementAlone(t *testing.T) {
	q := newQueue()
	mustPush(t, &q, settle(1, "notify", "done"))
	if group := next(&q); len(group) != 1 {
		t.Errorf("%d calls in a group; want one", len(group))
	}
	mustPush(t, &q, settle(2, "notify", "done"))
	if group := next(&q); len(group) != 1 {
		t.Errorf("%d calls in the second group; want one", len(group))
	}
}

func TestQueue_ManySettlementsDoNotWait(t *testing.T) {
	q := slowQueue()
	for i := range batchSize {
		mustPush(t, q, settle(uint64(i+1), "notify", "done"))
	}
	if group := next(q); len(group) != batchSize {
		t.Errorf("%d calls in a group; want %d", len(group), batchSize)
	}
}

func TestQueue_ManySettlementsOfOneCallDoNotWait(t *testing.T) {
	q := slowQueue()
	if err := q.push(&call{ops: slices.Repeat([]index.Op{settle(1, "notify", "done")}, batchSize)}); err != nil {
		t.Fatal(err)
	}
	if group := next(q); len(group) != 1 || q.settling != 0 {
		t.Errorf("%d calls in a group, %d operations left", len(group), q.settling)
	}
}

// TestQueue_AllOrNone checks that an overload leaves nothing of a call that becomes several.
func TestQueue_AllOrNone(t *testing.T) {
	q := slowQueue()
	for range maxQueueCalls - 1 {
		mustPush(t, q, put(message("m")))
	}
	parts := []*call{{ops: []index.Op{put(message("a"))}}, {ops: []index.Op{put(message("b"))}}}
	if err := q.push(parts...); !errors.Is(err, shared.ErrOverloaded) || len(q.calls) != maxQueueCalls-1 {
		t.Errorf("%v, and %d calls wait", err, len(q.calls))
	}
	if err := q.push(parts[:1]...); err != nil {
		t.Error(err)
	}
	bytes := q.bytes
	for next(q); len(q.calls) > 0; next(q) {
	}
	if q.bytes != 0 {
		t.Errorf("%d of %d bytes are left", q.bytes, bytes)
	}
}

func TestQueue_ClosedDoesNotWait(t *testing.T) {
	q := slowQueue()
	mustPush(t, q, settle(1, "notify", "done"))
	q.close()
	if group := next(q); len(group) != 1 {
		t.Errorf("%d calls in a group; want the settlement", len(group))
	}
	if group := next(q); group != nil {
		t.Errorf("%d calls after the last", len(group))
	}
}
