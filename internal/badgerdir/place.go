package badgerdir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"
)

// found is what exists where an index is to be opened: its files, and what remembers an index there.
type found struct {
	folder string
	survey *survey
	inside *Identity // the marker in the folder
	beside *Identity // the marker beside the folder
	known  *Identity // see Options.Known
}

// progressEvery is how often the verification of the tables is logged.
const progressEvery = 2 * time.Second

// inspect reads the files before any of them is opened by Badger or changed. It fails if the index is damaged, missing,
// shorter than it was, or another one.
func inspect(ctx context.Context, o Options, opts badger.Options) (*found, error) {
	f := &found{folder: o.Path, known: o.Known}
	err := f.markers(o.Logger)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	last := start
	f.survey, err = surveyFolder(ctx, o.Path, opts, false, func(done, total int64) {
		if time.Since(last) >= progressEvery {
			last = time.Now()
			o.Logger.Info("verifying the tables of the index", "done_mib", done>>20, "of_mib", total>>20)
		}
	})
	if err != nil {
		return nil, err
	}
	o.Logger.Debug("index verified", "tables", f.survey.tables, "bytes_read", f.survey.bytes, "took", time.Since(start))
	if len(f.survey.found) > 0 {
		return nil, &DamageError{Found: f.survey.found}
	}
	return f, f.check(o.Create)
}

// besidePath is where the marker beside the folder of an index lies.
func besidePath(folder string) string {
	if whole, err := filepath.Abs(folder); err == nil { // of "." too
		folder = whole
	}
	return filepath.Clean(folder) + markerSuffix
}

// markers reads both markers.
func (f *found) markers(log hclog.Logger) (err error) {
	if f.inside, err = readOwnMarker(filepath.Join(f.folder, markerFile), log); err != nil {
		return err
	}
	f.beside, err = readOwnMarker(besidePath(f.folder), log)
	return err
}

// readOwnMarker reads a marker; nil if there is none. A damaged one counts as none and is replaced later.
func readOwnMarker(path string, log hclog.Logger) (*Identity, error) {
	id, ok, err := readMarker(path)
	if errors.Is(err, errMarkerDamaged) {
		log.Warn("a marker of the index is damaged and is written anew", "path", path)
		return nil, nil
	}
	if err != nil || !ok {
		return nil, err
	}
	return &id, nil
}

// check compares the files with the markers and with what the caller remembers.
func (f *found) check(create bool) error {
	switch {
	case f.survey.fresh && create:
		f.inside, f.beside, f.known = nil, nil, nil
		return nil
	case f.survey.fresh:
		return f.missing()
	}
	if err := f.other(f.inside); err != nil {
		return err
	}
	// With the marker in the folder, a folder that lost something differs from one that was replaced by an older copy.
	bound := f.inside
	if bound == nil {
		bound = f.beside
	}
	if bound != nil && bound.Version > f.survey.version {
		return fmt.Errorf("%w: commits %d to %d are missing: a log (*.mem) or a table (*.sst) was lost, shortened or "+
			"replaced by an older one%s", ErrCorrupt, f.survey.version+1, bound.Version, Advice)
	}
	return nil
}

// missing fails if something remembers an index here. There are no files of one.
func (f *found) missing() error {
	who, where := f.known, "the server"
	if f.beside != nil {
		who, where = f.beside, besidePath(f.folder)
	}
	if f.inside != nil {
		who, where = f.inside, filepath.Join(f.folder, markerFile)
	}
	if who == nil {
		return nil
	}
	return fmt.Errorf("%w: the index that was here is gone (%s remembers %s, commit %d); mount or restore its "+
		"folder, or begin an empty one with index { create = true }: it will not know what was sent and recalled before",
		ErrCorrupt, where, who.ID, who.Version)
}

// other fails if the folder holds another index than the remembered one.
func (f *found) other(here *Identity) error {
	if here == nil || here.ID == "" {
		return nil
	}
	if f.beside != nil && f.beside.ID != here.ID {
		return fmt.Errorf("%w: the folder holds the index %s, and %s says that %s belongs here; put the right one back, or "+
			"remove that file to use this one", ErrCorrupt, here.ID, besidePath(f.folder), f.beside.ID)
	}
	if f.known != nil && f.known.ID != here.ID {
		return fmt.Errorf("%w: the folder holds the index %s, and this server used %s; put the right one back, or remove "+
			"last-used.json from the server's run directory (host.Config.RunDir) to use this one",
			ErrCorrupt, here.ID, f.known.ID)
	}
	return nil
}

// Restored reports whether the folder is an older copy of the database here, put in its place: its files are whole, and
// what was not copied along (the marker beside the folder, [Options.Known]) remembers later commits. A folder without a
// marker beside it was copied or moved here. It fails if the folder holds another database than the remembered one.
func (d *Dir) Restored(here Identity) (bool, error) {
	f := d.found
	if f.inside != nil && here.ID != "" && f.inside.ID != here.ID {
		return false, fmt.Errorf("%w: %s is of another index (%s) than the files beside it (%s); remove it",
			ErrCorrupt, filepath.Join(f.folder, markerFile), f.inside.ID, here.ID)
	}
	if err := f.other(&here); err != nil {
		return false, err
	}
	if here.ID == "" {
		return false, nil
	}
	for _, m := range []*Identity{f.beside, f.known} {
		if m != nil && m.Epoch == here.Epoch && m.Version > here.Version {
			return true, nil
		}
	}
	return f.beside == nil && canWrite(filepath.Dir(besidePath(f.folder))), nil
}

// inPlace fails the database if its folder is no longer where it was opened: the next process would miss what is
// written there.
func (d *Dir) inPlace() error {
	opened, err := d.lock.folder.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(d.path)
	if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(opened, there) {
		d.Fail(fmt.Errorf("%w: its folder was moved, removed or replaced while it was open; put back the one that was "+
			"there, which has every commit", ErrCorrupt))
	}
	return d.Failure()
}

// canWrite reports whether files can be created in a folder.
func canWrite(folder string) bool {
	f, err := os.CreateTemp(folder, ".recall-*")
	if err != nil {
		return false
	}
	return errors.Join(f.Close(), os.Remove(f.Name())) == nil
}

// Epochs are those that the markers and the caller remember: a new epoch must differ from each.
func (d *Dir) Epochs() (epochs []string) {
	for _, m := range []*Identity{d.found.inside, d.found.beside, d.found.known} {
		if m != nil {
			epochs = append(epochs, m.Epoch)
		}
	}
	return epochs
}

// Identify says which database the folder holds, and writes both markers. They follow every later commit. Where nothing
// can be written beside the folder, as beside a mount point, that marker is missing. [Identity.Version] is ignored.
func (d *Dir) Identify(id Identity) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.identity = id
	if d.readOnly {
		return nil
	}
	id = d.Identity()
	inside, err := openMarker(filepath.Join(d.path, markerFile), id)
	if err != nil {
		return fmt.Errorf("write the marker of the index: %w", err)
	}
	d.markers = append(d.markers, inside)
	beside, err := openMarker(besidePath(d.path), id)
	if err != nil {
		d.log.Warn("no marker can be written beside the index: only a host that remembers the index notices when it is lost",
			"path", besidePath(d.path), "error", err)
		return nil
	}
	d.markers = append(d.markers, beside)
	return nil
}

// Identity is what [Dir.Identify] said, with the version of the last commit.
func (d *Dir) Identity() Identity {
	id := d.identity
	id.Version = d.committed.Load()
	return id
}

// mark puts the version of the last commit into the markers.
func (d *Dir) mark() {
	line := markerLine(d.Identity())
	for _, m := range d.markers {
		if err := m.write(line); err != nil {
			d.log.Error("the marker of the index cannot be written", "error", err)
		}
	}
}
