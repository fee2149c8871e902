package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

// jobsBench measures the latency of Index while a job recalls messages, and right before without one.
func jobsBench(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("jobs", flag.ContinueOnError)
	messages := whole(set, "messages", 1_000_000, 1000, "messages indexed before, all of which the jobs recall")
	rounds := whole(set, "rounds", 5, 1, "pairs of runs with and without a job, for each number of callers")
	seconds := whole(set, "seconds", 4, 1, "length of a run")
	asJSON := set.Bool("json", false, "print one JSON object")
	if err := parse(set, args); err != nil {
		return err
	}
	dir, config, remove, err := workplace()
	if err != nil {
		return err
	}
	defer remove()
	b := &jobBench{length: time.Duration(*seconds) * time.Second, base: time.Now().Add(-time.Hour)}
	callers := []int{1, 8, 64}
	b.share = *messages / (*rounds*len(callers) + 1)
	notify := func(context.Context, shared.Delivery) (shared.Outcome, error) { return shared.OutcomeDone, nil }
	history := func(context.Context, shared.Delivery) (shared.Outcome, error) {
		b.ran.Add(1)
		return shared.OutcomeDone, nil
	}
	b.host, err = host.Open(ctx, host.Config{File: config, RunDir: dir, Steps: map[string]host.Step{
		shared.StepNotify: {Run: notify}, shared.StepHistory: {Run: history},
	}})
	if err != nil {
		return err
	}
	defer b.host.Close()
	if err := b.fill(ctx, *messages); err != nil {
		return err
	}
	figures := []figure{{"messages", *messages}, {"rounds", *rounds}, {"seconds_a_run", *seconds}}
	for _, n := range callers {
		var without, with []time.Duration
		var ratios []float64
		recalled := 0
		for round := range *rounds {
			pair, err := b.pair(ctx, n, round%2 == 1)
			if err != nil {
				return err
			}
			without, with = append(without, pair.without...), append(with, pair.with...)
			ratios = append(ratios, float64(quantile(pair.with, 0.99))/float64(quantile(pair.without, 0.99)))
			recalled += pair.recalled
			progress("%d callers, round %d of %d: %.2f", n, round+1, *rounds, ratios[round])
		}
		slices.Sort(ratios)
		name := func(what string) string { return fmt.Sprintf("index_%d_%s", n, what) }
		figures = append(figures,
			figure{name("p50_ms"), milliseconds(quantile(without, 0.5))},
			figure{name("p50_job_ms"), milliseconds(quantile(with, 0.5))},
			figure{name("p99_ms"), milliseconds(quantile(without, 0.99))},
			figure{name("p99_job_ms"), milliseconds(quantile(with, 0.99))},
			figure{name("p99_ratio"), rounded(ratios[len(ratios)/2])},
			figure{name("calls_ratio"), rounded(float64(len(with)) / float64(len(without)))},
			figure{name("recalled_a_second"), recalled / (*rounds * *seconds)})
	}
	alone, err := b.alone(ctx)
	if err != nil {
		return err
	}
	result(*asJSON, append(figures, figure{"alone_recalled_a_second", alone}))
	return nil
}

// jobBench is a host whose messages jobs recall, in shares by the time of sending.
type jobBench struct {
	host   *host.Host
	length time.Duration // of a run
	base   time.Time     // when the first message was sent; each was sent a microsecond after the one before
	share  int           // messages of a job
	jobs   int           // started so far
	sent   int           // messages of callers

	recalls int          // of jobs
	ran     atomic.Int64 // last steps of them
}

func (b *jobBench) fill(ctx context.Context, n int) error {
	all, working := errgroup.WithContext(ctx)
	all.SetLimit(4)
	for from := 0; from < n && working.Err() == nil; from += shared.MaxIndexBatch {
		all.Go(func() error {
			var batch []shared.Message
			for i := from; i < min(n, from+shared.MaxIndexBatch); i++ {
				m := message(fmt.Sprintf("fill-%d", i))
				m.SentAt = b.base.Add(time.Duration(i) * time.Microsecond)
				batch = append(batch, m)
			}
			_, err := b.host.Index(working, batch)
			return err
		})
	}
	return all.Wait()
}

// startJob starts a job over the next share of the messages.
func (b *jobBench) startJob(ctx context.Context) (id string, err error) {
	from := b.base.Add(time.Duration(b.jobs*b.share) * time.Microsecond)
	b.jobs++
	id = fmt.Sprint("job-", b.jobs)
	_, err = b.host.StartJob(ctx, shared.JobRequest{
		Tenant: tenant, JobID: id, Actor: shared.Actor{ID: "bench"}, Role: shared.RoleSystem,
		Filter: shared.JobFilter{From: from, Before: from.Add(time.Duration(b.share) * time.Microsecond)},
	})
	return id, err
}

// jobPair are the latencies of calls with and without a job.
type jobPair struct {
	with, without []time.Duration
	recalled      int
}

func (b *jobBench) pair(ctx context.Context, callers int, backwards bool) (p jobPair, err error) {
	with := func() error {
		id, err := b.startJob(ctx)
		if err != nil {
			return err
		}
		if err := b.untilItRecalls(ctx, id); err != nil {
			return err
		}
		p.with, err = b.load(ctx, callers)
		job, cancelErr := b.host.CancelJob(ctx, tenant, id)
		p.recalled = job.Counts.Recalled
		if err = errors.Join(err, cancelErr); err == nil && job.State == shared.JobDone {
			err = fmt.Errorf("the job was done before the run: index more messages, or make the runs shorter")
		}
		return errors.Join(err, b.settled(ctx, p.recalled))
	}
	without := func() (err error) {
		p.without, err = b.load(ctx, callers)
		return err
	}
	for _, run := range map[bool][]func() error{false: {without, with}, true: {with, without}}[backwards] {
		if err := run(); err != nil {
			return p, err
		}
	}
	return p, nil
}

// untilItRecalls waits until a job has passed the messages before its own.
func (b *jobBench) untilItRecalls(ctx context.Context, id string) error {
	for {
		job, err := b.host.JobStatus(ctx, tenant, id)
		if err != nil || job.Counts.Recalled > 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// settled waits until the steps of all recalls have run.
func (b *jobBench) settled(ctx context.Context, recalls int) error {
	b.recalls += recalls
	for b.ran.Load() < int64(b.recalls) {
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// load indexes messages, one a call, and returns how long each took.
func (b *jobBench) load(ctx context.Context, callers int) (all []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.length)
	defer cancel()
	var mu sync.Mutex
	var failed error
	var working sync.WaitGroup
	for c := range callers {
		prefix := fmt.Sprintf("call-%d-%d", b.sent, c)
		working.Go(func() {
			var took []time.Duration
			for n := 0; ctx.Err() == nil; n++ {
				began := time.Now()
				_, err := b.host.Index(context.Background(), []shared.Message{message(fmt.Sprintf("%s-%d", prefix, n))})
				took = append(took, time.Since(began))
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	b.sent++
	working.Wait()
	return all, failed
}

// alone is how many messages a second a job recalls while nobody calls.
func (b *jobBench) alone(ctx context.Context) (int, error) {
	id, err := b.startJob(ctx)
	if err != nil {
		return 0, err
	}
	if err := b.untilItRecalls(ctx, id); err != nil {
		return 0, err
	}
	began := time.Now()
	before, err := b.host.JobStatus(ctx, tenant, id)
	if err != nil {
		return 0, err
	}
	time.Sleep(b.length)
	job, err := b.host.JobStatus(ctx, tenant, id)
	if err != nil {
		return 0, err
	}
	if job.State != shared.JobRunning {
		began = began.Add(time.Since(began) - job.EndedAt.Sub(before.StartedAt)) // it was done before
	}
	return int(float64(job.Counts.Recalled-before.Counts.Recalled) / time.Since(began).Seconds()), nil
}
