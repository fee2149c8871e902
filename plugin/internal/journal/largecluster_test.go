package journal

import (
	"fmt"
	"sync"
	"testing"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// joinOthers has other nodes join a cluster.
func joinOthers(t *testing.T, s *journaltest.Stream, n, format int, eachNode []string) {
	t.Helper()
	for i := range n {
		name := fmt.Sprint("other-node-", i)
		data, err := encodeEntry(&index.LogEntry{Node: name, Process: 1, Number: 1, Calls: [][]index.Op{{{
			Join: &index.Join{Member: index.Member{Node: name, Instance: name, Format: format, EachNode: eachNode}},
		}}}}, EntryFormat)
		if err != nil {
			t.Fatal(err)
		}
		s.Publish(t.Context(), data, func(error) {})
	}
}

// TestReplicated_RelationsInALargeCluster indexes hundreds of messages at once that are all recalled as they come, each
// of which opens steps on every one of many nodes: as edits of a recalled message, and because their recalls wait. Then
// it recalls hundreds with an edit each.
func TestReplicated_RelationsInALargeCluster(t *testing.T) {
	s := journaltest.NewStream()
	n := startNode(t, s)
	var own []string
	for i := range shared.MaxSteps {
		own = append(own, fmt.Sprint("own", i))
	}
	joinOthers(t, s, shared.MaxNodes-4, EntryFormat, own)
	if err := n.log.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	edit := func(id, of string) shared.Message {
		m := message(id)
		m.Relations = []shared.Relation{{Kind: shared.RelationEdit, MessageID: of}}
		return m
	}
	const messages = 100
	apply(t, n.log, put(message("m")), recall("r", message("m"), own...))
	var late, waits, waited, pairs, recalls []index.Op
	for i := range messages {
		late = append(late, put(edit(fmt.Sprint("late", i), "m")))
		id := fmt.Sprint("waited", i)
		waits = append(waits, waiting(id))
		op := put(message(id))
		op.Judged = &index.Judged{Waited: []index.Waited{
			{RecallID: "r-" + id, RequestedAt: start.UnixMicro(), Recall: recall("r-"+id, message(id), own...).Recall},
		}}
		waited = append(waited, op)
		m, e := message(fmt.Sprint("pair", i)), edit(fmt.Sprint("edit", i), fmt.Sprint("pair", i))
		pairs = append(pairs, put(m), put(e))
		recalls = append(recalls, recall("pairs", m, own...))
	}
	apply(t, n.log, waits...)
	for _, r := range append(apply(t, n.log, late...), apply(t, n.log, waited...)...) {
		if r.Put != shared.IndexRecalled {
			t.Fatalf("%+v", r)
		}
	}
	apply(t, n.log, pairs...)
	for _, op := range recalls {
		with, err := n.log.index.FindRelated(op.Recall, nil, func(*shared.Message) bool { return false })
		if err != nil || len(with) != 1 {
			t.Fatal(with, err)
		}
		op.Recall.With = with
	}
	for _, r := range apply(t, n.log, recalls...) {
		if !r.New {
			t.Fatalf("%+v", r)
		}
	}
	if err := n.log.failure(); err != nil {
		t.Error(err)
	}
}

// TestReplicated_SettlementsInALargeCluster settles hundreds of notices at once, each of which opens steps on every one
// of many nodes: no entry may be more than one transaction holds.
func TestReplicated_SettlementsInALargeCluster(t *testing.T) {
	s := journaltest.NewStream()
	n := startNode(t, s)
	own := []string{"own0", "own1", "own2", "own3"}
	const events = 400
	joinOthers(t, s, 40, 1, own)
	var settlements []index.Op
	for e := range events {
		m := message(fmt.Sprint("m", e))
		apply(t, n.log, put(m), recall(fmt.Sprint("r", e), m, append([]string{shared.StepNotify}, own...)...))
		settlements = append(settlements, settle(uint64(e)+1, shared.StepNotify, shared.OutcomeDone))
	}
	var settled sync.WaitGroup
	for i := range settlements { // at once, as a host does
		settled.Add(1)
		n.log.AppendThen(settlements[i:i+1], false, func(_ []index.Result, err error) {
			if err != nil {
				t.Error(err)
			}
			settled.Done()
		})
	}
	settled.Wait()
	if err := n.log.failure(); err != nil {
		t.Error(err)
	}
	holds, err := n.log.index.Holds("other-node-7")
	if err != nil || !holds {
		t.Errorf("%v %v", holds, err)
	}
}
