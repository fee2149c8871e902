// Package snapshottest has the log of a cluster in memory with its snapshots, for tests, which can break them.
package snapshottest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
)

// Stream is a stream in memory with snapshots.
type Stream struct {
	*journaltest.Stream

	mu     sync.Mutex
	all    map[string]stored
	made   int
	broken func(stage string) error
}

// NewStream makes an empty stream.
func NewStream() *Stream { return &Stream{Stream: journaltest.NewStream(), all: map[string]stored{}} }

// stored is a snapshot with its data.
type stored struct {
	journal.Snapshot
	data []byte
}

var _ journal.Snapshots = (*Stream)(nil)

// BreakSnapshots has stages of the work on snapshots fail for which broken has an error: "list", "create", "write",
// "commit", "delete", "open", "read" and "trim". nil: none does.
func (s *Stream) BreakSnapshots(broken func(stage string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// ChangeSnapshot changes the data of a snapshot.
func (s *Stream) ChangeSnapshot(of journal.Snapshot, change func(data []byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.all[of.Name]
	kept.data = change(bytes.Clone(kept.data))
	s.all[of.Name] = kept
}

// stage does what a stage does, with mu held, unless it is broken.
func (s *Stream) stage(name string, do func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		if err := s.broken(name); err != nil {
			return err
		}
	}
	do()
	return nil
}

// Trim is journal.Snapshots.
func (s *Stream) Trim(ctx context.Context, upTo uint64) (err error) {
	if broken := s.stage("trim", func() { err = s.Stream.Trim(ctx, upTo) }); broken != nil {
		return broken
	}
	return err
}

// Snapshots is journal.Snapshots.
func (s *Stream) Snapshots(context.Context) (all []journal.Snapshot, err error) {
	err = s.stage("list", func() {
		for _, kept := range s.all {
			all = append(all, kept.Snapshot)
		}
	})
	slices.SortFunc(all, journal.Snapshot.Compare)
	return all, err
}

// OpenSnapshot is journal.Snapshots.
func (s *Stream) OpenSnapshot(_ context.Context, of journal.Snapshot) (r io.ReadCloser, err error) {
	isThere := false
	err = s.stage("open", func() {
		var kept stored
		kept, isThere = s.all[of.Name]
		r = &reader{s, bytes.NewReader(kept.data)}
	})
	if err == nil && !isThere {
		err = fmt.Errorf("the snapshot %s is not there", of.Name)
	}
	return r, err
}

type reader struct {
	s    *Stream
	data *bytes.Reader
}

func (r *reader) Read(p []byte) (n int, err error) {
	if err := r.s.stage("read", func() { n, err = r.data.Read(p[:min(len(p), 1<<10)]) }); err != nil {
		return 0, err
	}
	return n, err
}

func (r *reader) Close() error { return nil }

// CreateSnapshot is journal.Snapshots.
func (s *Stream) CreateSnapshot(_ context.Context, position uint64) (w journal.SnapshotWriter, err error) {
	err = s.stage("create", func() {
		s.made++
		w = &writer{s: s, about: journal.Snapshot{Name: fmt.Sprint("s", s.made), Position: position}}
	})
	return w, err
}

type writer struct {
	s     *Stream
	about journal.Snapshot
	data  bytes.Buffer
}

func (w *writer) Write(data []byte) (n int, err error) {
	return len(data), w.s.stage("write", func() { w.data.Write(data) })
}

func (w *writer) Commit() error {
	return w.s.stage("commit", func() {
		w.about.Taken, w.about.Bytes = time.Now(), uint64(w.data.Len())
		w.s.all[w.about.Name] = stored{w.about, w.data.Bytes()}
	})
}

func (w *writer) Abort() {}

// DeleteSnapshot is journal.Snapshots.
func (s *Stream) DeleteSnapshot(_ context.Context, of journal.Snapshot) error {
	return s.stage("delete", func() { delete(s.all, of.Name) })
}
