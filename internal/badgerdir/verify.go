package badgerdir

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
)

// Report is what Verify found.
type Report struct {
	Path   string   `json:"path"`
	OK     bool     `json:"ok"`
	Index  Identity `json:"index"`  // from its marker; zero if it has none
	Tables int      `json:"tables"` // in MANIFEST
	Logs   int      `json:"logs"`
	Bytes  int64    `json:"bytes"` // of the tables
	Damage []Damage `json:"damage"`
}

// Verify reads every file of a database that no process has open, and changes nothing. Damage is in the report; an
// error means that the files could not be verified. progress is called with bytes of tables; it may be nil.
func Verify(ctx context.Context, path string, progress func(done, total int64)) (Report, error) {
	r := Report{Path: path, Damage: []Damage{}}
	unlock, err := lockClosed(path)
	if err != nil {
		return r, err
	}
	defer unlock()
	f := &found{folder: path}
	if f.survey, err = surveyFolder(ctx, path, readOptions(path), true, progress); err != nil {
		return r, err
	}
	if f.survey.fresh {
		return r, fmt.Errorf("%s holds no index", path)
	}
	r.Tables, r.Logs, r.Bytes = f.survey.tables, len(f.survey.logs), f.survey.bytes
	r.Damage = append(r.Damage, f.survey.found...)
	if err := f.markers(hclog.NewNullLogger()); err != nil {
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
