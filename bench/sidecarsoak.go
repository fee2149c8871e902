package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// soak kills a sidecar under callers and workers. What it answered to them is then held against its index.
type soak struct {
	recalls int
	rate    int           // recalls a second at most
	between time.Duration // kills, on average

	kills int
}

const (
	soakRate    = 100
	soakKills   = 2 * time.Second
	soakCallers = 16
	soakTakers  = 4

	// searchStep is the step of the soak that goes to a webhook.
	searchStep = "search"
)

// soakRules have every recall carry out three steps.
const soakRules = `
permit "soak" {
  role   = ["member"]
  window = "7d"

  on_recall {
    steps = ["notify", "history", "search"]
  }
}
`

// soakSteps has leases that end soon when a worker dies.
func soakSteps() string {
	return `step "notify" {
  pull    = true
  timeout = "2s"
}

step "history" {
  pull    = true
  timeout = "2s"
  after   = ["notify"]
}

` + webhookStep(searchStep)
}

// bench runs the soak and prints its result.
func (s *soak) bench(ctx context.Context, asJSON bool) error {
	start := time.Now()
	dir, _, remove, err := workplace()
	if err != nil {
		return err
	}
	binary, err := buildSidecar(dir)
	if err != nil {
		remove()
		return err
	}
	figures, bad, err := s.measure(ctx, dir, binary)
	if err != nil || bad != nil {
		progress("the files of the run are in %s", dir)
	} else {
		remove()
	}
	if err != nil {
		return err
	}
	result(asJSON, append(figures, figure{"seconds", int(time.Since(start).Seconds())}))
	return bad
}

// measure runs the soak. bad is errBad if something was lost or went wrong.
func (s *soak) measure(ctx context.Context, dir, binary string) (_ []figure, bad, err error) {
	files := &chat{parent: dir, name: "soak", binary: filepath.Join(dir, "recall-plugin")}
	if err := files.files(soakRules); err != nil {
		return nil, nil, err
	}
	process := &sidecarProcess{dir: files.dir(), binary: binary, steps: soakSteps()}
	if err := process.write(); err != nil {
		return nil, nil, err
	}
	j, w := newJournal(), newSoakWorkers()
	hooks, err := serveUnix(process.hooks(), w)
	if err != nil {
		return nil, nil, err
	}
	defer hooks.Close()
	if err := process.start(); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, process.stop()) }()
	if err := process.ready(ctx); err != nil {
		return nil, nil, err
	}
	client := &jsonClient{http: unixClient(process.socket(), false), retry: true}
	working, dismiss := context.WithCancel(ctx)
	var workers sync.WaitGroup
	for range soakTakers {
		workers.Go(func() { w.work(working, client, j) })
	}
	defer workers.Wait()
	defer dismiss()
	called := s.call(ctx, client, j)
	if err := s.kill(ctx, process, called, j); err != nil {
		return nil, nil, err
	}
	f, err := j.verify(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	dismiss()
	workers.Wait()
	if err := w.verify(ctx, client, j); err != nil {
		return nil, nil, err
	}
	if len(j.recalls) != s.recalls {
		w.fault("%d of %d recalls were answered", len(j.recalls), s.recalls)
	}
	if err := j.verdict(f); err != nil {
		bad = err
	}
	if w.faults > 0 {
		bad = errBad
	}
	return []figure{
		{"recalls", len(j.recalls)}, {"kills", s.kills}, {"calls", j.calls}, {"retries", client.retries.Load()},
		{"failed", j.failures + j.wrongAnswers}, {"lost", f.lost}, {"applied_twice", f.appliedTwice},
		{"events_lost", f.eventsLost}, {"steps", w.settled}, {"steps_failed", len(w.failed)}, {"workers_died", w.died},
		{"steps_repeated", w.repeated()}, {"steps_wrong", w.faults},
	}, bad, nil
}

// call has callers recall messages. The channel is closed when all are answered.
func (s *soak) call(ctx context.Context, client *jsonClient, j *journal) <-chan struct{} {
	var next atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for range soakCallers {
		all.Go(func() {
			for n := next.Add(1) - 1; n < int64(s.recalls); n = next.Add(1) - 1 {
				select {
				case <-time.After(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(s.rate)))):
				case <-ctx.Done():
					return
				}
				one(client, j, fmt.Sprintf("soak-%d", n), true)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		all.Wait()
	}()
	return done
}

// kill kills the sidecar at random moments, also while it starts, until the calls are answered. Then it runs. Every
// second start may take as long as it needs to answer a call: else no call is answered where a start takes long.
func (s *soak) kill(ctx context.Context, process *sidecarProcess, called <-chan struct{}, j *journal) error {
	for {
		if s.kills%2 == 1 {
			awaitCall(ctx, called, j)
		}
		select {
		case <-ctx.Done():
			<-called
			return ctx.Err()
		case <-called:
			return process.ready(ctx)
		case <-time.After(rand.N(2 * s.between)):
		}
		if err := process.kill(); err != nil {
			return err
		}
		if err := process.start(); err != nil {
			return err
		}
		if s.kills++; s.kills%5 == 0 {
			progress("%d kills, %d calls", s.kills, j.count())
		}
	}
}

// awaitCall waits until one more call is answered, or all are.
func awaitCall(ctx context.Context, called <-chan struct{}, j *journal) {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for before := j.count(); j.count() == before; {
		select {
		case <-ctx.Done():
			return
		case <-called:
			return
		case <-poll.C:
		}
	}
}
