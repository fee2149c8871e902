package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// tryOpen opens an index that is expected to refuse.
func tryOpen(t *testing.T, path string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
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

func TestOpen_AfterClose(t *testing.T) {
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

func TestOpen_NewerFormatChangesNothing(t *testing.T) {
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

func TestOpen_DatabaseOfAnotherProgram(t *testing.T) {
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

func TestOpen_MissingIndex(t *testing.T) {
	path := closedIndex(t, 200)
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := tryOpen(t, path); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "create = true") {
		t.Errorf("the folder is gone: %v", err)
	}
	x, err := Open(t.Context(), Options{Path: path, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if r, err := x.Messages("acme", []string{"m000010"}); err != nil || r[0] != nil {
		t.Errorf("the new index knows %+v %v", r[0], err)
	}
}
