package host

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

const (
	// StepTimeout ends the context of one attempt of a step. An attempt that heeds it and fails is tried again.
	StepTimeout = time.Minute

	settleRetry = 200 * time.Millisecond // between attempts to have an outcome recorded
	closeTime   = 2 * time.Second        // for outcomes that are known when the host is closed
)

// A Step carries out one part of a recall in the chat server.
//
// It is called at least once for each recall: again after an error, and again when the server or the plugin died
// before the outcome was on disk. Once an outcome is recorded it is not called again. Calls for different recalls, and
// of different steps of one recall, run side by side; the step "notify" is recorded before any other of the same
// recall starts, so what it shows can still be read.
//
// It returns OutcomeDone, OutcomeNothingToDo where the server held nothing, or OutcomeUnsupported where it cannot do this
// for this message; each is final. An error, OutcomeFailed or a panic makes it be tried again, after a delay that grows
// from 100 ms to a minute. ctx ends after StepTimeout or when the host is closed.
type Step func(ctx context.Context, e shared.Event) (shared.Outcome, error)

// work names one step of one event.
type work struct {
	sequence uint64
	step     string
}

// A worker runs the host's steps for the events of whatever plugin is in force, and has their outcomes recorded.
type worker struct {
	steps  map[string]Step
	gate   *gate
	logger hclog.Logger

	mu      sync.Mutex
	running map[work]uint64 // the stream that each came by
	settled map[work]bool   // settled during this stream, but come by an older one
	stream  uint64          // counts the streams
	handed  sync.WaitGroup
}

func newWorker(steps map[string]Step, g *gate, logger hclog.Logger) *worker {
	return &worker{steps: steps, gate: g, logger: logger, running: map[work]uint64{}, settled: map[work]bool{}}
}

// run receives events until ctx ends, and returns when every step it called has returned.
func (w *worker) run(ctx context.Context) {
	defer w.handed.Wait()
	for {
		p, err := w.gate.current(ctx)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.stream++
		w.settled = map[work]bool{}
		w.mu.Unlock()
		err = p.api.Events(ctx, func(e shared.Event, s shared.Settler) { w.take(ctx, e) })
		if ctx.Err() != nil {
			return
		}
		w.logger.Debug("event stream ended", "error", err)
		w.gate.changed(ctx, p, changeTime)
	}
}

// take starts the steps of one delivery, without waiting for them.
func (w *worker) take(ctx context.Context, e shared.Event) {
	for _, step := range e.Steps {
		one := work{e.Sequence, step}
		w.mu.Lock()
		// A plugin that was started meanwhile delivers again what is still under way here, and may have sent it just
		// before the outcome reached it.
		if _, running := w.running[one]; running || w.settled[one] {
			w.mu.Unlock()
			continue
		}
		w.running[one] = w.stream
		w.handed.Add(1)
		w.mu.Unlock()
		go func() {
			defer w.handed.Done()
			w.carryOut(ctx, e, step)
		}()
	}
}

// carryOut runs one step and has its outcome recorded, also that of one that ends its goroutine, as t.Fatal does.
func (w *worker) carryOut(ctx context.Context, e shared.Event, step string) {
	outcome, cause := shared.OutcomeFailed, errors.New("it ended its goroutine (runtime.Goexit)")
	defer func() { w.record(ctx, e, step, outcome, cause) }()
	outcome, cause = w.attempt(ctx, e, step)
}

// record has the outcome of a step recorded.
func (w *worker) record(ctx context.Context, e shared.Event, step string, outcome shared.Outcome, cause error) {
	one := work{e.Sequence, step}
	if !outcome.Settles() {
		// It may be delivered again from the moment at which the plugin hears of it.
		w.finish(one, false)
		if ctx.Err() != nil {
			return // it failed because the host is closing, and is delivered again when it is opened
		}
		w.logger.Warn("step failed, will be tried again", "step", step, "tenant", e.Tenant, "recall_id", e.RecallID,
			"message_id", e.Message.ID, "attempt", e.Attempt, "error", cause)
		w.settle(ctx, e, step, outcome, cause)
		return
	}
	w.settle(ctx, e, step, outcome, nil)
	w.finish(one, true)
}

// finish takes note that a step is not under way any more.
func (w *worker) finish(one work, settled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if settled && w.running[one] != w.stream {
		w.settled[one] = true
	}
	delete(w.running, one)
}

// settle has an outcome recorded, however long that takes. What is done when the host is closed has a moment left for it.
func (w *worker) settle(closing context.Context, e shared.Event, step string, outcome shared.Outcome, cause error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(closing))
	defer cancel()
	defer context.AfterFunc(closing, func() { time.AfterFunc(closeTime, cancel) })()
	for {
		_, err := call(ctx, w.gate, func(api *shared.Client) (struct{}, error) {
			return struct{}{}, shared.NewSettler(api, e.Sequence).Settle(ctx, step, outcome, cause)
		})
		if err == nil || ctx.Err() != nil {
			return
		}
		w.logger.Warn("outcome of a step not recorded yet", "step", step, "recall_id", e.RecallID, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(settleRetry):
		}
	}
}

// attempt calls the step once.
func (w *worker) attempt(ctx context.Context, e shared.Event, step string) (outcome shared.Outcome, err error) {
	do, ok := w.steps[step]
	if !ok { // opened when the host still had this step
		return shared.OutcomeUnsupported, nil
	}
	ctx, cancel := context.WithTimeout(ctx, StepTimeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			w.logger.Error("step panicked", "step", step, "recall_id", e.RecallID, "panic", r, "stack", string(debug.Stack()))
			outcome, err = shared.OutcomeFailed, fmt.Errorf("panic: %v", r)
		}
	}()
	outcome, err = do(ctx, e)
	switch {
	case err != nil:
		return shared.OutcomeFailed, err
	case outcome == shared.OutcomeFailed:
		return outcome, fmt.Errorf("step %s answered %s", step, outcome)
	case !outcome.Settles():
		return shared.OutcomeFailed, fmt.Errorf("step %s answered %q, which is no outcome", step, outcome)
	}
	return outcome, nil
}
