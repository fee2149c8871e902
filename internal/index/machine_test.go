package index

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/chat-recall/recall/shared"
)

func TestApply_RefusedCall(t *testing.T) {
	x := openNew(t)
	applied, err := x.Apply([][]Op{
		{put(message("a"))}, {put(message("b")), settle(7, shared.StepNotify, shared.OutcomeDone)}, {put(message("c"))},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range applied.Answers {
		if refused := errors.Is(a.Refused, shared.ErrInvalid); refused != (i == 1) || refused != (a.Results == nil) {
			t.Errorf("call %d: %+v", i, a)
		}
	}
	records, err := x.Messages("acme", []string{"a", "b", "c"})
	if err != nil || records[0] == nil || records[1] != nil || records[2] == nil {
		t.Errorf("%+v %v", records, err)
	}
}

func TestApply_TooLarge(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("before")))
	before, version := contents(t, x), x.dir.Version()
	var ops []Op
	for i := range 4000 {
		ops = append(ops, put(message(strings.Repeat("i", 200)+string(rune('a'+i%26))+strings.Repeat("j", i/26))))
	}
	if _, err := x.Apply([][]Op{ops}); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if after := contents(t, x); len(after) != len(before) || x.dir.Version() != version || x.Failure() != nil {
		t.Errorf("%d keys, before %d; version %d; %v", len(after), len(before), x.dir.Version(), x.Failure())
	}
	for i, r := range apply(t, x, ops...) { // in parts
		if r.Put != shared.IndexAdded {
			t.Fatalf("message %d: %s", i, r.Put)
		}
	}
}

func TestApply_AtomicCallAmongOthers(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("a")), put(message("b")))
	atomic := func(id, sender string) Op {
		m := message(id)
		m.Sender = sender
		op := recall("r", m)
		op.Recall.Event.Actor.ID = "moderator"
		op.Recall.Atomic = true
		return op
	}
	before := x.Stats().Commits
	applied, err := x.Apply([][]Op{
		{put(message("c"))}, {atomic("a", "ann"), atomic("b", "bob")},
		{put(message("d"))}, {atomic("c", "ann"), atomic("d", "ann")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := applied.Answers[1].Results; !same(r[0], Result{Aborted: true}) || !same(r[1], Result{Stale: true}) {
		t.Errorf("a call with a stale recall: %+v", r)
	}
	if r := applied.Answers[3].Results; !r[0].New || !r[1].New {
		t.Errorf("a call on messages of the same entry: %+v", r)
	}
	if n := x.Stats().Commits - before; n != 1 {
		t.Errorf("%d commits", n)
	}
	if n := len(ledger(t, x, "acme", "r").Entries); n != 2 || x.LastSequence() != 2 {
		t.Errorf("%d recalls, last sequence %d", n, x.LastSequence())
	}
}

func TestApply_AtomicCallTooLarge(t *testing.T) {
	x := openNew(t)
	var large []Op // of messages that the index does not know: what is undone includes them
	for i := range 20 {
		m := message(fmt.Sprint("large", i))
		for f := range shared.MaxAttachments {
			m.Attachments = append(m.Attachments, attached(fmt.Sprintf("%0*d", shared.MaxAttachmentBytes, f))...)
		}
		op := recall("large", m)
		op.Recall.Atomic = true
		large = append(large, op)
	}
	m := message("m")
	apply(t, x, put(m))
	before, operations := contents(t, x), x.Stats().Operations
	t.Run("after a call that writes", func(t *testing.T) {
		if _, err := x.Apply([][]Op{{put(message("a"))}, large}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("got %v", err)
		}
		if after := contents(t, x); !maps.Equal(after, before) {
			t.Errorf("%d keys, before %d", len(after), len(before))
		}
	})
	t.Run("before one", func(t *testing.T) {
		applied, err := x.Apply([][]Op{{put(m)}, large, {recall("r", m)}})
		if err != nil {
			t.Fatal(err)
		}
		var refused *shared.FieldError
		if a := applied.Answers[1]; !errors.As(a.Refused, &refused) || refused.Field != "targets" || a.Results != nil {
			t.Errorf("got %+v", a)
		}
		if r := applied.Answers[2].Results[0]; !r.New || r.Tombstone.Sequence != 1 || x.LastSequence() != 1 {
			t.Errorf("the call after it: %+v, last sequence %d", r, x.LastSequence())
		}
		if n := x.Stats().Operations - operations; n != 2 {
			t.Errorf("%d operations", n)
		}
	})
	t.Run("leaves nothing", func(t *testing.T) {
		y := openNew(t)
		apply(t, y, put(m))
		apply(t, y, recall("r", m))
		if got, want := contents(t, x), contents(t, y); len(got) != len(want) {
			t.Errorf("%d keys, want %d", len(got), len(want))
		}
	})
}
