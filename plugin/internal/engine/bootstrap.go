package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

// openIndex opens the index of the configuration. That of a node of a cluster begins anew from a snapshot, if the log
// was trimmed beyond it or it lacks more of the log than it has.
func (e *Engine) openIndex(ctx context.Context) (*index.Index, error) {
	x, err := e.openFolder(ctx)
	if err != nil || e.link == nil {
		return x, err
	}
	replaced, err := e.bootstrap(ctx, x)
	if err != nil {
		return nil, errors.Join(err, x.Close())
	}
	if replaced {
		return e.openFolder(ctx)
	}
	return x, nil
}

func (e *Engine) openFolder(ctx context.Context) (*index.Index, error) {
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	return index.Open(ctx, index.Options{
		Path: e.config.IndexPath, Lend: e.lend, Logger: e.logger.Named("index"),
		Create: e.config.IndexCreate || e.link != nil, Known: e.known(),
	})
}

// bootstrap replaces the index in the folder of x, which it closes then, where that is needed or shorter.
func (e *Engine) bootstrap(ctx context.Context, x *index.Index) (replaced bool, err error) {
	if err := x.Follow(ctx, e.link.ID(), e.config.Cluster.Node); err != nil { // an index of something else is kept
		return false, err
	}
	logger := e.logger.Named("cluster")
	if err := x.RemoveUnfinished(); err != nil {
		logger.Warn("what a restore left behind that was killed cannot be removed", "error", err)
	}
	has := x.Log().Position
	asking, cancel := context.WithTimeout(ctx, journal.DefaultPatience) // Activate may have no deadline
	defer cancel()
	first, err := e.link.First(asking)
	if err != nil {
		return false, err
	}
	all, err := e.link.Snapshots(asking)
	if err != nil {
		return false, fmt.Errorf("list the snapshots: %w", err)
	}
	isTrimmed := first > has+1
	if !isTrimmed && (len(all) == 0 || all[0].Position-min(has, all[0].Position) <= has) {
		return false, nil
	}
	var errs []error
	for _, s := range all {
		if s.Position <= has || s.Position+1 < first {
			continue
		}
		err := e.restoreSnapshot(ctx, x, s)
		if err == nil {
			return true, nil
		}
		err = fmt.Errorf("restore the snapshot of entry %d: %w", s.Position, err)
		logger.Error("the index cannot begin anew from a snapshot", "error", err)
		errs = append(errs, err)
		if _, err := x.Members(); err != nil { // it is closed
			return false, errors.Join(errs...)
		}
	}
	if !isTrimmed {
		logger.Warn("no snapshot can be used; the log is read from where the index is", "entry", has)
		return false, nil
	}
	err = fmt.Errorf("%w: the log begins with entry %d, the index %s has come to entry %d, and there is no snapshot from "+
		"which it could go on; start this node again once another one has taken a snapshot, or the import of an index is "+
		"complete", shared.ErrUnavailable, first, e.config.IndexPath, has)
	return false, errors.Join(append([]error{err}, errs...)...)
}

// shows has Health show the progress of Activate.
func (e *Engine) shows(progress func() (done uint64, what string)) { e.progress.Store(&progress) }

func (e *Engine) restoreSnapshot(ctx context.Context, x *index.Index, s journal.Snapshot) error {
	logger := e.logger.Named("cluster")
	logger.Info("the index begins anew from a snapshot", "entry", s.Position, "mib", s.Bytes>>20, "has", x.Log().Position)
	began := time.Now()
	from, err := e.link.OpenSnapshot(ctx, s)
	if err != nil {
		return err
	}
	last, restored := began, &atomic.Uint64{}
	e.shows(func() (uint64, string) {
		keys := restored.Load()
		return keys, fmt.Sprintf("the index begins anew from a snapshot, of which it has %d keys", keys)
	})
	done, err := x.Replace(ctx, from, s.Position, func(keys uint64) {
		restored.Store(keys)
		if time.Since(last) >= journal.SnapshotProgress {
			last = time.Now()
			logger.Info("restoring a snapshot of the index", "entry", s.Position, "keys", keys)
		}
	})
	if err := errors.Join(err, from.Close()); err != nil {
		return err
	}
	logger.Info("the index has begun anew", "entry", s.Position, "keys", done.Keys,
		"took", time.Since(began).Round(time.Millisecond).String())
	return nil
}
