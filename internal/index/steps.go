package index

import (
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// An open step is in the step queue while no attempt of it failed, and backing off after that. Before either it may
// wait: behind the gate of its event while notify is open, and for the steps that it comes after. A step that waits has
// no key of its own; its event has one, see gateKey and dependentsKey. Every settlement opens what waited for it alone.
//
// What came of the attempts of a step is a record of its own, so that settling it writes 30 bytes and leaves the ledger
// entry as it is (64 callers recall 1.3 times as many messages a second).

// refusedSettle says why a settlement is not applied.
func (b *batch) refusedSettle(s *Settle) error {
	_, err := b.attempts(s)
	return err
}

func (b *batch) planSettle(s *Settle, w *writes) (StepState, error) {
	if b.members != nil {
		return b.planSettleOn(s, w)
	}
	a, err := b.attempts(s)
	if err != nil || settled(a) {
		return StepState{}, err
	}
	if !b.addAttempt(s, s.Step, a, w) {
		return stateOf(a), nil
	}
	if settled(a) {
		if err := b.openAfter(s.Sequence, s.Step, w); err != nil {
			return StepState{}, err
		}
	}
	return stateOf(a), w.set(attemptsKey(s.Sequence, s.Step), a)
}

// addAttempt adds an attempt to those of a step, and moves the step in its queue or out of it. It reports whether the
// attempt counts.
func (b *batch) addAttempt(s *Settle, queue string, a *indexpb.Attempts, w *writes) bool {
	settles, next := s.Outcome.Settles(), a.Count+1
	if !settles && uint32(s.Attempt) != next {
		return false // it is counted already
	}
	w.delete(queueKey(queue, s.Sequence, a))
	if s.Attempt == 0 || uint32(s.Attempt) >= next {
		a.Count = next
	}
	a.Outcome = outcomes.number[s.Outcome]
	a.ChangedAt = encodeTime(s.At)
	a.Queued = false
	if !settles {
		a.Error, a.Position = s.Error, b.failures+1
		w.failed = true
		w.add(queueKey(queue, s.Sequence, a))
	}
	return true
}

// attempts reads what came of the step that a settlement is about, and refuses one of a step that is not there or that
// waits for others.
func (b *batch) attempts(s *Settle) (*indexpb.Attempts, error) {
	if queued, err := find(b.txn, stepKey(s.Step, s.Sequence)); err != nil || queued != nil {
		return &indexpb.Attempts{}, err
	}
	if h, err := b.holders(s.Sequence, s.Step); err != nil || h != nil { // a node of the cluster has it open
		return &indexpb.Attempts{}, err
	}
	entry, err := b.entryOf(s.Sequence)
	if err != nil {
		return nil, err
	}
	if entry == nil && b.forgotten > 0 && s.Sequence > 0 && s.Sequence <= b.sequence {
		return &indexpb.Attempts{Outcome: indexpb.Outcome_OUTCOME_DONE}, nil // it was settled before it was forgotten
	}
	if entry == nil {
		return nil, shared.Invalidf("sequence", "there is no event %d", s.Sequence)
	}
	var names []string
	for _, step := range entry.Steps {
		if step.Name != s.Step {
			names = append(names, step.Name)
			continue
		}
		a, err := readAttempts(b.txn, entry, step)
		if err != nil || settled(a) || a.Count > 0 || s.Step == shared.StepNotify {
			return a, err
		}
		waitsFor, err := unsettled(b.txn, s.Sequence, step.After, "")
		if err != nil {
			return nil, err
		}
		if gate, err := find(b.txn, gateKey(s.Sequence)); err != nil {
			return nil, err
		} else if gate != nil && !slices.Contains(waitsFor, shared.StepNotify) {
			waitsFor = append([]string{shared.StepNotify}, waitsFor...)
		}
		if len(waitsFor) == 0 {
			return a, nil
		}
		return nil, shared.Invalidf("step", "%s of event %d waits for %s, not settled yet", s.Step, s.Sequence,
			strings.Join(waitsFor, ", "))
	}
	return nil, shared.Invalidf(
		"step",
		"event %d has no step %s; it has %s",
		s.Sequence,
		s.Step,
		strings.Join(names, ", "),
	)
}

// entryOf reads the ledger entry of an event; nil where there is no such event.
func (b *batch) entryOf(sequence uint64) (*indexpb.Entry, error) {
	if r := b.recent.get(sequence); r != nil && !b.changed[sequence] {
		return r.entry, nil
	}
	_, entry, err := entryOf(b.txn, sequence)
	return entry, err
}

// entryOf reads where the ledger entry of an event is, and the entry; nil where there is no such event.
func entryOf(txn *badger.Txn, sequence uint64) (*indexpb.Pointer, *indexpb.Entry, error) {
	var pointer indexpb.Pointer
	if found, err := get(txn, eventKey(sequence), &pointer); err != nil || !found {
		return nil, nil, err
	}
	entry := &indexpb.Entry{}
	if err := mustGet(txn, ledgerKey(pointer.Tenant, pointer.RecallId, sequence), entry, sequence); err != nil {
		return nil, nil, err
	}
	return &pointer, entry, nil
}

// mustEntryOf is entryOf for an event that another key points to. It is an error if there is no such event.
func mustEntryOf(txn *badger.Txn, sequence uint64) (*indexpb.Pointer, *indexpb.Entry, error) {
	pointer, entry, err := entryOf(txn, sequence)
	if err == nil && entry == nil {
		err = missing(sequence, eventKey(sequence))
	}
	return pointer, entry, err
}

// readAttempts reads what came of the attempts of a step.
func readAttempts(txn *badger.Txn, entry *indexpb.Entry, step *indexpb.Step) (*indexpb.Attempts, error) {
	if step.Outcome != indexpb.Outcome_OUTCOME_UNSPECIFIED {
		return &indexpb.Attempts{Outcome: step.Outcome, ChangedAt: entry.RecalledAt}, nil
	}
	a := &indexpb.Attempts{}
	_, err := get(txn, attemptsKey(entry.Sequence, step.Name), a)
	return a, err
}

func settled(a *indexpb.Attempts) bool { return outcomes.word[a.Outcome].Settles() }

func stateOf(a *indexpb.Attempts) StepState {
	if settled(a) {
		return StepState{}
	}
	return StepState{Open: true, Attempts: int(a.Count), Position: a.Position}
}

func stepRecord(step, node string, a *indexpb.Attempts) shared.StepRecord {
	return shared.StepRecord{
		Step:      step,
		Node:      node,
		Outcome:   outcomes.word[a.Outcome],
		Attempts:  int(a.Count),
		Error:     a.Error,
		ChangedAt: decodeTime(a.ChangedAt),
	}
}

// queueKey is where an open step waits: in the step queue, or for the end of its backoff.
func queueKey(step string, sequence uint64, a *indexpb.Attempts) key {
	if a.Count == 0 || a.Queued {
		return stepKey(step, sequence)
	}
	return backoffKey(step, BackoffLevel(int(a.Count)), a.Position, sequence)
}

// BackoffLevels is how many levels of backoff there are. A step whose attempts failed n times is on level n; those that
// failed more often are on the last one.
const BackoffLevels = 11

// BackoffLevel is the level of a step after so many failed attempts, from 1.
func BackoffLevel(attempts int) int { return min(attempts, BackoffLevels) }

// openFirst queues the steps of a new entry that wait for none: notify alone where it is open and others are too.
func (b *batch) openFirst(entry *indexpb.Entry, w *writes) error {
	ready := func(s *indexpb.Step) bool { return isOpen(s) && len(s.After) == 0 }
	notify := func(s *indexpb.Step) bool { return isOpen(s) && s.Name == shared.StepNotify }
	if slices.ContainsFunc(entry.Steps, hasAfter) {
		w.add(dependentsKey(entry.Sequence))
	}
	if slices.ContainsFunc(entry.Steps, notify) && slices.ContainsFunc(entry.Steps, isBehindNotify) {
		w.add(gateKey(entry.Sequence))
		ready = notify
	}
	for _, s := range entry.Steps {
		if !ready(s) {
			continue
		}
		if err := b.queue(entry.Sequence, s.Name, w); err != nil {
			return err
		}
	}
	return nil
}

// planUngate opens the gate of an event, where it has one.
func (b *batch) planUngate(sequence uint64, w *writes) error {
	if gate, err := find(b.txn, gateKey(sequence)); err != nil || gate == nil {
		return err
	}
	return b.openWaiting(sequence, "", true, w)
}

// openAfter opens what waits for a step that this operation settles.
func (b *batch) openAfter(sequence uint64, step string, w *writes) error {
	opensGate := false
	if step == shared.StepNotify {
		gate, err := find(b.txn, gateKey(sequence))
		if err != nil {
			return err
		}
		opensGate = gate != nil
	}
	if dependents, err := find(b.txn, dependentsKey(sequence)); err != nil || dependents == nil && !opensGate {
		return err
	}
	return b.openWaiting(sequence, step, opensGate, w)
}

// openWaiting queues the steps of an event that wait no longer once this operation settles a step, opens the gate of
// the event, or both. settling is that step; empty: none.
func (b *batch) openWaiting(sequence uint64, settling string, opensGate bool, w *writes) error {
	entry, err := b.entryOf(sequence)
	if err != nil {
		return err
	}
	if entry == nil {
		return missing(sequence, eventKey(sequence))
	}
	if opensGate {
		w.delete(gateKey(sequence))
	}
	waiting := false // for other steps, from now on
	for _, s := range entry.Steps {
		switch {
		case hasAfter(s):
			waitsFor, err := unsettled(b.txn, sequence, s.After, settling)
			if err != nil {
				return err
			}
			if waiting = waiting || len(waitsFor) > 0; len(waitsFor) > 0 {
				continue
			}
			// It was opened before if what it waited for is settled again: in a salvaged index the first outcome may be lost.
			if unopened, err := isUnopened(b.txn, sequence, s.Name); err != nil {
				return err
			} else if !unopened || !opensGate && !slices.Contains(s.After, settling) {
				continue
			}
			if err := b.queue(sequence, s.Name, w); err != nil {
				return err
			}
		case opensGate && isBehindNotify(s): // none of them was queued before
			if err := b.queue(sequence, s.Name, w); err != nil {
				return err
			}
		}
	}
	if !waiting && slices.ContainsFunc(entry.Steps, hasAfter) {
		w.delete(dependentsKey(sequence))
	}
	return nil
}

// unsettled lists those of some steps of an event that have no outcome yet, without one step that is being settled.
func unsettled(txn *badger.Txn, sequence uint64, steps []string, settling string) (list []string, err error) {
	for _, step := range steps {
		var a indexpb.Attempts
		if step == settling {
			continue
		}
		if _, err := get(txn, attemptsKey(sequence, step), &a); err != nil {
			return nil, err
		}
		if !settled(&a) {
			list = append(list, step)
		}
	}
	return list, nil
}

// isUnopened reports whether an open step of an event was never queued.
func isUnopened(txn *badger.Txn, sequence uint64, step string) (bool, error) {
	for _, k := range []key{stepKey(step, sequence), holdersKey(sequence, step)} {
		if queued, err := find(txn, k); err != nil || queued != nil {
			return false, err
		}
	}
	var a indexpb.Attempts
	_, err := get(txn, attemptsKey(sequence, step), &a)
	return a.Count == 0 && !settled(&a), err
}

// isOpen reports whether a step was open when its recall was committed.
func isOpen(s *indexpb.Step) bool { return s.Outcome == indexpb.Outcome_OUTCOME_UNSPECIFIED }

// hasAfter reports whether a step comes after others that were open.
func hasAfter(s *indexpb.Step) bool { return len(s.After) > 0 }

// isBehindNotify reports whether a step waits for notify while the gate of its event is closed.
func isBehindNotify(s *indexpb.Step) bool { return isOpen(s) && s.Name != shared.StepNotify }

// openAmong lists those of some names that are open steps, and those that are settled, in the order of the entry.
func openAmong(steps []*indexpb.Step, names []string) (open, settled []string) {
	for _, s := range steps {
		switch {
		case !slices.Contains(names, s.Name):
		case isOpen(s):
			open = append(open, s.Name)
		default:
			settled = append(settled, s.Name)
		}
	}
	return open, settled
}

// queue puts a step of an event into the step queue, of each node that is to carry it out.
func (b *batch) queue(sequence uint64, step string, w *writes) error {
	if b.members != nil {
		return b.queueOn(sequence, step, b.choose(step, sequence), w)
	}
	w.add(stepKey(step, sequence))
	w.open(step, sequence)
	return nil
}

// open notes that a step of an event came into a queue of this machine.
func (w *writes) open(step string, sequence uint64) {
	w.opened = append(w.opened, openedStep{step, sequence})
}
