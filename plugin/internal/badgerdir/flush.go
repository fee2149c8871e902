package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// compactWait is how long Flush waits for compactions. Where much is written there is always one.
const compactWait = 2 * time.Second

// Flush makes the index quick to take over after a kill, while it goes on serving: it returns when what was only in the
// log is in tables and no compaction is due, or when ctx ends. It costs the writes of two memtables to the log and to
// tables, in some 70 commits; next to nothing where next to nothing is logged.
//
// Who opens the index next replays what was logged since, some hundred entries at 5,000 messages a second; each
// thousand takes 1.5 ms.
func (x *Index) Flush(ctx context.Context) error {
	if err := x.flush(ctx); err != nil {
		return fmt.Errorf("flush index %s: %w", x.path, err)
	}
	return nil
}

func (x *Index) flush(ctx context.Context) error {
	// The first round writes out what was logged for long, which takes a while; the second what came meanwhile.
	if err := x.emptyLog(ctx); err != nil {
		return err
	}
	x.discardOld() // so that compaction keeps one padding and not all
	patient, cancel := context.WithTimeout(ctx, compactWait)
	defer cancel()
	if err := wait(patient, x.compacted); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if err := x.emptyLog(ctx); err != nil {
		return err
	}
	x.verifyNew() // so that the next process need not read them while calls wait
	return nil
}

// The sizes of padding. Calls that are committed along with one wait for it too; the last, which goes into the new
// log, is to be small.
const (
	minPadding = 64 << 10
	maxPadding = 512 << 10
)

// littleLogged is not worth a new log: it replays in 3 ms.
const littleLogged = 256 << 10

// emptyLog has Badger begin a new log and make a table of the memtable of the one before. Badger does so when a log is
// full and cannot be asked to, so the log is filled up, with a key of its own. Compaction keeps the last padding.
func (x *Index) emptyLog(ctx context.Context) error {
	before, logged, err := x.logs()
	if err != nil {
		return err
	}
	if len(before) <= 1 && logged <= littleLogged {
		return nil
	}
	old := func(log string) bool { return slices.Contains(before, log) }
	isNew := func(log string) bool { return !old(log) }
	for now := before; !slices.ContainsFunc(now, isNew); {
		padding := int(min(max(x.memtable-logged, minPadding), maxPadding))
		if _, err := x.await(ctx, &call{padding: padding}); err != nil {
			return err
		}
		if now, logged, err = x.logs(); err != nil {
			return err
		}
	}
	return wait(ctx, func() (bool, error) {
		now, _, err := x.logs()
		return !slices.ContainsFunc(now, old), err
	})
}

// logs are the names of the logs, and how much is written in the one in use. Badger removes one when its memtable has
// become a table.
func (x *Index) logs() (names []string, bytes int64, err error) {
	files, err := os.ReadDir(x.path)
	if err != nil {
		return nil, 0, err
	}
	for _, file := range files {
		if filepath.Ext(file.Name()) != ".mem" {
			continue
		}
		info, err := file.Info()
		if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
			continue // it was removed just now, or is only reserved
		}
		if err != nil {
			return nil, 0, err
		}
		names = append(names, file.Name())
	}
	x.committing.Lock()
	defer x.committing.Unlock()
	if x.live != nil {
		bytes = x.live.end
	}
	return names, bytes, nil
}

// compacted tells whether no compaction is due.
func (x *Index) compacted() (bool, error) {
	_, leave, err := x.use()
	if err != nil {
		return false, err
	}
	defer leave()
	return !slices.ContainsFunc(x.db.Levels(), func(l badger.LevelInfo) bool { return l.Score >= 1 }), nil
}

// wait asks again and again until it is so.
func wait(ctx context.Context, so func() (bool, error)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := so(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
