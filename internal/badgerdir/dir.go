// Package badgerdir keeps a Badger database in a folder. It locks the folder, verifies every file before Badger opens
// it and while it is open, puts each commit on disk with one sync, and refuses writes while disk space remains. It
// knows nothing about what the keys and values mean.
package badgerdir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// Options configure Open.
type Options struct {
	// Path is the folder. It is created if it does not exist. One process at a time holds it.
	Path string

	// MemtableBytes is the size of a memtable. It bounds what is replayed after a crash, and the size of a transaction:
	// 15 % of it.
	MemtableBytes int64

	// Create makes a new, empty database where one was before and is gone. Without it, Open creates one only where there
	// never was one. It never replaces existing files.
	Create bool

	// Known identifies the database that belongs here and how far it had come, if the caller remembers one. nil: it does
	// not.
	Known *Identity

	// Lend receives the locked folder before anything in it is read. flock(2) belongs to the open file, so the holder of a
	// duplicate of its descriptor can unlock it too. The folder is valid only during the call. nil: nobody receives it.
	Lend func(folder *os.File)

	// Logger receives what the package and Badger log. nil: nothing is logged.
	Logger hclog.Logger
}

// Dir is an open database. Its methods may be called concurrently, also with Close, except for [Dir.Commit] and
// [Dir.ZeroAhead], which belong to one writer at a time. After Close they return [shared.ErrUnavailable].
type Dir struct {
	path     string
	memtable int64 // bytes
	log      hclog.Logger
	db       *badger.DB
	lock     *folderLock
	found    *found

	// committed is the version that reads see. Transactions are numbered here and not by Badger, so that a read
	// neither waits for a sync in progress nor sees what is not on disk.
	committed atomic.Uint64

	readers readers
	reading atomic.Int64  // reads in progress
	reads   atomic.Uint64 // reads done

	failed   atomic.Pointer[error] // why the database can no longer vouch for its disk
	identity Identity              // its Version is not kept current, see Identity
	readOnly bool                  // the disk had too little free space for writes when the database was opened

	verified  *verifiedTables
	suspect   chan struct{} // Badger met a damaged block, in this database or another one of the process
	verifying sync.Mutex    // held while tables are chosen and read
	scrubs    atomic.Uint64 // how often every table was read again
	scrubbed  string        // the table that was read again last
	allowance int64         // bytes that scrub may read
	stopWatch context.CancelFunc
	watcher   sync.WaitGroup
	tables    atomic.Uint64 // new tables that were verified

	writing    sync.Mutex // held by Commit, ZeroAhead and Close; guards the following
	closed     bool
	compaction *compaction // the last one; nil: there was none
	markers    []*marker
	live       *liveLog // nil where the database is opened for reads only
	space      spaceGuard
	commitAt   func(*badger.Txn, uint64) error // tests replace it

	closing    sync.Once
	closeErr   error
	closeFiles func() error // once
}

// ReadOnly reports that the disk had too little free space for writes when the database was opened.
func (d *Dir) ReadOnly() bool { return d.readOnly }

// Writable returns [ErrDiskFull] if the database was opened for reads only.
func (d *Dir) Writable() error {
	if !d.readOnly {
		return nil
	}
	return fmt.Errorf("%w: the index was opened for reads only; free some space, and it is opened for writing",
		ErrDiskFull)
}

// Version is the version of the last commit.
func (d *Dir) Version() uint64 { return d.committed.Load() }

// Close waits for the reads in progress and releases the folder. It puts the files of a compaction that is ready in the
// place of the database, see [Dir.Compact]. It may be called again. It takes as long as Badger needs to write its
// tables; a process in a hurry may exit without it, because every commit is on disk.
func (d *Dir) Close() error {
	d.closing.Do(func() {
		d.stopWatch()
		d.watcher.Wait()
		d.writing.Lock()
		d.closed = true // from here on nothing is committed
		c := d.compaction
		d.writing.Unlock()
		var errs []error
		if c != nil {
			errs = append(errs, c.end())
		}
		if err := errors.Join(append(errs, d.closeFiles())...); err != nil {
			d.closeErr = fmt.Errorf("close index %s: %w", d.path, err)
		}
		d.lock.release()
	})
	return d.closeErr
}

// closeAll closes what the database has open, but for the lock of its folder.
func (d *Dir) closeAll() error {
	d.readers.close()
	openDirs.remove(d)
	d.writing.Lock()
	defer d.writing.Unlock()
	var errs []error
	if stopped.Load() {
		d.log.Warn("the index is left as a crash would leave it, because Badger met damage and cannot be closed",
			"path", d.path)
	} else {
		errs = append(errs, d.db.Close())
	}
	if d.live != nil {
		errs = append(errs, d.live.close())
	}
	for _, m := range d.markers {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

// Fail ends the use of the database: every later call returns [Dir.Failure], and only a new process, which reads what
// is on disk, serves it again. Damage in a file is a cause. A failed sync is another: nobody knows which part of the
// file is on disk, a second sync that succeeds proves nothing, and reads could answer from memory what is nowhere
// else. The first failure counts.
func (d *Dir) Fail(err error) {
	err = fmt.Errorf("index %s: %w", d.path, err)
	if d.failed.CompareAndSwap(nil, &err) {
		d.log.Error("the index stopped answering; restart the plugin", "error", err)
	}
}

// Failure is why the database is no longer served; nil while it is.
func (d *Dir) Failure() error {
	if err := d.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// NewTransaction begins a transaction on the newest version. Only the writer may call it; see [Dir.View] for reads.
func (d *Dir) NewTransaction(update bool) *badger.Txn {
	return d.db.NewTransactionAt(d.committed.Load(), update)
}

// Limits are the bytes and the number of entries that fit in one transaction, both exclusive.
func (d *Dir) Limits() (bytes, entries int64) { return d.db.MaxBatchSize(), d.db.MaxBatchCount() }

// Commit puts a transaction on disk as the version after [Dir.Version] and then shows it to reads. After [ErrDiskFull]
// nothing was written and later commits may succeed; every other error fails the database.
func (d *Dir) Commit(txn *badger.Txn) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.closed {
		return ErrClosed
	}
	if err := d.Failure(); err != nil {
		return err
	}
	if err := d.Writable(); err != nil {
		return err
	}
	if err := d.inPlace(); err != nil {
		return err
	}
	switch err := errors.Join(d.space.check(), d.live.ready()); {
	case errors.Is(err, ErrCorrupt):
		d.Fail(err)
		return d.Failure()
	case err != nil:
		return err
	}
	version := d.committed.Load() + 1
	if err := d.commitAt(txn, version); err != nil {
		err = fmt.Errorf("%w: commit to index %s: %w", shared.ErrUnavailable, d.path, err)
		d.Fail(err)
		return err
	}
	d.committed.Store(version)
	d.mark()
	if version%discardEvery == 0 {
		d.discardOld()
	}
	return nil
}

// discardEvery is the number of commits after which Badger learns which versions no read needs any more.
const discardEvery = 1024

// discardOld tells Badger which versions no read needs any more: those that a newer one replaced before the oldest
// read in progress began.
func (d *Dir) discardOld() { d.db.SetDiscardTs(d.readers.oldest(d.committed.Load())) }

// ZeroAhead prepares the log for the next commits, see liveLog. The writer calls it after it has answered its callers.
func (d *Dir) ZeroAhead() {
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.live != nil && !d.closed && d.Failure() == nil {
		d.live.zero()
	}
}

// Stats are the numbers of a database since it was opened.
type Stats struct {
	DiskBytes int64  // size of the tables, refreshed by Badger once a minute; 0 once the database is closed
	Reading   int    // reads in progress
	Reads     uint64 // reads done
	Tables    uint64 // new tables that were verified
	Scrubs    uint64 // how often every table was read again and found whole
}

// Stats returns the numbers of the database.
func (d *Dir) Stats() Stats {
	s := Stats{
		Reading: int(d.reading.Load()), Reads: d.reads.Load(), Tables: d.tables.Load(), Scrubs: d.scrubs.Load(),
	}
	if _, leave, err := d.use(); err == nil {
		s.DiskBytes, _ = d.db.Size()
		leave()
	}
	return s
}
