package index

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// In a cluster an open step is in the step queues of nodes: of every one whose host carries it out for its own clients,
// or of one that is chosen. Its holders are those that have not settled it. The attempts of a step that every node
// carries out are those of each, under <step>@<node>, and the step itself has an outcome once the last of them has
// settled it. A step that one node carries out keeps its attempts when it moves.

// onNode names a step of a node.
func onNode(step, node string) string { return step + "@" + node }

// splitNode splits the name of a step of a node.
func splitNode(name string) (step, node string) {
	step, node, _ = strings.Cut(name, "@")
	return step, node
}

// holders returns who has a step of an event open; nil where nobody has, as on a single machine.
func (b *batch) holders(sequence uint64, step string) (*indexpb.Holders, error) {
	if b.members == nil {
		return nil, nil
	}
	return readHolders(b.txn, sequence, step)
}

func readHolders(txn *badger.Txn, sequence uint64, step string) (*indexpb.Holders, error) {
	h := &indexpb.Holders{}
	found, err := get(txn, holdersKey(sequence, step), h)
	if !found {
		h = nil
	}
	return h, err
}

// choose returns who is to carry out a step of an event.
func (b *batch) choose(step string, sequence uint64) *indexpb.Holders {
	var every, able []string
	for node, m := range b.members {
		switch {
		case m.Gone:
		case slices.Contains(m.EachNode, step):
			every = append(every, node)
		case slices.Contains(m.Steps, step):
			able = append(able, node)
		}
	}
	if len(every) > 0 {
		slices.Sort(every)
		return &indexpb.Holders{EachNode: true, Nodes: every}
	}
	return &indexpb.Holders{Nodes: []string{Rendezvous(able, sequence)}}
}

// Rendezvous chooses a node for an event: always the same one, while others come and go. Empty: there are none.
func Rendezvous(nodes []string, sequence uint64) (chosen string) {
	var most uint64
	for _, node := range nodes {
		h := fnv.New64a()
		h.Write(binary.BigEndian.AppendUint64([]byte(node), sequence))
		weight := h.Sum64() // FNV's last bytes hardly reach its high bits
		weight ^= weight >> 29
		weight *= 0xbf58476d1ce4e5b9
		weight ^= weight >> 32
		if chosen == "" || weight > most || weight == most && node < chosen {
			chosen, most = node, weight
		}
	}
	return chosen
}

// queueOn puts a step of an event into the step queues of its holders.
func (b *batch) queueOn(sequence uint64, step string, h *indexpb.Holders, w *writes) error {
	for _, node := range h.Nodes {
		b.queueOf(sequence, step, node, w)
	}
	return w.set(holdersKey(sequence, step), h)
}

// queueOf puts a step of an event into the step queue of a node.
func (b *batch) queueOf(sequence uint64, step, node string, w *writes) {
	w.add(stepKey(onNode(step, node), sequence))
	if node == b.node {
		w.open(step, sequence)
	}
}

// planSettleOn is planSettle in a cluster. A step that one node carries out is settled whoever says so: it may have
// become another's while this one did it.
func (b *batch) planSettleOn(s *Settle, w *writes) (StepState, error) {
	h, err := b.holders(s.Sequence, s.Step)
	if err != nil || h == nil {
		return StepState{}, err
	}
	node, k := h.Nodes[0], attemptsKey(s.Sequence, s.Step)
	if h.EachNode {
		if node = s.Node; !slices.Contains(h.Nodes, node) {
			return StepState{}, nil
		}
		k = attemptsKey(s.Sequence, onNode(s.Step, node))
	}
	a := &indexpb.Attempts{}
	if _, err := get(b.txn, k, a); err != nil {
		return StepState{}, err
	}
	if !h.EachNode {
		if s.Node != node && !s.Outcome.Settles() { // it is another's now, which carries it out by itself
			return StepState{}, nil
		}
		a.Node = s.Node
	}
	if !b.addAttempt(s, onNode(s.Step, node), a, w) {
		return stateOf(a), nil
	}
	if err := w.set(k, a); err != nil || !settled(a) {
		return stateOf(a), err
	}
	h.Done = h.Done || s.Outcome == shared.OutcomeDone
	return StepState{}, b.dropHolder(s.Sequence, s.Step, node, h, a, w)
}

// dropHolder ends that a node has a step of an event open. last is the outcome that the step has if it was the last
// one.
func (b *batch) dropHolder(sequence uint64, step, node string, h *indexpb.Holders, last *indexpb.Attempts,
	w *writes) error {
	h.Nodes = slices.DeleteFunc(h.Nodes, func(n string) bool { return n == node })
	if len(h.Nodes) > 0 {
		return w.set(holdersKey(sequence, step), h)
	}
	w.delete(holdersKey(sequence, step))
	if h.EachNode {
		before := &indexpb.Attempts{}
		if _, err := get(b.txn, attemptsKey(sequence, step), before); err != nil || settled(before) {
			return err // it was opened again for a node that had missed it
		}
		outcome := last.Outcome
		if h.Done {
			outcome = outcomes.number[shared.OutcomeDone]
		}
		err := w.set(attemptsKey(sequence, step), &indexpb.Attempts{Outcome: outcome, ChangedAt: last.ChangedAt})
		if err != nil {
			return err
		}
	}
	return b.openAfter(sequence, step, w)
}

// withdraw ends that a node which is gone has a step of an event open.
func (b *batch) withdraw(sequence uint64, step, node string, h *indexpb.Holders, w *writes) error {
	k := attemptsKey(sequence, onNode(step, node))
	a := &indexpb.Attempts{}
	if _, err := get(b.txn, k, a); err != nil {
		return err
	}
	w.delete(queueKey(onNode(step, node), sequence, a))
	a.Outcome, a.Queued = outcomes.number[shared.OutcomeNothingToDo], false
	if err := w.set(k, a); err != nil {
		return err
	}
	return b.dropHolder(sequence, step, node, h, a, w)
}

// give gives an open step that one node carries out to another node, or to each that will come if it is one that every
// node carries out. What failed elsewhere waits for no backoff there.
func (b *batch) give(sequence uint64, step string, h *indexpb.Holders, node string, eachNode bool, w *writes) error {
	from := h.Nodes[0]
	if node == from {
		return nil
	}
	k := attemptsKey(sequence, step)
	a := &indexpb.Attempts{}
	if _, err := get(b.txn, k, a); err != nil {
		return err
	}
	w.delete(queueKey(onNode(step, from), sequence, a))
	b.queueOf(sequence, step, node, w)
	if a.Count > 0 {
		if eachNode {
			w.delete(k)
			k = attemptsKey(sequence, onNode(step, node))
		}
		a.Queued = true
		if err := w.set(k, a); err != nil {
			return err
		}
	}
	return w.set(holdersKey(sequence, step), &indexpb.Holders{EachNode: eachNode, Nodes: []string{node}})
}

// reopenStep opens a step of an event for one more node that carries it out for its own clients, unless one carries it
// out or did. Its attempts go on: one of them may be in flight.
func (b *batch) reopenStep(node string, sequence uint64, step string, w *writes) error {
	if unopened, err := isUnopened(b.txn, sequence, step); err != nil || unopened {
		return err
	}
	h, err := b.holders(sequence, step)
	switch {
	case err != nil:
		return err
	case h == nil:
		var a indexpb.Attempts
		if _, err := get(b.txn, attemptsKey(sequence, step), &a); err != nil || a.Count > 0 {
			return err // one carried it out, as the single machine did that the cluster was before
		}
		h = &indexpb.Holders{EachNode: true, Done: true}
	case !h.EachNode || slices.Contains(h.Nodes, node):
		return nil
	}
	h.Nodes = append(h.Nodes, node)
	slices.Sort(h.Nodes)
	k := attemptsKey(sequence, onNode(step, node))
	a := &indexpb.Attempts{}
	if _, err := get(b.txn, k, a); err != nil {
		return err
	}
	if a.Count > 0 {
		a.Outcome, a.Queued = indexpb.Outcome_OUTCOME_UNSPECIFIED, true
		if err := w.set(k, a); err != nil {
			return err
		}
	} else {
		w.delete(k)
	}
	b.queueOf(sequence, step, node, w)
	return w.set(holdersKey(sequence, step), h)
}

// stepRecords are what came of a step that was open when its recall was committed: one record for each node that has
// carried it out or is to, where every node does; else the one of a.
func stepRecords(txn *badger.Txn, sequence uint64, step string, a *indexpb.Attempts) ([]shared.StepRecord, error) {
	h, err := readHolders(txn, sequence, step)
	if err != nil {
		return nil, err
	}
	if h != nil && !h.EachNode {
		return []shared.StepRecord{stepRecord(step, h.Nodes[0], a)}, nil
	}
	var records []shared.StepRecord
	prefix := append(newKey('s').number(sequence), onNode(step, "")...)
	err = each(context.Background(), txn, prefix, nil, func(item *badger.Item) (bool, error) {
		var of indexpb.Attempts
		err := decode(item, &of)
		_, node := splitNode(textAt(item.Key(), 10))
		records = append(records, stepRecord(step, node, &of))
		return true, err
	})
	if err != nil {
		return nil, err
	}
	for _, node := range h.GetNodes() {
		if !slices.ContainsFunc(records, func(r shared.StepRecord) bool { return r.Node == node }) {
			records = append(records, shared.StepRecord{Step: step, Node: node})
		}
	}
	if len(records) == 0 {
		return []shared.StepRecord{stepRecord(step, a.Node, a)}, nil
	}
	slices.SortFunc(records, func(a, b shared.StepRecord) int { return strings.Compare(a.Node, b.Node) })
	return records, nil
}
