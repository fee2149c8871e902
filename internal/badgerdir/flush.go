package badgerdir

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

// compactWait is how long Flush waits for compactions. Under heavy writes there is always one.
const compactWait = 2 * time.Second

// Flush shortens the replay after a crash, while the database goes on serving: it returns when what was only in the log
// is in tables and no compaction is due, or when ctx ends. It writes up to two memtables to the log and to tables, in
// some 70 commits, and almost nothing if the log is almost empty. pad commits a value of so many bytes under a key that
// nothing reads; each such commit replaces the one before.
//
// The next process replays what was logged since, some hundred entries at 5,000 messages a second. A thousand take 1.5
// ms.
func (d *Dir) Flush(ctx context.Context, pad func(ctx context.Context, bytes int) error) error {
	if err := d.flush(ctx, pad); err != nil {
		return fmt.Errorf("flush index %s: %w", d.path, err)
	}
	return nil
}

func (d *Dir) flush(ctx context.Context, pad func(ctx context.Context, bytes int) error) error {
	// The first round writes what has accumulated in the log, which takes a while; the second what came meanwhile.
	if err := d.emptyLog(ctx, pad); err != nil {
		return err
	}
	d.discardOld() // so that compaction keeps one padding and not all
	waiting, cancel := context.WithTimeout(ctx, compactWait)
	defer cancel()
	if err := wait(waiting, d.compacted); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if err := d.emptyLog(ctx, pad); err != nil {
		return err
	}
	d.verifyNew() // so that the next process need not read them while calls wait
	return nil
}

// The sizes of padding. Other commits wait for it; and the last one, which goes into the new log, should be small.
const (
	minPadding = 64 << 10
	maxPadding = 512 << 10
)

// littleLogged is how much of a log is not worth a new one: it replays in 3 ms.
const littleLogged = 256 << 10

// emptyLog makes Badger begin a new log and write the memtable of the one before to a table. Badger does so when a log
// is full and offers no call for it, so pad fills the log. Compaction keeps the last padding.
func (d *Dir) emptyLog(ctx context.Context, pad func(ctx context.Context, bytes int) error) error {
	before, logged, err := d.logs()
	if err != nil {
		return err
	}
	if len(before) <= 1 && logged <= littleLogged {
		return nil
	}
	old := func(log string) bool { return slices.Contains(before, log) }
	isNew := func(log string) bool { return !old(log) }
	for now := before; !slices.ContainsFunc(now, isNew); {
		padding := int(min(max(d.memtable-logged, minPadding), maxPadding))
		if err := pad(ctx, padding); err != nil {
			return err
		}
		if now, logged, err = d.logs(); err != nil {
			return err
		}
	}
	return wait(ctx, func() (bool, error) {
		now, _, err := d.logs()
		return !slices.ContainsFunc(now, old), err
	})
}

// logs are the names of the logs, and how many bytes are written in the one in use. Badger removes a log when its
// memtable has become a table.
func (d *Dir) logs() (names []string, bytes int64, err error) {
	files, err := os.ReadDir(d.path)
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
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.live != nil {
		bytes = d.live.end
	}
	return names, bytes, nil
}

// compacted reports that no compaction is due.
func (d *Dir) compacted() (bool, error) {
	_, leave, err := d.use()
	if err != nil {
		return false, err
	}
	defer leave()
	return !slices.ContainsFunc(d.db.Levels(), func(l badger.LevelInfo) bool { return l.Score >= 1 }), nil
}

// wait polls done until it returns true or an error.
func wait(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
