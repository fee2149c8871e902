package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// queues are the open steps of the index, as the dispatcher reads them.
type queues interface {
	// Lanes lists the steps that have a queue.
	Lanes() ([]string, error)
	// OpenSteps lists at most limit sequences after one, ascending, of the events that have this step open.
	OpenSteps(step string, after uint64, limit int) ([]uint64, error)
	// Entry finds an event by an open step of it; nil where that step is not open.
	Entry(sequence uint64, step string) (*shared.LedgerEntry, error)
}

// errReplaced ends the Events of a consumer when another one comes.
var errReplaced = fmt.Errorf("%w: a newer call of Events has taken over", shared.ErrUnavailable)

// dispatcher hands the open steps of the index to one consumer at a time. What a consumer left unsettled is due for
// the next one, so the dispatcher remembers nothing between them.
type dispatcher struct {
	queues queues
	clock  Clock
	random func() float64 // in [0,1)
	logger hclog.Logger

	mu      sync.Mutex
	closed  error    // why there is no further consumer
	current *session // nil where there is no consumer
}

// run delivers to handle, side by side, until ctx ends, another consumer comes or the dispatcher is closed. It
// returns after every handle has.
func (d *dispatcher) run(ctx context.Context, handle func(shared.Event)) error {
	var handlers sync.WaitGroup
	defer handlers.Wait()
	return d.deliver(ctx, func(e shared.Event) { handlers.Go(func() { handle(e) }) })
}

// deliver is run with a handle that is called in order and must not block.
func (d *dispatcher) deliver(ctx context.Context, handle func(shared.Event)) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s := &session{
		dispatcher: d, handle: handle, end: end, lanes: map[string]*lane{}, opened: map[string]uint64{},
		wake: make(chan struct{}, 1), settled: make(chan settlement), counts: make(chan chan []laneCount), done: make(chan struct{}),
	}
	d.mu.Lock()
	if d.closed != nil {
		d.mu.Unlock()
		return d.closed
	}
	if d.current != nil {
		d.current.end(errReplaced)
	}
	d.current = s
	d.mu.Unlock()

	err := s.run(ctx)
	close(s.done)
	d.mu.Lock()
	if d.current == s {
		d.current = nil
	}
	d.mu.Unlock()
	return err
}

// close ends the consumer, and every later one, with err. When it returns nothing is read from the queues any more;
// handles may still run.
func (d *dispatcher) close(err error) {
	d.mu.Lock()
	if d.closed == nil {
		d.closed = err
	}
	s := d.current
	d.mu.Unlock()
	if s != nil {
		s.end(err)
		<-s.done
	}
}

func (d *dispatcher) session() *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// open says that this step was opened for the event of this sequence, and perhaps for later ones. It does not block.
func (d *dispatcher) open(step string, sequence uint64) {
	if s := d.session(); s != nil {
		s.open(step, sequence)
	}
}

// settle says what came of settling a step: closed, or still to be done.
func (d *dispatcher) settle(sequence uint64, step string, closed bool) {
	if s := d.session(); s != nil {
		select {
		case s.settled <- settlement{sequence, step, closed}:
		case <-s.done:
		}
	}
}

// laneCount is what a lane has with the consumer and what waits for a retry.
type laneCount struct {
	step              string
	delivered, parked int
}

// laneCounts tells how the lanes stand, by name; none without a consumer.
func (d *dispatcher) laneCounts() []laneCount {
	s := d.session()
	if s == nil {
		return nil
	}
	answer := make(chan []laneCount, 1)
	select {
	case s.counts <- answer:
		return <-answer
	case <-s.done:
		return nil
	}
}

// settlement is what came of settling a step.
type settlement struct {
	sequence uint64
	step     string
	closed   bool
}

// session is one consumer. Its lanes belong to the goroutine that runs it.
type session struct {
	*dispatcher
	handle  func(shared.Event)
	end     context.CancelCauseFunc
	settled chan settlement
	counts  chan chan []laneCount
	done    chan struct{} // closed when the session reads and delivers no more

	openMu sync.Mutex
	opened map[string]uint64 // lanes with something new, and from which sequence on
	wake   chan struct{}     // there is something in opened

	lanes map[string]*lane
	order []*lane // by name
}

func (s *session) open(step string, sequence uint64) {
	s.openMu.Lock()
	if lowest, there := s.opened[step]; !there || sequence < lowest {
		s.opened[step] = sequence
	}
	s.openMu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) run(ctx context.Context) error {
	steps, err := s.queues.Lanes()
	if err != nil {
		return fmt.Errorf("list the open steps: %w", err)
	}
	for _, step := range steps {
		s.lane(step)
	}
	var timer <-chan time.Time
	var timerAt time.Time
	for {
		due, err := s.deliverDue(ctx)
		if err != nil {
			return err
		}
		if !due.Equal(timerAt) {
			timer, timerAt = nil, due
			if !due.IsZero() {
				timer = s.clock.After(due.Sub(s.clock.Now()))
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.wake:
			s.takeOpened()
		case x := <-s.settled:
			s.apply(x)
		case <-timer:
			timer, timerAt = nil, time.Time{}
		case answer := <-s.counts:
			answer <- s.count()
		}
	}
}

// lane finds the lane of a step, and makes it where it is new.
func (s *session) lane(step string) *lane {
	l := s.lanes[step]
	if l == nil {
		l = newLane(step)
		s.lanes[step] = l
		at, _ := slices.BinarySearchFunc(s.order, step, func(l *lane, step string) int {
			if l.step < step {
				return -1
			}
			return 1
		})
		s.order = slices.Insert(s.order, at, l)
	}
	return l
}

func (s *session) takeOpened() {
	s.openMu.Lock()
	opened := s.opened
	s.opened = map[string]uint64{}
	s.openMu.Unlock()
	for step, sequence := range opened {
		s.lane(step).reopen(sequence)
	}
}

func (s *session) apply(x settlement) {
	l := s.lanes[x.step]
	switch {
	case l == nil:
	case x.closed:
		l.forget(x.sequence)
	default:
		l.park(x.sequence, s.clock.Now(), s.random())
	}
}

// deliverDue delivers, lane by lane, what can be delivered now, and tells when the next retry is due.
func (s *session) deliverDue(ctx context.Context) (next time.Time, err error) {
	now := s.clock.Now()
	for _, l := range s.order {
		for ctx.Err() == nil {
			sequence, ok, err := l.next(now, func(after uint64, limit int) ([]uint64, error) {
				return s.queues.OpenSteps(l.step, after, limit)
			})
			if err != nil {
				return time.Time{}, fmt.Errorf("read the open steps %s: %w", l.step, err)
			}
			if !ok {
				break
			}
			if err := s.deliverOne(l, sequence, now); err != nil {
				return time.Time{}, err
			}
		}
		if due, ok := l.due(); ok && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next, nil
}

func (s *session) deliverOne(l *lane, sequence uint64, now time.Time) error {
	entry, err := s.queues.Entry(sequence, l.step)
	switch {
	case errors.Is(err, shared.ErrUnavailable):
		return fmt.Errorf("read event %d: %w", sequence, err)
	case err != nil: // one event that cannot be read does not keep the others back
		s.logger.Error("an event cannot be read and is tried again later", "sequence", sequence, "step", l.step, "error", err)
		l.deliver(sequence, l.known[sequence].attempt+1)
		l.park(sequence, now, s.random())
		return nil
	case entry == nil: // settled since it was read
		l.forget(sequence)
		return nil
	}
	event := entry.Event
	event.Steps, event.Attempt = []string{l.step}, 1
	for _, r := range entry.Steps {
		if r.Step == l.step {
			event.Attempt = r.Attempts + 1
		}
	}
	l.deliver(sequence, event.Attempt)
	s.handle(event)
	return nil
}

func (s *session) count() []laneCount {
	out := make([]laneCount, 0, len(s.order))
	for _, l := range s.order {
		out = append(out, laneCount{step: l.step, delivered: l.unsettled(), parked: len(l.parked)})
	}
	return out
}
