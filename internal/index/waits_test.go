package index

import (
	"cmp"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
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

// decided is the Put of a message with what waits for it: the first one that is not refused is permitted.
func decided(t testing.TB, x *Index, m shared.Message, refused ...string) Op {
	t.Helper()
	op := put(m)
	op.Judged = &Judged{}
	waits, err := x.WaitsFor(&m)
	if err != nil {
		t.Fatal(err)
	}
	permitted := false
	for _, w := range waits {
		d := Waited{RecallID: w.RecallID, RequestedAt: w.RequestedAt.UnixMicro(), End: &EndWait{
			Tenant: w.Tenant, MessageID: w.MessageID, RecallID: w.RecallID,
		}}
		if slices.Contains(refused, w.RecallID) {
			d.End.State, d.End.Code, d.End.At = shared.WaitRefused, shared.CodeForbidden, start.UnixMicro()
		} else if !permitted {
			r := recall(w.RecallID, m)
			r.Recall.Event.Actor = w.Actor
			d.Recall, d.End, permitted = r.Recall, nil, true
		}
		op.Judged.Waited = append(op.Judged.Waited, d)
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
	// Another actor used the recall id between the judgement and the commit: it must be judged again.
	other := recall("r1", message("other"))
	other.Recall.Event.Actor.ID = "zoe"
	op := decided(t, x, message("m"))
	apply(t, x, other)
	before := contents(t, x)
	if r := apply(t, x, op); !same(r[0], Result{Stale: true}) || !reflect.DeepEqual(contents(t, x), before) {
		t.Errorf("%+v", r[0])
	}
	if r := apply(t, x, waiting("n", "r1")); !same(r[0], Result{OtherActor: true}) {
		t.Errorf("a recall id that another actor used: %+v", r[0])
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

// What has ended and waits again counts as any other.
func TestWait_LimitsOfWhatWaitsAgain(t *testing.T) {
	x := openNew(t)
	const n = shared.MaxIDWaits
	for i := range n {
		id := fmt.Sprint("old", i)
		apply(t, x, waiting("m", id), Op{EndWait: &EndWait{
			Tenant: "acme", MessageID: "m", RecallID: id, State: shared.WaitRefused, At: start.UnixMicro(),
		}})
	}
	for i := range n {
		apply(t, x, waiting("m", fmt.Sprint("r", i)))
	}
	if r := apply(t, x, waiting("m", "old0")); !same(r[0], Result{Full: true}) {
		t.Errorf("%+v", r[0])
	}
	m := message("m")
	if waits, err := x.WaitsFor(&m); err != nil || len(waits) != n {
		t.Errorf("%d wait for one message, %v", len(waits), err)
	}
}

// What is listed of ended waits is bounded.
func TestWait_EndedAreBounded(t *testing.T) {
	x := openNew(t)
	x.waits.add(map[string]int{endedWaits: shared.MaxWaits - 1})
	for _, id := range []string{"r1", "r2"} {
		apply(t, x, waiting("m", id), Op{EndWait: &EndWait{
			Tenant: "acme", MessageID: "m", RecallID: id, State: shared.WaitRefused, At: start.UnixMicro(),
		}})
	}
	if got := waitStatesOf(t, x); !slices.Equal(got, []string{"m r1 refused "}) || x.HasWaits() ||
		x.waits.get(endedWaits) != shared.MaxWaits {
		t.Errorf("waits %q", got)
	}
}

// huge is a message that is as large as it may be, with attachments of its own.
func huge(id string, relations ...shared.Relation) shared.Message {
	m := related(strings.Repeat("i", shared.MaxIDBytes-len(id))+id, relations...)
	m.Tenant = strings.Repeat("t", shared.MaxIDBytes)
	m.Ref = strings.Repeat("r", shared.MaxRefBytes)
	for i := range shared.MaxAttachments {
		key := fmt.Sprintf("%s%d", id, i)
		m.Attachments = append(m.Attachments, shared.Attachment{
			Key:   key + strings.Repeat("k", shared.MaxAttachmentBytes-len(key)),
			Owner: strings.Repeat("o", shared.MaxIDBytes),
		})
	}
	for i := len(relations); i < shared.MaxRelations; i++ {
		to := fmt.Sprint("to", i)
		m.Relations = append(m.Relations, shared.Relation{
			Kind: shared.RelationReply, MessageID: to + strings.Repeat("x", shared.MaxIDBytes-len(to)),
		})
	}
	return m
}

// The largest message is recalled with the largest edit, also if as many recalls wait for it as may.
func TestWait_LargestMessages(t *testing.T) {
	for _, waits := range []int{0, shared.MaxIDWaits} {
		x := openNew(t)
		m := huge("m")
		apply(t, x, put(huge("e", to(shared.RelationEdit, m.ID))))
		for i := range waits {
			op := waiting(m.ID, fmt.Sprint("r", i))
			op.Wait.Tenant = m.Tenant
			op.Wait.Ext = strings.Repeat("x", shared.MaxExtBytes)
			apply(t, x, op)
		}
		op := put(m)
		if waits > 0 {
			op = decided(t, x, m)
		} else {
			apply(t, x, op)
			op = recall("r0", m)
		}
		r := op.Recall
		for i := range op.waited() {
			r = cmp.Or(r, op.Judged.Waited[i].Recall)
		}
		r.Event.Ext, r.Event.Reason = strings.Repeat("x", shared.MaxExtBytes), strings.Repeat("y", shared.MaxReasonBytes)
		with, err := x.FindRelated(r, nil, func(*shared.Message) bool { return false })
		if err != nil || len(with) != 1 {
			t.Fatalf("%d go with it, %v", len(with), err)
		}
		r.With = with
		if got := apply(t, x, op)[0]; !got.New {
			t.Errorf("%d waits: %+v", waits, got)
		}
		if n := len(ledger(t, x, m.Tenant, "r0").Entries); n != 2 {
			t.Errorf("%d waits: %d messages are recalled", waits, n)
		}
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

// Between what was decided about a wait and its commit, the host may ask again.
func TestEndWait_AskedAgain(t *testing.T) {
	again := waiting("m", "r")
	again.Wait.Until = start.Add(5 * time.Hour)
	overdue := func(x *Index, now, forget time.Duration) Op {
		t.Helper()
		ends, err := x.OverdueWaits(t.Context(), start.Add(now).UnixMicro(), start.Add(forget).UnixMicro(), 9)
		if err != nil || len(ends) != 1 {
			t.Fatalf("%+v %v", ends, err)
		}
		return Op{EndWait: &ends[0]}
	}
	goesOn := func(x *Index) {
		t.Helper()
		if got := waitStatesOf(t, x); !slices.Equal(got, []string{"m r waiting "}) || !x.HasWaits() || x.HasEndedWaits() {
			t.Errorf("waits %q", got)
		}
	}
	t.Run("it waits for longer", func(t *testing.T) {
		x := openNew(t)
		apply(t, x, waiting("m", "r"))
		end := overdue(x, 2*time.Hour, 0)
		apply(t, x, again, end)
		goesOn(x)
		op := put(message("m"))
		op.Judged = &Judged{Waited: []Waited{{
			RecallID: "r", RequestedAt: again.Wait.RequestedAt.UnixMicro(), End: end.EndWait,
		}}}
		if r := apply(t, x, op); !same(r[0], Result{Stale: true}) {
			t.Errorf("its message came, and was judged by the time before: %+v", r[0])
		}
		goesOn(x)
	})
	t.Run("it waits again, by another request", func(t *testing.T) {
		x := openNew(t)
		apply(t, x, waiting("m", "r"))
		op := decided(t, x, message("m"))
		apply(t, x, overdue(x, 2*time.Hour, 0))
		other := waiting("m", "r")
		other.Wait.Role, other.Wait.RequestedAt = shared.RoleAdmin, start.Add(time.Microsecond)
		if r := apply(t, x, other, op); !same(r[1], Result{Stale: true}) {
			t.Errorf("its message came, and was judged by the request before: %+v", r[1])
		}
		goesOn(x)
	})
	t.Run("it waits again", func(t *testing.T) {
		x := openNew(t)
		apply(t, x, waiting("m", "r"))
		apply(t, x, overdue(x, 2*time.Hour, 0))
		forget := overdue(x, 4*time.Hour, 3*time.Hour)
		ended, _, err := x.waitsOf(t.Context(), &shared.ForgetRequest{Tenant: "acme", Sender: "ann"}, 9)
		if err != nil || len(ended) != 1 {
			t.Fatalf("%+v %v", ended, err)
		}
		apply(t, x, again, forget, ended[0])
		goesOn(x)
	})
}

func TestWait_WithRelations(t *testing.T) {
	x := openNew(t)
	m := message("m")
	apply(t, x, put(edit("e", "m")), waiting("m", "r"))
	op := decided(t, x, m)
	if r := apply(t, x, op); !same(r[0], Result{Stale: true}) {
		t.Fatalf("without what relates to it: %+v", r)
	}
	with, err := x.FindRelated(op.Judged.Waited[0].Recall, nil, func(*shared.Message) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	op.Judged.Waited[0].Recall.With = with
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
