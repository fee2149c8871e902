package index

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// related is a message that relates to others.
func related(id string, relations ...shared.Relation) shared.Message {
	m := message(id)
	m.Relations = relations
	return m
}

func to(kind shared.RelationKind, id string) shared.Relation {
	return shared.Relation{Kind: kind, MessageID: id}
}

func edit(id, of string) shared.Message    { return related(id, to(shared.RelationEdit, of)) }
func quote(id, of string) shared.Message   { return related(id, to(shared.RelationQuote, of)) }
func forward(id, of string) shared.Message { return related(id, to(shared.RelationForward, of)) }

// judged is the recall of a message as the engine decides it: with what relates to it now. Messages that are named
// stay.
func judged(t testing.TB, x *Index, id string, m shared.Message, cascade Kinds, stay ...string) Op {
	t.Helper()
	op := recall(id, m)
	op.Recall.Cascade = cascade
	with, err := x.FindRelated(op.Recall, nil, func(m *shared.Message) bool { return slices.Contains(stay, m.ID) })
	if err != nil {
		t.Fatal(err)
	}
	op.Recall.With = with
	if _, op.Recall.Originals, err = x.EditFacts(m); err != nil {
		t.Fatal(err)
	}
	return op
}

// finish goes on with open cascades until there are none.
func finish(t testing.TB, x *Index, stay ...string) (operations int) {
	t.Helper()
	for x.HasOpenCascades() {
		open, err := x.OpenCascades(t.Context(), 3)
		if err != nil || len(open) == 0 {
			t.Fatalf("%d open cascades, %v", len(open), err)
		}
		for _, at := range open {
			op, err := x.FindCascade(at, func(_ *shared.Event, m *shared.Message) bool { return slices.Contains(stay, m.ID) })
			if err != nil {
				t.Fatal(err)
			}
			if r := apply(t, x, Op{Cascade: op})[0]; !r.New {
				t.Fatalf("%+v of %+v", r, op)
			}
			operations++
		}
	}
	return operations
}

// recalled lists the messages of a ledger, and what each event says about others.
func recalledIn(t testing.TB, x *Index, recallID string) []string {
	t.Helper()
	var list []string
	for _, e := range ledger(t, x, "acme", recallID).Entries {
		s := e.Event.Message.ID
		if c := e.Event.Cause; c != nil {
			s += fmt.Sprintf(" %s of %s", c.Kind, c.MessageID)
		}
		for _, r := range e.Event.Related {
			s += fmt.Sprintf(", not %s %s", r.Kind, r.MessageID)
		}
		if e.Event.MoreRelated {
			s += " and more"
		}
		list = append(list, s)
	}
	return list
}

func wantRecalled(t testing.TB, x *Index, recallID string, want ...string) {
	t.Helper()
	if got := recalledIn(t, x, recallID); !slices.Equal(got, want) {
		t.Errorf("%s recalled\n%s\nwant\n%s", recallID, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRelations_EditsGoWithTheirOriginal(t *testing.T) {
	x := openNew(t)
	m := message("m")
	apply(t, x, put(m), put(edit("e1", "m")), put(edit("e2", "e1")), put(quote("q", "m")), put(quote("q1", "e1")),
		put(message("other")))
	if r := apply(t, x, judged(t, x, "r", m, 0))[0]; !r.New {
		t.Fatalf("%+v", r)
	}
	wantRecalled(t, x, "r", "m, not quote q", "e1 edit of m, not quote q1", "e2 edit of e1")
	for _, id := range []string{"m", "e1", "e2"} {
		if got := apply(t, x, put(edit(id, "m")))[0].Put; got != shared.IndexRecalled {
			t.Errorf("%s is %s", id, got)
		}
	}
	entries := ledger(t, x, "acme", "r").Entries
	root, edited := entries[0].Event, entries[1].Event
	edited.Sequence, edited.Message, edited.Related, edited.Cause = root.Sequence, root.Message, root.Related, nil
	if !reflect.DeepEqual(root, edited) {
		t.Errorf("an edit is recalled by\n%+v\nand its original by\n%+v", edited, root)
	}
}

func TestRelations_Cascade(t *testing.T) {
	x := openNew(t)
	m := message("m", "file")
	copied := forward("f", "m")
	copied.Attachments = []shared.Attachment{{Key: "file", Owner: "ann"}}
	copied.Sender, copied.Conversation.ID = "bob", "g2"
	apply(t, x, put(m), put(copied), put(forward("ff", "f")), put(edit("fe", "f")), put(quote("held", "m")),
		put(quote("behind", "held")), put(related("both", to(shared.RelationReply, "m"), to(shared.RelationForward, "ff"))))
	apply(t, x, judged(t, x, "r", m, KindsOf(shared.RelationQuote, shared.RelationForward), "held"))
	wantRecalled(t, x, "r", "m, not quote held", "f forward of m", "fe edit of f", "ff forward of f",
		"both forward of ff")
	files := ledger(t, x, "acme", "r").Entries
	if len(files[0].Event.Attachments) != 0 || !slices.Equal(keysOf(files[1].Event.Attachments), []string{"file"}) {
		t.Errorf("the file that both use is released by %v and %v", files[0].Event.Attachments, files[1].Event.Attachments)
	}
	c := shared.Conversation{Type: shared.ConversationGroup, ID: "g2"}
	page, err := x.Since(t.Context(), shared.SinceRequest{Tenant: "acme", Conversations: []shared.Conversation{c}})
	if err != nil || len(page.Events) != 1 || page.Events[0].Message.ID != "f" {
		t.Errorf("the other conversation has %+v, %v", page.Events, err)
	}
}

func TestRelations_Cycle(t *testing.T) {
	x := openNew(t)
	a, b := edit("a", "b"), edit("b", "a")
	apply(t, x, put(a), put(b))
	apply(t, x, judged(t, x, "r", a, 0))
	wantRecalled(t, x, "r", "a", "b edit of a")
	if facts, _, err := x.EditFacts(edit("c", "c2")); err != nil || facts.ID != "c" {
		t.Errorf("%+v %v", facts, err)
	}
}

func TestRelations_ChangedSinceTheyWereJudged(t *testing.T) {
	for name, change := range map[string]Op{
		"a new edit": put(edit("e2", "m")),
		"a label":    {Amend: &shared.Amendment{Tenant: "acme", MessageID: "e1", Labels: []string{"hold"}}},
		"recalled":   {Recall: &Recall{Event: recall("other", edit("e1", "m")).Recall.Event}},
	} {
		t.Run(name, func(t *testing.T) {
			x := openNew(t)
			m := message("m")
			apply(t, x, put(m), put(edit("e1", "m")))
			if r := change.Recall; r != nil {
				r.Originals = judged(t, x, "other", edit("e1", "m"), 0).Recall.Originals
			}
			op := judged(t, x, "r", m, 0)
			apply(t, x, change)
			if got := apply(t, x, op)[0]; !same(got, Result{Stale: true}) {
				t.Errorf("got %+v", got)
			}
			if got := apply(t, x, judged(t, x, "r", m, 0))[0]; !got.New {
				t.Errorf("judged again: %+v", got)
			}
		})
	}
	t.Run("by an operation before it in the entry", func(t *testing.T) {
		x := openNew(t)
		m := message("m")
		apply(t, x, put(m), put(edit("e1", "m")))
		if got := apply(t, x, put(edit("e2", "m")), judged(t, x, "r", m, 0)); !same(got[1], Result{Stale: true}) {
			t.Errorf("got %+v", got)
		}
	})
}

func TestRelations_Atomic(t *testing.T) {
	x := openNew(t)
	m, q := message("m"), quote("q", "m")
	apply(t, x, put(m), put(q), put(edit("e", "q")))
	gone := map[string]bool{}
	var ops []Op
	for _, target := range []shared.Message{q, m} { // the second one would recall the first one, too
		op := recall("r", target)
		op.Recall.Atomic, op.Recall.Cascade = true, KindsOf(shared.RelationQuote)
		with, err := x.FindRelated(op.Recall, gone, func(*shared.Message) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		op.Recall.With = with
		gone[target.ID] = true
		for _, w := range with {
			gone[w.Message.ID] = true
		}
		ops = append(ops, op)
	}
	if got := apply(t, x, ops...); !got[0].New || !got[1].New {
		t.Fatalf("got %+v", got)
	}
	wantRecalled(t, x, "r", "q", "e edit of q", "m")
}

func TestRelations_LateArrivals(t *testing.T) {
	x := openNew(t)
	m := message("m")
	m.Ref = "row 7"
	early := edit("early", "late") // it comes before the message that it edits
	apply(t, x, put(m), put(early), put(message("live")))
	apply(t, x, judged(t, x, "r", m, KindsOf(shared.RelationForward)))
	for _, c := range []struct {
		m       shared.Message
		want    shared.IndexStatus
		related []shared.Related
	}{
		{edit("e", "m"), shared.IndexRecalled, nil},
		{forward("late", "m"), shared.IndexRecalled, nil},
		{forward("f2", "late"), shared.IndexRecalled, nil},
		{quote("q", "m"), shared.IndexAdded, []shared.Related{
			{Kind: shared.RelationQuote, MessageID: "m", Conversation: m.Conversation, Ref: "row 7"},
		}},
		{quote("fine", "live"), shared.IndexAdded, nil},
		{quote("unknown", "nobody"), shared.IndexAdded, nil},
	} {
		got := apply(t, x, put(c.m))[0]
		if got.Put != c.want || !reflect.DeepEqual(got.Related, c.related) {
			t.Errorf("%s: %+v", c.m.ID, got)
		}
		again := apply(t, x, put(c.m))[0]
		if c.want == shared.IndexAdded &&
			(again.Put != shared.IndexUnchanged || !reflect.DeepEqual(again.Related, c.related)) {
			t.Errorf("%s again: %+v", c.m.ID, again)
		}
	}
	wantRecalled(t, x, "r", "m", "e edit of m", "late forward of m and more", "f2 forward of late")
	finish(t, x)
	wantRecalled(t, x, "r", "m", "e edit of m", "late forward of m and more", "f2 forward of late", "early edit of late")
}

func TestRelations_StepsOfALateArrival(t *testing.T) {
	x := openNew(t)
	m := message("m")
	op := recallInOrder("m", shared.StepNotify, shared.StepHistory, shared.StepAttachments, "own", "none")
	op.Recall.Event.Message, op.Recall.Unsupported = m, []string{"none"}
	apply(t, x, put(m), op) // it has no attachments, so that nothing waits for that step
	late := edit("e", "m")
	late.Attachments = attached("file")
	apply(t, x, put(late))
	entries := ledger(t, x, "acme", "r-m").Entries
	if len(entries) != 2 || len(entries[1].Steps) != 5 || entries[1].Steps[4].Outcome != shared.OutcomeUnsupported {
		t.Fatalf("%+v", entries)
	}
	apply(t, x, settle(2, shared.StepNotify, shared.OutcomeDone))
	apply(t, x, settle(2, shared.StepHistory, shared.OutcomeDone))
	if got := queued(t, x, "own"); slices.Contains(got, 2) {
		t.Errorf("own does not wait for attachments: %v", got)
	}
	apply(t, x, settle(2, shared.StepAttachments, shared.OutcomeDone))
	if got := queued(t, x, "own"); !slices.Contains(got, 2) {
		t.Errorf("own waits: %v", got)
	}
}

// More than fits in one commit follows in others, also after a crash between them, and nothing twice.
func TestRelations_Many(t *testing.T) {
	const edits, quotes = 3*shared.MaxRelated + 7, 2 * shared.MaxRelated
	path := t.TempDir()
	x := openAt(t, path)
	m := message("m")
	ops := []Op{put(m)}
	for i := range edits {
		ops = append(ops, put(edit(fmt.Sprintf("e%03d", i), "m")))
	}
	for i := range quotes {
		ops = append(ops, put(quote(fmt.Sprintf("q%03d", i), fmt.Sprintf("e%03d", i))))
	}
	apply(t, x, ops...)
	apply(t, x, judged(t, x, "r", m, KindsOf(shared.RelationQuote)))
	if n := len(recalledIn(t, x, "r")); n != 1+shared.MaxRelated || !x.HasOpenCascades() {
		t.Fatalf("%d messages in the first commit", n)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = openAt(t, path)
	if late := apply(t, x, put(edit("late", "m")))[0]; late.Put != shared.IndexRecalled {
		t.Errorf("%+v", late)
	}
	open, err := x.OpenCascades(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	op, err := x.FindCascade(open[0], func(*shared.Event, *shared.Message) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	if got := apply(t, x, Op{Cascade: op}, Op{Cascade: op}); !got[0].New || !same(got[1], Result{}) {
		t.Errorf("twice: %+v", got)
	}
	finish(t, x)
	list := recalledIn(t, x, "r")
	slices.Sort(list)
	if n := len(slices.Compact(list)); n != 1+edits+quotes+1 || len(list) != n {
		t.Errorf("%d messages, %d different ones; want %d", len(list), n, 1+edits+quotes+1)
	}
	if left := relationKeys(t, x); len(left) > 0 {
		t.Errorf("relations are left: %q", left)
	}
}

// relationKeys lists the keys of relations.
func relationKeys(t testing.TB, x *Index) (list []string) {
	t.Helper()
	for k := range contents(t, x) {
		if k[0] == 'x' {
			list = append(list, k)
		}
	}
	return list
}

func TestRelations_ManyThatStay(t *testing.T) {
	const n = 2*shared.MaxRelated + 5
	x := openNew(t)
	m := message("m")
	apply(t, x, put(m), put(edit("z", "m")))
	for i := range n {
		apply(t, x, put(quote(fmt.Sprintf("q%03d", i), "m")))
	}
	apply(t, x, judged(t, x, "r", m, 0))
	events := ledger(t, x, "acme", "r").Entries
	if e := events[0].Event; len(e.Related) != shared.MaxRelated-1 || !e.MoreRelated {
		t.Fatalf("%d related, more %v", len(e.Related), e.MoreRelated)
	}
	finish(t, x)
	var ids []string
	req := shared.RelatedRequest{Tenant: "acme", MessageID: "m", Limit: 50}
	for more := true; more; {
		page, err := x.Related(req)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Related {
			ids = append(ids, r.MessageID)
		}
		req.After, more = page.Next, page.More
	}
	if len(ids) != n || !slices.IsSorted(ids) {
		t.Errorf("%d pages of related messages, want %d: %v", len(ids), n, ids)
	}
	for _, after := range []string{"?", "AA", "AAAA"} {
		if _, err := x.Related(shared.RelatedRequest{Tenant: "acme", MessageID: "m", After: after}); err == nil {
			t.Errorf("the cursor %q is taken", after)
		}
	}
}

// A large message fits with those that relate to it; what does not fit in the commit follows.
func TestRelations_Large(t *testing.T) {
	x := openNew(t)
	m := message("m")
	apply(t, x, put(m))
	for i := range 6 {
		e := edit(fmt.Sprint("e", i), "m")
		for k := range 100 {
			e.Attachments = append(e.Attachments, attached(fmt.Sprintf("%0*d", shared.MaxAttachmentBytes, 100*i+k))...)
		}
		apply(t, x, put(e))
	}
	apply(t, x, judged(t, x, "r", m, 0))
	if n := len(recalledIn(t, x, "r")); n != 2 {
		t.Errorf("%d messages in the first commit", n)
	}
	if n := finish(t, x); n != 5 {
		t.Errorf("%d further operations", n)
	}
	if n := len(recalledIn(t, x, "r")); n != 7 {
		t.Errorf("%d messages", n)
	}
}

func TestEditFacts(t *testing.T) {
	x := openNew(t)
	m := message("m")
	m.Labels = []string{"reported"}
	e1, e2 := edit("e1", "m"), edit("e2", "e1")
	e1.SentAt, e2.SentAt = start.Add(1e9), start.Add(2e9)
	e1.Labels, e2.Labels = []string{"hold"}, []string{"pinned"}
	apply(t, x, put(m), put(e1), put(e2))
	for _, of := range []shared.Message{m, e1, e2} {
		got, _, err := x.EditFacts(of)
		if err != nil || !got.SentAt.Equal(start) || got.ID != of.ID ||
			!slices.Equal(got.Labels, []string{"hold", "pinned", "reported"}) {
			t.Errorf("%s is judged as %+v, %v", of.ID, got, err)
		}
	}
	other := message("other")
	other.Labels = []string{"other"}
	apply(t, x, put(other))
	got, _, err := x.EditFacts(related("both", to(shared.RelationEdit, "other"), to(shared.RelationEdit, "e1")))
	if err != nil || !slices.Equal(got.Labels, []string{"hold", "other", "reported"}) {
		t.Errorf("an edit of two is judged as %+v, %v", got, err)
	}
}

// What was judged by its original is judged again if that has changed: got another label, or is known now.
func TestRelations_OriginalChangedSince(t *testing.T) {
	hold := Op{Amend: &shared.Amendment{Tenant: "acme", MessageID: "m", Labels: []string{"hold"}}}
	both := related("both", to(shared.RelationEdit, "m"), to(shared.RelationQuote, "root"))
	late := func(x *Index) Op {
		op := put(related("late", to(shared.RelationEdit, "m"), to(shared.RelationQuote, "root")))
		found, err := x.FindLate(op.Put, func(*shared.Event, *shared.Message) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		op.Judged = &Judged{Late: found}
		return op
	}
	for name, change := range map[string]Op{"a label": hold, "it is known": put(message("m"))} {
		for what, judge := range map[string]func(x *Index) Op{
			"an edit": func(x *Index) Op { return judged(t, x, "r", edit("e2", "e1"), 0) },
			"what goes with another": func(x *Index) Op {
				return judged(t, x, "r", message("root"), KindsOf(shared.RelationQuote))
			},
			"a late one": late,
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				x := openNew(t)
				apply(t, x, put(message("root")), put(edit("e1", "m")), put(edit("e2", "e1")))
				if change.Amend != nil {
					apply(t, x, put(message("m")))
				}
				if what == "a late one" {
					apply(t, x, judged(t, x, "before", message("root"), KindsOf(shared.RelationQuote)))
				} else {
					apply(t, x, put(both))
				}
				op := judge(x)
				apply(t, x, change)
				before := contents(t, x)
				if got := apply(t, x, op)[0]; !same(got, Result{Stale: true}) || !reflect.DeepEqual(contents(t, x), before) {
					t.Errorf("got %+v", got)
				}
				if got := apply(t, x, judge(x))[0]; !got.New && got.Put != shared.IndexRecalled {
					t.Errorf("judged again: %+v", got)
				}
			})
		}
	}
}

// A message without relations costs no key.
func TestRelations_NoAdditionalKey(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("m")))
	apply(t, x, judged(t, x, "r", message("m"), KindsOf(shared.RelationQuote)))
	for k := range contents(t, x) {
		if k[0] == 'x' || k[0] == 'z' {
			t.Errorf("key %q", k)
		}
	}
	if x.HasRelations() {
		t.Error("the index has relations")
	}
}

func TestSalvage_Relations(t *testing.T) {
	x := openNew(t)
	m := message("m")
	ops := []Op{put(m), put(quote("live", "other")), put(quote("q", "m"))}
	for i := range 2 * shared.MaxRelated {
		ops = append(ops, put(edit(fmt.Sprintf("e%03d", i), "m")))
	}
	apply(t, x, ops...)
	apply(t, x, judged(t, x, "r", m, 0))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	path := t.TempDir()
	if _, err := Salvage(t.Context(), x.path, filepath.Join(path, "new"), hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	x = openAt(t, filepath.Join(path, "new"))
	if !x.HasRelations() || !x.HasOpenCascades() {
		t.Fatal("relations or open cascades are lost")
	}
	finish(t, x)
	if n := len(recalledIn(t, x, "r")); n != 1+2*shared.MaxRelated {
		t.Errorf("%d messages are recalled", n)
	}
	if page, err := x.Related(shared.RelatedRequest{Tenant: "acme", MessageID: "other"}); err != nil ||
		len(page.Related) != 1 {
		t.Errorf("%+v %v", page, err)
	}
}

// A message that comes late goes with those recalls only that were asked about.
func TestRelations_LateArrivalsThatStay(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("m1")), put(message("m2")))
	late := func(id string, of ...string) Op {
		t.Helper()
		op := put(related(id, to(shared.RelationEdit, of[0]), to(shared.RelationQuote, of[1])))
		found, err := x.FindLate(op.Put, func(e *shared.Event, _ *shared.Message) bool { return e.Message.ID == "m1" })
		if err != nil {
			t.Fatal(err)
		}
		op.Judged = &Judged{Late: found}
		return op
	}
	early := late("a", "m1", "m2")
	apply(t, x, judged(t, x, "r1", message("m1"), 0))
	before := contents(t, x)
	if r := apply(t, x, early)[0]; !same(r, Result{Stale: true}) || !reflect.DeepEqual(contents(t, x), before) {
		t.Errorf("not asked about: %+v", r)
	}
	if r := apply(t, x, late("a", "m1", "m2"))[0]; r.Put != shared.IndexAdded || len(r.Related) != 1 {
		t.Errorf("it stays: %+v", r)
	}
	apply(t, x, judged(t, x, "r2", message("m2"), KindsOf(shared.RelationQuote), "a"))
	if r := apply(t, x, late("b", "m1", "m2"))[0]; r.Put != shared.IndexRecalled {
		t.Errorf("it goes with the other one: %+v", r)
	}
	wantRecalled(t, x, "r1", "m1")
	wantRecalled(t, x, "r2", "m2, not quote a", "b quote of m2")
}

// The operation of a recall stays small, however large the messages are that relate to it and stay.
func TestRelations_LargeThatStay(t *testing.T) {
	x := openNew(t)
	m := message("m")
	m.Tenant = strings.Repeat("t", shared.MaxIDBytes)
	apply(t, x, put(m))
	const n = 10
	for i := range n {
		apply(t, x, put(huge(fmt.Sprint("q", i), to(shared.RelationQuote, "m"))))
	}
	op := judged(t, x, "r", m, 0)
	if data, err := AppendOp(nil, &op, OpFormat); err != nil || len(data) > 1<<20 {
		t.Errorf("an operation of %d bytes, %v", len(data), err)
	}
	if r := apply(t, x, op)[0]; !r.New {
		t.Errorf("%+v", r)
	}
	if finish(t, x) < n/2 {
		t.Error("the others were not looked at")
	}
}
