package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	hclconfig "github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/clock/clocktest"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/plugin/internal/journal/snapshottest"
	"github.com/chat-recall/recall/shared"
)

// memoryLink connects a node to others in memory.
type memoryLink struct {
	*snapshottest.Stream
	*journaltest.NodeBeats
}

func (memoryLink) ID() string { return "RECALL-1" }
func (memoryLink) Close()     {}

// memoryCluster is what the nodes of a test share.
type memoryCluster struct {
	stream *snapshottest.Stream
	beats  *journaltest.Beats
	refuse error // what connecting fails with

	existing bool // the last that connected wanted a log that is there
}

func newMemoryCluster() *memoryCluster {
	return &memoryCluster{stream: snapshottest.NewStream(), beats: journaltest.NewBeats()}
}

func (c *memoryCluster) open(_ context.Context, o *hclconfig.ClusterBlock, existing bool, _ hclog.Logger) (ClusterLink,
	error) {
	c.existing = existing
	if c.refuse != nil {
		return nil, c.refuse
	}
	return memoryLink{c.stream, c.beats.Of(o.Node)}, nil
}

const clusterText = `index { path = "index" }
cluster {
  node       = %q
  urls       = ["nats://127.0.0.1:4222"]
  durability = "unchecked"
}
`

// newNode makes a node that is active, for the steps notify, which every node carries out, and history.
func (c *memoryCluster) newNode(t *testing.T, name string) *rig {
	t.Helper()
	r := &rig{t: t, clock: clocktest.New(), dir: t.TempDir()}
	r.write("plugin.hcl", fmt.Sprintf(clusterText, name))
	c.startNode(r)
	return r
}

// startNode is a new process of a node.
func (c *memoryCluster) startNode(r *rig) {
	r.t.Helper()
	r.Engine = New(Options{Version: "v0", Clock: r.clock, OpenCluster: c.open})
	e := r.Engine
	r.t.Cleanup(func() { _ = e.Quiesce(context.Background()) })
	if ds, err := r.Prepare(r.t.Context(), r.path("plugin.hcl")); err != nil || ds.HasErrors() {
		r.t.Fatalf("prepare: %v %v", ds, err)
	}
	err := r.Activate(r.t.Context(), []wire.StepPlan{
		{Name: shared.StepHistory}, {Name: shared.StepNotify, EachNode: true},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// deliveries reads what a node delivers.
func (r *rig) deliveries(t *testing.T) <-chan shared.Delivery {
	t.Helper()
	all := make(chan shared.Delivery, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	e := r.Engine
	go func() {
		defer close(ended)
		_ = e.Deliver(ctx, func(list []shared.Delivery) {
			for _, d := range list {
				all <- d
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return all
}

func TestCluster_RecallOnAnotherNode(t *testing.T) {
	c := newMemoryCluster()
	nodes := []*rig{c.newNode(t, "n0"), c.newNode(t, "n1"), c.newNode(t, "n2")}
	var delivered []<-chan shared.Delivery
	for _, n := range nodes {
		delivered = append(delivered, n.deliveries(t))
	}
	nodes[0].index(nodes[0].message("m"))
	results, err := nodes[1].Recall(t.Context(), request("r", "m"))
	if err != nil || results[0].Status != shared.StatusRecalled {
		t.Fatalf("%+v %v", results, err)
	}
	again, err := nodes[2].Recall(t.Context(), as("bob", shared.RoleOwner, request("s", "m")))
	if err != nil || again[0].Status != shared.StatusAlreadyRecalled || again[0].RecallID != "r" {
		t.Errorf("%+v %v", again, err)
	}
	for i, from := range delivered {
		d := <-from
		if d.Step != shared.StepNotify || d.Message.ID != "m" {
			t.Errorf("n%d: %+v", i, d)
		}
		if err := (settler{nodes[i].Engine, d}).settle(t.Context(), shared.OutcomeDone, nil); err != nil {
			t.Error(err)
		}
	}
	var history shared.Delivery
	var by int
	select { // on one of them
	case history = <-delivered[0]:
	case history = <-delivered[1]:
		by = 1
	case history = <-delivered[2]:
		by = 2
	}
	if err := (settler{nodes[by].Engine, history}).settle(t.Context(), shared.OutcomeDone, nil); err != nil {
		t.Error(err)
	}
	page, err := nodes[by].Ledger(t.Context(), shared.LedgerRequest{Tenant: "acme", RecallID: "r"})
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, s := range page.Entries[0].Steps {
		if s.Outcome != shared.OutcomeUnsupported {
			steps = append(steps, fmt.Sprintf("%s@%s %s", s.Step, s.Node, s.Outcome))
		}
	}
	want := []string{"notify@n0 done", "notify@n1 done", "notify@n2 done", fmt.Sprintf("history@n%d done", by)}
	slices.Sort(steps)
	slices.Sort(want)
	if !slices.Equal(steps, want) {
		t.Errorf("%q, want %q", steps, want)
	}
}

// A message that another node has just indexed is never not_found, however slow this node is.
func TestCluster_NotFoundIsCertain(t *testing.T) {
	c := newMemoryCluster()
	a, b := c.newNode(t, "n0"), c.newNode(t, "n1")
	for i := range 50 {
		id := fmt.Sprint("m", i)
		a.index(a.message(id))
		check, err := b.Check(t.Context(), request("r", id))
		if err != nil || check[0].Status != shared.StatusRecalled {
			t.Fatalf("%s: %+v %v", id, check, err)
		}
		id += "x"
		a.index(a.message(id))
		results, err := b.Recall(t.Context(), request("r"+id, id))
		if err != nil || results[0].Status != shared.StatusRecalled {
			t.Fatalf("%s: %+v %v", id, results, err)
		}
	}
	results, err := b.Recall(t.Context(), request("r", "nobody's"))
	if err != nil || results[0].Status != shared.StatusNotFound {
		t.Errorf("%+v %v", results, err)
	}
	c.stream.Break(func([]byte) error { return errors.New("no quorum") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := b.Check(ctx, request("r", "unknown")); err == nil {
		t.Errorf("without the log it is sure: %+v", r)
	}
	c.stream.Break(nil)
}

func TestCluster_State(t *testing.T) {
	c := newMemoryCluster()
	a, b := c.newNode(t, "n0"), c.newNode(t, "n1")
	a.index(a.message("m"))
	h, err := a.Health(t.Context())
	if err != nil || h.Cluster == nil {
		t.Fatalf("%+v %v", h, err)
	}
	s := h.Cluster
	if s.Node != "n0" || s.Log != "RECALL-1" || !s.Connected || s.Position == 0 || len(s.Members) != 2 ||
		s.Members[1].Node != "n1" || s.Members[1].Version != "v0" || s.Members[1].Gone {
		t.Errorf("%+v", s)
	}
	metrics, err := a.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, m := range metrics {
		got[m.Name] = m.Value
	}
	if got["recall_cluster_connected"] != 1 || got["recall_cluster_members"] != 2 ||
		got["recall_cluster_members_gone"] != 0 || got["recall_cluster_position"] != float64(s.Position) ||
		got["recall_cluster_entries_total"] == 0 {
		t.Errorf("%v", got)
	}
	c.beats.Cut("n0", true)
	if h, err := a.Health(t.Context()); err != nil || h.Cluster.Connected {
		t.Errorf("%+v %v", h.Cluster, err)
	}
	c.beats.Cut("n0", false)
	if err := b.Quiesce(t.Context()); err != nil { // it leaves for good
		t.Fatal(err)
	}
	if _, err := a.Check(t.Context(), request("r", "unknown")); err != nil { // once what was written is applied here
		t.Fatal(err)
	}
	if h, err := a.Health(t.Context()); err != nil || len(h.Cluster.Members) != 1 {
		t.Errorf("%+v %v", h.Cluster, err)
	}
}

func TestCluster_Refused(t *testing.T) {
	c := newMemoryCluster()
	prepare := func(text string, open bool) (shared.Diagnostics, error) {
		r := &rig{t: t, clock: clocktest.New(), dir: t.TempDir()}
		r.write("plugin.hcl", text)
		o := Options{Clock: r.clock}
		if open {
			o.OpenCluster = c.open
		}
		e := New(o)
		defer func() { _ = e.Quiesce(t.Context()) }()
		return e.Prepare(t.Context(), filepath.Join(r.dir, "plugin.hcl"))
	}
	text := fmt.Sprintf(clusterText, "n0")
	if _, err := prepare(text, false); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("a plugin without clusters: %v", err)
	}
	c.refuse = errors.New("the servers s0 acknowledge before they sync")
	if ds, err := prepare(text, true); err != nil || !ds.HasErrors() || !strings.Contains(ds[len(ds)-1].Summary, "sync") {
		t.Errorf("servers that are refused: %v %v", ds, err)
	}
	c.refuse = fmt.Errorf("open the stream: %w", journal.ErrGone)
	if ds, err := prepare(text, true); err != nil || !ds.HasErrors() || !strings.Contains(ds[len(ds)-1].Detail, "index") {
		t.Errorf("a log that was deleted: %v %v", ds, err)
	}
	c.refuse = nil
	newer := c.newNode(t, "n1")
	newer.index(newer.message("m")) // in an entry that an older version cannot read
	older := New(Options{Clock: clocktest.New(), EntryFormat: journal.EntryFormat - 1, OpenCluster: c.open})
	defer func() { _ = older.Quiesce(t.Context()) }()
	r := &rig{t: t, dir: t.TempDir()}
	r.write("plugin.hcl", text)
	if ds, err := older.Prepare(t.Context(), r.path("plugin.hcl")); err != nil || !ds.HasErrors() ||
		!strings.Contains(ds[len(ds)-1].Summary, "written by a newer version") {
		t.Errorf("an older version: %v %v", ds, err)
	}
	c.refuse = fmt.Errorf("%w: connect", shared.ErrUnavailable)
	if _, err := prepare(text, true); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("no servers: %v", err)
	}
}

func TestCluster_IndexOfTheOtherKind(t *testing.T) {
	c := newMemoryCluster()
	n := c.newNode(t, "n0")
	n.index(n.message("m"))
	if err := n.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	try := func(text string) error {
		n.write("plugin.hcl", text)
		e := New(Options{Clock: n.clock, OpenCluster: c.open})
		defer func() { _ = e.Quiesce(t.Context()) }()
		if ds, err := e.Prepare(t.Context(), n.path("plugin.hcl")); err != nil || ds.HasErrors() {
			t.Fatalf("%v %v", ds, err)
		}
		return e.Activate(t.Context(), plan("notify"))
	}
	if err := try("index { path = \"index\" }\n"); err == nil || !strings.Contains(err.Error(), "cluster") {
		t.Errorf("the index of a node, on a single machine: %v", err)
	}
	single := newActive(t, "")
	single.index(single.message("m"))
	if err := single.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.dir = single.dir
	if err := try(fmt.Sprintf(clusterText, "n1")); err == nil || !strings.Contains(err.Error(), "single machine") {
		t.Errorf("the index of a single machine, on a node: %v", err)
	}
}

// TestCluster_NextProcess has a node's next process take over without leaving the cluster.
func TestCluster_NextProcess(t *testing.T) {
	c := newMemoryCluster()
	a, b := c.newNode(t, "n0"), c.newNode(t, "n1")
	a.index(a.message("m"))
	if results, err := a.Recall(t.Context(), request("r", "m")); err != nil || results[0].Status != shared.StatusRecalled {
		t.Fatalf("%+v %v", results, err)
	}
	if err := b.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.existing {
		t.Error("a node that is new does not make the log")
	}
	c.startNode(b) // after it left for good: it has nothing of the recall to carry out
	if !c.existing {
		t.Error("a node that has an index makes a new log")
	}
	select {
	case d := <-b.deliveries(t):
		t.Errorf("%+v", d)
	default:
	}
	if d := <-a.deliveries(t); d.Step != shared.StepNotify {
		t.Errorf("%+v", d)
	}
}

// What an older node cannot apply is refused, and the error names the node.
func TestCluster_OlderNodes(t *testing.T) {
	c := newMemoryCluster()
	now := c.newNode(t, "n0")
	old := &rig{t: t, clock: now.clock, dir: t.TempDir()}
	old.write("plugin.hcl", fmt.Sprintf(clusterText, "n1"))
	old.Engine = New(Options{Version: "v0", Clock: old.clock, OpenCluster: c.open, EntryFormat: index.OpFormat - 1})
	t.Cleanup(func() { _ = old.Quiesce(context.Background()) })
	if ds, err := old.Prepare(t.Context(), old.path("plugin.hcl")); err != nil || ds.HasErrors() {
		t.Fatalf("prepare: %v %v", ds, err)
	}
	if err := old.Activate(t.Context(), plan(shared.StepHistory)); err != nil {
		t.Fatal(err)
	}
	now.waitUntil(func() bool {
		members, err := now.active.index.Members()
		return err == nil && len(members) == 2
	})
	edit := now.message("edit")
	edit.Relations = []shared.Relation{{Kind: shared.RelationEdit, MessageID: "m"}}
	waits := request("r", "unknown")
	waits.Wait = time.Minute
	for what, call := range map[string]func() error{
		"start a job":     func() error { _, err := now.StartJob(t.Context(), jobRequest("j")); return err },
		"cancel a job":    func() error { _, err := now.CancelJob(t.Context(), "acme", "j"); return err },
		"index relations": func() error { _, err := now.Index(t.Context(), []shared.Message{edit}); return err },
		"wait":            func() error { _, err := now.Recall(t.Context(), waits); return err },
		"forget": func() error {
			_, err := now.Forget(t.Context(), shared.ForgetRequest{Tenant: "acme", Sender: "ann"})
			return err
		},
	} {
		err := call()
		if !errors.Is(err, shared.ErrUnavailable) || !strings.HasSuffix(err.Error(), "upgrade their plugins: n1") {
			t.Errorf("%s: %v", what, err)
		}
	}
	now.index(now.message("m")) // what it knows goes on
}
