// Package index is the message index: what messages exist, who recalled which of them, and which steps of those recalls
// are still open. It is a state machine over an ordered log of decided operations. package badgerdir keeps its files.
package index

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/plugin/internal/badgerdir"
)

// Format is the format version of the index that this package reads and writes.
const Format = 3

// The size of a memtable bounds what is replayed after a crash, and with it the pause of a swap. The minimum holds the
// largest operation in one transaction, which may fill 15 % of a memtable.
const (
	defaultMemtableBytes = 16 << 20
	minMemtableBytes     = 8 << 20
)

var (
	// ErrFormat says that the index was written by a version with another format.
	ErrFormat = errors.New("index of another format")

	// ErrLocked is [badgerdir.ErrLocked].
	ErrLocked = badgerdir.ErrLocked

	// ErrCorrupt is [badgerdir.ErrCorrupt].
	ErrCorrupt = badgerdir.ErrCorrupt

	// ErrDiskFull is [badgerdir.ErrDiskFull].
	ErrDiskFull = badgerdir.ErrDiskFull
)

// Options configure Open. MemtableBytes is 16 MiB if it is 0, and at least 8 MiB.
type Options = badgerdir.Options

// CheckSpace returns [ErrDiskFull] if the disk has too little free space to open an index for writing. A folder that
// does not exist yet passes.
func CheckSpace(path string) error { return badgerdir.CheckSpace(path, defaultMemtableBytes) }

// Index is an open index. Its methods may be called concurrently, also with Close. After Close they return
// [shared.ErrUnavailable].
type Index struct {
	path  string
	log   hclog.Logger
	dir   *badgerdir.Dir
	epoch string
	queue queue

	recent recentEvents
	ids    *idFilter

	onOpen atomic.Pointer[func(step string, first uint64)]

	stopLearner context.CancelFunc
	learner     sync.WaitGroup

	committing sync.Mutex // held by whoever commits, and guards the following

	sequence  uint64                  // of the last recall
	failures  uint64                  // position of the last failed attempt
	commitTxn func(*badger.Txn) error // dir.Commit; tests make it fail

	committer sync.WaitGroup

	lastSequence, lastFailure, commits, operations atomic.Uint64

	taken  atomic.Int64  // calls that are being committed
	groups atomic.Uint64 // of calls that were answered
}

var _ Log = (*Index)(nil)

// Close finishes and answers the waiting calls, waits for the reads in progress and releases the folder. It may be
// called again. It takes as long as Badger needs to write its tables; a process in a hurry may exit without it, because
// what was acknowledged is on disk.
func (x *Index) Close() error {
	x.queue.close()
	x.committer.Wait()
	x.committing.Lock() // a caller may commit, too
	defer x.committing.Unlock()
	x.stopLearner()
	x.learner.Wait()
	return x.dir.Close()
}

// Failure is why the index no longer answers; nil while it does.
func (x *Index) Failure() error { return x.dir.Failure() }

// Flush shortens the replay after a crash, see [badgerdir.Dir.Flush].
func (x *Index) Flush(ctx context.Context) error {
	return x.dir.Flush(ctx, func(ctx context.Context, bytes int) error {
		_, err := x.await(ctx, &call{padding: bytes})
		return err
	})
}

// Progress returns how many calls wait for the index, and how much it has done: commits, reads, and new tables of
// flushes and compactions. An index is stuck if something waits and nothing is done for long.
func (x *Index) Progress() (waiting int, done uint64) {
	calls, _, _ := x.queue.stats()
	files := x.dir.Stats()
	return calls + files.Reading + int(x.taken.Load()), x.groups.Load() + x.commits.Load() + files.Reads + files.Tables
}

// OnOpen sets the function that is called, once for each step, after a commit that opened this step for any event; first
// is the lowest sequence among those. Steps that wait for notify open in any order, so first may be lower than that of
// an event whose step was open before. f runs on the goroutine that commits, after the calls of that commit were
// answered, and must not block.
func (x *Index) OnOpen(f func(step string, first uint64)) { x.onOpen.Store(&f) }

// Stats are the numbers of an index since it was opened.
type Stats struct {
	Sequence   uint64 // of the last recall, 0 before the first
	Commits    uint64 // transactions
	Operations uint64 // operations applied
	Overloads  uint64 // calls of Append refused because too much was waiting
	QueueCalls int    // calls of Append waiting
	QueueBytes int    // size of their operations
	DiskBytes  int64  // size of the tables, refreshed by Badger once a minute; 0 once the index is closed
	Scrubs     uint64 // how often every table was read again and found whole
	Damaged    bool   // a file of the index is damaged, and nothing is answered from it
	ReadOnly   bool   // the disk had too little free space for writes when the index was opened
}

// Stats returns the numbers of the index.
func (x *Index) Stats() Stats {
	files := x.dir.Stats()
	s := Stats{
		Sequence: x.lastSequence.Load(), Commits: x.commits.Load(), Operations: x.operations.Load(),
		DiskBytes: files.DiskBytes, Scrubs: files.Scrubs,
		Damaged: errors.Is(x.Failure(), ErrCorrupt), ReadOnly: x.dir.ReadOnly(),
	}
	s.QueueCalls, s.QueueBytes, s.Overloads = x.queue.stats()
	return s
}
