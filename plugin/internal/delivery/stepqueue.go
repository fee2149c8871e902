package delivery

import (
	"slices"
	"time"

	"github.com/chat-recall/recall/internal/index"
)

const (
	// maxInFlight bounds the deliveries of one step that wait for their outcome: enough to keep a host busy that
	// needs milliseconds for each, and few enough to be held by anybody.
	maxInFlight = 128

	// maxRetrying bounds those of them that failed before: events that fail again, each only after a minute, must leave
	// room for the others.
	maxRetrying = maxInFlight / 2

	// FirstRetry is the delay after the first failed attempt. It doubles with each further one.
	FirstRetry = 100 * time.Millisecond

	// LastRetry is the longest delay.
	LastRetry = time.Minute

	// markParts is into how many parts the delay of a level is cut: failures of one part come back together. So a level
	// has about that many marks, whatever the number of its failures, and nobody waits longer than a sixteenth more.
	markParts = 16
)

// stepReader reads the open steps of one name from the index.
type stepReader interface {
	// OpenSteps lists at most limit sequences after one, ascending, of the events that have the step open and never
	// failed.
	OpenSteps(after uint64, limit int) ([]uint64, error)
	// BackingOff lists at most limit events of a level, by position, those after one position and not after another.
	BackingOff(level int, after, upTo uint64, limit int) ([]index.Failure, error)
}

// stepQueue is the open steps of one name as one consumer goes through them: first deliveries in the order of their
// events, and between them those that failed, each when its backoff is over. All of them wait on disk. The queue holds
// what is in flight, a page of what comes next, some marks, and about 40 bytes for each delivery that is left out.
type stepQueue struct {
	step string
	read stepReader

	cursor uint64   // everything in the step queue up to here is in ahead or in deliveries, or was when it was read
	ahead  []uint64 // read, not yet delivered, ascending
	more   bool     // there may be something after cursor

	levels     [index.BackoffLevels + 1]backoffLevel // from 1
	deliveries map[uint64]delivery                   // by sequence, until their outcome: none of them is delivered again
	inFlight   int                                   // those of them that are not left out
	retrying   int                                   // those of them in flight that failed before
}

// delivery is one event whose step is in flight, or left out: the consumer deferred it, or it cannot be read.
type delivery struct {
	attempt  int // from 1, as the ledger counts
	retrying bool
	leftOut  bool
}

// backoffLevel is the events that failed equally often. They have equal delays, so they are due in the order in which
// they failed, which is that of their positions.
type backoffLevel struct {
	cursor uint64 // everything up to this position is in ahead or in deliveries, or was when it was read
	ahead  []index.Failure
	marks  []mark // ascending in everything
}

// mark says when what failed up to a position is due. Times are of the clock that nobody sets.
type mark struct {
	upTo  uint64
	began time.Duration // when the first of it failed
	due   time.Duration
}

// newStepQueue begins with what is on disk. What failed before, up to a position, is due again by the delay of its
// level: when it failed was by the clock of another process, or in another session.
func newStepQueue(step string, read stepReader, lastFailure uint64, now time.Duration) *stepQueue {
	q := &stepQueue{step: step, read: read, more: true, deliveries: map[uint64]delivery{}}
	for level := 1; level <= index.BackoffLevels && lastFailure > 0; level++ {
		q.levels[level].marks = []mark{{upTo: lastFailure, began: now, due: now + backoff(level)}}
	}
	return q
}

// reopen moves the cursor back if the step was opened for an event before it: a step that waits for others opens when
// they are settled, in any order. What follows that event is read again.
func (q *stepQueue) reopen(sequence uint64) {
	q.more = true
	if sequence <= q.cursor {
		q.cursor = sequence - 1
		kept, _ := slices.BinarySearch(q.ahead, sequence)
		q.ahead = q.ahead[:kept]
	}
}

// next is the event to be delivered at this moment; ok is false where there is none.
func (q *stepQueue) next(now time.Duration) (sequence uint64, ok bool, err error) {
	if q.inFlight >= maxInFlight {
		return 0, false, nil
	}
	if q.retrying < maxRetrying {
		if sequence, ok, err = q.nextRetry(now); ok || err != nil {
			return sequence, ok, err
		}
	}
	return q.nextFirst()
}

// nextFirst is the next event of the step queue.
func (q *stepQueue) nextFirst() (sequence uint64, ok bool, err error) {
	for {
		for len(q.ahead) > 0 {
			sequence, q.ahead = q.ahead[0], q.ahead[1:]
			if q.begin(sequence, false) {
				return sequence, true, nil
			}
		}
		if !q.more {
			return 0, false, nil
		}
		if q.ahead, err = q.read.OpenSteps(q.cursor, maxInFlight); err != nil {
			return 0, false, err
		}
		q.more = len(q.ahead) == maxInFlight
		if n := len(q.ahead); n > 0 {
			q.cursor = q.ahead[n-1]
		}
	}
}

// nextRetry is the event whose backoff is over for longest.
func (q *stepQueue) nextRetry(now time.Duration) (sequence uint64, ok bool, err error) {
	for {
		level, due := q.firstDue()
		if level == 0 || due > now {
			return 0, false, nil
		}
		l := &q.levels[level]
		for len(l.ahead) > 0 {
			sequence, l.ahead = l.ahead[0].Sequence, l.ahead[1:]
			if q.begin(sequence, true) {
				return sequence, true, nil
			}
		}
		first := l.marks[0]
		if l.ahead, err = q.read.BackingOff(level, l.cursor, first.upTo, maxRetrying); err != nil {
			return 0, false, err
		}
		if n := len(l.ahead); n == maxRetrying {
			l.cursor = l.ahead[n-1].Position
			continue
		}
		l.cursor = max(l.cursor, first.upTo)
		if len(l.ahead) == 0 {
			l.marks = l.marks[1:]
		}
	}
}

// firstDue is the level that is due first, and when; 0 where nothing backs off.
func (q *stepQueue) firstDue() (level int, due time.Duration) {
	for i := 1; i <= index.BackoffLevels; i++ {
		if marks := q.levels[i].marks; len(marks) > 0 && (level == 0 || marks[0].due < due) {
			level, due = i, marks[0].due
		}
	}
	return level, due
}

// due is when the next retry can be delivered; ok is false where there is none, or no room for it before something is
// settled.
func (q *stepQueue) due() (at time.Duration, ok bool) {
	if q.inFlight >= maxInFlight || q.retrying >= maxRetrying {
		return 0, false
	}
	level, at := q.firstDue()
	return at, level > 0
}

// begin puts a delivery in flight, unless there is one of the event already. deliver follows, or forget or leaveOut.
func (q *stepQueue) begin(sequence uint64, retrying bool) bool {
	if _, there := q.deliveries[sequence]; there {
		return false
	}
	q.deliveries[sequence] = delivery{retrying: retrying}
	q.inFlight++
	if retrying {
		q.retrying++
	}
	return true
}

// deliver notes the attempt that is delivered.
func (q *stepQueue) deliver(sequence uint64, attempt int) {
	d := q.deliveries[sequence]
	d.attempt = attempt
	q.deliveries[sequence] = d
}

// leaveOut takes an event out of flight, and keeps an attempt of it from being delivered.
func (q *stepQueue) leaveOut(sequence uint64, attempt int) {
	q.forget(sequence)
	q.deliveries[sequence] = delivery{attempt: attempt, leftOut: true}
}

// attemptInFlight is the attempt of an event that is in flight; ok is false where none is.
func (q *stepQueue) attemptInFlight(sequence uint64) (attempt int, ok bool) {
	d, there := q.deliveries[sequence]
	return d.attempt, there && !d.leftOut
}

// forget drops an event that is neither in flight nor left out any more.
func (q *stepQueue) forget(sequence uint64) {
	d, there := q.deliveries[sequence]
	if !there {
		return
	}
	delete(q.deliveries, sequence)
	if d.leftOut {
		return
	}
	q.inFlight--
	if d.retrying {
		q.retrying--
	}
}

// fail begins the backoff after a failed attempt. s is the step's state in the ledger after it.
func (q *stepQueue) fail(sequence uint64, s index.StepState, now time.Duration) {
	if q.deliveries[sequence].attempt > s.Attempts {
		return // what failed is an attempt before the one that is in flight or left out
	}
	q.forget(sequence)
	level := index.BackoffLevel(s.Attempts)
	q.levels[level].add(s.Position, now, backoff(level))
}

// retry makes everything that backs off due now.
func (q *stepQueue) retry(now time.Duration) {
	for i := range q.levels {
		for k := range q.levels[i].marks {
			q.levels[i].marks[k].due = min(q.levels[i].marks[k].due, now)
		}
	}
}

// add has what failed at a position come back after a delay.
func (l *backoffLevel) add(position uint64, now, delay time.Duration) {
	if position <= l.cursor { // it was read, and passed over because of the delivery before it
		l.marks = slices.Insert(l.marks, 0, mark{upTo: l.cursor, began: now - delay, due: now})
		l.cursor, l.ahead = position-1, nil
		return
	}
	for len(l.marks) > 1 && l.marks[1].due <= now { // due alike
		l.marks[1].upTo = max(l.marks[0].upTo, l.marks[1].upTo)
		l.marks = slices.Delete(l.marks, 0, 1)
	}
	if n := len(l.marks); n > 0 {
		last := &l.marks[n-1]
		if position <= last.upTo {
			return
		}
		if now-last.began < delay/markParts {
			last.upTo, last.due = position, now+delay
			return
		}
	}
	l.marks = append(l.marks, mark{upTo: position, began: now, due: now + delay})
}

// backoff is the delay of a level: FirstRetry, doubled each time up to LastRetry.
func backoff(level int) time.Duration { return min(FirstRetry<<(level-1), LastRetry) }
