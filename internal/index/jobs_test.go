package index

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// startOf starts a job over what ann sent.
func startOf(id string) Op {
	return Op{Job: &JobOp{Tenant: "acme", ID: id, Start: &JobStart{At: start.Add(time.Hour), Request: shared.JobRequest{
		Tenant: "acme", JobID: id, Filter: shared.JobFilter{Sender: "ann"}, Actor: shared.Actor{ID: "mod"},
		Role: shared.RoleSystem, Reason: "spam",
	}}}}
}

func cancelOf(id string) Op {
	return Op{Job: &JobOp{Tenant: "acme", ID: id, Cancel: &JobCancel{At: start.Add(2 * time.Hour)}}}
}

// sliceOf is a slice of a job that recalls messages.
func sliceOf(id string, s JobSlice, msgs ...shared.Message) []Op {
	s.At = start.Add(3 * time.Hour)
	ops := []Op{{Job: &JobOp{Tenant: "acme", ID: id, Slice: &s}}}
	for _, m := range msgs {
		op := recall(fmt.Sprint(id, "-", max(s.RecallNumber, 1)), m)
		op.Recall.Event.Actor.ID, op.Recall.Event.JobID = "mod", id
		ops = append(ops, op)
	}
	return ops
}

func job(t *testing.T, x *Index, id string) *Job {
	t.Helper()
	j, err := x.Job("acme", id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func recalled(t *testing.T, x *Index, id string) bool {
	t.Helper()
	r, err := x.Messages("acme", []string{id})
	if err != nil {
		t.Fatal(err)
	}
	return r[0] != nil && r[0].Tombstone != nil
}

func TestJob_Start(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("a")))
	res := apply(t, x, startOf("j"))
	j := job(t, x, "j")
	if !res[0].New || res[0].Job.Number != 1 || j.State != shared.JobRunning || j.Started != x.dir.Version() ||
		j.End != j.Started || j.Place != (Place{}) || x.LastJob() != 1 || !j.StartedAt.Equal(start.Add(time.Hour)) {
		t.Fatalf("%+v, and %+v in the index", res[0].Job, j)
	}
	t.Run("again", func(t *testing.T) {
		again := startOf("j")
		again.Job.Start.At = start.Add(5 * time.Hour)
		res := apply(t, x, again)
		if res[0].New || !res[0].Job.StartedAt.Equal(j.StartedAt) || x.LastJob() != 1 {
			t.Errorf("%+v", res[0].Job)
		}
	})
	t.Run("another request", func(t *testing.T) {
		other := startOf("j")
		other.Job.Start.Request.Reason = "other"
		_, err := x.Append(t.Context(), []Op{other})
		if f, ok := errors.AsType[*shared.FieldError](err); !ok || f.Field != "job_id" {
			t.Error(err)
		}
	})
	t.Run("until", func(t *testing.T) {
		ban := startOf("ban")
		ban.Job.Start.Request.Until = start.Add(48 * time.Hour)
		apply(t, x, ban)
		j := job(t, x, "ban")
		if j.End != 0 || j.Number != 2 {
			t.Fatalf("%+v", j)
		}
		apply(t, x, sliceOf("ban", JobSlice{Seal: true})...)
		if j := job(t, x, "ban"); j.End != x.dir.Version() || j.State != shared.JobRunning {
			t.Errorf("sealed: %+v", j)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		if j, err := x.Job("acme", "none"); j != nil || err != nil {
			t.Errorf("%+v %v", j, err)
		}
		for _, ops := range [][]Op{{cancelOf("none")}, sliceOf("none", JobSlice{})} {
			if _, err := x.Append(t.Context(), ops); !errors.Is(err, shared.ErrInvalid) {
				t.Error(err)
			}
		}
	})
}

func TestJob_Slice(t *testing.T) {
	x := openNew(t)
	a, b, c := message("a"), message("b"), message("c")
	apply(t, x, put(a), put(b), put(c))
	apply(t, x, startOf("j"))
	counts := shared.JobCounts{AlreadyRecalled: 1, Denied: map[shared.Code]int{"late": 2}}
	first := sliceOf("j", JobSlice{To: Place{Position: 2, Offset: 1}, Examined: 5, Counts: counts, RecallNumber: 1}, a, b)
	res := apply(t, x, first...)
	want := shared.JobCounts{Recalled: 2, AlreadyRecalled: 1, Denied: map[shared.Code]int{"late": 2}}
	j := job(t, x, "j")
	if !res[0].New || !res[1].New || !res[2].New || !reflect.DeepEqual(j.Counts, want) || j.Examined != 5 ||
		j.Place != (Place{2, 1}) || j.RecallNumber != 1 || j.RecallMessages != 2 || j.State != shared.JobRunning {
		t.Fatalf("%+v, job %+v", res, j)
	}
	if e := ledger(t, x, "acme", "j-1").Entries; len(e) != 2 || e[0].Event.JobID != "j" {
		t.Errorf("%+v", e)
	}
	t.Run("again", func(t *testing.T) {
		before := x.dir.Version()
		res := apply(t, x, sliceOf("j", *first[0].Job.Slice, a, c)...)
		if res[0].New || res[0].Job.Place != j.Place || !reflect.DeepEqual(res[1], Result{}) || recalled(t, x, "c") ||
			x.dir.Version() != before {
			t.Errorf("%+v", res)
		}
	})
	t.Run("facts that changed", func(t *testing.T) {
		ref := "row 7"
		apply(t, x, Op{Amend: &shared.Amendment{Tenant: "acme", MessageID: "c", Ref: &ref}})
		d := message("d")
		apply(t, x, put(d))
		before := x.dir.Version()
		res := apply(t, x, sliceOf("j", JobSlice{From: j.Place, To: Place{9, 0}, RecallNumber: 1}, d, c)...)
		if res[0].New || !res[1].Aborted || !res[2].Stale || recalled(t, x, "d") || x.dir.Version() != before {
			t.Errorf("%+v", res)
		}
	})
	t.Run("recalled in between", func(t *testing.T) {
		d, e := message("d"), message("e")
		apply(t, x, put(e))
		apply(t, x, recall("r", d))
		s := JobSlice{From: j.Place, To: Place{9, 0}, Examined: 2, RecallNumber: 2, Done: true}
		res := apply(t, x, sliceOf("j", s, d, e)...)
		j := job(t, x, "j")
		want.Recalled, want.AlreadyRecalled = 3, 2
		if !res[0].New || res[1].New || res[1].Tombstone.RecallID != "r" || !res[2].New ||
			!reflect.DeepEqual(j.Counts, want) ||
			j.RecallNumber != 2 || j.RecallMessages != 1 || j.State != shared.JobDone || j.Total != 7 ||
			!j.EndedAt.Equal(start.Add(3*time.Hour)) {
			t.Errorf("%+v, job %+v", res, j)
		}
	})
	t.Run("after the end", func(t *testing.T) {
		f := message("f")
		apply(t, x, put(f))
		if res := apply(t, x, sliceOf("j", JobSlice{From: Place{9, 0}, To: Place{10, 0}}, f)...); res[0].New ||
			recalled(t, x, "f") {
			t.Errorf("%+v", res)
		}
		if res := apply(t, x, cancelOf("j")); res[0].New || res[0].Job.State != shared.JobDone {
			t.Errorf("canceled: %+v", res[0].Job)
		}
	})
}

func TestJob_Canceled(t *testing.T) {
	x := openNew(t)
	a := message("a")
	apply(t, x, put(a))
	apply(t, x, startOf("j"))
	if res := apply(t, x, cancelOf("j")); !res[0].New || res[0].Job.State != shared.JobCanceled {
		t.Fatalf("%+v", res[0])
	}
	again := cancelOf("j")
	again.Job.Cancel.At = start.Add(9 * time.Hour)
	if res := apply(t, x, again); res[0].New || !res[0].Job.EndedAt.Equal(start.Add(2*time.Hour)) {
		t.Errorf("again: %+v", res[0].Job)
	}
	if res := apply(t, x, sliceOf("j", JobSlice{To: Place{1, 1}}, a)...); res[0].New || recalled(t, x, "a") {
		t.Errorf("a slice after it: %+v", res)
	}
}

// Another node may erase a message between the judgement and the commit of a slice. The slice brings nothing back.
func TestJob_ErasedMeanwhile(t *testing.T) {
	x := openNew(t)
	m, other := message("m"), message("other")
	ofAnn := shared.ForgetRequest{Tenant: "acme", Sender: m.Sender}
	other.Sender = "bob"
	apply(t, x, put(m), put(other))
	apply(t, x, startOf("j"))
	beginForget(t, x, ofAnn)
	passForget(t, x, ofAnn)
	before := x.dir.Version()
	slice := sliceOf("j", JobSlice{To: Place{2, 0}, Examined: 2, RecallNumber: 1}, m, other)
	slice[1].Recall.Known, slice[2].Recall.Known = true, true
	results := apply(t, x, slice...)
	if results[0].New || !results[1].Stale || !results[2].Aborted {
		t.Errorf("%+v", results)
	}
	if j := job(t, x, "j"); x.dir.Version() != before || j.Examined != 0 || recalled(t, x, "other") {
		t.Errorf("the slice was applied: %+v", j)
	}
	if r := statusOf(t, x, "acme", "m"); r != nil {
		t.Errorf("what was erased is back: %+v", r)
	}
}

func TestJob_RecallIDIsTaken(t *testing.T) {
	x := openNew(t)
	a, b := message("a"), message("b")
	apply(t, x, put(a), put(b))
	apply(t, x, startOf("j"))
	t.Run("by another actor", func(t *testing.T) {
		apply(t, x, recall("j-1", b))
		res := apply(t, x, sliceOf("j", JobSlice{To: Place{1, 1}, RecallNumber: 1}, a)...)
		if j := job(t, x, "j"); res[0].New || !res[1].OtherActor || j.Place != (Place{}) {
			t.Errorf("%+v, job %+v", res, j)
		}
	})
	t.Run("by too many messages", func(t *testing.T) {
		txn := x.dir.NewTransaction(true)
		defer txn.Discard()
		id := &indexpb.RecallID{ActorId: "mod", Messages: shared.MaxRecallMessages}
		if err := errors.Join(set(txn, recallIDKey("acme", "j-2"), id), x.dir.Commit(txn)); err != nil {
			t.Fatal(err)
		}
		_, err := x.Append(t.Context(), sliceOf("j", JobSlice{To: Place{1, 2}, RecallNumber: 2}, a))
		if f, ok := errors.AsType[*shared.FieldError](err); !ok || f.Field != "recall_id" ||
			job(t, x, "j").Place != (Place{}) {
			t.Error(err)
		}
	})
}

func TestJob_SliceTooLarge(t *testing.T) {
	x := openNew(t)
	var large []shared.Message
	for i := range 20 {
		m := message(fmt.Sprint("m", i))
		for k := range shared.MaxAttachments {
			m.Attachments = append(m.Attachments, shared.Attachment{Key: fmt.Sprintf("%d-%d-%01900d", i, k, 0)})
		}
		large = append(large, m)
		apply(t, x, put(m))
	}
	apply(t, x, startOf("j"))
	slice := func(count int) []Op {
		return sliceOf("j", JobSlice{To: Place{1, 1}, RecallNumber: 1}, large[:count]...)
	}
	t.Run("alone", func(t *testing.T) {
		applied, err := x.Apply([][]Op{slice(20)})
		if err != nil || !errors.Is(applied.Answers[0].Refused, shared.ErrInvalid) {
			t.Errorf("%+v %v", applied, err)
		}
	})
	t.Run("behind others", func(t *testing.T) {
		if _, err := x.Apply([][]Op{{put(message("x"))}, slice(20)}); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
	})
	if j := job(t, x, "j"); j.Place != (Place{}) || recalled(t, x, "m0") {
		t.Errorf("%+v", j)
	}
	if applied, err := x.Apply([][]Op{slice(2)}); err != nil || !applied.Answers[0].Results[0].New {
		t.Errorf("a small one: %+v %v", applied, err)
	}
}

func TestJob_TheOldestOfTooManyAreForgotten(t *testing.T) {
	x := openNew(t)
	for i := range shared.MaxEndedJobs + 5 {
		id := fmt.Sprint("j", i)
		apply(t, x, startOf(id))
		if i != 2 { // which runs on
			apply(t, x, cancelOf(id))
		}
	}
	apply(t, x, startOf("last"))
	var left []string
	err := x.dir.View(func(txn *badger.Txn) error {
		return eachJob(t.Context(), txn, "acme", func(j *Job) error {
			left = append(left, j.Request.JobID)
			return nil
		})
	})
	if err != nil || len(left) != shared.MaxEndedJobs+2 {
		t.Fatalf("%d jobs are left: %v", len(left), err)
	}
	for _, id := range []string{"j0", "j1", "j3", "j4"} {
		if slices.Contains(left, id) {
			t.Errorf("%s is left", id)
		}
	}
	if !slices.Contains(left, "j2") || !slices.Contains(left, "j5") {
		t.Errorf("%q", left[:10])
	}
}

func TestJob_TooManyCodes(t *testing.T) {
	x := openNew(t)
	apply(t, x, startOf("j"))
	want := 0
	for i := range 10 {
		var counts shared.JobCounts
		for k := range 10 {
			counts.Deny(shared.Code(fmt.Sprint("code ", i*10+k)), 1)
			want++
		}
		at := func(n int) Place { return Place{Position: uint64(n)} }
		apply(t, x, sliceOf("j", JobSlice{From: at(i), To: at(i + 1), Counts: counts})...)
	}
	denied, sum := job(t, x, "j").Counts.Denied, 0
	for _, n := range denied {
		sum += n
	}
	if len(denied) != shared.MaxJobCodes+1 || denied[shared.CodeOther] != want-shared.MaxJobCodes || sum != want {
		t.Errorf("%d codes, %d others, %d of %d refusals", len(denied), denied[shared.CodeOther], sum, want)
	}
}

func TestJob_Salvaged(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	for i := range 3 {
		apply(t, x, put(message(fmt.Sprint("m", i))))
	}
	ban := startOf("ban")
	ban.Job.Start.Request.Until = start.Add(48 * time.Hour)
	apply(t, x, startOf("done"))
	apply(t, x, startOf("running"))
	apply(t, x, ban)
	apply(t, x, sliceOf("done", JobSlice{To: Place{4, 0}, Examined: 3, Done: true})...)
	for _, id := range []string{"running", "ban"} {
		apply(t, x, sliceOf(id, JobSlice{
			To: Place{2, 0}, Examined: 2, RecallNumber: 3, Counts: shared.JobCounts{AlreadyRecalled: 1},
		}, message("m0"))...)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	_, y := salvage(t, path)
	for id, hasEnd := range map[string]bool{"running": true, "ban": false} {
		j := job(t, y, id)
		if j.State != shared.JobRunning || j.Place != (Place{}) || j.Examined != 0 || j.RecallNumber != 3 ||
			!reflect.DeepEqual(j.Counts, shared.JobCounts{}) || (j.End != 0) != hasEnd {
			t.Errorf("%s: %+v", id, j)
		}
	}
	apply(t, y, put(message("later")))
	for id, want := range map[string]int{"running": 3, "ban": 4} {
		if found, _, _ := walkAll(t, y, WalkRequest{Tenant: "acme", End: job(t, y, id).End}); len(found) != want {
			t.Errorf("%s finds %d messages, want %d", id, len(found), want)
		}
	}
	running, err := y.RunningJobs(t.Context())
	if err != nil || len(running) != 2 || running[0].Request.JobID != "running" || running[1].Request.JobID != "ban" {
		t.Errorf("running: %+v %v", running, err)
	}
	if j := job(t, y, "done"); j.State != shared.JobDone || j.Examined != 3 {
		t.Errorf("%+v", j)
	}
	if res := apply(t, y, startOf("next")); res[0].Job.Number != 4 {
		t.Errorf("the next job is number %d", res[0].Job.Number)
	}
}

// What is left of damage has no key of a job that is gone, and one of each that runs.
func TestJob_SalvagedWithoutKeys(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	apply(t, x, startOf("a"))
	apply(t, x, startOf("b"))
	txn := x.dir.NewTransaction(true)
	defer txn.Discard()
	if err := errors.Join(txn.Delete(jobKey("acme", "a")), txn.Delete(runningJobKey(2)), x.dir.Commit(txn)); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	_, y := salvage(t, path)
	running, err := y.RunningJobs(t.Context())
	if err != nil || len(running) != 1 || running[0].Request.JobID != "b" {
		t.Errorf("%+v %v", running, err)
	}
	if res := apply(t, y, startOf("c")); res[0].Job.Number != 3 {
		t.Errorf("the next job is number %d", res[0].Job.Number)
	}
}

// A job goes on when the single machine becomes a cluster, and when that becomes a single machine again.
func TestJob_Converted(t *testing.T) {
	x := openNew(t)
	a, b, c := message("a"), message("b"), message("c")
	apply(t, x, put(a))
	apply(t, x, put(b), put(c))
	apply(t, x, startOf("j"))
	step := func(x *Index, left int) {
		t.Helper()
		j := job(t, x, "j")
		page, err := x.Walk(t.Context(), WalkRequest{From: j.Place, End: j.End, Tenant: "acme", MaxFound: 1})
		if err != nil || len(page.Found) != 1 {
			t.Fatalf("%+v %v", page, err)
		}
		s := JobSlice{From: j.Place, To: page.Next, Examined: page.Examined, RecallNumber: 1, Done: !page.More}
		if res := apply(t, x, sliceOf("j", s, page.Found[0].Message)...); !res[0].New || !res[1].New {
			t.Fatalf("%+v", res)
		}
		if j = job(t, x, "j"); j.Counts.Recalled != 3-left || (j.State == shared.JobDone) != (left == 0) {
			t.Errorf("%+v", j)
		}
	}
	step(x, 2)
	n := clusterOf(t, x, 2)
	for i := range 2 {
		n.join(memberOf(i))
	}
	if res := n.apply(0, startOf("other")); !res[0].New {
		t.Fatalf("%+v", res)
	}
	n.wantEqual()
	for i, y := range n.indexes {
		if running, err := y.RunningJobs(t.Context()); err != nil || len(running) != 2 {
			t.Errorf("node %d: %+v %v", i, running, err)
		}
	}
	path, _ := toSingle(t, n.indexes[1])
	y := openAt(t, path)
	step(y, 1)
	step(y, 0)
	if running, err := y.RunningJobs(t.Context()); err != nil || len(running) != 1 {
		t.Errorf("%+v %v", running, err)
	}
}

func TestJobs_OfAllTenants(t *testing.T) {
	x := openNew(t)
	for i, tenant := range []string{"b", "a", "c", "a"} {
		op := startOf(fmt.Sprint("j", i))
		op.Job.Tenant, op.Job.Start.Request.Tenant = tenant, tenant
		apply(t, x, op)
	}
	cancel := cancelOf("j2")
	cancel.Job.Tenant = "c"
	apply(t, x, cancel)
	done := sliceOf("j1", JobSlice{Done: true})
	done[0].Job.Tenant = "a"
	apply(t, x, done...)
	running, err := x.RunningJobs(t.Context())
	var ids []string
	for _, j := range running {
		ids = append(ids, j.Request.Tenant+" "+j.Request.JobID)
	}
	if want := []string{"b j0", "a j3"}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("%q %v, want %q", ids, err, want)
	}
}

func TestCheckOps_Jobs(t *testing.T) {
	a, b := message("a"), message("b")
	slice := func() []Op { return sliceOf("j", JobSlice{}, a, b) }
	change := func(change func(ops []Op)) []Op {
		ops := slice()
		change(ops)
		return ops
	}
	if err := CheckOps(slice()); err != nil {
		t.Fatal(err)
	}
	for name, ops := range map[string][]Op{
		"a recall of a job alone":  slice()[1:],
		"two slices":               append(slice(), slice()[0]),
		"a slice behind a recall":  {slice()[1], slice()[0]},
		"a put in a slice":         append(slice(), put(message("c"))),
		"a start and more":         {startOf("j"), put(a)},
		"a recall of no job":       change(func(ops []Op) { ops[1].Recall.Event.JobID = "" }),
		"of another job":           change(func(ops []Op) { ops[1].Recall.Event.JobID = "k" }),
		"atomic":                   change(func(ops []Op) { ops[1].Recall.Atomic = true }),
		"of another actor":         change(func(ops []Op) { ops[2].Recall.Event.Actor.ID = "x" }),
		"one message twice":        change(func(ops []Op) { ops[2].Recall.Event.Message = a }),
		"backwards":                change(func(ops []Op) { ops[0].Job.Slice.From = Place{1, 0} }),
		"counts below 0":           change(func(ops []Op) { ops[0].Job.Slice.Examined = -1 }),
		"refusals below 0":         change(func(ops []Op) { ops[0].Job.Slice.Counts.Deny("x", -1) }),
		"a slice and a start":      change(func(ops []Op) { ops[0].Job.Start = startOf("j").Job.Start }),
		"nothing":                  {{Job: &JobOp{Tenant: "acme", ID: "j"}}},
		"a NUL":                    {cancelOf("j\x00")},
		"a request of another job": {{Job: &JobOp{Tenant: "acme", ID: "k", Start: startOf("j").Job.Start}}},
	} {
		if err := CheckOps(ops); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJob_Model runs jobs in random slices, some twice, between other operations, and compares each with a job that is
// done at once.
func TestJob_Model(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	x := openNew(t)
	messages, recalledBy := 0, map[string]string{} // message → recall id
	index := func() {
		var ops []Op
		for range 1 + r.IntN(4) {
			m := message(fmt.Sprint("m", messages))
			m.Sender = []string{"ann", "bob"}[r.IntN(2)]
			messages++
			ops = append(ops, put(m))
		}
		apply(t, x, ops...)
	}
	for range 30 {
		index()
	}
	for n := range 6 {
		id := fmt.Sprint("job", n)
		apply(t, x, startOf(id))
		end := messages
		var want shared.JobCounts
		wantExamined := end
		place, done := Place{}, false
		for !done {
			switch r.IntN(4) {
			case 0:
				index()
			case 1: // a recall in between
				m := fmt.Sprint("m", r.IntN(messages))
				rec, err := x.Messages("acme", []string{m})
				if err != nil {
					t.Fatal(err)
				}
				op := recall(fmt.Sprint("r", r.IntN(1000)), rec[0].Message)
				op.Recall.Event.Actor.ID = op.Recall.Event.RecallID
				if apply(t, x, op)[0].New {
					recalledBy[m] = op.Recall.Event.RecallID
				}
			default:
				page, err := x.Walk(t.Context(), WalkRequest{
					From: place, End: job(t, x, id).End, Tenant: "acme", Sender: "ann", MaxFound: 1 + r.IntN(5),
				})
				if err != nil {
					t.Fatal(err)
				}
				s := JobSlice{From: place, To: page.Next, Examined: page.Examined, RecallNumber: 1, Done: !page.More}
				var live []shared.Message
				for _, f := range page.Found {
					if f.Tombstone != nil {
						s.Counts.AlreadyRecalled++
						want.AlreadyRecalled++
						continue
					}
					live = append(live, f.Message)
					want.Recalled++
					recalledBy[f.Message.ID] = id + "-1"
				}
				ops := sliceOf(id, s, live...)
				for range 1 + r.IntN(2) { // perhaps a copy of it, from another node
					apply(t, x, ops...)
				}
				place, done = page.Next, !page.More
			}
		}
		if j := job(t, x, id); j.State != shared.JobDone || !reflect.DeepEqual(j.Counts, want) || j.Examined != wantExamined {
			t.Fatalf("job %d: %+v, want %+v and %d examined", n, j.Job, want, wantExamined)
		}
	}
	for i := range messages {
		rec, err := x.Messages("acme", []string{fmt.Sprint("m", i)})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if rec[0].Tombstone != nil {
			got = rec[0].Tombstone.RecallID
		}
		if want := recalledBy[fmt.Sprint("m", i)]; got != want {
			t.Fatalf("message %d was recalled under %q, want %q", i, got, want)
		}
	}
}
