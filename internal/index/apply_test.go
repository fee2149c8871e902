package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
)

func TestPut_FirstFactsStay(t *testing.T) {
	x := openNew(t)
	first := message("m1", "b", "a", "b")
	first.Labels = []string{"y", "x"}
	first.SentAt = start.Add(1500 * time.Nanosecond)
	change := func(f func(*shared.Message)) shared.Message {
		m := first
		f(&m)
		return m
	}
	for _, c := range []struct {
		name string
		m    shared.Message
		want shared.IndexStatus
	}{
		{"first", first, shared.IndexAdded},
		{"again", first, shared.IndexUnchanged},
		{"sets in another order", change(func(m *shared.Message) {
			m.Attachments, m.Labels = attached("a", "b"), []string{"x", "y"}
		}), shared.IndexUnchanged},
		{"same microsecond elsewhere", change(func(m *shared.Message) {
			m.SentAt = start.Add(1900 * time.Nanosecond).In(time.FixedZone("x", 3600))
		}), shared.IndexUnchanged},
		{"conversation", change(func(m *shared.Message) { m.Conversation.ID = "g2" }), shared.IndexConflict},
		{"conversation type", change(func(m *shared.Message) {
			m.Conversation.Type = shared.ConversationChatroom
		}), shared.IndexConflict},
		{"sender", change(func(m *shared.Message) { m.Sender = "bob" }), shared.IndexConflict},
		{"type", change(func(m *shared.Message) { m.Type = shared.TypeImage }), shared.IndexConflict},
		{"time", change(func(m *shared.Message) { m.SentAt = start.Add(time.Hour) }), shared.IndexConflict},
		{"attachment", change(func(m *shared.Message) { m.Attachments = attached("a") }), shared.IndexConflict},
		{"label", change(func(m *shared.Message) { m.Labels = nil }), shared.IndexConflict},
	} {
		if got := apply(t, x, put(c.m))[0].Put; got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	records, err := x.Messages("acme", []string{"m1", "no"})
	if err != nil || records[1] != nil || !reflect.DeepEqual(records[0].Message, normal(first)) {
		t.Fatalf("%v %v", records, err)
	}
	apply(t, x, recall("r1", first))
	if got := apply(t, x, put(first))[0].Put; got != shared.IndexRecalled {
		t.Errorf("same facts of a recalled message: %s", got)
	}
	if got := apply(t, x, put(change(func(m *shared.Message) { m.Sender = "bob" })))[0].Put; got != shared.IndexRecalled {
		t.Errorf("other facts of a recalled message: %s", got)
	}
}

func TestRecall_FirstTombstoneStays(t *testing.T) {
	x := openNew(t)
	m := message("m1")
	first := apply(t, x, put(m), recall("r1", m), recall("r2", m))
	if !first[1].New || first[2].New || *first[2].Tombstone != *first[1].Tombstone || first[2].Tombstone.RecallID != "r1" {
		t.Fatalf("%+v", first)
	}
	if again := apply(t, x, recall("r1", m))[0]; again.New || *again.Tombstone != *first[1].Tombstone {
		t.Fatalf("%+v", again)
	}
	if n := len(ledger(t, x, "acme", "r2").Entries); n != 0 {
		t.Errorf("the recall that came too late has %d entries", n)
	}
	e := ledger(t, x, "acme", "r1").Entries[0].Event
	want := recall("r1", normal(m)).Recall.Event
	want.Sequence = 1
	if !reflect.DeepEqual(e, want) {
		t.Errorf("event\n%+v\nwant\n%+v", e, want)
	}
}

func TestRecall_UnknownMessage(t *testing.T) {
	x := openNew(t)
	m := message("m1", "file")
	if r := apply(t, x, recall("r1", m))[0]; !r.New {
		t.Fatalf("%+v", r)
	}
	if got := apply(t, x, put(m))[0].Put; got != shared.IndexRecalled {
		t.Errorf("%s", got)
	}
	if got := ledger(t, x, "acme", "r1").Entries[0].Event.Attachments; !slices.Equal(got, attached("file")) {
		t.Errorf("attachments %v", got)
	}
	if got := apply(t, x, put(message("m2", "file")), recall("r2", message("m2", "file")))[1]; !got.New {
		t.Errorf("%+v", got)
	}
}

func same(a, b Result) bool { return reflect.DeepEqual(a, b) }

func TestRecall_FactsChangedSinceItWasJudged(t *testing.T) {
	x := openNew(t)
	m := message("m1")
	apply(t, x, put(m))
	m.Sender = "bob"
	if got := apply(t, x, recall("r1", message("m2")), recall("r1", m)); !got[0].New ||
		!same(got[1], Result{Stale: true}) {
		t.Errorf("got %+v", got)
	}
	if n := len(ledger(t, x, "acme", "r1").Entries); n != 1 {
		t.Errorf("%d messages were recalled", n)
	}
}

func TestRecall_Atomic(t *testing.T) {
	atomic := func(ids ...string) (ops []Op) {
		for _, id := range ids {
			op := recall("all", message(id))
			op.Recall.Atomic = true
			ops = append(ops, op)
		}
		return ops
	}
	x := openNew(t)
	apply(t, x, put(message("a")), put(message("b")), put(message("c")), put(message("d")))
	t.Run("one is stale", func(t *testing.T) {
		ops := atomic("a", "b")
		ops[1].Recall.Event.Message.Sender = "bob"
		if got := apply(t, x, ops...); !same(got[0], Result{Aborted: true}) || !same(got[1], Result{Stale: true}) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("the recall id is another actor's", func(t *testing.T) {
		other := recall("all", message("c"))
		other.Recall.Event.Actor.ID = "zoe"
		apply(t, x, other)
		want := Result{OtherActor: true}
		if got := apply(t, x, atomic("a", "b")...); !same(got[0], want) || !same(got[1], want) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("one is recalled already", func(t *testing.T) {
		ops := atomic("a", "c")
		for i := range ops {
			ops[i].Recall.Event.RecallID = "rest"
		}
		if got := apply(t, x, ops...); !got[0].New || got[1].New || got[1].Tombstone.RecallID != "all" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("too large for one transaction", func(t *testing.T) {
		large := func(id string) shared.Message {
			m := message(id)
			for i := range 100 {
				m.Attachments = append(m.Attachments, attached(fmt.Sprintf("%0*d", shared.MaxAttachmentBytes, i))...)
			}
			return m
		}
		var puts, ops []Op
		for i := range 20 {
			m := large(fmt.Sprint("large", i))
			op := recall("large", m)
			op.Recall.Atomic = true
			puts, ops = append(puts, put(m)), append(ops, op)
		}
		apply(t, x, puts...)
		_, err := x.Append(t.Context(), ops)
		if !errors.Is(err, shared.ErrInvalid) || !strings.Contains(err.Error(), "targets") {
			t.Errorf("got %v", err)
		}
		if n := len(ledger(t, x, "acme", "large").Entries); n != 0 {
			t.Errorf("%d of them were recalled", n)
		}
		// The refused call leaves nothing.
		if got := apply(t, x, recall("after", message("d"))); !got[0].New {
			t.Errorf("got %+v", got)
		}
		if e := ledger(t, x, "acme", "after").Entries; len(e) != 1 || e[0].Event.Sequence != x.LastSequence() {
			t.Errorf("got %+v, last sequence %d", e, x.LastSequence())
		}
	})
}

func TestAttachment_ReleasedWithItsOwnersMessage(t *testing.T) {
	x := openNew(t)
	link := func(id string) shared.Message { // zoe's file, sent by ann
		m := message(id)
		m.Attachments = []shared.Attachment{{Key: "f", Owner: "zoe"}}
		return m
	}
	original := message("original", "f")
	original.Sender = "zoe"
	apply(t, x, put(original), put(link("link1")), put(link("link2")), put(link("link3")))
	released := func(recallID string) string {
		return fmt.Sprint(keysOf(ledger(t, x, "acme", recallID).Entries[0].Event.Attachments))
	}
	for _, step := range []struct {
		m    shared.Message
		want string
	}{
		{link("link1"), "[]"}, // other messages use it
		{original, "[]"},      // links use it
		{link("link2"), "[]"},
		{link("link3"), "[f]"}, // the last one, and the owner's is recalled
	} {
		apply(t, x, recall("recall-"+step.m.ID, step.m))
		if got := released("recall-" + step.m.ID); got != step.want {
			t.Errorf("the recall of %s released %s, want %s", step.m.ID, got, step.want)
		}
	}
	apply(t, x, put(link("link4")), recall("recall-link4", link("link4")))
	if got := released("recall-link4"); got != "[]" {
		t.Errorf("a link that nobody else uses released %s: its owner recalled nothing", got)
	}
}

func TestAmend_AttachmentsThatAreNoLongerUsed(t *testing.T) {
	x := openNew(t)
	a, b := message("a", "f"), message("b", "f")
	apply(t, x, put(a), put(b), Op{Amend: &shared.Amendment{Tenant: "acme", MessageID: "b", Attachments: attached("g")}})
	b.Attachments = attached("g")
	apply(t, x, recall("ra", a), recall("rb", b))
	for id, want := range map[string]string{"ra": "[f]", "rb": "[g]"} {
		if got := fmt.Sprint(keysOf(ledger(t, x, "acme", id).Entries[0].Event.Attachments)); got != want {
			t.Errorf("%s released %s, want %s", id, got, want)
		}
	}
}

func TestAttachment_ReleasedWithItsLastMessage(t *testing.T) {
	for _, batches := range [][]int{{4}, {1, 1, 1, 1}, {3, 1}} {
		x := openNew(t)
		a, b := message("a", "shared", "own-a"), message("b", "shared")
		other := message("a", "shared")
		other.Tenant = "acme/2"
		prefix := message("c", "shared-not")
		ops := []Op{put(a), put(b), put(other), put(prefix)}
		apply(t, x, ops...)
		ops = []Op{recall("r1", a), recall("r1", b), recall("r2", other), recall("r3", prefix)}
		for _, n := range batches {
			apply(t, x, ops[:n]...)
			ops = ops[n:]
		}
		var got []string
		for _, e := range ledger(t, x, "acme", "r1").Entries {
			got = append(got, e.Event.Message.ID+fmt.Sprint(keysOf(e.Event.Attachments)))
		}
		if want := []string{"a[own-a]", "b[shared]"}; !slices.Equal(got, want) {
			t.Errorf("in batches of %v: %v, want %v", batches, got, want)
		}
		if e := ledger(t, x, "acme/2", "r2").Entries[0].Event; !slices.Equal(e.Attachments, attached("shared")) {
			t.Errorf("another tenant: %v", e.Attachments)
		}
	}
}

func TestAttachment_OfAMessageOfTheSameEntry(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("a", "f")))
	apply(t, x, put(message("b", "f")), recall("r", message("a", "f")))
	if got := ledger(t, x, "acme", "r").Entries[0].Event.Attachments; got != nil {
		t.Errorf("%v is still used by b", got)
	}
}

func TestSettle_NotifyFirst(t *testing.T) {
	for _, outcome := range []shared.Outcome{shared.OutcomeDone, shared.OutcomeNothingToDo, shared.OutcomeUnsupported} {
		x := openNew(t)
		m := message("m", "f")
		op := recall("r", m)
		op.Recall.Unsupported = []string{shared.StepPush, shared.StepSearch}
		apply(t, x, op)
		if got := queues(t, x); got != "[notify]" {
			t.Fatalf("open at first: %s", got)
		}
		apply(t, x, fail(1, shared.StepNotify, 1, "busy"))
		if got := queues(t, x); got != "[notify]" {
			t.Fatalf("open after notify failed: %s", got)
		}
		apply(t, x, settle(1, shared.StepNotify, outcome))
		if got := queues(t, x); got != "[attachments history offline roaming]" {
			t.Fatalf("open after notify was %s: %s", outcome, got)
		}
	}
}

func TestRecall_WithoutNotify(t *testing.T) {
	x := openNew(t)
	unsupported := recall("r1", message("a"))
	unsupported.Recall.Unsupported = []string{shared.StepNotify}
	apply(t, x, unsupported, recall("r2", message("b"), shared.StepRoaming))
	if got := queues(t, x); got != "[history offline push roaming search]" {
		t.Errorf("%s", got)
	}
	if open := queued(t, x, shared.StepRoaming); !slices.Equal(open, []uint64{1, 2}) {
		t.Errorf("%v", open)
	}
	none := recall("r3", message("c"), shared.StepPush)
	none.Recall.Unsupported = []string{shared.StepPush}
	apply(t, x, none)
	if e := ledger(t, x, "acme", "r3").Entries[0].Steps[0]; e.Outcome != shared.OutcomeUnsupported || e.Attempts != 0 {
		t.Errorf("%+v", e)
	}
}

func TestSettle_SettledStep(t *testing.T) {
	x := openNew(t)
	apply(t, x, recall("r", message("m", "f"), shared.StepHistory, shared.StepAttachments))
	apply(t, x, fail(1, shared.StepHistory, 1, "disk"), settle(1, shared.StepHistory, shared.OutcomeDone),
		fail(1, shared.StepHistory, 3, "late"), settle(1, shared.StepHistory, shared.OutcomeNothingToDo))
	steps := ledger(t, x, "acme", "r").Entries[0].Steps
	want := []shared.StepRecord{
		{
			Step: shared.StepHistory, Outcome: shared.OutcomeDone, Attempts: 2, Error: "disk",
			ChangedAt: start.Add(2 * time.Minute),
		},
		{Step: shared.StepAttachments},
	}
	if !reflect.DeepEqual(steps, want) {
		t.Errorf("%+v", steps)
	}
	if e, err := x.Entry(1, shared.StepHistory); e != nil || err != nil {
		t.Errorf("entry of a settled step: %v %v", e, err)
	}
	e, err := x.Entry(1, shared.StepAttachments)
	if err != nil || e.Event.Sequence != 1 || !slices.Equal(e.Event.Attachments, attached("f")) {
		t.Errorf("entry of an open step: %+v %v", e, err)
	}
}

func TestRecall_NoAttachments(t *testing.T) {
	x := openNew(t)
	apply(t, x, recall("r", message("m"), shared.StepAttachments))
	s := ledger(t, x, "acme", "r").Entries[0].Steps[0]
	if s.Outcome != shared.OutcomeNothingToDo || s.ChangedAt != start.Add(time.Minute) || queues(t, x) != "[]" {
		t.Errorf("%+v, open %s", s, queues(t, x))
	}
}

// opened applies one entry of one call and returns the steps that it opened.
func opened(t *testing.T, x *Index, ops ...Op) map[string]uint64 {
	t.Helper()
	applied, err := x.Apply([][]Op{ops})
	if err != nil || applied.Answers[0].Refused != nil {
		t.Fatalf("%+v %v", applied, err)
	}
	return applied.Opened
}

func TestApply_OpenedSteps(t *testing.T) {
	x := openNew(t)
	m := message("m")
	for _, c := range []struct {
		name string
		ops  []Op
		want map[string]uint64
	}{
		{"a recall", []Op{put(m), recall("r", m, shared.StepNotify, shared.StepHistory)}, map[string]uint64{"notify": 1}},
		{"a recalled message", []Op{recall("r", m, shared.StepNotify)}, nil},
		{"a failed attempt", []Op{fail(1, shared.StepNotify, 1, "")}, nil},
		{"notify is settled", []Op{settle(1, shared.StepNotify, shared.OutcomeDone)}, map[string]uint64{"history": 1}},
		{"another recall", []Op{recall("r", message("n"), "notify", "history")}, map[string]uint64{"notify": 2}},
		{"a third one", []Op{recall("r", message("o"), "notify", "history")}, map[string]uint64{"notify": 3}},
		{"both are settled", []Op{settle(3, "notify", "done"), settle(2, "notify", "done")}, map[string]uint64{"history": 2}},
	} {
		if got := opened(t, x, c.ops...); !maps.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestRecall_Race(t *testing.T) {
	x := openNew(t)
	m := message("m")
	apply(t, x, put(m))
	const racers = 32
	results := make([]Result, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			r, err := x.Append(context.Background(), []Op{recall(fmt.Sprint("r", i), m)})
			if err != nil {
				t.Error(err)
				return
			}
			results[i] = r[0]
		})
	}
	wg.Wait()
	won := 0
	for _, r := range results {
		if r.New {
			won++
		}
		if *r.Tombstone != *results[0].Tombstone {
			t.Errorf("two tombstones: %+v %+v", r.Tombstone, results[0].Tombstone)
		}
	}
	if won != 1 || x.Stats().Sequence != 1 {
		t.Errorf("%d won, sequence %d", won, x.Stats().Sequence)
	}
}

func TestKeys_OddIDs(t *testing.T) {
	x := openNew(t)
	long := strings.Repeat("x", shared.MaxIDBytes)
	tenants := []string{"a", "a/b", "a/", "a\x01", "ab", long}
	ids := []string{"m", "b/m", "/", "m\x01", "m\x01\x01", "\x01", "m/", long, "m\xc3\xbf"}
	odd := func(tenant, id string) shared.Message {
		m := message(id, "f", "f/"+id)
		m.Tenant, m.Conversation.ID, m.Sender = tenant, id, id
		return m
	}
	for _, tenant := range tenants {
		for _, id := range ids {
			if got := apply(t, x, put(odd(tenant, id)))[0].Put; got != shared.IndexAdded {
				t.Fatalf("%q %q: %s", tenant, id, got)
			}
		}
	}
	for _, tenant := range tenants {
		for i, id := range ids {
			apply(t, x, recall(id, odd(tenant, id), shared.StepHistory))
			records, err := x.Messages(tenant, ids)
			if err != nil {
				t.Fatal(err)
			}
			for j, r := range records {
				if r == nil || r.Message.ID != ids[j] || r.Message.Tenant != tenant || (r.Tombstone != nil) != (j <= i) {
					t.Fatalf("%q after %q: %q is %+v", tenant, id, ids[j], r)
				}
			}
			l := ledger(t, x, tenant, id)
			if len(l.Entries) != 1 || l.Entries[0].Event.Message.ID != id {
				t.Fatalf("%q %q: ledger %+v", tenant, id, l)
			}
			page, err := x.Since(t.Context(), shared.SinceRequest{Tenant: tenant,
				Conversations: []shared.Conversation{{Type: shared.ConversationGroup, ID: id}}})
			if err != nil || len(page.Events) != 1 || page.Events[0].Message.ID != id {
				t.Fatalf("%q %q: since %+v %v", tenant, id, page, err)
			}
			page, err = x.Since(t.Context(), shared.SinceRequest{Tenant: tenant,
				Conversations: []shared.Conversation{{Type: shared.ConversationSingle, ID: id}}})
			if err != nil || len(page.Events) != 0 {
				t.Fatalf("%q %q: a conversation of another type has it: %+v %v", tenant, id, page, err)
			}
		}
	}
}

func TestCheckOps(t *testing.T) {
	x := openNew(t)
	good := put(message("good"))
	bad := func(f func(*shared.Message)) Op {
		m := message("bad")
		f(&m)
		return put(m)
	}
	m := message("bad")
	kept := recall("r", m)
	kept.Recall.Event.Disposition = "keep"
	for name, op := range map[string]Op{
		"nothing set":           {},
		"two set":               {Put: &m, Settle: settle(1, "notify", shared.OutcomeDone).Settle},
		"NUL in id":             bad(func(m *shared.Message) { m.ID = "a\x00b" }),
		"NUL in attachment":     bad(func(m *shared.Message) { m.Attachments = attached("a\x00") }),
		"empty tenant":          bad(func(m *shared.Message) { m.Tenant = "" }),
		"unknown type":          bad(func(m *shared.Message) { m.Type = "hologram" }),
		"no time":               bad(func(m *shared.Message) { m.SentAt = time.Time{} }),
		"too large":             bad(func(m *shared.Message) { m.Attachments = attached(strings.Repeat("x", 1<<20)) }),
		"step name":             recall("r", m, "No"),
		"step twice":            recall("r", m, "a", "a"),
		"outcome":               settle(1, "notify", "maybe"),
		"failure of no attempt": fail(1, "notify", 0, ""),
		"disposition":           kept,
	} {
		if _, err := x.Append(t.Context(), []Op{good, op}); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	atomic := func(id, of, actor string) Op {
		op := recall(id, message(of))
		op.Recall.Atomic, op.Recall.Event.Actor.ID = true, actor
		return op
	}
	for name, ops := range map[string][]Op{
		"atomic with another operation": {atomic("r", "bad", "ann"), good},
		"after another operation":       {good, atomic("r", "bad", "ann")},
		"atomic with one that is not":   {atomic("r", "good", "ann"), recall("r", m)},
		"atomic with two recall ids":    {atomic("r", "good", "ann"), atomic("r2", "bad", "ann")},
		"atomic with two actors":        {atomic("r", "good", "ann"), atomic("r", "bad", "ben")},
		"atomic with a message twice":   {atomic("r", "bad", "ann"), atomic("r", "bad", "ann")},
	} {
		if _, err := x.Append(t.Context(), ops); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r, err := x.Messages("acme", []string{"good", "bad"}); err != nil || r[0] != nil || r[1] != nil {
		t.Errorf("something was written: %v %v", r, err)
	}
	for name, read := range map[string]func() error{
		"Messages": func() error { _, err := x.Messages("acme", []string{"a\x00"}); return err },
		"LedgerPage": func() error {
			_, err := x.LedgerPage(t.Context(), shared.LedgerRequest{Tenant: "acme\x00", RecallID: "r"})
			return err
		},
		"Entry": func() error { _, err := x.Entry(1, "a\x00"); return err },
		"Since": func() error { _, err := x.Since(t.Context(), shared.SinceRequest{Tenant: "\x00"}); return err },
	} {
		if err := read(); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%s of a NUL: %v", name, err)
		}
	}
}

// What the rules asked for is told the same wherever the recall is read, also after a step was settled.
func TestRecall_KeepsWhatTheRulesAskedFor(t *testing.T) {
	x := openNew(t)
	op := recall("r1", message("m1"))
	apply(t, x, op)
	apply(t, x, settle(1, shared.StepNotify, shared.OutcomeDone))
	page, err := x.Since(t.Context(), shared.SinceRequest{
		Tenant: "acme", Conversations: []shared.Conversation{message("m1").Conversation},
	})
	if err != nil {
		t.Fatal(err)
	}
	entry, err := x.Entry(1, shared.StepHistory)
	if err != nil {
		t.Fatal(err)
	}
	want := op.Recall.Event
	for where, e := range map[string]shared.Event{
		"the ledger": ledger(t, x, "acme", "r1").Entries[0].Event, "a page": page.Events[0], "an open step": entry.Event,
	} {
		if !e.Silent || !reflect.DeepEqual(e.Placeholder, want.Placeholder) || e.Disposition != want.Disposition ||
			e.Retention != want.Retention {
			t.Errorf("%s: %+v", where, e)
		}
	}
}
