package badgerdir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// ErrCompacting says that a compaction of the database is under way already.
var ErrCompacting = errors.New("the index is being compacted already")

// Badger keeps what was deleted or replaced: in tables of levels that are not full, and in logs. No setting of it says
// when that ends. A compaction writes everything that is visible into the files of a new database, and so leaves
// nothing else behind.
const (
	// compactKept is how long the new files wait for the database to be closed. They take as much space as the database,
	// and keep Badger from removing old versions.
	compactKept = time.Minute

	// compactFollow is how often the new files are brought up to date meanwhile.
	compactFollow = 500 * time.Millisecond

	// littleChanged is the number of keys that closing the database may copy: a hundred thousand take 0.1 s.
	littleChanged = 5000

	// compactRounds bounds how often changes are copied before the new files count as complete. Each round takes a
	// fraction of the one before, unless the disk is slower than what is written.
	compactRounds = 10
)

// compaction is a copy of a database, in files of its own, that takes its place when that is closed.
type compaction struct {
	dir     *Dir
	version uint64 // up to which the copy has everything

	ready  chan struct{} // closed when the copy is complete but for the last changes
	finish chan struct{} // closed when nothing is written to the database any more
	done   chan struct{} // closed at the end, after which err says how it went
	err    error

	abandon context.CancelCauseFunc
}

// errNotClosed says that the copy of a compaction waited too long.
var errNotClosed = fmt.Errorf("the index was not closed within %s after its new files were complete", compactKept)

// Compact writes what is visible in the database into new files, while it goes on serving, and returns when they are
// complete but for the last changes. Close then puts them in the place of the database, in one step: a kill at any
// moment leaves one of the two. They have nothing that was deleted or replaced before the call. They are given up if
// the database is not closed within a minute.
//
// Compact fails with [ErrDiskFull] unless the disk has free space for a second database, and with [ErrCompacting].
// to.Path and to.Release are set here. progress is called with the number of keys so far; it may be nil.
func (d *Dir) Compact(ctx context.Context, to Build, progress func(keys uint64)) error {
	if err := errors.Join(d.Failure(), d.Writable()); err != nil {
		return err
	}
	running, abandon := context.WithCancelCause(context.Background())
	c := &compaction{
		dir: d, ready: make(chan struct{}), finish: make(chan struct{}), done: make(chan struct{}), abandon: abandon,
	}
	d.writing.Lock()
	switch {
	case d.closed:
		d.writing.Unlock()
		return ErrClosed
	case d.compaction != nil && !d.compaction.ended():
		d.writing.Unlock()
		return ErrCompacting
	}
	d.compaction = c
	d.writing.Unlock()
	defer context.AfterFunc(ctx, func() { abandon(ctx.Err()) })()
	go c.run(running, to, progress)
	select {
	case <-c.ready:
		return nil
	case <-c.done:
		return fmt.Errorf("compact index %s: %w", d.path, c.err)
	}
}

// IsCompacted reports whether the files of a compaction are complete, and take the place of the database when it is
// closed.
func (d *Dir) IsCompacted() bool {
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.compaction == nil || d.compaction.ended() {
		return false
	}
	select {
	case <-d.compaction.ready:
		return true
	default:
		return false
	}
}

func (c *compaction) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// run makes the copy, and puts it in the place of the database once that is closed.
func (c *compaction) run(ctx context.Context, to Build, progress func(keys uint64)) {
	defer close(c.done)
	defer c.abandon(nil)
	d := c.dir
	version, leave, err := d.use() // from here on Badger removes no version, nor what says that a key was deleted
	if err != nil {
		c.err = err
		return
	}
	leave = sync.OnceFunc(leave)
	defer leave()
	to.Path, to.Release, to.locked = d.path, d.closeFiles, true
	to.Identity = d.identity
	to.Identity.Version, to.copied = version, &c.version
	_, c.err = to.run(ctx, func(db *badger.DB, checkSpace func() error) error {
		guard := c.roomGuard()
		if err := guard.look(); err != nil {
			return err
		}
		err := c.copy(ctx, db, checkSpace, progress)
		if err == nil {
			err = c.follow(ctx, db, checkSpace)
		}
		leave()
		return errors.Join(context.Cause(ctx), err)
	})
	if c.err != nil && context.Cause(ctx) == nil {
		d.log.Warn("the index was not compacted", "error", c.err)
	}
}

// roomGuard refuses to copy a database for which the disk has too little space. The files of a database take more than
// its copy will.
func (c *compaction) roomGuard() spaceGuard {
	guard := newSpaceGuard(c.dir.path, memtablesToCommit*c.dir.memtable)
	tables, _ := filepath.Glob(filepath.Join(c.dir.path, "*.sst")) // the pattern is good
	for _, table := range tables {
		if info, err := os.Stat(table); err == nil { // else Badger has removed it
			guard.need += uint64(info.Size())
		}
	}
	return guard
}

// copy puts everything that is visible into db. It takes turns with others: it rests as long as it works.
func (c *compaction) copy(
	ctx context.Context, db *badger.DB, checkSpace func() error, progress func(keys uint64),
) error {
	worked := time.Now()
	rest := func() error {
		if err := checkSpace(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(time.Since(worked), maxRest)):
		}
		worked = time.Now()
		return ctx.Err()
	}
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		w.CloseWithError(c.dir.Backup(ctx, 0, func(*badger.Txn) (io.Writer, error) { return w, nil }))
	}()
	b, err := ReadBackup(r)
	if err != nil {
		return err
	}
	c.version = b.Header.Index.Version
	stream := db.NewStreamWriter()
	if err := stream.Prepare(); err != nil {
		return err
	}
	if err := b.restoreKeys(ctx, stream, rest, progress); err != nil {
		stream.Cancel()
		return err
	}
	return errors.Join(stream.Flush(), c.verify(ctx, db))
}

// maxRest bounds a rest of copy: the disk may stall.
const maxRest = 100 * time.Millisecond

// verify reads the tables of the copy, so that the next process need not.
func (c *compaction) verify(ctx context.Context, db *badger.DB) error {
	folder := db.Opts().Dir
	list := loadVerified(folder)
	for _, t := range db.Tables() {
		_, found, err := verifyTable(folder, fmt.Sprintf("%06d.sst", t.ID), options.None, list)
		if err == nil && len(found) > 0 {
			err = &DamageError{Found: found}
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	return list.save(folder)
}

// follow keeps the copy up to date until nothing is written to the database any more.
func (c *compaction) follow(ctx context.Context, db *badger.DB, checkSpace func() error) error {
	for round := range compactRounds {
		changed, err := c.copyChanges(ctx, db)
		if err := errors.Join(err, checkSpace()); err != nil {
			return err
		}
		if changed <= littleChanged || round == compactRounds-1 {
			break
		}
	}
	close(c.ready)
	tick := time.NewTicker(compactFollow)
	defer tick.Stop()
	tooLate := time.After(compactKept)
	for {
		select {
		case <-c.finish:
			_, err := c.copyChanges(ctx, db)
			return err
		case <-tick.C:
			if _, err := c.copyChanges(ctx, db); err != nil {
				return err
			}
		case <-tooLate:
			c.abandon(errNotClosed)
			return errNotClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// copyChanges puts into db what was committed since the last call, and returns the number of keys that changed. A key
// that was made and deleted meanwhile does not get there.
func (c *compaction) copyChanges(ctx context.Context, db *badger.DB) (changed int, err error) {
	upTo := c.dir.committed.Load()
	err = c.dir.Guard(func() error {
		txn := c.dir.db.NewTransactionAt(upTo, false)
		defer txn.Discard()
		has := db.NewTransactionAt(upTo, false)
		defer has.Discard()
		batch := db.NewManagedWriteBatch()
		defer batch.Cancel()
		it := txn.NewIterator(badger.IteratorOptions{AllVersions: true, SinceTs: c.version})
		defer it.Close()
		var last []byte
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			if bytes.Equal(item.Key(), last) { // an older version
				continue
			}
			last = item.KeyCopy(last)
			changed++
			if err := errors.Join(c.copyChange(has, batch, item), ctx.Err()); err != nil {
				return err
			}
		}
		return batch.Flush()
	})
	if err == nil {
		c.version = upTo
	}
	return changed, err
}

func (c *compaction) copyChange(has *badger.Txn, batch *badger.WriteBatch, item *badger.Item) error {
	key := slices.Clone(item.Key())
	if !item.IsDeletedOrExpired() {
		value, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		return batch.SetEntryAt(badger.NewEntry(key, value), item.Version())
	}
	if _, err := has.Get(key); errors.Is(err, badger.ErrKeyNotFound) {
		return nil
	}
	return batch.DeleteAt(key, item.Version())
}

// end ends a compaction when its database is closed: one that is ready takes the place of it, and any other is given up
// without an error.
func (c *compaction) end() error {
	isReady := false
	select {
	case <-c.ready:
		isReady = c.dir.Failure() == nil
	default:
	}
	if isReady {
		close(c.finish)
	} else {
		c.abandon(ErrClosed)
	}
	if stopped.Load() { // what reads from Badger may wait for good
		return nil
	}
	<-c.done
	if errors.Is(c.err, ErrClosed) || errors.Is(c.err, errNotClosed) {
		return nil
	}
	if c.err != nil {
		return fmt.Errorf("compact index %s: %w", c.dir.path, c.err)
	}
	return nil
}
