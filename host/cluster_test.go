package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/internal/natscluster"
	"github.com/chat-recall/recall/internal/natscluster/natstest"
	"github.com/chat-recall/recall/shared"
)

// chatNode is a chat server of a cluster, with a plugin of its own.
type chatNode struct {
	*host.Host
	name, file string // its plugin.hcl
	run        string // its run directory

	fails func(d shared.Delivery) bool // nil: no step does

	log hosttest.LogBuffer

	mu  sync.Mutex
	ran map[string]int // by step and message
}

// hasLogged reports whether the node has logged a text.
func (n *chatNode) hasLogged(text string) bool { return strings.Contains(n.log.String(), text) }

// startChatNode opens a host that is a node; more are further attributes of its block cluster.
func startChatNode(t *testing.T, servers *natscluster.Servers, name string, more ...string) *chatNode {
	t.Helper()
	return startChatNodeOf(t, hosttest.BuildPlugin(t), servers, name, more...)
}

// startChatNodeOf is startChatNode with another plugin.
func startChatNodeOf(t *testing.T, binary string, servers *natscluster.Servers, name string, more ...string) *chatNode {
	t.Helper()
	n := newChatNode(t, binary, servers, name, more...)
	n.open(t)
	return n
}

// newChatNode is a node that is not started.
func newChatNode(t *testing.T, binary string, servers *natscluster.Servers, name string, more ...string) *chatNode {
	t.Helper()
	n := &chatNode{name: name, run: hosttest.RunDir(t)}
	block := fmt.Sprintf(`
cluster {
  node               = %q
  urls               = ["%s"]
  credentials        = %q
  system_credentials = %q
  lease              = "3s"
  %s
}
`, name, strings.Join(servers.URLs(), `", "`), natstest.Credentials(t, natscluster.User),
		natstest.Credentials(t, natscluster.SystemUser), strings.Join(more, "\n  "))
	n.file = hosttest.WriteConfig(t, binary, hosttest.RunDir(t), block)
	return n
}

// open opens the host.
func (n *chatNode) open(t *testing.T) {
	t.Helper()
	n.ran = map[string]int{}
	step := func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.ran[d.Step+" "+d.Message.ID]++
		if n.fails != nil && n.fails(d) {
			return "", errStepFails
		}
		return shared.OutcomeDone, nil
	}
	n.Host = hosttest.Open(t, host.Config{
		File:   n.file,
		RunDir: n.run,
		Steps:  map[string]host.Step{shared.StepNotify: {Run: step}, shared.StepHistory: {Run: step}},
		Logger: hclog.New(&hclog.LoggerOptions{Name: n.name, Output: io.MultiWriter(t.Output(), &n.log), Level: hclog.Info}),
	})
}

func (n *chatNode) count(step, id string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ran[step+" "+id]
}

// stopPlugin stops the plugin of a node until resume is called. On a busy machine the host has found by then that it is
// hung, and has started another one.
func (n *chatNode) stopPlugin(t *testing.T) (resume func()) {
	t.Helper()
	pid := n.State().PID
	hosttest.Hang(t, n.Host)
	return func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
}

// exchange indexes messages on one node and recalls them on another, and waits until every step of them has run.
func exchange(t *testing.T, nodes []*chatNode, name string) {
	t.Helper()
	const count = 10
	for i := range count {
		writer, recaller := nodes[i%len(nodes)], nodes[(i+1)%len(nodes)]
		m := shared.Message{
			Tenant: "acme", ID: fmt.Sprint(name, i), Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
			Sender: "ann", Type: shared.TypeText, SentAt: time.Now(),
		}
		indexed, err := writer.Index(t.Context(), []shared.Message{m})
		if err != nil || indexed[0].Status != shared.IndexAdded {
			t.Fatalf("%s: %+v %v", m.ID, indexed, err)
		}
		results, err := recaller.Recall(t.Context(), shared.RecallRequest{
			Tenant: "acme", RecallID: "r-" + m.ID, Actor: shared.Actor{ID: "ann"},
			Targets: []shared.Target{{MessageID: m.ID, Conversation: m.Conversation, Role: shared.RoleMember}},
		})
		if err != nil || results[0].Status != shared.StatusRecalled {
			t.Fatalf("%s: %+v %v", m.ID, results, err)
		}
	}
	for i := range count {
		id := fmt.Sprint(name, i)
		if err := nodes[0].Wait(t.Context(), "acme", "r-"+id); err != nil {
			t.Fatal(err)
		}
		removed := 0
		for _, n := range nodes {
			if n.count(shared.StepNotify, id) == 0 {
				t.Errorf("%s was not told of %s", n.name, id)
			}
			removed += n.count(shared.StepHistory, id)
		}
		if removed == 0 {
			t.Errorf("no node removed %s", id)
		}
	}
}

func TestCluster_ThreeNodes(t *testing.T) {
	servers := natstest.Start(t, 3, nil)
	nodes := []*chatNode{
		startChatNode(t, servers, "n0"), startChatNode(t, servers, "n1"), startChatNode(t, servers, "n2"),
	}
	exchange(t, nodes, "first")

	t.Run("a plugin is killed", func(t *testing.T) {
		hosttest.Kill(t, nodes[1].Host)
		exchange(t, nodes, "killed")
	})
	t.Run("a plugin is upgraded", func(t *testing.T) {
		if _, err := nodes[2].Upgrade(t.Context(), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
			t.Fatal(err)
		}
		exchange(t, nodes, "upgraded")
	})
	t.Run("another configuration", func(t *testing.T) {
		good, err := os.ReadFile(nodes[0].file)
		if err != nil {
			t.Fatal(err)
		}
		change := func(old, by string) shared.Diagnostics {
			t.Helper()
			if err := os.WriteFile(nodes[0].file, bytes.Replace(good, []byte(old), []byte(by), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			pending, err := nodes[0].Reload(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return pending
		}
		if ds := change(`"3s"`, `"4s"`); len(ds) != 1 || !strings.Contains(ds[0].Summary, `cluster.lease is "4s"`) {
			t.Errorf("%v", ds)
		}
		change(`"n0"`, `"n9"`)
		_, err = nodes[0].Upgrade(t.Context(), host.Binary{Path: hosttest.BuildPlugin(t)})
		if err == nil || !strings.Contains(err.Error(), `it was node "n0"`) {
			t.Errorf("another node takes over the index: %v", err)
		}
		change("", "")
	})
	t.Run("a list goes on at another node", func(t *testing.T) {
		all := listed(t, nodes[0], shared.ListRequest{Tenant: "acme"})
		req := shared.ListRequest{Tenant: "acme", Limit: len(all) / 2}
		page, err := nodes[0].List(t.Context(), req)
		if err != nil || len(page.Events) != req.Limit || !page.More {
			t.Fatalf("%d events, %v", len(page.Events), err)
		}
		req.After = page.Next
		eventually(t, "the other node has applied as much", func() bool {
			_, err := nodes[1].List(t.Context(), req)
			return !errors.Is(err, shared.ErrUnavailable)
		})
		if got := append(page.Events, listed(t, nodes[1], req)...); !reflect.DeepEqual(got, all) {
			t.Errorf("%d events, want %d", len(got), len(all))
		}
	})
	t.Run("a server of the log is killed", func(t *testing.T) {
		servers.Kill(0)
		exchange(t, nodes, "server")
		if err := servers.Start(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a node is stopped for longer than its lease", func(t *testing.T) {
		resume := nodes[2].stopPlugin(t)
		isGone := func(want bool) func() bool {
			return func() bool {
				c := nodes[0].State().Cluster
				return c != nil && len(c.Members) == 3 && c.Members[2].Gone == want
			}
		}
		eventually(t, "a node that is silent is gone", isGone(true))
		exchange(t, nodes[:2], "stopped")
		resume()
		eventually(t, "a node that is there again is a member", isGone(false))
		for i := range 10 {
			id := fmt.Sprint("stopped", i)
			eventually(t, "notify has run for "+id, func() bool { return nodes[2].count(shared.StepNotify, id) > 0 })
		}
		exchange(t, nodes, "again")
	})
	t.Run("a node leaves for good", func(t *testing.T) {
		if err := nodes[2].Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "there are two members", func() bool {
			c := nodes[0].State().Cluster
			return c != nil && len(c.Members) == 2
		})
		exchange(t, nodes[:2], "left")
	})
	t.Run("no quorum", func(t *testing.T) {
		servers.Kill(1)
		servers.Kill(2)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := nodes[0].Check(ctx, shared.RecallRequest{
			Tenant: "acme", RecallID: "r", Actor: shared.Actor{ID: "ann"}, Targets: []shared.Target{{
				MessageID: "unknown", Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
			}},
		})
		if err == nil || errors.Is(err, shared.ErrInvalid) {
			t.Errorf("without the log it is sure that a message is not found: %v", err)
		}
		if _, err := nodes[0].Status(t.Context(), "acme", []string{"first0"}); err != nil {
			t.Errorf("reads need no log: %v", err)
		}
		for i := 1; i <= 2; i++ {
			if err := servers.Start(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
		exchange(t, nodes[:2], "quorum")
	})
}

// TestCluster_OlderVersion upgrades the nodes of a cluster one after the other, and tries to go back.
func TestCluster_OlderVersion(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	older, newer := hosttest.BuildFaulty(t, "old-format"), hosttest.BuildPlugin(t)
	nodes := []*chatNode{
		startChatNodeOf(t, older, servers, "n0", "replicas = 1"), startChatNodeOf(t, newer, servers, "n1", "replicas = 1"),
	}
	exchange(t, nodes, "mixed")
	if _, err := nodes[0].Upgrade(t.Context(), host.Binary{Path: newer}); err != nil {
		t.Fatal(err)
	}
	exchange(t, nodes, "upgraded")
	_, err := nodes[0].Upgrade(t.Context(), host.Binary{Path: older})
	if err == nil || !strings.Contains(err.Error(), "written by a newer version") {
		t.Errorf("a node goes back to an older version: %v", err)
	}
	exchange(t, nodes, "refused")
}
