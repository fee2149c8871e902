package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

const (
	// timeoutGrace is how long after its timeout an attempt may still report its own outcome.
	timeoutGrace = time.Second

	// closePatience is how long Close waits for attempts whose context it ended.
	closePatience = 10 * time.Second

	// maxAbandoned bounds the attempts of one step that were given up and still run, since each keeps a goroutine. Above
	// it a further attempt fails at once.
	maxAbandoned = 4096

	settleRetry = 200 * time.Millisecond // between attempts to report an outcome
	closeTime   = 2 * time.Second        // to report the outcomes that are known when the host is closed
)

// work names one step of one event.
type work struct {
	sequence uint64
	step     string
}

// A worker runs the host's steps for the events of the plugin in force, and reports their outcomes to it.
type worker struct {
	closing context.Context // ends when the host is closed
	closed  context.Context // ends closeTime after closing
	gate    *gate
	reports *reporter
	logger  hclog.Logger
	ran     func(step string, outcome shared.Outcome, began time.Time)

	mu      sync.Mutex
	steps   map[string]*stepRuns
	pending map[work]*delivery // without an outcome
	settled map[work]int       // of an older stream, settled or deferred in this one: the last attempt
	stream  uint64             // counts the streams
	handed  sync.WaitGroup     // attempts that were not given up, until their outcome is stored
}

// stepRuns is what of one step is under way.
type stepRuns struct {
	Step
	attempts  int         // that run, or whose outcome is being reported
	waiting   []*delivery // for one of those to end
	abandoned int         // attempts that were given up and still run
}

// delivery is a step of an event that was delivered.
type delivery struct {
	shared.Delivery
	work
	stream  uint64 // that it came by
	latest  int    // the last attempt of it that was delivered
	running bool   // an attempt of it that was not given up
	began   time.Time
}

// newWorker makes a worker of a host that is open until closing ends.
func newWorker(closing context.Context, steps map[string]Step, g *gate, logger hclog.Logger) *worker {
	w := &worker{
		closing: closing, gate: g, reports: newReporter(g), logger: logger, ran: func(string, shared.Outcome, time.Time) {},
		steps: map[string]*stepRuns{}, pending: map[work]*delivery{}, settled: map[work]int{},
	}
	for name, step := range steps {
		w.steps[name] = &stepRuns{Step: step.withDefaults()}
	}
	closed, end := context.WithCancel(context.WithoutCancel(closing))
	context.AfterFunc(closing, func() { time.AfterFunc(closeTime, end) })
	w.closed = closed
	return w
}

// run receives events until the host is closed, and returns when every step it called has returned or was given up, and
// every outcome is stored or was given up.
func (w *worker) run() {
	reporting, stop := context.WithCancel(context.WithoutCancel(w.closing))
	var reporter sync.WaitGroup
	reporter.Go(func() { w.reports.run(reporting) })
	w.receive()
	patience := time.AfterFunc(closePatience, w.abandonAll)
	w.handed.Wait()
	patience.Stop()
	stop()
	reporter.Wait()
}

// receive takes deliveries until the host is closed.
func (w *worker) receive() {
	for {
		p, err := w.gate.current(w.closing)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.stream++
		w.settled = map[work]int{}
		w.mu.Unlock()
		stream, end := context.WithCancelCause(w.closing)
		err = p.api.Deliver(stream, func(due []shared.Delivery) {
			for _, d := range due {
				if err := w.take(d); err != nil {
					end(err)
					return
				}
			}
		})
		if cause := context.Cause(stream); cause != nil && w.closing.Err() == nil {
			w.logger.Error("event stream ended by the host", "error", cause)
		}
		end(nil)
		if w.closing.Err() != nil {
			return
		}
		w.logger.Debug("event stream ended", "error", err)
		w.gate.changed(w.closing, p, changeTime)
	}
}

// maxTaken bounds the deliveries of one step that run, wait to run or are being reported: as many as a plugin sends
// before their outcomes, and as many whose outcomes it has, but has not answered yet, or that the plugin before it
// sent.
const maxTaken = 2 * shared.MaxDeliveries

// take starts the step of a delivery and does not wait for it. It fails if the plugin has delivered too many.
func (w *worker) take(due shared.Delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.steps[due.Step]
	if s == nil { // a plugin delivers none; left open, for a host that has it
		w.logger.Warn("this host does not carry out a step that was delivered to it", "step", due.Step,
			"recall_id", due.RecallID)
		return nil
	}
	one := work{due.Sequence, due.Step}
	if due.Attempt <= w.settled[one] { // sent just before the outcome reached the plugin
		return nil
	}
	// A plugin that was started meanwhile delivers again what is still under way here, and may have sent it just
	// before the outcome reached it. The outcome is then that of the later delivery too.
	if d := w.pending[one]; d != nil {
		d.latest = max(d.latest, due.Attempt)
		return nil
	}
	if s.attempts+len(s.waiting) >= maxTaken {
		return fmt.Errorf("more than %d deliveries of step %s have no outcome", maxTaken, due.Step)
	}
	d := &delivery{Delivery: due, work: one, stream: w.stream, latest: due.Attempt}
	w.pending[one] = d
	if s.attempts < s.Concurrency {
		w.start(s, d)
	} else {
		s.waiting = append(s.waiting, d)
	}
	return nil
}

// start begins an attempt, with mu held. release follows.
func (w *worker) start(s *stepRuns, d *delivery) {
	s.attempts++
	w.handed.Add(1)
	go w.attempt(s, d)
}

// release ends what start began, and starts what waited for that.
func (w *worker) release(s *stepRuns) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.attempts--
	switch {
	case len(s.waiting) == 0:
	case w.closing.Err() != nil: // they are delivered again when the host is opened
		for _, d := range s.waiting {
			delete(w.pending, d.work)
		}
		s.waiting = nil
	default:
		w.start(s, s.waiting[0])
		s.waiting = s.waiting[1:]
	}
	w.handed.Done()
}

// stuck says which steps have attempts that were given up and still run; nil where there is none.
func (w *worker) stuck() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, step := range slices.Sorted(maps.Keys(w.steps)) {
		if n := w.steps[step].abandoned; n > 0 {
			errs = append(errs, fmt.Errorf("step %s ignores the end of its context: %d attempts still run and were given up",
				step, n))
		}
	}
	return errors.Join(errs...)
}

// record reports the outcome of a step to the plugin.
func (w *worker) record(d *delivery, r result) {
	if r.outcome.Settles() {
		w.settle(d, d.Attempt, r)
		w.finish(d, true)
		return
	}
	if r.outcome == shared.OutcomeDeferred { // of the attempt that was delivered last: the plugin waits for that one
		w.settle(d, w.finish(d, true), r)
		return
	}
	// It may be delivered again from the moment at which the plugin hears of it.
	attempt := w.finish(d, false)
	if w.closing.Err() != nil {
		return // it failed because the host is closing, and is delivered again when it is opened
	}
	w.logger.Warn("step failed, will be tried again", "step", d.step, "tenant", d.Tenant, "recall_id", d.RecallID,
		"message_id", d.Message.ID, "attempt", attempt, "error", r.cause)
	w.settle(d, attempt, r)
}

// finish removes a step from those that are pending. It returns the last attempt of it that was delivered.
func (w *worker) finish(d *delivery, settled bool) (attempt int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if settled && d.stream != w.stream {
		w.settled[d.work] = d.latest
	}
	delete(w.pending, d.work)
	return d.latest
}

// settle reports an outcome to the plugin, retrying until it is stored. Once the host is closed it gives up after
// closeTime.
func (w *worker) settle(d *delivery, attempt int, r result) {
	ctx := w.closed
	if w.closing.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(w.closing), closeTime)
		defer cancel()
	}
	outcome := wire.NewSettlement(&d.Delivery, r.outcome, r.cause)
	outcome.Attempt = attempt
	for {
		err := w.reports.settle(ctx, outcome)
		if err == nil || ctx.Err() != nil {
			return
		}
		if errors.Is(err, shared.ErrInvalid) { // asking again would be answered alike
			w.logger.Error("outcome of a step refused", "step", d.step, "recall_id", d.RecallID, "error", err)
			return
		}
		w.logger.Warn("outcome of a step not recorded yet", "step", d.step, "recall_id", d.RecallID, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(settleRetry):
		}
	}
}
