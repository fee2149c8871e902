package badgerdir

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"
)

// sameIdentity is a Build.Identify that changes nothing.
func sameIdentity(d *Dir) Build {
	return Build{MemtableBytes: testMemtable, Logger: hclog.NewNullLogger(),
		Identify: func(txn *badger.Txn, _ string, _ []string) (Identity, error) {
			id := d.Identity()
			return id, txn.Set(identityKey, []byte(id.ID+" "+id.Epoch))
		}}
}

// filesWith lists the files in and beside a folder that contain any of these texts.
func filesWith(t *testing.T, path string, texts ...string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Dir(path), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		for _, text := range texts {
			if bytes.Contains(data, []byte(text)) {
				found = append(found, name+": "+text)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// change commits keys with a value; a nil value deletes them.
func change(t *testing.T, d *Dir, value []byte, keys ...string) {
	t.Helper()
	txn := d.NewTransaction(true)
	defer txn.Discard()
	for _, k := range keys {
		var err error
		if value == nil {
			err = txn.Delete([]byte(k))
		} else {
			err = txn.Set([]byte(k), value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Commit(txn); err != nil {
		t.Fatal(err)
	}
}

func TestCompact_LeavesNoByteOfWhatWasDeletedOrReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "parent", "index")
	d := openAt(t, path)
	change(t, d, []byte("secret-value-1"), "secret-key-1")
	change(t, d, []byte("secret-value-2"), "m000100a")
	fill(t, d, 0, 10_000)
	if err := d.Flush(t.Context(), pad(d)); err != nil {
		t.Fatal(err)
	}
	change(t, d, []byte("secret-value-3"), "secret-key-2")
	change(t, d, nil, "secret-key-1", "secret-key-2")
	change(t, d, []byte("public"), "m000100a")
	secrets := []string{"secret-key-1", "secret-key-2", "secret-value-1", "secret-value-2", "secret-value-3"}
	if found := filesWith(t, path, secrets...); len(found) < len(secrets) {
		t.Fatalf("before: %v", found)
	}
	was := d.Identity()
	keys := uint64(0)
	if err := d.Compact(t.Context(), sameIdentity(d), func(n uint64) { keys = n }); err != nil {
		t.Fatal(err)
	}
	if keys < 10_000 {
		t.Errorf("progress says %d keys", keys)
	}
	change(t, d, []byte("later"), "later") // it goes on
	change(t, d, nil, "m000100a")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if found := filesWith(t, path, secrets...); found != nil {
		t.Errorf("after: %v", found)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 { // the folder and its marker
		t.Errorf("%v %v", left, err)
	}
	again := openAt(t, path)
	if id := again.Identity(); id.ID != was.ID || id.Epoch != was.Epoch || id.Version <= was.Version {
		t.Errorf("it was %+v and is %+v", was, id)
	}
	if n := keysIn(t, again); n != 10_000 {
		t.Errorf("%d keys", n)
	}
	err = again.View(func(txn *badger.Txn) error {
		_, err := txn.Get([]byte("later"))
		_, deleted := txn.Get([]byte("m000100a"))
		if !errors.Is(deleted, badger.ErrKeyNotFound) {
			t.Errorf("deleted after the copy: %v", deleted)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCompact_KeepsEveryCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	d := openAt(t, path)
	fill(t, d, 0, 20_000)
	stop, done := make(chan struct{}), make(chan struct{})
	next := 20_000
	go func() { // the one writer
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := put(d, next, next+50); err != nil {
				t.Error(err)
				return
			}
			next += 50
		}
	}()
	err := d.Compact(t.Context(), sameIdentity(d), nil)
	close(stop)
	<-done
	if err != nil {
		t.Fatal(err)
	}
	version := d.Version()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again := openAt(t, path)
	if n := keysIn(t, again); n != next || next == 20_000 {
		t.Errorf("%d keys, want %d", n, next)
	}
	if again.Version() < version {
		t.Errorf("version %d, and it was %d", again.Version(), version)
	}
}

// Keys that are made and deleted do not get into the copy, and their versions count. Else the next process takes it for
// one that was restored from an older copy.
func TestCompact_VersionOfKeysThatAreGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	d := openAt(t, path)
	fill(t, d, 0, 10)
	if err := d.Compact(t.Context(), sameIdentity(d), nil); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		change(t, d, []byte("v"), "k")
		change(t, d, nil, "k")
	}
	version := d.Version()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if again := openAt(t, path); again.Version() < version {
		t.Errorf("version %d, and it was %d", again.Version(), version)
	}
}

// TestCompact_Killed opens what a process leaves that was killed before its database was closed.
func TestCompact_Killed(t *testing.T) {
	live := filepath.Join(t.TempDir(), "index")
	d := openAt(t, live)
	fill(t, d, 0, 1000)
	if err := d.Compact(t.Context(), sameIdentity(d), nil); err != nil {
		t.Fatal(err)
	}
	fill(t, d, 1000, 1200)
	path := filepath.Join(t.TempDir(), "copy", "index")
	if err := os.CopyFS(filepath.Dir(path), os.DirFS(filepath.Dir(live))); err != nil {
		t.Fatal(err)
	}
	if n := count(t, path); n != 1200 {
		t.Errorf("%d keys", n)
	}
	if _, err := os.Stat(path + tempSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished copy: %v", err)
	}
}

func TestCompact_OneAtATime(t *testing.T) {
	d := openAt(t, filepath.Join(t.TempDir(), "index"))
	fill(t, d, 0, 1000)
	if err := d.Compact(t.Context(), sameIdentity(d), nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Compact(t.Context(), sameIdentity(d), nil); !errors.Is(err, ErrCompacting) {
		t.Errorf("a second one: %v", err)
	}
}

func TestCompact_Canceled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	d := openAt(t, path)
	fill(t, d, 0, 10_000)
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Compact(ctx, sameIdentity(d), func(uint64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := d.Compact(t.Context(), sameIdentity(d), nil); err != nil { // another one may follow
		t.Fatal(err)
	}
}

func TestCompact_ClosedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	d := openAt(t, path)
	fill(t, d, 0, 10_000)
	begun := make(chan struct{})
	result := make(chan error, 1)
	once := sync.OnceFunc(func() { close(begun) })
	go func() { result <- d.Compact(t.Context(), sameIdentity(d), func(uint64) { once() }) }()
	<-begun
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil && !errors.Is(err, ErrClosed) { // nil: it was complete already
		t.Error(err)
	}
	if n := count(t, path); n != 10_000 {
		t.Errorf("%d keys", n)
	}
}

func TestCompact_NoSpace(t *testing.T) {
	d := openAt(t, filepath.Join(t.TempDir(), "index"))
	fill(t, d, 0, 1000)
	c := &compaction{dir: d}
	guard := c.roomGuard()
	guard.free = func(string) (uint64, error) { return guard.need - 1, nil }
	if err := guard.look(); !errors.Is(err, ErrDiskFull) {
		t.Error(err)
	}
}

func TestCompact_WaitsForReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	d := openAt(t, path)
	fill(t, d, 0, 1000)
	reading, release := make(chan struct{}), make(chan struct{})
	read := make(chan error, 1)
	go func() {
		read <- d.View(func(txn *badger.Txn) error {
			close(reading)
			<-release
			_, err := txn.Get(keyOf(7))
			return err
		})
	}()
	<-reading
	if err := d.Compact(t.Context(), sameIdentity(d), nil); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- d.Close() }()
	select {
	case err := <-closed:
		t.Fatalf("closed while it is read: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := errors.Join(<-read, <-closed); err != nil {
		t.Error(err)
	}
	if n := count(t, path); n != 1000 {
		t.Errorf("%d keys", n)
	}
	if text, err := os.ReadFile(path + markerSuffix); err != nil || !strings.Contains(string(text), "recall-index") {
		t.Errorf("%q %v", text, err)
	}
}
