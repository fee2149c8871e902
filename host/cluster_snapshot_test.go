package host_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/natscluster/natstest"
	"github.com/chat-recall/recall/shared"
)

// metric reads a metric of a node; -1: there is none.
func (n *chatNode) metric(t *testing.T, name string) float64 {
	t.Helper()
	metrics, err := n.Metrics(t.Context())
	if err != nil {
		return -1 // it starts
	}
	for _, m := range metrics {
		if m.Name == name {
			return m.Value
		}
	}
	return -1
}

// fillLog writes messages until there is a snapshot beyond a position of the log, and returns its position.
func (n *chatNode) fillLog(t *testing.T, name string, beyond float64) (snapshot float64) {
	t.Helper()
	const writers = 4
	var writing sync.WaitGroup
	stop := make(chan struct{})
	for w := range writers {
		writing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				m := shared.Message{
					Tenant: "acme", ID: fmt.Sprint(name, w, "-", i), Sender: "ann", Type: shared.TypeText, SentAt: time.Now(),
					Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
				}
				if _, err := n.Index(t.Context(), []shared.Message{m}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for snapshot <= beyond && !t.Failed() {
		time.Sleep(50 * time.Millisecond)
		snapshot = n.metric(t, "recall_cluster_snapshot_position")
	}
	close(stop)
	writing.Wait()
	return snapshot
}

// TestCluster_NodeAfterTheLogWasTrimmed has nodes start that the log does not go back to: a new one, one that was away,
// and one that was stopped.
func TestCluster_NodeAfterTheLogWasTrimmed(t *testing.T) {
	servers := natstest.Start(t, 1, nil)
	more := []string{"replicas = 1", "snapshot_entries = 1000"}
	nodes := make([]*chatNode, 3)
	for i := range nodes {
		nodes[i] = startChatNode(t, servers, fmt.Sprint("n", i), more...)
	}
	exchange(t, nodes, "early")
	writer, away, stopped := nodes[0], nodes[1], nodes[2]
	ids := []string{away.State().Index.ID, stopped.State().Index.ID}
	if err := away.Close(); err != nil {
		t.Fatal(err)
	}
	resume := stopped.stopPlugin(t)
	first := writer.fillLog(t, "a", 0)
	second := writer.fillLog(t, "b", first)
	writer.fillLog(t, "c", second)
	eventually(t, "the log was trimmed", func() bool {
		return writer.hasLogged(fmt.Sprintf("up_to=%d", int(second)))
	})
	resume()
	away.open(t)
	nodes = append(nodes, startChatNode(t, servers, "n3", more...))
	for _, n := range nodes[1:] {
		eventually(t, n.name+" has everything", func() bool {
			list, err := n.Status(t.Context(), "acme", []string{"early0", "a0-0", "b0-0", "c0-0"})
			return err == nil && !slices.ContainsFunc(list, func(s shared.MessageStatus) bool { return s.Message == nil })
		})
		if !n.hasLogged("the index has begun anew") {
			t.Errorf("%s did not begin anew", n.name)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(n.file), "*.restoring*")); err != nil || len(left) > 0 {
			t.Errorf("%v %v", left, err)
		}
	}
	exchange(t, nodes, "later")
	if is := []string{away.State().Index.ID, stopped.State().Index.ID}; !slices.Equal(is, ids) {
		t.Errorf("the indexes are %q, and were %q", is, ids)
	}
}
