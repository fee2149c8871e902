package journal

import (
	"context"
	"errors"
	"testing"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// TestReplicated_MixedVersions has nodes be upgraded one after the other: entries are in a format that all of them
// read, so all of them apply them, and an older version does not come back once they are newer.
func TestReplicated_MixedVersions(t *testing.T) {
	s := journaltest.NewStream()
	old := []*node{
		{name: "n0", path: t.TempDir(), format: index.OldestOpFormat},
		{name: "n1", path: t.TempDir(), format: index.OldestOpFormat},
	}
	for _, n := range old {
		n.start(t, s)
	}
	written := func() int {
		t.Helper()
		data, err := s.Last(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return int(data[1])
	}
	spendsOf := func(n *node) (count int) {
		t.Helper()
		err := errors.Join(n.log.Barrier(t.Context()), n.log.index.Spends(10, func(*index.Spend) { count++ }))
		if err != nil {
			t.Fatal(err)
		}
		return count
	}
	upgrade := func(n *node) *node {
		n.stop(t)
		upgraded := &node{name: n.name, path: n.path}
		upgraded.start(t, s)
		return upgraded
	}
	a := upgrade(old[0])
	defer a.stop(t)
	apply(t, a.log, spending("among old ones", 1))
	if got := written(); got != index.OldestOpFormat {
		t.Errorf("next to an older version it writes format %d", got)
	}
	if spendsOf(a) != 0 || spendsOf(old[1]) != 0 {
		t.Error("an index has what the older format leaves out")
	}
	added := &node{name: "n3", path: t.TempDir()}
	added.start(t, s) // which an older version must be able to read
	if err := old[1].log.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer added.stop(t)
	b := upgrade(old[1])
	defer b.stop(t)
	apply(t, b.log, spending("among new ones", 1))
	if got := written(); got != EntryFormat {
		t.Errorf("once all are upgraded they write format %d", got)
	}
	if spendsOf(a) != 1 || spendsOf(b) != 1 {
		t.Error("what the newer format has is not applied everywhere")
	}
	if _, err := LastFormat(t.Context(), s, index.OldestOpFormat); !errors.Is(err, index.ErrNewer) {
		t.Errorf("an older version reads the log: %v", err)
	}
	if format, err := LastFormat(t.Context(), s, EntryFormat); err != nil || format != EntryFormat {
		t.Errorf("%d, %v", format, err)
	}
	if format, err := LastFormat(t.Context(), journaltest.NewStream(), EntryFormat); err != nil ||
		format != index.OldestOpFormat {
		t.Errorf("of an empty log: %d, %v", format, err)
	}
	late := &node{name: "n2", path: t.TempDir(), format: index.OldestOpFormat}
	late.follow(t, s)
	defer late.stop(t)
	if err := late.log.Barrier(t.Context()); !errors.Is(err, shared.ErrUnavailable) || !errors.Is(err, index.ErrNewer) {
		t.Errorf("an older version goes on beyond what it reads: %v", err)
	}
}

// TestReplicated_FormatWithoutMembers has all nodes leave for good: what joins then writes no older format, or an older
// version would take the log for its own.
func TestReplicated_FormatWithoutMembers(t *testing.T) {
	s := journaltest.NewStream()
	first := &node{name: "n0", path: t.TempDir()}
	first.start(t, s)
	apply(t, first.log, put(message("m")))
	member, err := first.log.member()
	if err == nil {
		err = first.log.Leave(t.Context(), member, start, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	first.stop(t)
	begun := s.Len()
	for name, path := range map[string]string{"n0": first.path, "n1": t.TempDir()} {
		n := &node{name: name, path: path}
		n.start(t, s)
		n.stop(t)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = s.Follow(ctx, begun, func(position uint64, data []byte) error {
		if data[1] != EntryFormat {
			t.Errorf("entry %d has format %d", position, data[1])
		}
		if position == s.Len() {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	late := &node{name: "n2", path: t.TempDir(), format: index.OldestOpFormat}
	late.follow(t, s)
	defer late.stop(t)
	if _, err := late.log.Join(t.Context(), index.Member{Format: late.format}); !errors.Is(err, index.ErrNewer) {
		t.Errorf("an older version joins: %v", err)
	}
}
