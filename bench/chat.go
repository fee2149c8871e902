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

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
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

	calls
	times int // that it was started
	host  *host.Host

	owed     atomic.Int64 // steps
	notified atomic.Int64
	waiting  sync.Map // recall id → chan time.Time
}

func (c *chat) dir() string    { return filepath.Join(c.parent, fmt.Sprintf("%s%d", c.name, c.times)) }
func (c *chat) folder() string { return filepath.Join(c.dir(), "index") }
func (c *chat) config() string { return filepath.Join(c.dir(), "plugin.hcl") }

// begin opens an empty index, in a new folder.
func (c *chat) begin(ctx context.Context) error {
	if err := c.files(chatRules); err != nil {
		return err
	}
	return c.open(ctx)
}

// files makes a new folder with plugin.hcl and rules, and chooses a new dataset.
func (c *chat) files(rules string) error {
	c.times++
	if err := os.Mkdir(c.dir(), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.dir(), "rules.hcl"), []byte(rules), 0o600); err != nil {
		return err
	}
	text := fmt.Sprintf("plugin {\n  binary = %q\n  start_timeout = \"1m\"\n}\n\nindex {\n  path = %q\n}\n\n"+
		"rules {\n  paths = [\"rules.hcl\"]\n}\n", c.binary, c.folder())
	if err := os.WriteFile(c.config(), []byte(text), 0o600); err != nil {
		return err
	}
	c.dataset = reserve(c.size)
	c.written.Store(0)
	return nil
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
		c.host, c.api = h, h
		c.cpu = func() time.Duration { return cpuOf(h.State().PID) } // of the plugin
		c.sidecar = func() time.Duration { return 0 }
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

// recall is the load of callers that recall messages, which are indexed for it. With a step, the host carries it out
// meanwhile, and the run ends when every step is settled.
func (c *chat) recall(callers, most int, step bool) *load {
	if !step {
		return c.calls.recall(callers, most)
	}
	l, msgs := c.recalls(callers, most)
	l.do = func(ctx context.Context, _, n int) (time.Duration, error) {
		req := recallRequest(&(*msgs)[n], ids.Add(1), shared.RoleSystem)
		c.owed.Add(1)
		return timed(func() error { return c.recallOne(ctx, req) })
	}
	l.settle = c.settled
	return l
}

// event is the load of a caller whose recall's event is waited for. It measures from the answer to the caller until the
// host's step is called.
func (c *chat) event(most int) *load {
	l, msgs := c.recalls(1, most)
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
