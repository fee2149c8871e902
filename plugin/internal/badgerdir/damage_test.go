package index

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// closedIndex is the folder of a closed index with messages in tables, half of them recalled.
func closedIndex(t *testing.T, messages int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index")
	x := openAt(t, path)
	fill(t, x, messages)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func fill(t *testing.T, x *Index, messages int) { fillFrom(t, x, 0, messages) }

func fillFrom(t *testing.T, x *Index, first, end int) {
	t.Helper()
	for i := first; i < end; i += 200 {
		var ops []Op
		for k := i; k < i+200; k++ {
			ops = append(ops, put(message(fmt.Sprintf("m%06d", k))))
		}
		for k := i; k < i+200; k += 2 {
			ops = append(ops, recall("r", message(fmt.Sprintf("m%06d", k)), shared.StepNotify))
		}
		apply(t, x, ops...)
	}
}

// edit changes the bytes of a file.
func edit(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0) // not emptied in between: Badger may have it mapped into memory
	if err != nil {
		t.Fatal(err)
	}
	data = change(data)
	_, err = f.WriteAt(data, 0)
	if err := errors.Join(err, f.Truncate(int64(len(data))), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 1; return b }
}

func tables(t *testing.T, path string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(path, "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v %v", files, err)
	}
	return files
}

func TestOpen_DamagedTable(t *testing.T) {
	path := closedIndex(t, 4000)
	file := tables(t, path)[0]
	size := func(b []byte) int { return len(b) }
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < size(whole); at += size(whole)/97 + 1 {
		edit(t, file, flip(at))
		err := tryOpen(t, path)
		var damage *DamageError
		if !errors.As(err, &damage) || !errors.Is(err, shared.ErrDamaged) {
			t.Fatalf("one bit flipped at %d of %d: %v", at, size(whole), err)
		}
		if d := damage.Found[0]; d.File != filepath.Base(file) || d.Offset < 0 || d.Offset > int64(at) {
			t.Errorf("one bit flipped at %d: the error points to %s", at, d)
		}
		edit(t, file, flip(at))
	}
	if err := tryOpen(t, path); err != nil {
		t.Errorf("mended: %v", err)
	}
}

func TestOpen_VerifiedTablesAreNotReadAgain(t *testing.T) {
	path := closedIndex(t, 4000)
	x := openAt(t, path)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	opts := badgerOptions(Options{Path: path, MemtableBytes: defaultMemtableBytes, Logger: x.log})
	read := func() int64 {
		s, err := surveyFolder(t.Context(), path, opts, false, nil)
		if err != nil || len(s.found) > 0 {
			t.Fatal(s, err)
		}
		return s.bytes
	}
	x = openAt(t, path) // reads what Close has just made
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if n := read(); n != 0 {
		t.Errorf("%d bytes of tables that were verified are read again", n)
	}
	file := tables(t, path)[0]
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

func TestOpen_AnotherTableUnderTheName(t *testing.T) {
	path := closedIndex(t, 4000)
	x := openAt(t, path)
	fillFrom(t, x, 4000, 8000)
	if err := x.Close(); err != nil { // a second table
		t.Fatal(err)
	}
	if err := tryOpen(t, path); err != nil { // which is in the list from now on
		t.Fatal(err)
	}
	files := tables(t, path)
	if len(files) < 2 {
		t.Fatal("there is one table only")
	}
	first, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	edit(t, files[1], func([]byte) []byte { return first })
	if err := tryOpen(t, path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestBlockDamagedUnderARunningIndex(t *testing.T) {
	path := closedIndex(t, 4000)
	x, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	if r, err := x.Messages("acme", []string{"m000010"}); err != nil || r[0] == nil || r[0].Tombstone == nil {
		t.Fatalf("before: %+v %v", r, err)
	}
	for _, file := range tables(t, path) {
		edit(t, file, func(b []byte) []byte {
			for i := 100; i < len(b)*9/10; i += 500 { // a bit of every block
				b[i] ^= 1
			}
			return b
		})
	}
	var damage *DamageError
	r, err := x.Messages("acme", []string{"m000010"})
	if !errors.As(err, &damage) || damage.Found[0].Offset < 0 {
		t.Fatalf("a message in a damaged block: %+v %v", r, err)
	}
	if _, err := x.Append(t.Context(), []Op{put(message("new"))}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an append afterwards: %v", err)
	}
	if !x.Stats().Damaged {
		t.Error("the numbers of the index do not show the damage")
	}
}

func TestTableChangedUnderARunningIndex(t *testing.T) {
	path := closedIndex(t, 4000)
	x, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	file := tables(t, path)[0]
	edit(t, file, func(b []byte) []byte { b[len(b)-200] ^= 1; return b }) // in its index, which no read verifies
	x.verifyNew()
	if _, err := x.Messages("acme", []string{"m000010"}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

// ownProcess runs a test in a process of its own, and tells whether this is that process.
func ownProcess(t *testing.T) bool {
	t.Helper()
	if os.Getenv(leakyEnv) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), leakyEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// TestTableCutUnderARunningIndex runs in a process of its own, because Badger cannot be closed afterwards.
func TestTableCutUnderARunningIndex(t *testing.T) {
	if !ownProcess(t) {
		return
	}
	path := closedIndex(t, 4000)
	x, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	learned(x)
	file := tables(t, path)[0]
	if err := os.Truncate(file, 4096); err != nil {
		t.Fatal(err)
	}
	for i := range 4000 { // until one is read from beyond
		if _, err = x.Messages("acme", []string{fmt.Sprintf("m%06d", i)}); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(file)) {
		t.Errorf("%v", err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

func TestMarker_CutUnderARunningIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	x := openAt(t, path)
	apply(t, x, put(message("m")))
	for _, file := range []string{besidePath(path), filepath.Join(path, markerFile)} {
		if err := os.Truncate(file, 0); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, x, put(message("n")))
	if err := x.Failure(); err != nil {
		t.Error(err)
	}
}

// TestBlockDamagedBeforeACompaction runs in a process of its own, for the compaction never ends.
func TestBlockDamagedBeforeACompaction(t *testing.T) {
	if !ownProcess(t) {
		return
	}
	path := closedIndex(t, 4000)
	opts := badgerOptions(Options{Path: path, MemtableBytes: defaultMemtableBytes, Logger: hclog.NewNullLogger()})
	db, err := badger.OpenManaged(opts.WithCompactL0OnClose(true))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil { // with a table in a lower level
		t.Fatal(err)
	}
	x := openAt(t, path)
	fillFrom(t, x, 4000, 8000)
	if err := x.Close(); err != nil { // and one in the first
		t.Fatal(err)
	}
	if x, err = Open(t.Context(), Options{Path: path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	x.stopWatch() // only Badger meets the damage
	x.watcher.Wait()
	files, before := tables(t, path), mismatches.Load()
	for _, file := range files {
		edit(t, file, flip(3000))
	}
	go func() { _ = x.db.Flatten(1) }() // never ends
	deadline := time.After(time.Minute)
	for mismatches.Load() == before {
		select {
		case <-deadline:
			t.Fatal("Badger compacted the tables and met no damage")
		case <-time.After(time.Millisecond):
		}
	}
	for _, file := range files {
		if now := tables(t, path); !slices.Contains(now, file) {
			t.Errorf("the damaged table %s was replaced: %v", file, now)
		}
	}
	x.findDamage()
	if err := x.failure(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestScrub_ReadsEveryTable(t *testing.T) {
	path := closedIndex(t, 4000)
	x := openAt(t, path)
	x.stopWatch()
	x.watcher.Wait()
	for i := 0; x.scrubs.Load() < 2; i++ {
		if i == 100 {
			t.Fatal("it does not get through")
		}
		x.scrub()
	}
	if err := x.failure(); err != nil {
		t.Fatal(err)
	}
}

func TestVerify_TableThatACompactionRemoves(t *testing.T) {
	x := openNew(t)
	for name, left := range map[string][]byte{"000998.sst": nil, "000999.sst": make([]byte, 100)} { // emptied before it is removed
		if err := os.WriteFile(filepath.Join(x.path, name), left, 0o600); err != nil {
			t.Fatal(err)
		}
		x.verify(name)
		if err := x.Failure(); err != nil {
			t.Fatal(err)
		}
	}
}

// snapshot copies the folder of an index, as a backup by hand does.
func snapshot(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(path)); err != nil {
		t.Fatal(err)
	}
	return to
}

func replace(t *testing.T, path, by string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(path), os.CopyFS(path, os.DirFS(by))); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_LostLog(t *testing.T) {
	for name, lose := range map[string]func([]byte) []byte{
		"removed": nil,
		"emptied": func([]byte) []byte { return nil },
		"cut behind a transaction": func(b []byte) []byte {
			for end := logHeaderBytes; ; {
				e, _ := parseLogEntry(b[end:])
				if end += e.size; e.mark {
					return b[:end]
				}
			}
		},
		"tail zeroed": func(b []byte) []byte { clear(b[4096:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := crashed(t)
			file := one(t, path, "*.mem")
			if lose == nil {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			} else {
				edit(t, file, lose)
			}
			if err := tryOpen(t, path); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOpen_MissingIndex(t *testing.T) {
	path := closedIndex(t, 200)
	x := openAt(t, path)
	id := x.Identity()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	try := func(o Options) (Identity, error) {
		o.Path = path
		x, err := Open(t.Context(), o)
		if err != nil {
			return Identity{}, err
		}
		got := x.Identity()
		return got, x.Close()
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

func TestOpen_AnotherIndexInThePlace(t *testing.T) {
	path, other := closedIndex(t, 200), closedIndex(t, 200)
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

func TestSince_CursorAfterARestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	in := func(ids ...string) uint64 {
		x := openAt(t, path)
		for _, id := range ids {
			apply(t, x, recallIn(1, id))
		}
		page, err := x.Since(t.Context(), shared.SinceRequest{Tenant: "acme"})
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		return page.Next
	}
	old := in("a1", "a2")
	if again := in(); again != old {
		t.Errorf("a cursor went from %d to %d by a restart", old, again)
	}
	backup := snapshot(t, path)
	lost := in("b1", "b2")
	replace(t, path, backup)
	in("c1", "c2", "c3")
	x := openAt(t, path)
	req := shared.SinceRequest{Tenant: "acme", Conversations: []shared.Conversation{group(1)}, After: lost}
	if page, err := x.Since(t.Context(), req); !errors.Is(err, shared.ErrCursorVoid) {
		t.Errorf("a cursor from before the restore: %+v %v", page, err)
	}
	req.After = 0
	if page, err := x.Since(t.Context(), req); err != nil || len(page.Events) != 5 {
		t.Errorf("from the start: %d events, %v", len(page.Events), err)
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
				path := closedIndex(t, 200)
				file := filepath.Join(path, markerFile)
				if where == "beside" {
					file = besidePath(path)
				}
				if change == nil {
					if err := os.Remove(file); err != nil {
						t.Fatal(err)
					}
				} else {
					edit(t, file, change)
				}
				x := openAt(t, path)
				if r, err := x.Messages("acme", []string{"m000010"}); err != nil || r[0].Tombstone == nil {
					t.Errorf("%+v %v", r, err)
				}
				if id, ok, err := readMarker(file); err != nil || !ok || id != x.Identity() {
					t.Errorf("the marker is not written anew: %+v %v", id, err)
				}
			})
		}
	}
}

func TestOpen_TornManifest(t *testing.T) {
	path, messages := crashed(t)
	edit(t, filepath.Join(path, badger.ManifestFilename), func(b []byte) []byte { return append(b, 0, 0, 0, 30, 1, 2, 3) })
	if n := count(t, path); n != messages {
		t.Errorf("%d of %d messages", n, messages)
	}
}
