package badgerdir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/y"
)

// salvager copies what can be read of a damaged database into another one.
type salvager struct {
	from string
	owns func(key []byte) bool
	into *badger.WriteBatch
	lost []Damage
}

// Salvage puts every version of every key that can be read in the folder from, which it does not change, into a
// database that to creates. owns reports whether a key is one of the caller's: in a damaged log it tells an entry from
// noise. mend then repairs what the lost keys left behind. lost are the places that could not be read.
func Salvage(
	ctx context.Context, from string, to Build, owns func(key []byte) bool, mend func(db *badger.DB) error,
) (id Identity, lost []Damage, err error) {
	unlock, err := lockClosed(from)
	if err != nil {
		return Identity{}, nil, err
	}
	defer unlock()
	to.Identity, _, _ = readMarker(filepath.Join(from, markerFile))
	s := &salvager{from: from, owns: owns}
	id, err = to.run(ctx, func(db *badger.DB, checkSpace func() error) error {
		if err := s.copy(ctx, db, checkSpace); err != nil {
			return err
		}
		return mend(db)
	})
	return id, s.lost, err
}

func (s *salvager) lose(file string, offset int64, format string, args ...any) {
	s.lost = append(s.lost, Damage{File: file, Offset: offset, Problem: fmt.Sprintf(format, args...)})
}

// copy puts every version of every key that can be read into db.
func (s *salvager) copy(ctx context.Context, db *badger.DB, checkSpace func() error) error {
	files, err := os.ReadDir(s.from)
	if err != nil {
		return err
	}
	compression := s.compression()
	// Tables that MANIFEST does not name are read too: it may have lost its end. Those that a compaction replaced hold
	// older versions, which the newer ones supersede.
	s.into = db.NewManagedWriteBatch()
	defer s.into.Cancel()
	for _, f := range files {
		if err := errors.Join(ctx.Err(), checkSpace()); err != nil {
			return err
		}
		if !f.Type().IsRegular() && isBadgers(f.Name()) { // opening a pipe would block
			s.lose(f.Name(), -1, "it is not a regular file (%s)", f.Type())
			continue
		}
		var err error
		switch name := f.Name(); filepath.Ext(name) {
		case ".sst":
			kind, named := compression[name]
			err = s.table(name, kind, named || compression == nil)
		case ".mem":
			err = s.log(name)
		}
		if err != nil {
			return err
		}
	}
	return s.into.Flush()
}

// compression is how the blocks of each table are compressed; nil if the list of tables is damaged, and then every
// table is read.
func (s *salvager) compression() map[string]options.CompressionType {
	fp, err := os.OpenFile(filepath.Join(s.from, badger.ManifestFilename), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		s.lose(badger.ManifestFilename, -1, "it cannot be read (%v); every table is read, also those that were replaced", err)
		return nil
	}
	defer fp.Close()
	manifest, _, err := replayManifest(fp, readOptions(s.from))
	if err != nil {
		s.lose(badger.ManifestFilename, -1, "%v; every table is read, also those that were replaced", err)
		return nil
	}
	tables := map[string]options.CompressionType{}
	for id, t := range manifest.Tables {
		name := fmt.Sprintf("%06d.sst", id)
		tables[name] = t.Compression
		if _, err := os.Stat(filepath.Join(s.from, name)); errors.Is(err, os.ErrNotExist) {
			s.lose(name, -1, "it is missing")
		}
	}
	return tables
}

// table copies the whole blocks of a table. If MANIFEST does not name it, what cannot be read is not lost: a kill
// leaves a part of the table that was being written.
func (s *salvager) table(name string, compression options.CompressionType, named bool) error {
	f, err := os.Open(filepath.Join(s.from, name))
	if err != nil {
		return err
	}
	defer f.Close()
	_, blocks, damage, err := readTableIndex(f, name)
	if err != nil {
		return err
	}
	if damage != nil {
		if !named {
			return nil
		}
		s.lose(name, damage.Offset, "%s; nothing of the table can be read", damage.Problem)
		return nil
	}
	for i, b := range blocks {
		data := make([]byte, b.size)
		if _, err := f.ReadAt(data, b.offset); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
		_, why := blockSum(data, compression)
		keys, ok := blockKeys(data, compression)
		if why != "" || !ok {
			if !named {
				continue
			}
			end := "the end of the table"
			if i+1 < len(blocks) {
				end = fmt.Sprintf("%q", y.ParseKey(blocks[i+1].key))
			}
			s.lose(name, b.offset, "keys from %q to %s", y.ParseKey(b.key), end)
			continue
		}
		for _, k := range keys {
			if err := s.put(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// log copies the transactions of a log, also those after a damaged place.
func (s *salvager) log(name string) error {
	path := filepath.Join(s.from, name)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	data, err := readWritten(f, info.Size())
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	data = bytes.TrimRight(data, "\x00")
	for at := logHeaderBytes; at < len(data); {
		e, _ := parseLogEntry(data[at:])
		if e.size == 0 {
			next := s.nextLogEntry(data, at+1)
			s.lose(name, int64(at), "%d bytes of the log", next-at)
			at = next
			continue
		}
		at += e.size
		if !e.mark {
			if err := s.put(storedKey{key: e.key, value: e.value, deleted: e.meta&metaDelete != 0}); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextLogEntry is where the next whole entry of this database begins, or the end of data.
func (s *salvager) nextLogEntry(data []byte, from int) int {
	for at := from; at < len(data); at++ {
		e, _ := parseLogEntry(data[at:])
		if e.size > 0 && (e.mark || s.owns(y.ParseKey(e.key))) {
			return at
		}
	}
	return len(data)
}

func (s *salvager) put(k storedKey) error {
	key, version := y.ParseKey(k.key), y.ParseTs(k.key)
	if !s.owns(key) {
		return nil
	}
	if k.deleted {
		return s.into.DeleteAt(slices.Clone(key), version)
	}
	return s.into.SetEntryAt(badger.NewEntry(slices.Clone(key), slices.Clone(k.value)), version)
}
