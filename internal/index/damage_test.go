package index

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
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

func replace(t *testing.T, path, by string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(path), os.CopyFS(path, os.DirFS(by))); err != nil {
		t.Fatal(err)
	}
}

func TestSince_CursorAfterARestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	in := func(ids ...string) string {
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
		t.Errorf("a cursor went from %s to %s by a restart", old, again)
	}
	backup := dirtest.Snapshot(t, path)
	lost := in("b1", "b2")
	replace(t, path, backup)
	in("c1", "c2", "c3")
	x := openAt(t, path)
	req := shared.SinceRequest{Tenant: "acme", Conversations: []shared.Conversation{group(1)}, After: lost}
	if page, err := x.Since(t.Context(), req); err != nil || !page.Reset || page.Events != nil || page.Next != "" {
		t.Errorf("a cursor from before the restore: %+v %v", page, err)
	}
	req.After = ""
	if page, err := x.Since(t.Context(), req); err != nil || len(page.Events) != 5 {
		t.Errorf("from the start: %d events, %v", len(page.Events), err)
	}
}

func TestMessages_DamagedBlock(t *testing.T) {
	path := closedIndex(t, 4000)
	x, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	if r, err := x.Messages("acme", []string{"m000010"}); err != nil || r[0] == nil || r[0].Tombstone == nil {
		t.Fatalf("before: %+v %v", r, err)
	}
	for _, file := range dirtest.Tables(t, path) {
		dirtest.Edit(t, file, func(b []byte) []byte {
			for i := 100; i < len(b)*9/10; i += 500 { // a bit of every block
				b[i] ^= 1
			}
			return b
		})
	}
	var damage *badgerdir.DamageError
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
