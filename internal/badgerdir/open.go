package badgerdir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/hashicorp/go-hclog"
)

// indexCacheBytes bounds the cache of table indexes: where their blocks begin, and their Bloom filters. Those of 10
// million messages take about 50 MB.
const indexCacheBytes = 64 << 20

// Open opens the database in a folder, waiting for its lock until ctx ends. It fails with [ErrLocked], [ErrCorrupt], or
// an error of the operating system. The caller then reads which database it is and calls [Dir.Identify].
func Open(ctx context.Context, o Options) (_ *Dir, err error) {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	lock, err := lockFolder(ctx, o.Path, o.Logger)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.release()
		}
	}()
	if o.Lend != nil {
		o.Lend(lock.folder)
	}
	warnOfReaders(lock.folder, o.Logger)
	if err := RemoveUnfinished(o.Path); err != nil {
		o.Logger.Warn("what a compaction or restore that was killed left beside the index cannot be removed", "error", err)
	}
	opts := BadgerOptions(o.Path, o.MemtableBytes, o.Logger)
	found, err := inspect(ctx, o, opts)
	if err != nil {
		return nil, err
	}
	d := &Dir{
		path: o.Path, memtable: o.MemtableBytes, log: o.Logger, lock: lock, found: found,
		space:    newSpaceGuard(o.Path, memtablesToCommit*o.MemtableBytes),
		verified: found.survey.verified, suspect: make(chan struct{}, 1),
	}
	d.closeFiles = sync.OnceValue(d.closeAll)
	if d.readOnly, err = tooFull(o, found.survey.fresh); err != nil {
		return nil, err
	}
	if err := clean(o.Path, found.survey, d.readOnly); err != nil {
		return nil, err
	}
	if d.db, err = openBadger(opts.WithReadOnly(d.readOnly)); err != nil {
		return nil, err
	}
	d.committed.Store(d.db.MaxVersion())
	d.db.SetDiscardTs(d.committed.Load())
	if err := d.begin(); err != nil {
		return nil, errors.Join(err, d.db.Close())
	}
	var watch context.Context
	watch, d.stopWatch = context.WithCancel(context.Background())
	openDirs.add(d)
	d.watcher.Go(func() { d.watchTables(watch) })
	return d, nil
}

// begin checks that Badger opened everything that its files hold, and takes over the log that it has just made.
func (d *Dir) begin() (err error) {
	if d.committed.Load() < d.found.survey.version {
		return fmt.Errorf("%w: its files hold version %d and only %d of it could be opened%s",
			ErrCorrupt, d.found.survey.version, d.committed.Load(), Advice)
	}
	if d.readOnly {
		return nil
	}
	d.live, err = openLiveLog(d.path, 2*d.memtable, d.log)
	d.commitAt = func(txn *badger.Txn, version uint64) error {
		if err := txn.CommitAt(version, nil); err != nil {
			return err
		}
		return d.live.sync(version)
	}
	return err
}

// tooFull reports whether the disk has too little free space for what opening a database writes, so that it is opened
// for reads only. A database that does not exist yet cannot be.
func tooFull(o Options, fresh bool) (bool, error) {
	space := newSpaceGuard(o.Path, memtablesToOpen*o.MemtableBytes)
	err := space.check()
	if err == nil {
		return false, nil
	}
	if fresh || !errors.Is(err, ErrDiskFull) {
		return false, err
	}
	o.Logger.Error("the index is opened for reads only", "error", err)
	return true, nil
}

// clean prepares the folder for Badger. It removes empty logs: one is made empty and then given its size, and is
// emptied before it is removed, so a kill in between leaves it with nothing in it to lose; and Badger does not open
// beside it. The list of verified tables is written anew before a name in it may be given to another table.
func clean(folder string, s *survey, readOnly bool) error {
	files, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, f := range files {
		if ext := filepath.Ext(f.Name()); ext != ".mem" && ext != ".vlog" {
			continue
		}
		path := filepath.Join(folder, f.Name())
		info, err := f.Info()
		if err != nil {
			return err
		}
		switch log, ok := s.logs[f.Name()]; {
		case info.Size() == 0:
			err = os.Remove(path)
		case ok && readOnly && log.end < log.size: // Badger cuts it itself, but not where it may not write
			err = os.Truncate(path, log.end)
		}
		if err != nil {
			return err
		}
	}
	if s.fresh {
		return nil
	}
	if err := s.verified.save(folder); err != nil {
		if err := os.Remove(filepath.Join(folder, verifiedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// openBadger opens the database. What is wrong with its files comes as any kind of error, or as a panic.
func openBadger(opts badger.Options) (db *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%w: %v%s", ErrCorrupt, r, Advice)
		}
	}()
	db, err = badger.OpenManaged(opts)
	var system syscall.Errno
	if err == nil || errors.As(err, &system) {
		return db, err
	}
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) { // it holds no key: the index is not encrypted
		return nil, damaged(badger.KeyRegistryFileName, -1, "%v; remove that file, nothing is lost with it", err)
	}
	return nil, fmt.Errorf("%w: %w%s", ErrCorrupt, err, Advice)
}

// readOptions are for reading the files of a folder without opening it.
func readOptions(folder string) badger.Options {
	return BadgerOptions(folder, badger.DefaultOptions("").MemTableSize, hclog.NewNullLogger())
}

// BadgerOptions are the options with which the package opens Badger. They are exported for measurements.
func BadgerOptions(folder string, memtable int64, log hclog.Logger) badger.Options {
	o := badger.DefaultOptions(folder)
	// Half the size that Badger has. To make a table takes up to thirty times this, and that is kept for the next one, and
	// there are a dozen at once. With 2 MiB, 10 million messages in bulk took 290 MiB for it. The plugin's limit of memory
	// then had the collector run all the time, for 20 % of the processor.
	o.BaseTableSize = 1 << 20
	return o.
		WithLogger(badgerLog{log.Named("badger")}).
		WithMetricsEnabled(false).
		WithBypassLockGuard(true).  // lockFolder holds it
		WithSyncWrites(false).      // liveLog syncs
		WithDetectConflicts(false). // one writer
		WithNumVersionsToKeep(1).
		WithMemTableSize(memtable).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithValueLogFileSize(1 << 20). // it stays empty: values are smaller than Badger's threshold of 1 MiB
		// What is not compressed is read where the kernel maps it, and needs no cache of ours: with 3 million messages 1.3
		// to 1.9 times as many calls of Status a second as with Snappy and a cache of 32 MiB, 1.3 times as many messages a
		// second in bulk, 30 MB less memory, and 120 bytes of disk a message for 86. Tables from before are compressed
		// until they are compacted.
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithIndexCacheSize(indexCacheBytes)
}
