package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// Sending: what waits is put into entries, which are published until they come back from the stream.

// sentEntry is an entry that has not come back yet.
type sentEntry struct {
	number uint64
	data   []byte
	calls  []*call
	stored atomic.Bool // the stream has acknowledged it: it comes back

	// Of whoever publishes it, one after the other.
	tries int   // that failed
	err   error // why the last one did, until retryLoop has seen it
}

// sendLoop puts what waits into entries and sends them.
func (r *Replicated) sendLoop() {
	for r.queue.wait() {
		if !r.waitForRoom() {
			for _, c := range r.queue.take(maxEntryBytes) {
				c.answer(nil, r.failure())
			}
			continue
		}
		r.queue.gather()
		if group := r.queue.take(maxStreamEntryBytes); len(group) > 0 {
			r.send(group)
		}
	}
}

// waitForRoom waits until one more entry may be on its way; false: the log has ended.
func (r *Replicated) waitForRoom() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.ctx.Err() == nil && len(r.sent) >= maxSent {
		r.room.Wait()
	}
	return r.ctx.Err() == nil
}

// send sends calls as one entry. A call without operations is a barrier, and is not in it.
func (r *Replicated) send(group []*call) {
	e := index.LogEntry{Node: r.node, Process: r.process}
	for _, c := range group {
		if len(c.ops) > 0 {
			e.Calls = append(e.Calls, c.ops)
		}
	}
	last := &r.number
	if len(e.Calls) == 0 {
		last = &r.barriers
	}
	e.Number = *last + 1
	data, err := encodeEntry(&e, int(r.format.Load()))
	switch {
	case err != nil && len(group) > 1: // alone, each fails for itself only
		for i := range group {
			if !r.waitForRoom() {
				r.answer(group[i:], nil, r.failure())
				return
			}
			r.send(group[i : i+1])
		}
		return
	case err != nil:
		r.answer(group, nil, r.namingNodes(err))
		return
	}
	sent := &sentEntry{number: e.Number, data: data, calls: group}
	r.mu.Lock()
	ended := r.ctx.Err() != nil
	if !ended {
		*last = e.Number
		r.sent[sent.number] = sent
	}
	r.mu.Unlock()
	if ended {
		r.answer(group, nil, r.failure())
		return
	}
	r.publish(sent)
}

// namingNodes is an error with the nodes whose version it is about.
func (r *Replicated) namingNodes(err error) error {
	if !errors.Is(err, index.ErrOlderNodes) {
		return err
	}
	members, failed := r.index.Members()
	if failed != nil {
		return err
	}
	var older []string
	for node, m := range members {
		if m.Format < r.newest {
			older = append(older, node)
		}
	}
	if len(older) == 0 {
		return err
	}
	slices.Sort(older)
	return fmt.Errorf("%w: %s", err, strings.Join(older, ", "))
}

// publish puts an entry into the stream. If that fails, it is sent again.
func (r *Replicated) publish(e *sentEntry) {
	ctx, cancel := context.WithTimeout(r.ctx, publishTimeout)
	r.stream.Publish(ctx, e.data, func(err error) {
		cancel()
		if err != nil {
			r.sendAgain(e.number, err)
			return
		}
		e.stored.Store(true)
	})
}

// sendAgain has everything on its way be sent again, because an entry failed, or came before one that failed.
func (r *Replicated) sendAgain(number uint64, because error) {
	r.mu.Lock()
	if e := r.sent[number]; e != nil { // else an earlier copy of it was taken
		e.err = because
		e.tries++
		r.failed = true
	}
	r.mu.Unlock()
	select {
	case r.retry <- struct{}{}:
	default:
	}
}

// retryLoop sends entries again. They count in the order of their numbers, so what was sent after one that failed has
// to be sent after it again. Copies of what was taken do no harm.
func (r *Replicated) retryLoop() {
	var due <-chan time.Time
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.retry:
			if wait, failed := r.takeFailed(); failed && due == nil {
				due = time.After(wait)
			}
		case <-due:
			due = nil
			for _, e := range r.onTheirWay() {
				r.retries.Add(1)
				r.publish(e)
			}
		}
	}
}

// takeFailed reports whether an entry failed since the last call, and how long to wait before they are sent again.
func (r *Replicated) takeFailed() (wait time.Duration, failed bool) {
	r.mu.Lock()
	failed, r.failed = r.failed, false
	tries := 0
	var large []*sentEntry
	for _, e := range r.sent {
		if errors.Is(e.err, ErrTooLarge) {
			large = append(large, e)
		} else if e.tries == 1 && e.err != nil {
			r.logger.Warn("an entry could not be put into the log, and is sent again", "number", e.number, "error", e.err)
		}
		tries, e.err = max(tries, e.tries), nil
	}
	r.mu.Unlock()
	for _, e := range large {
		r.empty(e)
	}
	return min(publishRetry<<min(max(tries-1, 0), 10), publishSlowest), failed
}

// onTheirWay are the entries that did not come back, in the order of their numbers.
func (r *Replicated) onTheirWay() []*sentEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*sentEntry
	for _, number := range slices.Sorted(maps.Keys(r.sent)) {
		all = append(all, r.sent[number])
	}
	return all
}

// empty makes an entry that no server takes one of nothing, so that it leaves no gap in the numbers, and answers its
// call. It has one: several are only put together up to a size that every server takes.
func (r *Replicated) empty(e *sentEntry) {
	void := index.LogEntry{Node: r.node, Process: r.process, Number: e.number, Calls: [][]index.Op{nil}}
	data, err := encodeEntry(&void, int(r.format.Load()))
	if err != nil {
		r.fail(err)
		return
	}
	r.mu.Lock()
	var calls []*call
	if r.sent[e.number] == e { // else an earlier copy of it was taken
		calls, e.calls = e.calls, nil
	}
	size := len(e.data)
	e.data = data
	r.mu.Unlock()
	r.answer(calls, nil, shared.Invalidf("targets", "make an entry of %d bytes: %v", size, ErrTooLarge))
}

// take ends that an entry is on its way, and returns its calls; none if it is not.
func (r *Replicated) take(number uint64) []*call {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.sent[number]
	if e == nil {
		return nil
	}
	delete(r.sent, number)
	r.room.Signal()
	return e.calls
}

// answer answers calls: those with operations with an answer each, or all of them with an error.
func (r *Replicated) answer(calls []*call, answers []index.Answer, err error) {
	for _, c := range calls {
		switch {
		case err != nil:
			c.answer(nil, err)
		case len(c.ops) == 0:
			c.answer(nil, nil)
		default:
			c.answer(answers[0].Results, answers[0].Refused)
			answers = answers[1:]
		}
	}
}

// expireLoop answers the calls that wait for too long.
func (r *Replicated) expireLoop() {
	tick := time.NewTicker(r.patience / 20)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		before := time.Now().Add(-r.patience)
		silent := fmt.Errorf("%w: the log has not answered for %s", shared.ErrUnavailable, r.patience)
		behind := fmt.Errorf("%w; it has waited for %s", errBehind, r.patience)
		if because := r.blocked.Load(); because != nil { // nothing is applied until the disk has space again
			before, silent, behind = time.Now(), *because, *because
		}
		stored, expired := r.expireSent(before)
		for _, c := range append(expired, r.queue.expire(before)...) {
			c.answer(nil, silent)
		}
		for _, c := range stored {
			c.answer(nil, behind)
		}
	}
}

// errBehind is what a call fails with whose entry is in the log.
var errBehind = fmt.Errorf("%w: this node has not come to the entry, which is in the log", shared.ErrUnavailable)

// expireSent returns the calls of entries on their way that began to wait before a moment: those whose entries are in
// the stream, and the others. Their entries go on.
func (r *Replicated) expireSent(before time.Time) (stored, expired []*call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.sent {
		for i, c := range e.calls {
			if c.since.Before(before) {
				if is := (&call{answer: c.answer}); e.stored.Load() {
					stored = append(stored, is)
				} else {
					expired = append(expired, is)
				}
				e.calls[i] = &call{ops: c.ops, answer: func([]index.Result, error) {}, expired: true, since: time.Now()}
			}
		}
	}
	return stored, expired
}
