package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/chat-recall/recall/shared"
)

const (
	// notifyFirst is how long the other steps of a recall wait for its notify at most; see host.Step.
	notifyFirst = 30 * time.Second

	// rejoinTime is how long after its plugin says so a node that was gone is a member again at the latest.
	rejoinTime = 2 * clusterLease
)

// A stepRun is one run of a step on a node.
type stepRun struct {
	node *clusterNode
	note
}

// clusterRuns are all runs of steps, as the nodes have noted them.
type clusterRuns struct {
	of   map[string]map[string][]stepRun // by recall id and step, in the order of time
	gone map[string][]trouble            // when a node was gone for others
}

// readRuns reads the notes of all nodes. What they say about one event must agree.
func (c *cluster) readRuns(r *clusterReport) (*clusterRuns, error) {
	runs := &clusterRuns{of: map[string]map[string][]stepRun{}, gone: map[string][]trouble{}}
	sequences := map[uint64]string{}
	back := map[string][]time.Duration{}
	for _, n := range c.all() {
		notes, err := n.notes()
		if err != nil {
			return nil, err
		}
		for _, one := range notes {
			switch one.What {
			case noteGone:
				runs.gone[one.Node] = append(runs.gone[one.Node], trouble{from: one.At, to: 1<<63 - 1})
			case noteJoins, noteActive:
				back[n.name] = append(back[n.name], one.At)
			default:
				steps := runs.of[one.RecallID]
				if steps == nil {
					steps = map[string][]stepRun{}
					runs.of[one.RecallID] = steps
				}
				steps[one.What] = append(steps[one.What], stepRun{n, one})
				if id, known := sequences[one.Sequence]; known && id != one.RecallID {
					r.fail(&r.OrderDiffers, "event %d is %s on %s, and %s on another node", one.Sequence, one.RecallID,
						n.name, id)
				}
				sequences[one.Sequence] = one.RecallID
			}
		}
	}
	for node, times := range runs.gone {
		for i, t := range times {
			for _, at := range back[node] {
				if at > t.from {
					times[i].to = min(times[i].to, at+rejoinTime)
				}
			}
		}
	}
	for _, steps := range runs.of {
		for _, all := range steps {
			slices.SortFunc(all, func(a, b stepRun) int { return cmp.Compare(a.At, b.At) })
		}
	}
	return runs, nil
}

// wasGone reports whether a node was gone for others at any moment of a time.
func (runs *clusterRuns) wasGone(n *clusterNode, from, to time.Duration) bool {
	return meets(runs.gone[n.name], from, to)
}

func meets(times []trouble, from, to time.Duration) bool {
	return slices.ContainsFunc(times, func(t trouble) bool { return t.from <= to && from <= t.to })
}

// checkRuns checks what ran on which node, and when.
func (c *cluster) checkRuns(r *clusterReport, events []shared.Event) error {
	runs, err := c.readRuns(r)
	if err != nil {
		return err
	}
	began := map[string]time.Duration{} // when the race for a message began, by its id
	for _, m := range c.load.messages {
		began[m.ID] = m.raced
	}
	for _, e := range events {
		c.checkNotify(r, runs, &e, began[e.Message.ID])
		c.checkOnce(r, runs, &e)
	}
	return nil
}

// checkNotify checks that notify has run on every node, and before any other step of the event. It may run later on a
// node that was gone, and after notifyFirst.
func (c *cluster) checkNotify(r *clusterReport, runs *clusterRuns, e *shared.Event, began time.Duration) {
	steps := runs.of[e.RecallID]
	first := time.Duration(1<<63 - 1) // when another step ran
	for step, all := range steps {
		if step != shared.StepNotify {
			first = min(first, all[0].At)
		}
	}
	heldBack := false
	for _, n := range c.all() {
		if n.since > began {
			continue // it was no member when the message was recalled
		}
		i := slices.IndexFunc(steps[shared.StepNotify], func(run stepRun) bool { return run.node == n })
		switch {
		case i < 0:
			r.fail(&r.NotifyMissing, "%s was not notified of %s", n.name, e.RecallID)
		case steps[shared.StepNotify][i].At < first || runs.wasGone(n, began, first):
		case first-began >= notifyFirst:
			heldBack = true
		default:
			r.fail(&r.NotifyLate, "%s was notified of %s %s after another step had run", n.name, e.RecallID,
				steps[shared.StepNotify][i].At-first)
		}
	}
	if heldBack {
		r.HeldBack++
	}
}

// checkOnce checks that the steps of one node have run, and once. Another run is accounted for if in the time between
// the two something was wrong with one of their nodes: the outcome of the first may have got lost, or another node may
// have taken over.
func (c *cluster) checkOnce(r *clusterReport, runs *clusterRuns, e *shared.Event) {
	steps := runs.of[e.RecallID]
	if len(steps[shared.StepHistory]) == 0 {
		r.fail(&r.EventsLost, "no node has removed the message of %s", e.RecallID)
	}
	if got, want := len(steps[shared.StepAttachments]), len(e.Attachments); (got == 0) != (want == 0) {
		r.fail(&r.EventsLost, "%s releases %d attachments, and the step has run %d times", e.RecallID, want, got)
	}
	for _, step := range []string{shared.StepHistory, shared.StepAttachments} {
		for i, run := range steps[step] {
			if i == 0 {
				continue
			}
			before := steps[step][i-1]
			isExplained := func(n *clusterNode) bool {
				return meets(n.troubles, before.At, run.At) || runs.wasGone(n, before.At, run.At)
			}
			if isExplained(before.node) || isExplained(run.node) {
				r.Repeated++
				continue
			}
			r.fail(&r.Duplicates, "%s of %s has run on %s, and %s later on %s", step, e.RecallID, before.node.name,
				run.At-before.At, run.node.name)
		}
	}
}
