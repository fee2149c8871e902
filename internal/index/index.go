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

	"github.com/chat-recall/recall/internal/badgerdir"
)

// Format is the format version of the index that this package reads and writes.
const Format = 3

// The size of a memtable bounds what is replayed after a crash, and with it the pause of a swap. The minimum holds the
// largest operation in one transaction, which may fill 15 % of a memtable.
const (
	DefaultMemtableBytes = 16 << 20
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
func CheckSpace(path string) error { return badgerdir.CheckSpace(path, DefaultMemtableBytes) }

// Index is an open index. Its methods may be called concurrently, also with Close. After Close they return
// [shared.ErrUnavailable].
type Index struct {
	path   string
	logger hclog.Logger
	dir    *badgerdir.Dir
	epoch  string

	logID string // of the log that it follows; empty on a single machine
	node  string // of the cluster, that this machine is; empty on a single machine

	recent recentEvents
	ids    *idFilter
	hashes *idFilter // of recalled messages that were forgotten, by their keyed hashes

	mayForget atomic.Bool // something was forgotten, or is about to be

	stopLearner context.CancelFunc
	learner     sync.WaitGroup

	// The caller of Apply owns the following.

	counters
	log       Log                     // that it follows; zero on a single machine
	members   map[string]*Member      // of the cluster; nil on a single machine
	secret    []byte                  // of the keyed hashes; nil: nothing was ever forgotten
	commitTxn func(*badger.Txn) error // dir.Commit; tests make it fail

	openCascades atomic.Int64
	waits        waitCounts

	lastSequence, lastFailure, lastRelation, lastJob, commits, operations atomic.Uint64
}

// Close waits for the reads in progress and releases the folder. It is called after the last call of Apply, and may be
// called again. It takes as long as Badger needs to write its tables; a process in a hurry may exit without it, because
// what was applied is on disk.
func (x *Index) Close() error {
	x.stopLearner()
	x.learner.Wait()
	return x.dir.Close()
}

// Failure is why the index no longer answers; nil while it does.
func (x *Index) Failure() error { return x.dir.Failure() }

// Progress returns how many reads are in progress, and how much the index has done: commits, reads, and new tables of
// flushes and compactions.
func (x *Index) Progress() (reading int, done uint64) {
	files := x.dir.Stats()
	return files.Reading, x.commits.Load() + files.Reads + files.Tables
}

// Stats are the numbers of an index since it was opened.
type Stats struct {
	Sequence   uint64 // of the last recall, 0 before the first
	Commits    uint64 // entries that changed the index
	Operations uint64 // operations applied
	DiskBytes  int64  // size of the tables, refreshed by Badger once a minute; 0 once the index is closed
	Scrubs     uint64 // how often every table was read again and found whole
	Damaged    bool   // a file of the index is damaged, and nothing is answered from it
	ReadOnly   bool   // the disk had too little free space for writes when the index was opened
}

// Stats returns the numbers of the index.
func (x *Index) Stats() Stats {
	files := x.dir.Stats()
	return Stats{
		Sequence: x.lastSequence.Load(), Commits: x.commits.Load(), Operations: x.operations.Load(),
		DiskBytes: files.DiskBytes, Scrubs: files.Scrubs,
		Damaged: errors.Is(x.Failure(), ErrCorrupt), ReadOnly: x.dir.ReadOnly(),
	}
}
