package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/clock"
	"github.com/chat-recall/recall/shared"
)

// Snapshots are copies of the index, kept beside a stream, of which the beginning can be removed then.
type Snapshots interface {
	// First is the position of the first entry that the stream has, or of the next one where it has none.
	First(ctx context.Context) (position uint64, err error)

	// Snapshots lists the complete snapshots of this stream, the newest first.
	Snapshots(ctx context.Context) ([]Snapshot, error)

	// OpenSnapshot reads a snapshot. A read fails where a part is missing or was changed.
	OpenSnapshot(ctx context.Context, s Snapshot) (io.ReadCloser, error)

	// CreateSnapshot begins a snapshot of a position, and removes what those left behind that did not come to their end.
	// It is complete after Commit, and else not there at all.
	CreateSnapshot(ctx context.Context, position uint64) (SnapshotWriter, error)

	// DeleteSnapshot deletes a snapshot; one that is not there is deleted.
	DeleteSnapshot(ctx context.Context, s Snapshot) error

	// Trim removes the entries up to a position.
	Trim(ctx context.Context, upTo uint64) error
}

// Snapshot is a copy of the index.
type Snapshot struct {
	Name     string // never used again
	Position uint64 // of the last entry that is applied in it
	Taken    time.Time
	Bytes    uint64
}

// Compare orders snapshots: the newest comes first.
func (s Snapshot) Compare(t Snapshot) int {
	return cmp.Or(cmp.Compare(t.Position, s.Position), t.Taken.Compare(s.Taken), cmp.Compare(t.Name, s.Name))
}

// SnapshotWriter is a snapshot that is being stored. Commit or Abort is called once.
type SnapshotWriter interface {
	io.Writer
	Commit() error
	Abort()
}

const (
	// snapshotsKept is how many snapshots there are. The stream goes back to the oldest of them, which is used where the
	// newest is damaged.
	snapshotsKept = 2

	// snapshotTick is how often it is seen whether a snapshot is due. A listing for its age is older than snapshotsListed
	// at most.
	snapshotTick    = 2 * time.Second
	snapshotsListed = time.Minute

	// snapshotRetry is how long after a failure the next snapshot is taken.
	snapshotRetry = 30 * time.Second

	// SnapshotProgress is how often long work on a snapshot is logged.
	SnapshotProgress = 5 * time.Second
)

// ErrTrimmed says that the log was trimmed beyond what this node had read, as of one that was stopped for long.
var ErrTrimmed = fmt.Errorf("%w: entries of the log were removed before this node had read them", shared.ErrUnavailable)

// SnapshotterOptions configure a [Snapshotter].
type SnapshotterOptions struct {
	Log       *Replicated
	Snapshots Snapshots
	Every     uint64       // entries between two snapshots
	Logger    hclog.Logger // nil for nothing
	Clock     clock.Clock  // nil for the machine's
}

// Snapshotter takes the snapshots of a cluster, on one node at a time: the first by name of those that are not gone.
// Where two take that for themselves, as when one was stopped, there is one snapshot more, and that is all.
type Snapshotter struct {
	SnapshotterOptions

	keeping sync.Mutex // held by Keep

	mu     sync.Mutex // guards newest
	newest Snapshot
}

// NewSnapshotter makes a snapshotter, which does nothing before Run.
func NewSnapshotter(o SnapshotterOptions) *Snapshotter {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	return &Snapshotter{SnapshotterOptions: o}
}

// Newest is the newest snapshot that this node knows of; zero: none.
func (s *Snapshotter) Newest() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// Run takes snapshots until ctx ends, or the log fails.
func (s *Snapshotter) Run(ctx context.Context) {
	next := s.Clock.Elapsed() // when the snapshots are listed
	for s.Log.failure() == nil {
		now := s.Clock.Elapsed()
		again := now + snapshotTick
		if now >= next || s.isDue() {
			next = now + snapshotsListed
			if err := s.Keep(ctx); err != nil && ctx.Err() == nil {
				next, again = now, s.Clock.Elapsed()+snapshotRetry
				s.Logger.Warn("the snapshots of the index are not kept, which is tried again", "error", err)
			}
		}
		select {
		case <-s.Clock.At(again):
		case <-ctx.Done():
			return
		}
	}
}

// isDue reports whether this node is to take a snapshot, as far as it knows.
func (s *Snapshotter) isDue() bool {
	position, _ := s.Log.lastSum()
	return position >= s.Newest().Position+s.Every && s.isFirst()
}

// isFirst reports whether this node is the one that takes snapshots.
func (s *Snapshotter) isFirst() bool {
	members, err := s.Log.index.Members()
	if err != nil || members[s.Log.node] == nil || members[s.Log.node].Gone {
		return false
	}
	for node, m := range members {
		if node < s.Log.node && !m.Gone {
			return false
		}
	}
	return true
}

// Keep learns which snapshots there are and, on the node that takes them, takes one that is due and removes what it
// makes unnecessary. Run calls it when it is time.
func (s *Snapshotter) Keep(ctx context.Context) error {
	s.keeping.Lock()
	defer s.keeping.Unlock()
	all, err := s.list(ctx)
	if err != nil || !s.isFirst() {
		return err
	}
	if s.isDue() {
		if err := s.take(ctx); err != nil {
			return err
		}
		if all, err = s.list(ctx); err != nil {
			return err
		}
	}
	return s.tidy(ctx, all)
}

func (s *Snapshotter) list(ctx context.Context) ([]Snapshot, error) {
	all, err := s.Snapshots.Snapshots(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = Snapshot{}
	if len(all) > 0 {
		s.newest = all[0]
	}
	return all, nil
}

// take takes a snapshot.
func (s *Snapshotter) take(ctx context.Context) error {
	began := s.Clock.Elapsed()
	to := &progressWriter{s: s, last: began}
	err := s.Log.index.Snapshot(ctx, func(at index.Log) (_ io.Writer, err error) {
		s.Logger.Info("taking a snapshot of the index", "entry", at.Position)
		to.at = at.Position
		to.to, err = s.Snapshots.CreateSnapshot(ctx, at.Position)
		return to, err
	})
	switch {
	case err != nil && to.to != nil:
		to.to.Abort()
	case err == nil:
		err = to.to.Commit()
	}
	if err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	s.Logger.Info("took a snapshot of the index", "entry", to.at, "mib", to.bytes>>20,
		"took", (s.Clock.Elapsed() - began).Round(time.Millisecond).String())
	return nil
}

// progressWriter logs how far a snapshot is.
type progressWriter struct {
	s     *Snapshotter
	to    SnapshotWriter
	at    uint64
	bytes int64
	last  time.Duration
}

func (p *progressWriter) Write(data []byte) (int, error) {
	n, err := p.to.Write(data)
	p.bytes += int64(n)
	if now := p.s.Clock.Elapsed(); now-p.last >= SnapshotProgress {
		p.last = now
		p.s.Logger.Info("storing a snapshot of the index", "entry", p.at, "mib", p.bytes>>20)
	}
	return n, err
}

// tidy removes what nobody needs beside the newest snapshots. It may end at any moment: the next time goes on.
func (s *Snapshotter) tidy(ctx context.Context, all []Snapshot) error {
	if len(all) < snapshotsKept {
		return nil
	}
	upTo := all[snapshotsKept-1].Position
	first, err := s.Snapshots.First(ctx)
	if err != nil {
		return err
	}
	if first <= upTo {
		if err := s.Snapshots.Trim(ctx, upTo); err != nil {
			return fmt.Errorf("trim the log up to entry %d: %w", upTo, err)
		}
		s.Logger.Info("the log was trimmed", "up_to", upTo)
	}
	var errs []error
	for _, old := range all[snapshotsKept:] {
		if err := s.Snapshots.DeleteSnapshot(ctx, old); err != nil {
			errs = append(errs, fmt.Errorf("delete the snapshot of entry %d: %w", old.Position, err))
		}
	}
	return errors.Join(errs...)
}

// Failure is why the log of this node has ended; nil: it has not.
func (r *Replicated) Failure() error { return r.failure() }
