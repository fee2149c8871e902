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
	"github.com/hashicorp/go-hclog"
)

// Format is the format version of the index that this package reads and writes.
const Format = 3

// The sizes of Badger. A memtable bounds what is replayed after a crash, and with it the pause of a swap; 8 MiB is the
// least that holds the largest operation in one transaction, which may fill 15 % of it.
const (
	defaultMemtableBytes = 16 << 20
	minMemtableBytes     = 8 << 20
	indexCacheBytes      = 64 << 20 // of tables: where their blocks begin, and their Bloom filters; 10 million messages have about 50 MB
)

var (
	// ErrFormat says that the index was written by a version with another format.
	ErrFormat = errors.New("index of another format")

	// ErrLocked says that another process held the index for as long as Open was willing to wait.
	ErrLocked = errors.New("index is held by another process")
)

// Options say where the index is.
type Options struct {
	// Path is the folder of the index, made if it is not there. One process at a time holds it.
	Path string

	// MemtableBytes bounds what is replayed after a crash; 0 means 16 MiB, 8 MiB is the least.
	MemtableBytes int64

	// Create makes a new, empty index where one was before and is gone. Without it a new one is made only where there
	// never was one. It never replaces files of an index.
	Create bool

	// Known is the index that the host remembers, and how far it had come; nil: it remembers none.
	Known *Identity

	// Lend is given the locked folder before anything of it is read: flock(2) belongs to the open file, so who has
	// another descriptor of it can unlock it too. It is to be used at once. nil: nobody is given it.
	Lend func(folder *os.File)

	// Logger gets what the index and Badger have to say; nil for nothing.
	Logger hclog.Logger
}

// Index is an open index. Its methods may be called concurrently, also with Close: after it they answer
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

	readers readers
	recent  recentEvents
	ids     *idFilter

	failed atomic.Pointer[error] // why the index can no longer vouch for its disk
	onOpen atomic.Pointer[func(step string, first uint64)]

	identity Identity // its Version is what it was when the index was opened
	readOnly bool     // the disk had too little room to write when the index was opened

	verified  *verifiedTables
	suspect   chan struct{} // Badger met a damaged block, in this index or another one of the process
	verifying sync.Mutex    // held while tables are chosen and read
	scrubs    atomic.Uint64 // how often every table was read again
	scrubbed  string        // the table that was read again last
	allowance int64         // bytes that scrub may read
	stopWatch context.CancelFunc
	watcher   sync.WaitGroup

	committing sync.Mutex // held by whoever commits, and guards the following

	sequence uint64 // of the last recall
	failures uint64 // position of the last failed attempt
	markers  []*marker
	live     *liveLog // nil where the index is opened for reads only
	disk     diskGuard
	commitAt func(*badger.Txn, uint64) error // tests make it fail

	committer sync.WaitGroup
	closing   sync.Once
	closeErr  error

	lastSequence, lastFailure, commits, operations atomic.Uint64

	reading atomic.Int64  // reads under way
	reads   atomic.Uint64 // reads done
	taken   atomic.Int64  // calls that are being committed
	groups  atomic.Uint64 // of calls that were answered
	tables  atomic.Uint64 // new tables that were seen
}

var _ Log = (*Index)(nil)

// Close finishes and answers what is waiting, waits for the reads under way and releases the folder. It may be called
// again. It takes as long as Badger needs to write its tables; a process in a hurry need not call it, for what was
// acknowledged is on disk without.
func (x *Index) Close() error {
	x.closing.Do(func() {
		x.queue.close()
		x.committer.Wait()
		x.committing.Lock() // a caller may commit, too
		defer x.committing.Unlock()
		x.stopWatch()
		x.watcher.Wait()
		x.readers.close()
		openIndexes.remove(x)
		var errs []error
		if stopped.Load() {
			x.log.Warn(
				"the index is left as a crash would leave it, because Badger met damage and cannot be closed",
				"path",
				x.path,
			)
		} else {
			errs = append(errs, x.db.Close())
		}
		if x.live != nil {
			errs = append(errs, x.live.close())
		}
		for _, m := range x.markers {
			errs = append(errs, m.close())
		}
		if err := errors.Join(errs...); err != nil {
			x.closeErr = fmt.Errorf("close index %s: %w", x.path, err)
		}
		x.lock.release()
	})
	return x.closeErr
}

// Failure is why the index no longer answers, nil while it does.
func (x *Index) Failure() error { return x.failure() }

// Progress tells whether something waits for the index, and how much it has done: commits, reads, and tables of its
// flushes and compactions. An index is stuck where something waits and nothing is done for long.
func (x *Index) Progress() (waiting int, done uint64) {
	calls, _, _ := x.queue.stats()
	return calls + int(
		x.reading.Load(),
	) + int(
		x.taken.Load(),
	), x.groups.Load() + x.commits.Load() + x.reads.Load() + x.tables.Load()
}

// OnOpen has f called, once a step, after each commit that opened this step for any event; first is the lowest
// sequence among those. Steps behind notify open in any order, so it may lie before events whose step was open
// already. f runs on the goroutine that commits, after the calls of that commit were answered, and must not block. It
// replaces an earlier f.
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
	Scrubs     uint64 // how often every table was read again and found whole
	Damaged    bool   // a file of the index is damaged, and nothing is answered from it
	ReadOnly   bool   // the disk had too little room to write when the index was opened
}

// Stats tells the numbers of the index.
func (x *Index) Stats() Stats {
	s := Stats{Sequence: x.lastSequence.Load(), Commits: x.commits.Load(), Operations: x.operations.Load()}
	s.QueueCalls, s.QueueBytes, s.Overloads = x.queue.stats()
	if _, leave, err := x.use(); err == nil {
		s.DiskBytes, _ = x.db.Size()
		leave()
	}
	s.Scrubs, s.Damaged, s.ReadOnly = x.scrubs.Load(), errors.Is(x.failure(), ErrCorrupt), x.readOnly
	return s
}

// fail poisons the index: it answers no more, Failure says why, and a new process reads what is truly there. Damage
// in a table is a cause. A failed sync is another: nobody knows what of the file is on disk, a second sync that
// succeeds proves nothing, and reads could answer from memory what is nowhere else.
func (x *Index) fail(err error) {
	err = fmt.Errorf("index %s: %w", x.path, err)
	if x.failed.CompareAndSwap(nil, &err) {
		x.log.Error("the index no longer answers; the plugin has to be started again", "error", err)
	}
}

func (x *Index) failure() error {
	if err := x.failed.Load(); err != nil {
		return *err
	}
	return nil
}
