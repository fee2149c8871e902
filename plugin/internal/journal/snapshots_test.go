package journal_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/plugin/internal/journal/snapshottest"
	"github.com/chat-recall/recall/shared"
)

const every = 10 // entries between two snapshots

// newSnapshotter starts a node of a stream, with a snapshotter that is not run.
func newSnapshotter(t *testing.T, s *snapshottest.Stream, node string) (index.Member, *journal.Snapshotter) {
	t.Helper()
	x, err := index.Open(t.Context(), index.Options{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Follow(t.Context(), "log", node); err != nil {
		t.Fatal(err)
	}
	r := journal.NewReplicated(x, journal.ReplicatedOptions{Node: node, Stream: s})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	member, err := r.Join(t.Context(), index.Member{Instance: node, Format: journal.EntryFormat})
	if err != nil {
		t.Fatal(err)
	}
	return member, journal.NewSnapshotter(journal.SnapshotterOptions{Log: r, Snapshots: s, Every: every})
}

// write writes as many entries as a snapshot is due after.
func write(t *testing.T, s *journal.Snapshotter, name string) {
	t.Helper()
	for i := range every {
		m := shared.Message{
			Tenant: "acme", ID: fmt.Sprint(name, i), Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
			Sender: "ann", Type: shared.TypeText, SentAt: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC),
		}
		if _, err := s.Log.Append(t.Context(), []index.Op{{Put: &m}}); err != nil {
			t.Fatal(err)
		}
	}
}

// positions are those of the snapshots of a stream, and first is where it begins.
func positions(t *testing.T, s *snapshottest.Stream) (all []uint64, first uint64) {
	t.Helper()
	list, err := s.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, is := range list {
		all = append(all, is.Position)
	}
	first, err = s.First(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all, first
}

// wantKept fails unless there are the two newest snapshots, of which the older one is where the stream begins.
func wantKept(t *testing.T, s *snapshottest.Stream, newest uint64) {
	t.Helper()
	all, first := positions(t, s)
	if len(all) != 2 || all[0] != newest || first != all[1]+1 {
		t.Errorf("snapshots of %v, and the log begins with %d; the newest is to be %d", all, first, newest)
	}
}

func TestSnapshotter_OneNodeAtATime(t *testing.T) {
	s := snapshottest.NewStream()
	n0, a := newSnapshotter(t, s, "n0")
	_, b := newSnapshotter(t, s, "n1")
	keep := func(s *journal.Snapshotter) {
		t.Helper()
		if err := s.Keep(t.Context()); err != nil {
			t.Error(err)
		}
	}
	write(t, a, "a")
	if err := b.Log.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	keep(b)
	if all, _ := positions(t, s); len(all) != 0 {
		t.Errorf("of a node that is not the first: %v", all)
	}
	keep(a)
	keep(a) // none is due
	if all, first := positions(t, s); len(all) != 1 || first != 1 || a.Newest().Position != all[0] {
		t.Errorf("%v, the log begins with %d", all, first)
	}
	keep(b)
	if b.Newest() != a.Newest() {
		t.Errorf("another node knows of %+v, want %+v", b.Newest(), a.Newest())
	}
	write(t, a, "b")
	keep(a)
	write(t, a, "c")
	keep(a)
	wantKept(t, s, a.Newest().Position)
	if err := b.Log.Leave(t.Context(), n0, time.Time{}, false); err != nil { // then it is on the next one
		t.Fatal(err)
	}
	write(t, b, "d")
	keep(b)
	wantKept(t, s, b.Log.Position())
}

// TestSnapshotter_Killed has each stage of taking a snapshot and of trimming fail as if the process was killed there.
// The next node goes on.
func TestSnapshotter_Killed(t *testing.T) {
	for _, stage := range []string{"list", "create", "write", "commit", "trim", "delete"} {
		t.Run(stage, func(t *testing.T) {
			s := snapshottest.NewStream()
			_, a := newSnapshotter(t, s, "n0")
			for _, name := range []string{"a", "b", "c"} {
				write(t, a, name)
				if err := a.Keep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			before, firstBefore := positions(t, s)
			write(t, a, "d")
			killed := errors.New("killed")
			s.BreakSnapshots(func(is string) error {
				if is == stage {
					return killed
				}
				return nil
			})
			if err := a.Keep(t.Context()); !errors.Is(err, killed) {
				t.Fatalf("%v", err)
			}
			s.BreakSnapshots(nil)
			all, first := positions(t, s)
			switch stage {
			case "list", "create", "write", "commit":
				if len(all) != 2 || all[0] != before[0] || first != firstBefore {
					t.Errorf("snapshots of %v, and the log begins with %d; before: %v and %d", all, first, before, firstBefore)
				}
			case "trim":
				if len(all) != 3 || first != firstBefore {
					t.Errorf("snapshots of %v, and the log begins with %d", all, first)
				}
			case "delete":
				if len(all) != 3 || first != all[1]+1 {
					t.Errorf("snapshots of %v, and the log begins with %d", all, first)
				}
			}
			if err := a.Keep(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantKept(t, s, a.Log.Position())
		})
	}
}

// TestSnapshotter_Barriers has no snapshot taken of entries that changed nothing: it would be of the same position.
func TestSnapshotter_Barriers(t *testing.T) {
	s := snapshottest.NewStream()
	_, a := newSnapshotter(t, s, "n0")
	write(t, a, "a")
	for range 3 {
		for range 2 * every {
			if err := a.Log.Barrier(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Keep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if all, _ := positions(t, s); len(all) != 1 {
		t.Errorf("%v", all)
	}
}
