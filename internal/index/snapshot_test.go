package index

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chat-recall/recall/shared"
)

// snapshotOf is a snapshot of an index, and where the log is in it.
func snapshotOf(t *testing.T, x *Index) (data []byte, at Log) {
	t.Helper()
	var w bytes.Buffer
	err := x.Snapshot(t.Context(), func(is Log) (io.Writer, error) {
		at = is
		return &w, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.Bytes(), at
}

// follower opens the index of another node of the log.
func follower(t *testing.T, path string) *Index {
	t.Helper()
	x := openAt(t, path)
	if err := x.Follow(t.Context(), "log", "n1"); err != nil {
		t.Fatal(err)
	}
	return x
}

// snapshotNode is a node with messages and recalls.
func snapshotNode(t *testing.T) *nodes {
	t.Helper()
	n := newNodes(t, 1)
	n.join(memberOf(0))
	for _, id := range []string{"a", "b", "c"} {
		n.apply(0, put(message(id)), recall("r"+id, message(id), shared.StepNotify))
	}
	return n
}

func TestReplace(t *testing.T) {
	n := snapshotNode(t)
	data, at := snapshotOf(t, n.indexes[0])
	if at != n.indexes[0].Log() {
		t.Fatalf("it is of %+v, want %+v", at, n.indexes[0].Log())
	}
	path := filepath.Join(t.TempDir(), "index")
	x := follower(t, path)
	was := x.Identity()
	if _, err := x.Replace(t.Context(), bytes.NewReader(data), at.Position, nil); err != nil {
		t.Fatal(err)
	}
	y := follower(t, path)
	if is := y.Identity(); is.ID != was.ID || is.Epoch == was.Epoch {
		t.Errorf("it was %+v and is %+v", was, is)
	}
	n.indexes = append(n.indexes, y)
	n.apply(0, put(message("later"))) // and goes on
	n.wantEqual()
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 2 { // the folder and its marker
		t.Errorf("%v %v", left, err)
	}
}

// TestReplace_Killed replaces an index, and opens what would be there if the process had been killed on the way.
func TestReplace_Killed(t *testing.T) {
	n := snapshotNode(t)
	data, at := snapshotOf(t, n.indexes[0])
	copyAll := func(t *testing.T, from string) (path string) {
		t.Helper()
		to := filepath.Join(t.TempDir(), "killed")
		if err := os.CopyFS(to, os.DirFS(filepath.Dir(from))); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(to, filepath.Base(from))
	}
	begin := func(t *testing.T) (*Index, string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "index")
		x := follower(t, path)
		entry := LogEntry{Position: 1, Node: "n1", Process: 1, Number: 1, Calls: [][]Op{{{Join: &Join{Member: memberOf(1)}}}}}
		if _, err := x.ApplyLog([]LogEntry{entry}); err != nil {
			t.Fatal(err)
		}
		return x, path
	}
	check := func(t *testing.T, path string, id string, position uint64) {
		t.Helper()
		y := follower(t, path)
		if y.Identity().ID != id || y.Log().Position != position {
			t.Errorf("index %s at %d, want %s at %d", y.Identity().ID, y.Log().Position, id, position)
		}
		if err := y.RemoveUnfinished(); err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(path + tempGlob); err != nil || len(left) > 0 {
			t.Errorf("%v %v", left, err)
		}
		if _, err := y.Replace(t.Context(), bytes.NewReader(data), at.Position, nil); err != nil {
			t.Error(err)
		}
		if z := follower(t, path); z.Identity().ID != id || z.Log() != at ||
			!maps.Equal(sharedContents(t, z), sharedContents(t, n.indexes[0])) {
			t.Errorf("index %s at %+v", z.Identity().ID, z.Log())
		}
	}
	t.Run("while the snapshot is read", func(t *testing.T) {
		x, path := begin(t)
		copied := ""
		r := io.MultiReader(bytes.NewReader(data[:len(data)/2]), readerFunc(func([]byte) (int, error) {
			copied = copyAll(t, path)
			return 0, errors.New("killed")
		}))
		if _, err := x.Replace(t.Context(), r, at.Position, nil); err == nil {
			t.Fatal("it was replaced")
		}
		check(t, copied, x.Identity().ID, 1)
	})
	t.Run("before it takes the place", func(t *testing.T) {
		x, path := begin(t)
		build, copied := x.replacement(at.Position), ""
		build.Release = func() error {
			copied = copyAll(t, path)
			return errors.New("killed")
		}
		if _, err := restoreInto(t.Context(), bytes.NewReader(data), build, nil); err == nil {
			t.Fatal("it was replaced")
		}
		check(t, copied, x.Identity().ID, 1)
	})
	t.Run("before the old one is removed, with its marker", func(t *testing.T) {
		x, path := begin(t)
		id := x.Identity().ID
		before := copyAll(t, path)
		if _, err := x.Replace(t.Context(), bytes.NewReader(data), at.Position, nil); err != nil {
			t.Fatal(err)
		}
		old, err := os.ReadFile(before + ".marker")
		err = errors.Join(err, os.WriteFile(path+".marker", old, 0o600), os.Rename(before, path+".restoring"))
		if err != nil {
			t.Fatal(err)
		}
		check(t, path, id, at.Position)
	})
}

const tempGlob = ".restoring*"

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestReplace_Refused(t *testing.T) {
	n := snapshotNode(t)
	data, at := snapshotOf(t, n.indexes[0])
	changed := bytes.Clone(data)
	changed[len(changed)/2] ^= 1
	ofOther := openNew(t)
	if err := ofOther.Follow(t.Context(), "other", "n0"); err != nil {
		t.Fatal(err)
	}
	apply(t, ofOther, Op{Join: &Join{Member: memberOf(0)}})
	otherData, otherAt := snapshotOf(t, ofOther)
	for name, c := range map[string]struct {
		data []byte
		at   uint64
		want string
	}{
		"cut short":        {data[:len(data)-1], at.Position, "incomplete"},
		"cut off":          {data[:len(data)/2], at.Position, "incomplete"},
		"empty":            {nil, at.Position, "no backup"},
		"damaged":          {changed, at.Position, "damaged"},
		"of another log":   {otherData, otherAt.Position, "other"},
		"another position": {data, at.Position + 1, "not of"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index")
			x := follower(t, path)
			_, err := x.Replace(t.Context(), bytes.NewReader(c.data), c.at, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			if _, err := x.Members(); err != nil {
				t.Errorf("the index is closed: %v", err)
			}
			if left, err := filepath.Glob(path + tempGlob); err != nil || len(left) > 0 {
				t.Errorf("%v %v", left, err)
			}
		})
	}
	if err := openNew(t).Snapshot(t.Context(), nil); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("of a single machine: %v", err)
	}
}
