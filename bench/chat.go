package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

const (
	batch           = 500 // messages a call
	batchesInFlight = 8
)

// chatRules are those of a chat: the role of the actor says which steps a recall has. The only step of the first permit
// has nothing to do with a message without attachments, so it is settled when the recall is committed.
const chatRules = `
permit "without_steps" {
  role   = ["admin"]
  window = "7d"

  on_recall {
    steps = ["attachments"]
  }
}

permit "with_one_step" {
  role   = ["system"]
  window = "7d"

  on_recall {
    steps = ["notify"]
  }
}
`

// chat is a host with messages in its index.
type chat struct {
	parent, name string // of the folder for its files, which start makes
	binary       string // of the plugin
	size         int64  // messages that the index is filled with

	times   int // that it was started
	dataset dataset
	written atomic.Int64 // messages
	host    *host.Host

	owed     atomic.Int64 // steps
	notified atomic.Int64
	waiting  sync.Map // recall id → chan time.Time
}

func (c *chat) dir() string    { return filepath.Join(c.parent, fmt.Sprintf("%s%d", c.name, c.times)) }
func (c *chat) folder() string { return filepath.Join(c.dir(), "index") }
func (c *chat) config() string { return filepath.Join(c.dir(), "plugin.hcl") }

// begin opens an empty index, in a new folder.
func (c *chat) begin(ctx context.Context) error {
	c.times++
	if err := os.Mkdir(c.dir(), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.dir(), "rules.hcl"), []byte(chatRules), 0o600); err != nil {
		return err
	}
	text := fmt.Sprintf("plugin {\n  binary = %q\n  start_timeout = \"1m\"\n}\n\nindex {\n  path = %q\n}\n\n"+
		"rules {\n  paths = [\"rules.hcl\"]\n}\n", c.binary, c.folder())
	if err := os.WriteFile(c.config(), []byte(text), 0o600); err != nil {
		return err
	}
	c.dataset = reserve(c.size)
	c.written.Store(0)
	return c.open(ctx)
}

func (c *chat) start(ctx context.Context) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	if err := c.fill(ctx, 0, c.size); err != nil {
		return errors.Join(err, c.close())
	}
	return nil
}

func (c *chat) renew(ctx context.Context) error {
	if c.written.Load() <= mostGrowth*c.size {
		return nil
	}
	return errors.Join(c.close(), c.start(ctx))
}

func (c *chat) close() error { return errors.Join(c.host.Close(), os.RemoveAll(c.dir())) }

func (c *chat) open(ctx context.Context) error {
	h, err := openSpeedHost(ctx, c.config(), func(e shared.Event) {
		at := time.Now()
		if ch, ok := c.waiting.Load(e.RecallID); ok {
			ch.(chan time.Time) <- at
		}
		c.notified.Add(1)
	})
	if err == nil {
		c.host = h
	}
	return err
}

func openSpeedHost(ctx context.Context, config string, notify func(shared.Event)) (*host.Host, error) {
	return host.Open(ctx, host.Config{File: config, RunDir: filepath.Dir(config), Steps: map[string]host.Step{
		shared.StepNotify: {Concurrency: shared.MaxDeliveries,
			Run: func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
				notify(d.Event)
				return shared.OutcomeDone, nil
			}},
	}})
}

// fill indexes messages of the dataset, in large batches.
func (c *chat) fill(ctx context.Context, from, to int64) error {
	const report = 1_000_000
	all, working := errgroup.WithContext(ctx)
	all.SetLimit(batchesInFlight)
	start := time.Now()
	for at := from; at < to && working.Err() == nil; at += batch {
		if at%report == 0 && at > from {
			progress("%s of %s messages, %.0f a second", number(float64(at)), number(float64(c.size)),
				float64(at-from)/time.Since(start).Seconds())
		}
		all.Go(func() error {
			return c.indexAll(working, messagesFrom(c.dataset.first+at, int(min(batch, to-at))))
		})
	}
	return all.Wait()
}

// cpu is that of the plugin.
func (c *chat) cpu() time.Duration { return cpuOf(c.host.State().PID) }

func (c *chat) index(callers, per int) *load {
	return &load{callers: callers, per: per, cpu: c.cpu,
		do: func(ctx context.Context, _, _ int) (time.Duration, error) {
			msgs := newMessages(per)
			return timed(func() error { return c.indexAll(ctx, msgs) })
		}}
}

// indexAll indexes new messages in one call.
func (c *chat) indexAll(ctx context.Context, msgs []shared.Message) error {
	c.written.Add(int64(len(msgs)))
	results, err := c.host.Index(ctx, msgs)
	if err != nil {
		return err
	}
	return expect(nil, results[len(msgs)-1].Status, shared.IndexAdded)
}

func (c *chat) check(callers int) *load {
	return &load{callers: callers, per: 1, cpu: c.cpu,
		do: func(ctx context.Context, _, n int) (time.Duration, error) {
			m := c.dataset.some(n)
			req := recallRequest(&m, ids.Load(), shared.RoleSystem)
			return timed(func() error {
				results, err := c.host.Check(ctx, req)
				if err != nil {
					return err
				}
				return expect(nil, results[0].Status, shared.StatusRecalled)
			})
		}}
}

func (c *chat) status(callers int) *load {
	return &load{callers: callers, per: 1, cpu: c.cpu,
		do: func(ctx context.Context, _, n int) (time.Duration, error) {
			list := []string{c.dataset.some(n).ID}
			return timed(func() error {
				statuses, err := c.host.Status(ctx, tenant, list)
				if err != nil {
					return err
				}
				return expect(nil, statuses[0].State, shared.MessageLive)
			})
		}}
}

func recallRequest(m *shared.Message, n int64, role shared.Role) shared.RecallRequest {
	return shared.RecallRequest{
		Tenant:   tenant,
		Targets:  []shared.Target{{MessageID: m.ID, Conversation: m.Conversation, Role: role}},
		RecallID: recallID(n), Actor: shared.Actor{ID: "moderator"},
	}
}

// recall is the load of callers that recall messages, which are indexed for it. With a step, the host carries it out
// meanwhile, and the run ends when every step is settled.
func (c *chat) recall(callers, calls int, step bool) *load {
	role := shared.RoleAdmin
	if step {
		role = shared.RoleSystem
	}
	l, msgs := c.recalls(callers, calls)
	l.do = func(ctx context.Context, _, n int) (time.Duration, error) {
		req := recallRequest(&(*msgs)[n], ids.Add(1), role)
		if step {
			c.owed.Add(1)
		}
		return timed(func() error { return c.recallOne(ctx, req) })
	}
	if step {
		l.settle = c.settled
	}
	return l
}

// event is the load of a caller whose recall's event is waited for. It measures from the answer to the caller until the
// host's step is called.
func (c *chat) event(calls int) *load {
	l, msgs := c.recalls(1, calls)
	l.do = func(ctx context.Context, _, n int) (time.Duration, error) {
		req := recallRequest(&(*msgs)[n], ids.Add(1), shared.RoleSystem)
		notified := make(chan time.Time, 1)
		c.waiting.Store(req.RecallID, notified)
		defer c.waiting.Delete(req.RecallID)
		c.owed.Add(1)
		if err := c.recallOne(ctx, req); err != nil {
			return 0, err
		}
		answered := time.Now()
		select {
		case at := <-notified:
			return at.Sub(answered), nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	l.settle = c.settled
	return l
}

// recalls is a load without its call: it indexes the messages to recall.
func (c *chat) recalls(callers, calls int) (*load, *[]shared.Message) {
	var msgs []shared.Message
	return &load{callers: callers, per: 1, calls: calls, cpu: c.cpu,
		prepare: func(ctx context.Context) error {
			msgs = newMessages(calls)
			for from := 0; from < calls; from += batch {
				if err := c.indexAll(ctx, msgs[from:min(from+batch, calls)]); err != nil {
					return err
				}
			}
			return nil
		}}, &msgs
}

func (c *chat) recallOne(ctx context.Context, req shared.RecallRequest) error {
	results, err := c.host.Recall(ctx, req)
	if err != nil {
		return err
	}
	return expect(nil, results[0].Status, shared.StatusRecalled)
}

// settled waits until every step is carried out and that is recorded.
func (c *chat) settled(ctx context.Context) error {
	for {
		metrics, err := c.host.Metrics(ctx)
		if err != nil {
			return err
		}
		open := c.notified.Load() < c.owed.Load()
		for _, m := range metrics {
			open = open || m.Name == "recall_step_in_flight" && m.Labels["step"] == shared.StepNotify && m.Value > 0
		}
		if !open {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
