package host_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/internal/natscluster/natstest"
	"github.com/chat-recall/recall/shared"
)

// Forget on one node erases on all, also if the node that does the work is killed; and each compacts its own index.
func TestForget_ThreeNodes(t *testing.T) {
	servers := natstest.Start(t, 3, nil)
	var nodes []*chatNode
	for i := range 3 {
		nodes = append(nodes, startChatNode(t, servers, fmt.Sprint("n", i)))
	}
	var all []shared.Message
	for i := range 3000 {
		all = append(all, personal(fmt.Sprint(i)))
	}
	mustIndex(t, nodes[0].Host, shared.IndexAdded, all...)
	gone := all[:3]
	for i, m := range gone {
		r, err := nodes[i].Recall(t.Context(), personalRecall(m))
		if err != nil || r[0].Status != shared.StatusRecalled {
			t.Fatalf("%+v %v", r, err)
		}
		if err := nodes[i].Wait(t.Context(), "acme", "xyzzy-recall-"+m.ID); err != nil {
			t.Fatal(err)
		}
	}
	what := shared.ForgetRequest{Tenant: "acme", Sender: "xyzzy-ann"}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		time.Sleep(20 * time.Millisecond)
		hosttest.Kill(t, nodes[0].Host) // which does the work
	}()
	forgetAll(t, nodes[2].Host, what)
	<-killed
	for _, n := range nodes {
		eventually(t, n.name+" has erased them", func() bool {
			status, err := n.Status(t.Context(), "acme", []string{gone[0].ID, all[5].ID})
			return err == nil && status[0] == shared.MessageStatus{MessageID: gone[0].ID, State: shared.MessageRecalled} &&
				status[1].State == shared.MessageUnknown
		})
	}
	for i, n := range nodes {
		wantForgotten(t, n.Host, gone[i])
		if _, err := n.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		if found := filesThatSay(t, filepath.Join(filepath.Dir(n.file), "index"), "xyzzy"); found != nil {
			t.Errorf("%s: %q", n.name, found)
		}
		wantForgotten(t, n.Host, gone[i])
	}
	for _, m := range nodes[0].State().Cluster.Members {
		if m.Gone {
			t.Errorf("%s is gone", m.Node)
		}
	}
	exchange(t, nodes, "after")
}
