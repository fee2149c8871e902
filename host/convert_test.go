package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/internal/natscluster/natstest"
	"github.com/chat-recall/recall/shared"
)

// machine is a chat server of its own, which fails some steps and counts the others.
type machine struct {
	*host.Host
	*place

	mu  sync.Mutex
	ran map[string]int // by step and message
}

var errStepFails = errors.New("it always fails")

// start opens the host. A step of a message fails if fails says so.
func (m *machine) start(fails func(step, id string) bool) {
	m.t.Helper()
	m.ran = map[string]int{}
	step := func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ran[d.Step+" "+d.Message.ID]++
		if fails(d.Step, d.Message.ID) {
			return "", errStepFails
		}
		return shared.OutcomeDone, nil
	}
	m.Host = hosttest.Open(m.t, host.Config{File: m.file, RunDir: m.run, Steps: map[string]host.Step{
		shared.StepNotify: {Run: step}, shared.StepHistory: {Run: step},
	}})
}

func (m *machine) count(step, id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ran[step+" "+id]
}

// attempts is how often a step of a recalled message was tried.
func attempts(t *testing.T, h shared.Recall, id, step string) (n int) {
	t.Helper()
	page, err := h.Ledger(within(t), shared.LedgerRequest{Tenant: "acme", RecallID: "r-" + id})
	if err != nil || len(page.Entries) != 1 {
		t.Fatalf("%s: %+v %v", id, page, err)
	}
	for _, s := range page.Entries[0].Steps {
		if s.Step == step {
			n += s.Attempts
		}
	}
	return n
}

// cursorOf is the cursor behind the last recall.
func cursorOf(t *testing.T, h shared.Recall) string {
	t.Helper()
	page, err := h.Since(within(t), shared.SinceRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	return page.Next
}

// wantStates checks which messages are live and which are recalled.
func wantStates(t *testing.T, h shared.Recall, live, recalled []string) {
	t.Helper()
	list, err := h.Status(within(t), "acme", append(slices.Clone(live), recalled...))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range list {
		want := shared.MessageLive
		if i >= len(live) {
			want = shared.MessageRecalled
		}
		if s.State != want || s.Message == nil {
			t.Errorf("%+v, want %s", s, want)
		}
	}
}

// byHand runs recall-plugin and reads its JSON.
func byHand(t *testing.T, into any, args ...string) {
	t.Helper()
	stdout, stderr, err := hosttest.RunPlugin(t, args...)
	if err == nil && into != nil {
		err = json.Unmarshal(stdout, into)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", args, err, stdout, stderr)
	}
}

// refusedByHand runs recall-plugin and wants it to refuse with these words.
func refusedByHand(t *testing.T, words string, args ...string) {
	t.Helper()
	_, stderr, err := hosttest.RunPlugin(t, args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(stderr), words) {
		t.Errorf("%s: %v, want %q\n%s", args, err, words, stderr)
	}
}

// converted is what index to-cluster and to-single print.
type converted struct {
	Log       string
	Position  uint64
	Messages  int
	Recalls   int
	OpenSteps int  `json:"open_steps"`
	Stored    bool // by to-cluster
	CaughtUp  bool `json:"caught_up"` // by to-single
}

// TestConvert takes a chat server into a cluster of three, and makes one of it again.
func TestConvert(t *testing.T) {
	servers := natstest.Start(t, 3, nil)
	single := &machine{place: newPlace(t)}
	single.start(func(step, id string) bool {
		return id == "notify" || id == "history" && step == shared.StepHistory
	})
	recallAll(t, single.Host, "done", "notify", "history")
	live := shared.Message{Tenant: "acme", ID: "live", Sender: "ann", Type: shared.TypeText, SentAt: time.Now(),
		Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}}
	if _, err := single.Index(within(t), []shared.Message{live}); err != nil {
		t.Fatal(err)
	}
	cursor := cursorOf(t, single.Host)
	eventually(t, "all steps were tried", func() bool {
		return single.count(shared.StepNotify, "notify") > 1 && single.count(shared.StepHistory, "done") > 0 &&
			attempts(t, single.Host, "history", shared.StepHistory) > 1
	})
	nodes := make([]*chatNode, 3)
	for i := range nodes {
		nodes[i] = newChatNode(t, hosttest.BuildPlugin(t), servers, fmt.Sprint("n", i))
		nodes[i].fails = func(d shared.Delivery) bool { return d.Message.ID == "kept" && d.Step == shared.StepHistory }
	}
	nodes[0].run = single.run // the host of n0 knew the single machine
	toCluster := []string{
		"index", "to-cluster", "--json", "--config", nodes[0].file, "--nodes", "n0,n1,n2", single.index(),
	}
	refusedByHand(t, "held by another process", toCluster...)
	before := attempts(t, single.Host, "history", shared.StepHistory)
	if err := single.Close(); err != nil {
		t.Fatal(err)
	}
	var is converted
	byHand(t, &is, toCluster...)
	if is.Messages != 4 || is.Recalls != 3 || is.OpenSteps != 2 || !is.Stored {
		t.Errorf("%+v", is)
	}
	byHand(t, &is, toCluster...)
	if is.Stored {
		t.Error("it was stored again")
	}
	t.Run("another import is refused", func(t *testing.T) {
		other := newPlace(t)
		h := other.mustOpen()
		recallAll(t, h, "other")
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		args := slices.Clone(toCluster)
		args[len(args)-1] = other.index()
		refusedByHand(t, "for the import of the index", args...)
	})
	started := make(chan struct{})
	for _, n := range nodes {
		go func() {
			defer func() { started <- struct{}{} }()
			n.open(t)
		}()
	}
	for range nodes {
		<-started
	}
	recalled := []string{"done", "notify", "history"}
	for _, n := range nodes {
		wantStates(t, n.Host, []string{"live"}, recalled)
		eventually(t, "the open notice has run on "+n.name, func() bool { return n.count(shared.StepNotify, "notify") > 0 })
		if n.count(shared.StepNotify, "done")+n.count(shared.StepNotify, "history") > 0 {
			t.Errorf("%s notifies of what was settled", n.name)
		}
		if page, err := n.Since(within(t), shared.SinceRequest{Tenant: "acme", After: cursor}); err != nil || !page.Reset {
			t.Errorf("a cursor of the single machine: %+v %v", page, err)
		}
	}
	for _, id := range recalled {
		if err := nodes[1].Wait(within(t), "acme", "r-"+id); err != nil {
			t.Fatal(err)
		}
	}
	if after := attempts(t, nodes[2].Host, "history", shared.StepHistory); after <= before {
		t.Errorf("the attempts do not go on: %d, were %d", after, before)
	}
	for id, want := range map[string]int{"done": 0, "notify": 1, "history": 1} {
		ran := 0
		for _, n := range nodes {
			ran += n.count(shared.StepHistory, id)
		}
		if ran != want {
			t.Errorf("history of %s ran %d times, want %d", id, ran, want)
		}
	}
	exchange(t, nodes, "cluster")
	byHand(t, &is, toCluster...)
	if is.Stored {
		t.Error("it was stored again, into a cluster that is in use")
	}

	t.Run("back to a single machine", func(t *testing.T) { backToSingle(t, nodes) })
}

// backToSingle stops the nodes of a cluster, in which a step always fails, and makes a single machine of it.
func backToSingle(t *testing.T, nodes []*chatNode) {
	t.Helper()
	id, history := "kept", shared.StepHistory
	recallAll(t, nodes[0].Host, id)
	cursor := cursorOf(t, nodes[0].Host)
	eventually(t, "the step has failed", func() bool {
		return nodes[0].count(history, id)+nodes[1].count(history, id)+nodes[2].count(history, id) > 1
	})
	single := &machine{place: newPlace(t)}
	single.run = nodes[1].run
	toSingle := []string{"index", "to-single", "--json", "--config", nodes[1].file, single.index()}
	refusedByHand(t, "held by another process", toSingle...)
	for _, n := range nodes[1:] {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	refusedByHand(t, "the node n0 runs", toSingle...)
	recallAll(t, nodes[0].Host, "late")
	before := attempts(t, nodes[0].Host, id, history)
	if err := nodes[0].Close(); err != nil {
		t.Fatal(err)
	}
	var offline, is converted
	other := filepath.Join(t.TempDir(), "index")
	byHand(t, &offline, append(slices.Clone(toSingle[:5]), "--offline", other)...)
	byHand(t, &is, toSingle...)
	if offline.CaughtUp || !is.CaughtUp || is.Position <= offline.Position || is.Messages != offline.Messages+1 {
		t.Errorf("%+v, and offline %+v", is, offline)
	}
	byHand(t, &is, toSingle...) // again
	refusedByHand(t, "something else", append(slices.Clone(toSingle[:5]), other)...)

	single.start(func(string, string) bool { return false })
	wantStates(t, single.Host, []string{"live"}, []string{"done", "notify", "history", "cluster0", id, "late"})
	if err := single.Wait(within(t), "acme", "r-"+id); err != nil {
		t.Fatal(err)
	}
	after := attempts(t, single.Host, id, history)
	if single.count(history, id) != 1 || after <= before || single.count(shared.StepNotify, id) > 0 {
		t.Errorf("history was tried %d times, and %d before; %v", after, before, single.ran)
	}
	page, err := single.Since(within(t), shared.SinceRequest{Tenant: "acme", After: cursor})
	if err != nil || !page.Reset {
		t.Errorf("a cursor of the cluster: %+v %v", page, err)
	}
	recallAll(t, single.Host, "later")
}
