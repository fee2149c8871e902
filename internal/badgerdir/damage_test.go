package badgerdir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
	"github.com/chat-recall/recall/shared"
)

func TestOpen_DamagedTable(t *testing.T) {
	path := closedDir(t, 4000)
	file := dirtest.Tables(t, path)[0]
	size := func(b []byte) int { return len(b) }
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < size(whole); at += size(whole)/97 + 1 {
		dirtest.Edit(t, file, dirtest.Flip(at))
		err := tryOpen(t, path)
		var damage *DamageError
		if !errors.As(err, &damage) || !errors.Is(err, shared.ErrDamaged) {
			t.Fatalf("one bit flipped at %d of %d: %v", at, size(whole), err)
		}
		if d := damage.Found[0]; d.File != filepath.Base(file) || d.Offset < 0 || d.Offset > int64(at) {
			t.Errorf("one bit flipped at %d: the error points to %s", at, d)
		}
		dirtest.Edit(t, file, dirtest.Flip(at))
	}
	if err := tryOpen(t, path); err != nil {
		t.Errorf("mended: %v", err)
	}
}

func TestOpen_VerifiedTablesAreNotReadAgain(t *testing.T) {
	path := closedDir(t, 4000)
	d := openAt(t, path)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	read := func() int64 {
		s, err := surveyFolder(t.Context(), path, readOptions(path), false, nil)
		if err != nil || len(s.found) > 0 {
			t.Fatal(s, err)
		}
		return s.bytes
	}
	d = openAt(t, path) // reads what Close has just made
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if n := read(); n != 0 {
		t.Errorf("%d bytes of tables that were verified are read again", n)
	}
	file := dirtest.Tables(t, path)[0]
	now := time.Now()
	if err := os.Chtimes(file, now, now); err != nil {
		t.Fatal(err)
	}
	if n := read(); n == 0 {
		t.Error("a table that somebody changed is not read again")
	}
	if err := os.Remove(filepath.Join(path, verifiedFile)); err != nil {
		t.Fatal(err)
	}
	if n := read(); n == 0 {
		t.Error("without the list no table is read")
	}
}

func TestOpen_AnotherTableUnderItsName(t *testing.T) {
	path := closedDir(t, 4000)
	d := openAt(t, path)
	fill(t, d, 4000, 8000)
	if err := d.Close(); err != nil { // a second table
		t.Fatal(err)
	}
	if err := tryOpen(t, path); err != nil { // which is in the list from now on
		t.Fatal(err)
	}
	files := dirtest.Tables(t, path)
	if len(files) < 2 {
		t.Fatal("there is one table only")
	}
	first, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	dirtest.Edit(t, files[1], func([]byte) []byte { return first })
	if err := tryOpen(t, path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestGuard_BlockDamagedWhileOpen(t *testing.T) {
	path := closedDir(t, 4000)
	d, err := open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if found, err := has(d, 10); err != nil || !found {
		t.Fatalf("before: %v %v", found, err)
	}
	for _, file := range dirtest.Tables(t, path) {
		dirtest.Edit(t, file, func(b []byte) []byte {
			for i := 100; i < len(b)*9/10; i += 500 { // a bit of every block
				b[i] ^= 1
			}
			return b
		})
	}
	var damage *DamageError
	found, err := has(d, 10)
	if !errors.As(err, &damage) || damage.Found[0].Offset < 0 {
		t.Fatalf("a key in a damaged block: %v %v", found, err)
	}
	if err := put(d, 9999, 10000); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a commit afterwards: %v", err)
	}
}

func TestScrub_TableChangedWhileOpen(t *testing.T) {
	path := closedDir(t, 4000)
	d, err := open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	file := dirtest.Tables(t, path)[0]
	dirtest.Edit(t, file, func(b []byte) []byte { b[len(b)-200] ^= 1; return b }) // in its index, which no read verifies
	d.verifyNew()
	if _, err := has(d, 10); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestMarker_CutWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	d := openAt(t, path)
	mustPut(t, d, 0, 1)
	for _, file := range []string{besidePath(path), filepath.Join(path, markerFile)} {
		if err := os.Truncate(file, 0); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, d, 1, 2)
	if err := d.Failure(); err != nil {
		t.Error(err)
	}
}

// TestCompaction_DamagedBlock runs in a process of its own, because the compaction never ends.
func TestCompaction_DamagedBlock(t *testing.T) {
	if !ownProcess(t) {
		return
	}
	path := closedDir(t, 4000)
	opts := BadgerOptions(path, testMemtable, hclog.NewNullLogger())
	db, err := openBadger(opts.WithCompactL0OnClose(true))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil { // with a table in a lower level
		t.Fatal(err)
	}
	d := openAt(t, path)
	fill(t, d, 4000, 8000)
	if err := d.Close(); err != nil { // and one in the first
		t.Fatal(err)
	}
	if d, err = open(t.Context(), Options{Path: path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	d.stopWatch() // only Badger meets the damage
	d.watcher.Wait()
	files, before := dirtest.Tables(t, path), mismatches.Load()
	for _, file := range files {
		dirtest.Edit(t, file, dirtest.Flip(3000))
	}
	go func() { _ = d.db.Flatten(1) }() // never ends
	deadline := time.After(time.Minute)
	for mismatches.Load() == before {
		select {
		case <-deadline:
			t.Fatal("Badger compacted the tables and met no damage")
		case <-time.After(time.Millisecond):
		}
	}
	for _, file := range files {
		if now := dirtest.Tables(t, path); !slices.Contains(now, file) {
			t.Errorf("the damaged table %s was replaced: %v", file, now)
		}
	}
	d.findDamage()
	if err := d.Failure(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestScrub_ReadsEveryTable(t *testing.T) {
	path := closedDir(t, 4000)
	d := openAt(t, path)
	d.stopWatch()
	d.watcher.Wait()
	for i := 0; d.scrubs.Load() < 2; i++ {
		if i == 100 {
			t.Fatal("it does not get through")
		}
		d.scrub()
	}
	if err := d.Failure(); err != nil {
		t.Fatal(err)
	}
}

func TestScrub_TableRemovedByACompaction(t *testing.T) {
	d := openNew(t)
	// Badger empties a table before it removes it.
	for name, left := range map[string][]byte{"000998.sst": nil, "000999.sst": make([]byte, 100)} {
		if err := os.WriteFile(filepath.Join(d.path, name), left, 0o600); err != nil {
			t.Fatal(err)
		}
		d.verify(name)
		if err := d.Failure(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpen_AnotherDatabaseInThePlace(t *testing.T) {
	path, other := closedDir(t, 200), closedDir(t, 200)
	replace(t, path, other)
	if err := tryOpen(t, path); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), besidePath(path)) {
		t.Errorf("%v", err)
	}
	if err := os.Remove(besidePath(path)); err != nil {
		t.Fatal(err)
	}
	if err := tryOpen(t, path); err != nil {
		t.Errorf("taken deliberately: %v", err)
	}
}

func replace(t *testing.T, path, by string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(path), os.CopyFS(path, os.DirFS(by))); err != nil {
		t.Fatal(err)
	}
}

func TestMarker_DamagedOrGone(t *testing.T) {
	for _, where := range []string{"inside", "beside"} {
		for name, change := range map[string]func([]byte) []byte{
			"gone":    nil,
			"empty":   func([]byte) []byte { return nil },
			"zeroed":  func(b []byte) []byte { return make([]byte, len(b)) },
			"flipped": func(b []byte) []byte { b[40] ^= 1; b[168] ^= 1; return b },
			"torn":    func(b []byte) []byte { b[40] ^= 1; return b },
		} {
			t.Run(where+" "+name, func(t *testing.T) {
				path := closedDir(t, 200)
				file := filepath.Join(path, markerFile)
				if where == "beside" {
					file = besidePath(path)
				}
				if change == nil {
					if err := os.Remove(file); err != nil {
						t.Fatal(err)
					}
				} else {
					dirtest.Edit(t, file, change)
				}
				d := openAt(t, path)
				if found, err := has(d, 10); err != nil || !found {
					t.Errorf("%v %v", found, err)
				}
				if id, ok, err := readMarker(file); err != nil || !ok || id != d.Identity() {
					t.Errorf("the marker is not written anew: %+v %v", id, err)
				}
			})
		}
	}
}

func TestOpen_MissingDatabase(t *testing.T) {
	path := closedDir(t, 200)
	d := openAt(t, path)
	id := d.Identity()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	try := func(o Options) (Identity, error) {
		o.Path = path
		d, err := open(t.Context(), o)
		if err != nil {
			return Identity{}, err
		}
		got := d.Identity()
		return got, d.Close()
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if _, err := try(Options{}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "create = true") {
		t.Errorf("the folder is gone: %v", err)
	}
	if err := os.Remove(besidePath(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := try(Options{Known: &id}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), id.ID) {
		t.Errorf("the folder and its marker are gone, the host remembers: %v", err)
	}
	if got, err := try(Options{Known: &id, Create: true}); err != nil || got.ID == id.ID || got.ID == "" {
		t.Errorf("a new one is asked for: %+v %v", got, err)
	}
	if got, err := try(Options{Create: true}); err != nil || got.ID == id.ID {
		t.Errorf("create does not replace one that is there: %+v %v", got, err)
	}
	if _, err := try(Options{Known: &id}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), id.ID) {
		t.Errorf("the folder of another index: %v", err)
	}
}

// TestGuard_TableCutWhileOpen runs in a process of its own, because Badger cannot be closed afterwards.
func TestGuard_TableCutWhileOpen(t *testing.T) {
	if !ownProcess(t) {
		return
	}
	path := closedDir(t, 4000)
	d, err := open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	file := dirtest.Tables(t, path)[0]
	if err := os.Truncate(file, 4096); err != nil {
		t.Fatal(err)
	}
	for n := range 4000 { // until one is read from beyond
		if _, err = has(d, n); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(file)) {
		t.Errorf("%v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
