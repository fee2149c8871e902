package host

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/chat-recall/recall/shared"
)

// result is what an attempt of a step came to.
type result struct {
	outcome shared.Outcome
	cause   error // of OutcomeFailed
}

var errGoexit = errors.New("it ended its goroutine (runtime.Goexit)")

// attempt carries out one step once and reports its outcome. It reports also for a step that ends its goroutine, as
// t.Fatal does.
func (w *worker) attempt(s *stepRuns, d *delivery) {
	if w.closing.Err() != nil { // it is delivered again when the host is opened
		w.finish(d, false)
		w.release(s)
		return
	}
	w.mu.Lock()
	abandoned := s.abandoned
	d.running = abandoned < maxAbandoned
	w.mu.Unlock()
	if abandoned >= maxAbandoned {
		w.record(d, result{shared.OutcomeFailed,
			fmt.Errorf("%d attempts that ignore the end of their context still run", abandoned)})
		w.release(s)
		return
	}
	d.began = time.Now() // before expire can read it
	expired := time.AfterFunc(s.Timeout+timeoutGrace, func() { w.expire(s, d) })
	ctx, cancel := context.WithTimeout(w.closing, s.Timeout)
	r := result{shared.OutcomeFailed, errGoexit}
	defer func() {
		if p := recover(); p != nil {
			w.logger.Error("step panicked", "step", d.step, "recall_id", d.RecallID, "panic", p, "stack", string(debug.Stack()))
			r.cause = fmt.Errorf("panic: %v", p)
		}
		expired.Stop()
		cancel()
		w.ended(s, d, r)
	}()
	switch outcome, err := s.Run(ctx, d.Delivery); {
	case err != nil:
		r.cause = err
	case outcome == shared.OutcomeFailed:
		r.cause = fmt.Errorf("step %s answered %s", d.step, outcome)
	case !outcome.Settles() && outcome != shared.OutcomeDeferred:
		r.cause = fmt.Errorf("step %s answered %q, which is no outcome", d.step, outcome)
	case outcome == shared.OutcomeDone && s.Verify != nil:
		if err := s.Verify(ctx, d.Delivery); err != nil {
			r.cause = fmt.Errorf("step %s reported %s, but Verify failed: %w", d.step, outcome, err)
			return
		}
		r = result{outcome: outcome}
	default:
		r = result{outcome: outcome}
	}
}

// ended reports the result of an attempt, unless it was given up. Then only a success is of use.
func (w *worker) ended(s *stepRuns, d *delivery, r result) {
	w.mu.Lock()
	abandoned := !d.running
	if d.running = false; abandoned {
		s.abandoned--
	}
	w.mu.Unlock()
	if !abandoned {
		w.ran(d.step, r.outcome, d.began)
		w.record(d, r)
		w.release(s)
		return
	}
	if !r.outcome.Settles() || w.closing.Err() != nil {
		return // it was recorded as failed, or is tried again by the next host
	}
	w.logger.Info("an attempt that was given up succeeded", "step", d.step, "recall_id", d.RecallID, "attempt", d.Attempt)
	w.settle(d, d.Attempt, r)
}

// expire gives up an attempt that ignores its timeout. Once the host is closing, abandonAll does.
func (w *worker) expire(s *stepRuns, d *delivery) {
	if w.closing.Err() != nil || !w.abandon(s, d) {
		return
	}
	w.ran(d.step, shared.OutcomeFailed, d.began)
	w.record(d, result{shared.OutcomeFailed, fmt.Errorf("no outcome within %s, and it ignores the end of its context",
		s.Timeout)})
	w.release(s)
}

// abandonAll gives up all attempts that still run.
func (w *worker) abandonAll() {
	w.mu.Lock()
	var pending []*delivery
	for _, d := range w.pending {
		pending = append(pending, d)
	}
	w.mu.Unlock()
	for _, d := range pending {
		if s := w.steps[d.step]; w.abandon(s, d) {
			w.release(s)
		}
	}
}

// abandon gives up an attempt that still runs: it no longer counts as under way. If it succeeds later, that is
// reported.
func (w *worker) abandon(s *stepRuns, d *delivery) bool {
	w.mu.Lock()
	running := d.running
	if d.running = false; running {
		s.abandoned++
	}
	w.mu.Unlock()
	if running {
		w.logger.Error("an attempt of a step ignores the end of its context and is given up", "step", d.step,
			"tenant", d.Tenant, "recall_id", d.RecallID, "message_id", d.Message.ID, "attempt", d.Attempt)
	}
	return running
}
