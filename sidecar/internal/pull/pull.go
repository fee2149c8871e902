// Package pull leases the deliveries of pulled steps to workers that ask for them.
package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chat-recall/recall/shared"
)

// MaxTake is how many deliveries one Take leases at most, and how many outcomes one Settle reports.
const MaxTake = 100

// Settle stores the outcome of a step, as [host.Host.Settle] does.
type Settle func(ctx context.Context, key, step string, outcome shared.Outcome, cause error) error

// A Leased is a delivery that a worker has until its lease ends.
type Leased struct {
	ID string
	shared.Delivery
	Until time.Time
}

// A Broker holds the deliveries of pulled steps until a worker has settled them. The plugin bounds them: at most
// shared.MaxDeliveries of a step are under way.
type Broker struct {
	settle Settle
	steps  map[string]Step

	mu      sync.Mutex
	open    map[string]*delivery // by step key
	leased  map[string]int       // deliveries by step
	waiters []*waiter            // in the order in which they came
}

// Step is how one step is leased.
type Step struct {
	Lease   time.Duration // how long a worker has for a delivery
	AtATime int           // deliveries that are leased at a time
}

// delivery is one that waits for a worker or is leased.
type delivery struct {
	shared.Delivery
	key      string // of the event
	since    time.Time
	until    time.Time   // of the lease; zero: no worker has it
	timer    *time.Timer // ends the lease
	settling int         // calls of Settle that store its outcome now
	result   chan result // has room for one
	done     bool        // it has a result
}

type result struct {
	outcome shared.Outcome
	cause   error
}

// waiter is a Take that waits. ready is closed when there may be something for it.
type waiter struct {
	steps []string
	ready chan struct{}
}

// New returns a broker for these steps.
func New(steps map[string]Step, settle Settle) *Broker {
	return &Broker{settle: settle, steps: steps, open: map[string]*delivery{}, leased: map[string]int{}}
}

// StepKey names a step of an event. It is the same for every attempt.
func StepKey(d *shared.Delivery) string { return d.Key() + ":" + d.Step }

// ID names one attempt of a step of an event.
func ID(d *shared.Delivery) string { return StepKey(d) + ":" + strconv.Itoa(d.Attempt) }

// Run offers a delivery to the workers and waits for its outcome. It is the Run of a [host.Step]. An outcome that
// Settle stored is OutcomeDeferred here, since nothing is left to record.
func (b *Broker) Run(ctx context.Context, due shared.Delivery) (shared.Outcome, error) {
	d := &delivery{Delivery: due, key: StepKey(&due), since: time.Now(), result: make(chan result, 1)}
	b.mu.Lock()
	if other := b.open[d.key]; other != nil { // of an attempt that was given up
		b.finish(other, result{shared.OutcomeFailed, errors.New("a later attempt was delivered")})
	}
	b.open[d.key] = d
	b.wake(d.Step)
	b.mu.Unlock()
	select {
	case r := <-d.result:
		return r.outcome, r.cause
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	what := "no worker took it"
	if !d.until.IsZero() {
		what = "no worker settled it"
	}
	b.finish(d, result{shared.OutcomeFailed, fmt.Errorf("%s: %w", what, ctx.Err())})
	r := <-d.result
	return r.outcome, r.cause
}

// finish ends a delivery, with mu held. Only the first result counts.
func (b *Broker) finish(d *delivery, r result) {
	if d.done {
		return
	}
	d.done = true
	d.result <- r
	if b.open[d.key] == d {
		delete(b.open, d.key)
	}
	if !d.until.IsZero() {
		d.timer.Stop()
		b.leased[d.Step]--
		b.wake(d.Step) // one more may be leased
	}
}

// wake lets the first Take that waits for this step look again, with mu held.
func (b *Broker) wake(step string) {
	for i, w := range b.waiters {
		if slices.Contains(w.steps, step) {
			close(w.ready)
			b.waiters = slices.Delete(b.waiters, i, i+1)
			return
		}
	}
}

// Steps returns the names of the pulled steps, sorted.
func (b *Broker) Steps() []string { return slices.Sorted(maps.Keys(b.steps)) }

// Take leases at most most deliveries of these steps, in the order of the recalls. If there are none it waits until
// there are, or ctx ends.
func (b *Broker) Take(ctx context.Context, steps []string, most int) []Leased {
	for {
		b.mu.Lock()
		leased := b.lease(steps, most)
		if len(leased) > 0 || ctx.Err() != nil {
			if len(leased) == most { // there may be more for others
				for _, step := range steps {
					b.wake(step)
				}
			}
			b.mu.Unlock()
			return leased
		}
		w := &waiter{steps: steps, ready: make(chan struct{})}
		b.waiters = append(b.waiters, w)
		b.mu.Unlock()
		select {
		case <-w.ready:
		case <-ctx.Done():
			b.mu.Lock()
			if i := slices.Index(b.waiters, w); i >= 0 {
				b.waiters = slices.Delete(b.waiters, i, i+1)
			} else { // it was woken, and another one must look instead
				for _, step := range steps {
					b.wake(step)
				}
			}
			b.mu.Unlock()
			return nil
		}
	}
}

// lease leases what is free, with mu held.
func (b *Broker) lease(steps []string, most int) []Leased {
	var free []*delivery
	for _, d := range b.open {
		if d.until.IsZero() && slices.Contains(steps, d.Step) {
			free = append(free, d)
		}
	}
	slices.SortFunc(free, func(x, y *delivery) int {
		return cmp.Or(cmp.Compare(x.Sequence, y.Sequence), strings.Compare(x.Step, y.Step))
	})
	var out []Leased
	for _, d := range free {
		step := b.steps[d.Step]
		if len(out) == most {
			break
		}
		if b.leased[d.Step] >= step.AtATime {
			continue
		}
		b.leased[d.Step]++
		d.until = time.Now().Add(step.Lease)
		d.timer = time.AfterFunc(step.Lease, func() { b.expire(d, step.Lease) })
		out = append(out, Leased{ID: ID(&d.Delivery), Delivery: d.Delivery, Until: d.until})
	}
	return out
}

// Release gives back what was leased to a worker that has gone before it could know.
func (b *Broker) Release(list []Leased) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range list {
		if d := b.open[StepKey(&l.Delivery)]; d != nil && d.Attempt == l.Attempt && d.until.Equal(l.Until) {
			d.timer.Stop()
			d.until = time.Time{}
			b.leased[d.Step]--
			b.wake(d.Step)
		}
	}
}

// expire makes an attempt fail whose worker did not settle it in time.
func (b *Broker) expire(d *delivery, lease time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.settling > 0 || d.until.IsZero() || time.Now().Before(d.until) { // Settle ends it, or it was given back
		return
	}
	b.finish(d, result{shared.OutcomeFailed, fmt.Errorf("no worker settled it within %s", lease)})
}

// Settle reports the outcome of a delivery. It returns once an outcome that settles the step is on disk. It reports
// whether the delivery was there to be settled: a failure counts only as long as its lease lasts. If id is not the id
// of a delivery of a pulled step, or outcome is none, the error is a [*shared.FieldError].
func (b *Broker) Settle(ctx context.Context, id string, outcome shared.Outcome, cause error) (settled bool, err error) {
	event, step, attempt, err := b.parse(id)
	if err != nil {
		return false, err
	}
	key := event + ":" + step
	switch {
	case outcome == shared.OutcomeFailed:
		b.mu.Lock()
		defer b.mu.Unlock()
		d := b.open[key]
		if d == nil || d.until.IsZero() || d.Attempt != attempt {
			return false, nil
		}
		b.finish(d, result{shared.OutcomeFailed, cause})
		return true, nil
	case !outcome.Settles():
		return false, shared.Invalidf("outcome", "is %.80q; one of %s, %s, %s, %s", outcome, shared.OutcomeDone,
			shared.OutcomeNothingToDo, shared.OutcomeUnsupported, shared.OutcomeFailed)
	case cause != nil:
		return false, shared.Invalidf("error", "is set, and the outcome is %s: only %s has one", outcome,
			shared.OutcomeFailed)
	}
	b.mu.Lock()
	d := b.open[key]
	if d != nil {
		d.settling++
	}
	b.mu.Unlock()
	err = b.settle(ctx, event, step, outcome, nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	if d != nil {
		d.settling--
	}
	if err != nil {
		if d != nil && d.settling == 0 && !d.until.IsZero() && time.Now().After(d.until) {
			b.finish(d, result{shared.OutcomeFailed, fmt.Errorf("its outcome could not be stored: %w", err)})
		}
		if errors.Is(err, shared.ErrInvalid) { // there is no such step of such an event
			return false, nil
		}
		return false, err
	}
	if d = b.open[key]; d != nil { // also if it was delivered again meanwhile
		b.finish(d, result{outcome: shared.OutcomeDeferred})
	}
	return true, nil
}

// parse splits the id of a delivery.
func (b *Broker) parse(id string) (event, step string, attempt int, err error) {
	parts := strings.Split(id, ":")
	if len(parts) == 3 {
		attempt, err = strconv.Atoi(parts[2])
		if _, _, _, bad := shared.ParseEventKey(parts[0]); bad == nil && err == nil && b.steps[parts[1]] != (Step{}) {
			return parts[0], parts[1], attempt, nil
		}
	}
	return "", "", 0, shared.Invalidf("id", "%.80q is not the id of a delivery of a pulled step", id)
}

// A Count tells how many deliveries of a step wait for a worker, since when the first of them waits, and how many are
// leased.
type Count struct {
	Step            string
	Waiting, Leased int
	Since           time.Time // zero if none waits
}

// Counts counts the deliveries of each pulled step.
func (b *Broker) Counts() []Count {
	b.mu.Lock()
	defer b.mu.Unlock()
	var counts []Count
	for _, step := range b.Steps() {
		c := Count{Step: step, Leased: b.leased[step]}
		for _, d := range b.open {
			if d.Step != step || !d.until.IsZero() {
				continue
			}
			c.Waiting++
			if c.Since.IsZero() || d.since.Before(c.Since) {
				c.Since = d.since
			}
		}
		counts = append(counts, c)
	}
	return counts
}
