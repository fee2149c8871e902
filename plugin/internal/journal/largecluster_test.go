package journal

import (
	"fmt"
	"sync"
	"testing"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// TestReplicated_SettlementsInALargeCluster settles hundreds of notices at once, each of which opens steps on every one
// of many nodes: no entry may be more than one transaction holds.
func TestReplicated_SettlementsInALargeCluster(t *testing.T) {
	s := journaltest.NewStream()
	n := startNode(t, s)
	own := []string{"own0", "own1", "own2", "own3"}
	const others, events = 40, 400
	for i := range others {
		name := fmt.Sprint("other-node-", i)
		data, err := encodeEntry(&index.LogEntry{Node: name, Process: 1, Number: 1, Calls: [][]index.Op{{{
			Join: &index.Join{Member: index.Member{Node: name, Instance: name, Format: 1, EachNode: own}},
		}}}}, EntryFormat)
		if err != nil {
			t.Fatal(err)
		}
		s.Publish(t.Context(), data, func(error) {})
	}
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
