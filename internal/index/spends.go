package index

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// What recalls spent of the limits of the rules is a queue, from the oldest to the newest. Each that is added removes
// at most two from the other end that count no longer, so the queue has about those of the longest period of any limit.

// Spend is what a recall spends of a limit of the rules.
type Spend struct {
	Limit  [sha256.Size]byte // which count it belongs to: that of a limit, for the values of its key
	At     time.Time         // when it counts, by the clock of the machine that decided
	Waited time.Duration     // how long before the decision that was
	Kept   time.Duration     // how long it may count
}

func (s *Spend) check() error {
	if s.At.UnixMicro() <= 0 {
		return shared.Invalidf("recall.spend.at", "is not set or before 1970")
	}
	if s.Kept.Microseconds() <= 0 || s.Waited < 0 {
		return shared.Invalidf("recall.spend", "has waited %s, and is kept for %s", s.Waited, s.Kept)
	}
	return nil
}

// removedSpends is how many old ones are removed with each new one: two, so that the queue becomes shorter after a
// peak.
const removedSpends = 2

// planSpend adds to the queue what a new recall spends, and removes what counts no longer by then.
func (b *batch) planSpend(s *Spend, w *writes) error {
	w.spends = true
	at := encodeTime(s.At)
	for ; w.unspent < removedSpends && b.unspent+w.unspent < b.spent; w.unspent++ {
		k := spendKey(b.unspent + w.unspent + 1)
		var old indexpb.Spend
		switch found, err := get(b.txn, k, &old); {
		case err != nil:
			return err
		case !found:
			return fmt.Errorf("%w: the limits lack %q", ErrCorrupt, k)
		}
		if old.At+old.Kept > at {
			break
		}
		w.delete(k)
	}
	return w.set(spendKey(b.spent+1), &indexpb.Spend{Limit: s.Limit[:], At: at, Kept: s.Kept.Microseconds()})
}

// Spends passes the newest of what recalls spent of limits to visit, at most so many and the oldest of them first.
func (x *Index) Spends(most uint64, visit func(s *Spend)) error {
	return x.dir.View(func(txn *badger.Txn) error {
		var counter indexpb.Counter
		if _, err := get(txn, sequenceKey, &counter); err != nil {
			return err
		}
		// Not from the other end: an iterator there would go on through all that were removed.
		first := spendKey(max(counter.Unspent, counter.Spent-min(most, counter.Spent)) + 1)
		return each(context.Background(), txn, newKey('c'), first, func(item *badger.Item) (bool, error) {
			var pb indexpb.Spend
			if err := decode(item, &pb); err != nil {
				return false, err
			}
			s := Spend{At: decodeTime(pb.At), Kept: time.Duration(pb.Kept) * time.Microsecond}
			if copy(s.Limit[:], pb.Limit) != len(pb.Limit) {
				return false, fmt.Errorf("%w: %q is of a limit of %d bytes", ErrCorrupt, item.Key(), len(pb.Limit))
			}
			visit(&s)
			return true, nil
		})
	})
}
