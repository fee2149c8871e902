package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/plugin/internal/index/indexpb"
)

// Open takes the index in a folder, waiting for its lock until ctx ends. Its errors name the folder: ErrLocked,
// ErrFormat (nothing of the index is changed), ErrCorrupt, or that of the operating system.
func Open(ctx context.Context, o Options) (*Index, error) {
	x, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", o.Path, err)
	}
	return x, nil
}

func open(ctx context.Context, o Options) (_ *Index, err error) {
	if o.MemtableBytes == 0 {
		o.MemtableBytes = defaultMemtableBytes
	}
	if o.MemtableBytes < minMemtableBytes {
		return nil, fmt.Errorf("a memtable of %d bytes is too small; at least %d", o.MemtableBytes, minMemtableBytes)
	}
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
	opts := badgerOptions(o)
	found, err := inspect(ctx, o, opts)
	if err != nil {
		return nil, err
	}
	x := &Index{
		path: o.Path, memtable: o.MemtableBytes, log: o.Logger, lock: lock, queue: newQueue(),
		disk:     newDiskGuard(o.Path, memtablesToCommit*o.MemtableBytes),
		ids:      newIDFilter(),
		verified: found.survey.verified, suspect: make(chan struct{}, 1),
	}
	if x.readOnly, err = tooFull(o, found.survey.fresh); err != nil {
		return nil, err
	}
	if err := clean(o.Path, found.survey, x.readOnly); err != nil {
		return nil, err
	}
	if x.db, err = openBadger(opts.WithReadOnly(x.readOnly)); err != nil {
		return nil, err
	}
	x.committed.Store(x.db.MaxVersion())
	x.db.SetDiscardTs(x.committed.Load())
	if err := x.begin(found); err != nil {
		if x.live != nil {
			err = errors.Join(err, x.live.close())
		}
		return nil, errors.Join(err, x.db.Close())
	}
	var watch context.Context
	watch, x.stopWatch = context.WithCancel(context.Background())
	openIndexes.add(x)
	x.watcher.Go(func() { x.watchTables(watch) })
	if !x.readOnly {
		x.watcher.Go(func() { x.learn(watch) })
	}
	x.committer.Go(x.commitLoop)
	return x, nil
}

// tooFull tells whether the disk has too little room for what opening an index writes, so that it is opened for reads
// only. An index that is not there yet cannot be.
func tooFull(o Options, fresh bool) (bool, error) {
	room := newDiskGuard(o.Path, memtablesToOpen*o.MemtableBytes)
	err := room.check()
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
			db, err = nil, fmt.Errorf("%w: %v%s", ErrCorrupt, r, advice)
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
	return nil, fmt.Errorf("%w: %w%s", ErrCorrupt, err, advice)
}

func badgerOptions(o Options) badger.Options {
	return badger.DefaultOptions(o.Path).
		WithLogger(badgerLog{o.Logger.Named("badger")}).
		WithMetricsEnabled(false).
		WithBypassLockGuard(true).  // lockFolder holds it
		WithSyncWrites(false).      // liveLog syncs
		WithDetectConflicts(false). // one writer
		WithNumVersionsToKeep(1).
		WithMemTableSize(o.MemtableBytes).
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

// begin reads what the committer goes on from, makes the first transaction of a new index, gives an index that has
// none an identity, and one that was restored from a copy another epoch.
func (x *Index) begin(found *found) error {
	txn := x.db.NewTransactionAt(x.committed.Load(), true)
	defer txn.Discard()
	if x.committed.Load() < found.survey.version {
		return fmt.Errorf("%w: its files hold version %d and only %d of it could be opened%s",
			ErrCorrupt, found.survey.version, x.committed.Load(), advice)
	}
	var format indexpb.Format
	isOld, err := get(txn, formatKey, &format)
	switch {
	case err != nil:
		return err
	case !isOld && x.committed.Load() != 0:
		return fmt.Errorf("%w: it has data but no format version, so it is incomplete or another program's%s",
			ErrCorrupt, advice)
	case isOld && format.Version != Format:
		return fmt.Errorf("%w: its format is %d and this version knows %d; use the plugin that wrote it, or an index of its own",
			ErrFormat, format.Version, Format)
	}
	next := indexpb.Counter{Next: 1}
	if isOld {
		if ok, err := get(txn, sequenceKey, &next); err != nil {
			return err
		} else if !ok || next.Next == 0 {
			return fmt.Errorf("%w: it has no sequence%s", ErrCorrupt, advice)
		}
	}
	x.sequence, x.failures = next.Next-1, next.Failures
	x.lastSequence.Store(x.sequence)
	x.lastFailure.Store(x.failures)
	var id indexpb.Identity
	if _, err := get(txn, identityKey, &id); err != nil {
		return err
	}
	x.identity = Identity{ID: id.Id, Epoch: id.Epoch, Version: x.committed.Load()}
	if !x.readOnly {
		if x.live, err = openLiveLog(x.path, 2*x.memtable, x.log); err != nil {
			return err
		}
		x.commitAt = func(txn *badger.Txn, version uint64) error {
			if err := txn.CommitAt(version, nil); err != nil {
				return err
			}
			return x.live.sync(version)
		}
	}
	restored, err := found.restored(x.identity)
	if err != nil {
		return err
	}
	if x.identity.ID == "" || restored {
		if err := x.identify(txn, !isOld, restored, found); err != nil {
			return err
		}
	}
	if x.readOnly {
		return nil
	}
	return x.placeMarkers()
}

// identify gives the index an identity, or another epoch.
func (x *Index) identify(txn *badger.Txn, isNew, restored bool, found *found) error {
	if x.readOnly {
		return fmt.Errorf("%w: the index has to be written to before it can serve", ErrDiskFull)
	}
	if err := x.disk.check(); err != nil {
		return err
	}
	if x.identity.ID == "" {
		x.identity.ID = newID(16)
	}
	x.identity.Epoch = newEpoch(found.epochs(x.identity.Epoch)...)
	if isNew {
		if err := set(txn, sequenceKey, &indexpb.Counter{Next: 1}); err != nil {
			return err
		}
	}
	if err := set(txn, formatKey, &indexpb.Format{Version: Format}); err != nil {
		return err
	}
	if err := set(txn, identityKey, &indexpb.Identity{Id: x.identity.ID, Epoch: x.identity.Epoch}); err != nil {
		return err
	}
	x.identity.Version++
	if err := x.commitAt(txn, x.identity.Version); err != nil {
		return fmt.Errorf("write the identity of the index: %w", err)
	}
	x.committed.Store(x.identity.Version)
	if restored {
		x.log.Warn("the index was restored from a copy, and everything after that copy is gone: recalls made since then are "+
			"not known any more, and cursors are void", "path", x.path, "id", x.identity.ID, "epoch", x.identity.Epoch)
	}
	return nil
}

// Identity names the index, its epoch, and how far it has come.
func (x *Index) Identity() Identity {
	id := x.identity
	id.Version = x.committed.Load()
	return id
}
