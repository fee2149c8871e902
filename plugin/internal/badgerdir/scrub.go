package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4/options"

	"github.com/chat-recall/recall/shared"
)

const (
	// watchEvery is how often tables are looked at: new ones, and those that somebody wrote to, are read whole.
	watchEvery = time.Second

	// scrubBytes is how much of the tables is read again in each watchEvery: a gigabyte takes eight minutes.
	scrubBytes = 2 << 20
)

// watchTables verifies new tables once, and all of them again and again, until ctx ends or damage is found.
func (x *Index) watchTables(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for x.failure() == nil {
		select {
		case <-ctx.Done():
			return
		case <-x.suspect:
			x.findDamage()
		case <-tick.C:
			if x.readOnly {
				x.writeAgain()
			}
			if x.inPlace() == nil {
				x.verifyNew()
				x.scrub()
			}
		}
	}
}

// tableNames are the tables of the index at this moment. Badger looks at each where it is mapped into memory: where one
// was cut, so that this is a fault, they are those in the folder.
func (x *Index) tableNames() (names []string) {
	_, leave, err := x.use()
	if err != nil {
		return nil
	}
	defer leave()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			stopped.Store(true) // Badger holds a lock for good
			names, _ = filepath.Glob(filepath.Join(x.path, "*.sst"))
			for i := range names {
				names[i] = filepath.Base(names[i])
			}
		}
	}()
	for _, t := range x.db.Tables() {
		names = append(names, fmt.Sprintf("%06d.sst", t.ID))
	}
	return names
}

// verifyNew reads the tables that were made, or written to, since they were looked at last.
func (x *Index) verifyNew() {
	x.verifying.Lock()
	defer x.verifying.Unlock()
	names, changed := x.tableNames(), false
	for _, name := range names {
		info, err := os.Stat(filepath.Join(x.path, name))
		if err == nil {
			if _, ok := x.verified.has(name, info); ok {
				continue
			}
		}
		x.verify(name)
		x.tables.Add(1)
		changed = true
	}
	if x.failure() != nil || names == nil {
		return
	}
	if x.verified.keep(func(name string) bool { return slices.Contains(names, name) }) || changed {
		if err := x.verified.save(x.path); err != nil {
			x.log.Warn("the list of verified tables cannot be written; a restart reads them all", "error", err)
		}
	}
}

// verify reads one table whole. A damaged one fails the index. A table that a compaction has replaced meanwhile is
// none of the index any more: Badger empties it before it removes it.
func (x *Index) verify(name string) {
	compression := options.None // of every table that is made
	if t, ok := x.verified.listed(name); ok {
		compression = t.Compression
	}
	_, found, err := verifyTable(x.path, name, compression, x.verified)
	if err == nil && len(found) == 0 || !slices.Contains(x.tableNames(), name) {
		return
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		x.fail(damaged(name, -1, "it is missing"))
	case err != nil:
		x.log.Error("a table of the index cannot be verified", "table", name, "error", err)
	default:
		x.fail(&DamageError{Found: found})
	}
}

// findDamage reads every table, and fails the index where one is damaged.
func (x *Index) findDamage() {
	x.verifying.Lock()
	defer x.verifying.Unlock()
	for _, name := range x.tableNames() {
		if x.failure() != nil {
			return
		}
		x.verify(name)
	}
}

// scrub reads the tables again, one after the other in the order of their names, as far as its allowance goes, which
// grows by scrubBytes with each call.
func (x *Index) scrub() {
	names := x.tableNames()
	slices.Sort(names)
	x.allowance += scrubBytes
	for range names {
		at, found := slices.BinarySearch(names, x.scrubbed)
		if found {
			at++
		}
		if at == len(names) {
			at = 0
			x.scrubs.Add(1)
		}
		info, err := os.Stat(filepath.Join(x.path, names[at]))
		if err == nil && info.Size() > x.allowance || x.failure() != nil {
			return
		}
		x.verify(names[at])
		x.scrubbed = names[at]
		if err == nil {
			x.allowance -= info.Size()
		}
	}
	x.allowance = 0 // all of them were read
}

// writeAgain ends an index that was opened for reads only as soon as there is room: the plugin is started again, and
// opens it for writing.
func (x *Index) writeAgain() {
	room := newDiskGuard(x.path, memtablesToCommit*x.memtable)
	if room.check() == nil {
		x.fail(fmt.Errorf("%w: the disk has room again, and the index has to be opened anew to be written to", shared.ErrUnavailable))
	}
}
