package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

// ids numbers the messages of all loads.
var ids atomic.Int64

// speedMessage is the message of a number: ids as a ULID has them, in order of time with a random tail, of a thousand
// senders in a hundred groups.
func speedMessage(n int64) shared.Message {
	x := uint64(n) * 0x9e3779b97f4a7c15
	x ^= x >> 29
	x *= 0xbf58476d1ce4e5b9
	return shared.Message{
		Tenant: tenant, ID: fmt.Sprintf("01JD%08X%014X", n, x>>8),
		Conversation: shared.Conversation{Type: shared.Group, ID: fmt.Sprintf("group-%d", x%100)},
		Sender:       fmt.Sprintf("user-%d", x%1000), Type: shared.Text, SentAt: speedStart.Add(time.Duration(n) * time.Microsecond),
	}
}

// speedStart is when the first message was sent: so long ago that none of any run is ahead of the clock.
var speedStart = time.Now().Add(-24 * time.Hour)

func recallID(n int64) string { return fmt.Sprintf("01930000-0000-7000-8000-%012x", n) }

// chat is a host with messages in its index.
type chat struct {
	suffix string // of the names of its loads
	folder string // of its index
	config string
	host   *host.Host
	first  int64 // number of the first message
	size   int64

	recalls  atomic.Int64
	notified atomic.Int64
	waiting  sync.Map // recall id → chan time.Time
}

// newChat makes the files of one; binary is the plugin.
func newChat(dir, name, binary, suffix string) (*chat, error) {
	c := &chat{suffix: suffix, folder: filepath.Join(dir, name, "index"), config: filepath.Join(dir, name, "plugin.hcl")}
	if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("plugin {\n  binary = %q\n  start_timeout = \"1m\"\n}\n\nindex {\n  path = %q\n}\n", binary, c.folder)
	return c, os.WriteFile(c.config, []byte(text), 0o600)
}

func (c *chat) open(ctx context.Context) (err error) {
	c.host, err = openSpeedHost(ctx, c.config, func(e shared.Event) {
		at := time.Now()
		if ch, ok := c.waiting.Load(e.RecallID); ok {
			ch.(chan time.Time) <- at
		}
		c.notified.Add(1)
	})
	return err
}

func openSpeedHost(ctx context.Context, config string, notify func(shared.Event)) (*host.Host, error) {
	return host.Open(ctx, host.Config{File: config, RunDir: filepath.Dir(config), Steps: map[string]host.Step{
		shared.StepNotify: func(_ context.Context, e shared.Event) (shared.Outcome, error) {
			notify(e)
			return shared.OutcomeDone, nil
		},
	}})
}

// reserve sets numbers aside for n messages to grow to.
func (c *chat) reserve(n int64) { c.first = ids.Add(n) - n + 1 }

// grow indexes messages until there are n.
func (c *chat) grow(ctx context.Context, n int64) error {
	start, from := time.Now(), c.size
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	for range batchesInFlight {
		all.Go(func() {
			for {
				mu.Lock()
				if failed != nil || c.size == n {
					mu.Unlock()
					return
				}
				first, count := c.first+c.size, min(batch, n-c.size)
				c.size += count
				if c.size/1_000_000 > (c.size-count)/1_000_000 {
					progress("%d of %d messages, %.0f a second", c.size, n, float64(c.size-from)/time.Since(start).Seconds())
				}
				mu.Unlock()
				msgs := make([]shared.Message, count)
				for i := range msgs {
					msgs[i] = speedMessage(first + int64(i))
				}
				if _, err := c.host.Index(ctx, msgs); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return failed
}

const (
	batch           = 500 // messages a call
	batchesInFlight = 8
)

func (c *chat) index(name string, callers, per int) *load {
	return &load{name: name + c.suffix, callers: callers, per: per,
		do: func(ctx context.Context, _ int) (time.Duration, error) {
			msgs := make([]shared.Message, per)
			for i := range msgs {
				msgs[i] = speedMessage(ids.Add(1))
			}
			return timed(func() error {
				_, err := c.host.Index(ctx, msgs)
				return err
			})
		}}
}

// some is a message of the filled part of the index.
func (c *chat) some(n int) shared.Message {
	return speedMessage(c.first + int64(uint64(n)*0x9e3779b97f4a7c15>>1)%c.size)
}

func (c *chat) check(name string, callers int) *load {
	return &load{name: name + c.suffix, callers: callers, per: 1,
		do: func(ctx context.Context, n int) (time.Duration, error) {
			req := shared.RecallRequest{
				Tenant: tenant, MessageIDs: []string{c.some(n).ID}, Actor: shared.Actor{ID: "moderator", Role: shared.System},
			}
			return timed(func() error {
				results, err := c.host.Check(ctx, req)
				if err == nil && results[0].Status == shared.NotFound {
					err = fmt.Errorf("message %s is %s", req.MessageIDs[0], results[0].Status)
				}
				return err
			})
		}}
}

func (c *chat) status(name string, callers int) *load {
	return &load{name: name + c.suffix, callers: callers, per: 1,
		do: func(ctx context.Context, n int) (time.Duration, error) {
			list := []string{c.some(n).ID}
			return timed(func() error {
				_, err := c.host.Status(ctx, tenant, list)
				return err
			})
		}}
}

// recall takes messages back that were indexed for it. Where event is set, what is measured is how long after the
// answer to its caller the host's step notify is called.
func (c *chat) recall(name string, callers, calls int, event bool) *load {
	var first int64
	l := &load{name: name + c.suffix, callers: callers, per: 1, calls: calls}
	l.prepare = func(ctx context.Context) error {
		first = ids.Add(int64(calls)) - int64(calls) + 1
		for from := 0; from < calls; from += batch {
			msgs := make([]shared.Message, min(batch, calls-from))
			for i := range msgs {
				msgs[i] = speedMessage(first + int64(from+i))
			}
			if _, err := c.host.Index(ctx, msgs); err != nil {
				return err
			}
		}
		return nil
	}
	l.do = func(ctx context.Context, n int) (time.Duration, error) {
		number := first + int64(n)
		req := shared.RecallRequest{
			Tenant: tenant, MessageIDs: []string{speedMessage(number).ID}, RecallID: recallID(number),
			Actor: shared.Actor{ID: "moderator", Role: shared.System},
		}
		notified := make(chan time.Time, 1)
		if event {
			c.waiting.Store(req.RecallID, notified)
			defer c.waiting.Delete(req.RecallID)
		}
		c.recalls.Add(1)
		start := time.Now()
		results, err := c.host.Recall(ctx, req)
		if err == nil && results[0].Status != shared.Recalled {
			err = fmt.Errorf("message %s is %s", req.MessageIDs[0], results[0].Status)
		}
		answered := time.Now()
		if err != nil || !event {
			return answered.Sub(start), err
		}
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

// settled waits until every recall is carried out and that is recorded.
func (c *chat) settled(ctx context.Context) error {
	for {
		metrics, err := c.host.Metrics(ctx)
		if err != nil {
			return err
		}
		open := c.notified.Load() < c.recalls.Load()
		for _, m := range metrics {
			open = open || m.Name == "step_"+shared.StepNotify+"_in_flight" && m.Value > 0
		}
		if !open {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
