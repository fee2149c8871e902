package index

import (
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// A step waits in one of three places until it is settled: in the step queue while no attempt of it failed, backing
// off after that, and behind the gate of its event while notify is open. What came of its attempts is a record of its
// own, so that settling it writes 30 bytes and leaves the ledger entry as it is (64 callers recall 1.3 times as many
// messages a second).

// refusedSettle says why a settlement is not applied.
func (b *batch) refusedSettle(s *Settle) error {
	_, err := b.attempts(s)
	return err
}

func (b *batch) planSettle(s *Settle, w *writes) (StepState, error) {
	a, err := b.attempts(s)
	if err != nil || settled(a) {
		return StepState{}, err
	}
	settles, next := s.Outcome.Settles(), a.Count+1
	if !settles && uint32(s.Attempt) != next {
		return stateOf(a), nil // it is counted already
	}
	w.delete(queueKey(s.Step, s.Sequence, a))
	if s.Attempt == 0 || uint32(s.Attempt) >= next {
		a.Count = next
	}
	a.Outcome = outcomes.number[s.Outcome]
	a.ChangedAt = encodeTime(s.At)
	switch {
	case !settles:
		a.Error, a.Position = s.Error, b.failures+1
		w.failed = true
		w.add(queueKey(s.Step, s.Sequence, a))
	case s.Step == shared.StepNotify:
		if err := b.openRest(s.Sequence, w); err != nil {
			return StepState{}, err
		}
	}
	return stateOf(a), w.set(attemptsKey(s.Sequence, s.Step), a)
}

// attempts reads what came of the step that a settlement is about, and refuses one of a step that is not there or that
// waits for notify.
func (b *batch) attempts(s *Settle) (*indexpb.Attempts, error) {
	if queued, err := find(b.txn, stepKey(s.Step, s.Sequence)); err != nil || queued != nil {
		return &indexpb.Attempts{}, err
	}
	entry, err := b.entry(s.Sequence)
	if err != nil {
		return nil, err
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
		if err != nil || settled(a) || s.Step == shared.StepNotify {
			return a, err
		}
		if gate, err := find(b.txn, gateKey(s.Sequence)); err != nil || gate == nil {
			return a, err
		}
		return nil, shared.Invalidf("step", "%s of event %d waits for %s, which is not settled", s.Step, s.Sequence,
			shared.StepNotify)
	}
	return nil, shared.Invalidf(
		"step",
		"event %d has no step %s; it has %s",
		s.Sequence,
		s.Step,
		strings.Join(names, ", "),
	)
}

// entry reads the ledger entry of an event; nil where there is no such event.
func (b *batch) entry(sequence uint64) (*indexpb.Entry, error) {
	if r := b.recent.get(sequence); r != nil {
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

func stepRecord(step string, a *indexpb.Attempts) shared.StepRecord {
	return shared.StepRecord{
		Step:      step,
		Outcome:   outcomes.word[a.Outcome],
		Attempts:  int(a.Count),
		Error:     a.Error,
		ChangedAt: decodeTime(a.ChangedAt),
	}
}

// queueKey is where an open step waits: in the step queue, or for the end of its backoff.
func queueKey(step string, sequence uint64, a *indexpb.Attempts) key {
	if a.Count == 0 {
		return stepKey(step, sequence)
	}
	return backoffKey(step, BackoffLevel(int(a.Count)), a.Position, sequence)
}

// BackoffLevels is how many levels of backoff there are. A step whose attempts failed n times is on level n; those that
// failed more often are on the last one.
const BackoffLevels = 11

// BackoffLevel is the level of a step after so many failed attempts, from 1.
func BackoffLevel(attempts int) int { return min(attempts, BackoffLevels) }

// openFirst queues the steps of a new entry: notify alone where it is open and others are too, and otherwise all.
func (w *writes) openFirst(entry *indexpb.Entry) {
	open := func(s *indexpb.Step) bool { return s.Outcome == indexpb.Outcome_OUTCOME_UNSPECIFIED }
	notify := func(s *indexpb.Step) bool { return open(s) && s.Name == shared.StepNotify }
	others := func(s *indexpb.Step) bool { return open(s) && s.Name != shared.StepNotify }
	if slices.ContainsFunc(entry.Steps, notify) && slices.ContainsFunc(entry.Steps, others) {
		w.add(gateKey(entry.Sequence))
		w.queue(entry, notify)
		return
	}
	w.queue(entry, open)
}

// openRest queues the steps of an event that wait for notify, where any do.
func (b *batch) openRest(sequence uint64, w *writes) error {
	if gate, err := find(b.txn, gateKey(sequence)); err != nil || gate == nil {
		return err
	}
	entry, err := b.entry(sequence)
	if err != nil {
		return err
	}
	if entry == nil {
		return missing(sequence, eventKey(sequence))
	}
	w.delete(gateKey(sequence))
	w.queue(entry, waitsForNotify)
	return nil
}

// waitsForNotify reports whether a step waits for notify while the gate of its event is closed.
func waitsForNotify(s *indexpb.Step) bool {
	return s.Outcome == indexpb.Outcome_OUTCOME_UNSPECIFIED && s.Name != shared.StepNotify
}

func (w *writes) queue(entry *indexpb.Entry, which func(*indexpb.Step) bool) {
	for _, s := range entry.Steps {
		if which(s) {
			w.add(stepKey(s.Name, entry.Sequence))
			w.opened, w.openedOf = append(w.opened, s.Name), entry.Sequence
		}
	}
}
