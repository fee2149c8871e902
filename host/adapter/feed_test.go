package adapter_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

func TestFeed_PluginAway(t *testing.T) {
	p := newPlatform()
	a, h := open(t, p)
	dir := t.TempDir()
	feed, err := a.OpenFeed(dir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t)
	results, spooled, err := feed.Index(ctx, []shared.Message{text("before")})
	if err != nil || spooled || len(results) != 1 {
		t.Fatal(results, spooled, err)
	}
	hosttest.Hang(t, h)
	for i := range 50 {
		if _, spooled, err := feed.Index(ctx, []shared.Message{text(fmt.Sprint("m", i))}); err != nil || !spooled {
			t.Fatal(i, spooled, err)
		}
	}
	if err := feed.Close(); err != nil { // this process ends too
		t.Fatal(err)
	}
	hosttest.Continue(t, h)
	if feed, err = a.OpenFeed(dir, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); feed.Run(running) }()
	t.Cleanup(func() { stop(); <-ended; feed.Close() })
	var ids []string
	for i := range 50 {
		ids = append(ids, fmt.Sprint("m", i))
	}
	eventually(t, "all are indexed", func() bool {
		states, err := h.Status(ctx, "acme", ids)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range states {
			if s.State != shared.MessageLive {
				return false
			}
		}
		return true
	})
	eventually(t, "messages are indexed at once again", func() bool {
		_, spooled, err := feed.Index(ctx, []shared.Message{text("after")})
		return err == nil && !spooled
	})
}

// A plugin that does not answer delays the sends of one second, and not each.
func TestFeed_OneWaits(t *testing.T) {
	p, posts := &countingPlugin{}, newPlatform()
	posts.post("hidden", "zoe", other, 0)
	a := adapter.New(adapter.Config{Tenant: "acme", Platform: posts})
	a.Attach(p)
	dir := t.TempDir()
	feed, err := a.OpenFeed(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	for i := range 100 {
		if _, spooled, err := feed.Index(t.Context(), []shared.Message{text(fmt.Sprint(i))}); err != nil || !spooled {
			t.Fatal(spooled, err)
		}
	}
	if n := p.calls.Load(); n != 1 {
		t.Errorf("the plugin was asked %d times", n)
	}
	// Which message is on its way is not known, so the answer is not that there is none. A message that the user may not
	// read is answered in the same way.
	for _, id := range []string{"7", "hidden"} {
		_, err = a.Recall(t.Context(), "ann", adapter.Ask{MessageIDs: []string{id}})
		if !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("a recall of message %q while messages are spooled: %v", id, err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); feed.Run(ctx) }()
	eventually(t, "another try", func() bool { return p.calls.Load() > 1 })
	before := p.calls.Load()
	for i := range 200 { // sends do not make it try more often
		if _, _, err := feed.Index(t.Context(), []shared.Message{text(fmt.Sprint("n", i))}); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.calls.Load(); n > before+1 {
		t.Errorf("%d tries during 200 sends", n-before)
	}
	p.up.Store(true)
	eventually(t, "all are indexed", func() bool { return p.indexed.Load() >= 300 })
	stop()
	<-ended
}

// countingPlugin answers once it is up.
type countingPlugin struct {
	plugin
	calls, indexed atomic.Int64
	up             atomic.Bool
}

func (p *countingPlugin) Index(_ context.Context, msgs []shared.Message) (list []shared.IndexResult, err error) {
	p.calls.Add(1)
	if !p.up.Load() {
		return nil, shared.ErrUnavailable
	}
	for _, m := range msgs {
		if m.Ref == "poison" {
			return nil, shared.Invalidf("messages", "one of them is poison")
		}
		list = append(list, shared.IndexResult{MessageID: m.ID, Status: shared.IndexAdded})
	}
	p.indexed.Add(int64(len(msgs)))
	return list, nil
}

func (p *countingPlugin) Status(_ context.Context, _ string, ids []string) (list []shared.MessageStatus, err error) {
	for _, id := range ids {
		list = append(list, shared.MessageStatus{MessageID: id, State: shared.MessageUnknown})
	}
	return list, nil
}

// One message because of which the plugin refuses the whole call does not keep the others from being indexed.
func TestIndex_Poison(t *testing.T) {
	p := &countingPlugin{}
	p.up.Store(true)
	a := adapter.New(adapter.Config{Tenant: "acme", Platform: newPlatform()})
	a.Attach(p)
	msgs := make([]shared.Message, 100)
	for i := range msgs {
		msgs[i] = text(fmt.Sprint(i))
	}
	msgs[42].Ref = "poison"
	invalid := ""
	do := a.Index(nil, func(_ context.Context, m shared.Message, r shared.IndexResult) error {
		if r.Status == shared.IndexInvalid {
			invalid += m.ID
		}
		return nil
	})
	if err := do(t.Context(), msgs); err != nil || invalid != "42" || p.indexed.Load() != 99 {
		t.Errorf("%v; %q is invalid, %d are indexed", err, invalid, p.indexed.Load())
	}
}

func TestFollower(t *testing.T) {
	cursor := filepath.Join(t.TempDir(), "cursor")
	var done []int
	fail := 7
	follow := func() *adapter.Follower[int] {
		return &adapter.Follower[int]{What: "numbers", Cursor: cursor, Log: hclog.NewNullLogger(),
			Read: func(_ context.Context, after string) (adapter.Page[int], error) {
				n := 0
				if after != "" {
					_, _ = fmt.Sscan(after, &n)
				}
				if n >= 10 {
					return adapter.Page[int]{Next: after}, nil
				}
				return adapter.Page[int]{Items: []int{n + 1}, Next: fmt.Sprint(n + 1), More: true}, nil
			},
			Do: func(_ context.Context, items []int) error {
				if items[0] == fail {
					return errors.New("no")
				}
				done = append(done, items...)
				return nil
			}}
	}
	if err := follow().Once(t.Context()); err == nil || len(done) != 6 {
		t.Fatal(err, done)
	}
	fail = 0
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	f := follow() // another process goes on
	go func() { defer close(ended); f.Run(ctx) }()
	eventually(t, "the rest", func() bool {
		text, err := os.ReadFile(cursor)
		return err == nil && string(text) == "10"
	})
	stop()
	<-ended
	if fmt.Sprint(done) != "[1 2 3 4 5 6 7 8 9 10]" {
		t.Error(done)
	}
}

func TestFollower_Endless(t *testing.T) {
	f := &adapter.Follower[int]{What: "numbers", Log: hclog.NewNullLogger(),
		Do:   func(context.Context, []int) error { return nil },
		Read: func(context.Context, string) (adapter.Page[int], error) { return adapter.Page[int]{More: true}, nil }}
	if err := f.Once(t.Context()); err == nil || !strings.Contains(err.Error(), "numbers") {
		t.Error(err)
	}
}

func TestIndex_RefusedMessage(t *testing.T) {
	a, h := open(t, newPlatform())
	log := &hosttest.LogBuffer{}
	bad := text("bad")
	bad.Sender = ""
	do := a.Index(hclog.New(&hclog.LoggerOptions{Output: log}), nil)
	if err := do(within(t), []shared.Message{bad, text("good")}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "sender") || !strings.Contains(log.String(), "bad") {
		t.Errorf("the log does not name what is wrong: %s", log)
	}
	if states, err := h.Status(within(t), "acme", []string{"good"}); err != nil || states[0].State != shared.MessageLive {
		t.Error(states, err)
	}
}

// A cursor that cannot be written, as on a full disk, does not make the same page come again and again.
func TestFollower_CursorNotKept(t *testing.T) {
	done := 0
	f := &adapter.Follower[int]{What: "numbers", Cursor: filepath.Join(t.TempDir(), "no such folder", "cursor"),
		Do: func(_ context.Context, items []int) error { done += len(items); return nil },
		Read: func(_ context.Context, after string) (adapter.Page[int], error) {
			if after != "" {
				return adapter.Page[int]{}, nil
			}
			return adapter.Page[int]{Items: []int{1}, Next: "1"}, nil
		}}
	if err := f.Once(t.Context()); err == nil {
		t.Error("it is not said that the cursor is not kept")
	}
	if err := f.Once(t.Context()); err != nil || done != 1 {
		t.Errorf("%d items in two passes, %v", done, err)
	}
}

// A page without a cursor, as of a platform that has nothing new, keeps the cursor that there is.
func TestFollower_EmptyPage(t *testing.T) {
	cursor := filepath.Join(t.TempDir(), "cursor")
	done := 0
	read := func(_ context.Context, after string) (adapter.Page[int], error) {
		if after == "1" {
			return adapter.Page[int]{}, nil
		}
		return adapter.Page[int]{Items: []int{1}, Next: "1"}, nil
	}
	for range 3 {
		f := &adapter.Follower[int]{What: "numbers", Cursor: cursor, Read: read,
			Do: func(_ context.Context, items []int) error { done += len(items); return nil }}
		if err := f.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if done != 1 {
		t.Errorf("done %d times", done)
	}
}
