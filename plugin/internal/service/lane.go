package service

import (
	"container/heap"
	"slices"
	"time"
)

const (
	// maxUnsettled bounds the deliveries of one lane that wait for their outcome: enough to keep a host busy that
	// needs milliseconds for each, and few enough to be held by anybody.
	maxUnsettled = 128

	// maxRetrying bounds those of them that failed before: events that fail again, each only after a minute, must leave
	// room for the others.
	maxRetrying = maxUnsettled / 2

	// maxParked bounds the failed entries of one lane that are remembered with the moment of their next delivery. A
	// lane with more of them reads no further until one of those is settled: it is the step that is broken then, not
	// an event.
	maxParked = 4096

	firstRetry = 100 * time.Millisecond
	lastRetry  = time.Minute
)

// lane is the queue of one step as one consumer goes through it. It holds numbers, never events.
type lane struct {
	step string

	cursor uint64   // everything open up to here is in ahead or known, or was when it was read
	ahead  []uint64 // read, not yet delivered, ascending
	more   bool     // there may be something after cursor

	known    map[uint64]delivery // with the consumer, or parked
	parked   retries
	retrying int // with the consumer, after they were parked
}

// delivery is one entry that was delivered and is not settled.
type delivery struct {
	attempt  int  // from 1
	parked   bool // it failed, and waits for its next delivery
	retrying bool // it was parked, and is with the consumer again
}

func newLane(step string) *lane {
	return &lane{step: step, more: true, known: map[uint64]delivery{}}
}

// unsettled is how many deliveries wait for their outcome.
func (l *lane) unsettled() int { return len(l.known) - len(l.parked) }

// reopen goes back to where an entry was opened that may lie before the cursor: a step behind notify opens when that
// is settled, and that happens in any order. What is ahead from there on is read again.
func (l *lane) reopen(sequence uint64) {
	l.more = true
	if sequence <= l.cursor {
		l.cursor = sequence - 1
		kept, _ := slices.BinarySearch(l.ahead, sequence)
		l.ahead = l.ahead[:kept]
	}
}

// next is the sequence of the entry to be delivered at this moment; ok is false where there is none. read gets the
// sequences after one.
func (l *lane) next(now time.Time, read func(after uint64, limit int) ([]uint64, error)) (sequence uint64, ok bool, err error) {
	if l.unsettled() >= maxUnsettled {
		return 0, false, nil
	}
	if at, ok := l.due(); ok && !at.After(now) {
		sequence = heap.Pop(&l.parked).(retry).sequence
		l.known[sequence] = delivery{attempt: l.known[sequence].attempt, retrying: true}
		l.retrying++
		return sequence, true, nil
	}
	if len(l.parked) >= maxParked {
		return 0, false, nil
	}
	for {
		for len(l.ahead) > 0 {
			sequence, l.ahead = l.ahead[0], l.ahead[1:]
			if _, known := l.known[sequence]; !known {
				return sequence, true, nil
			}
		}
		if !l.more {
			return 0, false, nil
		}
		if l.ahead, err = read(l.cursor, maxUnsettled); err != nil {
			return 0, false, err
		}
		l.more = len(l.ahead) == maxUnsettled
		if n := len(l.ahead); n > 0 {
			l.cursor = l.ahead[n-1]
		}
	}
}

// deliver notes that the entry is with the consumer.
func (l *lane) deliver(sequence uint64, attempt int) {
	d := l.known[sequence]
	d.attempt = attempt
	l.known[sequence] = d
}

// forget drops an entry whose step is settled. One that is parked is dropped when it is due and found settled.
func (l *lane) forget(sequence uint64) {
	d := l.known[sequence]
	if d.parked {
		return
	}
	if d.retrying {
		l.retrying--
	}
	delete(l.known, sequence)
}

// park has an entry that is with the consumer delivered again after a while.
func (l *lane) park(sequence uint64, now time.Time, random float64) {
	d, known := l.known[sequence]
	if !known || d.parked {
		return
	}
	if d.retrying {
		l.retrying--
	}
	d.parked, d.retrying = true, false
	l.known[sequence] = d
	heap.Push(&l.parked, retry{sequence, now.Add(backoff(d.attempt, random))})
}

// due is when the next retry is; ok is false where there is none, or no room for it before something is settled.
func (l *lane) due() (at time.Time, ok bool) {
	if len(l.parked) == 0 || l.unsettled() >= maxUnsettled || l.retrying >= maxRetrying {
		return time.Time{}, false
	}
	return l.parked[0].due, true
}

// backoff is the delay after the attempt of this number, from 1: firstRetry, doubled each time up to lastRetry, of
// which the later half is left to chance so that what failed together does not come back together. random is in [0,1).
func backoff(attempt int, random float64) time.Duration {
	d := lastRetry
	if shift := max(attempt, 1) - 1; shift < 16 {
		d = min(firstRetry<<shift, lastRetry)
	}
	return d/2 + time.Duration(random*float64(d/2))
}

// retry is a failed entry and when it is due.
type retry struct {
	sequence uint64
	due      time.Time
}

// retries is a heap of them, the earliest first.
type retries []retry

func (r retries) Len() int           { return len(r) }
func (r retries) Less(i, j int) bool { return r[i].due.Before(r[j].due) }
func (r retries) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *retries) Push(x any)        { *r = append(*r, x.(retry)) }
func (r *retries) Pop() any {
	old := *r
	last := old[len(old)-1]
	*r = old[:len(old)-1]
	return last
}
