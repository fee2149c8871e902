package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// startNode starts a cluster of one node.
func startNode(t *testing.T, s Stream) *node {
	t.Helper()
	n := startNodes(t, s, 1)[0]
	t.Cleanup(func() { n.stop(t) })
	return n
}

func TestReplicated_PublishedAgain(t *testing.T) {
	s := journaltest.NewStream()
	n := startNode(t, s)
	var failures atomic.Int64
	s.Break(func([]byte) error {
		if failures.Add(1) < 4 {
			return errors.New("no leader")
		}
		return nil
	})
	results := apply(t, n.log, put(message("a")))
	if results[0].Put != shared.IndexAdded || failures.Load() != 4 {
		t.Errorf("%+v after %d tries", results, failures.Load())
	}
}

func TestReplicated_WithoutQuorum(t *testing.T) {
	s := journaltest.NewStream()
	n := &node{name: "n0", path: t.TempDir()}
	n.start(t, s)
	n.stop(t)
	x, err := index.Open(t.Context(), index.Options{Path: n.path})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Follow(t.Context(), "log", "n0"); err != nil {
		t.Fatal(err)
	}
	r := NewReplicated(x, ReplicatedOptions{Node: "n0", Stream: s, Patience: 50 * time.Millisecond})
	join(t, r, index.Member{Instance: "n0", Format: 1})
	s.Break(func([]byte) error { return errors.New("no quorum") })
	const callers = 3 * maxSent // most of them are never sent
	answers := make(chan error, callers)
	for i := range callers {
		answer := func(_ []index.Result, err error) { answers <- err }
		r.AppendThen([]index.Op{put(message(fmt.Sprint("m", i)))}, false, answer)
		time.Sleep(time.Millisecond) // an entry of its own
	}
	for range callers {
		if err := <-answers; !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	s.Break(nil)
	inTheEnd(t, func() error { return r.Barrier(t.Context()) }) // and it goes on, soon
	inTheEnd(t, func() error {
		got, err := r.Append(t.Context(), []index.Op{put(message("later"))})
		if err == nil && got[0].Put != shared.IndexAdded && got[0].Put != shared.IndexUnchanged {
			t.Errorf("%+v", got)
		}
		return err
	})
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestReplicated_TooLarge(t *testing.T) {
	s := journaltest.NewStream()
	n := startNode(t, s)
	s.Break(func(data []byte) error {
		if len(data) > 1000 {
			return ErrTooLarge
		}
		return nil
	})
	large := message("large")
	large.Ref = strings.Repeat("x", 1000)
	if _, err := n.log.Append(t.Context(), []index.Op{put(large)}); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("%v", err)
	}
	for i := range 3 * maxSent { // it left no gap in the numbers of the entries
		apply(t, n.log, put(message(fmt.Sprint("small", i))))
	}
}

// TestReplicated_OrderOfCalls checks that calls are applied in the order in which they are appended, as callers rely on
// that settle a step and then one that waits for it, also when an entry has to be sent again.
func TestReplicated_OrderOfCalls(t *testing.T) {
	s := journaltest.NewStream()
	n := startNode(t, s)
	apply(t, n.log, put(message("m")), recall("r", message("m"), shared.StepNotify, shared.StepHistory))
	failed := false
	s.Break(func([]byte) error {
		if !failed {
			failed = true
			return errors.New("no leader")
		}
		return nil
	})
	answers := make(chan error, 2)
	for _, step := range []string{shared.StepNotify, shared.StepHistory} {
		op := settle(1, step, shared.OutcomeDone)
		n.log.AppendThen([]index.Op{op}, false, func(_ []index.Result, err error) {
			if err != nil {
				err = fmt.Errorf("%s: %w", step, err)
			}
			answers <- err
		})
		for !n.log.queue.empty() {
			s.Pause()
		}
	}
	for range 2 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}

func TestReplicated_LargeCallInParts(t *testing.T) {
	s := journaltest.NewStream()
	n := startNode(t, s)
	var ops []index.Op
	for i := range 3000 {
		ops = append(ops, put(message(fmt.Sprintf("m%0200d", i))))
	}
	before := s.Len()
	results := apply(t, n.log, ops...)
	isNotAdded := func(r index.Result) bool { return r.Put != shared.IndexAdded }
	if len(results) != len(ops) || slices.ContainsFunc(results, isNotAdded) {
		t.Errorf("%d results of %d operations", len(results), len(ops))
	}
	if entries := s.Len() - before; entries < 3 {
		t.Errorf("%d entries", entries)
	}
	// A part that is refused refuses the call.
	ops = append(ops, settle(99, shared.StepNotify, shared.OutcomeDone))
	if _, err := n.log.Append(t.Context(), ops); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestReplicated_AnotherProcess(t *testing.T) {
	s := journaltest.NewStream()
	old := startNode(t, s)
	second := &node{name: "n0", path: t.TempDir()} // as of a cloned machine
	second.start(t, s)
	defer second.stop(t)
	if _, err := old.log.Append(t.Context(), []index.Op{put(message("m"))}); !errors.Is(err, ErrReplaced) {
		t.Errorf("of the process before: %v", err)
	}
	apply(t, second.log, put(message("m")))
}

func TestReplicated_AnotherMachine(t *testing.T) {
	s := journaltest.NewStream()
	startNode(t, s)
	x, err := index.Open(t.Context(), index.Options{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Follow(t.Context(), "log", "n0"); err != nil {
		t.Fatal(err)
	}
	r := NewReplicated(x, ReplicatedOptions{Node: "n0", Stream: s})
	defer r.Close()
	_, err = r.Join(t.Context(), index.Member{Instance: "another", Format: EntryFormat})
	if !errors.Is(err, shared.ErrUnavailable) || !errors.Is(err, ErrElsewhere) {
		t.Errorf("%v", err)
	}
}

// TestReplicated_Halts checks that a node stops at an entry that it must not leave out.
func TestReplicated_Halts(t *testing.T) {
	calls := [][]index.Op{{put(message("m"))}}
	good, err := encodeEntry(&index.LogEntry{Node: "n9", Process: 1, Number: 1, Calls: calls}, EntryFormat)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, b byte) []byte {
		data := slices.Clone(good)
		data[at] = b
		return data
	}
	for name, test := range map[string]struct {
		data []byte
		want error
	}{
		"of a newer format":     {changed(1, EntryFormat+1), index.ErrNewer},
		"with more than it had": {append(slices.Clone(good), 1), index.ErrNewer},
		"cut short":             {good[:len(good)-1], index.ErrCorrupt},
		"of something else":     {[]byte("hello"), index.ErrCorrupt},
		"empty":                 {nil, index.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			s := journaltest.NewStream()
			n := startNode(t, s)
			apply(t, n.log, put(message("before")))
			s.Publish(t.Context(), test.data, func(error) {})
			for n.log.failure() == nil && t.Context().Err() == nil {
				s.Pause()
			}
			_, err := n.log.Append(t.Context(), []index.Op{put(message("after"))})
			if !errors.Is(err, shared.ErrUnavailable) || !errors.Is(err, test.want) {
				t.Errorf("%v", err)
			}
			if err := n.log.Barrier(t.Context()); !errors.Is(err, shared.ErrUnavailable) {
				t.Errorf("barrier: %v", err)
			}
		})
	}
}

// deletedStream is one that is deleted under way.
type deletedStream struct {
	*journaltest.Stream
	deleted context.Context
}

func (s *deletedStream) Follow(ctx context.Context, after uint64, handle func(uint64, []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.deleted, cancel)()
	if err := s.Stream.Follow(ctx, after, handle); s.deleted.Err() == nil {
		return err
	}
	return fmt.Errorf("%w: it was deleted", ErrGone)
}

func TestReplicated_StreamDeleted(t *testing.T) {
	deleted, del := context.WithCancel(t.Context())
	n := startNode(t, &deletedStream{journaltest.NewStream(), deleted})
	apply(t, n.log, put(message("before")))
	del()
	<-n.log.ctx.Done()
	_, err := n.log.Append(t.Context(), []index.Op{put(message("after"))})
	if !errors.Is(err, shared.ErrUnavailable) || !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	if r, err := n.log.index.Messages("acme", []string{"before"}); err != nil || r[0] == nil {
		t.Errorf("what was acknowledged: %+v %v", r, err)
	}
}

// slowStream takes a while to hand over each entry.
type slowStream struct {
	*journaltest.Stream
	pause time.Duration
}

func (s slowStream) Follow(ctx context.Context, after uint64, handle func(uint64, []byte) error) error {
	return s.Stream.Follow(ctx, after, func(position uint64, data []byte) error {
		time.Sleep(s.pause)
		return handle(position, data)
	})
}

// TestReplicated_JoinTakesLong has a node join that reads the log for longer than it waits for an answer.
func TestReplicated_JoinTakesLong(t *testing.T) {
	s := journaltest.NewStream()
	first := startNode(t, s)
	for i := range 20 {
		apply(t, first.log, put(message(fmt.Sprint("m", i))))
	}
	late := &node{name: "late", path: t.TempDir(), patience: time.Second}
	late.start(t, slowStream{s, 100 * time.Millisecond})
	late.stop(t)
	refused := &node{name: "refused", path: t.TempDir(), patience: time.Second}
	refused.follow(t, slowStream{s, 100 * time.Millisecond})
	defer refused.stop(t)
	s.Break(func([]byte) error { return errors.New("no permission") })
	_, err := refused.log.Join(t.Context(), index.Member{Format: EntryFormat})
	if !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "not answered") {
		t.Errorf("a node that cannot write: %v", err)
	}
}

// gapStream leaves out an entry, as a stream does whose beginning was removed.
type gapStream struct {
	*journaltest.Stream
	missing uint64
}

func (s gapStream) Follow(ctx context.Context, after uint64, handle func(uint64, []byte) error) error {
	return s.Stream.Follow(ctx, after, func(position uint64, data []byte) error {
		if position == s.missing {
			return nil
		}
		return handle(position, data)
	})
}

func TestReplicated_EntriesRemoved(t *testing.T) {
	s := gapStream{journaltest.NewStream(), 0}
	first := startNode(t, s)
	apply(t, first.log, put(message("m")))
	s.missing = s.Len()
	apply(t, first.log, put(message("n")))
	x, err := index.Open(t.Context(), index.Options{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Follow(t.Context(), "log", "n1"); err != nil {
		t.Fatal(err)
	}
	r := NewReplicated(x, ReplicatedOptions{Node: "n1", Stream: s})
	defer r.Close()
	err = r.Barrier(t.Context())
	if !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "removed") {
		t.Errorf("%v", err)
	}
}

func TestReplicated_OpensStepsOfItsOwn(t *testing.T) {
	s := journaltest.NewStream()
	all := startNodes(t, s, 2)
	opened := make([]chan string, len(all))
	for i, n := range all {
		defer n.stop(t)
		opened[i] = make(chan string, 100)
		n.log.OnOpen(func(step string, first uint64) { opened[i] <- fmt.Sprint(step, " ", first) })
	}
	apply(t, all[0].log, put(message("m")), recall("r", message("m"), shared.StepNotify))
	for i := range all {
		if got := <-opened[i]; got != "notify 1" {
			t.Errorf("n%d: %s", i, got)
		}
	}
}

func TestReplicated_Closed(t *testing.T) {
	s := journaltest.NewStream()
	n := startNodes(t, s, 1)[0]
	s.Break(func([]byte) error { return errors.New("no quorum") })
	answered := make(chan error, 1)
	n.log.AppendThen([]index.Op{put(message("m"))}, false, func(_ []index.Result, err error) { answered <- err })
	n.stop(t)
	if err := <-answered; !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if _, err := n.log.Append(t.Context(), []index.Op{put(message("m"))}); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	n.stop(t) // again
}

func FuzzDecodeEntry(f *testing.F) {
	whole, err := encodeEntry(&index.LogEntry{Node: "n0", Process: 7, Number: 3, Calls: [][]index.Op{
		{put(message("m")), recall("r", message("m"))}, {settle(1, shared.StepNotify, shared.OutcomeDone)},
	}}, EntryFormat)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeEntry(data, EntryFormat)
		if err != nil {
			if !errors.Is(err, index.ErrNewer) && !errors.Is(err, index.ErrCorrupt) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := encodeEntry(&e, EntryFormat)
		if err != nil {
			return // a text that is not UTF-8
		}
		if _, err := decodeEntry(again, EntryFormat); err != nil {
			t.Errorf("%x: %v", again, err)
		}
	})
}
