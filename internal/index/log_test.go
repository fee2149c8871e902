package index

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// nodes are indexes that follow one log, of which the test is the writer.
type nodes struct {
	t       *testing.T
	indexes []*Index // of n0, n1, …
	last    uint64   // position
	written map[string]uint64
	process map[string]uint64
}

func newNodes(t *testing.T, count int) *nodes {
	t.Helper()
	n := &nodes{t: t, written: map[string]uint64{}, process: map[string]uint64{}}
	for i := range count {
		x := openNew(t)
		if err := x.Follow(t.Context(), "log", nodeName(i)); err != nil {
			t.Fatal(err)
		}
		n.indexes = append(n.indexes, x)
		n.process[nodeName(i)] = 1
	}
	return n
}

func nodeName(i int) string { return fmt.Sprint("n", i) }

// entry is the next one that a node writes.
func (n *nodes) entry(node int, calls ...[]Op) LogEntry {
	name := nodeName(node)
	n.written[name]++
	return LogEntry{Node: name, Process: n.process[name], Number: n.written[name], Calls: calls}
}

// write puts an entry into the log, where every index applies it, and returns what the first one says.
func (n *nodes) write(e LogEntry) Applied {
	n.t.Helper()
	n.last++
	e.Position = n.last
	var first Applied
	for i, x := range n.indexes {
		applied, err := x.ApplyLog([]LogEntry{e})
		if err != nil {
			n.t.Fatal(err)
		}
		got := applied[0]
		got.Opened = nil // of this node
		if i == 0 {
			first = got
		} else if !reflect.DeepEqual(got, first) {
			n.t.Fatalf("n%d: %+v, and n0: %+v", i, got, first)
		}
	}
	return first
}

// apply writes a call of a node.
func (n *nodes) apply(node int, ops ...Op) []Result {
	n.t.Helper()
	a := n.write(n.entry(node, ops))
	if a.Dropped || a.Answers[0].Refused != nil {
		n.t.Fatalf("%+v", a)
	}
	return a.Answers[0].Results
}

// memberOf is n<i>, with notify for its own clients and two steps that one node carries out.
func memberOf(i int) Member {
	return Member{
		Node: nodeName(i), Instance: fmt.Sprint("machine", i), Format: 1, Version: "1.0.0",
		Steps: []string{shared.StepHistory, shared.StepAttachments}, EachNode: []string{shared.StepNotify},
	}
}

// join has a node join, in as many parts as it takes.
func (n *nodes) join(m Member) (parts int) {
	n.t.Helper()
	var node int
	_, _ = fmt.Sscanf(m.Node, "n%d", &node)
	after := uint64(0)
	if was := n.members()[m.Node]; was != nil {
		after = was.Epoch
	}
	for {
		r := n.apply(node, Op{Join: &Join{Member: m, After: after}})[0]
		if parts++; !r.New {
			n.t.Fatalf("%s does not join: %+v", m.Node, r)
		}
		if !r.More {
			return parts
		}
	}
}

// leave has another node find that one is gone.
func (n *nodes) leave(by, node int, forget bool) (parts int) {
	n.t.Helper()
	epoch := n.members()[nodeName(node)].Epoch
	for {
		r := n.apply(by, Op{Leave: &Leave{Node: nodeName(node), Epoch: epoch, Forget: forget}})[0]
		if parts++; !r.New {
			n.t.Fatalf("n%d does not leave: %+v", node, r)
		}
		if !r.More {
			return parts
		}
	}
}

func (n *nodes) members() map[string]*Member {
	n.t.Helper()
	members, err := n.indexes[0].Members()
	if err != nil {
		n.t.Fatal(err)
	}
	return members
}

// settleOn settles a step on a node.
func (n *nodes) settleOn(node int, sequence uint64, step string, o shared.Outcome) StepState {
	n.t.Helper()
	op := settle(sequence, step, o)
	op.Settle.Node = nodeName(node)
	return n.apply(node, op)[0].Step
}

// open lists what each node has open.
func (n *nodes) open(step string) (all []string) {
	n.t.Helper()
	for i, x := range n.indexes {
		for _, sequence := range queued(n.t, x, step) {
			all = append(all, fmt.Sprintf("n%d:%d", i, sequence))
		}
	}
	return all
}

func (n *nodes) wantOpen(step string, want ...string) {
	n.t.Helper()
	if got := n.open(step); !slices.Equal(got, want) {
		n.t.Errorf("%s is open on %v, want %v", step, got, want)
	}
}

// shared are the keys and values that all nodes have.
func sharedContents(t *testing.T, x *Index) map[string]string {
	t.Helper()
	c := contents(t, x)
	maps.DeleteFunc(c, func(k, _ string) bool { return k[0] == 'i' || k[0] == 'g' })
	return c
}

// wantEqual checks that all indexes have the same keys and values, and that every open step is where it belongs.
func (n *nodes) wantEqual() {
	n.t.Helper()
	first := sharedContents(n.t, n.indexes[0])
	for i, x := range n.indexes {
		if got := sharedContents(n.t, x); !maps.Equal(got, first) || x.Log() != n.indexes[0].Log() {
			n.t.Errorf("n%d differs from n0: %d keys and %d", i, len(got), len(first))
		}
	}
	wantQueued(n.t, n.indexes[0])
	wantNoneLost(n.t, n.indexes[0])
}

// wantQueued checks that the holders of every open step have it in a queue of theirs, and that nobody else has.
func wantQueued(t *testing.T, x *Index) {
	t.Helper()
	holders, queues := map[string]bool{}, map[string]bool{}
	err := x.dir.View(func(txn *badger.Txn) error {
		err := each(t.Context(), txn, newKey('h'), nil, func(item *badger.Item) (bool, error) {
			var h indexpb.Holders
			if err := decode(item, &h); err != nil {
				return false, err
			}
			for _, node := range h.Nodes {
				holders[fmt.Sprint(onNode(textAt(item.Key(), 10), node), " ", numberAt(item.Key(), 2))] = true
			}
			return true, nil
		})
		for _, kind := range []byte{'e', 'b'} {
			if err != nil {
				return err
			}
			err = each(t.Context(), txn, newKey(kind), nil, func(item *badger.Item) (bool, error) {
				queues[fmt.Sprint(textAt(item.Key(), 2), " ", lastNumber(item.Key()))] = true
				return true, nil
			})
		}
		return err
	})
	if err != nil || !maps.Equal(holders, queues) {
		t.Errorf("%v; the holders are %v, and the queues have %v", err, holders, queues)
	}
}

func TestApplyLog_EachNodeNotifiesBeforeOtherSteps(t *testing.T) {
	n := newNodes(t, 3)
	for i := range 3 {
		n.join(memberOf(i))
	}
	n.apply(1, put(message("m")))
	n.apply(2, recall("r", message("m"), shared.StepNotify, shared.StepHistory))
	n.wantOpen(shared.StepNotify, "n0:1", "n1:1", "n2:1")
	n.settleOn(0, 1, shared.StepNotify, shared.OutcomeDone)
	if s := n.settleOn(1, 1, shared.StepNotify, shared.OutcomeNothingToDo); s.Open {
		t.Errorf("settled, and %+v", s)
	}
	n.settleOn(0, 1, shared.StepNotify, shared.OutcomeDone) // again
	n.wantOpen(shared.StepNotify, "n2:1")
	n.wantOpen(shared.StepHistory)
	failed := fail(1, shared.StepNotify, 1, "no client")
	failed.Settle.Node = "n2"
	if r := n.apply(2, failed); r[0].Step.Attempts != 1 || !r[0].Step.Open {
		t.Errorf("a failure: %+v", r)
	}
	n.settleOn(2, 1, shared.StepNotify, shared.OutcomeDone)
	n.wantOpen(shared.StepNotify)
	if got := n.open(shared.StepHistory); len(got) != 1 {
		t.Errorf("history is open on %v; want one node", got)
	}
	n.settleOn(1, 1, shared.StepHistory, shared.OutcomeDone)
	n.wantOpen(shared.StepHistory)
	var steps []string
	for _, s := range ledger(t, n.indexes[1], "acme", "r").Entries[0].Steps {
		steps = append(steps, fmt.Sprint(s.Step, "@", s.Node, " ", s.Outcome, " ", s.Attempts))
	}
	want := []string{"notify@n0 done 1", "notify@n1 nothing_to_do 1", "notify@n2 done 2", "history@n1 done 1"}
	if !slices.Equal(steps, want) {
		t.Errorf("the ledger has %q, want %q", steps, want)
	}
	n.wantEqual()
}

func TestApplyLog_NodeGoneAndBack(t *testing.T) {
	n := newNodes(t, 3)
	for i := range 3 {
		n.join(memberOf(i))
	}
	steps := []string{shared.StepNotify, shared.StepHistory}
	const before, meanwhile = 450, 30
	for i := range before {
		m := message(fmt.Sprint("m", i))
		n.apply(0, put(m), recall(fmt.Sprint("r", i), m, steps...))
		if i%2 == 0 { // of half of them, notify is settled on the others
			n.settleOn(0, uint64(i)+1, shared.StepNotify, shared.OutcomeDone)
			n.settleOn(1, uint64(i)+1, shared.StepNotify, shared.OutcomeDone)
		}
		if i%10 == 0 { // and of some, on all
			n.settleOn(2, uint64(i)+1, shared.StepNotify, shared.OutcomeDone)
		}
	}
	if parts := n.leave(0, 2, false); parts < 3 {
		t.Errorf("a node with %d open steps leaves in %d parts", before, parts)
	}
	if got := queued(t, n.indexes[2], shared.StepNotify); len(got) > 0 {
		t.Errorf("notify is open on a node that is gone: %v", got)
	}
	if got := len(n.open(shared.StepHistory)); got != before/2 {
		t.Errorf("history is open %d times, want %d: of those that are notified on the others", got, before/2)
	}
	for i := range meanwhile {
		m := message(fmt.Sprint("later", i))
		n.apply(1, put(m), recall(fmt.Sprint("s", i), m, steps...))
	}
	n.wantEqual()
	n.process["n2"], n.written["n2"] = 2, 0
	n.join(memberOf(2))
	// It missed what was open on it, and what was recalled while it was gone.
	if got, want := len(queued(t, n.indexes[2], shared.StepNotify)), before-1+meanwhile; got != want {
		t.Errorf("%d notices are open again on the node, want %d", got, want)
	}
	if got := len(n.open(shared.StepHistory)); got != before/2 {
		t.Errorf("history is open %d times, want %d", got, before/2)
	}
	for sequence := range uint64(before + meanwhile) {
		for i := range 3 {
			n.settleOn(i, sequence+1, shared.StepNotify, shared.OutcomeDone)
		}
	}
	n.wantOpen(shared.StepNotify)
	if got := len(n.open(shared.StepHistory)); got != before+meanwhile {
		t.Errorf("history is open %d times, want %d", got, before+meanwhile)
	}
	n.wantEqual()
}

func TestApplyLog_StepThatNobodyHas(t *testing.T) {
	n := newNodes(t, 2)
	first := memberOf(0)
	first.Steps = nil
	n.join(first)
	n.apply(0, put(message("m")), recall("r", message("m"), shared.StepHistory))
	n.wantOpen(shared.StepHistory)
	n.join(memberOf(1))
	n.wantOpen(shared.StepHistory, "n1:1")
	n.failOn(1, 1, shared.StepHistory, 1) // its attempts go along
	n.join(memberOf(0))
	lost := memberOf(1)
	lost.Steps = nil
	n.join(lost)
	n.wantOpen(shared.StepHistory, "n0:1")
	e, err := n.indexes[0].Entry(1, shared.StepHistory)
	if err != nil || e == nil || e.Steps[0].Attempts != 1 {
		t.Errorf("%+v %v", e, err)
	}
	n.wantEqual()
}

func TestApplyLog_Copies(t *testing.T) {
	n := newNodes(t, 2)
	joined := n.entry(0, []Op{{Join: &Join{Member: memberOf(0)}}})
	n.write(joined)
	n.join(memberOf(1))
	label := func(l string) []Op {
		return []Op{{Amend: &shared.Amendment{Tenant: "acme", MessageID: "m", Labels: []string{l}}}}
	}
	n.apply(0, put(message("m")))
	one := n.entry(0, label("one"))
	n.write(one)
	n.apply(1, label("two")...)
	before := sharedContents(t, n.indexes[0])
	for _, e := range []LogEntry{one, joined} {
		if a := n.write(e); !a.Dropped {
			t.Errorf("a copy: %+v", a)
		}
	}
	t.Run("of an entry that came early", func(t *testing.T) {
		first, second := n.entry(0, label("first")), n.entry(0, label("second"))
		if a := n.write(second); !a.Dropped || !a.Early {
			t.Errorf("the second one, first: %+v", a)
		}
		for _, e := range []LogEntry{first, second} { // both are written again, in their order
			if a := n.write(e); a.Dropped {
				t.Errorf("entry %d: %+v", e.Number, a)
			}
			if a := n.write(e); !a.Dropped || a.Early {
				t.Errorf("entry %d again: %+v", e.Number, a)
			}
		}
	})
	if len(before) == 0 {
		t.Error("nothing is there")
	}
	t.Run("of a position", func(t *testing.T) {
		for _, x := range n.indexes {
			at := one
			at.Position, at.Number = 3, 99
			if a, err := x.ApplyLog([]LogEntry{at}); err != nil || !a[0].Dropped {
				t.Errorf("%+v %v", a, err)
			}
		}
	})
	n.wantEqual()
}

func TestApplyLog_OneProcessWritesForANode(t *testing.T) {
	n := newNodes(t, 2)
	n.join(memberOf(0))
	n.join(memberOf(1))
	stranger := n.entry(1, []Op{put(message("m"))})
	stranger.Node = "n7"
	n.written["n1"]-- // it is none of n1
	if a := n.write(stranger); !a.Dropped {
		t.Errorf("of a node that is no member: %+v", a)
	}
	old := n.entry(0, []Op{put(message("m"))})
	n.process["n0"], n.written["n0"] = 2, 0
	n.join(memberOf(0))
	if a := n.write(old); !a.Dropped {
		t.Errorf("of the process before: %+v", a)
	}
	back := n.entry(0, []Op{{Join: &Join{Member: memberOf(0)}}})
	back.Process = 1
	if a := n.write(back); a.Answers[0].Results[0].New {
		t.Errorf("the process before joins again: %+v", a)
	}
	elsewhere := memberOf(0)
	elsewhere.Instance = "another machine"
	other := n.entry(0, []Op{{Join: &Join{Member: elsewhere, After: n.members()["n0"].Epoch}}})
	other.Process, other.Number = 3, 1
	if a := n.write(other); a.Answers[0].Results[0].New || a.Answers[0].Results[0].Member.Instance != "machine0" {
		t.Errorf("another machine joins under the name of one that is there: %+v", a)
	}
	if a := n.apply(1, Op{Join: &Join{Member: memberOf(5)}}); a[0].New || n.members()["n5"] != nil {
		t.Errorf("a node joins for another one: %+v", a)
	}
	over := n.entry(0, []Op{{Leave: &Leave{Node: "n1", Epoch: n.members()["n1"].Epoch}}})
	over.Process = 4
	if a := n.write(over); !a.Dropped {
		t.Errorf("a process that has not joined has another node leave: %+v", a)
	}
	n.process["n0"], n.written["n0"] = 4, 0
	n.leave(0, 0, false) // the process before, by the one that is to join
	n.join(elsewhere)
	n.apply(0, put(message("m")))
	n.leave(1, 0, true)
	if a := n.write(n.entry(0, []Op{put(message("x"))})); !a.Dropped || n.members()["n0"] != nil {
		t.Errorf("of a node that is forgotten: %+v, members %v", a, n.members())
	}
	n.process["n0"], n.written["n0"] = 5, 0
	n.join(memberOf(0))
	n.leave(0, 0, true) // by itself
	n.wantEqual()
}

func TestApplyLog_Large(t *testing.T) {
	n := newNodes(t, 2)
	n.join(memberOf(0))
	var entries []LogEntry
	for e := range 40 {
		var ops []Op
		for i := range 1000 {
			ops = append(ops, put(message(fmt.Sprintf("%d-%0100d", e, i))))
		}
		entry := n.entry(0, ops)
		n.last++
		entry.Position = n.last
		entries = append(entries, entry)
	}
	commits := n.indexes[0].Stats().Commits
	for rest := entries; len(rest) > 0; {
		applied, err := n.indexes[0].ApplyLog(rest)
		if err != nil || len(applied) == 0 {
			t.Fatalf("%d of %d entries: %v", len(applied), len(rest), err)
		}
		rest = rest[len(applied):]
	}
	if did := n.indexes[0].Stats().Commits - commits; did < 2 || did > 20 {
		t.Errorf("%d commits for %d entries", did, len(entries))
	}
	for i := range entries {
		if _, err := n.indexes[1].ApplyLog(entries[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	n.wantEqual()
}

func TestFollow(t *testing.T) {
	const log = "MY-RECALL-dn5c62ctuitn" // as a stream that was created at a time
	path := t.TempDir()
	x := openAt(t, path)
	if err := x.Follow(t.Context(), log, "n0"); err != nil {
		t.Fatal(err)
	}
	apply(t, x, Op{Join: &Join{Member: memberOf(0)}})
	apply(t, x, put(message("m")), recall("r", message("m"), shared.StepNotify))
	page, err := x.Since(t.Context(), shared.SinceRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Apply([][]Op{{put(message("other"))}}); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("an entry of no log is applied: %v", err)
	}
	y := openAt(t, dirtest.Snapshot(t, path))
	if err := y.Follow(t.Context(), "another", "n0"); !errors.Is(err, ErrOtherLog) {
		t.Errorf("another log: %v", err)
	}
	if err := y.Follow(t.Context(), log, "n0"); err != nil || y.Log() != x.Log() {
		t.Errorf("%v: %+v, want %+v", err, y.Log(), x.Log())
	}
	if got := queued(t, y, shared.StepNotify); !slices.Equal(got, []uint64{1}) {
		t.Errorf("open: %v", got)
	}
	page2, err := y.Since(t.Context(), shared.SinceRequest{Tenant: "acme", After: page.Next})
	if err != nil || page2.Reset {
		t.Errorf("a cursor of another node: %+v %v", page2, err)
	}
	ahead := y.cursorOf(7)
	if p, err := y.Since(t.Context(), shared.SinceRequest{Tenant: "acme", After: ahead}); err != nil || p.Reset ||
		p.Next != ahead {
		t.Errorf("a cursor of a node that has applied more: %+v %v", p, err)
	}
	single := openNew(t)
	apply(t, single, put(message("m")))
	if err := single.Follow(t.Context(), log, "n0"); !errors.Is(err, ErrOtherLog) {
		t.Errorf("an index of a single machine: %v", err)
	}
	for _, name := range []string{"", "a@b", "a b", string(make([]byte, 65))} {
		if err := x.Follow(t.Context(), log, name); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("node %q: %v", name, err)
		}
	}
}

func TestLedgerPage_NoSteps(t *testing.T) {
	n := newNodes(t, 1)
	n.join(memberOf(0))
	single := openNew(t)
	op := recall("r", message("m"))
	op.Recall.Steps = []string{}
	apply(t, single, op)
	n.apply(0, op)
	for _, x := range []*Index{single, n.indexes[0]} {
		if e := ledger(t, x, "acme", "r").Entries; len(e) != 1 || e[0].Steps == nil || len(e[0].Steps) > 0 {
			t.Errorf("%+v", e)
		}
	}
}

func TestApplyLog_Random(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	n := newNodes(t, 4)
	steps := append(shared.StandardSteps(), "own")
	random := func(i int) Member {
		m := memberOf(i)
		m.Steps, m.EachNode = nil, nil
		for _, step := range steps {
			switch k := r.IntN(4); {
			case k == 0 || step == shared.StepNotify:
				m.EachNode = append(m.EachNode, step)
			case k < 3:
				m.Steps = append(m.Steps, step)
			}
		}
		return m
	}
	for i := range n.indexes {
		n.join(random(i))
	}
	var old []LogEntry
	for range 1500 {
		by := r.IntN(len(n.indexes))
		switch r.IntN(40) {
		case 0:
			node, members := r.IntN(len(n.indexes)), n.members()
			if m := members[nodeName(node)]; node != by && m != nil && members[nodeName(by)] != nil {
				n.leave(by, node, m.Gone && r.IntN(2) == 0)
			}
			continue
		case 1:
			n.process[nodeName(by)]++
			n.written[nodeName(by)] = 0
			n.join(random(by))
			continue
		case 2:
			if len(old) > 0 {
				n.write(old[r.IntN(len(old))])
			}
			continue
		}
		var ops []Op
		for range 1 + r.IntN(4) {
			op := randomOp(r, int(n.indexes[0].LastSequence()))
			if op.Settle != nil {
				op.Settle.Node = nodeName(by)
			}
			ops = append(ops, op)
		}
		if CheckOps(ops) == nil {
			e := n.entry(by, ops)
			n.write(e)
			old = append(old, e)
		}
	}
	n.wantEqual()
}
