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
	callers int
	per     int // messages a call
	calls   int // at most so many a run; 0: as many as fit

	// prepare, if not nil, makes what the calls need. It is not measured.
	prepare func(ctx context.Context) error

	// do makes the call number n, from 0, for one of the callers, from 0, and returns how long it took.
	do func(ctx context.Context, caller, n int) (time.Duration, error)

	// settle, if not nil, waits until everything that the calls brought about is carried out. The rate counts that time.
	settle func(ctx context.Context) error

	// cpu is the processor time used by the other processes that answer the calls. Callers work in this one.
	cpu func() time.Duration
}

// A sample is what one run of a load showed.
type sample struct {
	Rate float64 `json:"rate"` // messages a second
	P50  float64 `json:"p50"`  // microseconds a call
	P99  float64 `json:"p99"`
	CPU  float64 `json:"cpu"` // microseconds a message, of all processes
}

// run makes calls for a time.
func (l *load) run(ctx context.Context, d time.Duration) (sample, error) {
	if l.prepare != nil {
		if err := l.prepare(ctx); err != nil {
			return sample{}, fmt.Errorf("prepare: %w", err)
		}
	}
	waitForQuiet(ctx)
	cpu := ownCPU() + l.cpu()
	start := time.Now()
	took, err := l.call(ctx, d)
	if err != nil {
		return sample{}, err
	}
	if l.settle != nil {
		if err := l.settle(ctx); err != nil {
			return sample{}, fmt.Errorf("settle: %w", err)
		}
	}
	elapsed := time.Since(start)
	cpu = ownCPU() + l.cpu() - cpu
	if len(took) == 0 {
		return sample{}, fmt.Errorf("no call was answered in %s", d)
	}
	messages := float64(len(took) * l.per)
	return sample{
		Rate: messages / elapsed.Seconds(), P50: microseconds(quantile(took, 0.5)), P99: microseconds(quantile(took, 0.99)),
		CPU: microseconds(cpu) / messages,
	}, nil
}

// call makes the calls, at least one a caller, and returns how long each took.
func (l *load) call(ctx context.Context, d time.Duration) ([]time.Duration, error) {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	took := make([][]time.Duration, l.callers)
	var all sync.WaitGroup
	start := time.Now()
	for c := range l.callers {
		all.Go(func() {
			for first := true; failed.Load() == nil && (first || time.Since(start) < d); first = false {
				n := int(next.Add(1) - 1)
				if l.calls > 0 && n >= l.calls {
					return
				}
				one, err := l.do(ctx, c, n)
				if err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				took[c] = append(took[c], one)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return slices.Concat(took...), nil
}

// timed measures one call.
func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
