package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// held is a committer that waits after an entry of the test's own.
type held struct {
	l    *Local
	gate chan struct{}
	done chan struct{}
}

func hold(l *Local) *held {
	h := &held{l: l, gate: make(chan struct{}), done: make(chan struct{})}
	entered := make(chan struct{})
	l.OnOpen(func(string, uint64) {
		l.OnOpen(func(string, uint64) {})
		close(entered)
		<-h.gate
	})
	go func() {
		defer close(h.done)
		_, _ = l.Append(context.Background(), []index.Op{recall("hold", message("hold"), "hold")})
	}()
	<-entered
	return h
}

// untilQueued returns when that many calls wait.
func (h *held) untilQueued(calls int) {
	for h.l.Stats().QueueCalls < calls {
		runtime.Gosched()
	}
}

func (h *held) release() {
	close(h.gate)
	<-h.done
}

func TestLocal_WaitingCallsShareOneCommit(t *testing.T) {
	l := openNew(t)
	h := hold(l)
	before := l.index.Stats().Commits
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() { apply(t, l, put(message(fmt.Sprint("m", i)))) })
	}
	h.untilQueued(64)
	h.release()
	wg.Wait()
	if n := l.index.Stats().Commits - before; n != 1 || l.Stats() != (Stats{}) {
		t.Errorf("%d commits; %+v", n, l.Stats())
	}
}

func TestLocal_FullQueue(t *testing.T) {
	l := openNew(t)
	h := hold(l)
	var wg sync.WaitGroup
	large := func(i int) index.Op {
		m := message(fmt.Sprint("m", i))
		for a := range shared.MaxAttachments {
			m.Attachments = append(m.Attachments, attached(strings.Repeat("x", shared.MaxAttachmentBytes-3)+fmt.Sprint(a))...)
		}
		return put(m)
	}
	calls := 0
	for op := large(0); l.Stats().QueueBytes+op.Bytes() <= maxQueueBytes; calls++ {
		wg.Go(func() { apply(t, l, large(calls)) })
		h.untilQueued(calls + 1)
	}
	if _, err := l.Append(t.Context(), []index.Op{large(calls)}); !errors.Is(err, shared.ErrOverloaded) {
		t.Errorf("over the bytes: %v", err)
	}
	for ; calls < maxQueueCalls; calls++ {
		wg.Go(func() { apply(t, l) })
	}
	h.untilQueued(calls)
	if _, err := l.Append(t.Context(), nil); !errors.Is(err, shared.ErrOverloaded) {
		t.Errorf("over the calls: %v", err)
	}
	if got := l.Stats().Overloads; got != 2 {
		t.Errorf("%d overloads", got)
	}
	h.release()
	wg.Wait()
	apply(t, l)
}

func TestLocal_CallTooLargeForOneEntry(t *testing.T) {
	l := openNew(t)
	var ops []index.Op
	for i := range 12 {
		m := message(strings.Repeat("i", shared.MaxIDBytes-3) + fmt.Sprintf("%03d", i))
		m.Tenant = strings.Repeat("t", shared.MaxIDBytes)
		for a := range shared.MaxAttachments {
			key := strings.Repeat("x", shared.MaxAttachmentBytes-3) + fmt.Sprintf("%03d", a)
			m.Attachments = append(m.Attachments, attached(key)...)
		}
		ops = append(ops, put(m), recall("r", m))
	}
	// Every message shares its files with the others, so only the last recall may delete them.
	var puts, recalls []index.Op
	for i := 0; i < len(ops); i += 2 {
		puts, recalls = append(puts, ops[i]), append(recalls, ops[i+1])
	}
	before := l.index.Stats().Commits
	for i, r := range apply(t, l, append(puts, recalls...)...) {
		if i < len(puts) && r.Put != shared.IndexAdded ||
			i >= len(puts) && (!r.New || r.Tombstone.Sequence != uint64(i-len(puts)+1)) {
			t.Fatalf("operation %d: %+v", i, r)
		}
	}
	if n := l.index.Stats().Commits - before; n < 2 {
		t.Errorf("%d commits: the call is too small for this test", n)
	}
	var entries []shared.LedgerEntry
	for req := (shared.LedgerRequest{Tenant: ops[0].Put.Tenant, RecallID: "r"}); ; {
		page, err := l.index.LedgerPage(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if entries, req.After = append(entries, page.Entries...), page.Next; !page.More {
			break
		}
	}
	if len(entries) != len(recalls) {
		t.Fatalf("%d entries, want %d", len(entries), len(recalls))
	}
	for i, e := range entries {
		want := 0
		if i == len(recalls)-1 {
			want = shared.MaxAttachments
		}
		if len(e.Event.Attachments) != want {
			t.Fatalf("event %d has %d attachments to delete, want %d", i, len(e.Event.Attachments), want)
		}
	}
}

// The first of these messages has files of its sender, and the others link to them. So what a recall writes depends on
// those before it: the last one releases the files.
func TestLocal_AtomicCallAboutAsLargeAsAnEntry(t *testing.T) {
	l := openNew(t)
	fits := map[bool]int{}
	for files := 90; files <= shared.MaxAttachments; files++ {
		var puts, recalls []index.Op
		for i := range 5 {
			m := message(fmt.Sprint("m", i))
			m.Tenant, m.Sender = fmt.Sprint("tenant", files), []string{"zoe", "ann"}[min(i, 1)]
			for f := range files {
				key := fmt.Sprintf("%0*d", shared.MaxAttachmentBytes, f)
				m.Attachments = append(m.Attachments, shared.Attachment{Key: key, Owner: "zoe"})
			}
			op := recall("r", m)
			op.Recall.Atomic, op.Recall.Event.Actor.ID = true, "moderator"
			puts, recalls = append(puts, put(m)), append(recalls, op)
		}
		apply(t, l, puts...)
		before := l.index.Stats()
		_, err := l.Append(t.Context(), recalls)
		var refused *shared.FieldError
		if err != nil && (!errors.As(err, &refused) || refused.Field != "targets") {
			t.Fatalf("%d files: %v", files, err)
		}
		after := l.index.Stats()
		n, commits := after.Sequence-before.Sequence, after.Commits-before.Commits
		if all := err == nil; all && (n != 5 || commits != 1) || !all && (n != 0 || commits != 0) {
			t.Errorf("%d files: %d of 5 recalls in %d commits after the answer %v", files, n, commits, err)
		}
		fits[err == nil]++
	}
	if fits[true] == 0 || fits[false] == 0 {
		t.Errorf("%v fit: the calls are of the wrong size for this test", fits)
	}
}

func TestLocal_FailedIndexFailsAllWhoWait(t *testing.T) {
	path := t.TempDir()
	l := openAt(t, path)
	h := hold(l)
	logs, err := filepath.Glob(filepath.Join(path, "*.mem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range logs {
		if info, err := os.Stat(log); err != nil || info.Size() == 0 { // the next log
			continue
		}
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := l.Append(context.Background(), []index.Op{put(message(fmt.Sprint(i)))})
			if !errors.Is(err, index.ErrCorrupt) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	h.untilQueued(20)
	h.release()
	wg.Wait()
}

func TestLocal_FullDiskRefusesOnlyWhatWrites(t *testing.T) {
	l := openNew(t)
	apply(t, l, put(message("known")))
	h := hold(l)
	applyNext := l.applyNext
	l.applyNext = func(calls [][]index.Op) (index.Applied, error) {
		for _, ops := range calls {
			if len(ops) > 0 && ops[0].Put.ID == "new" {
				return index.Applied{}, index.ErrDiskFull
			}
		}
		return applyNext(calls)
	}
	add := func(id string) error {
		_, err := l.Append(context.Background(), []index.Op{put(message(id))})
		return err
	}
	ask := []func() error{
		func() error { return add("new") }, func() error { return add("known") },
		func() error { _, err := l.Append(context.Background(), nil); return err },
	}
	answers := make([]error, len(ask))
	var all sync.WaitGroup
	for i, f := range ask {
		all.Go(func() { answers[i] = f() })
		h.untilQueued(i + 1)
	}
	h.release() // into one group
	all.Wait()
	if !errors.Is(answers[0], index.ErrDiskFull) || answers[1] != nil || answers[2] != nil {
		t.Errorf("a new message: %v; one that is known: %v; an empty call: %v", answers[0], answers[1], answers[2])
	}
}

func TestLocal_ProgressOfAStuckCommitter(t *testing.T) {
	l := openNew(t)
	apply(t, l, put(message("before")))
	idle := func() (done uint64) { // a call is answered a moment before it is counted
		for waiting := 1; waiting != 0; {
			waiting, done = l.Progress()
		}
		return done
	}
	if idle() == 0 {
		t.Error("nothing is done after a commit")
	}
	h := hold(l)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Append(ctx, []index.Op{put(message("m"))}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	waiting, before := l.Progress()
	if waiting == 0 {
		t.Error("nothing waits for a committer that is stuck")
	}
	if _, err := l.index.Messages("acme", []string{"before"}); err != nil {
		t.Error(err)
	}
	_, after := l.Progress()
	if after != before+1 {
		t.Errorf("a read brought the progress from %d to %d", before, after)
	}
	h.release()
	apply(t, l)
	if done := idle(); done <= after {
		t.Errorf("once it goes on %d are done, %d before", done, after)
	}
}

func TestLocal_CloseAnswersWhatWaits(t *testing.T) {
	path := t.TempDir()
	l := openAt(t, path)
	h := hold(l)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() { apply(t, l, put(message(fmt.Sprint("m", i)))) })
	}
	h.untilQueued(10)
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- l.Close() }()
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 { // reads go on throughout, and never panic
		readers.Go(func() {
			for {
				if _, err := l.index.Messages("acme", []string{"m1"}); err != nil && !errors.Is(err, shared.ErrUnavailable) {
					t.Error(err)
				}
				if _, err := l.index.CountOpen(context.Background(), nil); err != nil && !errors.Is(err, shared.ErrUnavailable) {
					t.Error(err)
				}
				l.Stats()
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
		"Append":   func() error { _, err := l.Append(t.Context(), []index.Op{put(message("late"))}); return err }(),
		"Messages": func() error { _, err := l.index.Messages("acme", nil); return err }(),
		"Since": func() error {
			_, err := l.index.Since(context.Background(), shared.SinceRequest{Tenant: "acme"})
			return err
		}(),
	} {
		if !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if n := count(t, path); n != 10 {
		t.Errorf("%d of 10 messages", n)
	}
}

func TestLocal_RefusedCallDoesNotSplitItsEntry(t *testing.T) {
	l := openNew(t)
	apply(t, l, put(message("known")))
	h := hold(l)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if i == 4 {
				_, err := l.Append(context.Background(), []index.Op{settle(99, "notify", "done")})
				if !errors.Is(err, shared.ErrInvalid) {
					t.Errorf("settlement of no event: %v", err)
				}
				return
			}
			apply(t, l, put(message(fmt.Sprint("m", i))))
		})
	}
	h.untilQueued(10)
	before := l.index.Stats().Commits
	h.release()
	wg.Wait()
	if got := l.index.Stats().Commits - before; got != 1 {
		t.Errorf("%d commits, want 1", got)
	}
}

func TestLocal_AppendThen(t *testing.T) {
	l := openNew(t)
	t.Run("alone commits on the calling goroutine", func(t *testing.T) {
		answered := false // unsynchronized: under the race detector another goroutine would show
		l.AppendThen([]index.Op{put(message("a"))}, true, func(r []index.Result, err error) {
			answered = err == nil && r[0].Put == shared.IndexAdded
		})
		if !answered {
			t.Error("not answered when AppendThen returned")
		}
	})
	t.Run("alone while another commits", func(t *testing.T) {
		h := hold(l)
		done := make(chan error, 1)
		l.AppendThen([]index.Op{put(message("b"))}, true, func(_ []index.Result, err error) { done <- err })
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
		l.committing.Lock()
		var waiting []chan error
		for i := range 3 {
			done := make(chan error, 1)
			waiting = append(waiting, done)
			if err := l.queue.push(&call{ops: []index.Op{put(message(fmt.Sprint("c", i)))},
				answer: func(_ []index.Result, err error) { done <- err }}); err != nil {
				t.Fatal(err)
			}
		}
		l.committing.Unlock()
		l.AppendThen([]index.Op{put(message("d"))}, true, func([]index.Result, error) {})
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
		l.AppendThen([]index.Op{{}}, true, func(_ []index.Result, err error) {
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
			y.AppendThen([]index.Op{put(message("m"))}, alone, func(_ []index.Result, err error) { done <- err })
			if err := <-done; !errors.Is(err, shared.ErrUnavailable) {
				t.Error(err)
			}
		}
	})
}

func TestLocal_InvalidTextFailsForItsCallerOnly(t *testing.T) {
	l := openNew(t)
	h := hold(l)
	badMessage := message("bad")
	badMessage.Sender = "\xff"
	var wg sync.WaitGroup
	errs := make([]error, 10)
	for i := range errs {
		wg.Go(func() {
			m := message(fmt.Sprint("m", i))
			if i == 4 {
				m = badMessage
			}
			_, errs[i] = l.Append(context.Background(), []index.Op{put(m)})
		})
	}
	h.untilQueued(len(errs))
	h.release()
	wg.Wait()
	for i, err := range errs {
		if (err != nil) != (i == 4) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}
