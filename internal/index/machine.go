package index

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/chat-recall/recall/shared"
)

// ErrTooLarge says that an entry does not fit in one transaction (2.4 MB with the default memtable). Nothing of it was
// applied. A single operation always fits, and atomic recalls that do not fit in an entry of their own are refused.
var ErrTooLarge = errors.New("the entry is too large for one transaction")

// Answer is what one call of an entry is answered.
type Answer struct {
	Results []Result // one for each operation; nil if the call was refused

	// Refused is why none of the operations was applied, a [shared.ErrInvalid]; nil if they were:
	//   - a recall under a recall id that has [shared.MaxRecallMessages] already;
	//   - atomic recalls that are together too large for one transaction;
	//   - the settlement of an event or step that does not exist, or of a step that waits for others.
	Refused error
}

// Applied is what applying an entry did.
type Applied struct {
	Answers []Answer // one for each call

	// Opened are the steps that the entry opened for any event, and the lowest sequence of those events. Steps that wait
	// for others open in any order, so that may be lower than the sequence of an event whose step was open before.
	Opened map[string]uint64

	// Dropped says that the entry of a log did not count, see [Index.ApplyLog]. Early says why: it is to be written again,
	// after those of its process before it.
	Dropped, Early bool

	// Sum is that of the index after the entry of a log, see [Log]; zero if it changed nothing.
	Sum [sha256.Size]byte
}

// Apply applies one entry of the log of a single machine, whose order is that of the commits: calls, in their order and
// each with nothing between its operations. It is one transaction, and on disk when Apply returns. All operations
// passed [CheckOps]. [Index.ApplyLog] is for the entries of a log that several indexes follow.
//
// What an entry changes depends only on the entries before it, so the same log makes the same index anywhere. A refused
// call is an answer and not an error. After an error, such as [ErrTooLarge] or [ErrDiskFull], nothing of the entry was
// applied; only a commit that fails, and with it the index ([Index.Failure]), leaves that open. Apply is called by one
// goroutine at a time.
func (x *Index) Apply(calls [][]Op) (Applied, error) {
	if err := x.Failure(); err != nil {
		return Applied{}, err
	}
	if x.logID != "" {
		return Applied{}, fmt.Errorf("%w: the index follows the log %s", shared.ErrUnavailable, x.logID)
	}
	b := x.newBatch()
	defer b.discard()
	answers, err := x.applyCalls(b, calls)
	if err == nil && b.count > 0 {
		err = b.endEntry(x.dir.Version() + 1)
	}
	if err == nil {
		err = x.commit(b)
	}
	if err != nil {
		return Applied{}, err
	}
	return Applied{Answers: answers, Opened: b.opened}, nil
}

func (x *Index) applyCalls(b *batch, calls [][]Op) ([]Answer, error) {
	answers := make([]Answer, len(calls))
	var w writes // one for all: Badger keeps keys and values, but not the list of them
	for i, ops := range calls {
		var err error
		if answers[i], err = x.applyCall(b, ops, &w); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// applyCall applies the operations of one call to a batch, or refuses them all.
func (x *Index) applyCall(b *batch, ops []Op, w *writes) (Answer, error) {
	err := x.dir.Guard(func() error { return b.refused(ops) })
	if errors.Is(err, shared.ErrInvalid) {
		return Answer{Refused: err}, nil
	}
	if err != nil {
		return Answer{}, err
	}
	if !IsWhole(ops) {
		results, err := x.applyOps(b, ops, w)
		return Answer{Results: results}, err
	}
	before, counted := b.count, b.ops
	var a Answer
	if isSlice(ops) {
		a, err = x.applySlice(b, ops, w)
	} else {
		var done bool
		if a, done, err = x.tryAtomic(b, ops, w); done || err != nil {
			return a, err
		}
		a.Results, err = x.applyOps(b, ops, w)
	}
	if errors.Is(err, ErrTooLarge) && before == 0 { // the transaction has nothing else: a new one undoes the call
		of := b.entry
		if b.reset(x); of != nil {
			b.begin(of)
		}
		b.ops = counted
		return Answer{Refused: shared.Invalidf("targets",
			"the facts of the messages are too large for one atomic request; send fewer targets")}, nil
	}
	return a, err
}

// IsWhole reports whether operations of one call are applied together or not at all: atomic recalls, and a slice of a
// job.
func IsWhole(ops []Op) bool { return isAtomic(ops) || isSlice(ops) }

// applyOps plans and writes operations, one after the other. After an error some are in the batch.
func (x *Index) applyOps(b *batch, ops []Op, w *writes) ([]Result, error) {
	results := make([]Result, len(ops))
	for i := range ops {
		var err error
		switch {
		case ops[i].isMembership():
			results[i], err = x.applyMembership(b, &ops[i], w)
		case ops[i].Forget != nil:
			results[i], err = x.applyForget(b, &ops[i], w)
		default:
			err = x.applyPlan(b, w, func() (err error) {
				results[i], err = b.plan(&ops[i], w)
				return err
			})
			for err == nil && len(b.cascade.going) > 0 {
				err = x.applyPlan(b, w, func() error { return b.planWith(w) })
			}
		}
		if err != nil {
			return nil, fmt.Errorf("apply operation %d: %w", i, err)
		}
		b.ops++
	}
	return results, nil
}

// applyPlan makes the writes that plan plans.
func (x *Index) applyPlan(b *batch, w *writes, plan func() error) error {
	w.reset()
	err := x.dir.Guard(plan)
	if err == nil && len(w.entries) > 0 {
		err = x.dir.Writable()
	}
	if err == nil && !b.fits(w) {
		err = ErrTooLarge
	}
	if err != nil {
		return err
	}
	return b.write(w)
}

func isAtomic(ops []Op) bool {
	return slices.ContainsFunc(ops, func(op Op) bool { return op.Recall != nil && op.Recall.Atomic })
}

// tryAtomic plans the recalls of an atomic call without writing any. It is done, and answers the call, if they cannot
// all be applied. They are of different messages, under one recall id and by one actor: what one of them writes changes
// the size of the others, and not whether they are stale or another actor's.
func (x *Index) tryAtomic(b *batch, ops []Op, w *writes) (a Answer, done bool, err error) {
	results, err := x.planAll(b, ops, w)
	return Answer{Results: results}, err == nil && abort(results), err
}

// planAll plans recalls without writing any.
func (x *Index) planAll(b *batch, ops []Op, w *writes) ([]Result, error) {
	results := make([]Result, len(ops))
	b.planned = map[string]bool{}
	defer func() { b.planned, b.cascade = nil, cascade{} }()
	for i := range ops {
		w.reset()
		err := x.dir.Guard(func() (err error) {
			results[i], err = b.plan(&ops[i], w)
			return err
		})
		if results[i].New {
			b.notePlanned(ops[i].Recall)
		}
		if err != nil {
			return nil, fmt.Errorf("plan operation %d: %w", i, err)
		}
	}
	return results, nil
}

// abort reports whether one of these recalls keeps all from being applied, and marks the others as aborted.
func abort(results []Result) bool {
	if !slices.ContainsFunc(results, func(r Result) bool { return r.Stale || r.OtherActor }) {
		return false
	}
	for i := range results {
		if results[i].New {
			results[i] = Result{Aborted: true}
		}
	}
	return true
}

// commit puts a batch on disk. One that changes nothing is not committed.
func (x *Index) commit(b *batch) error {
	if b.count == 0 {
		return nil
	}
	if err := x.commitTxn(b.txn); err != nil {
		return err
	}
	x.counters, x.log, x.members, x.secret = b.counters, b.log, b.members, b.secret
	x.recent.add(b.recalls)
	x.recent.remove(b.changed)
	x.lastSequence.Store(b.sequence)
	x.lastFailure.Store(b.failures)
	x.lastRelation.Store(b.relations)
	x.openCascades.Store(b.openCascades)
	x.waits.add(b.waitChanges)
	x.lastJob.Store(b.jobs)
	x.commits.Add(1)
	x.operations.Add(uint64(b.ops))
	return nil
}

// Flush shortens the replay after a crash, see [badgerdir.Dir.Flush]. turn is the lock that the caller of Apply holds:
// the padding takes turns with the entries.
func (x *Index) Flush(ctx context.Context, turn sync.Locker) error {
	return x.dir.Flush(ctx, func(ctx context.Context, bytes int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		turn.Lock()
		defer turn.Unlock()
		if err := x.dir.Writable(); err != nil {
			return err
		}
		txn := x.dir.NewTransaction(true)
		defer txn.Discard()
		if err := txn.Set(paddingKey, make([]byte, bytes)); err != nil {
			return err
		}
		return x.commitTxn(txn)
	})
}

// ZeroAhead prepares the disk for the next entry, see [badgerdir.Dir.ZeroAhead]. The caller of Apply calls it after it
// has answered.
func (x *Index) ZeroAhead() { x.dir.ZeroAhead() }
