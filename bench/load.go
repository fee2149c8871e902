package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A load is a call that callers make again and again, each waiting for its answer.
type load struct {
	name    string
	callers int
	per     int // messages a call

	// prepare, if not nil, does what has to be there before, which is not measured.
	prepare func(ctx context.Context) error

	// do makes the call of this number, from 0, and tells how long it took.
	do func(ctx context.Context, n int) (time.Duration, error)

	// settle, if not nil, waits until nothing of the calls is under way any more. It is not measured.
	settle func(ctx context.Context) error

	calls int // at most so many a run; 0: as many as fit
}

// A sample is what one run of a load gave.
type sample struct {
	rate                float64 // messages a second
	p50, p90, p99, p999 float64 // microseconds a call
}

// run makes calls for a time.
func (l *load) run(ctx context.Context, d time.Duration) (sample, error) {
	if l.prepare != nil {
		if err := l.prepare(ctx); err != nil {
			return sample{}, fmt.Errorf("%s: prepare: %w", l.name, err)
		}
	}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	took := make([][]time.Duration, l.callers)
	var all sync.WaitGroup
	start := time.Now()
	for c := range l.callers {
		all.Go(func() {
			for failed.Load() == nil && time.Since(start) < d {
				n := int(next.Add(1) - 1)
				if l.calls > 0 && n >= l.calls {
					return
				}
				one, err := l.do(ctx, n)
				if err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				took[c] = append(took[c], one)
			}
		})
	}
	all.Wait()
	elapsed := time.Since(start)
	if err := failed.Load(); err != nil {
		return sample{}, fmt.Errorf("%s: %w", l.name, *err)
	}
	if l.settle != nil {
		if err := l.settle(ctx); err != nil {
			return sample{}, fmt.Errorf("%s: settle: %w", l.name, err)
		}
	}
	sorted := slices.Concat(took...)
	slices.Sort(sorted)
	at := func(p float64) float64 {
		return float64(sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]) / 1e3
	}
	if len(sorted) == 0 {
		return sample{}, fmt.Errorf("%s: no call was answered in %s", l.name, d)
	}
	return sample{
		rate: float64(len(sorted)*l.per) / elapsed.Seconds(),
		p50:  at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999),
	}, nil
}

// A round has one sample of each load, by its name.
type round map[string]sample

// rounds runs every load in turn, again and again: what is compared with each other meets the same machine. Every
// other round goes backwards, so that none always comes after the same.
func rounds(ctx context.Context, loads []*load, n int, d time.Duration, each func()) ([]round, error) {
	var out []round
	for i := range n {
		r := round{}
		order := slices.Clone(loads)
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, l := range order {
			s, err := l.run(ctx, d)
			if err != nil {
				return nil, err
			}
			r[l.name] = s
		}
		out = append(out, r)
		each()
		progress("round %d of %d", i+1, n)
	}
	return out, nil
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// timed measures one call.
func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}
