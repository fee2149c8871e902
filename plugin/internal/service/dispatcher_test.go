package service

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// fakeQueues are queues in memory.
type fakeQueues struct {
	mu         sync.Mutex
	open       map[string]map[uint64]int // step, to sequence, to how often it was tried
	unreadable map[uint64]bool
	reads      int
}

func (q *fakeQueues) Lanes() ([]string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Sorted(maps.Keys(q.open)), nil
}

func (q *fakeQueues) OpenSteps(step string, after uint64, limit int) ([]uint64, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reads++
	var out []uint64
	for _, seq := range slices.Sorted(maps.Keys(q.open[step])) {
		if seq > after && len(out) < limit {
			out = append(out, seq)
		}
	}
	return out, nil
}

func (q *fakeQueues) Entry(sequence uint64, step string) (*shared.LedgerEntry, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.unreadable[sequence] {
		return nil, errors.New("a torn record")
	}
	attempts, open := q.open[step][sequence]
	if !open {
		return nil, nil
	}
	return &shared.LedgerEntry{
		Event: shared.Event{Sequence: sequence}, Steps: []shared.StepRecord{{Step: step, Attempts: attempts}},
	}, nil
}

// bench is a dispatcher over fake queues.
type bench struct {
	t *testing.T
	*dispatcher
	q     *fakeQueues
	clock *fakeClock
}

func newBench(t *testing.T) *bench {
	q := &fakeQueues{open: map[string]map[uint64]int{}, unreadable: map[uint64]bool{}}
	clock := newFakeClock()
	return &bench{t, &dispatcher{
		queues: q, clock: clock, random: func() float64 { return 0 }, logger: hclog.NewNullLogger(),
	}, q, clock}
}

// add opens a step for events, as one commit.
func (b *bench) add(step string, sequences ...uint64) {
	b.q.mu.Lock()
	if b.q.open[step] == nil {
		b.q.open[step] = map[uint64]int{}
	}
	for _, seq := range sequences {
		b.q.open[step][seq] = 0
	}
	b.q.mu.Unlock()
	b.dispatcher.open(step, slices.Min(sequences))
}

// done settles a step; fail reports it failed.
func (b *bench) done(step string, sequence uint64) {
	b.q.mu.Lock()
	delete(b.q.open[step], sequence)
	b.q.mu.Unlock()
	b.settle(sequence, step, true)
}

func (b *bench) fail(step string, sequence uint64) {
	b.q.mu.Lock()
	b.q.open[step][sequence]++
	b.q.mu.Unlock()
	b.settle(sequence, step, false)
}

// consumer is one call of Events.
type consumer struct {
	t      *testing.T
	events chan shared.Event
	cancel context.CancelFunc
	result chan error
}

func (b *bench) consume() *consumer {
	ctx, cancel := context.WithCancel(context.Background())
	c := &consumer{b.t, make(chan shared.Event, 1<<16), cancel, make(chan error, 1)}
	go func() { c.result <- b.deliver(ctx, func(e shared.Event) { c.events <- e }) }()
	b.t.Cleanup(cancel)
	return c
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

func TestAStepIsDeliveredOldestFirst(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(1, 300)...)
	c := b.consume()
	defer c.end()
	for seq := range uint64(300) {
		equal(t, "delivery", c.next(1), []uint64{seq + 1})
		b.done("history", seq+1)
	}
}

func TestNoMoreThanAWindowOfDeliveriesIsUnsettled(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(1, 1000)...)
	c := b.consume()
	defer c.end()
	equal(t, "window", c.next(maxUnsettled), sequences(1, maxUnsettled))
	if got := b.laneCounts(); len(got) != 1 || got[0].delivered != maxUnsettled || len(c.events) > 0 {
		t.Fatalf("beyond the window: %+v, %d more deliveries", got, len(c.events))
	}
	b.done("history", 7)
	equal(t, "after one is settled", c.next(1), []uint64{maxUnsettled + 1})
	if b.laneCounts(); len(c.events) > 0 {
		t.Fatal("one settled let more than one in")
	}
}

func TestASlowStepDoesNotHoldUpTheOthers(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(1, 1000)...)
	b.add("offline", sequences(1, 1000)...)
	c := b.consume()
	defer c.end()
	offline := uint64(0)
	for offline < 1000 {
		e := <-c.events
		if e.Steps[0] == "offline" {
			offline++
			b.done("offline", e.Sequence)
		}
	}
}

func TestAFailedEventComesBackAfterItsDelayAndHoldsNobodyUp(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(1, 200)...)
	c := b.consume()
	defer c.end()
	failedAt := b.clock.Now()
	for seq := range uint64(200) {
		c.next(1)
		if seq+1 == 3 {
			b.fail("history", 3)
		} else {
			b.done("history", seq+1)
		}
	}
	for attempt, delay := range []time.Duration{firstRetry / 2, firstRetry, 2 * firstRetry} { // no chance in it: half
		b.clock.waitArmed(failedAt.Add(delay))
		b.clock.advance(delay - time.Millisecond)
		if got := b.laneCounts(); got[0].parked != 1 || len(c.events) > 0 {
			t.Fatalf("before its time: %+v, %d deliveries", got, len(c.events))
		}
		b.clock.advance(time.Millisecond)
		if e := <-c.events; e.Sequence != 3 || e.Attempt != attempt+2 {
			t.Fatalf("got event %d, attempt %d, want 3, %d", e.Sequence, e.Attempt, attempt+2)
		}
		failedAt = b.clock.Now()
		b.fail("history", 3)
	}
}

func TestAnEventThatCannotBeReadHoldsNobodyUp(t *testing.T) {
	b := newBench(t)
	b.q.unreadable[1] = true
	b.add("history", 1, 2)
	c := b.consume()
	defer c.end()
	equal(t, "deliveries", c.next(1), []uint64{2})
	b.clock.waitArmed(b.clock.Now().Add(firstRetry / 2))
	b.q.mu.Lock()
	b.q.unreadable[1] = false
	b.q.mu.Unlock()
	b.clock.advance(firstRetry)
	equal(t, "once it can be read", c.next(1), []uint64{1})
}

func TestAStepThatOpensLateIsDeliveredThoughLaterOnesWere(t *testing.T) {
	b := newBench(t)
	b.add("history", 10, 12)
	c := b.consume()
	defer c.end()
	equal(t, "first", c.next(2), []uint64{10, 12})
	b.add("history", 11)
	equal(t, "between", c.next(1), []uint64{11})
	b.add("history", 3, 14)
	equal(t, "before and after", c.next(2), []uint64{3, 14})
	if b.laneCounts(); len(c.events) > 0 {
		t.Fatal("something was delivered twice")
	}
}

func TestAStepThatOpensLateTakesNothingFromThoseThatWait(t *testing.T) {
	b := newBench(t)
	const waiting = 10
	b.add("history", sequences(1, 2*maxUnsettled)...)
	c := b.consume()
	defer c.end()
	c.next(maxUnsettled)
	for seq := range uint64(waiting) { // so the next are read, and some of them wait for room
		b.done("history", seq+1)
	}
	equal(t, "with room again", c.next(waiting), sequences(maxUnsettled+1, maxUnsettled+waiting))
	b.q.mu.Lock()
	delete(b.q.open["history"], 2*maxUnsettled-1)
	b.q.mu.Unlock()
	b.add("history", 2*maxUnsettled-1) // later than some that wait, and before another
	b.laneCounts()
	for seq := uint64(waiting + 1); seq <= maxUnsettled+waiting; seq++ {
		b.done("history", seq)
	}
	equal(t, "the rest", c.next(maxUnsettled-waiting), sequences(maxUnsettled+waiting+1, 2*maxUnsettled))
}

func TestANewStepGetsALaneWhileTheConsumerIsThere(t *testing.T) {
	b := newBench(t)
	c := b.consume()
	defer c.end()
	b.add("wipe", 1)
	equal(t, "new lane", c.next(1), []uint64{1})
	b.add("archive", 1)
	equal(t, "second new lane", c.next(1), []uint64{1})
}

func TestANewerConsumerTakesOverWhatIsUnsettled(t *testing.T) {
	b := newBench(t)
	b.add("history", 1, 2, 3)
	old := b.consume()
	equal(t, "old", old.next(3), []uint64{1, 2, 3})
	b.done("history", 1)
	b.fail("history", 2)
	newer := b.consume()
	defer newer.end()
	if err := <-old.result; !errors.Is(err, errReplaced) {
		t.Fatalf("the old consumer ended with %v", err)
	}
	equal(t, "newer", newer.next(2), []uint64{2, 3})
}

func TestWhatAConsumerLeavesIsDueForTheNextAtOnce(t *testing.T) {
	b := newBench(t)
	b.add("history", 1, 2, 3)
	c := b.consume()
	c.next(3)
	b.fail("history", 2)
	b.done("history", 3)
	c.end()
	next := b.consume()
	defer next.end()
	equal(t, "after reconnecting", next.next(2), []uint64{1, 2})
}

func TestRememberedFailuresAreBounded(t *testing.T) {
	b := newBench(t)
	const all = maxParked + 10*maxUnsettled
	b.add("history", sequences(1, all)...)
	c := b.consume()
	defer c.end()
	delivered := 0
	for delivered < maxParked {
		b.fail("history", c.next(1)[0])
		delivered++
	}
	for { // until the lane reads no further
		got := b.laneCounts()[0]
		if got.parked > maxParked+maxUnsettled {
			t.Fatalf("%d failures are remembered", got.parked)
		}
		if len(c.events) == 0 && got.delivered == 0 {
			break
		}
		b.fail("history", c.next(1)[0])
		delivered++
	}
	if delivered == all {
		t.Fatal("the lane read on")
	}
	// It goes on as soon as they succeed.
	seen := map[uint64]bool{}
	for len(seen) < all {
		if len(c.events) == 0 {
			b.clock.advance(lastRetry)
		}
		seq := c.next(1)[0]
		seen[seq] = true
		b.done("history", seq)
	}
}

func TestEventsThatFailAgainLeaveRoomForOthers(t *testing.T) {
	b := newBench(t)
	b.add("history", sequences(1, maxUnsettled)...)
	c := b.consume()
	defer c.end()
	for _, seq := range c.next(maxUnsettled) {
		b.fail("history", seq)
	}
	b.clock.advance(lastRetry)
	again := c.next(maxRetrying) // and these hang
	b.add("history", sequences(maxUnsettled+1, 2*maxUnsettled)...)
	fresh := sequences(maxUnsettled+1, maxUnsettled+maxUnsettled-maxRetrying)
	equal(t, "others", c.next(len(fresh)), fresh)
	if got := b.laneCounts(); got[0].delivered != maxUnsettled || len(c.events) > 0 {
		t.Fatalf("beyond the window: %+v, %d more deliveries", got, len(c.events))
	}
	b.fail("history", again[0])
	if seq := c.next(1)[0]; seq > maxUnsettled || slices.Contains(again, seq) {
		t.Errorf("then %d, not one that waits for its next attempt", seq)
	}
}

func TestClosingEndsTheConsumerAndRefusesFurtherOnes(t *testing.T) {
	b := newBench(t)
	b.add("history", 1)
	c := b.consume()
	c.next(1)
	why := errors.New("quiesced")
	b.close(why)
	if err := <-c.result; !errors.Is(err, why) {
		t.Errorf("the consumer ended with %v", err)
	}
	if err := b.deliver(context.Background(), nil); !errors.Is(err, why) {
		t.Errorf("a further consumer got %v", err)
	}
	b.settle(1, "history", true) // and nobody hangs
	b.dispatcher.open("history", 2)
}

func TestBackoffDoublesUpToItsEnd(t *testing.T) {
	for _, c := range []struct {
		attempt int
		random  float64
		want    time.Duration
	}{
		{0, 0, 50 * time.Millisecond},
		{1, 0, 50 * time.Millisecond},
		{1, 0.5, 75 * time.Millisecond},
		{2, 0, 100 * time.Millisecond},
		{5, 0, 800 * time.Millisecond},
		{10, 0, 51200 * time.Millisecond / 2},
		{11, 0, 30 * time.Second},
		{11, 0.5, 45 * time.Second},
		{1 << 40, 0, 30 * time.Second},
	} {
		if got := backoff(c.attempt, c.random); got != c.want {
			t.Errorf("attempt %d, random %v: got %v, want %v", c.attempt, c.random, got, c.want)
		}
	}
}

// Whatever happens, every open step is delivered until it is settled, and nothing after that.
func TestEveryOpenStepIsDeliveredUntilItIsSettled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t)
	const all = 10 * maxUnsettled
	late := random.Perm(all) // steps behind notify open in any order
	attempts := map[uint64]int{}
	settled := map[uint64]bool{}
	var held []uint64 // delivered, and nothing said of them yet: the consumer's window is full at times
	consume := func() *consumer {
		c := b.consume()
		for b.laneCounts() == nil { // until it is there
			runtime.Gosched()
		}
		return c
	}
	c := consume()
	defer func() { c.end() }()
	idle := 0
	for len(settled) < all {
		if idle > 1000 { // each moves the clock on by a second, and the longest delay is a minute
			t.Fatalf("%d of %d are settled, %d open, and nothing comes any more", len(settled), all, len(b.q.open["history"]))
		}
		switch n := random.IntN(1000); {
		case n < 100 && len(late) > 0:
			k := min(1+random.IntN(maxUnsettled), len(late))
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
			held = nil
			c = consume()
		case n < 500 && len(held) > 0:
			at := random.IntN(len(held))
			seq := held[at]
			held = slices.Delete(held, at, at+1)
			if random.IntN(3) == 0 {
				attempts[seq]++
				b.fail("history", seq)
			} else {
				settled[seq] = true
				b.done("history", seq)
			}
		default:
			select {
			case e := <-c.events:
				idle = 0
				if settled[e.Sequence] || slices.Contains(held, e.Sequence) || e.Attempt != attempts[e.Sequence]+1 {
					t.Fatalf("event %d, attempt %d; settled %v after %d, held %v",
						e.Sequence, e.Attempt, settled[e.Sequence], attempts[e.Sequence], slices.Contains(held, e.Sequence))
				}
				held = append(held, e.Sequence)
			default:
				if len(held) == 0 && len(late) == 0 {
					idle++
				}
				b.clock.advance(time.Second)
				b.laneCounts() // the dispatcher has seen it
			}
		}
	}
}
