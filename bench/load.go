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

	// sidecar is the part of cpu that recall-sidecar has used, nil if there is none.
	sidecar func() time.Duration
}

// A sample is what one run of a load showed.
type sample struct {
	Rate float64 `json:"rate"` // messages a second
	P50  float64 `json:"p50"`  // microseconds a call
	P99  float64 `json:"p99"`
	CPU  float64 `json:"cpu"` // microseconds a message, of all processes

	Callers float64 `json:"cpu_callers"` // of the callers, with the host of the SDK if they have one
	Sidecar float64 `json:"cpu_sidecar"` // of recall-sidecar; the rest of CPU is of the plugin or another server
}

// run makes calls for a time.
func (l *load) run(ctx context.Context, d time.Duration) (sample, error) {
	if l.prepare != nil {
		if err := l.prepare(ctx); err != nil {
			return sample{}, fmt.Errorf("prepare: %w", err)
		}
	}
	return l.measure(ctx, func() ([]time.Duration, int, error) {
		took, err := l.call(ctx, d)
		if err == nil && l.settle != nil {
			if err = l.settle(ctx); err != nil {
				err = fmt.Errorf("settle: %w", err)
			}
		}
		return took, len(took) * l.per, err
	})
}

// measure runs work, which returns how long each of its calls took and how many messages they had.
func (l *load) measure(ctx context.Context, work func() ([]time.Duration, int, error)) (sample, error) {
	waitForQuiet(ctx)
	own, others, sidecar := ownCPU(), l.cpu(), l.sidecarCPU()
	start := time.Now()
	took, messages, err := work()
	elapsed := time.Since(start)
	own, others, sidecar = ownCPU()-own, l.cpu()-others, l.sidecarCPU()-sidecar
	switch {
	case err != nil:
		return sample{}, err
	case messages == 0:
		return sample{}, fmt.Errorf("no call was answered in %s", elapsed)
	}
	per := func(cpu time.Duration) float64 { return microseconds(cpu) / float64(messages) }
	return sample{
		Rate: float64(messages) / elapsed.Seconds(),
		P50:  microseconds(quantile(took, 0.5)), P99: microseconds(quantile(took, 0.99)),
		CPU: per(own + others), Callers: per(own), Sidecar: per(sidecar),
	}, nil
}

func (l *load) sidecarCPU() time.Duration {
	if l.sidecar == nil {
		return 0
	}
	return l.sidecar()
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
