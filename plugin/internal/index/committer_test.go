package index

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/shared"
)

// held is a committer that waits after a commit of the test's own.
type held struct {
	x    *Index
	gate chan struct{}
	done chan struct{}
}

func hold(x *Index) *held {
	h := &held{x: x, gate: make(chan struct{}), done: make(chan struct{})}
	entered := make(chan struct{})
	x.OnOpen(func(string, uint64) {
		x.OnOpen(func(string, uint64) {})
		close(entered)
		<-h.gate
	})
	go func() {
		defer close(h.done)
		_, _ = x.Append(context.Background(), []Op{recall("hold", message("hold"), "hold")})
	}()
	<-entered
	return h
}

// untilQueued returns when so many calls wait.
func (h *held) untilQueued(calls int) {
	for h.x.Stats().QueueCalls < calls {
		runtime.Gosched()
	}
}

func (h *held) release() {
	close(h.gate)
	<-h.done
}

func TestWaitingCallsShareOneCommit(t *testing.T) {
	x := openNew(t)
	h := hold(x)
	before := x.Stats().Commits
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() { apply(t, x, put(message(fmt.Sprint("m", i)))) })
	}
	h.untilQueued(64)
	h.release()
	wg.Wait()
	if got := x.Stats(); got.Commits != before+1 || got.QueueCalls != 0 || got.QueueBytes != 0 {
		t.Errorf("%d commits; %+v", got.Commits-before, got)
	}
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	x := openNew(t)
	h := hold(x)
	var wg sync.WaitGroup
	large := func(i int) Op {
		m := message(fmt.Sprint("m", i))
		for a := range shared.MaxAttachments {
			m.Attachments = append(m.Attachments, attached(strings.Repeat("x", shared.MaxAttachmentBytes-3)+fmt.Sprint(a))...)
		}
		return put(m)
	}
	calls := 0
	for op := large(0); x.Stats().QueueBytes+op.bytes() <= maxQueueBytes; calls++ {
		wg.Go(func() { apply(t, x, large(calls)) })
		h.untilQueued(calls + 1)
	}
	if _, err := x.Append(t.Context(), []Op{large(calls)}); !errors.Is(err, shared.ErrOverloaded) {
		t.Errorf("over the bytes: %v", err)
	}
	for ; calls < maxQueueCalls; calls++ {
		wg.Go(func() { apply(t, x) })
	}
	h.untilQueued(calls)
	if _, err := x.Append(t.Context(), nil); !errors.Is(err, shared.ErrOverloaded) {
		t.Errorf("over the calls: %v", err)
	}
	if got := x.Stats().Overloads; got != 2 {
		t.Errorf("%d overloads", got)
	}
	h.release()
	wg.Wait()
	apply(t, x)
}

func TestALargeCallIsAppliedInOrderOverSeveralTransactions(t *testing.T) {
	x := openNew(t)
	var ops []Op
	for i := range 12 {
		m := message(strings.Repeat("i", shared.MaxIDBytes-3) + fmt.Sprintf("%03d", i))
		m.Tenant = strings.Repeat("t", shared.MaxIDBytes)
		for a := range shared.MaxAttachments {
			m.Attachments = append(m.Attachments, attached(strings.Repeat("x", shared.MaxAttachmentBytes-3)+fmt.Sprintf("%03d", a))...)
		}
		ops = append(ops, put(m), recall("r", m))
	}
	// Every message shares its files with the others, so only the last recall may delete them.
	var puts, recalls []Op
	for i := 0; i < len(ops); i += 2 {
		puts, recalls = append(puts, ops[i]), append(recalls, ops[i+1])
	}
	before := x.Stats().Commits
	for i, r := range apply(t, x, append(puts, recalls...)...) {
		if i < len(puts) && r.Put != shared.IndexAdded || i >= len(puts) && (!r.New || r.Tombstone.Sequence != uint64(i-len(puts)+1)) {
			t.Fatalf("operation %d: %+v", i, r)
		}
	}
	if n := x.Stats().Commits - before; n < 2 {
		t.Errorf("%d commits: the call is too small for this test", n)
	}
	for i, e := range ledger(t, x, ops[0].Put.Tenant, "r").Entries {
		want := 0
		if i == len(recalls)-1 {
			want = shared.MaxAttachments
		}
		if len(e.Event.Attachments) != want {
			t.Fatalf("event %d has %d attachments to delete, want %d", i, len(e.Event.Attachments), want)
		}
	}
}

func TestAFailedCommitFailsAllWhoWait(t *testing.T) {
	x := openNew(t)
	h := hold(x)
	x.commitTxn = func(*badger.Txn) error { return syscall.ENOSPC }
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := x.Append(context.Background(), []Op{put(message(fmt.Sprint(i)))}); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	h.untilQueued(20)
	h.release()
	wg.Wait()
}

func TestAFullDiskRefusesOnlyWhatWrites(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("known")))
	h := hold(x)
	x.commitTxn = func(*badger.Txn) error { return ErrDiskFull }
	add := func(id string) error {
		_, err := x.Append(context.Background(), []Op{put(message(id))})
		return err
	}
	ask := []func() error{
		func() error { return add("new") }, func() error { return add("known") }, func() error { _, err := x.Append(context.Background(), nil); return err },
	}
	answers := make([]error, len(ask))
	var all sync.WaitGroup
	for i, f := range ask {
		all.Go(func() { answers[i] = f() })
		h.untilQueued(i + 1)
	}
	h.release() // into one group
	all.Wait()
	if !errors.Is(answers[0], ErrDiskFull) || answers[1] != nil || answers[2] != nil {
		t.Errorf("a new message: %v; one that is known: %v; an empty call: %v", answers[0], answers[1], answers[2])
	}
}

func TestProgress_StuckCommitter(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("before")))
	idle := func() (done uint64) { // a call is answered a moment before it is counted
		for waiting := 1; waiting != 0; {
			waiting, done = x.Progress()
		}
		return done
	}
	if idle() == 0 {
		t.Error("nothing is done after a commit")
	}
	h := hold(x)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := x.Append(ctx, []Op{put(message("m"))}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	waiting, before := x.Progress()
	if waiting == 0 {
		t.Error("nothing waits for a committer that is stuck")
	}
	if _, err := x.Messages("acme", []string{"before"}); err != nil {
		t.Error(err)
	}
	_, after := x.Progress()
	if after != before+1 {
		t.Errorf("a read brought the progress from %d to %d", before, after)
	}
	h.release()
	apply(t, x)
	if done := idle(); done <= after {
		t.Errorf("once it goes on %d are done, %d before", done, after)
	}
}

func TestCloseAnswersWhatWaitsAndRefusesTheRest(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	h := hold(x)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() { apply(t, x, put(message(fmt.Sprint("m", i)))) })
	}
	h.untilQueued(10)
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- x.Close() }()
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 { // reads go on throughout, and never panic
		readers.Go(func() {
			for {
				if _, err := x.Messages("acme", []string{"m1"}); err != nil && !errors.Is(err, shared.ErrUnavailable) {
					t.Error(err)
				}
				if _, err := x.CountOpen(context.Background(), nil); err != nil && !errors.Is(err, shared.ErrUnavailable) {
					t.Error(err)
				}
				x.Stats()
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	h.release()
	wg.Wait()
	for range 2 {
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
	for name, err := range map[string]error{
		"Append":   func() error { _, err := x.Append(t.Context(), []Op{put(message("late"))}); return err }(),
		"Messages": func() error { _, err := x.Messages("acme", nil); return err }(),
		"Since":    func() error { _, err := x.Since(context.Background(), shared.SinceRequest{Tenant: "acme"}); return err }(),
	} {
		if !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if n := count(t, path); n != 10 {
		t.Errorf("%d of 10 messages", n)
	}
}

func TestAppend_RefusedCallDoesNotSplitItsGroup(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("known")))
	h := hold(x)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if i == 4 {
				if _, err := x.Append(context.Background(), []Op{settle(99, "notify", "done")}); !errors.Is(err, shared.ErrInvalid) {
					t.Errorf("settlement of no event: %v", err)
				}
				return
			}
			apply(t, x, put(message(fmt.Sprint("m", i))))
		})
	}
	h.untilQueued(10)
	before := x.Stats().Commits
	h.release()
	wg.Wait()
	if got := x.Stats().Commits - before; got != 1 {
		t.Errorf("%d commits, want 1", got)
	}
}

func TestAppendThen(t *testing.T) {
	x := openNew(t)
	t.Run("alone commits on the calling goroutine", func(t *testing.T) {
		answered := false // unsynchronised: under the race detector another goroutine would show
		x.AppendThen([]Op{put(message("a"))}, true, func(r []Result, err error) {
			answered = err == nil && r[0].Put == shared.IndexAdded
		})
		if !answered {
			t.Error("not answered when AppendThen returned")
		}
	})
	t.Run("alone while another commits", func(t *testing.T) {
		h := hold(x)
		done := make(chan error, 1)
		x.AppendThen([]Op{put(message("b"))}, true, func(_ []Result, err error) { done <- err })
		select {
		case err := <-done:
			t.Errorf("answered while the committer is held: %v", err)
		default:
		}
		h.release()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("takes along what waits", func(t *testing.T) {
		x.committing.Lock()
		var waiting []chan error
		for i := range 3 {
			done := make(chan error, 1)
			waiting = append(waiting, done)
			if err := x.queue.push(&call{ops: []Op{put(message(fmt.Sprint("c", i)))},
				answer: func(_ []Result, err error) { done <- err }}); err != nil {
				t.Fatal(err)
			}
		}
		x.committing.Unlock()
		x.AppendThen([]Op{put(message("d"))}, true, func([]Result, error) {})
		for _, done := range waiting {
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			default:
				t.Error("left behind")
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		calls := 0
		x.AppendThen([]Op{{}}, true, func(_ []Result, err error) {
			if calls++; !errors.Is(err, shared.ErrInvalid) {
				t.Error(err)
			}
		})
		if calls != 1 {
			t.Errorf("answered %d times", calls)
		}
	})
	t.Run("closed", func(t *testing.T) {
		y := openNew(t)
		if err := y.Close(); err != nil {
			t.Fatal(err)
		}
		for _, alone := range []bool{true, false} {
			done := make(chan error, 1)
			y.AppendThen([]Op{put(message("m"))}, alone, func(_ []Result, err error) { done <- err })
			if err := <-done; !errors.Is(err, shared.ErrUnavailable) {
				t.Error(err)
			}
		}
	})
}
