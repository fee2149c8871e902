package index

import (
	"fmt"
	"slices"
	"testing"

	"github.com/chat-recall/recall/shared"
)

// failOn has an attempt of a step fail on a node.
func (n *nodes) failOn(node int, sequence uint64, step string, attempt int) StepState {
	n.t.Helper()
	op := fail(sequence, step, attempt, "no")
	op.Settle.Node = nodeName(node)
	return n.apply(node, op)[0].Step
}

// wantStepQueues checks in whose step queues a step is, and not backing off.
func (n *nodes) wantStepQueues(step string, want ...string) {
	n.t.Helper()
	var got []string
	for i, x := range n.indexes {
		sequences, err := x.OpenSteps(n.t.Context(), step, 0, 100)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, sequence := range sequences {
			got = append(got, fmt.Sprintf("n%d:%d", i, sequence))
		}
	}
	if !slices.Equal(got, want) {
		n.t.Errorf("the step queues of %s have %v, want %v", step, got, want)
	}
}

// TestApplyLog_MovedStepIsQueued checks that a step that failed elsewhere is in the step queue of the node that gets
// it: that one has no backoff to wait for, and would never look at it.
func TestApplyLog_MovedStepIsQueued(t *testing.T) {
	n := newNodes(t, 2)
	n.join(memberOf(0))
	n.apply(0, put(message("m")), recall("r", message("m"), shared.StepHistory))
	n.failOn(0, 1, shared.StepHistory, 1)
	n.failOn(0, 1, shared.StepHistory, 2)
	n.wantStepQueues(shared.StepHistory)
	n.join(memberOf(1))
	n.leave(1, 0, false)
	n.wantStepQueues(shared.StepHistory, "n1:1")
	n.wantEqual()
	if s := n.failOn(1, 1, shared.StepHistory, 3); s.Attempts != 3 {
		t.Errorf("its attempts do not go on: %+v", s)
	}
	n.wantStepQueues(shared.StepHistory)
	n.process["n0"], n.written["n0"] = 2, 0
	n.join(memberOf(0))
	n.leave(0, 1, false)
	n.wantStepQueues(shared.StepHistory, "n0:1")
	n.settleOn(0, 1, shared.StepHistory, shared.OutcomeDone)
	n.wantStepQueues(shared.StepHistory)
	n.wantEqual()
}

// TestApplyLog_FailureOfTheNodeBefore checks that a node that has a step no longer does not have it back off where it
// is: nobody would look at it there.
func TestApplyLog_FailureOfTheNodeBefore(t *testing.T) {
	n := newNodes(t, 2)
	n.join(memberOf(0))
	n.apply(0, put(message("m")), recall("r", message("m"), shared.StepHistory))
	n.join(memberOf(1))
	n.leave(1, 0, false)
	if s := n.failOn(0, 1, shared.StepHistory, 1); s.Open {
		t.Errorf("it is still open for the node before: %+v", s)
	}
	n.wantOpen(shared.StepHistory, "n1:1")
	n.settleOn(0, 1, shared.StepHistory, shared.OutcomeDone) // that counts
	n.wantOpen(shared.StepHistory)
	n.wantEqual()
}

// TestApplyLog_ReopenedStepGoesOn checks that an attempt counts that a node began before the others declared it gone
// and that ends after it joined again: its consumer waits for that attempt.
func TestApplyLog_ReopenedStepGoesOn(t *testing.T) {
	n := newNodes(t, 2)
	n.join(memberOf(0))
	n.join(memberOf(1))
	n.apply(0, put(message("m")), recall("r", message("m"), shared.StepNotify))
	n.failOn(0, 1, shared.StepNotify, 1)
	n.failOn(0, 1, shared.StepNotify, 2)
	n.leave(1, 0, false)
	n.join(memberOf(0))
	n.wantStepQueues(shared.StepNotify, "n0:1", "n1:1")
	if s := n.failOn(0, 1, shared.StepNotify, 3); !s.Open || s.Attempts != 3 {
		t.Errorf("the attempt that was in flight: %+v", s)
	}
	n.settleOn(0, 1, shared.StepNotify, shared.OutcomeDone)
	n.wantOpen(shared.StepNotify, "n1:1")
	n.wantEqual()
}

// TestApplyLog_AdoptedNotice checks that what every node carries out is opened for each that is back, although no node
// was there when it was recalled.
func TestApplyLog_AdoptedNotice(t *testing.T) {
	n := newNodes(t, 3)
	for i := range 3 {
		n.join(memberOf(i))
	}
	n.leave(0, 1, false)
	n.leave(0, 2, false)
	n.leave(1, 0, false) // it does not know that yet
	n.apply(0, put(message("m")), recall("r", message("m"), shared.StepNotify, shared.StepHistory))
	for i := range 3 {
		n.join(memberOf(i))
	}
	n.wantOpen(shared.StepNotify, "n0:1", "n1:1", "n2:1")
	n.wantEqual()
	for i := range 3 {
		n.wantOpen(shared.StepHistory)
		n.settleOn(i, 1, shared.StepNotify, shared.OutcomeDone)
	}
	if got := n.open(shared.StepHistory); len(got) != 1 {
		t.Errorf("history is open on %v", got)
	}
	n.wantEqual()
}

// TestApplyLog_LeaveOfALargeCluster checks that a part of a Leave fits in a transaction however many nodes there are.
func TestApplyLog_LeaveOfALargeCluster(t *testing.T) {
	n := newNodes(t, 1)
	const members, events = 60, 220
	var own []string
	for i := range 4 {
		own = append(own, fmt.Sprint("own", i))
	}
	for i := range members {
		m := memberOf(i)
		m.EachNode = append(m.EachNode, own...)
		n.process[m.Node] = 1
		n.join(m)
	}
	for e := range events {
		m := message(fmt.Sprint("m", e))
		n.apply(0, put(m), recall(fmt.Sprint("r", e), m, append([]string{shared.StepNotify}, own...)...))
		var ops []Op
		for i := 1; i < members; i++ {
			op := settle(uint64(e)+1, shared.StepNotify, shared.OutcomeDone)
			op.Settle.Node = nodeName(i)
			ops = append(ops, op)
		}
		n.apply(0, ops...)
	}
	n.leave(1, 0, false)
	n.wantEqual()
}
