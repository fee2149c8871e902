package index

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// Entry finds an event by an open step of it; nil where that step is not open, or waits for others. Its Steps are that
// one.
func (x *Index) Entry(sequence uint64, step string) (e *shared.LedgerEntry, err error) {
	if err := shared.ValidateStep("step", step); err != nil {
		return nil, err
	}
	err = x.dir.View(func(txn *badger.Txn) error {
		a, err := x.openAttempts(txn, sequence, step)
		if err != nil || a == nil {
			return err
		}
		steps := []shared.StepRecord{stepRecord(step, x.node, a)}
		if r := x.recent.get(sequence); r != nil {
			e = &shared.LedgerEntry{Event: r.event, Steps: steps}
			return nil
		}
		pointer, entry, err := mustEntryOf(txn, sequence)
		if err != nil {
			return err
		}
		event, err := readEvent(txn, pointer.Tenant, pointer.RecallId, entry)
		e = &shared.LedgerEntry{Event: event, Steps: steps}
		return err
	})
	return e, err
}

// openAttempts reads what came of an open step of this machine so far; nil where it is not open, or waits for others.
func (x *Index) openAttempts(txn *badger.Txn, sequence uint64, step string) (*indexpb.Attempts, error) {
	k := attemptsKey(sequence, step)
	if x.logID != "" {
		h, err := readHolders(txn, sequence, step)
		if err != nil || h == nil || !slices.Contains(h.Nodes, x.node) {
			return nil, err
		}
		if h.EachNode {
			k = attemptsKey(sequence, onNode(step, x.node))
		}
	} else if queued, err := find(txn, stepKey(step, sequence)); err != nil || queued != nil {
		return &indexpb.Attempts{}, err
	}
	a := &indexpb.Attempts{}
	if tried, err := get(txn, k, a); err != nil || settled(a) || !tried && x.logID == "" {
		return nil, err
	}
	return a, nil
}

// queue names the step queue of a step on this machine.
func (x *Index) queue(step string) string {
	if x.logID == "" {
		return step
	}
	return onNode(step, x.node)
}

// OpenSteps lists, in order, at most limit sequences after one whose events have this step in the step queue: open, and
// never failed.
func (x *Index) OpenSteps(ctx context.Context, step string, after uint64, limit int) (sequences []uint64, err error) {
	if err := shared.ValidateStep("step", step); err != nil {
		return nil, err
	}
	return x.numbers(ctx, stepPrefix(x.queue(step)), after, limit)
}

// Gated lists, in order, at most limit sequences after one whose events have steps that wait for notify.
func (x *Index) Gated(ctx context.Context, after uint64, limit int) (sequences []uint64, err error) {
	return x.numbers(ctx, newKey('w'), after, limit)
}

// numbers lists, in order, at most limit numbers after one with which keys end that begin with prefix.
func (x *Index) numbers(ctx context.Context, prefix key, after uint64, limit int) (list []uint64, err error) {
	if after == math.MaxUint64 || limit <= 0 {
		return nil, nil
	}
	from := slices.Clone(prefix).number(after + 1)
	err = x.dir.View(func(txn *badger.Txn) error {
		return each(ctx, txn, prefix, from, func(item *badger.Item) (bool, error) {
			list = append(list, lastNumber(item.Key()))
			return len(list) < limit, nil
		})
	})
	return list, err
}

// Failure is an open step of an event whose last attempt failed.
type Failure struct {
	Position uint64 // of that failure among all failed attempts of the index
	Sequence uint64
}

// BackingOff lists, in the order of their positions, at most limit events that have this step on one level of backoff
// and whose position is after one number and not after another.
func (x *Index) BackingOff(
	ctx context.Context, step string, level int, after, upTo uint64, limit int,
) (list []Failure, err error) {
	if err := shared.ValidateStep("step", step); err != nil {
		return nil, err
	}
	if after >= upTo || limit <= 0 {
		return nil, nil
	}
	prefix := append(backoffPrefix(x.queue(step)), byte(level))
	from := slices.Clone(prefix).number(after + 1)
	err = x.dir.View(func(txn *badger.Txn) error {
		return each(ctx, txn, prefix, from, func(item *badger.Item) (bool, error) {
			f := Failure{Position: numberBefore(item.Key()), Sequence: lastNumber(item.Key())}
			if f.Position > upTo {
				return false, nil
			}
			list = append(list, f)
			return len(list) < limit, nil
		})
	})
	return list, err
}

// CountBackingOff tells how many events have this step backing off, and stops counting at limit.
func (x *Index) CountBackingOff(ctx context.Context, step string, limit int) (n int, err error) {
	err = x.dir.View(func(txn *badger.Txn) error {
		return each(ctx, txn, backoffPrefix(x.queue(step)), nil, func(*badger.Item) (bool, error) {
			n++
			return n < limit, nil
		})
	})
	return n, err
}

// OldestOpen tells when the oldest recall was made in which this step is open: in the step queue, or backing off, of
// which it looks at limit events. Zero: there is none.
func (x *Index) OldestOpen(ctx context.Context, step string, limit int) (at time.Time, err error) {
	var oldest uint64
	err = x.dir.View(func(txn *badger.Txn) error {
		note := func(item *badger.Item) {
			if n := lastNumber(item.Key()); oldest == 0 || n < oldest {
				oldest = n
			}
		}
		err := each(ctx, txn, stepPrefix(x.queue(step)), nil, func(item *badger.Item) (bool, error) {
			note(item) // the first is the oldest
			return false, nil
		})
		if err != nil {
			return err
		}
		n := 0
		err = each(ctx, txn, backoffPrefix(x.queue(step)), nil, func(item *badger.Item) (bool, error) {
			note(item)
			n++
			return n < limit, nil
		})
		if err != nil || oldest == 0 {
			return err
		}
		_, entry, err := entryOf(txn, oldest)
		if err == nil && entry != nil {
			at = decodeTime(entry.RecalledAt)
		}
		return err
	})
	return at, err
}

// CountOpen tells in how many events each step is open, also where it backs off or waits for other steps. It leaves out
// the steps of except, and reads every key of the others. In a cluster it leaves out what is open on other nodes; a
// step that waits for others counts on every node.
func (x *Index) CountOpen(ctx context.Context, except []string) (map[string]int, error) {
	open := map[string]int{}
	err := x.dir.View(func(txn *badger.Txn) error {
		for _, kind := range []byte{'e', 'b'} {
			if err := x.countQueued(ctx, txn, newKey(kind), except, open); err != nil {
				return err
			}
		}
		for _, kind := range []byte{'w', 'd'} {
			err := each(ctx, txn, newKey(kind), nil, func(item *badger.Item) (bool, error) {
				return true, countWaiting(txn, kind, lastNumber(item.Key()), except, open)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return open, err
}

// countWaiting counts the steps of an event that wait, behind its gate (kind w) or without one for other steps
// (kind d).
func countWaiting(txn *badger.Txn, kind byte, sequence uint64, except []string, counts map[string]int) error {
	gate, err := find(txn, gateKey(sequence))
	if err != nil || kind == 'd' && gate != nil {
		return err
	}
	_, entry, err := mustEntryOf(txn, sequence)
	if err != nil {
		return err
	}
	for _, s := range entry.Steps {
		if !isBehindNotify(s) || slices.Contains(except, s.Name) {
			continue
		}
		waits := gate != nil
		if !waits && hasAfter(s) {
			if waits, err = isUnopened(txn, sequence, s.Name); err != nil {
				return err
			}
		}
		if waits {
			counts[s.Name]++
		}
	}
	return nil
}

// countQueued counts the keys that begin with prefix by their step, except for some steps.
func (x *Index) countQueued(ctx context.Context, txn *badger.Txn, prefix key, except []string,
	counts map[string]int) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(prefix); it.Valid(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		queue := textAt(it.Item().Key(), len(prefix))
		if step, node := splitNode(queue); !slices.Contains(except, step) && (node == "" || node == x.node) {
			counts[step]++
			it.Next()
			continue
		}
		beyond := slices.Clone(prefix).text(queue)
		beyond[len(beyond)-1]++
		it.Seek(beyond)
	}
	return nil
}

// LastFailure is the position of the last failed attempt, 0 before the first.
func (x *Index) LastFailure() uint64 { return x.lastFailure.Load() }
