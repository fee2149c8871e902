package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/hashicorp/go-hclog"
)

// Salvaged tells what Salvage saved of an index, and what was lost.
type Salvaged struct {
	Index    Identity `json:"index"` // what was made, of a new epoch
	Messages int      `json:"messages"`
	Recalls  int      `json:"recalls"`

	// Lost are the places that could not be read. What was written there is gone.
	Lost []Damage `json:"lost"`

	// Mended: messages whose recall was found in the ledger only; they are recalled.
	RecalledByLedger int `json:"recalled_by_ledger"`

	// FactsLost are recalled messages of which only the recall is left. They stay recalled, with "(lost)" as their sender.
	FactsLost int `json:"facts_lost"`

	// LedgersLost are recalled messages whose ledger is gone: they stay recalled, and nobody receives the event again.
	LedgersLost int `json:"ledgers_lost"`
}

// salvager makes an index of what can be read of another.
type salvager struct {
	from string
	into *badger.WriteBatch
	out  Salvaged
}

// Salvage reads what can be read of a damaged index, in the folder from, which it does not change, and makes an index
// of it in the folder to, which is not there or empty. What is recalled stays recalled wherever any trace of it is
// left.
func Salvage(ctx context.Context, from, to string, log hclog.Logger) (Salvaged, error) {
	s := &salvager{from: from, out: Salvaged{Lost: []Damage{}}}
	unlock, err := lockClosed(from)
	if err != nil {
		return s.out, err
	}
	defer unlock()
	id, _, _ := readMarker(filepath.Join(from, markerFile))
	s.out.Index, err = build(ctx, to, log, id, func(db *badger.DB, room func() error) error {
		if err := s.copy(ctx, db, room); err != nil {
			return err
		}
		return mend(ctx, db, &s.out)
	})
	return s.out, err
}

func (s *salvager) lost(file string, offset int64, format string, args ...any) {
	s.out.Lost = append(s.out.Lost, Damage{File: file, Offset: offset, Problem: fmt.Sprintf(format, args...)})
}

// copy puts every version of every key that can be read into db.
func (s *salvager) copy(ctx context.Context, db *badger.DB, room func() error) error {
	files, err := os.ReadDir(s.from)
	if err != nil {
		return err
	}
	compression := s.compression()
	// Tables that MANIFEST does not name are read too: it may have lost its end. Those that a compaction replaced hold
	// older versions, which count for nothing beside the newer ones.
	s.into = db.NewManagedWriteBatch()
	defer s.into.Cancel()
	for _, f := range files {
		if err := errors.Join(ctx.Err(), room()); err != nil {
			return err
		}
		if !f.Type().IsRegular() && isBadgers(f.Name()) { // to open a pipe would wait for ever
			s.lost(f.Name(), -1, "it is not a regular file (%s)", f.Type())
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

// compression is how the blocks of each table of the index are compressed; nil where the list of tables is damaged, and
// then every table is read.
func (s *salvager) compression() map[string]options.CompressionType {
	fp, err := os.OpenFile(filepath.Join(s.from, badger.ManifestFilename), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		s.lost(badger.ManifestFilename, -1, "it cannot be read (%v); every table is read, also those that were replaced", err)
		return nil
	}
	defer fp.Close()
	manifest, _, err := replayManifest(fp, badgerOptions(Options{Path: s.from, MemtableBytes: defaultMemtableBytes, Logger: hclog.NewNullLogger()}))
	if err != nil {
		s.lost(badger.ManifestFilename, -1, "%v; every table is read, also those that were replaced", err)
		return nil
	}
	tables := map[string]options.CompressionType{}
	for id, t := range manifest.Tables {
		name := fmt.Sprintf("%06d.sst", id)
		tables[name] = t.Compression
		if _, err := os.Stat(filepath.Join(s.from, name)); errors.Is(err, os.ErrNotExist) {
			s.lost(name, -1, "it is missing")
		}
	}
	return tables
}

// table copies the blocks of a table that are whole. Of one that MANIFEST does not name, what cannot be read is not
// lost: a kill leaves a part of the table that was being written.
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
		s.lost(name, damage.Offset, "%s; nothing of the table can be read", damage.Problem)
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
			s.lost(name, b.offset, "keys from %q to %s", y.ParseKey(b.key), end)
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

// log copies the transactions of a log, also those behind a damaged place.
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
			next := nextLogEntry(data, at+1)
			s.lost(name, int64(at), "%d bytes of the log", next-at)
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

// nextLogEntry is where the next whole entry of this index begins, or the end of data.
func nextLogEntry(data []byte, from int) int {
	for at := from; at < len(data); at++ {
		e, _ := parseLogEntry(data[at:])
		if e.size > 0 && (e.mark || len(e.key) > 10 && e.key[1] == '/' && strings.IndexByte(keyKinds, e.key[0]) >= 0) {
			return at
		}
	}
	return len(data)
}

func (s *salvager) put(k storedKey) error {
	key, version := y.ParseKey(k.key), y.ParseTs(k.key)
	if len(key) < 2 || key[1] != '/' || strings.IndexByte(keyKinds, key[0]) < 0 || bytes.Equal(key, paddingKey) {
		return nil
	}
	if k.deleted {
		return s.into.DeleteAt(slices.Clone(key), version)
	}
	return s.into.SetEntryAt(badger.NewEntry(slices.Clone(key), slices.Clone(k.value)), version)
}
