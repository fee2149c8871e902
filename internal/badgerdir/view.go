package badgerdir

import (
	"fmt"
	"runtime/debug"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/shared"
)

// ErrClosed says that the database was closed. It is a [shared.ErrUnavailable].
var ErrClosed = fmt.Errorf("%w: the index is released", shared.ErrUnavailable)

// View reads one committed version for a call.
func (d *Dir) View(read func(txn *badger.Txn) error) error {
	d.reading.Add(1)
	defer func() {
		d.reading.Add(-1)
		d.reads.Add(1)
	}()
	return d.Read(read)
}

// Read is [Dir.View] for background work: it does not count as progress that a caller waits for.
func (d *Dir) Read(read func(txn *badger.Txn) error) error {
	if err := d.Failure(); err != nil {
		return err
	}
	version, leave, err := d.use()
	if err != nil {
		return err
	}
	defer leave()
	txn := d.db.NewTransactionAt(version, false)
	defer txn.Discard()
	return d.Guard(func() error { return read(txn) })
}

// use keeps the database open, and what is visible at version in it, until leave.
func (d *Dir) use() (version uint64, leave func(), err error) {
	version, ok := d.readers.enter(d.committed.Load)
	if !ok {
		return 0, nil, ErrClosed
	}
	return version, func() { d.readers.leave(version) }, nil
}

// Guard runs read, which reads from Badger. Badger reads a damaged block as if it were empty, or panics; and the mapped
// pages of a table that was cut fault. Where any of that happens during read, its result does not count: the database
// fails, and the failure names the place.
func (d *Dir) Guard(read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	before := mismatches.Load()
	defer func() {
		panicked := recover()
		if panicked == nil && mismatches.Load() == before {
			return
		}
		d.findDamage()
		if d.Failure() == nil && panicked != nil {
			panic(panicked)
		}
		if d.Failure() == nil {
			d.Fail(fmt.Errorf("%w: a block of a table was read with a wrong checksum and is whole on disk: the memory or "+
				"the disk of this machine fails", ErrCorrupt))
		}
		err = d.Failure()
	}()
	return read()
}
