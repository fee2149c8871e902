package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/clock/clocktest"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

const snapshotText = `index { path = "index" }
cluster {
  node             = %q
  urls             = ["nats://127.0.0.1:4222"]
  durability       = "unchecked"
  snapshot_entries = 1000
}
`

// newSnapshotNode makes a node that is not started, and takes a snapshot every 1,000 entries.
func newSnapshotNode(t *testing.T, name string) *rig {
	t.Helper()
	r := &rig{t: t, clock: clocktest.New(), dir: t.TempDir()}
	r.write("plugin.hcl", fmt.Sprintf(snapshotText, name))
	return r
}

// write1000 writes so many entries, of a message each.
func write1000(t *testing.T, r *rig, name string) {
	t.Helper()
	for i := range 1000 {
		r.index(r.message(fmt.Sprint(name, i)))
	}
}

// snapshot has a node take the snapshot that is due, and waits for it and what it makes unnecessary.
func snapshot(t *testing.T, r *rig) journal.Snapshot {
	t.Helper()
	if err := r.active.cluster.shots.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := r.active.cluster.shots.Newest()
	if at := r.active.cluster.log.Position(); now.Position+1000 <= at {
		t.Fatalf("no snapshot after %d at %d", now.Position, at)
	}
	return now
}

// knows fails unless a node has messages of these names.
func knows(t *testing.T, r *rig, ids ...string) {
	t.Helper()
	list, err := r.Status(t.Context(), "acme", ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range list {
		if s.Message == nil {
			t.Errorf("%s is not known", ids[i])
		}
	}
}

// tryNode is a process of a node that may not become active.
func (c *memoryCluster) tryNode(t *testing.T, r *rig) error {
	t.Helper()
	e := New(Options{Version: "v0", Clock: r.clock, OpenCluster: c.open})
	defer func() { _ = e.Quiesce(context.Background()) }()
	if ds, err := e.Prepare(t.Context(), r.path("plugin.hcl")); err != nil || ds.HasErrors() {
		t.Fatalf("prepare: %v %v", ds, err)
	}
	return e.Activate(t.Context(), []wire.StepPlan{{Name: shared.StepHistory}, {Name: shared.StepNotify, EachNode: true}})
}

func TestBootstrap(t *testing.T) {
	c := newMemoryCluster()
	a, late := newSnapshotNode(t, "n0"), newSnapshotNode(t, "n1")
	c.startNode(a)
	c.startNode(late)
	a.index(a.message("early"))
	if _, err := late.Check(t.Context(), request("r", "unknown")); err != nil { // it has applied that
		t.Fatal(err)
	}
	instance := late.active.index.Identity().ID
	if err := late.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	write1000(t, a, "a")
	one := snapshot(t, a)
	if first, _ := c.stream.First(t.Context()); first != 1 {
		t.Errorf("the log begins with %d, and there is one snapshot only", first)
	}
	write1000(t, a, "b")
	two := snapshot(t, a)
	write1000(t, a, "c")
	three := snapshot(t, a)
	if first, _ := c.stream.First(t.Context()); first != two.Position+1 {
		t.Errorf("the log begins with %d, want %d", first, two.Position+1)
	}
	all, err := c.stream.Snapshots(t.Context())
	if err != nil || len(all) != 2 || all[0].Name != three.Name || all[1].Name != two.Name {
		t.Errorf("%+v %v; one is %+v", all, err, one)
	}
	a.index(a.message("last"))

	t.Run("a new node", func(t *testing.T) {
		n := newSnapshotNode(t, "n2")
		n.t = t
		c.startNode(n)
		knows(t, n, "early", "a0", "b999", "c0", "last")
		results, err := n.Recall(t.Context(), request("r", "a1"))
		if err != nil || results[0].Status != shared.StatusRecalled {
			t.Errorf("%+v %v", results, err)
		}
		if err := n.Quiesce(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("a late node", func(t *testing.T) {
		late.t = t
		c.startNode(late)
		knows(t, late, "early", "a0", "b999", "c0", "last")
		if id := late.active.index.Identity().ID; id != instance {
			t.Errorf("it is another machine: %s, was %s", id, instance)
		}
		if err := late.Quiesce(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("the newest is damaged", func(t *testing.T) {
		for name, change := range map[string]func([]byte) []byte{
			"cut":     func(data []byte) []byte { return data[:len(data)-5] },
			"changed": func(data []byte) []byte { data[len(data)/2] ^= 1; return data },
		} {
			c.stream.ChangeSnapshot(three, change)
			n := newSnapshotNode(t, "n3-"+name)
			c.startNode(n)
			knows(t, n, "early", "a0", "b999", "c0", "last")
			if err := n.Quiesce(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("none helps", func(t *testing.T) {
		c.stream.ChangeSnapshot(two, func(data []byte) []byte { return data[:len(data)/2] })
		n := newSnapshotNode(t, "n4")
		err := c.tryNode(t, n)
		if !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "no snapshot") {
			t.Errorf("%v", err)
		}
	})
}

// TestBootstrap_Import has no node start before the index of a single machine is there with which the log begins.
func TestBootstrap_Import(t *testing.T) {
	single, err := index.Open(t.Context(), index.Options{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer single.Close()
	n := newSnapshotNode(t, "n0")
	var ops []index.Op
	for _, id := range []string{"a", "b"} {
		m := n.message(id)
		ops = append(ops, index.Op{Put: &m})
	}
	if _, err := single.Apply([][]index.Op{ops}); err != nil {
		t.Fatal(err)
	}
	c := newMemoryCluster()
	at := single.Identity().Version
	c.stream.Skip(int(at)) // as of a stream that was created for the import
	if err := c.tryNode(t, n); !errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "import") {
		t.Errorf("before the snapshot is there: %v", err)
	}
	w, err := c.stream.CreateSnapshot(t.Context(), at)
	if err == nil {
		_, err = single.SnapshotForCluster(t.Context(), memoryLink{}.ID(), []string{"n0"}, w, nil)
	}
	if err == nil {
		err = w.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.startNode(n)
	knows(t, n, "a", "b")
	n.index(n.message("c"))
	other := newSnapshotNode(t, "n1")
	c.startNode(other)
	knows(t, other, "a", "b", "c")
}

// TestBootstrap_ReadFails has reading a snapshot fail on the way: the node begins anew at its next start.
func TestBootstrap_ReadFails(t *testing.T) {
	c := newMemoryCluster()
	a := newSnapshotNode(t, "n0")
	c.startNode(a)
	for _, name := range []string{"a", "b"} {
		write1000(t, a, name)
		snapshot(t, a)
	}
	n := newSnapshotNode(t, "n1")
	for _, stage := range []string{"list", "open", "read"} {
		reads := 0
		c.stream.BreakSnapshots(func(is string) error {
			if reads++; is == stage && (stage != "read" || reads > 10) {
				return errors.New("no leader")
			}
			return nil
		})
		if err := c.tryNode(t, n); err == nil || !strings.Contains(err.Error(), "no leader") {
			t.Errorf("%s: %v", stage, err)
		}
	}
	c.stream.BreakSnapshots(nil)
	c.startNode(n)
	knows(t, n, "a0", "b999")
	if left, err := filepath.Glob(n.path("index.restoring*")); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

// TestBootstrap_Progress has a host see that a plugin that is not active yet gets on.
func TestBootstrap_Progress(t *testing.T) {
	c := newMemoryCluster()
	a := newSnapshotNode(t, "n0")
	c.startNode(a)
	write1000(t, a, "a")
	snapshot(t, a)
	n := newSnapshotNode(t, "n1")
	e := New(Options{Version: "v0", Clock: n.clock, OpenCluster: c.open})
	defer func() { _ = e.Quiesce(context.Background()) }()
	if ds, err := e.Prepare(t.Context(), n.path("plugin.hcl")); err != nil || ds.HasErrors() {
		t.Fatalf("prepare: %v %v", ds, err)
	}
	var during []wire.Health
	c.stream.BreakSnapshots(func(is string) error {
		if is == "read" {
			h, err := e.Health(context.Background())
			if err != nil {
				t.Error(err)
			}
			during = append(during, h)
		}
		return nil
	})
	if err := e.Activate(t.Context(), plan(shared.StepNotify)); err != nil {
		t.Fatal(err)
	}
	c.stream.BreakSnapshots(nil)
	if len(during) == 0 || during[0].State != wire.StateStandby || during[0].Waiting != 1 ||
		!strings.Contains(during[0].Reason, "snapshot") {
		t.Errorf("%+v", during)
	}
	if h, err := e.Health(t.Context()); err != nil || h.State != wire.StateActive || h.Reason != "" {
		t.Errorf("%+v %v", h, err)
	}
}

// TestBootstrap_NotShorter has a node that has most of the log read the rest, though there is a snapshot of it.
func TestBootstrap_NotShorter(t *testing.T) {
	c := newMemoryCluster()
	a, b := newSnapshotNode(t, "n0"), newSnapshotNode(t, "n1")
	c.startNode(a)
	c.startNode(b)
	write1000(t, a, "a")
	if _, err := b.Check(t.Context(), request("r", "unknown")); err != nil {
		t.Fatal(err)
	}
	epoch := b.active.index.Identity().Epoch
	if err := b.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.index(a.message("last"))
	snapshot(t, a)
	c.startNode(b)
	knows(t, b, "a0", "last")
	if b.active.index.Identity().Epoch != epoch {
		t.Error("it began anew")
	}
}

// TestSnapshot_Metrics has the age and position of the newest snapshot.
func TestSnapshot_Metrics(t *testing.T) {
	c := newMemoryCluster()
	a := newSnapshotNode(t, "n0")
	c.startNode(a)
	read := func() (age, position float64) {
		t.Helper()
		metrics, err := a.Metrics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		age, position = -1, -1
		for _, m := range metrics {
			switch m.Name {
			case "recall_cluster_snapshot_age_seconds":
				age = m.Value
			case "recall_cluster_snapshot_position":
				position = m.Value
			}
		}
		return age, position
	}
	if age, position := read(); age != 0 || position != 0 {
		t.Errorf("without a snapshot: %v s, %v", age, position)
	}
	write1000(t, a, "a")
	s := snapshot(t, a)
	a.clock.Shift(s.Taken.Add(time.Minute).Sub(a.clock.Now()))
	if age, position := read(); age < 59 || age > 61 || position != float64(s.Position) {
		t.Errorf("%v s, %v, want 60 and %d", age, position, s.Position)
	}
}

// TestHealth_LogTrimmedBeyond has a node halt whose log was trimmed beyond it, so that the host starts it again.
func TestHealth_LogTrimmedBeyond(t *testing.T) {
	c := newMemoryCluster()
	a := newSnapshotNode(t, "n0")
	c.startNode(a)
	a.index(a.message("m"))
	if err := c.stream.Trim(t.Context(), c.stream.Len()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Health(t.Context()); err != nil {
		t.Errorf("it has all that is gone: %v", err)
	}
	c.stream.Skip(10)
	c.stream.Publish(t.Context(), nil, func(error) {})
	for {
		if _, err := a.Health(t.Context()); err != nil {
			if !strings.Contains(err.Error(), "snapshot") {
				t.Error(err)
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
}
