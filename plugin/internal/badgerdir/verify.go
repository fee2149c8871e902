package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/hashicorp/go-hclog"
)

// Report is what Verify found.
type Report struct {
	Path   string   `json:"path"`
	OK     bool     `json:"ok"`
	Index  Identity `json:"index"`  // by its marker; zero where it has none
	Tables int      `json:"tables"` // that its list names
	Logs   int      `json:"logs"`
	Bytes  int64    `json:"bytes"` // of the tables
	Damage []Damage `json:"damage"`
}

// Verify reads every file of an index that no process has open, and changes nothing. Damage is in the report; an error
// means that the index could not be verified.
func Verify(ctx context.Context, path string, progress func(done, total int64)) (Report, error) {
	r := Report{Path: path, Damage: []Damage{}}
	unlock, err := lockClosed(path)
	if err != nil {
		return r, err
	}
	defer unlock()
	o := Options{Path: path, MemtableBytes: defaultMemtableBytes, Logger: hclog.NewNullLogger()}
	f := &found{folder: path}
	if f.survey, err = surveyFolder(ctx, path, badgerOptions(o), true, progress); err != nil {
		return r, err
	}
	if f.survey.fresh {
		return r, fmt.Errorf("%s holds no index", path)
	}
	r.Tables, r.Logs, r.Bytes = f.survey.tables, len(f.survey.logs), f.survey.bytes
	r.Damage = append(r.Damage, f.survey.found...)
	if err := f.markers(o); err != nil {
		return r, err
	}
	if f.inside != nil {
		r.Index = *f.inside
	}
	if err := f.check(false); err != nil && len(r.Damage) == 0 {
		r.Damage = append(r.Damage, Damage{File: path, Offset: -1, Problem: err.Error()})
	}
	r.OK = len(r.Damage) == 0
	return r, nil
}

// lockClosed keeps an index closed until unlock. It fails where a process has it open.
func lockClosed(path string) (unlock func(), err error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err := folder.Stat(); err != nil || !info.IsDir() {
		return nil, errors.Join(err, fmt.Errorf("%s is not the folder of an index", path), folder.Close())
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w; stop its server first, or use a copy", path, ErrLocked), folder.Close())
	}
	return func() { _ = folder.Close() }, nil
}
