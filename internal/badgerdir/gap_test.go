package badgerdir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
)

// newestLogs are the logs of a database with something in them, in their order.
func newestLogs(t *testing.T, path string) []string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(path, "*.mem"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(logs, func(log string) bool {
		info, err := os.Stat(log)
		return err != nil || info.Size() == 0
	})
}

// flushed is the folder of an open database just after a log became a table, which MANIFEST names in its last record:
// the first keys are in an older table, then in that one, and a few in the log. before is the MANIFEST without that
// record, and old that log as it was at its end.
func flushed(t *testing.T) (path string, keys int, before []byte, log string, old []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "index")
	add := func(d *Dir, n int) {
		for range n {
			mustPut(t, d, keys, keys+1)
			keys++
		}
	}
	d := openAt(t, path)
	add(d, 10)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openAt(t, path)
	before, err := os.ReadFile(filepath.Join(path, badger.ManifestFilename))
	if err != nil {
		t.Fatal(err)
	}
	add(d, 400)
	log = newestLogs(t, path)[0]
	for len(newestLogs(t, path)) == 1 { // the commit that begins the next log is not in this one
		f, err := os.Open(log)
		if err != nil {
			t.Fatal(err)
		}
		if old, err = readWritten(f, 2*d.memtable); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := pad(d)(t.Context(), maxPadding); err != nil {
			t.Fatal(err)
		}
	}
	gone := func() (bool, error) { _, err := os.Stat(log); return err != nil, nil }
	if err := wait(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	add(d, 10)
	copied := filepath.Join(t.TempDir(), "index")
	if err := os.CopyFS(copied, os.DirFS(path)); err != nil {
		t.Fatal(err)
	}
	return copied, keys, before, filepath.Join(copied, filepath.Base(log)), old
}

// midFlush is flushed as a kill leaves it while the table is written: both logs are there, and MANIFEST does not name
// it.
func midFlush(t *testing.T) (path, log string, keys int) {
	t.Helper()
	path, keys, before, log, old := flushed(t)
	err := errors.Join(os.WriteFile(filepath.Join(path, badger.ManifestFilename), before, 0o600),
		os.WriteFile(log, old, 0o600), os.Truncate(log, 2*testMemtable), os.RemoveAll(filepath.Join(path, verifiedFile)))
	if err != nil {
		t.Fatal(err)
	}
	return path, log, keys
}

// The newer log has the last commit, so the marker alone does not tell.
func TestOpen_OlderLogDamaged(t *testing.T) {
	path, _, keys := midFlush(t)
	if n := count(t, path); n != keys {
		t.Fatalf("without damage %d of %d keys", n, keys)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"emptied":                   func(b []byte) []byte { return nil },
		"last transaction flipped":  func(b []byte) []byte { return dirtest.Flip(usedBytes(b) - 100)(b) },
		"last transaction cut away": func(b []byte) []byte { clear(b[usedBytes(b)-200:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			path, log, _ := midFlush(t)
			dirtest.Edit(t, log, damage)
			wantDamage(t, path, "are missing")
		})
	}
	t.Run("removed", func(t *testing.T) {
		path, log, _ := midFlush(t)
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
		wantDamage(t, path, "are missing")
	})
}

// A table that MANIFEST no longer names is removed by Badger. It was made a moment ago, so the list of verified tables
// does not have it yet, and a newer log has the last commit.
func TestOpen_ManifestTornAfterAFlush(t *testing.T) {
	path, keys, before, _, _ := flushed(t)
	file := filepath.Join(path, badger.ManifestFilename)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(path, verifiedFile)); err != nil {
		t.Fatal(err)
	}
	for end := len(before); end < len(data); end++ {
		if err := os.WriteFile(file, data[:end], 0o600); err != nil {
			t.Fatal(err)
		}
		wantDamage(t, path, "are missing")
	}
	to := filepath.Join(t.TempDir(), "salvaged")
	build := Build{Path: to, MemtableBytes: testMemtable, Logger: hclog.NewNullLogger(), Identify: setIdentity}
	isKey := func(k []byte) bool { return strings.HasPrefix(string(k), "m") }
	if _, lost, err := Salvage(t.Context(), path, build, isKey, func(*badger.DB) error { return nil }); err != nil {
		t.Fatalf("%v: %v", lost, err)
	}
	if n := count(t, to); n != keys {
		t.Errorf("saved %d of %d keys", n, keys)
	}
}
