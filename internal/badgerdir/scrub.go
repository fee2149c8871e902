package badgerdir

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
	// watchEvery is how often tables are checked: new ones, and those that somebody wrote to, are read whole.
	watchEvery = time.Second

	// scrubBytes is how much of the tables is read again in each watchEvery: one gigabyte takes eight minutes.
	scrubBytes = 2 << 20
)

// watchTables verifies new tables, and all of them again and again, until ctx ends or damage is found.
func (d *Dir) watchTables(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for d.Failure() == nil {
		select {
		case <-ctx.Done():
			return
		case <-d.suspect:
			d.findDamage()
		case <-tick.C:
			if d.readOnly {
				d.writeAgain()
			}
			if d.inPlace() == nil {
				d.verifyNew()
				d.scrub()
			}
		}
	}
}

// tableNames are the tables of the database at this moment. Badger reads each where it is mapped into memory. If one
// was cut, so that this faults, the names are those in the folder.
func (d *Dir) tableNames() (names []string) {
	_, leave, err := d.use()
	if err != nil {
		return nil
	}
	defer leave()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			stopped.Store(true) // Badger holds a lock for good
			names, _ = filepath.Glob(filepath.Join(d.path, "*.sst"))
			for i := range names {
				names[i] = filepath.Base(names[i])
			}
		}
	}()
	for _, t := range d.db.Tables() {
		names = append(names, fmt.Sprintf("%06d.sst", t.ID))
	}
	return names
}

// verifyNew reads the tables that were created, or written to, since the last call.
func (d *Dir) verifyNew() {
	d.verifying.Lock()
	defer d.verifying.Unlock()
	names, changed := d.tableNames(), false
	for _, name := range names {
		info, err := os.Stat(filepath.Join(d.path, name))
		if err == nil {
			if _, ok := d.verified.has(name, info); ok {
				continue
			}
		}
		d.verify(name)
		d.tables.Add(1)
		changed = true
	}
	if d.Failure() != nil || names == nil {
		return
	}
	if d.verified.keep(func(name string) bool { return slices.Contains(names, name) }) || changed {
		if err := d.verified.save(d.path); err != nil {
			d.log.Warn("the list of verified tables cannot be written; a restart reads them all", "error", err)
		}
	}
}

// verify reads one table whole. A damaged one fails the database, unless a compaction has replaced it meanwhile: Badger
// empties such a table before it removes it.
func (d *Dir) verify(name string) {
	compression := options.None // of every new table
	if t, ok := d.verified.listed(name); ok {
		compression = t.Compression
	}
	_, found, err := verifyTable(d.path, name, compression, d.verified)
	if err == nil && len(found) == 0 || !slices.Contains(d.tableNames(), name) {
		return
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.Fail(damaged(name, -1, "it is missing"))
	case err != nil:
		d.log.Error("a table of the index cannot be verified", "table", name, "error", err)
	default:
		d.Fail(&DamageError{Found: found})
	}
}

// findDamage reads every table, and fails the database if one is damaged.
func (d *Dir) findDamage() {
	d.verifying.Lock()
	defer d.verifying.Unlock()
	for _, name := range d.tableNames() {
		if d.Failure() != nil {
			return
		}
		d.verify(name)
	}
}

// scrub reads the tables again, one after the other in the order of their names, until its allowance is used up. Each
// call adds scrubBytes to the allowance.
func (d *Dir) scrub() {
	names := d.tableNames()
	slices.Sort(names)
	d.allowance += scrubBytes
	for range names {
		at, found := slices.BinarySearch(names, d.scrubbed)
		if found {
			at++
		}
		if at == len(names) {
			at = 0
			d.scrubs.Add(1)
		}
		info, err := os.Stat(filepath.Join(d.path, names[at]))
		if err == nil && info.Size() > d.allowance || d.Failure() != nil {
			return
		}
		d.verify(names[at])
		d.scrubbed = names[at]
		if err == nil {
			d.allowance -= info.Size()
		}
	}
	d.allowance = 0 // all of them were read
}

// writeAgain ends a database that was opened for reads only as soon as the disk has enough free space: the plugin
// restarts and opens it for writing.
func (d *Dir) writeAgain() {
	space := newSpaceGuard(d.path, memtablesToCommit*d.memtable)
	if space.check() == nil {
		d.Fail(fmt.Errorf("%w: the disk has free space again, and the index is opened anew to be written to",
			shared.ErrUnavailable))
	}
}
