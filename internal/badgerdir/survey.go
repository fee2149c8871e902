package badgerdir

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sync/errgroup"
)

// A survey is what the files of a database hold, read before Badger opens them: Badger repairs some damage by dropping
// data without an error.
type survey struct {
	fresh    bool // there is no file of a database
	tables   int
	logs     map[string]logFacts
	bytes    int64  // of the tables that were read for it
	version  uint64 // the highest that a table or a log holds
	verified *verifiedTables
	found    []Damage // files that are damaged
}

// surveyor makes a survey.
type surveyor struct {
	folder   string
	opts     badger.Options
	all      bool                    // also reads tables that were verified before
	progress func(done, total int64) // bytes of tables; may be nil

	mu     sync.Mutex
	survey *survey
}

// surveyFolder reads every table that was not verified before, every log and the list of tables. Damage is in the
// survey; an error is one of the operating system.
func surveyFolder(
	ctx context.Context, folder string, opts badger.Options, all bool, progress func(done, total int64),
) (*survey, error) {
	s := &surveyor{folder: folder, opts: opts, all: all, progress: progress,
		survey: &survey{logs: map[string]logFacts{}, verified: loadVerified(folder)}}
	if err := s.run(ctx); err != nil {
		if ctx.Err() != nil { // the next try goes on with the other tables
			err = errors.Join(err, s.survey.verified.save(folder))
		}
		return nil, err
	}
	return s.survey, nil
}

func (s *surveyor) damaged(file string, offset int64, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.survey.found = append(s.survey.found, Damage{File: file, Offset: offset, Problem: fmt.Sprintf(format, args...)})
}

func (s *surveyor) run(ctx context.Context) error {
	files, err := os.ReadDir(s.folder)
	if err != nil {
		return err
	}
	names := map[string][]string{}
	manifest := false
	for _, f := range files {
		ext := filepath.Ext(f.Name())
		info, err := f.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() && isBadgers(f.Name()) { // opening a pipe would block
			s.damaged(f.Name(), -1, "it is not a regular file (%s)", info.Mode().Type())
		}
		if (ext == ".mem" || ext == ".vlog") && info.Size() == 0 {
			continue // made, and not yet given its size; or emptied before it is removed
		}
		manifest = manifest || f.Name() == badger.ManifestFilename
		names[ext] = append(names[ext], f.Name())
	}
	data := len(names[".sst"]) + len(names[".mem"])
	switch {
	case len(s.survey.found) > 0:
		return nil
	case !manifest && data == 0:
		s.survey.fresh = true
		return nil
	case !manifest:
		s.damaged(badger.ManifestFilename, -1, "it is missing, and %d files of data are there", data)
		return nil
	}
	tables, err := s.manifest(names[".sst"])
	if err != nil {
		return err
	}
	if err := s.tables(ctx, tables); err != nil {
		return err
	}
	for _, name := range names[".mem"] {
		facts, damage, err := checkLog(filepath.Join(s.folder, name))
		if err != nil {
			return err
		}
		if damage != nil {
			s.survey.found = append(s.survey.found, *damage)
		}
		s.survey.logs[name] = facts
	}
	s.gaps()
	return nil
}

// gaps looks for commits that are in no table and no log while newer ones are. Commits are numbered one by one, each
// log continues where the one before it ended, and logs become tables in their order.
func (s *surveyor) gaps() {
	for _, name := range slices.Sorted(maps.Keys(s.survey.logs)) {
		log := s.survey.logs[name]
		if expected := s.survey.version + 1; log.first > expected && len(s.survey.found) == 0 {
			s.damaged(name, -1, "it begins with commit %d, and the commits %d to %d before it are missing: a log (*.mem) "+
				"or a table (*.sst, or its name in MANIFEST) was lost, shortened or replaced by an older one",
				log.first, expected, log.first-1)
		}
		s.survey.version = max(s.survey.version, log.version)
	}
}

// isBadgers reports whether Badger opens a file of this name.
func isBadgers(name string) bool {
	return slices.Contains([]string{badger.ManifestFilename, badger.KeyRegistryFileName, "DISCARD"}, name) ||
		slices.Contains([]string{".sst", ".mem", ".vlog"}, filepath.Ext(name))
}

// manifest reads the list of tables, MANIFEST, and returns those that it names. Badger cuts it where it is torn, and
// removes every table that it does not name. A crash may tear its last record while that is written: then the tables of
// that record are not yet part of the index, and what they hold is still in a log or in the tables that they replace.
// A record that was whole once names tables that were part of the index: those are in the list of verified tables, and
// are the newest of all.
func (s *surveyor) manifest(tables []string) (map[string]options.CompressionType, error) {
	const name = badger.ManifestFilename
	fp, err := os.Open(filepath.Join(s.folder, name))
	if err != nil {
		return nil, err
	}
	defer fp.Close()
	info, err := fp.Stat()
	if err != nil {
		return nil, err
	}
	manifest, end, err := replayManifest(fp, s.opts)
	if err != nil {
		s.damaged(name, -1, "%v", err)
		return nil, nil
	}
	named := make(map[string]options.CompressionType, len(manifest.Tables))
	newest := uint64(0)
	for id, t := range manifest.Tables {
		named[fmt.Sprintf("%06d.sst", id)] = t.Compression
		newest = max(newest, id)
	}
	for _, table := range tables {
		if _, ok := named[table]; ok {
			continue
		}
		id, err := strconv.ParseUint(strings.TrimSuffix(table, ".sst"), 10, 64)
		if _, was := s.survey.verified.listed(table); err == nil && was && id > newest {
			s.damaged(name, end, "it ends after %d of %d bytes and no longer names %s", end, info.Size(), table)
		}
	}
	return named, nil
}

// replayManifest calls Badger, which panics on some files.
func replayManifest(fp *os.File, opts badger.Options) (m badger.Manifest, end int64, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it cannot be read: %v", r)
		}
	}()
	return badger.ReplayManifestFile(fp, 0, opts)
}

// tables reads the tables that were not verified before, several at a time.
func (s *surveyor) tables(ctx context.Context, named map[string]options.CompressionType) error {
	type unread struct {
		name string
		size int64
	}
	var list []unread
	var total, done int64
	for name := range named {
		info, err := os.Stat(filepath.Join(s.folder, name))
		if errors.Is(err, os.ErrNotExist) {
			s.damaged(name, -1, "it is missing")
			continue
		}
		if err != nil {
			return err
		}
		if t, ok := s.survey.verified.has(name, info); ok && !s.all {
			s.survey.version = max(s.survey.version, t.MaxVersion)
			continue
		}
		list = append(list, unread{name, info.Size()})
		total += info.Size()
	}
	s.survey.tables, s.survey.bytes = len(named), total
	var group errgroup.Group
	group.SetLimit(tableReaders())
	for _, table := range list {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("verify the tables: %w", err)
			}
			if err := s.table(table.name, named[table.name]); err != nil {
				return err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if done += table.size; s.progress != nil {
				s.progress(done, total)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.survey.verified.keep(func(name string) bool { _, ok := named[name]; return ok })
	return nil
}

func (s *surveyor) table(name string, compression options.CompressionType) error {
	t, found, err := verifyTable(s.folder, name, compression, s.survey.verified)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.survey.found = append(s.survey.found, found...)
	s.survey.version = max(s.survey.version, t.MaxVersion)
	return nil
}

// verifyTable reads a table, compares it with what was read under its name before, and records it as verified if it is
// whole.
func verifyTable(
	folder, name string, compression options.CompressionType, verified *verifiedTables,
) (verifiedTable, []Damage, error) {
	path := filepath.Join(folder, name)
	info, err := os.Stat(path) // before it is read, so that a change meanwhile is seen the next time
	if err != nil {
		return verifiedTable{}, nil, err
	}
	facts, found, err := checkTable(path, compression)
	if err != nil {
		return verifiedTable{}, nil, err
	}
	t := verifiedTable{
		fileIdentity: identityOf(info), Sum: facts.sum, MaxVersion: facts.maxVersion, Compression: compression,
	}
	if before, ok := verified.listed(name); ok && before.Sum != t.Sum && len(found) == 0 {
		found = append(found, Damage{File: name, Offset: -1, Problem: "it is another table than the one that was here"})
	}
	if len(found) == 0 {
		verified.add(name, t)
	}
	return t, found, nil
}
