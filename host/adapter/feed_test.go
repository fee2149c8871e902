package adapter_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

func text(id string) shared.Message {
	return shared.Message{Tenant: "acme", ID: id, Conversation: team, Sender: "ann", Type: shared.TypeText,
		SentAt: time.Now().UTC()}
}

// readAll reads a spool from a cursor to its end.
func readAll(t *testing.T, s *adapter.Spool, after string) (ids []string, next string) {
	t.Helper()
	for {
		page, err := s.Read(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Items {
			ids = append(ids, m.ID)
		}
		if after = page.Next; !page.More {
			return ids, after
		}
	}
}

func openSpool(t *testing.T, dir string) *adapter.Spool {
	t.Helper()
	s, err := adapter.OpenSpool(dir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSpool_OpenedAgain(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir)
	for i := range 1200 {
		if err := s.Add(text(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	page, err := s.Read(t.Context(), "")
	if err != nil || len(page.Items) == 0 || !page.More {
		t.Fatal(len(page.Items), page.More, err)
	}
	again := openSpool(t, dir)
	rest, next := readAll(t, again, page.Next)
	if got := len(page.Items) + len(rest); got != 1200 || rest[0] != fmt.Sprint(len(page.Items)) {
		t.Errorf("%d messages, then %s", got, rest[0])
	}
	if again.Empty() {
		t.Error("empty before they are handled")
	}
	if err := again.Handled(); err != nil || !again.Empty() {
		t.Error("not empty: ", err)
	}
	if err := again.Add(text("last")); err != nil {
		t.Fatal(err)
	}
	if ids, _ := readAll(t, again, next); strings.Join(ids, " ") != "last" { // the cursor is of the file before
		t.Errorf("got %q", ids)
	}
}

// Whatever a crash or a disk leaves at the end of the file, or in it, costs the lines that it hit alone.
func TestSpool_Damaged(t *testing.T) {
	write := func(t *testing.T) (dir, path string, content []byte) {
		dir = t.TempDir()
		s := openSpool(t, dir)
		for i := range 5 {
			if err := s.Add(text(fmt.Sprint("m", i))); err != nil {
				t.Fatal(err)
			}
		}
		path = filepath.Join(dir, "spool")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return dir, path, content
	}
	_, _, content := write(t)
	for at := strings.IndexByte(string(content), '\n') + 1; at < len(content); at += 7 {
		for _, cut := range []bool{true, false} {
			dir, path, content := write(t)
			if cut {
				content = content[:at]
			} else {
				content[at] ^= 1
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			ids, _ := readAll(t, openSpool(t, dir), "")
			hit := strings.Count(string(content[:at]), "\n") - 1
			want := []string{"m0", "m1", "m2", "m3", "m4"}
			if cut {
				want = want[:hit]
			}
			lost := 0
			for _, id := range want {
				if !strings.Contains(strings.Join(ids, " "), id) {
					lost++
				}
			}
			if len(ids) > len(want) || !cut && lost > 2 || cut && lost > 0 { // a flipped end of line joins two
				t.Errorf("at %d, cut %t: %q", at, cut, ids)
			}
			if _, err := os.Stat(filepath.Join(dir, "damaged")); !cut && err != nil {
				t.Errorf("at %d: what is damaged is not kept: %v", at, err)
			}
		}
	}
	dir, path, _ := write(t)
	if err := os.WriteFile(path, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := adapter.OpenSpool(dir, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that is no spool: %v", err)
	}
}

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

// A plugin that does not answer delays one send, not each.
func TestFeed_OneWaits(t *testing.T) {
	a := adapter.New(adapter.Config{Tenant: "acme", Platform: newPlatform()}) // a plugin that never comes
	feed, err := a.OpenFeed(t.TempDir(), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	if _, spooled, err := feed.Index(t.Context(), []shared.Message{text("first")}); err != nil || !spooled {
		t.Fatal(spooled, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel() // who would wait now would get no answer
	for i := range 100 {
		if _, spooled, err := feed.Index(ended, []shared.Message{text(fmt.Sprint(i))}); err != nil || !spooled {
			t.Fatal(spooled, err)
		}
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
