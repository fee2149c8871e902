package delivery

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/clock"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

const (
	// NotifyFirst is how long the other steps of a recall wait for its notify: a notice that cannot be given must not keep
	// the text readable.
	NotifyFirst = 30 * time.Second

	// notifyAgain is the least that those of an earlier process wait: a server that was down gives its notices first.
	notifyAgain = 2 * time.Second

	// notifyPart is of how long a time the recalls are opened together.
	notifyPart = time.Second

	// openAtOnce bounds the events of one operation batch.
	openAtOnce = 256

	openRetry = 10 * time.Second // after a failure to write, such as a full disk
)

// Opener opens the steps of events that wait for notify for too long. It counts on the monotonic clock from the
// commit of the recall. For a recall of an earlier process the wall clock tells how long ago that was, so that a
// plugin that is killed again and again does not begin anew each time; it has the last word in nothing else. It
// remembers a mark for each part of the time, and no event.
type Opener struct {
	index  *index.Index
	log    journal.Log
	steps  []string // of the host
	clock  clock.Clock
	logger hclog.Logger

	wake chan struct{} // one token: notify was opened for some event
	done chan struct{} // closed when Run has returned
}

// NewOpener makes an opener. steps are those of the host, sorted.
func NewOpener(x *index.Index, log journal.Log, steps []string, c clock.Clock, logger hclog.Logger) *Opener {
	return &Opener{
		index: x, log: log, steps: steps, clock: c, logger: logger, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Recalled says that there may be new events that wait for notify. It does not block.
func (o *Opener) Recalled() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Run opens steps until ctx ends or the index is released.
func (o *Opener) Run(ctx context.Context) {
	defer close(o.done)
	marks := o.earlier(ctx)
	warnOfOthers(ctx, o.index, o.steps, o.logger)
	var timer <-chan time.Time // for the first mark; it fires early where that was put off meanwhile
	for {
		if len(marks) > 0 && timer == nil {
			timer = o.clock.At(marks[0].due)
		}
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
			marks = addMark(marks, o.index.LastSequence(), o.clock.Elapsed())
		case <-timer:
			timer = nil
		}
		now := o.clock.Elapsed()
		for len(marks) > 0 && marks[0].due <= now {
			if err := o.open(ctx, marks[0].upTo); errors.Is(err, shared.ErrUnavailable) || ctx.Err() != nil {
				return
			} else if err != nil {
				o.logger.Error("steps that wait for notify are not opened yet", "error", err)
				marks[0].due = now + openRetry
				break
			}
			marks = marks[1:]
		}
	}
}

// Wait waits until Run has returned.
func (o *Opener) Wait() { <-o.done }

// earlier are the marks of the events that were there before.
func (o *Opener) earlier(ctx context.Context) (marks []mark) {
	now, wall := o.clock.Elapsed(), o.clock.Now()
	for after := uint64(0); ; {
		events, err := o.index.Gated(ctx, after, openAtOnce)
		if err != nil || len(events) == 0 { // what cannot be read now is as if it were new
			return addMark(marks, o.index.LastSequence(), now)
		}
		for _, after = range events {
			if e, err := o.index.Entry(after, shared.StepNotify); err == nil && e != nil {
				age := min(max(wall.Sub(e.Event.RecalledAt), 0), NotifyFirst-notifyAgain)
				marks = addMark(marks, after, now-age)
			}
		}
	}
}

// addMark notes that there are events up to a sequence, which were recalled at this moment.
func addMark(marks []mark, upTo uint64, at time.Duration) []mark {
	if n := len(marks); n > 0 && at-marks[n-1].began < notifyPart {
		marks[n-1].upTo, marks[n-1].due = upTo, at+NotifyFirst
		return marks
	}
	return append(marks, mark{upTo: upTo, began: at, due: at + NotifyFirst})
}

// open opens the steps that wait for notify in events up to a sequence.
func (o *Opener) open(ctx context.Context, upTo uint64) error {
	opened := 0
	for after := uint64(0); ; {
		events, err := o.index.Gated(ctx, after, openAtOnce)
		if err != nil {
			return err
		}
		var ops []index.Op
		for _, sequence := range events {
			if sequence <= upTo {
				ops = append(ops, index.Op{Ungate: &index.Ungate{Sequence: sequence}})
				after = sequence
			}
		}
		if len(ops) == 0 {
			break
		}
		if _, err := o.log.Append(ctx, ops); err != nil {
			return err
		}
		opened += len(ops)
	}
	if opened > 0 {
		o.logger.Warn("notify is not settled, the other steps go on without it", "recalls", opened, "after", NotifyFirst)
	}
	return nil
}

// warnOfOthers says which steps of earlier recalls stay open because the host does not carry them out.
func warnOfOthers(ctx context.Context, x *index.Index, steps []string, logger hclog.Logger) {
	open, err := x.CountOpen(ctx, steps)
	if err != nil {
		if ctx.Err() == nil {
			logger.Error("count the open steps", "error", err)
		}
		return
	}
	for _, step := range slices.Sorted(maps.Keys(open)) {
		logger.Warn("a step of earlier recalls stays open: this host does not carry it out; a host that does will get it",
			"step", step, "recalls", open[step])
	}
}
