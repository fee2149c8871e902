// Package delivery brings the open steps of the index to the host: in step queues, with retries and backoff.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/clock"
	"github.com/chat-recall/recall/shared"
)

// stepIndex is the open steps of the index, as the dispatcher reads them.
type stepIndex interface {
	OpenSteps(ctx context.Context, step string, after uint64, limit int) ([]uint64, error)
	BackingOff(ctx context.Context, step string, level int, after, upTo uint64, limit int) ([]index.Failure, error)
	LastFailure() uint64
	// Entry finds an event by an open step of it; nil where that step is not open.
	Entry(sequence uint64, step string) (*shared.LedgerEntry, error)
}

// ErrReplaced ends [Dispatcher.Run] of a consumer when another one comes.
var ErrReplaced = fmt.Errorf("%w: a newer call of Events has taken over", shared.ErrUnavailable)

// Dispatcher hands the open steps of the index to one consumer at a time. What a consumer left unsettled is due for the
// next one, what failed before after its delay; so the dispatcher remembers nothing between them. Steps that the host
// does not carry out stay as they are.
type Dispatcher struct {
	index  stepIndex
	steps  []string // of the host, sorted
	clock  clock.Clock
	logger hclog.Logger

	unsentBytes atomic.Int64 // of deliveries that the consumer has not taken, those of earlier consumers included

	mu      sync.Mutex
	closed  error    // why there is no further consumer
	current *session // nil where there is no consumer
}

// NewDispatcher makes a dispatcher for steps of the host, which are sorted.
func NewDispatcher(x stepIndex, steps []string, c clock.Clock, logger hclog.Logger) *Dispatcher {
	return &Dispatcher{index: x, steps: steps, clock: c, logger: logger}
}

// Run delivers to handle, in order and at once what is due at once, until ctx ends, another consumer comes or the
// Dispatcher is closed. It returns after handle has.
func (d *Dispatcher) Run(ctx context.Context, handle func([]shared.Delivery)) error {
	var handler sync.WaitGroup
	defer handler.Wait()
	due := newUnsent()
	handler.Go(func() {
		for list, bytes := due.take(); list != nil; list, bytes = due.take() {
			handle(list)
			d.taken(bytes)
		}
	})
	err := d.deliver(ctx, due.add)
	d.taken(due.close()) // or rather left to the next consumer
	return err
}

// maxUnsentBytes ends delivering until the consumer has taken some: a host that does not read its events must not fill
// the plugin's memory with them. One event may go beyond.
const maxUnsentBytes = 4 << 20

// taken makes room. A consumer that was waiting for it goes on.
func (d *Dispatcher) taken(bytes int64) {
	if left := d.unsentBytes.Add(-bytes); left < maxUnsentBytes && left+bytes >= maxUnsentBytes {
		if s := d.session(); s != nil {
			s.signal()
		}
	}
}

// deliver is Run with a handle that must not block. It gets what is due at this moment, and how many bytes that is,
// which are taken later. It keeps nothing of the slice.
func (d *Dispatcher) deliver(ctx context.Context, handle func(due []shared.Delivery, bytes int64)) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s := &session{
		Dispatcher: d, handle: handle, end: end, wake: make(chan struct{}, 1), counts: make(chan chan map[string]int),
		done: make(chan struct{}),
	}
	d.mu.Lock()
	if d.closed != nil {
		d.mu.Unlock()
		return d.closed
	}
	if d.current != nil {
		d.current.end(ErrReplaced)
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

// Close ends the consumer, and every later one, with err. When it returns nothing is read from the index any more;
// handles may still run.
func (d *Dispatcher) Close(err error) {
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

func (d *Dispatcher) session() *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// Open says that this step was opened for the event of this sequence, and perhaps for later ones. It does not block.
func (d *Dispatcher) Open(step string, sequence uint64) {
	if s := d.session(); s != nil {
		s.open(step, sequence)
	}
}

// Settle says where a step stands after an outcome was recorded. It does not block.
func (d *Dispatcher) Settle(sequence uint64, step string, state index.StepState) {
	if s := d.session(); s != nil {
		s.settle(settlement{sequence: sequence, step: step, state: state})
	}
}

// Defer says that somebody else carries out an attempt of a step, where that is 0 the next one. The consumer does not
// get the step again until the attempt has failed. It does not block.
func (d *Dispatcher) Defer(sequence uint64, step string, attempt int) {
	if s := d.session(); s != nil {
		s.settle(settlement{sequence: sequence, step: step, deferred: true, attempt: attempt})
	}
}

// Retry makes steps that back off due now. It does not block. Without a consumer it changes nothing: what failed before
// is due for the next one after its delay.
func (d *Dispatcher) Retry(steps []string) {
	if s := d.session(); s != nil {
		s.newsMu.Lock()
		s.retries = append(s.retries, steps...)
		s.newsMu.Unlock()
		s.signal()
	}
}

// InFlight tells how many deliveries of each step are with the consumer; none without a consumer.
func (d *Dispatcher) InFlight() map[string]int {
	s := d.session()
	if s == nil {
		return nil
	}
	answer := make(chan map[string]int, 1)
	select {
	case s.counts <- answer:
	case <-s.done:
		return nil
	}
	select {
	case n := <-answer:
		return n
	case <-s.done:
		return nil
	}
}

// settlement is where a step stands after an outcome was recorded, or which attempt of it was deferred.
type settlement struct {
	sequence uint64
	step     string
	state    index.StepState
	deferred bool
	attempt  int // that was deferred; 0: the next
}

// session is one consumer. Its queues belong to the goroutine that runs it.
type session struct {
	*Dispatcher
	handle func(due []shared.Delivery, bytes int64)
	end    context.CancelCauseFunc
	counts chan chan map[string]int
	done   chan struct{} // closed when the session reads and delivers no more

	newsMu  sync.Mutex
	opened  map[string]uint64 // steps with something new, and from which sequence on
	settled []settlement      // since the session looked
	retries []string          // likewise: steps that back off no longer
	wake    chan struct{}     // one token: there is something to look at

	queues []*stepQueue // by name
	due    []shared.Delivery
	bytes  int64 // of due
}

func (s *session) open(step string, sequence uint64) {
	s.newsMu.Lock()
	if s.opened == nil {
		s.opened = map[string]uint64{}
	}
	if lowest, there := s.opened[step]; !there || sequence < lowest {
		s.opened[step] = sequence
	}
	s.newsMu.Unlock()
	s.signal()
}

func (s *session) settle(x settlement) {
	s.newsMu.Lock()
	s.settled = append(s.settled, x)
	s.newsMu.Unlock()
	s.signal()
}

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) run(ctx context.Context) error {
	for _, step := range s.steps {
		read := &openSteps{s.index, ctx, step}
		s.queues = append(s.queues, newStepQueue(step, read, s.index.LastFailure(), s.clock.Elapsed()))
	}
	var timer <-chan time.Time
	var timerAt time.Duration
	var asked chan map[string]int // for what is in flight once the news from before is heard
	for {
		s.takeNews()
		due, any, err := s.deliverDue(ctx)
		switch {
		case err != nil:
			return err
		case !any:
			timer = nil
		case timer == nil || due != timerAt:
			timer, timerAt = s.clock.At(due), due
		}
		if asked != nil {
			asked <- s.count()
			asked = nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.wake:
		case <-timer:
			timer = nil
		case asked = <-s.counts:
		}
	}
}

// queue finds the queue of a step; nil where the host does not carry it out.
func (s *session) queue(step string) *stepQueue {
	if i, ok := slices.BinarySearch(s.steps, step); ok {
		return s.queues[i]
	}
	return nil
}

func (s *session) takeNews() {
	s.newsMu.Lock()
	opened, settled, retries := s.opened, s.settled, s.retries
	s.opened, s.settled, s.retries = nil, nil, nil
	s.newsMu.Unlock()
	for _, x := range settled {
		s.apply(x)
	}
	for step, sequence := range opened {
		if q := s.queue(step); q != nil {
			q.reopen(sequence)
		}
	}
	for _, step := range retries {
		if q := s.queue(step); q != nil {
			q.retry(s.clock.Elapsed())
		}
	}
}

func (s *session) apply(x settlement) {
	switch q := s.queue(x.step); {
	case q == nil:
	case x.deferred:
		s.leaveOut(q, x.sequence, x.attempt)
	case x.state.Open:
		q.fail(x.sequence, x.state, s.clock.Elapsed())
	default:
		q.forget(x.sequence)
	}
}

// leaveOut leaves out a step that was deferred. A run that began under another process may defer a step that this one
// has yet to deliver. One that is settled or failed since has its outcome: the run returned later than that.
func (s *session) leaveOut(q *stepQueue, sequence uint64, attempt int) {
	if current, ok := q.attemptInFlight(sequence); ok { // the consumer has one run for all attempts in flight
		q.leaveOut(sequence, current)
		return
	}
	entry, err := s.index.Entry(sequence, q.step)
	if err == nil && entry != nil && (attempt == 0 || entry.Steps[0].Attempts < attempt) {
		q.leaveOut(sequence, entry.Steps[0].Attempts+1)
	}
}

// openSteps reads the open steps of one name for a session.
type openSteps struct {
	stepIndex
	ctx  context.Context
	step string
}

func (o *openSteps) OpenSteps(after uint64, limit int) ([]uint64, error) {
	return o.stepIndex.OpenSteps(o.ctx, o.step, after, limit)
}

func (o *openSteps) BackingOff(level int, after, upTo uint64, limit int) ([]index.Failure, error) {
	return o.stepIndex.BackingOff(o.ctx, o.step, level, after, upTo, limit)
}

// deliverDue delivers, step by step and all at once, what can be delivered now, and tells when the next retry is due,
// if any that there is room for.
func (s *session) deliverDue(ctx context.Context) (next time.Duration, any bool, err error) {
	defer s.handOver()
	now := s.clock.Elapsed()
	for _, q := range s.queues {
		for ctx.Err() == nil {
			if s.unsentBytes.Load() >= maxUnsentBytes {
				return 0, false, nil // taken wakes the session; a timer would fire in vain
			}
			sequence, ok, err := q.next(now)
			if err != nil {
				return 0, false, fmt.Errorf("read the open steps %s: %w", q.step, err)
			}
			if !ok {
				break
			}
			if err := s.deliverOne(q, sequence); err != nil {
				return 0, false, err
			}
		}
		if due, ok := q.due(); ok && (!any || due < next) {
			next, any = due, true
		}
	}
	return next, any, nil
}

func (s *session) handOver() {
	if len(s.due) > 0 {
		s.handle(s.due, s.bytes)
		clear(s.due)
		s.due, s.bytes = s.due[:0], 0
	}
}

func (s *session) deliverOne(q *stepQueue, sequence uint64) error {
	entry, err := s.index.Entry(sequence, q.step)
	switch {
	case errors.Is(err, shared.ErrUnavailable):
		return fmt.Errorf("read event %d: %w", sequence, err)
	case err != nil: // one event that cannot be read does not keep the others back
		s.logger.Error("an event cannot be read; it is left out until the host connects again", "sequence", sequence,
			"step", q.step, "error", err)
		q.leaveOut(sequence, 0)
		return nil
	case entry == nil: // settled since it was read
		q.forget(sequence)
		return nil
	}
	delivery := shared.Delivery{Event: entry.Event, Step: q.step, Attempt: entry.Steps[0].Attempts + 1}
	q.deliver(sequence, delivery.Attempt)
	s.due = append(s.due, delivery)
	bytes := int64(index.EventBytes(&delivery.Event))
	s.bytes += bytes
	s.unsentBytes.Add(bytes) // at once, so that taken sees the bound as it is seen here
	return nil
}

func (s *session) count() map[string]int {
	out := make(map[string]int, len(s.queues))
	for _, q := range s.queues {
		out[q.step] = q.inFlight
	}
	return out
}
