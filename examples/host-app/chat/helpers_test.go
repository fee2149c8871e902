package chat

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

func TestMain(m *testing.M) {
	if at := os.Getenv(killedAt); at != "" {
		runKilled(at)
		return
	}
	goleak.VerifyTestMain(browserTests{m})
}

// testContext is a context that ends a stuck test.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// newTestServer is the demo server on a real plugin process; more is appended to its plugin.hcl.
func newTestServer(t testing.TB, more ...string) (*Server, *host.Host) {
	t.Helper()
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir(), more...)
	s, plugin, err := Open(testContext(t), Data{Folder: t.TempDir()}, host.Config{File: file, RunDir: hosttest.RunDir(t)},
		hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := addDemo(testContext(t), s); err != nil {
		t.Fatal(err)
	}
	return s, plugin
}

// device is a client that reads until it leaves.
type device struct {
	client *Client
	stop   context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	frames []Frame
	more   chan struct{}
}

func connect(t testing.TB, s *Server, user string) *device {
	t.Helper()
	c, err := s.Connect(user)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &device{client: c, stop: stop, more: make(chan struct{}, 1)}
	d.done.Go(func() {
		for {
			f, err := c.Next(ctx)
			if err != nil {
				return
			}
			d.mu.Lock()
			d.frames = append(d.frames, f)
			d.mu.Unlock()
			select {
			case d.more <- struct{}{}:
			default:
			}
		}
	})
	t.Cleanup(func() { d.leave(t) })
	return d
}

func (d *device) leave(t testing.TB) {
	t.Helper()
	if d.client == nil {
		return
	}
	d.stop()
	d.done.Wait()
	if err := d.client.Leave(); err != nil {
		t.Error(err)
	}
	d.client = nil
}

// has tells whether the device got such a frame by now.
func (d *device) has(event, id string) (Frame, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.frames {
		if f.Event == event && f.ID == id {
			return f, true
		}
	}
	return Frame{}, false
}

// wait waits for a frame.
func (d *device) wait(t testing.TB, event, id string) Frame {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if f, ok := d.has(event, id); ok {
			return f
		}
		select {
		case <-d.more:
		case <-deadline:
			t.Fatalf("%s got no %s of %s", d.client.user, event, id)
		}
	}
}

// notice waits for the notice of a recall.
func (d *device) notice(t testing.TB, id string) shared.Notice {
	t.Helper()
	var n shared.Notice
	if err := json.Unmarshal(d.wait(t, "notice", id).Body, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

var (
	singleRoom = shared.Conversation{Type: shared.ConversationSingle, ID: "ann-ben"}
	groupRoom  = shared.Conversation{Type: shared.ConversationGroup, ID: "team"}
	lobby      = shared.Conversation{Type: shared.ConversationChatroom, ID: "lobby"}
)

func send(t testing.TB, s *Server, user string, out Outgoing) Stored {
	t.Helper()
	m, err := s.Send(testContext(t), user, out)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func takeBack(t testing.TB, s *Server, user string, ask adapter.Ask) shared.RecallResult {
	t.Helper()
	results, err := s.Recall(testContext(t), user, ask)
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}

// notify runs the step that tells of a recall, as the plugin asks for it after the commit.
func notify(t testing.TB, s *Server, m Stored) {
	t.Helper()
	d := shared.Delivery{Step: shared.StepNotify, Attempt: 1, Event: shared.Event{
		Tenant: Tenant, RecallID: "r", Actor: shared.Actor{ID: m.Sender}, Role: shared.RoleMember, RecalledAt: time.Now(),
		Message: m.Message,
	}}
	if _, err := s.notify(testContext(t), d); err != nil {
		t.Fatal(err)
	}
}

// settled waits until every step of a recall is done, and returns its ledger.
func settled(t testing.TB, s *Server, recallID string) []shared.LedgerEntry {
	t.Helper()
	ctx := testContext(t)
	for {
		ledger, err := shared.ReadLedger(ctx, s.recall, Tenant, recallID)
		if err != nil {
			t.Fatal(err)
		}
		open := len(ledger) == 0
		for _, e := range ledger {
			for _, st := range e.Steps {
				open = open || !st.Outcome.Settles()
			}
		}
		if !open {
			return ledger
		}
		select {
		case <-time.After(5 * time.Millisecond): // polling, bounded by ctx
		case <-ctx.Done():
			t.Fatalf("recall %s is not settled: %+v", recallID, ledger)
		}
	}
}
