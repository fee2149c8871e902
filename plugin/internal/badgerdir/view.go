package index

import (
	"fmt"
	"runtime/debug"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/shared"
)

// errClosed says that the index was closed.
var errClosed = fmt.Errorf("%w: the index is released", shared.ErrUnavailable)

// view reads one committed state of the index for a call.
func (x *Index) view(read func(txn *badger.Txn) error) error {
	x.reading.Add(1)
	defer func() {
		x.reading.Add(-1)
		x.reads.Add(1)
	}()
	return x.read(read)
}

// read is view for the index itself: it is no progress that anybody waits for.
func (x *Index) read(read func(txn *badger.Txn) error) error {
	if err := x.failure(); err != nil {
		return err
	}
	version, leave, err := x.use()
	if err != nil {
		return err
	}
	defer leave()
	txn := x.db.NewTransactionAt(version, false)
	defer txn.Discard()
	return x.undamaged(func() error { return read(txn) })
}

// use keeps the database open until leave, and what is visible at version in it.
func (x *Index) use() (version uint64, leave func(), err error) {
	version, ok := x.readers.enter(x.committed.Load)
	if !ok {
		return 0, nil, errClosed
	}
	return version, func() { x.readers.leave(version) }, nil
}

// undamaged runs what reads from Badger. Where Badger met a damaged block meanwhile, which it reads as if it were
// empty, or panics, or a table was cut, whose mapped pages are then a fault, nothing that was read counts: the index
// fails, and its failure names the place.
func (x *Index) undamaged(read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	before := mismatches.Load()
	defer func() {
		panicked := recover()
		if panicked == nil && mismatches.Load() == before {
			return
		}
		x.findDamage()
		if x.failure() == nil && panicked != nil {
			panic(panicked)
		}
		if x.failure() == nil {
			x.fail(fmt.Errorf("%w: a block of a table was read with a wrong checksum and is whole on disk: the memory or "+
				"the disk of this machine fails", ErrCorrupt))
		}
		err = x.failure()
	}()
	return read()
}
