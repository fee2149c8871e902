package index

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// waiting is a recall that waits for a message.
func waiting(id, recallID string) Op {
	return Op{Wait: &shared.Waiting{
		Tenant: "acme", MessageID: id, RecallID: recallID, Actor: shared.Actor{ID: "ann"}, Role: shared.RoleMember,
		Conversation: message("m").Conversation, RequestedAt: start, Until: start.Add(time.Hour), State: shared.WaitWaiting,
	}}
}

// decided is the Put of a message with what waits for it, permitted but for those that are refused.
func decided(t testing.TB, x *Index, m shared.Message, refused ...string) Op {
	t.Helper()
	op := put(m)
	waits, err := x.WaitsFor(m.Tenant, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range waits {
		d := Waited{RecallID: w.RecallID}
		if slices.Contains(refused, w.RecallID) {
			d.End = &EndWait{Tenant: w.Tenant, MessageID: w.MessageID, RecallID: w.RecallID, State: shared.WaitRefused,
				Code: shared.CodeForbidden, At: start.UnixMicro()}
		} else {
			r := recall(w.RecallID, m)
			r.Recall.Event.Actor = w.Actor
			d.Recall = r.Recall
		}
		op.Waited = append(op.Waited, d)
	}
	return op
}

func waitStatesOf(t testing.TB, x *Index) (list []string) {
	t.Helper()
	page, err := x.Waits(t.Context(), shared.WaitsRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range page.Waits {
		list = append(list, fmt.Sprintf("%s %s %s %s", w.MessageID, w.RecallID, w.State, w.Code))
	}
	return list
}

func TestWait_RecallsItsMessage(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	if r := apply(t, x, waiting("m", "r1"), waiting("m", "r1"), waiting("m", "r2"), waiting("m", "r3")); !r[0].New ||
		!r[1].New || !r[2].New || !x.HasWaits() {
		t.Fatalf("%+v", r)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = openAt(t, path)
	m := message("m", "file")
	if r := apply(t, x, put(m)); !same(r[0], Result{Stale: true}) {
		t.Fatalf("a message that was indexed without a decision: %+v", r)
	}
	op := decided(t, x, m, "r1")
	r := apply(t, x, op, op, put(m), recall("r2", m))
	if r[0].Put != shared.IndexRecalled || !r[0].New || r[1].Put != shared.IndexRecalled || r[1].New ||
		r[2].Put != shared.IndexRecalled || r[3].New || r[3].Tombstone.RecallID != "r2" {
		t.Fatalf("%+v", r)
	}
	if got := waitStatesOf(t, x); !slices.Equal(got, []string{"m r1 refused forbidden"}) {
		t.Errorf("waits %q", got)
	}
	if e := ledger(t, x, "acme", "r2").Entries; len(e) != 1 || len(e[0].Event.Attachments) != 1 {
		t.Errorf("%+v", e)
	}
	if x.HasWaits() || !x.HasEndedWaits() {
		t.Error("the counts are wrong")
	}
	if n := len(grouped(t, x)); n != 1 {
		t.Errorf("the message is in %d groups", n)
	}
}

func TestWait_MessageIsKnown(t *testing.T) {
	x := openNew(t)
	m := message("m")
	if r := apply(t, x, put(m), waiting("m", "r1")); !same(r[1], Result{Stale: true}) {
		t.Errorf("a live one: %+v", r[1])
	}
	if r := apply(t, x, recall("r", m), waiting("m", "r1")); !same(r[1], Result{Stale: true}) {
		t.Errorf("a recalled one: %+v", r[1])
	}
	// One that is recalled with its facts is no longer waited for.
	if r := apply(t, x, waiting("n", "r1"), recall("r", message("n"))); !r[1].New || x.HasWaits() ||
		waitStatesOf(t, x) != nil {
		t.Errorf("%+v, waits %q", r, waitStatesOf(t, x))
	}
}

func TestWait_RecallIDs(t *testing.T) {
	x := openNew(t)
	bob := waiting("m", "r1")
	bob.Wait.Actor.ID = "bob"
	if r := apply(t, x, waiting("m", "r1"), bob); !same(r[1], Result{OtherActor: true}) {
		t.Errorf("%+v", r[1])
	}
	// Another actor used the recall id between the request and the message.
	other := recall("r1", message("other"))
	other.Recall.Event.Actor.ID = "zoe"
	apply(t, x, other)
	if r := apply(t, x, decided(t, x, message("m"))); r[0].Put != shared.IndexAdded {
		t.Errorf("%+v", r[0])
	}
	if got := waitStatesOf(t, x); !slices.Equal(got, []string{"m r1 refused recall_id_used"}) {
		t.Errorf("waits %q", got)
	}
}

func TestWait_Limits(t *testing.T) {
	x := openNew(t)
	for i := range shared.MaxIDWaits {
		apply(t, x, waiting("m", fmt.Sprint("r", i)))
	}
	if r := apply(t, x, waiting("m", "more"), waiting("m", "r0")); !same(r[0], Result{Full: true}) || !r[1].New {
		t.Errorf("for one message: %+v", r)
	}
	var ops []Op
	for i := range shared.MaxActorWaits {
		ops = append(ops, waiting(fmt.Sprint("n", i), "r"))
	}
	r := apply(t, x, ops...)
	if n := slices.IndexFunc(r, func(r Result) bool { return r.Full }); n != shared.MaxActorWaits-shared.MaxIDWaits {
		t.Errorf("%d wait", n)
	}
	bob := waiting("n", "r")
	bob.Wait.Actor.ID = "bob"
	if r := apply(t, x, bob); !r[0].New {
		t.Errorf("another actor: %+v", r[0])
	}
}

func TestOverdueWaits(t *testing.T) {
	x := openNew(t)
	late := waiting("m2", "r")
	late.Wait.Until = start.Add(2 * time.Hour)
	apply(t, x, waiting("m1", "r"), late)
	end := func(now, forget time.Duration) {
		t.Helper()
		ends, err := x.OverdueWaits(t.Context(), start.Add(now).UnixMicro(), start.Add(forget).UnixMicro(), 9)
		if err != nil {
			t.Fatal(err)
		}
		for i := range ends {
			apply(t, x, Op{EndWait: &ends[i]}, Op{EndWait: &ends[i]})
		}
	}
	for _, c := range []struct {
		now, forget time.Duration
		want        []string
	}{
		{time.Hour, 0, []string{"m1 r waiting ", "m2 r waiting "}},
		{time.Hour + 1e6, 0, []string{"m1 r expired ", "m2 r waiting "}},
		{3 * time.Hour, 0, []string{"m1 r expired ", "m2 r expired "}},
		{4 * time.Hour, 2 * time.Hour, []string{"m2 r expired "}},
		{4 * time.Hour, 4 * time.Hour, nil},
	} {
		if end(c.now, c.forget); !slices.Equal(waitStatesOf(t, x), c.want) {
			t.Errorf("after %s: %q, want %q", c.now, waitStatesOf(t, x), c.want)
		}
	}
	if x.HasWaits() || x.HasEndedWaits() {
		t.Error("the counts are wrong")
	}
}

func TestWait_WithRelations(t *testing.T) {
	x := openNew(t)
	m := message("m")
	apply(t, x, put(edit("e", "m")), waiting("m", "r"))
	op := decided(t, x, m)
	if r := apply(t, x, op); !same(r[0], Result{Stale: true}) {
		t.Fatalf("without what relates to it: %+v", r)
	}
	with, err := x.FindRelated(op.Waited[0].Recall, nil, func(*With) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	op.Waited[0].Recall.With = with
	if r := apply(t, x, op); r[0].Put != shared.IndexRecalled {
		t.Fatalf("%+v", r)
	}
	wantRecalled(t, x, "r", "m", "e edit of m")
}

func TestSalvage_Waits(t *testing.T) {
	x := openNew(t)
	apply(t, x, waiting("m", "r"), put(message("n")))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "new")
	if _, err := Salvage(t.Context(), x.path, path, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	x = openAt(t, path)
	if got := waitStatesOf(t, x); !slices.Equal(got, []string{"m r waiting "}) || !x.HasWaits() {
		t.Errorf("waits %q", got)
	}
}
