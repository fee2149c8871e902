package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/badgerdir"
	"github.com/chat-recall/recall/shared"
)

// clusterOf makes a cluster of n0, n1, … of the index of a single machine. None of them has joined.
func clusterOf(t *testing.T, single *Index, count int) *nodes {
	t.Helper()
	n := &nodes{t: t, written: map[string]uint64{}, process: map[string]uint64{}}
	var names []string
	for i := range count {
		names = append(names, nodeName(i))
		n.process[nodeName(i)] = 1
	}
	var data bytes.Buffer
	made, err := single.SnapshotForCluster(t.Context(), "log", names, &data, nil)
	if err != nil {
		t.Fatal(err)
	}
	read, at, err := SnapshotContent(t.Context(), bytes.NewReader(data.Bytes()), nil)
	if err != nil || read != made || at.ID != "log" || at.Position != single.Identity().Version {
		t.Fatalf("%v; it has %+v at %+v, and %+v was written", err, read, at, made)
	}
	n.last = at.Position
	for _, name := range names {
		path := filepath.Join(t.TempDir(), "index")
		x := openAt(t, path)
		if err := x.Follow(t.Context(), "log", name); err != nil {
			t.Fatal(err)
		}
		if _, err := x.Replace(t.Context(), bytes.NewReader(data.Bytes()), at.Position, nil); err != nil {
			t.Fatal(err)
		}
		x = openAt(t, path)
		if err := x.Follow(t.Context(), "log", name); err != nil {
			t.Fatal(err)
		}
		n.indexes = append(n.indexes, x)
	}
	return n
}

// toSingle makes the closed index of a single machine of that of a node.
func toSingle(t *testing.T, x *Index) (path string, done Converted) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "single")
	done, err := x.ToSingle(t.Context(), path, hclog.NewNullLogger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	report, err := badgerdir.Verify(t.Context(), path, nil)
	if err != nil || !report.OK {
		t.Fatalf("%+v %v", report, err)
	}
	y := openAt(t, path)
	if got, err := y.Content(t.Context(), nil); err != nil || got != done.Content || y.Identity().ID != done.Index.ID {
		t.Fatalf("%v: it has %+v, and %+v was written", err, got, done)
	}
	if again, err := x.ContentAsSingle(t.Context(), nil); err != nil || again != done.Content {
		t.Errorf("%+v %v, want %+v", again, err, done.Content)
	}
	if y.Identity().ID != x.Identity().ID {
		t.Errorf("it is the index %s, was %s", y.Identity().ID, x.Identity().ID)
	}
	if err := y.Close(); err != nil {
		t.Fatal(err)
	}
	return path, done
}

// singleMachine has recalls in every state:
//
//	1  notify is open, and the others wait behind the gate
//	2  notify failed twice
//	3  notify is settled; history failed three times, attachments is open
//	4  all is settled
//	5  history waits for attachments, the gate is open
//	6  notify is settled in a later event than an open one
//
// All but the fifth spend of a limit; what the first ones spent counts no longer.
func singleMachine(t *testing.T) *Index {
	t.Helper()
	x := openNew(t)
	for i := range 6 {
		id := fmt.Sprint("m", i+1)
		apply(t, x, put(message(id, "file-"+id)), put(message("live-"+id)))
		if i == 4 {
			apply(t, x, recallInOrder(id, shared.StepNotify, shared.StepAttachments, shared.StepHistory))
		} else {
			op := recall("r-"+id, message(id, "file-"+id), shared.StepNotify, shared.StepHistory, shared.StepAttachments)
			op.Recall.Spend = spend(start.Add(time.Duration(i)*20*time.Second), time.Minute)
			apply(t, x, op)
		}
	}
	apply(t, x, fail(2, shared.StepNotify, 1, "no"), fail(2, shared.StepNotify, 2, "still no"))
	for _, sequence := range []uint64{3, 4, 5, 6} {
		apply(t, x, settle(sequence, shared.StepNotify, shared.OutcomeDone))
	}
	for i := range 3 {
		apply(t, x, fail(3, shared.StepHistory, i+1, fmt.Sprint("failure ", i+1)))
	}
	for _, step := range []string{shared.StepHistory, shared.StepAttachments} {
		apply(t, x, settle(4, step, shared.OutcomeDone), settle(6, step, shared.OutcomeNothingToDo))
	}
	return x
}

func TestConvert_RoundTrip(t *testing.T) {
	single := singleMachine(t)
	want := contents(t, single)
	n := clusterOf(t, single, 2)
	n.wantEqual()
	if got, want := spends(t, n.indexes[0]), spends(t, single); len(want) < 2 || !slices.Equal(got, want) {
		t.Errorf("what was spent of limits: %v, want %v", got, want)
	}
	path, done := toSingle(t, n.indexes[1])
	back := openAt(t, path)
	if got := contents(t, back); !maps.Equal(got, want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	is, was := back.Identity(), single.Identity()
	if is.ID == was.ID || is.Epoch == was.Epoch || is.Version <= was.Version {
		t.Errorf("it was %+v and is %+v", was, is)
	}
	if done.Messages != 12 || done.Recalls != 6 || done.OpenSteps != 5 {
		t.Errorf("%+v", done)
	}
	if page, err := back.Since(t.Context(), shared.SinceRequest{Tenant: "acme", After: single.cursorOf(1)}); err != nil ||
		!page.Reset {
		t.Errorf("a cursor from before: %+v %v", page, err)
	}
	apply(t, back, put(message("later")))
	wantListed(t, back, 13)
}

// wantListed checks that each message is in one group.
func wantListed(t *testing.T, x *Index, count int) {
	t.Helper()
	listed := map[string]int{}
	for _, m := range grouped(t, x) {
		listed[m.id]++
	}
	if len(listed) != count || slices.Max(slices.Collect(maps.Values(listed))) > 1 {
		t.Errorf("%v are listed, want %d", listed, count)
	}
}

func TestSnapshotForCluster_OpenSteps(t *testing.T) {
	n := clusterOf(t, singleMachine(t), 3)
	for i := range 3 {
		n.join(memberOf(i))
	}
	n.wantEqual()
	n.wantOpen(shared.StepNotify, "n0:1", "n0:2", "n1:1", "n1:2", "n2:1", "n2:2") // and none that is settled
	n.wantOpen(shared.StepHistory, "n0:3")
	n.wantOpen(shared.StepAttachments, "n0:3", "n0:5")
	for node, m := range n.members() {
		if m.Gone || m.Missed > 0 {
			t.Errorf("%s: %+v", node, m)
		}
	}
	for i := range 3 {
		for sequence := range 2 {
			n.settleOn(i, uint64(sequence+1), shared.StepNotify, shared.OutcomeDone)
		}
	}
	for i := range 3 {
		for _, step := range []string{shared.StepAttachments, shared.StepHistory} {
			for _, sequence := range queued(t, n.indexes[i], step) {
				n.settleOn(i, sequence, step, shared.OutcomeDone)
			}
		}
	}
	n.settleOn(0, 5, shared.StepHistory, shared.OutcomeDone)
	n.settleOn(1, 5, shared.StepHistory, shared.OutcomeDone) // whoever has it
	for _, step := range shared.StandardSteps() {
		n.wantOpen(step)
	}
	n.wantEqual()
	attempts := map[string]int{}
	for _, id := range []string{"r-m2", "r-m3"} {
		for _, s := range ledger(t, n.indexes[2], "acme", id).Entries[0].Steps {
			attempts[fmt.Sprint(id, " ", s.Step, "@", s.Node)] = s.Attempts
			if s.Step == shared.StepHistory && s.Node == "n0" && id == "r-m3" && s.Error != "failure 3" {
				t.Errorf("%+v", s)
			}
		}
	}
	want := map[string]int{ // those of the single machine go on
		"r-m2 notify@n0": 3, "r-m2 notify@n1": 1, "r-m2 notify@n2": 1,
		"r-m3 notify@": 1, "r-m3 history@n0": 4, "r-m3 attachments@n0": 1,
	}
	maps.DeleteFunc(attempts, func(k string, _ int) bool {
		return strings.HasPrefix(k, "r-m2 ") && !strings.Contains(k, shared.StepNotify)
	})
	if !maps.Equal(attempts, want) {
		t.Errorf("%v, want %v", attempts, want)
	}
	n.apply(0, put(message("later")))
	for _, x := range n.indexes {
		wantListed(t, x, 13)
	}
}

func TestSnapshotForCluster_NodeThatIsNotNamed(t *testing.T) {
	n := clusterOf(t, singleMachine(t), 1)
	n.join(memberOf(0))
	other := memberOf(1)
	n.process["n1"] = 1
	if r := n.apply(1, Op{Join: &Join{Member: other}}); !r[0].New {
		t.Fatalf("%+v", r)
	}
	if m := n.members(); len(m) != 2 {
		t.Errorf("%v", m)
	}
	n.wantOpen(shared.StepNotify, "n0:1", "n0:2")
}

func TestSnapshotForCluster_NothingOpen(t *testing.T) {
	single := openNew(t)
	apply(t, single, put(message("m")))
	n := clusterOf(t, single, 2)
	if m := n.members(); len(m) > 0 {
		t.Errorf("they are waited for: %v", m)
	}
	n.join(memberOf(0))
	n.join(memberOf(1))
	n.wantEqual()
}

func TestToSingle_OpenSteps(t *testing.T) {
	n := newNodes(t, 3)
	for i := range 3 {
		n.join(memberOf(i))
	}
	steps := []string{shared.StepNotify, shared.StepHistory}
	for _, id := range []string{"a", "b", "c", "d"} {
		n.apply(0, recall("r-"+id, message(id), steps...))
	}
	failOn := func(node int, sequence uint64, step string, attempt int) {
		t.Helper()
		op := fail(sequence, step, attempt, fmt.Sprintf("%s of n%d failed", step, node))
		op.Settle.Node = nodeName(node)
		n.apply(node, op)
	}
	// 1: n1 has notify open, after two failures, and n2 after one; 2: n2 has it open, and never failed
	n.settleOn(0, 1, shared.StepNotify, shared.OutcomeDone)
	failOn(1, 1, shared.StepNotify, 1)
	failOn(1, 1, shared.StepNotify, 2)
	failOn(2, 1, shared.StepNotify, 1)
	for i := range 2 {
		failOn(i, 2, shared.StepNotify, 1)
		n.settleOn(i, 2, shared.StepNotify, shared.OutcomeDone)
	}
	// 3: all have notified, and history failed on the node that had it, which is gone; 4: all is settled
	for i := range 3 {
		n.settleOn(i, 3, shared.StepNotify, shared.OutcomeDone)
		failOn(i, 4, shared.StepNotify, 1)
		n.settleOn(i, 4, shared.StepNotify, shared.OutcomeDone)
	}
	has := func(sequence uint64) int {
		return slices.IndexFunc(n.indexes, func(x *Index) bool {
			return slices.Contains(queued(t, x, shared.StepHistory), sequence)
		})
	}
	n.settleOn(has(4), 4, shared.StepHistory, shared.OutcomeDone)
	failOn(has(3), 3, shared.StepHistory, 1)
	failOn(has(3), 3, shared.StepHistory, 2)
	if gone := has(3); gone != 0 { // the others have notify open
		t.Fatalf("n%d has history of event 3", gone)
	}
	n.leave(1, 0, true)
	path, done := toSingle(t, n.indexes[1])
	x := openAt(t, path)
	if done.Recalls != 4 || done.OpenSteps != 3 {
		t.Errorf("%+v", done)
	}
	for k := range contents(t, x) {
		if strings.ContainsAny(k[:1], nodeKinds) || strings.Contains(k, "@") {
			t.Errorf("there is %q", k)
		}
	}
	if got := queued(t, x, shared.StepNotify); !slices.Equal(got, []uint64{2, 1}) { // the one that failed backs off
		t.Errorf("notify is open in %v", got)
	}
	if got := queued(t, x, shared.StepHistory); !slices.Equal(got, []uint64{3}) {
		t.Errorf("history is open in %v", got)
	}
	e, err := x.Entry(1, shared.StepNotify)
	if err != nil || e.Steps[0].Attempts != 2 || e.Steps[0].Node != "" || e.Steps[0].Error != "notify of n1 failed" {
		t.Errorf("%+v %v", e, err)
	}
	if e, err := x.Entry(3, shared.StepHistory); err != nil || e.Steps[0].Attempts != 2 {
		t.Errorf("%+v %v", e, err)
	}
	var records []string
	for _, s := range ledger(t, x, "acme", "r-d").Entries[0].Steps {
		records = append(records, fmt.Sprint(s.Step, "@", s.Node, " ", s.Outcome, " ", s.Attempts))
	}
	if want := []string{"notify@ done 2", "history@ done 1"}; !slices.Equal(records, want) {
		t.Errorf("the ledger has %q, want %q", records, want)
	}
	apply(t, x, settle(1, shared.StepNotify, shared.OutcomeDone), settle(2, shared.StepNotify, shared.OutcomeDone))
	apply(t, x, settle(3, shared.StepHistory, shared.OutcomeDone))
	apply(t, x, settle(1, shared.StepHistory, shared.OutcomeDone), settle(2, shared.StepHistory, shared.OutcomeDone))
	if got := queues(t, x); got != "[]" {
		t.Errorf("open: %s", got)
	}
}

// TestToSingle_Random makes single machines of nodes that come and go, which have every step that is open on any.
func TestToSingle_Random(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	n := newNodes(t, 3)
	for i := range n.indexes {
		n.join(memberOf(i))
	}
	for range 400 {
		by := r.IntN(len(n.indexes))
		switch node := r.IntN(len(n.indexes)); r.IntN(40) {
		case 0:
			if m := n.members()[nodeName(node)]; node != by && m != nil && n.members()[nodeName(by)] != nil {
				n.leave(by, node, m.Gone && r.IntN(2) == 0)
			}
		case 1:
			n.process[nodeName(by)]++
			n.written[nodeName(by)] = 0
			n.join(memberOf(by))
		default:
			op := randomOp(r, int(n.indexes[0].LastSequence()))
			if op.Settle != nil {
				op.Settle.Node = nodeName(by)
			}
			if CheckOps([]Op{op}) == nil {
				n.write(n.entry(by, []Op{op}))
			}
		}
	}
	path, _ := toSingle(t, n.indexes[1])
	x := openAt(t, path)
	steps := append(shared.StandardSteps(), "own")
	for _, step := range steps {
		want := map[uint64]bool{}
		for _, of := range n.indexes {
			for _, sequence := range queued(t, of, step) {
				want[sequence] = true
			}
		}
		of := n.indexes[0]
		of.node = "" // what nobody carries out
		for _, sequence := range queued(t, of, step) {
			want[sequence] = true
		}
		of.node = "n0"
		got := queued(t, x, step)
		slices.Sort(got)
		if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
			t.Errorf("%s is open in %v, want %v", step, got, slices.Sorted(maps.Keys(want)))
		}
	}
	for _, step := range steps[:2] {
		for _, sequence := range queued(t, x, step) {
			if r := apply(t, x, settle(sequence, step, shared.OutcomeDone)); r[0].Step.Open {
				t.Errorf("%s of event %d: %+v", step, sequence, r)
			}
		}
	}
	// and from there a cluster again, and a single machine
	again := clusterOf(t, x, 2)
	again.wantEqual()
	back, _ := toSingle(t, again.indexes[0])
	if got := contents(t, openAt(t, back)); !maps.Equal(got, contents(t, x)) {
		t.Errorf("%d keys, want %d", len(got), len(contents(t, x)))
	}
}

func TestConvert_Refused(t *testing.T) {
	single, node := singleMachine(t), newNodes(t, 1)
	node.join(memberOf(0))
	path := filepath.Join(t.TempDir(), "index")
	if _, err := node.indexes[0].SnapshotForCluster(t.Context(), "log", nil, io.Discard, nil); !errors.Is(err, ErrOfNode) {
		t.Errorf("the index of a node: %v", err)
	}
	if _, err := single.ToSingle(t.Context(), path, hclog.NewNullLogger(), nil); err == nil ||
		!strings.Contains(err.Error(), "already") {
		t.Errorf("the index of a single machine: %v", err)
	}
	if _, err := node.indexes[0].ToSingle(t.Context(), single.path, hclog.NewNullLogger(), nil); err == nil ||
		!strings.Contains(err.Error(), "not empty") {
		t.Errorf("a folder that is not empty: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := node.indexes[0].ToSingle(ctx, path, hclog.NewNullLogger(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	broken := writerFunc(func([]byte) (int, error) { return 0, errors.New("no leader") })
	if _, err := single.SnapshotForCluster(t.Context(), "log", nil, broken, nil); err == nil ||
		!strings.Contains(err.Error(), "no leader") {
		t.Errorf("a store that fails: %v", err)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
	var data bytes.Buffer
	if _, err := single.SnapshotForCluster(t.Context(), "log", nil, &data, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		changed := bytes.Clone(data.Bytes())
		changed[len(changed)*i/20] ^= 1
		if _, _, err := SnapshotContent(t.Context(), bytes.NewReader(changed), nil); err == nil {
			t.Errorf("byte %d of %d is changed, and nobody says so", len(changed)*i/20, len(changed))
		}
	}
	if _, _, err := SnapshotContent(t.Context(), bytes.NewReader(data.Bytes()[:data.Len()-1]), nil); err == nil {
		t.Error("it is cut short, and nobody says so")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestSalvage_IndexOfANode(t *testing.T) {
	n := snapshotNode(t)
	for _, kinds := range []string{"", "p", "pyh"} { // lost
		if kinds != "" {
			removeKeys(t, n.indexes[0], kinds)
		}
		from := filepath.Join(t.TempDir(), "index")
		if err := os.CopyFS(from, os.DirFS(n.indexes[0].path)); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "salvaged")
		_, err := Salvage(t.Context(), from, to, hclog.NewNullLogger())
		if !errors.Is(err, ErrOfNode) || !strings.Contains(err.Error(), "remove the folder") {
			t.Errorf("without %q: %v", kinds, err)
		}
		if left, err := filepath.Glob(to + "*"); err != nil || len(left) > 0 {
			t.Errorf("%v %v", left, err)
		}
	}
}
