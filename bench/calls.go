package main

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chat-recall/recall/shared"
)

const (
	batch           = 500 // messages a call
	batchesInFlight = 8
)

// api are the calls of [shared.Recall] that are measured.
type api interface {
	Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error)
	Check(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error)
	Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error)
	Recall(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error)
}

// calls are the loads on one index, by one way to reach it. All of it is set when that is started, which may be after a
// load is made.
type calls struct {
	api     api
	cpu     func() time.Duration // of the processes that answer
	sidecar func() time.Duration // of recall-sidecar alone
	dataset dataset
	written atomic.Int64 // messages
}

// load is that of one call.
func (c *calls) load(callers, per int, do func(ctx context.Context, caller, n int) (time.Duration, error)) *load {
	return &load{callers: callers, per: per, do: do, cpu: func() time.Duration { return c.cpu() },
		sidecar: func() time.Duration { return c.sidecar() }}
}

// fill indexes messages of the dataset, in large batches.
func (c *calls) fill(ctx context.Context, from, to int64) error {
	const report = 1_000_000
	all, working := errgroup.WithContext(ctx)
	all.SetLimit(batchesInFlight)
	start := time.Now()
	for at := from; at < to && working.Err() == nil; at += batch {
		if at%report == 0 && at > from {
			progress("%s of %s messages, %.0f a second", number(float64(at)), number(float64(to)),
				float64(at-from)/time.Since(start).Seconds())
		}
		all.Go(func() error {
			return c.indexAll(working, messagesFrom(c.dataset.first+at, int(min(batch, to-at))))
		})
	}
	return all.Wait()
}

func (c *calls) index(callers, per int) *load {
	return c.load(callers, per, func(ctx context.Context, _, _ int) (time.Duration, error) {
		msgs := newMessages(per)
		return timed(func() error { return c.indexAll(ctx, msgs) })
	})
}

// indexAll indexes new messages in one call.
func (c *calls) indexAll(ctx context.Context, msgs []shared.Message) error {
	c.written.Add(int64(len(msgs)))
	results, err := c.api.Index(ctx, msgs)
	if err != nil {
		return err
	}
	return expect(nil, results[len(msgs)-1].Status, shared.IndexAdded)
}

func (c *calls) check(callers int) *load {
	return c.load(callers, 1, func(ctx context.Context, _, n int) (time.Duration, error) {
		m := c.dataset.some(n)
		req := recallRequest(&m, ids.Load(), shared.RoleSystem)
		return timed(func() error {
			results, err := c.api.Check(ctx, req)
			if err != nil {
				return err
			}
			return expect(nil, results[0].Status, shared.StatusRecalled)
		})
	})
}

func (c *calls) status(callers int) *load {
	return c.load(callers, 1, func(ctx context.Context, _, n int) (time.Duration, error) {
		list := []string{c.dataset.some(n).ID}
		return timed(func() error {
			statuses, err := c.api.Status(ctx, tenant, list)
			if err != nil {
				return err
			}
			return expect(nil, statuses[0].State, shared.MessageLive)
		})
	})
}

func recallRequest(m *shared.Message, n int64, role shared.Role) shared.RecallRequest {
	return shared.RecallRequest{
		Tenant:   tenant,
		Targets:  []shared.Target{{MessageID: m.ID, Conversation: m.Conversation, Role: role}},
		RecallID: recallID(n), Actor: shared.Actor{ID: "moderator"},
	}
}

// recall is the load of callers that recall messages by a rule whose steps have nothing to do. The messages are indexed
// for it.
func (c *calls) recall(callers, most int) *load {
	l, msgs := c.recalls(callers, most)
	l.do = func(ctx context.Context, _, n int) (time.Duration, error) {
		req := recallRequest(&(*msgs)[n], ids.Add(1), shared.RoleAdmin)
		return timed(func() error { return c.recallOne(ctx, req) })
	}
	return l
}

// recalls is a load without its call: it indexes the messages to recall.
func (c *calls) recalls(callers, most int) (*load, *[]shared.Message) {
	var msgs []shared.Message
	l := c.load(callers, 1, nil)
	l.calls = most
	l.prepare = func(ctx context.Context) (err error) {
		msgs, err = c.indexed(ctx, most)
		return err
	}
	return l, &msgs
}

// indexed indexes n new messages.
func (c *calls) indexed(ctx context.Context, n int) ([]shared.Message, error) {
	msgs := newMessages(n)
	for from := 0; from < n; from += batch {
		if err := c.indexAll(ctx, msgs[from:min(from+batch, n)]); err != nil {
			return nil, err
		}
	}
	return msgs, nil
}

func (c *calls) recallOne(ctx context.Context, req shared.RecallRequest) error {
	results, err := c.api.Recall(ctx, req)
	if err != nil {
		return err
	}
	return expect(nil, results[0].Status, shared.StatusRecalled)
}
