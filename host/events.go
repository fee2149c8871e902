package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

const (
	// StepTimeout ends the context of one attempt of a step. The attempt has failed then, and the step is tried again.
	StepTimeout = time.Minute

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

// A Step carries out one part of a recall in the chat server.
//
// It is called at least once for each recall: again after an error, and again when the server or the plugin died
// before the outcome was on disk. Once an outcome is recorded it is not called again. Calls for different recalls, and
// of different steps of one recall, run side by side. The step "notify" comes first, so that what it shows can still be
// read: the other steps of a recall start when notify is settled, or 30 s after the recall if it is not settled by
// then.
//
// It returns OutcomeDone, OutcomeNothingToDo where the server held nothing, or OutcomeUnsupported where it cannot do
// this for this message; each is final. An error, OutcomeFailed or a panic makes it be tried again, after a delay
// that grows from 100 ms to a minute.
//
// ctx ends after StepTimeout or when the host is closed. An attempt that does not return then is given up: it counts as
// failed, and the step is tried again while it still runs. If it succeeds later, while the step is open, it settles the
// step.
type Step func(ctx context.Context, e shared.Event) (shared.Outcome, error)

// work names one step of one event.
type work struct {
	sequence uint64
	step     string
}

// A worker runs the host's steps for the events of the plugin in force, and reports their outcomes to it.
type worker struct {
	steps   map[string]Step
	timeout time.Duration // of an attempt
	gate    *gate
	reports *reporter
	logger  hclog.Logger

	mu        sync.Mutex
	running   map[work]underWay
	settled   map[work]bool  // settled during this stream, but delivered by an older one
	stream    uint64         // counts the streams
	abandoned map[string]int // attempts that were given up and still run, by step
	taken     map[string]int // deliveries that run or wait to run, by step
	slots     map[string]chan struct{}
	handed    sync.WaitGroup
}

// underWay is an attempt that runs.
type underWay struct {
	stream  uint64 // that it came by
	attempt int    // the last one that was delivered
}

func newWorker(steps map[string]Step, g *gate, logger hclog.Logger) *worker {
	w := &worker{
		steps: steps, timeout: stepTimeout, gate: g, reports: newReporter(g), logger: logger,
		running: map[work]underWay{}, settled: map[work]bool{}, abandoned: map[string]int{}, taken: map[string]int{},
		slots: map[string]chan struct{}{},
	}
	for step := range steps {
		w.slots[step] = make(chan struct{}, shared.MaxDeliveries)
	}
	return w
}

// stepTimeout is StepTimeout, for tests to shorten.
var stepTimeout = StepTimeout

// run receives events until ctx ends, and returns when every step it called has returned or was given up, and every
// outcome is stored or was given up.
func (w *worker) run(ctx context.Context) {
	reporting, stop := context.WithCancel(context.WithoutCancel(ctx))
	var reporter sync.WaitGroup
	reporter.Go(func() { w.reports.run(reporting) })
	defer func() {
		w.handed.Wait()
		stop()
		reporter.Wait()
	}()
	for {
		p, err := w.gate.current(ctx)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.stream++
		w.settled = map[work]bool{}
		w.mu.Unlock()
		stream, end := context.WithCancelCause(ctx)
		err = p.api.Events(stream, func(e shared.Event, s shared.Settler) {
			if err := w.take(ctx, e); err != nil {
				end(err)
			}
		})
		if cause := context.Cause(stream); cause != nil && ctx.Err() == nil {
			w.logger.Error("event stream ended by the host", "error", cause)
		}
		end(nil)
		if ctx.Err() != nil {
			return
		}
		w.logger.Debug("event stream ended", "error", err)
		w.gate.changed(ctx, p, changeTime)
	}
}

// maxTaken bounds the deliveries of one step that run or wait to run: as many as a plugin sends before their outcomes,
// and as many of the plugin before it.
const maxTaken = 2 * shared.MaxDeliveries

// take starts the steps of one delivery and does not wait for them. It fails if the plugin has delivered too many.
func (w *worker) take(ctx context.Context, e shared.Event) error {
	for _, step := range e.Steps {
		if w.steps[step] == nil { // a plugin delivers none; left open, for a host that has it
			w.logger.Warn("this host does not carry out a step that was delivered to it", "step", step, "recall_id", e.RecallID)
			continue
		}
		one := work{e.Sequence, step}
		w.mu.Lock()
		// A plugin that was started meanwhile delivers again what is still under way here, and may have sent it just
		// before the outcome reached it. The outcome is then that of the later delivery too.
		now, running := w.running[one]
		if running || w.settled[one] {
			if running {
				now.attempt = max(now.attempt, e.Attempt)
				w.running[one] = now
			}
			w.mu.Unlock()
			continue
		}
		if w.taken[step] >= maxTaken {
			w.mu.Unlock()
			return fmt.Errorf("more than %d deliveries of step %s have no outcome", maxTaken, step)
		}
		w.taken[step]++
		w.running[one] = underWay{w.stream, e.Attempt}
		w.handed.Add(1)
		w.mu.Unlock()
		go func() {
			defer w.handed.Done()
			select {
			case w.slots[step] <- struct{}{}:
				defer func() { <-w.slots[step] }()
			case <-ctx.Done():
			}
			if ctx.Err() == nil {
				w.carryOut(ctx, e, step)
			} else { // the host is closing; the step is delivered again when it is opened
				w.finish(one, false)
			}
			w.mu.Lock()
			w.taken[step]--
			w.mu.Unlock()
		}()
	}
	return nil
}

// result is what an attempt of a step came to.
type result struct {
	outcome shared.Outcome
	cause   error // of OutcomeFailed
}

// carryOut runs one step and reports its outcome. It returns in time, even if the step does not.
func (w *worker) carryOut(ctx context.Context, e shared.Event, step string) {
	w.mu.Lock()
	abandoned := w.abandoned[step]
	w.mu.Unlock()
	if abandoned >= maxAbandoned {
		w.record(ctx, e, step, result{shared.OutcomeFailed,
			fmt.Errorf("%d attempts that ignore the end of their context still run", abandoned)})
		return
	}
	ended := make(chan result, 1)
	go w.attempt(ctx, e, step, ended)
	expired := time.NewTimer(w.timeout + timeoutGrace)
	defer expired.Stop()
	var closed <-chan time.Time
	for closing := ctx.Done(); ; {
		select {
		case r := <-ended:
			w.record(ctx, e, step, r)
			return
		case <-closing:
			closing = nil
			patience := time.NewTimer(closePatience)
			defer patience.Stop()
			closed = patience.C
		case <-closed:
			w.abandon(ctx, e, step, ended)
			return
		case <-expired.C:
			if closed == nil {
				w.abandon(ctx, e, step, ended)
				cause := fmt.Errorf("no outcome within %s, and it ignores the end of its context", w.timeout)
				w.record(ctx, e, step, result{shared.OutcomeFailed, cause})
				return
			}
		}
	}
}

// abandon gives up an attempt: it no longer counts as under way. If it succeeds later, that is reported.
func (w *worker) abandon(ctx context.Context, e shared.Event, step string, ended <-chan result) {
	w.logger.Error("an attempt of a step ignores the end of its context and is given up", "step", step, "tenant", e.Tenant,
		"recall_id", e.RecallID, "message_id", e.Message.ID, "attempt", e.Attempt)
	w.mu.Lock()
	w.abandoned[step]++
	w.mu.Unlock()
	go func() {
		r := <-ended
		w.mu.Lock()
		w.abandoned[step]--
		w.mu.Unlock()
		if !r.outcome.Settles() || ctx.Err() != nil {
			return // it was recorded as failed, or is tried again by the next host
		}
		w.logger.Info("an attempt that was given up succeeded", "step", step, "recall_id", e.RecallID, "attempt", e.Attempt)
		w.settle(ctx, e, step, r)
	}()
}

// stuck says which steps have attempts that were given up and still run; nil where there is none.
func (w *worker) stuck() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, step := range slices.Sorted(maps.Keys(w.abandoned)) {
		if n := w.abandoned[step]; n > 0 {
			errs = append(errs, fmt.Errorf("step %s ignores the end of its context: %d attempts still run and were given up",
				step, n))
		}
	}
	return errors.Join(errs...)
}

// record reports the outcome of a step to the plugin.
func (w *worker) record(ctx context.Context, e shared.Event, step string, r result) {
	one := work{e.Sequence, step}
	if !r.outcome.Settles() {
		// It may be delivered again from the moment at which the plugin hears of it.
		e.Attempt = w.finish(one, false)
		if ctx.Err() != nil {
			return // it failed because the host is closing, and is delivered again when it is opened
		}
		w.logger.Warn("step failed, will be tried again", "step", step, "tenant", e.Tenant, "recall_id", e.RecallID,
			"message_id", e.Message.ID, "attempt", e.Attempt, "error", r.cause)
		w.settle(ctx, e, step, r)
		return
	}
	w.settle(ctx, e, step, r)
	w.finish(one, true)
}

// finish removes a step from those under way. It returns the last attempt of it that was delivered.
func (w *worker) finish(one work, settled bool) (attempt int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.running[one]
	if settled && now.stream != w.stream {
		w.settled[one] = true
	}
	delete(w.running, one)
	return now.attempt
}

// settle reports an outcome to the plugin, retrying until it is stored. Once the host is closed it gives up after
// closeTime.
func (w *worker) settle(closing context.Context, e shared.Event, step string, r result) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(closing))
	defer cancel()
	defer context.AfterFunc(closing, func() { time.AfterFunc(closeTime, cancel) })()
	for {
		err := w.reports.settle(ctx, shared.NewSettlement(e, step, r.outcome, r.cause))
		if err == nil || ctx.Err() != nil {
			return
		}
		if errors.Is(err, shared.ErrInvalid) { // asking again would be answered alike
			w.logger.Error("outcome of a step refused", "step", step, "recall_id", e.RecallID, "error", err)
			return
		}
		w.logger.Warn("outcome of a step not recorded yet", "step", step, "recall_id", e.RecallID, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(settleRetry):
		}
	}
}

// attempt calls the step once. It reports also for one that ends its goroutine, as t.Fatal does.
func (w *worker) attempt(ctx context.Context, e shared.Event, step string, ended chan<- result) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	r := result{shared.OutcomeFailed, errors.New("it ended its goroutine (runtime.Goexit)")}
	defer func() {
		if p := recover(); p != nil {
			w.logger.Error("step panicked", "step", step, "recall_id", e.RecallID, "panic", p, "stack", string(debug.Stack()))
			r.cause = fmt.Errorf("panic: %v", p)
		}
		ended <- r
	}()
	switch outcome, err := w.steps[step](ctx, e); {
	case err != nil:
		r.cause = err
	case outcome == shared.OutcomeFailed:
		r.cause = fmt.Errorf("step %s answered %s", step, outcome)
	case !outcome.Settles():
		r.cause = fmt.Errorf("step %s answered %q, which is no outcome", step, outcome)
	default:
		r = result{outcome: outcome}
	}
}
