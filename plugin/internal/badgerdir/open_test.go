package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/plugin/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// tryOpen opens an index that is expected to refuse.
func tryOpen(t *testing.T, path string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	x, err := Open(ctx, Options{Path: path})
	if err == nil {
		_ = x.Close()
		return nil
	}
	if !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not name %s: %v", path, err)
	}
	return err
}

func TestOpenKeepsWhatWasClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "index")
	for i := range 3 {
		x := openAt(t, path)
		for j := range i {
			id := fmt.Sprint("m", j)
			if got := apply(t, x, put(message(id)))[0].Put; got != shared.IndexRecalled {
				t.Fatalf("%s at opening %d: %s", id, i, got)
			}
		}
		id := fmt.Sprint("m", i)
		r := apply(t, x, recall("r", message(id)))[0]
		if want := uint64(i + 1); r.Tombstone.Sequence != want || x.Stats().Sequence != want {
			t.Fatalf("sequence %d, want %d", r.Tombstone.Sequence, want)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTablesFromWhenTheyWereCompressedAreRead(t *testing.T) {
	path, messages := crashed(t)
	if err := clean(path, &survey{fresh: true}, false); err != nil {
		t.Fatal(err)
	}
	opts := badgerOptions(Options{Path: path, MemtableBytes: defaultMemtableBytes, Logger: hclog.NewNullLogger()}).
		WithCompression(options.Snappy).WithBlockCacheSize(1 << 20)
	for _, has := range []bool{false, true} { // the first makes a table of the log when it is closed
		db, err := openBadger(opts)
		if err != nil {
			t.Fatal(err)
		}
		compressed := func(t badger.TableInfo) bool { return t.OnDiskSize < t.UncompressedSize }
		if has && !slices.ContainsFunc(db.Tables(), compressed) {
			t.Error("no table is compressed")
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, path); n != messages {
		t.Errorf("%d of %d messages", n, messages)
	}
}

func TestOpenOfAHeldFolderWaitsAndThenNamesIt(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	err := tryOpen(t, path)
	if !errors.Is(err, ErrLocked) || !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("%v", err)
	}
	opened := make(chan error)
	go func() {
		y, err := Open(t.Context(), Options{Path: path})
		if err == nil {
			err = y.Close()
		}
		opened <- err
	}()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("after its holder closed it: %v", err)
	}
}

func TestOpenOfANewerFormatChangesNothing(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	apply(t, x, put(message("m")))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	edit := func(f func(db *badger.DB)) {
		db, err := badger.OpenManaged(badger.DefaultOptions(path).WithLogger(nil))
		if err != nil {
			t.Fatal(err)
		}
		f(db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dump := func() (all string) {
		edit(func(db *badger.DB) {
			txn := db.NewTransactionAt(^uint64(0), false)
			defer txn.Discard()
			it := txn.NewIterator(badger.IteratorOptions{AllVersions: true})
			defer it.Close()
			for it.Rewind(); it.Valid(); it.Next() {
				v, _ := it.Item().ValueCopy(nil)
				all += fmt.Sprintf("%q %d %q\n", it.Item().Key(), it.Item().Version(), v)
			}
		})
		return all
	}
	edit(func(db *badger.DB) {
		txn := db.NewTransactionAt(^uint64(0), true)
		if err := set(txn, formatKey, &indexpb.Format{Version: Format + 6}); err != nil {
			t.Fatal(err)
		}
		if err := txn.CommitAt(db.MaxVersion()+1, nil); err != nil {
			t.Fatal(err)
		}
	})
	before := dump()
	err := tryOpen(t, path)
	if !errors.Is(err, ErrFormat) ||
		!strings.Contains(err.Error(), fmt.Sprintf("format is %d and this version knows %d", Format+6, Format)) {
		t.Errorf("%v", err)
	}
	if after := dump(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func TestOpenOfAnotherProgramsDatabaseIsRefused(t *testing.T) {
	path := t.TempDir()
	db, err := badger.Open(badger.DefaultOptions(path).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte("x"), []byte("y")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tryOpen(t, path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestOpenWhereNothingCanBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tryOpen(t, file); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
	if err := tryOpen(t, filepath.Join(file, "below")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
	if os.Getuid() == 0 { // whom no permission stops; a folder in the place of the file that is written does
		path := t.TempDir()
		if err := os.Mkdir(filepath.Join(path, "LOCK"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := tryOpen(t, path); !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), "not writable") {
			t.Errorf("%v", err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "readonly")
	if err := os.Mkdir(path, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := tryOpen(t, path); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "not writable") {
		t.Errorf("%v", err)
	}
	if err := tryOpen(t, filepath.Join(path, "below")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
}

// crashed is the folder of an index as SIGKILL leaves it: some messages in tables, the last ones in the log only.
func crashed(t *testing.T) (path string, messages int) {
	t.Helper()
	live := t.TempDir()
	x := openAt(t, live)
	batch := func() {
		var ops []Op
		for range 100 {
			ops = append(ops, put(message(fmt.Sprint("m", messages))))
			messages++
		}
		apply(t, x, ops...)
	}
	batch()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = openAt(t, live)
	for range 5 {
		batch()
	}
	path = t.TempDir()
	if err := os.CopyFS(path, os.DirFS(live)); err != nil {
		t.Fatal(err)
	}
	return path, messages
}

// one is the file of a pattern that is not empty: room for the next log is set aside in an empty one.
func one(t *testing.T, path, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(path, pattern))
	found = slices.DeleteFunc(found, func(file string) bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() == 0
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v %v", pattern, found, err)
	}
	return found[0]
}

// count opens an index and counts which of the messages m0… it still has, from the first.
func count(t *testing.T, path string) int {
	t.Helper()
	x := openAt(t, path)
	for n := 0; ; n++ {
		r, err := x.Messages("acme", []string{fmt.Sprint("m", n)})
		if err != nil {
			t.Fatal(err)
		}
		if r[0] == nil {
			return n
		}
	}
}

func TestWholeFolderAfterACrashOpens(t *testing.T) {
	path, messages := crashed(t)
	if n := count(t, path); n != messages {
		t.Errorf("%d of %d messages", n, messages)
	}
}

func TestWhatAKillLeavesOfAFileBeingMadeOrRemovedIsNoDamage(t *testing.T) {
	for name, bytes := range map[string]int{"09999.mem": 0, "009999.sst": 0, "009998.sst": 4096, "009999.vlog": 0, "MANIFEST-REWRITE": 10} {
		t.Run(name, func(t *testing.T) {
			path, messages := crashed(t)
			if err := os.WriteFile(filepath.Join(path, name), make([]byte, bytes), 0o600); err != nil {
				t.Fatal(err)
			}
			if n := count(t, path); n != messages {
				t.Errorf("%d of %d messages", n, messages)
			}
		})
	}
}

func TestDamagedFilesAreNotDroppedInSilence(t *testing.T) {
	used := func(log []byte) int { return len(bytes.TrimRight(log, "\x00")) }
	for name, c := range map[string]struct {
		file   string
		damage func([]byte) []byte // nil: the file is removed
	}{
		"log cut in an entry":      {"*.mem", func(b []byte) []byte { return b[:used(b)-1000] }},
		"log cut in its header":    {"*.mem", func(b []byte) []byte { return b[:10] }},
		"value in the log flipped": {"*.mem", func(b []byte) []byte { b[200] ^= 1; return b }},
		"sizes in the log flipped": {"*.mem", func(b []byte) []byte { b[22] ^= 0xff; return b }},
		"page of the log zeroed":   {"*.mem", func(b []byte) []byte { clear(b[4096:8192]); return b }},
		"manifest flipped":         {"MANIFEST", func(b []byte) []byte { b[len(b)-2] ^= 1; return b }},
		"manifest's magic":         {"MANIFEST", func(b []byte) []byte { b[0] ^= 1; return b }},
		"manifest cut":             {"MANIFEST", func(b []byte) []byte { return b[:len(b)-3] }},
		"manifest empty":           {"MANIFEST", func(b []byte) []byte { return nil }},
		"manifest gone":            {"MANIFEST", nil},
		"table gone":               {"*.sst", nil},
		"table cut":                {"*.sst", func(b []byte) []byte { return b[:len(b)/2] }},
		"table's footer flipped":   {"*.sst", func(b []byte) []byte { b[len(b)-1] ^= 0xff; return b }},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := crashed(t)
			file := one(t, path, c.file)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if c.damage == nil {
				err = os.Remove(file)
			} else {
				err = os.WriteFile(file, c.damage(data), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := tryOpen(t, path); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOpen_LastTransactionTorn(t *testing.T) {
	tear := func(t *testing.T) (path string, messages int) {
		path, messages = crashed(t)
		file := one(t, path, "*.mem")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		end := len(bytes.TrimRight(data, "\x00"))
		clear(data[end-3000 : end-1000]) // pages that never reached the disk; later ones did
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path, messages
	}
	t.Run("not acknowledged: dropped whole", func(t *testing.T) {
		path, messages := tear(t)
		id, _, err := readMarker(filepath.Join(path, markerFile))
		if err != nil {
			t.Fatal(err)
		}
		id.Version-- // a crash in the middle of a commit comes before its version is in the marker
		m, err := createMarker(filepath.Join(path, markerFile), id)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.close(); err != nil {
			t.Fatal(err)
		}
		if n := count(t, path); n != messages-100 {
			t.Errorf("%d messages, want %d", n, messages-100)
		}
	})
	t.Run("acknowledged: refused", func(t *testing.T) {
		path, _ := tear(t)
		if err := tryOpen(
			t,
			path,
		); !errors.Is(err, ErrCorrupt) ||
			!strings.Contains(err.Error(), "commits 7 to 7 are missing") {
			t.Errorf("%v", err)
		}
	})
}

func TestDamagedBlockFailsTheReadOfItsMessage(t *testing.T) {
	path, _ := crashed(t)
	file := one(t, path, "*.sst")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(data)/2; i += 64 {
		data[i] ^= 0xff
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v", err)
		}
		return
	}
	defer x.Close()
	if r, err := x.Messages("acme", []string{"m0"}); err == nil {
		t.Errorf("read %+v from a damaged block", r[0])
	}
}
