// Package index is the message index on Badger: what messages exist, who took which of them back, and which steps of
// those recalls are still open. One committer writes; everything else reads.
package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/plugin/internal/index/indexpb"
)

// Format is the format version of the index that this package reads and writes.
const Format = 1

// The sizes of Badger. A memtable bounds what is replayed after a crash, and with it the pause of a swap; 8 MiB is the
// least that holds the largest operation in one transaction, which may fill 15 % of it.
const (
	defaultMemtableBytes = 16 << 20
	minMemtableBytes     = 8 << 20
	indexCacheBytes      = 64 << 20 // of tables: where their blocks begin, and their Bloom filters; 10 million messages have about 50 MB
)

var (
	// ErrFormat says that the index was written by a newer version.
	ErrFormat = errors.New("index of a newer format")

	// ErrLocked says that another process held the index for as long as Open was willing to wait.
	ErrLocked = errors.New("index is held by another process")

	// ErrCorrupt says that the files of the index are damaged or incomplete.
	ErrCorrupt = errors.New("index is damaged")
)

// Options say where the index is.
type Options struct {
	// Path is the folder of the index, made if it is not there. One process at a time holds it.
	Path string

	// MemtableBytes bounds what is replayed after a crash; 0 means 16 MiB, 8 MiB is the least.
	MemtableBytes int64

	// Lend is given the locked folder before anything of it is read: flock(2) belongs to the open file, so who has
	// another descriptor of it can unlock it too. It is to be used at once. nil: nobody is given it.
	Lend func(folder *os.File)

	// Logger gets what the index and Badger have to say; nil for nothing.
	Logger hclog.Logger
}

// Index is an open index. Its methods may be called side by side, also with Close: after it they answer
// shared.ErrUnavailable.
type Index struct {
	path     string
	memtable int64 // bytes
	log      hclog.Logger
	db       *badger.DB
	lock     *folderLock
	queue    queue

	// committed is the version that reads see. Transactions are numbered here and not by Badger, so that a read
	// neither waits for a sync under way nor sees what is not on disk.
	committed atomic.Uint64

	// Reads hold gate while they run. To write it is to know that none runs: before the database is closed, and before
	// Badger may drop versions that a newer one replaced.
	gate   sync.RWMutex
	closed bool // under gate

	failed atomic.Pointer[error] // why the index can no longer vouch for its disk
	onOpen atomic.Pointer[func(step string, first uint64)]

	// Of the committer alone.
	sequence uint64 // of the last recall
	disk     diskGuard
	commitAt func(*badger.Txn, uint64) error // tests make it fail

	committer sync.WaitGroup
	closing   sync.Once
	closeErr  error

	lastSequence, commits, operations atomic.Uint64
}

var _ Log = (*Index)(nil)

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
	opts := badgerOptions(o)
	room := newDiskGuard(o.Path, memtablesToOpen*o.MemtableBytes)
	if err := room.check(); err != nil {
		return nil, err
	}
	if err := checkFolder(o.Path, opts); err != nil {
		return nil, err
	}
	db, err := openBadger(opts)
	if err != nil {
		return nil, err
	}
	x := &Index{
		path:     o.Path,
		memtable: o.MemtableBytes,
		log:      o.Logger,
		db:       db,
		lock:     lock,
		queue:    newQueue(),
		disk:     newDiskGuard(o.Path, memtablesToCommit*o.MemtableBytes),
		commitAt: func(txn *badger.Txn, version uint64) error { return txn.CommitAt(version, nil) },
	}
	x.committed.Store(db.MaxVersion())
	db.SetDiscardTs(x.committed.Load())
	if err := x.begin(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	x.committer.Go(x.commitLoop)
	return x, nil
}

func badgerOptions(o Options) badger.Options {
	return badger.DefaultOptions(o.Path).
		WithLogger(badgerLog{o.Logger.Named("badger")}).
		WithMetricsEnabled(false).
		WithBypassLockGuard(true). // lockFolder holds it
		WithSyncWrites(true).
		WithDetectConflicts(false). // one writer
		WithNumVersionsToKeep(1).
		WithMemTableSize(o.MemtableBytes).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithValueLogFileSize(1 << 20). // it stays empty: values are smaller than Badger's threshold of 1 MiB
		// What is not compressed is read where the kernel maps it, and needs no cache of ours: with 3 million messages 1.3 to 1.9
		// times as many calls of Status a second as with Snappy and a cache of 32 MiB, 1.3 times as many messages a second in
		// bulk, 30 MB less memory, and 120 bytes of disk a message for 86. Tables from before are compressed until they are compacted.
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithIndexCacheSize(indexCacheBytes)
}

// begin reads what the committer goes on from, and makes the first transaction of a new index.
func (x *Index) begin() error {
	txn := x.db.NewTransactionAt(x.committed.Load(), true)
	defer txn.Discard()
	var format indexpb.Format
	found, err := get(txn, formatKey, &format)
	if err != nil {
		return err
	}
	if !found {
		if x.committed.Load() != 0 {
			return fmt.Errorf("%w: it has data but no format version, so it is incomplete or another program's; "+
				"restore it from a backup or name another folder", ErrCorrupt)
		}
		if err := x.disk.check(); err != nil {
			return err
		}
		if err := set(txn, formatKey, &indexpb.Format{Version: Format}); err != nil {
			return err
		}
		if err := set(txn, sequenceKey, &indexpb.Counter{Next: 1}); err != nil {
			return err
		}
		if err := x.commitAt(txn, 1); err != nil {
			return fmt.Errorf("write the format version: %w", err)
		}
		x.committed.Store(1)
		return nil
	}
	if format.Version != Format {
		return fmt.Errorf("%w: its format is %d and this version knows %d; use the newer plugin, or an index of its own",
			ErrFormat, format.Version, Format)
	}
	var next indexpb.Counter
	switch found, err := get(txn, sequenceKey, &next); {
	case err != nil:
		return err
	case !found || next.Next == 0:
		return fmt.Errorf("%w: it has no sequence; restore it from a backup", ErrCorrupt)
	}
	x.sequence = next.Next - 1
	x.lastSequence.Store(x.sequence)
	return nil
}

// Close finishes and answers what is waiting, waits for the reads under way and releases the folder. It may be called
// again. It takes as long as Badger needs to write its tables; a process in a hurry need not call it, for what was
// acknowledged is on disk without.
func (x *Index) Close() error {
	x.closing.Do(func() {
		x.queue.close()
		x.committer.Wait()
		x.gate.Lock()
		x.closed = true
		x.gate.Unlock()
		if err := x.db.Close(); err != nil {
			x.closeErr = fmt.Errorf("close index %s: %w", x.path, err)
		}
		x.lock.release()
	})
	return x.closeErr
}

// Ping goes through the committer and back: one that is stuck does not answer before ctx ends. An index that can no
// longer vouch for its disk answers with the reason, and the process should be started anew.
func (x *Index) Ping(ctx context.Context) error {
	c, err := x.queue.ping()
	if err != nil {
		return err
	}
	_, err = c.wait(ctx)
	return err
}

// OnOpen has f called, once a step, after each commit that opened this step for any event; first is the lowest
// sequence among those. Steps behind notify open in any order, so it may lie before events whose step was open
// already. f runs on the committer and must not block. It replaces an earlier f.
func (x *Index) OnOpen(f func(step string, first uint64)) { x.onOpen.Store(&f) }

// Stats are the numbers of an index since it was opened, but for those of the disk.
type Stats struct {
	Sequence   uint64 // of the last recall, 0 before the first
	Commits    uint64 // transactions
	Operations uint64 // operations applied
	Overloads  uint64 // calls of Append refused because too much was waiting
	QueueCalls int    // calls of Append waiting
	QueueBytes int    // size of their operations
	DiskBytes  int64  // size of the tables of the index, refreshed by Badger once a minute; 0 once it is closed
}

// Stats tells the numbers of the index.
func (x *Index) Stats() Stats {
	s := Stats{Sequence: x.lastSequence.Load(), Commits: x.commits.Load(), Operations: x.operations.Load()}
	s.QueueCalls, s.QueueBytes, s.Overloads = x.queue.stats()
	x.gate.RLock()
	defer x.gate.RUnlock()
	if !x.closed {
		s.DiskBytes, _ = x.db.Size()
	}
	return s
}

// fail poisons the index. After a sync that failed, nobody knows what of the file is on disk: a second sync that
// succeeds proves nothing, and reads could answer from memory what is nowhere else. So the index answers no more, Ping
// says why, and a new process reads what is truly there.
func (x *Index) fail(err error) {
	if x.failed.CompareAndSwap(nil, &err) {
		x.log.Error("the index cannot vouch for its disk and answers no more; start the plugin anew",
			"path", x.path, "error", err)
	}
}

func (x *Index) failure() error {
	if err := x.failed.Load(); err != nil {
		return *err
	}
	return nil
}
