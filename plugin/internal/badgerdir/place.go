package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// found is what there is where an index is to be opened: its files, and what remembers an index there.
type found struct {
	folder string
	survey *survey
	inside *Identity // the marker in the folder
	beside *Identity // the marker beside the folder
	known  *Identity // what the host remembers
}

// progressEvery is how often the verification of the tables is logged.
const progressEvery = 2 * time.Second

// inspect looks at the files before anything of them is opened or changed. It fails where an index is damaged, missing,
// shorter than it was, or another one.
func inspect(ctx context.Context, o Options, opts badger.Options) (*found, error) {
	f := &found{folder: o.Path, known: o.Known}
	err := f.markers(o)
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
func (f *found) markers(o Options) (err error) {
	if f.inside, err = f.marker(filepath.Join(o.Path, markerFile), o); err != nil {
		return err
	}
	f.beside, err = f.marker(besidePath(o.Path), o)
	return err
}

// marker reads a marker. A damaged one is as good as none, and is written anew.
func (f *found) marker(path string, o Options) (*Identity, error) {
	id, ok, err := readMarker(path)
	if errors.Is(err, errMarkerDamaged) {
		o.Logger.Warn("a marker of the index is damaged and is written anew", "path", path)
		return nil, nil
	}
	if err != nil || !ok {
		return nil, err
	}
	return &id, nil
}

// check compares the files with what remembers an index here.
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
	// The marker in the folder tells a folder that lost something from one that was replaced by an older copy of itself.
	bound := f.inside
	if bound == nil {
		bound = f.beside
	}
	if bound != nil && bound.Version > f.survey.version {
		return fmt.Errorf("%w: commits %d to %d are missing: a log (*.mem) or a table (*.sst) was lost, shortened or "+
			"replaced by an older one%s", ErrCorrupt, f.survey.version+1, bound.Version, advice)
	}
	return nil
}

// missing fails where there are no files of an index, and something remembers one.
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

// other fails where the folder holds another index than the one that is remembered.
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

// restored tells whether the folder is an older copy of the index, put in its place: it is whole, and those who were
// not copied along remember more of it. A folder without a marker beside it was copied or moved here.
func (f *found) restored(here Identity) (bool, error) {
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

// inPlace fails the index where its folder no longer lies where it was opened: what is written there would be missed by
// the next process.
func (x *Index) inPlace() error {
	opened, err := x.lock.folder.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(x.path)
	if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(opened, there) {
		x.fail(fmt.Errorf("%w: its folder was moved, removed or replaced while it was open; put back the one that was "+
			"there, which has every commit", ErrCorrupt))
	}
	return x.failure()
}

// canWrite tells whether files can be made in a folder.
func canWrite(folder string) bool {
	f, err := os.CreateTemp(folder, ".recall-*")
	if err != nil {
		return false
	}
	return errors.Join(f.Close(), os.Remove(f.Name())) == nil
}

// epochs are those that cursors may be of.
func (f *found) epochs(more ...string) []string {
	for _, m := range []*Identity{f.inside, f.beside, f.known} {
		if m != nil {
			more = append(more, m.Epoch)
		}
	}
	return more
}

// placeMarkers writes both markers. The one beside the folder is missing where nothing can be written there, as
// beside a mount point.
func (x *Index) placeMarkers() error {
	inside, err := openMarker(filepath.Join(x.path, markerFile), x.identity)
	if err != nil {
		return fmt.Errorf("write the marker of the index: %w", err)
	}
	x.markers = append(x.markers, inside)
	beside, err := openMarker(besidePath(x.path), x.identity)
	if err != nil {
		x.log.Warn("no marker can be written beside the index: only a host that remembers the index notices when it is lost",
			"path", besidePath(x.path), "error", err)
		return nil
	}
	x.markers = append(x.markers, beside)
	return nil
}

// mark puts the version of the last commit into the markers.
func (x *Index) mark() {
	line := markerLine(x.Identity())
	for _, m := range x.markers {
		if err := m.write(line); err != nil {
			x.log.Error("the marker of the index cannot be written", "error", err)
		}
	}
}
