package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

const (
	// forgetWait is how long Forget waits for its work: below the deadlines that hosts give to calls.
	forgetWait = 5 * time.Second

	// forgetLook is how often it looks how far the work is.
	forgetLook = 20 * time.Millisecond

	// forgetSlice is how long a slice looks at messages.
	forgetSlice = time.Millisecond

	// Messages whose steps are open are looked at again after firstForget, and then after twice as long each time, up to
	// lastForget; but not before twice the time that the last pass over all messages took.
	firstForget = time.Second
	lastForget  = time.Minute

	// expireEvery is how often messages are looked at for index.keep_messages, which counts days.
	expireEvery = time.Hour

	// A clock that jumps ahead by more than clockJump may be wrong, and what is dropped does not come back. It is believed
	// once it has stayed so for believeAfter: a machine that slept is right, and people correct the others meanwhile.
	clockJump    = time.Hour
	believeAfter = 24 * time.Hour
)

// Forget is [shared.Recall].
func (e *Engine) Forget(ctx context.Context, req shared.ForgetRequest) (shared.ForgetResult, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.ForgetResult{}, err
	}
	defer leave()
	if err := wire.ValidateForget(&req); err != nil {
		return shared.ForgetResult{}, err
	}
	if !req.Before.IsZero() {
		req.Before = micros(req.Before)
	}
	begun, err := e.beginForget(ctx, a, req)
	if err != nil {
		return shared.ForgetResult{}, err
	}
	e.runner.poke(forgetName(&req))
	last := resultOf(begun)
	looked := e.clock.Elapsed()
	for end := looked + forgetWait; ; {
		select {
		case <-ctx.Done():
			return shared.ForgetResult{}, ctx.Err()
		case <-e.stop.Done():
			return shared.ForgetResult{}, e.unavailable()
		case <-e.clock.At(looked + forgetLook):
		}
		looked = e.clock.Elapsed()
		work, _, err := findForget(a, req)
		if err != nil {
			return shared.ForgetResult{}, err
		}
		if work == nil {
			if known, ok := e.forgotten.get(forgetDone{forgetName(&req), begun.End}); ok {
				return known, nil
			}
			if w, _ := e.runner.at(forgetName(&req)); w != nil && looked < end { // it is about to say what it did
				continue
			}
			last.Done, last.Waiting = true, 0
			return last, nil
		}
		last = resultOf(work)
		if work.Pass > begun.Pass && work.Waiting > 0 || looked >= end {
			return last, nil
		}
	}
}

// beginForget begins the work of a request, unless it is under way, and returns how far it is.
func (e *Engine) beginForget(ctx context.Context, a *active, req shared.ForgetRequest) (*index.ForgetWork, error) {
	work, others, err := findForget(a, req)
	if err != nil || work != nil {
		return work, err
	}
	if others >= index.MaxForgetWorks {
		return nil, fmt.Errorf("%w: %d requests to forget are under way", shared.ErrOverloaded, others)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	results, err := a.log.Append(ctx, []index.Op{{Forget: &index.Forget{What: req, Key: key}}})
	if err != nil {
		return nil, fmt.Errorf("begin to forget: %w", err)
	}
	return &index.ForgetWork{What: req, Pass: 1, End: results[0].Forgot.End}, nil
}

// findForget finds the work of a request, nil if none is under way; and how many others are.
func findForget(a *active, req shared.ForgetRequest) (work *index.ForgetWork, others int, err error) {
	works, err := a.index.ForgetWorks()
	if err != nil {
		return nil, 0, fmt.Errorf("find the requests to forget: %w", err)
	}
	i := slices.IndexFunc(works, func(w index.ForgetWork) bool { return sameForget(&w.What, &req) })
	if i < 0 {
		return nil, len(works), nil
	}
	return &works[i], len(works) - 1, nil
}

func sameForget(a, b *shared.ForgetRequest) bool {
	return a.Tenant == b.Tenant && a.Sender == b.Sender && a.Conversation == b.Conversation && a.Before.Equal(b.Before)
}

func resultOf(w *index.ForgetWork) shared.ForgetResult {
	return shared.ForgetResult{Live: w.Live, Recalled: w.Recalled, Replaced: w.Replaced, Waiting: w.Waiting}
}

// forgetName names the work of a request, also in the log, which must not have what is forgotten.
func forgetName(r *shared.ForgetRequest) string {
	text, _ := json.Marshal(r) // texts and times of this century
	sum := sha256.Sum256(text)
	return fmt.Sprintf("forget %x", sum[:6])
}

// maxForgotten bounds the results that are kept for calls that wait.
const maxForgotten = 100

// forgetDone is work that is done.
type forgetDone struct {
	name string // of the request
	end  uint64 // see index.ForgetWork
}

// forgotten are the results of work that is done, for the calls that wait for it.
type forgotten struct {
	mu sync.Mutex
	of map[forgetDone]shared.ForgetResult
}

func (f *forgotten) put(done forgetDone, r shared.ForgetResult) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil || len(f.of) >= maxForgotten {
		f.of = map[forgetDone]shared.ForgetResult{}
	}
	f.of[done] = r
}

func (f *forgotten) get(done forgetDone) (r shared.ForgetResult, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok = f.of[done]
	return r, ok
}

// forgetSource finds the requests to forget that are under way.
type forgetSource struct{ engine *Engine }

// find is [source].
func (s *forgetSource) find(_ context.Context, a *active) ([]work, error) {
	works, err := a.index.ForgetWorks()
	if err != nil {
		return nil, fmt.Errorf("find the requests to forget: %w", err)
	}
	all := make([]work, len(works))
	for i := range works {
		all[i] = &forgetWork{engine: s.engine, what: works[i].What}
	}
	return all, nil
}

// forgetWork is the work of a request to forget.
type forgetWork struct {
	engine *Engine
	what   shared.ForgetRequest

	at     *index.ForgetWork // as far as slices have looked; nil: it is to be read
	ops    []index.Op        // of the last slice, that are not applied yet
	began  time.Duration     // when this pass began
	waited time.Duration     // before it
	atOnce atomic.Bool       // a call asks for the next pass
}

// name is [work].
func (w *forgetWork) name() string { return forgetName(&w.what) }

// changed is [work].
func (w *forgetWork) changed() { w.atOnce.Store(true) }

// slice is [work].
func (w *forgetWork) slice(ctx context.Context, a *active) (progress, error) {
	now := w.engine.clock.Elapsed()
	if !a.chores.isMine() {
		w.at, w.ops = nil, nil
		work, _, err := findForget(a, w.what)
		return progress{done: err == nil && work == nil, due: now + otherNode}, err
	}
	if w.at == nil {
		w.began = now
		var err error
		if w.at, _, err = findForget(a, w.what); err != nil || w.at == nil {
			return progress{done: err == nil}, err
		}
	}
	if len(w.ops) == 0 {
		ops, err := a.index.ForgetSlice(ctx, w.at, forgetSlice)
		if err != nil {
			w.at = nil
		}
		w.ops = ops
		return progress{}, err
	}
	forgot, err := applyForget(ctx, a, &w.ops)
	if err != nil {
		w.at, w.ops = nil, nil // where it goes on depends on what was applied
		return progress{}, err
	}
	w.engine.counts.erased("forget", forgot.Live, forgot.Recalled)
	switch {
	case forgot.Done:
		result := resultOf(w.at)
		w.engine.forgotten.put(forgetDone{w.name(), forgot.End}, shared.ForgetResult{
			Done: true, Live: forgot.Total.Live, Recalled: forgot.Total.Recalled, Replaced: forgot.Total.Replaced,
		})
		w.engine.logger.Info("what was to be forgotten is erased", "request", w.name(), "tenant", w.what.Tenant,
			"live", forgot.Total.Live, "recalled", forgot.Total.Recalled, "waited_for", result.Waiting)
		return progress{done: true}, nil
	case forgot.Ended: // a pass
		w.at, w.ops = nil, nil
		w.waited = min(max(2*w.waited, firstForget), lastForget)
		if w.atOnce.Swap(false) {
			w.waited = firstForget
		}
		return progress{due: now + max(w.waited, 2*(now-w.began))}, nil
	}
	return progress{}, nil
}

// applied is what the first of some operations did.
type applied struct {
	index.Forgot
	Ended bool // a pass, or the work was done by another node
}

// applyForget applies the first of some operations, or a part of it, and takes from them what it has dealt with.
func applyForget(ctx context.Context, a *active, ops *[]index.Op) (applied, error) {
	op := (*ops)[0]
	results, err := a.log.Append(ctx, []index.Op{op})
	if err != nil {
		return applied{}, fmt.Errorf("erase messages: %w", err)
	}
	f := op.Forget
	if f == nil { // the wait of a recall
		*ops = (*ops)[1:]
		return applied{}, nil
	}
	r := *results[0].Forgot
	if !r.Found {
		return applied{Ended: true}, nil
	}
	if rest := f.Rest(r.Dealt); rest != nil {
		(*ops)[0].Forget = rest
		return applied{Forgot: r}, nil
	}
	*ops = (*ops)[1:]
	return applied{Forgot: r, Ended: f.EndPass}, nil
}

// believed is the wall clock without jumps ahead that are not believed yet.
type believed struct {
	engine  *Engine
	started time.Time     // when the other clock was at 0; zero: it is not known yet
	jumped  time.Time     // the same, by the clock that is not believed; zero: it has not jumped
	since   time.Duration // by the other clock
}

// now is the time.
func (b *believed) now() time.Time {
	now := b.engine.moment()
	started := now.now.Add(-now.elapsed)
	switch {
	case b.started.IsZero() || started.Sub(b.started) <= clockJump:
		b.started, b.jumped = started, time.Time{}
	case b.jumped.IsZero() || started.Sub(b.jumped).Abs() > clockJump:
		b.jumped, b.since = started, now.elapsed
		b.engine.logger.Warn("the clock jumped ahead; index.keep_messages drops no messages by it for a day: set the clock "+
			"if it is wrong", "clock", now.now, "expected", b.started.Add(now.elapsed))
	case now.elapsed-b.since >= believeAfter:
		b.started, b.jumped = started, time.Time{}
	}
	return micros(b.started.Add(now.elapsed))
}

// expireSource finds the work of index.keep_messages.
type expireSource struct {
	engine *Engine
	work   *expireWork // always the same
}

// find is [source].
func (s *expireSource) find(context.Context, *active) ([]work, error) {
	keep := s.engine.keepMessages.Load()
	if keep == 0 {
		return nil, nil
	}
	if s.work == nil {
		s.work = &expireWork{engine: s.engine, keep: time.Duration(keep), clock: &believed{engine: s.engine}}
	}
	return []work{s.work}, nil
}

// expireWork drops live messages that were sent long ago. It is never done.
type expireWork struct {
	engine *Engine
	keep   time.Duration
	clock  *believed

	before time.Time // of this pass
	next   index.Place
	ops    []index.Op
	more   bool
}

// name is [work].
func (w *expireWork) name() string { return "keep_messages" }

// changed is [work].
func (w *expireWork) changed() {}

// slice is [work].
func (w *expireWork) slice(ctx context.Context, a *active) (progress, error) {
	began, now := w.engine.clock.Elapsed(), w.clock.now()
	if !a.chores.isMine() {
		w.again()
		return progress{due: began + otherNode}, nil
	}
	if len(w.ops) > 0 {
		forgot, err := applyForget(ctx, a, &w.ops)
		w.engine.counts.erased("keep_messages", forgot.Live, 0)
		return progress{}, err
	}
	if !w.more {
		if !w.before.IsZero() {
			w.again()
			return progress{due: began + expireEvery}, nil
		}
		w.before = now.Add(-w.keep)
	}
	var err error
	w.ops, w.next, w.more, err = a.index.ExpireSlice(ctx, w.before, w.next, forgetSlice)
	if err != nil {
		w.again()
	}
	return progress{}, err
}

// again begins with the next pass.
func (w *expireWork) again() { *w = expireWork{engine: w.engine, keep: w.keep, clock: w.clock} }
