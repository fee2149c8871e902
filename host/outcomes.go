package host

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

const (
	// maxReportBytes bounds one report of several outcomes, by about what it takes on the wire.
	maxReportBytes = 64 << 10

	outcomeBytes = 32 // of an outcome besides its texts
)

// reporter reports outcomes of steps to the plugin in force, one report at a time. An outcome goes at once where none
// is under way; those that come meanwhile go together in the next one.
type reporter struct {
	gate  *gate
	wake  chan struct{} // something waits
	ended chan struct{} // closed when run has returned: nothing is reported any more

	mu      sync.Mutex
	waiting []*outcome
}

// outcome is one that somebody waits to see stored.
type outcome struct {
	wire.Settlement
	report *report       // that it goes in; nil while it waits
	done   chan struct{} // closed when err is set
	err    error         // why it is not stored
}

func (o *outcome) bytes() int { return outcomeBytes + len(o.Step) + len(o.Error) }

// report is one call of the plugin.
type report struct {
	ctx      context.Context
	cancel   context.CancelFunc
	outcomes []*outcome
	awaited  int // of them, by somebody whose context has not ended
}

func newReporter(g *gate) *reporter {
	return &reporter{gate: g, wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

// run sends until ctx ends.
func (r *reporter) run(ctx context.Context) {
	defer close(r.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for report := r.next(ctx); report != nil; report = r.next(ctx) {
			r.send(report)
		}
	}
}

// settle returns once the outcome is stored, or with the reason why it is not. What ctx ended for may still be stored.
func (r *reporter) settle(ctx context.Context, s wire.Settlement) error {
	o := &outcome{Settlement: s, done: make(chan struct{})}
	r.mu.Lock()
	r.waiting = append(r.waiting, o)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		r.giveUp(o)
		return ctx.Err()
	case <-r.ended:
		r.giveUp(o)
		return errClosed
	}
}

// giveUp ends the wait for an outcome. A report that nobody waits for any more is cut short: it must not hold up
// others.
func (r *reporter) giveUp(o *outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.report == nil {
		r.waiting = slices.DeleteFunc(r.waiting, func(other *outcome) bool { return other == o })
		return
	}
	if o.report.awaited--; o.report.awaited == 0 {
		o.report.cancel()
	}
}

// next is a report of what waits, oldest first; nil where nothing does.
func (r *reporter) next(ctx context.Context) *report {
	runtime.Gosched() // what was delivered together is done within a moment, and goes together
	r.mu.Lock()
	defer r.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(r.waiting), wire.MaxSettlements) {
		if bytes += r.waiting[n].bytes(); n > 0 && bytes > maxReportBytes {
			break
		}
		n++
	}
	if n == 0 {
		return nil
	}
	report := &report{outcomes: slices.Clone(r.waiting[:n]), awaited: n}
	report.ctx, report.cancel = context.WithCancel(ctx)
	r.waiting = slices.Delete(r.waiting, 0, n)
	for _, o := range report.outcomes {
		o.report = report
	}
	return report
}

// send makes one report and hands out the answers.
func (r *reporter) send(report *report) {
	defer report.cancel()
	all, bytes := make([]wire.Settlement, len(report.outcomes)), int64(smallCall)
	for i, o := range report.outcomes {
		all[i] = o.Settlement
		bytes += int64(o.bytes())
	}
	errs, err := sizedCall(report.ctx, r.gate, bytes, func(api *wire.Client) ([]error, error) {
		return api.Settle(report.ctx, all)
	})
	if errors.Is(err, shared.ErrInvalid) { // of the report as a whole; it refuses no outcome
		err = fmt.Errorf("report %d outcomes: %v", len(all), err)
	}
	for i, o := range report.outcomes {
		if o.err = err; err == nil {
			o.err = errs[i]
		}
		close(o.done)
	}
}
