package journal

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// Following: the entries of the stream are read, applied, and answered where they are of this process.

// followLoop reads the stream.
func (r *Replicated) followLoop(after uint64) {
	var said series
	for r.ctx.Err() == nil {
		err := r.stream.Follow(r.ctx, after, func(position uint64, data []byte) error {
			e, err := readEntry(position, data, after, r.newest)
			if err != nil {
				r.fail(err)
				return err
			}
			after, said = position, series{}
			r.inbox.put(e, len(data))
			return r.ctx.Err()
		})
		if r.ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrGone) {
			r.fail(err)
			return
		}
		if said.isDue() {
			r.logger.Warn("the log is not read, which is tried again", "after", after, "error", err)
		}
		select {
		case <-time.After(applyRetry):
		case <-r.ctx.Done():
		}
	}
}

// series is an error that comes again and again: it is logged when it comes, and then once a minute.
type series struct{ last time.Time }

func (s *series) isDue() bool {
	if time.Since(s.last) < time.Minute {
		return false
	}
	s.last = time.Now()
	return true
}

// readEntry decodes an entry. What a node cannot apply it must not leave out: then its index would differ from that of
// the others for ever.
func readEntry(position uint64, data []byte, after uint64, newest int) (index.LogEntry, error) {
	if position != after+1 {
		return index.LogEntry{}, fmt.Errorf("%w: it goes on with entry %d after entry %d; the index begins anew from a "+
			"snapshot when the plugin is started again", ErrTrimmed, position, after)
	}
	e, err := decodeEntry(data, newest)
	switch {
	case errors.Is(err, index.ErrNewer):
		return e, fmt.Errorf("%w: entry %d of the log: %w; upgrade the plugin of this node", shared.ErrUnavailable,
			position, err)
	case err != nil:
		return e, fmt.Errorf("%w: entry %d of the log: %w", shared.ErrUnavailable, position, err)
	}
	e.Position = position
	return e, nil
}

// applyLoop applies what was read, many entries at once where they are there.
func (r *Replicated) applyLoop() {
	var said series
	for {
		entries := r.inbox.take()
		if entries == nil {
			return
		}
		for len(entries) > 0 && r.ctx.Err() == nil {
			count, err := r.apply(entries)
			switch {
			case err == nil:
				said = series{}
				r.blocked.Store(nil)
			case r.index.Failure() != nil || errors.Is(err, index.ErrTooLarge):
				r.fail(fmt.Errorf("%w: apply the log: %w", shared.ErrUnavailable, err))
			default:
				err = fmt.Errorf("apply the log: %w", err)
				r.blocked.Store(&err)
				if said.isDue() {
					r.logger.Error("the log cannot be applied, which is tried again", "entry", entries[0].Position, "error", err)
				}
				select {
				case <-time.After(applyRetry):
				case <-r.ctx.Done():
				}
			}
			entries = entries[count:]
		}
	}
}

// apply applies the first of some entries, and tells how many.
func (r *Replicated) apply(entries []index.LogEntry) (count int, err error) {
	r.applying.Lock()
	defer r.applying.Unlock()
	applied, err := r.index.ApplyLog(entries)
	if err != nil {
		return 0, err
	}
	if slices.ContainsFunc(entries[:len(applied)], changesMembers) {
		r.weigh()
	}
	for i := range applied {
		r.applied(&entries[i], &applied[i])
	}
	r.index.ZeroAhead()
	return len(applied), nil
}

// changesMembers reports whether an entry may change the members of the cluster.
func changesMembers(e index.LogEntry) bool {
	return slices.ContainsFunc(e.Calls, func(ops []index.Op) bool {
		return slices.ContainsFunc(ops, func(op index.Op) bool { return op.Join != nil || op.Leave != nil })
	})
}

// applied answers the calls of an entry, if it is of this process, and tells of the steps that it opened.
func (r *Replicated) applied(e *index.LogEntry, a *index.Applied) {
	r.position.Store(e.Position)
	r.entries.Add(1)
	if a.Sum != ([sha256.Size]byte{}) {
		r.sums.add(index.Log{Position: e.Position, Sum: a.Sum})
	}
	switch isOwn := e.Node == r.node && e.Process == r.process; {
	case isOwn && a.Early:
		r.sendAgain(e.Number, errEarly)
	case isOwn && a.Dropped: // nobody waits for a copy
		r.answer(r.take(e.Number), nil, ErrReplaced)
	case isOwn:
		calls := r.take(e.Number)
		r.spentElsewhere(e, a, calls)
		r.answer(calls, a.Answers, nil)
	case !a.Dropped:
		r.spentElsewhere(e, a, nil)
	}
	if f := r.onOpen.Load(); f != nil {
		for step, first := range a.Opened {
			(*f)(step, first)
		}
	}
}

// spentElsewhere reports what the recalls of an entry spent of limits, except those of calls that are answered now:
// their callers count that themselves.
func (r *Replicated) spentElsewhere(e *index.LogEntry, a *index.Applied, waiting []*call) {
	waiting = slices.DeleteFunc(slices.Clone(waiting), func(c *call) bool { return len(c.ops) == 0 })
	for i, ops := range e.Calls {
		if i < len(waiting) && !waiting[i].expired {
			continue
		}
		r.spent(ops, a.Answers[i].Results)
	}
}

// spent reports what the recalls of operations spent of limits.
func (r *Replicated) spent(ops []index.Op, results []index.Result) {
	f := r.onSpend.Load()
	if f == nil {
		return
	}
	for i, result := range results {
		recall := ops[i].Recall
		if judged := ops[i].Judged; judged != nil {
			for n := range judged.Waited {
				recall = cmp.Or(recall, judged.Waited[n].Recall)
			}
		}
		if recall != nil && recall.Spend != nil && result.New {
			(*f)(recall.Spend)
		}
	}
}

// Spends is [Log].
func (r *Replicated) Spends(most uint64, stored, later func(*index.Spend)) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	r.onSpend.Store(&later)
	return r.index.Spends(most, stored)
}
