package delivery

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/clock/clocktest"
	"github.com/chat-recall/recall/shared"
)

// fakeIndex has open steps in memory.
type fakeIndex struct {
	mu         sync.Mutex
	open       map[string]map[uint64]int // step, to sequence, to how many attempts failed
	positions  map[string]map[uint64]uint64
	failures   uint64
	unreadable map[uint64]bool
	ext        string // of every event
}

func (x *fakeIndex) OpenSteps(_ context.Context, step string, after uint64, limit int) ([]uint64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []uint64
	for _, seq := range slices.Sorted(maps.Keys(x.open[step])) {
		if seq > after && len(out) < limit && x.open[step][seq] == 0 {
			out = append(out, seq)
		}
	}
	return out, nil
}

func (x *fakeIndex) BackingOff(_ context.Context, step string, level int, after, upTo uint64,
	limit int) ([]index.Failure, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []index.Failure
	for seq, attempts := range x.open[step] {
		at := x.positions[step][seq]
		if attempts > 0 && index.BackoffLevel(attempts) == level && at > after && at <= upTo {
			out = append(out, index.Failure{Position: at, Sequence: seq})
		}
	}
	slices.SortFunc(out, func(a, b index.Failure) int { return cmp.Compare(a.Position, b.Position) })
	return out[:min(limit, len(out))], nil
}

func (x *fakeIndex) LastFailure() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.failures
}

func (x *fakeIndex) Entry(sequence uint64, step string) (*shared.LedgerEntry, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.unreadable[sequence] {
		return nil, errors.New("a torn record")
	}
	attempts, open := x.open[step][sequence]
	if !open {
		return nil, nil
	}
	return &shared.LedgerEntry{
		Event: shared.Event{Sequence: sequence, Ext: x.ext}, Steps: []shared.StepRecord{{Step: step, Attempts: attempts}},
	}, nil
}

// bench is a dispatcher over a fake index.
type bench struct {
	t *testing.T
	*Dispatcher
	x     *fakeIndex
	clock *countingClock
}

func newBench(t *testing.T) *bench {
	x := &fakeIndex{
		open: map[string]map[uint64]int{}, positions: map[string]map[uint64]uint64{}, unreadable: map[uint64]bool{},
	}
	for _, step := range []string{"history", "offline"} {
		x.open[step], x.positions[step] = map[uint64]int{}, map[uint64]uint64{}
	}
	clock := &countingClock{Fake: clocktest.New()}
	return &bench{t, NewDispatcher(x, []string{"history", "offline"}, clock, hclog.NewNullLogger()), x, clock}
}

// countingClock counts the timers that were set.
type countingClock struct {
	*clocktest.Fake
	timers atomic.Int64
}

func (c *countingClock) At(elapsed time.Duration) <-chan time.Time {
	c.timers.Add(1)
	return c.Fake.At(elapsed)
}

// countTimers counts the timers that the dispatcher sets from now on. check fails if there are any.
func (b *bench) countTimers() (check func()) {
	b.t.Helper()
	b.InFlight() // until it has done what is due
	before := b.clock.timers.Load()
	return func() {
		b.t.Helper()
		for range 100 {
			b.InFlight()
		}
		if n := b.clock.timers.Load() - before; n > 0 {
			b.t.Errorf("%d timers were set for retries that have no room", n)
		}
	}
}

// add opens a step for events, as one commit.
func (b *bench) add(step string, sequences ...uint64) {
	b.x.mu.Lock()
	for _, seq := range sequences {
		b.x.open[step][seq] = 0
	}
	b.x.mu.Unlock()
	b.Dispatcher.Open(step, slices.Min(sequences))
}

// done settles a step; fail reports it failed.
func (b *bench) done(step string, sequence uint64) {
	b.x.mu.Lock()
	delete(b.x.open[step], sequence)
	b.x.mu.Unlock()
	b.Settle(sequence, step, index.StepState{})
}

func (b *bench) fail(step string, sequence uint64) {
	b.Settle(sequence, step, b.failOnDisk(step, sequence))
}

// failOnDisk records a failure, of which the dispatcher hears nothing yet.
func (b *bench) failOnDisk(step string, sequence uint64) index.StepState {
	b.x.mu.Lock()
	defer b.x.mu.Unlock()
	b.x.failures++
	b.x.open[step][sequence]++
	b.x.positions[step][sequence] = b.x.failures
	return index.StepState{Open: true, Attempts: b.x.open[step][sequence], Position: b.x.failures}
}

// consumer is one call of [Dispatcher.Run].
type consumer struct {
	t      *testing.T
	events chan shared.Delivery
	cancel context.CancelFunc
	result chan error
}

func (b *bench) consume() *consumer {
	ctx, cancel := context.WithCancel(context.Background())
	c := &consumer{b.t, make(chan shared.Delivery, 1<<16), cancel, make(chan error, 1)}
	go func() {
		c.result <- b.deliver(ctx, func(events []shared.Delivery, bytes int64) {
			c.take(events)
			b.taken(bytes)
		})
	}()
	b.t.Cleanup(cancel)
	return c
}

func (c *consumer) take(events []shared.Delivery) {
	for _, e := range events {
		c.events <- e
	}
}

// next takes n deliveries and returns their sequences.
func (c *consumer) next(n int) []uint64 {
	c.t.Helper()
	var out []uint64
	for range n {
		select {
		case e := <-c.events:
			out = append(out, e.Sequence)
		case <-time.After(10 * time.Second):
			c.t.Fatalf("only %d of %d deliveries came: %v", len(out), n, out)
		}
	}
	return out
}

// end stops the consumer and waits for it.
func (c *consumer) end() {
	c.cancel()
	<-c.result
}

func sequences(from, to uint64) []uint64 {
	var out []uint64
	for seq := from; seq <= to; seq++ {
		out = append(out, seq)
	}
	return out
}

func equal(t *testing.T, what string, got, want []uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func TestDispatcher_OldestFirst(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(1, 300)...)
	c := b.consume()
	defer c.end()
	for seq := range uint64(300) {
		equal(t, "delivery", c.next(1), []uint64{seq + 1})
		b.done("history", seq+1)
	}
}

func TestDispatcher_MaxInFlight(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(1, 1000)...)
	c := b.consume()
	defer c.end()
	equal(t, "window", c.next(maxInFlight), sequences(1, maxInFlight))
	if got := b.InFlight(); got["history"] != maxInFlight || len(c.events) > 0 {
		t.Fatalf("beyond the window: %+v, %d more deliveries", got, len(c.events))
	}
	b.done("history", 7)
	equal(t, "after one is settled", c.next(1), []uint64{maxInFlight + 1})
	if b.InFlight(); len(c.events) > 0 {
		t.Fatal("one settled let more than one in")
	}
	b.fail("history", 8)
	equal(t, "after one failed", c.next(1), []uint64{maxInFlight + 2})
	check := b.countTimers()
	b.clock.Advance(FirstRetry)
	check()
	b.done("history", 9)
	equal(t, "with room for it", c.next(1), []uint64{8})
}

func TestDispatcher_SlowStep(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(1, 1000)...)
	b.add("offline", sequences(1, 1000)...)
	c := b.consume()
	defer c.end()
	offline := uint64(0)
	for offline < 1000 {
		e := <-c.events
		if e.Step == "offline" {
			offline++
			b.done("offline", e.Sequence)
		}
	}
}

func TestDispatcher_Backoff(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(1, 200)...)
	c := b.consume()
	defer c.end()
	failedAt := b.clock.Elapsed()
	for seq := range uint64(200) {
		c.next(1)
		if seq+1 == 3 {
			b.fail("history", 3)
		} else {
			b.done("history", seq+1)
		}
	}
	for attempt, delay := range []time.Duration{FirstRetry, 2 * FirstRetry, 4 * FirstRetry} {
		b.clock.WaitArmed(failedAt + delay)
		b.clock.Advance(delay - time.Millisecond)
		if b.InFlight(); len(c.events) > 0 {
			t.Fatalf("before its time: %d deliveries", len(c.events))
		}
		b.clock.Advance(time.Millisecond)
		if e := <-c.events; e.Sequence != 3 || e.Attempt != attempt+2 {
			t.Fatalf("got event %d, attempt %d, want 3, %d", e.Sequence, e.Attempt, attempt+2)
		}
		failedAt = b.clock.Elapsed()
		b.fail("history", 3)
	}
}

func TestDispatcher_BackoffOfSeveralSteps(t *testing.T) {
	b := newBench(t)
	b.add("history", 1)
	b.add("offline", 2)
	c := b.consume()
	defer c.end()
	equal(t, "first", c.next(2), []uint64{1, 2})
	b.fail("history", 1)
	b.failOnDisk("offline", 2)
	b.fail("offline", 2) // its second attempt
	b.InFlight()         // until it is heard of
	b.clock.Advance(FirstRetry)
	equal(t, "due first", c.next(1), []uint64{1})
	if b.InFlight(); len(c.events) > 0 {
		t.Errorf("then %v", <-c.events)
	}
	b.clock.Advance(FirstRetry)
	equal(t, "due next", c.next(1), []uint64{2})
}

func TestDispatcher_Retry(t *testing.T) {
	b := newBench(t)
	b.Retry([]string{"history"}) // there is no consumer
	b.add("history", 1, 2)
	b.add("offline", 1)
	c := b.consume()
	defer c.end()
	c.next(3)
	b.fail("history", 1)
	b.fail("history", 2)
	b.fail("history", 2) // so they are of two levels
	b.fail("offline", 1)
	b.Retry([]string{"history", "wipe"}) // the host does not carry out wipe
	equal(t, "at once", c.next(2), []uint64{1, 2})
	if b.InFlight(); len(c.events) > 0 {
		t.Errorf("then %+v", <-c.events)
	}
	b.clock.Advance(FirstRetry)
	if e := <-c.events; e.Step != "offline" {
		t.Errorf("after its delay %+v", e)
	}
}

func TestDispatcher_UnreadableEvent(t *testing.T) {
	b := newBench(t)
	b.x.unreadable[2] = true
	b.add("history", 2, 3)
	c := b.consume()
	equal(t, "deliveries", c.next(1), []uint64{3})
	b.x.mu.Lock()
	b.x.unreadable[2] = false
	b.x.mu.Unlock()
	if b.InFlight()["history"] != 1 {
		t.Error("it takes a place of the window")
	}
	b.done("history", 3)
	b.add("history", 1) // so that what comes after is read again
	equal(t, "opened later", c.next(1), []uint64{1})
	b.done("history", 1)
	if b.InFlight(); len(c.events) > 0 {
		t.Errorf("event %d is delivered to the same consumer", (<-c.events).Sequence)
	}
	c.end()
	again := b.consume()
	defer again.end()
	equal(t, "once it can be read, to the next consumer", again.next(1), []uint64{2})
}

func TestDispatcher_OpenedLate(t *testing.T) {
	b := newBench(t)
	b.add("history", 10, 12)
	c := b.consume()
	defer c.end()
	equal(t, "first", c.next(2), []uint64{10, 12})
	b.add("history", 11)
	equal(t, "between", c.next(1), []uint64{11})
	b.add("history", 3, 14)
	equal(t, "before and after", c.next(2), []uint64{3, 14})
	if b.InFlight(); len(c.events) > 0 {
		t.Fatal("something was delivered twice")
	}
}

func TestDispatcher_OpenedLateWhileTheWindowIsFull(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(11, 10+maxInFlight)...)
	c := b.consume()
	defer c.end()
	c.next(maxInFlight)
	for _, seq := range []uint64{10, 9} { // each right before the one that was read last
		b.add("history", seq)
		b.InFlight() // until it is heard of
	}
	b.done("history", 11)
	b.done("history", 12)
	equal(t, "with room again", c.next(2), []uint64{9, 10})
}

func TestDispatcher_Deferred(t *testing.T) {
	b := newBench(t)
	b.add("history", 2)
	c := b.consume()
	defer c.end()
	equal(t, "first", c.next(1), []uint64{2})
	b.Defer(2, "history", 1)
	b.add("history", 1) // its notify took longer
	equal(t, "opened later", c.next(1), []uint64{1})
	if n := b.InFlight()["history"]; n != 1 || len(c.events) > 0 {
		t.Fatalf("%d in flight, %d more deliveries", n, len(c.events))
	}
	b.fail("history", 2)
	b.clock.WaitArmed(FirstRetry)
	b.clock.Advance(FirstRetry)
	equal(t, "after it failed", c.next(1), []uint64{2})

	b.Defer(2, "history", 2)
	b.done("history", 2)
	b.InFlight() // until it is heard of
	if q := b.current.queues[0]; len(q.deliveries) != 1 {
		t.Errorf("one event is in flight and none deferred any more, but there are %v", q.deliveries)
	}
}

func TestDispatcher_DeferredThatIsNotInFlight(t *testing.T) {
	b := newBench(t)
	b.add("history", 1, 2)
	c := b.consume()
	defer c.end()
	c.next(2)
	b.x.unreadable[5] = true
	b.done("history", 1)
	b.fail("history", 2)
	b.InFlight() // until it is heard of
	for sequence, attempt := range map[uint64]int{
		1: 1, // settled before
		2: 1, // failed before
		3: 1, // delivered by another process
		4: 0, // likewise, of the next attempt
		5: 1, // cannot be read
	} {
		b.x.mu.Lock()
		if sequence > 2 {
			b.x.open["history"][sequence] = 0
		}
		b.x.mu.Unlock()
		b.Defer(sequence, "history", attempt)
	}
	b.Dispatcher.Open("history", 3)
	b.add("history", 6)
	equal(t, "another one", c.next(1), []uint64{6})
	b.clock.WaitArmed(FirstRetry)
	b.clock.Advance(FirstRetry)
	equal(t, "the one that failed", c.next(1), []uint64{2})
	b.Settle(3, "history", index.StepState{Open: true}) // a failure before the attempt that was deferred
	b.Settle(4, "history", index.StepState{Open: true})
	if n := b.InFlight()["history"]; n != 2 || len(c.events) > 0 {
		t.Errorf("%d in flight, %d more deliveries", n, len(c.events))
	}
	b.fail("history", 3)
	b.done("history", 4)
	b.done("history", 5)
	b.InFlight() // until it is heard of
	b.clock.Advance(FirstRetry)
	equal(t, "the deferred one that failed", c.next(1), []uint64{3})
	if n := b.InFlight()["history"]; n != 3 || len(b.current.queues[0].deliveries) != n {
		t.Errorf("%d in flight, %v", n, b.current.queues[0].deliveries)
	}
}

// A run of the consumer stands for every attempt that was delivered while it was under way.
func TestDispatcher_DeferredByTheRunOfAnEarlierAttempt(t *testing.T) {
	b := newBench(t)
	b.add("history", 1, 2)
	c := b.consume()
	defer c.end()
	equal(t, "first", c.next(2), []uint64{1, 2})
	late := b.failOnDisk("history", 2)
	b.fail("history", 1)
	b.clock.WaitArmed(FirstRetry)
	b.clock.Advance(FirstRetry)
	equal(t, "again", c.next(1), []uint64{1})
	b.Defer(1, "history", 1)
	b.Settle(2, "history", late) // so that the failures before it are read again
	equal(t, "another one", c.next(1), []uint64{2})
	if n := b.InFlight()["history"]; n != 1 || len(c.events) > 0 {
		t.Errorf("%d in flight, %d more deliveries", n, len(c.events))
	}
}

func TestDispatcher_OpenedLateKeepsTheRest(t *testing.T) {
	b := newBench(t)
	const waiting = 10
	b.add("history", sequences(1, 2*maxInFlight)...)
	c := b.consume()
	defer c.end()
	c.next(maxInFlight)
	for seq := range uint64(waiting) { // so the next are read, and some of them wait for room
		b.done("history", seq+1)
	}
	equal(t, "with room again", c.next(waiting), sequences(maxInFlight+1, maxInFlight+waiting))
	b.x.mu.Lock()
	delete(b.x.open["history"], 2*maxInFlight-1)
	b.x.mu.Unlock()
	b.add("history", 2*maxInFlight-1) // later than some that wait, and before another
	b.InFlight()
	for seq := uint64(waiting + 1); seq <= maxInFlight+waiting; seq++ {
		b.done("history", seq)
	}
	equal(t, "the rest", c.next(maxInFlight-waiting), sequences(maxInFlight+waiting+1, 2*maxInFlight))
}

func TestDispatcher_StepThatTheHostDoesNotCarryOut(t *testing.T) {
	b := newBench(t)
	b.x.open["wipe"] = map[uint64]int{1: 0}
	c := b.consume()
	defer c.end()
	b.Dispatcher.Open("wipe", 1)
	b.Settle(1, "wipe", index.StepState{Open: true, Attempts: 1, Position: 1})
	b.add("history", 1)
	if e := <-c.events; e.Step != "history" || len(c.events) > 0 {
		t.Errorf("delivered %+v and %d others", e, len(c.events))
	}
}

func TestDispatcher_NewerConsumer(t *testing.T) {
	b := newBench(t)
	b.add("history", 1, 2, 3)
	old := b.consume()
	equal(t, "old", old.next(3), []uint64{1, 2, 3})
	b.done("history", 1)
	b.fail("history", 2)
	newer := b.consume()
	defer newer.end()
	if err := <-old.result; !errors.Is(err, ErrReplaced) {
		t.Fatalf("the old consumer ended with %v", err)
	}
	equal(t, "newer", newer.next(1), []uint64{3})
	b.add("history", 4)
	equal(t, "newer, what opens after the old one has ended", newer.next(1), []uint64{4})
	b.InFlight() // until the timer is set: another consumer may have left one for the same time
	b.clock.Advance(FirstRetry)
	equal(t, "newer, after the delay", newer.next(1), []uint64{2})
}

func TestDispatcher_NextConsumer(t *testing.T) {
	b := newBench(t)
	b.add("history", 1, 2, 3, 4)
	c := b.consume()
	c.next(4)
	b.fail("history", 2)
	b.done("history", 3)
	b.fail("history", 4)
	b.InFlight() // until it is heard of
	b.clock.Advance(FirstRetry)
	equal(t, "again", c.next(2), []uint64{2, 4})
	b.fail("history", 4)
	c.end()
	next := b.consume()
	defer next.end()
	equal(t, "at once", next.next(1), []uint64{1})
	b.InFlight() // until the timer is set: the consumer before left one for the same time
	b.clock.Advance(FirstRetry)
	equal(t, "after the first delay", next.next(1), []uint64{2})
	b.InFlight()
	b.clock.Advance(FirstRetry)
	equal(t, "after the second", next.next(1), []uint64{4})
}

func TestDispatcher_LastLevel(t *testing.T) {
	b := newBench(t)
	for range index.BackoffLevels {
		b.failOnDisk("history", 1)
	}
	for range 2 { // consumers
		c := b.consume()
		b.clock.WaitArmed(b.clock.Elapsed() + FirstRetry) // of the first level, which is empty
		b.clock.Advance(LastRetry)
		equal(t, "from an earlier consumer", c.next(1), []uint64{1})
		b.fail("history", 1)
		b.InFlight() // until it is heard of
		b.clock.Advance(LastRetry - 1)
		if b.InFlight(); len(c.events) > 0 {
			t.Fatalf("before its delay %v", <-c.events)
		}
		b.clock.Advance(1)
		equal(t, "once more", c.next(1), []uint64{1})
		b.fail("history", 1)
		c.end()
	}
}

func TestDispatcher_FailingEventsDoNotBlock(t *testing.T) {
	b := newBench(t)
	const failing, good = 10_000, 10_000
	b.add("history", sequences(1, failing+good)...)
	c := b.consume()
	defer c.end()
	expected := uint64(failing + 1)
	for expected <= failing+good {
		switch seq := c.next(1)[0]; {
		case seq <= failing:
			b.fail("history", seq)
		case seq != expected:
			t.Fatalf("event %d came before %d", seq, expected)
		default:
			b.done("history", seq)
			expected++
		}
	}
	b.InFlight() // until everything is heard of
	q := b.current.queues[0]
	if n := len(q.deliveries) + len(q.ahead); n > 2*maxInFlight {
		t.Errorf("%d events are remembered", n)
	}
	for i := range q.levels {
		if n := len(q.levels[i].ahead) + len(q.levels[i].marks); n > maxRetrying+markParts+2 {
			t.Errorf("level %d remembers %d failures and marks", i, n)
		}
	}
	// All of those that failed come back.
	seen := map[uint64]bool{}
	for idle := 0; len(seen) < failing; {
		if b.InFlight(); len(c.events) == 0 {
			if idle++; idle > 1000 {
				t.Fatalf("%d of %d came back", len(seen), failing)
			}
			b.clock.Advance(time.Second)
			continue
		}
		seq := c.next(1)[0]
		seen[seq] = true
		b.done("history", seq)
	}
}

// A failure is on disk before the dispatcher hears of it, and its delay may be over by then.
func TestDispatcher_LateNewsOfAFailure(t *testing.T) {
	b := newBench(t)
	b.add("history", 1, 2, 3)
	c := b.consume()
	defer c.end()
	c.next(3)
	first := b.failOnDisk("history", 1)
	b.fail("history", 2)
	b.clock.WaitArmed(FirstRetry)
	b.clock.Advance(FirstRetry)
	equal(t, "the one heard of", c.next(1), []uint64{2})
	b.Settle(1, "history", first)
	equal(t, "the other, once it is heard of", c.next(1), []uint64{1})
	if b.InFlight(); len(c.events) > 0 {
		t.Errorf("then %v", <-c.events)
	}
	b.Settle(1, "history", first) // reported again while the next attempt is in flight
	if n := b.InFlight()["history"]; n != 3 {
		t.Errorf("%d in flight, want 3", n)
	}
}

func TestDispatcher_MaxRetrying(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(1, maxInFlight)...)
	c := b.consume()
	defer c.end()
	for _, seq := range c.next(maxInFlight) {
		b.fail("history", seq)
	}
	b.InFlight() // until all is heard of
	b.clock.Advance(LastRetry)
	again := c.next(maxRetrying) // and these hang
	b.countTimers()()
	b.add("history", sequences(maxInFlight+1, 2*maxInFlight)...)
	fresh := sequences(maxInFlight+1, maxInFlight+maxInFlight-maxRetrying)
	equal(t, "others", c.next(len(fresh)), fresh)
	if got := b.InFlight(); got["history"] != maxInFlight || len(c.events) > 0 {
		t.Fatalf("beyond the window: %+v, %d more deliveries", got, len(c.events))
	}
	b.fail("history", again[0])
	if seq := c.next(1)[0]; seq > maxInFlight || slices.Contains(again, seq) {
		t.Errorf("then %d, not one that waits for its next attempt", seq)
	}
}

func TestDispatcher_Close(t *testing.T) {
	b := newBench(t)
	b.add("history", 1)
	c := b.consume()
	c.next(1)
	why := errors.New("quiesced")
	b.Close(why)
	if err := <-c.result; !errors.Is(err, why) {
		t.Errorf("the consumer ended with %v", err)
	}
	if err := b.deliver(context.Background(), nil); !errors.Is(err, why) {
		t.Errorf("a further consumer got %v", err)
	}
	b.Settle(1, "history", index.StepState{}) // and nobody hangs
	b.Dispatcher.Open("history", 2)
}

func TestBackoff_Delays(t *testing.T) {
	for level, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond, 10: 51200 * time.Millisecond,
		index.BackoffLevels: time.Minute,
	} {
		if got := backoff(level); got != want {
			t.Errorf("level %d: got %v, want %v", level, got, want)
		}
	}
}

func TestBackoffLevel_LateFailure(t *testing.T) {
	const now, delay = time.Hour, time.Minute
	for _, late := range []uint64{3, 5} { // before the cursor, and at it
		l := backoffLevel{cursor: 5, ahead: []index.Failure{{Position: 4}}}
		l.add(late, now, delay)
		if len(l.marks) != 1 || l.marks[0].upTo != 5 || l.marks[0].due != now || l.cursor != late-1 || l.ahead != nil {
			t.Errorf("position %d: %+v", late, l)
		}
		l.add(6, now, delay) // which is not due with it
		if len(l.marks) != 2 || l.marks[0].due != now || l.marks[1] != (mark{upTo: 6, began: now, due: now + delay}) {
			t.Errorf("then %+v", l.marks)
		}
	}
}

func TestBackoffLevel_Marks(t *testing.T) {
	const delay = markParts * time.Second
	var l backoffLevel
	for i, c := range []struct {
		at   time.Duration
		want []mark
	}{
		{0, []mark{{1, 0, delay}}},
		{time.Second - 1, []mark{{2, 0, delay + time.Second - 1}}}, // in one part of the delay with the first
		{time.Second, []mark{{2, 0, delay + time.Second - 1}, {3, time.Second, delay + time.Second}}},
		{delay + time.Second, []mark{{3, time.Second, delay + time.Second}, // the first two are due alike
			{4, delay + time.Second, 2*delay + time.Second}}},
		{delay + time.Second + 1, []mark{{3, time.Second, delay + time.Second},
			{5, delay + time.Second, 2*delay + time.Second + 1}}},
	} {
		position := uint64(i + 1)
		l.add(position, c.at, delay)
		if !slices.Equal(l.marks, c.want) {
			t.Errorf("after %v: got %v, want %v", c.at, l.marks, c.want)
		}
		l.add(position, c.at+1, delay) // reported again
		if !slices.Equal(l.marks, c.want) {
			t.Errorf("after %v, again: got %v, want %v", c.at, l.marks, c.want)
		}
	}
}

// Whatever happens, every open step is delivered until it is settled, and nothing after that, nor while it is deferred.
func TestDispatcher_Model(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t)
	const all = 10 * maxInFlight
	late := random.Perm(all) // steps behind notify open in any order
	attempts := map[uint64]int{}
	settled := map[uint64]bool{}
	var held []uint64 // delivered, and nothing said of them yet: the consumer's window is full at times
	var deferred []uint64
	var running []shared.Delivery // by earlier consumers
	consume := func() *consumer {
		c := b.consume()
		for b.InFlight() == nil { // until it is there
			runtime.Gosched()
		}
		return c
	}
	c := consume()
	defer func() { c.end() }()
	take := func(e shared.Delivery) {
		seq := e.Sequence
		isHeld, isDeferred := slices.Contains(held, seq), slices.Contains(deferred, seq)
		if settled[seq] || isHeld || isDeferred || e.Attempt != attempts[seq]+1 {
			t.Fatalf("event %d, attempt %d; settled %v after %d, held %v, deferred %v",
				seq, e.Attempt, settled[seq], attempts[seq], isHeld, isDeferred)
		}
		held = append(held, seq)
	}
	idle := 0
	for len(settled) < all {
		if idle > 1000 { // each moves the clock on by a second, and the longest delay is a minute
			t.Fatalf("%d of %d are settled, %d open, and nothing comes any more", len(settled), all, len(b.x.open["history"]))
		}
		switch n := random.IntN(1000); {
		case n < 100 && len(late) > 0:
			k := min(1+random.IntN(maxInFlight), len(late))
			var add []uint64
			for _, seq := range late[:k] {
				add = append(add, uint64(seq)+1)
			}
			late = late[k:]
			b.add("history", add...)
		case n == 999 && len(late) > 0: // later on, nothing that was forgotten comes back by a new consumer
			c.end()
			for len(c.events) > 0 {
				<-c.events
			}
			for _, seq := range held {
				running = append(running, shared.Delivery{Event: shared.Event{Sequence: seq}, Attempt: attempts[seq] + 1})
			}
			held, deferred = nil, nil
			c = consume()
		case n < 150 && len(held) > 0:
			at := random.IntN(len(held))
			b.Defer(held[at], "history", attempts[held[at]]+1)
			deferred = append(deferred, held[at])
			held = slices.Delete(held, at, at+1)
		case n < 160 && len(running) > 0:
			d := running[0]
			running = running[1:]
			for b.InFlight(); len(c.events) > 0; { // so that nothing is between the dispatcher and held
				take(<-c.events)
			}
			b.Defer(d.Sequence, "history", d.Attempt)
			at := slices.Index(held, d.Sequence)
			if at >= 0 {
				held = slices.Delete(held, at, at+1)
			} else if settled[d.Sequence] || attempts[d.Sequence] >= d.Attempt || slices.Contains(deferred, d.Sequence) {
				continue
			}
			deferred = append(deferred, d.Sequence)
		case n < 500 && len(held)+len(deferred) > 0:
			some := &held
			if n%3 == 0 && len(deferred) > 0 || len(held) == 0 {
				some = &deferred
			}
			at := random.IntN(len(*some))
			seq := (*some)[at]
			*some = slices.Delete(*some, at, at+1)
			if random.IntN(3) == 0 {
				attempts[seq]++
				b.fail("history", seq)
				if random.IntN(3) == 0 { // by the run that carried it over to whom reported the failure
					b.Defer(seq, "history", attempts[seq])
				}
			} else {
				settled[seq] = true
				b.done("history", seq)
			}
		default:
			select {
			case e := <-c.events:
				idle = 0
				take(e)
			default:
				if len(held)+len(deferred) == 0 && len(late) == 0 {
					idle++
				}
				b.clock.Advance(time.Second)
				b.InFlight() // the dispatcher has seen it
			}
		}
	}
}

func TestDispatcher_AConsumerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events, size = 40, 1 << 20
		b := newBench(t)
		b.x.ext = strings.Repeat("x", size)
		for sequence := range uint64(events) {
			b.add("history", sequence+1)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var handed atomic.Int64
		read := make(chan struct{})
		var consumer sync.WaitGroup
		consumer.Go(func() {
			_ = b.Run(ctx, func(events []shared.Delivery) {
				handed.Add(int64(len(events)))
				<-read
			})
		})
		synctest.Wait()
		if n := b.InFlight()["history"]; handed.Load() == 0 || n > maxUnsentBytes/size+1 {
			t.Errorf("%d events of %d bytes wait to be read; at most %d bytes", n, size, maxUnsentBytes)
		}
		close(read)
		synctest.Wait()
		if n := handed.Load(); n != events {
			t.Errorf("%d of %d events once it reads", n, events)
		}
		cancel()
		consumer.Wait()
	})
}

func TestDispatcher_ExactlyAsMuchAsMayBeUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.x.ext = strings.Repeat("x", maxUnsentBytes-index.EventBytes(&shared.Event{}))
		ctx, cancel := context.WithCancel(t.Context())
		var consumer sync.WaitGroup
		var delivered int
		consumer.Go(func() {
			_ = b.deliver(ctx, func(events []shared.Delivery, bytes int64) {
				if delivered += len(events); bytes != maxUnsentBytes {
					t.Errorf("%d bytes", bytes)
				}
			})
		})
		b.add("history", 1, 2)
		for n := range 2 {
			synctest.Wait()
			if delivered != n+1 {
				t.Fatalf("%d events are delivered, want %d", delivered, n+1)
			}
			b.taken(maxUnsentBytes)
		}
		cancel()
		consumer.Wait()
	})
}

func TestDispatcher_ConsumerTakesDuringTheHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.x.ext = strings.Repeat("x", maxUnsentBytes*3/4)
		ctx, cancel := context.WithCancel(t.Context())
		var consumer sync.WaitGroup
		var delivered int
		var untaken int64
		consumer.Go(func() {
			_ = b.deliver(ctx, func(events []shared.Delivery, bytes int64) {
				delivered += len(events)
				b.taken(untaken) // those before
				untaken = bytes
			})
		})
		b.add("history", 1)
		synctest.Wait()
		b.add("history", 2, 3, 4)
		synctest.Wait()
		if delivered != 4 {
			t.Errorf("%d of 4 events are delivered, though the consumer has taken all but the last", delivered)
		}
		cancel()
		consumer.Wait()
	})
}

func TestDispatcher_RetryIsDueWhileTheConsumerDoesNotRead(t *testing.T) {
	b := newBench(t)
	b.x.ext = strings.Repeat("x", maxUnsentBytes*3/4)
	ctx, cancel := context.WithCancel(t.Context())
	events, untaken := make(chan uint64, 3), make(chan int64, 3)
	var consumer sync.WaitGroup
	consumer.Go(func() {
		_ = b.deliver(ctx, func(list []shared.Delivery, bytes int64) {
			for i := range list {
				events <- list[i].Sequence
			}
			untaken <- bytes
		})
	})
	b.add("history", 1)
	if seq := <-events; seq != 1 {
		t.Fatalf("event %d", seq)
	}
	b.fail("history", 1)
	b.clock.WaitArmed(FirstRetry)
	b.add("history", 2)
	if seq := <-events; seq != 2 {
		t.Fatalf("then event %d", seq)
	}
	check := b.countTimers()
	b.clock.Advance(FirstRetry)
	if check(); len(events) > 0 {
		t.Errorf("%d events are delivered", len(events))
	}
	b.taken(<-untaken)
	if seq := <-events; seq != 1 {
		t.Errorf("with room again event %d", seq)
	}
	cancel()
	consumer.Wait()
}

// brokenIndex cannot be read.
type brokenIndex struct{ *fakeIndex }

func (brokenIndex) OpenSteps(context.Context, string, uint64, int) ([]uint64, error) {
	return nil, errors.New("the disk is gone")
}

func TestDispatcher_CountsAreAnsweredThoughTheSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.consume()
		synctest.Wait()
		b.current.queues[0].read = &openSteps{brokenIndex{b.x}, t.Context(), "history"}
		b.current.newsMu.Lock()
		b.current.opened = map[string]uint64{"history": 1} // which the question finds
		b.current.newsMu.Unlock()
		if n := b.InFlight(); n != nil {
			t.Errorf("got %v", n)
		}
		if err := <-c.result; err == nil || !strings.Contains(err.Error(), "the disk is gone") {
			t.Errorf("the session ended with %v", err)
		}
	})
}

func TestDispatcher_WhatIsDueAtOnceIsDeliveredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.add("history", sequences(1, 10)...)
		b.add("offline", sequences(1, 10)...)
		ctx, cancel := context.WithCancel(t.Context())
		var calls []int
		busy := make(chan struct{})
		var consumer sync.WaitGroup
		consumer.Go(func() {
			_ = b.Run(ctx, func(events []shared.Delivery) {
				calls = append(calls, len(events))
				<-busy
			})
		})
		synctest.Wait()
		for seq := range uint64(5) { // while the consumer is busy with the first ones
			b.add("history", 11+seq)
			synctest.Wait()
		}
		busy <- struct{}{}
		synctest.Wait()
		busy <- struct{}{}
		synctest.Wait()
		if !slices.Equal(calls, []int{20, 5}) {
			t.Errorf("calls with %v events, want 20 and then the 5 that came meanwhile", calls)
		}
		b.add("history", 16)
		synctest.Wait()
		b.add("history", 17) // which nobody takes any more
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(busy)
		consumer.Wait()
		if n := b.unsentBytes.Load(); n != 0 || !slices.Equal(calls, []int{20, 5, 1}) {
			t.Errorf("%d bytes are said to wait; calls with %v events", n, calls)
		}
	})
}
