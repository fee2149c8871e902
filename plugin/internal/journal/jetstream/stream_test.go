package jetstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/internal/natscluster"
	"github.com/chat-recall/recall/internal/natscluster/natstest"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

func options(t *testing.T, s *natscluster.Servers, replicas int) Options {
	t.Helper()
	return Options{
		Node: "n0", URLs: s.URLs(), Stream: "RECALL", Replicas: replicas,
		Credentials:       natstest.Credentials(t, natscluster.User),
		SystemCredentials: natstest.Credentials(t, natscluster.SystemUser),
		Logger:            hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: hclog.Debug}),
	}
}

func open(t *testing.T, o Options) *Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestOpen_AtOnce has the nodes of a new cluster start at the same time: one of them creates the stream, and the others
// come upon it while the servers are still making it.
func TestOpen_AtOnce(t *testing.T) {
	servers := natstest.Start(t, 3, nil)
	for i := range 10 {
		o := options(t, servers, 3)
		o.Stream = fmt.Sprint("RECALL", i)
		ids := make([]string, 9)
		var opening errgroup.Group
		for k := range ids {
			opening.Go(func() error {
				s, err := Open(t.Context(), o)
				if err != nil {
					return err
				}
				defer s.Close()
				ids[k] = s.ID()
				_, err = s.First(t.Context())
				_, err2 := s.Last(t.Context())
				return errors.Join(err, err2)
			})
		}
		if err := opening.Wait(); err != nil || len(slices.Compact(ids)) != 1 {
			t.Fatalf("%q: %v", ids, err)
		}
	}
}

func TestOpen_ServerNotUpYet(t *testing.T) {
	servers := natstest.Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	servers.Kill(2)
	for refused, i := false, 0; !refused; i++ { // until the others know
		var answer struct{}
		config := fmt.Sprintf(`{"name":"X%d","subjects":["x.%d"],"num_replicas":3}`, i, i)
		err := servers.API(ctx, fmt.Sprint("STREAM.CREATE.X", i), []byte(config), &answer)
		if refused = err != nil; refused && !strings.Contains(err.Error(), "no suitable peers") {
			t.Fatal(err)
		}
	}
	o := options(t, servers, 3)
	o.Stream, o.SystemCredentials, o.Unchecked = "NEW", "", true
	opened := make(chan error, 1)
	go func() {
		s, err := Open(ctx, o)
		if err == nil {
			s.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("with two servers of three: %v", err)
	case <-time.After(2 * time.Second): // long enough to be refused
	}
	if err := servers.Start(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func publish(t *testing.T, s journal.Stream, text string) error {
	t.Helper()
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s.Publish(ctx, []byte(text), func(err error) { done <- err })
	return <-done
}

// follow collects entries as "position:text" until there are so many.
func follow(t *testing.T, s journal.Stream, after uint64, count int) (entries []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	enough := errors.New("enough")
	for {
		err := s.Follow(ctx, after, func(position uint64, data []byte) error {
			after = position
			if entries = append(entries, fmt.Sprintf("%d:%s", position, data)); len(entries) == count {
				return enough
			}
			return nil
		})
		if errors.Is(err, enough) {
			return entries
		}
		if ctx.Err() != nil {
			t.Fatalf("%d of %d entries: %v", len(entries), count, err)
		}
		time.Sleep(requestRetry) // as while servers elect a leader: who follows tries it again
	}
}

func TestStream_PublishAndFollow(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	s := open(t, options(t, servers, 1))
	const count = 500
	var published sync.WaitGroup
	published.Add(count)
	for i := range count {
		s.Publish(t.Context(), fmt.Append(nil, i), func(err error) {
			if err != nil {
				t.Error(err)
			}
			published.Done()
		})
	}
	published.Wait()
	for i, entry := range follow(t, s, 0, count) {
		if want := fmt.Sprintf("%d:%d", i+1, i); entry != want {
			t.Fatalf("entry %s, want %s", entry, want)
		}
	}
	if got := follow(t, s, 490, 10); got[0] != "491:490" {
		t.Errorf("after 490: %v", got)
	}
	again := open(t, options(t, servers, 1))
	if again.ID() != s.ID() {
		t.Errorf("the log is %s and %s", s.ID(), again.ID())
	}
	if first, err := again.First(t.Context()); err != nil || first != 1 {
		t.Errorf("it begins with %d, %v", first, err)
	}
	err := s.Follow(t.Context(), count+1, func(uint64, []byte) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "lost entries") {
		t.Errorf("after its end: %v", err)
	}
	if err := publish(t, s, strings.Repeat("x", 2<<20)); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func TestStream_CreatedAnew(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	s := open(t, options(t, servers, 1))
	if err := publish(t, s, "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.js.DeleteStream(t.Context(), "RECALL"); err != nil {
		t.Fatal(err)
	}
	if again := open(t, options(t, servers, 1)); again.ID() == s.ID() {
		t.Error("it has the same id")
	}
	err := s.Follow(t.Context(), 0, func(uint64, []byte) error { return nil })
	if !errors.Is(err, journal.ErrGone) || !strings.Contains(err.Error(), "another log") {
		t.Errorf("%v", err)
	}
}

func TestStream_Deleted(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	s := open(t, options(t, servers, 1))
	follow := func() error {
		return s.Follow(t.Context(), 0, func(uint64, []byte) error { return nil })
	}
	if err := s.js.DeleteStream(t.Context(), "RECALL"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err := follow()
	if err == nil || errors.Is(err, journal.ErrGone) {
		t.Errorf("one answer is enough: %v", err)
	}
	for !errors.Is(err, journal.ErrGone) && time.Since(began) < time.Minute {
		err = follow()
	}
	if took := time.Since(began); !errors.Is(err, journal.ErrGone) || took < goneAfter {
		t.Errorf("after %s: %v", took, err)
	}
}

func TestOpen_Refused(t *testing.T) {
	t.Run("servers that do not sync", func(t *testing.T) {
		o := options(t, natstest.Start(t, 1, func(o *natscluster.Options) { o.Lazy = true }), 1)
		_, err := Open(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "sync_interval: always") || !strings.Contains(err.Error(), "s0") {
			t.Errorf("%v", err)
		}
		o.Unchecked = true
		open(t, o)
	})
	servers := natstest.Start(t, 1, nil)
	t.Run("credentials that are not of the system account", func(t *testing.T) {
		o := options(t, servers, 1)
		o.SystemCredentials = o.Credentials
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "system_credentials") {
			t.Errorf("%v", err)
		}
	})
	t.Run("wrong credentials", func(t *testing.T) {
		o := options(t, servers, 1)
		o.Credentials = natstest.Credentials(t, "recall:wrong")
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "refuse the credentials") {
			t.Errorf("%v", err)
		}
		o.Credentials = natstest.Credentials(t, "recall")
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "user:password") {
			t.Errorf("%v", err)
		}
	})
	t.Run("no server", func(t *testing.T) {
		o := options(t, servers, 1)
		o.URLs, o.Unchecked = []string{"nats://127.0.0.1:1"}, true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Open(ctx, o); !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	})
	s := open(t, options(t, servers, 1))
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"in memory": func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"age":       func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"full":      func(c *jetstream.StreamConfig) { c.MaxBytes, c.Discard = 1<<20, jetstream.DiscardOld },
		"subjects":  func(c *jetstream.StreamConfig) { c.Subjects = []string{"other"} },
		"read":      func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
	} {
		t.Run("a stream: "+name, func(t *testing.T) {
			o := options(t, servers, 1)
			o.Stream = "S_" + strings.ReplaceAll(name, " ", "_")
			c := jetstream.StreamConfig{Name: o.Stream, Subjects: []string{subject(o.Stream, "log")}}
			change(&c)
			if _, err := s.js.CreateStream(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("too few replicas", func(t *testing.T) {
		o := options(t, servers, 3)
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "replicas") {
			t.Errorf("%v", err)
		}
	})
}

func TestStream_Beats(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	a, b := open(t, options(t, servers, 1)), open(t, options(t, servers, 1))
	heard := make(chan string, 100)
	stop, err := b.Receive(func(data []byte) { heard <- string(data) })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := a.Send([]byte("here")); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "here" {
		t.Errorf("%s", got)
	}
	stop()
	servers.Kill(0)
	for a.IsConnected() {
		time.Sleep(10 * time.Millisecond)
	}
	if err := a.Send([]byte("x")); err == nil {
		t.Error("it says something without a connection")
	}
	if err := publish(t, a, "x"); err == nil {
		t.Error("it publishes without a connection")
	}
}

// TestStream_CredentialsRevoked has the servers forget the user of a node, and accept another one that is in its file.
func TestStream_CredentialsRevoked(t *testing.T) {
	servers := natstest.Start(t, 1, func(o *natscluster.Options) { o.Users = []string{"n0:first"} })
	o := options(t, servers, 1)
	o.Credentials = natstest.Credentials(t, "n0:first")
	var log hosttest.LogBuffer
	o.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	s := open(t, o)
	if err := servers.SetUsers(); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(log.String(), "the servers refuse the credentials of this node") {
		time.Sleep(time.Millisecond)
	}
	if s.IsConnected() {
		t.Error("the stream says that it is connected")
	}
	if err := publish(t, s, "refused"); err == nil {
		t.Error("an entry was published without credentials")
	}
	for tries := 0; tries < 5; {
		time.Sleep(time.Millisecond)
		text, err := os.ReadFile(servers.LogFile(0))
		if err != nil {
			t.Fatal(err)
		}
		tries = strings.Count(string(text), "authentication error")
	}
	if n := strings.Count(log.String(), "the servers refuse"); n != 1 {
		t.Errorf("it was logged %d times", n)
	}
	if err := os.WriteFile(o.Credentials, []byte("n0:second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := servers.SetUsers("n0:second"); err != nil {
		t.Fatal(err)
	}
	for !s.IsConnected() {
		time.Sleep(time.Millisecond)
	}
	if err := publish(t, s, "accepted"); err != nil {
		t.Error(err)
	}
}

// TestStream_ServerCutOff has a node be connected to a server that does not reach the others.
func TestStream_ServerCutOff(t *testing.T) {
	servers := natstest.Start(t, 3, nil)
	s := open(t, options(t, servers, 3))
	for i := range 3 {
		servers.Stop(i)
	}
	servers.SetAlone(0, true)
	if err := servers.Start(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for s.nc.ConnectedUrl() != servers.URL(0) {
		time.Sleep(time.Millisecond)
	}
	for i := 1; i < 3; i++ {
		if err := servers.Start(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	for publish(t, s, "again") != nil {
		if ctx.Err() != nil {
			t.Fatal("nothing can be published while two servers of three have a majority")
		}
	}
	follow(t, s, 0, 1)
}

// TestStream_LeaderKilled follows a stream of three servers while its leader is killed, twice.
func TestStream_LeaderKilled(t *testing.T) {
	servers := natstest.Start(t, 3, nil)
	s := open(t, options(t, servers, 3))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	seen := map[string]bool{}
	last := uint64(0)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		for ctx.Err() == nil {
			_ = s.Follow(ctx, last, func(position uint64, data []byte) error {
				mu.Lock()
				defer mu.Unlock()
				if position != last+1 {
					t.Errorf("entry %d after %d", position, last)
				}
				last = position
				seen[string(data)] = true
				return nil
			})
			time.Sleep(50 * time.Millisecond)
		}
	}()
	const count = 300
	for i := range count {
		for publish(t, s, fmt.Sprint(i)) != nil {
			time.Sleep(50 * time.Millisecond)
		}
		if i == count/3 || i == 2*count/3 {
			killLeader(t, s, servers)
		}
	}
	for {
		mu.Lock()
		n := len(seen)
		mu.Unlock()
		if n == count {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-followed
}

func killLeader(t *testing.T, s *Stream, servers *natscluster.Servers) {
	t.Helper()
	killLeaderOf(t, s, servers, "RECALL")
}

// killLeaderOf kills the server that leads a stream, and starts it again.
func killLeaderOf(t *testing.T, s *Stream, servers *natscluster.Servers, name string) {
	t.Helper()
	stream, err := s.js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var leader int
	if _, err := fmt.Sscanf(stream.CachedInfo().Cluster.Leader, "s%d", &leader); err != nil {
		t.Fatal(err)
	}
	servers.Kill(leader)
	if err := servers.Start(t.Context(), leader); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_Import(t *testing.T) {
	servers := natstest.Start(t, 3, nil)
	o := options(t, servers, 3)
	o.Import = &Import{Claim: "the index a", After: 1000}
	s := open(t, o)
	refused := func(words string, change func(*Options)) {
		t.Helper()
		o := o
		change(&o)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if s, err := Open(ctx, o); err == nil {
			s.Close()
			t.Errorf("it is not refused; want %q", words)
		} else if errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want %q", err, words)
		}
	}
	refused("for the import of the index a", func(o *Options) { o.Import = &Import{Claim: "the index b", After: 1000} })
	other := o
	other.Stream, other.Import, other.Existing = "OTHER", nil, true
	if _, err := Open(t.Context(), other); !errors.Is(err, journal.ErrGone) {
		t.Errorf("a stream that is not there: %v", err)
	}
	again := open(t, o)
	o.Import = nil
	node := open(t, o) // knows nothing of the import
	if again.ID() != s.ID() || node.ID() != s.ID() {
		t.Errorf("they are %s, %s and %s", s.ID(), again.ID(), node.ID())
	}
	for i := range 3 { // all of them, before there is any entry
		servers.Kill(i)
	}
	for i := range 3 {
		if err := servers.Start(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	if first, err := node.First(t.Context()); err != nil || first != 1001 {
		t.Errorf("it begins with entry %d: %v", first, err)
	}
	if last, err := node.Last(t.Context()); err != nil || last != nil {
		t.Errorf("%q %v", last, err)
	}
	for publish(t, node, "x") != nil {
		time.Sleep(requestRetry)
	}
	if got := follow(t, node, 1000, 1); got[0] != "1001:x" {
		t.Errorf("%v", got)
	}
	o.Import = &Import{Claim: "the index a", After: 0}
	o.Stream = "USED"
	before := o
	before.Import = nil
	if err := publish(t, open(t, before), "x"); err != nil {
		t.Fatal(err)
	}
	refused("with entries up to 1", func(*Options) {})
}
