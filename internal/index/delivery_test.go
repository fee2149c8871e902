package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// refusedField is the field that a refusal of operations names; empty where they are applied.
func refusedField(t *testing.T, x *Index, ops ...Op) string {
	t.Helper()
	_, err := x.Append(context.Background(), ops)
	var f *shared.FieldError
	switch {
	case errors.As(err, &f):
		return f.Field
	case err != nil:
		t.Fatal(err)
	}
	return ""
}

func TestSettle_AttemptsAreOrderedByNumber(t *testing.T) {
	x := openNew(t)
	apply(t, x, recall("r", message("m"), shared.StepHistory), recall("r", message("n"), shared.StepHistory))
	for _, c := range []struct {
		op   Op
		want StepState
	}{
		{fail(1, shared.StepHistory, 1, "a"), StepState{true, 1, 1}},
		{fail(1, shared.StepHistory, 1, "again"), StepState{true, 1, 1}},
		{fail(2, shared.StepHistory, 1, ""), StepState{true, 1, 2}},
		{fail(1, shared.StepHistory, 3, "too early"), StepState{true, 1, 1}},
		{fail(1, shared.StepHistory, 2, "b"), StepState{true, 2, 3}},
	} {
		c.op.Settle.At = start.Add(-time.Duration(c.op.Settle.Attempt) * time.Hour) // a clock that runs backwards
		if got := apply(t, x, c.op)[0].Step; got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.op.Settle, got, c.want)
		}
	}
	if s := ledger(t, x, "acme", "r").Entries[0].Steps[0]; s.Attempts != 2 || s.Error != "b" {
		t.Errorf("the ledger has %+v", s)
	}
	late := settle(1, shared.StepHistory, shared.OutcomeDone)
	late.Settle.Attempt = 1
	if got := apply(t, x, late)[0].Step; got.Open {
		t.Errorf("after the late success of the first attempt: %+v", got)
	}
	if s := ledger(t, x, "acme", "r").Entries[0].Steps[0]; s.Attempts != 2 || s.Outcome != shared.OutcomeDone {
		t.Errorf("the ledger has %+v", s)
	}
	if got := queued(t, x, shared.StepHistory); !slices.Equal(got, []uint64{2}) {
		t.Errorf("queued: %v", got)
	}
}

func TestSettle_UnknownEventOrStep(t *testing.T) {
	x := openNew(t)
	apply(t, x, recall("r", message("m"), shared.StepNotify, shared.StepHistory))
	done := shared.OutcomeDone
	for _, c := range []struct {
		name string
		op   Op
		want string // field
	}{
		{"no such event", settle(2, shared.StepNotify, done), "sequence"},
		{"no such step", settle(1, shared.StepPush, done), "step"},
		{"a step that waits for notify", settle(1, shared.StepHistory, done), "step"},
		{"an open step", settle(1, shared.StepNotify, done), ""},
		{"a settled step", settle(1, shared.StepNotify, done), ""},
		{"a failure of a settled step", fail(1, shared.StepNotify, 2, ""), ""},
		{"one of a call", settle(2, shared.StepNotify, done), "sequence"},
	} {
		if got := refusedField(t, x, c.op); got != c.want {
			t.Errorf("%s: refused by %q, want %q", c.name, got, c.want)
		}
	}
	got := refusedField(t, x, settle(1, shared.StepHistory, done), settle(7, shared.StepHistory, done))
	if got != "sequence" {
		t.Errorf("a call with one that does not exist: %q", got)
	}
	if got := queues(t, x); got != "[history]" {
		t.Errorf("open: %s", got)
	}
}

func TestUngate(t *testing.T) {
	x := openNew(t)
	apply(t, x, recall("r", message("a"), shared.StepNotify, shared.StepHistory),
		recall("r", message("b"), shared.StepHistory))
	if gated, err := x.Gated(t.Context(), 0, 10); err != nil || !slices.Equal(gated, []uint64{1}) {
		t.Fatalf("gated: %v %v", gated, err)
	}
	for _, want := range []map[string]uint64{{"history": 1}, nil} {
		var ops []Op
		for sequence := range uint64(3) {
			ops = append(ops, Op{Ungate: &Ungate{Sequence: sequence + 1}})
		}
		got := opened(t, x, ops...)
		if !maps.Equal(got, want) {
			t.Errorf("opened %v, want %v", got, want)
		}
	}
	if got := queued(t, x, shared.StepHistory); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("history is open in %v", got)
	}
	apply(t, x, settle(1, shared.StepHistory, shared.OutcomeDone), settle(1, shared.StepNotify, shared.OutcomeDone))
	if got := queues(t, x); got != "[history]" || len(queued(t, x, shared.StepHistory)) != 1 {
		t.Errorf("after both are settled: %s", got)
	}
}

func TestRecallID(t *testing.T) {
	bob := func(m shared.Message) shared.Message {
		m.Sender = "bob" // who recalls it, in these tests
		return m
	}
	t.Run("belongs to its first actor", func(t *testing.T) {
		x := openNew(t)
		apply(t, x, recall("r", message("a")))
		if got := apply(t, x, recall("r", bob(message("b"))))[0]; !same(got, Result{OtherActor: true}) {
			t.Errorf("another actor: %+v", got)
		}
		if got := refusedField(t, x, recall("r", message("c"))); got != "" {
			t.Errorf("the same actor: %q", got)
		}
		other := bob(message("b"))
		other.Tenant = "other"
		if got := refusedField(t, x, recall("r", other)); got != "" {
			t.Errorf("another tenant: %q", got)
		}
		again := recall("r", message("a"))
		again.Recall.Event.Actor.ID = "bob"
		if res := apply(t, x, again)[0]; res.New || res.Tombstone.RecalledBy != "ann" {
			t.Errorf("a message that is recalled: %+v", res)
		}
	})
	t.Run("two in one entry", func(t *testing.T) {
		x := openNew(t)
		var calls [][]Op
		for i := range 20 {
			m := message(fmt.Sprint("m", i))
			if i%2 == 1 {
				m = bob(m)
			}
			calls = append(calls, []Op{recall("r", m)})
		}
		applied, err := x.Apply(calls)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range applied.Answers {
			if res := a.Results[0]; res.New != (i%2 == 0) || res.OtherActor != (i%2 == 1) {
				t.Errorf("call %d: %+v", i, res)
			}
		}
		if n := len(ledger(t, x, "acme", "r").Entries); n != 10 {
			t.Errorf("%d messages are recalled", n)
		}
	})
	t.Run("has a number of messages", func(t *testing.T) {
		x := openNew(t)
		var ops []Op
		for i := range shared.MaxRecallMessages {
			if ops = append(ops, recall("r", message(fmt.Sprint("m", i)), shared.StepHistory)); len(ops) == 1000 {
				apply(t, x, ops...)
				ops = nil
			}
		}
		_, err := x.Append(t.Context(), []Op{recall("r", message("one more"))})
		if !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), "at most 10000 share a recall id") {
			t.Errorf("one more: %v", err)
		}
		if got := refusedField(t, x, recall("r", message("m7"))); got != "" {
			t.Errorf("one of them again: %q", got)
		}
		if _, err := x.CheckRecallID("acme", "r", "ann", 1); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("CheckRecallID: %v", err)
		}
		entries := ledger(t, x, "acme", "r").Entries
		if len(entries) != shared.MaxRecallMessages || !slices.IsSortedFunc(entries, func(a, b shared.LedgerEntry) int {
			return int(a.Event.Sequence) - int(b.Event.Sequence)
		}) {
			t.Errorf("%d entries, or not in order", len(entries))
		}
	})
}

func TestLedgerPage_IsBoundedByBytes(t *testing.T) {
	x := openNew(t)
	const n = 60
	for i := range n {
		m := message(fmt.Sprint("m", i))
		for a := range shared.MaxAttachments {
			m.Attachments = append(m.Attachments,
				attached(strings.Repeat("x", shared.MaxAttachmentBytes-8)+fmt.Sprintf("%04d%04d", i, a))...)
		}
		apply(t, x, recall("r", m))
	}
	total, pages := 0, 0
	for req, more := (shared.LedgerRequest{Tenant: "acme", RecallID: "r"}), true; more; pages++ {
		page, err := x.LedgerPage(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if size := len(page.Entries) * 2 * shared.MaxAttachments * shared.MaxAttachmentBytes; size > wire.MaxWireBytes/2 {
			t.Errorf("a page of %d bytes", size)
		}
		total += len(page.Entries)
		req.After, more = page.Next, page.More
	}
	if total != n || pages < 3 {
		t.Errorf("%d entries in %d pages", total, pages)
	}
}

func TestReads_EndWithTheirContext(t *testing.T) {
	x := openNew(t)
	apply(t, x, recall("r", message("m")), recall("r", message("n"), shared.StepHistory))
	apply(t, x, fail(2, shared.StepHistory, 1, ""))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, read := range map[string]func() error{
		"Since": func() error {
			conversations := []shared.Conversation{message("m").Conversation}
			_, err := x.Since(ctx, shared.SinceRequest{Tenant: "acme", Conversations: conversations})
			return err
		},
		"LedgerPage": func() error {
			_, err := x.LedgerPage(ctx, shared.LedgerRequest{Tenant: "acme", RecallID: "r"})
			return err
		},
		"OpenSteps":       func() error { _, err := x.OpenSteps(ctx, shared.StepNotify, 0, 10); return err },
		"BackingOff":      func() error { _, err := x.BackingOff(ctx, shared.StepHistory, 1, 0, 10, 10); return err },
		"Gated":           func() error { _, err := x.Gated(ctx, 0, 10); return err },
		"CountOpen":       func() error { _, err := x.CountOpen(ctx, nil); return err },
		"CountBackingOff": func() error { _, err := x.CountBackingOff(ctx, shared.StepHistory, 10); return err },
	} {
		if err := read(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
