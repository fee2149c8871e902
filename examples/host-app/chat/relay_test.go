package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// newSharedServers are servers of a cluster that share a database. Their plugins are played by the test.
func newSharedServers(t *testing.T, plugins ...*index) (list []*Server) {
	t.Helper()
	folder := t.TempDir()
	if err := Prepare(testContext(t), folder); err != nil {
		t.Fatal(err)
	}
	for i, plugin := range plugins {
		list = append(list, startSharedServer(t, folder, fmt.Sprint("n", i), plugin))
	}
	return list
}

func startSharedServer(t *testing.T, folder, node string, plugin *index) *Server {
	t.Helper()
	s, err := newServer(Data{Folder: folder, Node: node}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	plugin.start(t, s)
	return s
}

func TestRelay_OtherServer(t *testing.T) {
	t.Run("gets the message, and nothing of it waits", func(t *testing.T) {
		s := newSharedServers(t, &index{}, &index{})
		here, there := connect(t, s[0], "ann"), connect(t, s[1], "ben")
		send(t, s[0], "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
		here.wait(t, "message", "m")
		there.wait(t, "message", "m")
		there.leave(t)
		if left, err := s[0].store.Queued(testContext(t), "ben", 0, 10); err != nil || len(left) > 0 {
			t.Errorf("it waits for ben, who has it: %v, %v", left, err)
		}
	})
	t.Run("gets a quote without the text of an edit that was recalled", func(t *testing.T) {
		s := newSharedServers(t, &index{}, &index{onStatus: func(id string) shared.MessageState {
			if id == "e" {
				return shared.MessageRecalled
			}
			return shared.MessageLive
		}})
		ben := connect(t, s[1], "ben")
		send(t, s[0], "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
		send(t, s[0], "ann", Outgoing{ID: "e", Conversation: singleRoom, Text: secret, Edit: "m"})
		if q := send(t, s[0], "ann", Outgoing{ID: "q", Conversation: singleRoom, Quote: "m"}); q.Quoted != secret {
			t.Errorf("quoted %q", q.Quoted)
		}
		if f := ben.wait(t, "message", "q"); strings.Contains(string(f.Body), "swordfish-7391") {
			t.Errorf("ben got %s", f.Body)
		}
	})
	t.Run("gets it once its own plugin knows it", func(t *testing.T) {
		var known atomic.Bool
		asked := make(chan struct{}, 1)
		s := newSharedServers(t, &index{}, &index{onStatus: func(string) shared.MessageState {
			select {
			case asked <- struct{}{}:
			default:
			}
			if known.Load() {
				return shared.MessageLive
			}
			return shared.MessageUnknown
		}})
		ben := connect(t, s[1], "ben")
		send(t, s[0], "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
		<-asked
		if _, got := ben.has("message", "m"); got {
			t.Error("a message is delivered that the plugin does not know")
		}
		known.Store(true)
		ben.wait(t, "message", "m")
	})
	t.Run("gets nothing of a message that was recalled first", func(t *testing.T) {
		s := newSharedServers(t, &index{}, &index{onStatus: func(id string) shared.MessageState {
			if id == "gone" {
				return shared.MessageRecalled
			}
			return shared.MessageLive
		}})
		ben := connect(t, s[1], "ben")
		gone := send(t, s[0], "ann", Outgoing{ID: "gone", Conversation: lobby, Text: "x"})
		send(t, s[0], "ann", Outgoing{ID: "after", Conversation: lobby, Text: "y"})
		notify(t, s[1], gone)
		ben.wait(t, "message", "after")
		if _, got := ben.has("message", "gone"); got {
			t.Error("the recalled message was delivered")
		}
		if n := ben.notice(t, "gone"); n.Message != nil {
			t.Errorf("the notice for a user who never got the message has its facts: %+v", n.Message)
		}
	})
	t.Run("starts after the message was stored", func(t *testing.T) {
		s := newSharedServers(t, &index{})
		send(t, s[0], "ann", Outgoing{ID: "m", Conversation: lobby, Text: "x"})
		var known atomic.Bool
		folder := filepath.Dir(s[0].store.path)
		late := startSharedServer(t, folder, "late", &index{onStatus: func(string) shared.MessageState {
			if known.Load() {
				return shared.MessageLive
			}
			return shared.MessageUnknown
		}})
		ben := connect(t, late, "ben")
		known.Store(true) // its plugin has caught up
		ben.wait(t, "message", "m")
	})
}

// Each server notifies its own clients, in any order.
func TestNotify_Cluster(t *testing.T) {
	for name, order := range map[string][]int{"the sender's server first": {0, 1}, "the sender's server last": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			s := newSharedServers(t, &index{}, &index{})
			ann, ben := connect(t, s[0], "ann"), connect(t, s[1], "ben")
			m := send(t, s[0], "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
			ann.wait(t, "message", "m")
			ben.wait(t, "message", "m")
			for _, i := range order {
				notify(t, s[i], m)
			}
			for _, d := range []*device{ann, ben} {
				if n := d.notice(t, "m"); n.Message == nil || n.Message.Sender != "ann" {
					t.Errorf("who had the message is not told what it was: %+v", n)
				}
			}
			ctx := testContext(t)
			ben.leave(t)
			if kept, err := s[0].store.Kept(ctx, "ben", 0, 10); err != nil || len(kept) > 0 {
				t.Errorf("a notice waits for ben, who has it: %v, %v", kept, err)
			}
			if kept, err := s[0].store.Kept(ctx, "dan", 0, 10); err != nil || len(kept) != 1 {
				t.Errorf("dan, who is away, has one notice: %v, %v", kept, err)
			}
			list, err := s[0].store.placeholders(ctx, groupRoom, 1<<62, 10)
			if err != nil || len(list) != 1 {
				t.Fatalf("%v, %v", list, err)
			}
			for user, facts := range map[string]bool{"ann": true, "ben": true, "cleo": false, "dan": false} {
				if got := list[0].payload(user).Recalled.Message != nil; got != facts {
					t.Errorf("the placeholder tells %s what the message was: %v", user, got)
				}
			}
		})
	}
}

// A server may have a message for a client twice: from the queue of the store, and from the server that accepted it.
// Its recall strikes the second one.
func TestNotify_StruckAfterItArrived(t *testing.T) {
	for name, confirmed := range map[string]bool{
		"before its client confirms": false, "after its client has confirmed": true,
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			s := newSharedServers(t, &index{}, &index{})
			passOn := pauseRelay(t, s[1])
			m := send(t, s[0], "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
			ben := takes(t, s[1], "ben", m.ID)
			if confirmed {
				ben.arrived()
				if err := ben.flush(ctx); err != nil {
					t.Fatal(err)
				}
			}
			passOn()
			if err := s[1].relayOnce(ctx); err != nil {
				t.Fatal(err)
			}
			s[1].hub.Gone("m")
			ben.arrived()
			if d, _, _, err := ben.take(); d != nil || err != nil {
				t.Fatal("a recalled message is delivered", d, err)
			}
			if err := ben.flush(ctx); err != nil {
				t.Fatal(err)
			}
			notify(t, s[1], m)
			ben.isTold(t)
		})
	}
}

// A client has the message and has not confirmed it when another server keeps a notice for its user.
func TestNotify_KeptBeforeTheClientConfirms(t *testing.T) {
	ctx := testContext(t)
	s := newSharedServers(t, &index{}, &index{})
	m := send(t, s[0], "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
	ben := takes(t, s[1], "ben", m.ID)
	notify(t, s[0], m)
	ben.isTold(t)
	if err := s[1].relayOnce(ctx); err != nil { // while dan is away
		t.Fatal(err)
	}
	dan := connect(t, s[1], "dan")
	if n := dan.notice(t, "m"); n.Message != nil {
		t.Errorf("the notice for a user who never got the message has its facts: %+v", n.Message)
	}
}

// A user comes while the plugin of the server is asked about a message of another server.
func TestRelay_ComesMeanwhile(t *testing.T) {
	for _, room := range []shared.Conversation{groupRoom, lobby} {
		ctx := testContext(t)
		var s []*Server
		var calls atomic.Int32
		came := make(chan *Client, 1)
		s = newSharedServers(t, &index{}, &index{onStatus: func(string) shared.MessageState {
			switch calls.Add(1) {
			case 1: // of the relay
				ben, err := s[1].Connect("ben")
				if err != nil {
					t.Error(err)
				}
				if _, _, look, err := ben.take(); err != nil || !look {
					t.Error(look, err)
				}
				if err := ben.fetch(ctx); err != nil {
					t.Error(err)
				}
				came <- ben
			case 2: // of ben, for what waits for a member of a group: asked a moment before
				if room == groupRoom {
					return shared.MessageUnknown
				}
			}
			return shared.MessageLive
		}})
		send(t, s[0], "ann", Outgoing{ID: "m", Conversation: room, Text: "x"})
		ben := comes(t, came)
		if f, err := ben.Next(ctx); err != nil || f.ID != "m" {
			t.Errorf("%v, %v", f, err)
		}
		if err := ben.Leave(); err != nil {
			t.Error(err)
		}
	}
}

// A user comes to a chatroom while the plugin of the server does not know a message of another server yet.
func TestNotify_CameBeforeThePluginKnew(t *testing.T) {
	ctx := testContext(t)
	var s []*Server
	var calls atomic.Int32
	came := make(chan *Client, 1)
	s = newSharedServers(t, &index{}, &index{onStatus: func(string) shared.MessageState {
		if calls.Add(1) > 1 {
			return shared.MessageLive
		}
		ben, err := s[1].Connect("ben")
		if err != nil {
			t.Error(err)
		}
		came <- ben
		return shared.MessageUnknown
	}})
	m := send(t, s[0], "ann", Outgoing{ID: "m", Conversation: lobby, Text: "x"})
	ben := comes(t, came)
	if f, err := ben.Next(ctx); err != nil || f.ID != "m" {
		t.Fatal(f, err)
	}
	notify(t, s[1], m)
	ben.isTold(t)
}

// takes connects a client that is given a message and has not confirmed it.
func takes(t *testing.T, s *Server, user, id string) *Client {
	t.Helper()
	c, err := s.Connect(user)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := c.Next(testContext(t)); err != nil || f.ID != id {
		t.Fatal(f, err)
	}
	return c
}

// comes waits for a client that connects while a plugin is asked.
func comes(t *testing.T, came <-chan *Client) *Client {
	t.Helper()
	select {
	case c := <-came:
		return c
	case <-testContext(t).Done():
		t.Fatal("the plugin is not asked about the message")
	}
	return nil
}

// isTold reads up to the next notice, which must have the facts of the message, and ends the client.
func (c *Client) isTold(t *testing.T) {
	t.Helper()
	var f Frame
	for f.Event != "notice" { // the message may come once more
		var err error
		if f, err = c.Next(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	var n shared.Notice
	if err := json.Unmarshal(f.Body, &n); err != nil || n.Message == nil {
		t.Errorf("the notice for a user who has the message lacks its facts: %+v, %v", n, err)
	}
	if err := c.Leave(); err != nil {
		t.Error(err)
	}
}

// pauseRelay keeps what other servers have stored from the clients of a server until resume is called.
func pauseRelay(t *testing.T, s *Server) (resume func()) {
	s.relay.mu.Lock()
	resume = sync.OnceFunc(s.relay.mu.Unlock)
	t.Cleanup(resume)
	return resume
}

func TestOpen_SharedFolder(t *testing.T) {
	folder := t.TempDir()
	shared, err := openStore(Data{Folder: folder, Node: "n0"})
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	if alone, err := openStore(Data{Folder: folder}); err == nil {
		alone.Close()
		t.Error("a server that has its folder alone opens one that others share")
	}
}

// A server that is stopped while others do not write leaves the database to them.
func TestBetweenWrites(t *testing.T) {
	s := newSharedServers(t, &index{})[0]
	sent := make(chan error, 1)
	if err := BetweenWrites(testContext(t), filepath.Dir(s.store.path), func() error {
		go func() {
			_, err := s.Send(context.Background(), "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
			sent <- err
		}()
		select {
		case err := <-sent:
			t.Errorf("a server writes meanwhile: %v", err)
		case <-time.After(50 * time.Millisecond): // it has had its time
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
