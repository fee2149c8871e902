package journal

import (
	"context"
	"slices"
	"sync"

	"github.com/chat-recall/recall/internal/index"
)

// Calls become entries in parts: what is too large for one entry is split, and answered together.

// split cuts operations into parts that fit in an entry each. A single operation may be larger.
func (r *Replicated) split(ops []index.Op) (parts [][]index.Op) {
	first, bytes := 0, 0
	for i := range ops {
		size := ops[i].Bytes() + r.openingBytes(&ops[i])
		if i > first && bytes+size > maxStreamEntryBytes {
			parts = append(parts, ops[first:i])
			first, bytes = i, 0
		}
		bytes += size
	}
	return append(parts, ops[first:])
}

// openingBytes is what an operation may write because it opens steps on every node. An entry has to fit in one
// transaction of each of them.
func (r *Replicated) openingBytes(op *index.Op) int {
	events := op.Events()
	if op.Settle != nil || op.Ungate != nil {
		events = 1
	}
	return events * int(r.opening.Load())
}

// weigh finds out what the members that there are now mean for entries: what opening the steps of an event writes, and
// which format all of them read. One that is gone may come back, and counts until it is forgotten. Where there are
// none, or this node is new and does not know them yet, the format is that of the last entry of the log. It is called
// with applying held.
func (r *Replicated) weigh() {
	members, err := r.index.Members()
	if err != nil { // which the next read of the index tells, too
		r.logger.Warn("the members of the cluster cannot be read", "error", err)
		return
	}
	r.opening.Store(int64(index.OpeningBytes(members)))
	format := int64(r.newest)
	for _, m := range members {
		format = min(format, int64(m.Format))
	}
	if len(members) == 0 {
		format = int64(r.lastFormat)
	}
	r.format.Store(format)
}

// readLastFormat reads the format of the last entry of the log, if this node knows no member.
func (r *Replicated) readLastFormat(ctx context.Context) error {
	members, err := r.index.Members()
	if err != nil || len(members) > 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	format, err := LastFormat(ctx, r.stream, r.newest)
	if err != nil {
		return err
	}
	r.applying.Lock()
	defer r.applying.Unlock()
	r.lastFormat = format
	r.weigh()
	return nil
}

// joinAnswers returns a function for each part of a call. They call then once, when all were called: with the results
// of all, or the error of the first part that has one. Before an error they call applied with the parts that were
// applied all the same: the caller does not see their results.
func joinAnswers(parts [][]index.Op, then func([]index.Result, error),
	applied func([]index.Op, []index.Result)) []func([]index.Result, error) {
	n := len(parts)
	if n == 1 {
		return []func([]index.Result, error){then}
	}
	var mu sync.Mutex
	left, results, errs := n, make([][]index.Result, n), make([]error, n)
	answers := make([]func([]index.Result, error), n)
	for i := range answers {
		answers[i] = func(part []index.Result, err error) {
			mu.Lock()
			results[i], errs[i] = part, err
			left--
			last := left == 0
			mu.Unlock()
			if !last {
				return
			}
			failed := slices.IndexFunc(errs, func(err error) bool { return err != nil })
			if failed < 0 {
				then(slices.Concat(results...), nil)
				return
			}
			for i, results := range results { // of a part that failed there are none
				applied(parts[i], results)
			}
			then(nil, errs[failed])
		}
	}
	return answers
}
