package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// chore is work of a test.
type chore struct {
	id     string
	do     func(n int) (progress, error) // for its n-th slice
	mu     sync.Mutex
	slices int
	pokes  atomic.Int64
	ran    chan string // gets the id with each slice
}

func (c *chore) name() string { return c.id }
func (c *chore) changed()     { c.pokes.Add(1) }

func (c *chore) slice(ctx context.Context, a *active) (progress, error) {
	c.mu.Lock()
	c.slices++
	n := c.slices
	c.mu.Unlock()
	select {
	case c.ran <- c.id:
	case <-ctx.Done():
		return progress{}, ctx.Err()
	}
	return c.do(n)
}

func (c *chore) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slices
}

// choreSource is a source of work.
type choreSource struct {
	mu   sync.Mutex
	next []work
	err  error
}

func (s *choreSource) find(context.Context, *active) ([]work, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, err := s.next, s.err
	s.next, s.err = nil, nil
	return found, err
}

func (s *choreSource) add(err error, all ...work) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next, s.err = append(s.next, all...), err
}

// newRunning is an engine with a runner of its own over a source, that runs until the test ends.
func newRunning(t *testing.T, s *choreSource) (*rig, *runner) {
	t.Helper()
	r := newActive(t, "")
	run := newRunner(r.Engine, s)
	ctx, cancel := context.WithCancel(t.Context())
	go run.run(ctx)
	t.Cleanup(func() {
		cancel()
		<-run.done
	})
	return r, run
}

func TestRunner_Turns(t *testing.T) {
	ran := make(chan string)
	endless := func(int) (progress, error) { return progress{}, nil }
	s := &choreSource{}
	s.add(nil, &chore{id: "a", do: endless, ran: ran}, &chore{id: "b", do: endless, ran: ran})
	_, run := newRunning(t, s)
	last := <-ran
	for range 20 {
		next := <-ran
		if next == last {
			t.Fatalf("%q has two turns in a row", next)
		}
		last = next
	}
	s.add(nil, &chore{id: "c", do: func(n int) (progress, error) { return progress{done: n == 3}, nil }, ran: ran})
	run.poke("c") // also while there is work all the time
	counts := map[string]int{}
	for counts["c"] < 3 {
		counts[<-ran]++
	}
	for range 10 {
		if <-ran == "c" {
			t.Error("what is done has another turn")
		}
	}
	if w, err := run.at("c"); w != nil || err != nil || run.count(anyWork) != 2 {
		t.Errorf("%v %v, %d works", w, err, run.count(anyWork))
	}
}

func TestRunner_ErrorsAndWaits(t *testing.T) {
	ran := make(chan string)
	failed := errors.New("no")
	c := &chore{id: "a", ran: ran, do: func(n int) (progress, error) {
		switch n {
		case 1, 2:
			return progress{}, failed
		case 3:
			return progress{due: time.Hour}, nil
		}
		return progress{done: true}, nil
	}}
	s := &choreSource{}
	s.add(nil, c)
	r, run := newRunning(t, s)
	<-ran
	r.clock.WaitArmed(r.clock.Elapsed() + firstRetry)
	if _, err := run.at("a"); !errors.Is(err, failed) {
		t.Errorf("after a failure: %v", err)
	}
	r.clock.Advance(firstRetry)
	<-ran
	r.clock.WaitArmed(r.clock.Elapsed() + 2*firstRetry)
	r.clock.Advance(2 * firstRetry)
	<-ran
	r.waitUntil(func() bool { _, err := run.at("a"); return err == nil })
	run.poke("a") // it waits for an hour
	<-ran
	r.waitUntil(func() bool { return run.count(anyWork) == 0 })
	if c.pokes.Load() != 1 || c.count() != 4 {
		t.Errorf("%d notices of a change, want 1; %d turns, want 4", c.pokes.Load(), c.count())
	}
}

// Work that changes during its slice has the next one at once.
func TestRunner_PokedDuringASlice(t *testing.T) {
	ran := make(chan string)
	during := make(chan func())
	c := &chore{id: "a", ran: ran, do: func(n int) (progress, error) {
		if n == 2 {
			return progress{done: true}, nil
		}
		(<-during)()
		return progress{due: time.Hour}, nil
	}}
	s := &choreSource{}
	s.add(nil, c)
	r, run := newRunning(t, s)
	<-ran
	during <- func() { run.poke("a") }
	select {
	case <-ran:
	case <-within(t, 10*time.Second).Done():
		t.Fatal("it waits for an hour")
	}
	r.waitUntil(func() bool { return run.count(anyWork) == 0 })
}

func TestRunner_SourceFails(t *testing.T) {
	ran := make(chan string)
	s := &choreSource{}
	s.add(errors.New("no"))
	r, _ := newRunning(t, s)
	r.waitUntil(func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.err == nil
	})
	s.add(nil, &chore{id: "a", ran: ran, do: func(int) (progress, error) { return progress{done: true}, nil }})
	r.clock.Advance(findEvery)
	<-ran
}

func TestRunner_EndsWithTheEngine(t *testing.T) {
	ran := make(chan string)
	s := &choreSource{}
	s.add(nil, &chore{id: "a", ran: ran, do: func(int) (progress, error) { return progress{}, nil }})
	r, run := newRunning(t, s)
	<-ran
	go func() { // the slice that is under way
		for range ran {
		}
	}()
	if err := r.Quiesce(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	<-run.done
	close(ran)
}

func TestEngine_PauseAfter(t *testing.T) {
	r := newActive(t, "")
	_, seen := r.pauseAfter(time.Millisecond, 0)
	if pause, _ := r.pauseAfter(time.Millisecond, seen); pause >= time.Millisecond {
		t.Errorf("while the host does not call it pauses for %s", pause)
	}
	for _, method := range []string{"Settle", "PreviewJob", "JobStatus"} { // they come from what jobs do
		_, done := r.Observe(t.Context(), method)
		done(nil)
	}
	if pause, _ := r.pauseAfter(time.Millisecond, seen); pause >= time.Millisecond {
		t.Errorf("after calls about jobs it pauses for %s", pause)
	}
	_, done := r.Observe(t.Context(), "Index")
	done(nil)
	if pause, _ := r.pauseAfter(time.Millisecond, seen); pause < 4*time.Millisecond {
		t.Errorf("while the host calls it pauses for %s", pause)
	}
}

func TestEngine_PauseAfterALongSlice(t *testing.T) {
	r := newActive(t, "")
	_, seen := r.pauseAfter(time.Hour, 0)
	_, done := r.Observe(t.Context(), "Index")
	done(nil)
	for range 2 { // while the host calls, and while it does not
		var pause time.Duration
		if pause, seen = r.pauseAfter(time.Hour, seen); pause > maxPause {
			t.Errorf("it pauses for %s", pause)
		}
	}
}

// waitUntil polls until something is so.
func (r *rig) waitUntil(is func() bool) {
	r.t.Helper()
	ctx := within(r.t, 30*time.Second)
	for !is() {
		select {
		case <-ctx.Done():
			r.t.Fatal("it never comes true")
		case <-time.After(time.Millisecond):
		}
	}
}

func anyWork(work) bool { return true }
