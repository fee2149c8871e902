package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

// A journal remembers what was acknowledged to callers and received by steps, to hold it against the index at the end.
type journal struct {
	mu           sync.Mutex
	messages     []string          // acknowledged as indexed
	recalls      map[string]string // recall id by message, acknowledged as recalled
	notified     map[string]int    // how often the step notify ran, by message
	calls        int
	failures     int
	wrongAnswers int
	held         []time.Duration
}

func newJournal() *journal {
	return &journal{recalls: map[string]string{}, notified: map[string]int{}}
}

func (j *journal) indexed(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls++
	j.messages = append(j.messages, id)
}

func (j *journal) recalled(id, recallID string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls++
	j.recalls[id] = recallID
}

func (j *journal) failed(call, id string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls++
	j.failures++
	progress("%s %s failed: %v", call, id, err)
}

func (j *journal) wrong(call, id, answer string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls++
	j.wrongAnswers++
	progress("%s %s was answered %s", call, id, answer)
}

func (j *journal) ran(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notified[id]++
}

func (j *journal) onHeld(d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held = append(j.held, d)
}

// steps are those of a host that this journal watches.
func (j *journal) steps() map[string]host.Step {
	return map[string]host.Step{
		shared.StepNotify: {Run: func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
			j.ran(e.Message.ID)
			return shared.OutcomeDone, nil
		}},
		shared.StepHistory: {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
			return shared.OutcomeDone, nil
		}},
	}
}

// findings are what a journal held against the index shows.
type findings struct{ lost, appliedTwice, eventsLost int }

// verdict is errBad where something was lost or went wrong, and where nothing was tried.
func (j *journal) verdict(f findings) error {
	if f != (findings{}) || j.failures+j.wrongAnswers > 0 || j.calls == 0 {
		return errBad
	}
	return nil
}

const (
	verifiers     = 64              // recalls that are looked at side by side
	settleTimeout = 2 * time.Minute // for the steps of all recalls, from when the last caller has its answer
)

// verify waits until every step is settled, then looks for each acknowledged call in the index and for each event in
// what the steps received.
func (j *journal) verify(ctx context.Context, h shared.Recall) (findings, error) {
	j.mu.Lock()
	messages := slices.Clone(j.messages)
	j.mu.Unlock()
	var f findings
	for batch := range slices.Chunk(messages, shared.MaxStatusIDs) {
		statuses, err := h.Status(ctx, tenant, batch)
		if err != nil {
			return f, err
		}
		for _, s := range statuses {
			recallID, recalled := j.recalls[s.MessageID]
			if s.State == shared.MessageUnknown || recalled && (s.State != shared.MessageRecalled || s.RecallID != recallID) {
				progress("lost: %s is %s", s.MessageID, s.State)
				f.lost++
			}
		}
	}
	events := map[string]int{}
	req := shared.SinceRequest{Tenant: tenant, Conversations: []shared.Conversation{conversation}}
	for more := true; more; {
		page, err := h.Since(ctx, req)
		if err != nil {
			return f, err
		}
		for _, e := range page.Events {
			events[e.Message.ID]++
		}
		req.After, more = page.Next, page.More
	}
	until := time.Now().Add(settleTimeout)
	var unsettled atomic.Int64
	var checks errgroup.Group
	checks.SetLimit(verifiers)
	looked := 0
	for id, n := range events {
		if n > 1 {
			progress("applied twice: %s has %d recalls", id, n)
			f.appliedTwice++
		}
		// Recalled without the caller having heard of it counts too: its event is owed all the same.
		checks.Go(func() error {
			settled, err := settled(ctx, h, "recall-"+id, until)
			if err == nil && !settled {
				progress("event lost: recall-%s has steps that are not carried out", id)
				unsettled.Add(1)
			}
			return err
		})
		if looked++; looked%50_000 == 0 {
			progress("looked at %d of %d recalls", looked, len(events))
		}
	}
	if err := checks.Wait(); err != nil {
		return f, err
	}
	f.eventsLost = int(unsettled.Load())
	j.mu.Lock()
	defer j.mu.Unlock()
	for id := range events {
		if j.notified[id] == 0 {
			progress("event lost: %s", id)
			f.eventsLost++
		}
	}
	for id := range j.recalls {
		if events[id] == 0 {
			progress("lost: the recall of %s", id)
			f.lost++
		}
	}
	return f, nil
}

// settled waits until the steps of a recall are settled. It looks once in any case, and again until then.
func settled(ctx context.Context, h shared.Recall, recallID string, until time.Time) (bool, error) {
	for {
		entries, err := shared.ReadLedger(ctx, h, tenant, recallID)
		if err != nil {
			return false, err
		}
		open := len(entries) == 0
		for _, e := range entries {
			for _, s := range e.Steps {
				open = open || !s.Outcome.Settles()
			}
		}
		if !open || time.Now().After(until) {
			return !open, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Round(10*time.Microsecond)) / 1e6 }

// figures of every run that kills or swaps something.
func (j *journal) figures(f findings) []figure {
	j.mu.Lock()
	defer j.mu.Unlock()
	return []figure{
		{"calls", j.calls}, {"failed", j.failures + j.wrongAnswers}, {"lost", f.lost}, {"applied_twice", f.appliedTwice},
		{"events_lost", f.eventsLost},
		{"held_calls", len(j.held)},
		{"held_p50_ms", milliseconds(quantile(j.held, 0.50))}, {"held_p99_ms", milliseconds(quantile(j.held, 0.99))},
		{"held_max_ms", milliseconds(quantile(j.held, 1))},
	}
}
