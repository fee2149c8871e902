package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/chat-recall/recall/plugin/internal/clock/clocktest"
	"github.com/chat-recall/recall/shared"
)

// recallNew indexes a message and recalls it.
func (r *rig) recallNew(id string) shared.RecallResult {
	r.t.Helper()
	r.index(r.message(id))
	return r.recall(request("r-"+id, id))[0]
}

func TestLimits_NextProcess(t *testing.T) {
	for name, c := range map[string]struct {
		away time.Duration // between the processes, by the wall clock
		left time.Duration // after which the next recall is permitted
	}{
		"at once":                    {0, time.Minute},
		"after half a minute":        {30 * time.Second, 30 * time.Second},
		"after a minute":             {time.Minute, 0},
		"the clock was set back":     {-time.Hour, time.Minute},
		"the clock was set far back": {-24 * 400 * time.Hour, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			r := newActive(t, limited)
			r.clock.Advance(time.Hour) // each process has a monotonic clock of its own
			for i := range 3 {
				if got := r.recallNew(fmt.Sprint("m", i)); got.Status != shared.StatusRecalled {
					t.Fatalf("%+v", got)
				}
			}
			before := r.clock
			r.clock = clocktest.New()
			r.clock.Shift(before.Now().Add(c.away).Sub(r.clock.Now()))
			r.restart()
			r.activate()
			if c.left > 0 {
				got := r.recallNew("within")
				if want := r.clock.Now().Add(c.left); got.Code != shared.CodeRateLimited || !got.RetryAt.Equal(want) {
					t.Errorf("%+v, want to try again at %s", got, want)
				}
				r.clock.Advance(c.left)
			}
			if got := r.recallNew("after"); got.Status != shared.StatusRecalled {
				t.Errorf("after it: %+v", got)
			}
		})
	}
}

func (c *memoryCluster) newLimitedNode(t *testing.T, name string) *rig {
	t.Helper()
	r := &rig{t: t, clock: clocktest.New(), dir: t.TempDir()}
	r.write("rules.hcl", limited)
	r.write("plugin.hcl", fmt.Sprintf(clusterText, name)+"rules { paths = [\"rules.hcl\"] }\n")
	c.startNode(r)
	return r
}

func TestLimits_Cluster(t *testing.T) {
	c := newMemoryCluster()
	a, b := c.newLimitedNode(t, "n0"), c.newLimitedNode(t, "n1")
	b.clock.Advance(time.Hour)
	b.clock.Shift(-time.Hour - 30*time.Second) // half a minute behind the other's
	for i, n := range []*rig{a, b, a} {
		if got := n.recallNew(fmt.Sprint("m", i)); got.Status != shared.StatusRecalled {
			t.Fatalf("%d: %+v", i, got)
		}
	}
	limitedFor := func(n *rig, left time.Duration, id string) {
		t.Helper()
		got := n.recallNew(id)
		if want := n.clock.Now().Add(left); got.Code != shared.CodeRateLimited || !got.RetryAt.Equal(want) {
			t.Errorf("%+v, want to try again at %s", got, want)
		}
	}
	limitedFor(a, time.Minute, "a")
	limitedFor(b, time.Minute, "b")
	b.clock.Advance(20 * time.Second)
	limitedFor(b, 40*time.Second, "later")
	limitedFor(c.newLimitedNode(t, "n2"), 30*time.Second, "new") // by the wall clocks, which is all that it has
	b.clock.Advance(40 * time.Second)
	if got := b.recallNew("after"); got.Status != shared.StatusRecalled {
		t.Errorf("after it: %+v", got)
	}
	limitedFor(a, time.Minute, "still") // by the clock of this node, no time has passed
}

// A request that waited counts on every node when it was made.
func TestLimits_ClusterHeld(t *testing.T) {
	c := newMemoryCluster()
	a, b := c.newLimitedNode(t, "n0"), c.newLimitedNode(t, "n1")
	for _, n := range []*rig{a, b} {
		n.clock.Advance(time.Hour)
	}
	for i := range 3 {
		m := a.message(fmt.Sprint("m", i))
		m.SentAt = m.SentAt.Add(-time.Minute)
		a.index(m)
		req := request("r-"+m.ID, m.ID)
		req.Held = 50 * time.Second
		if got := a.recall(req)[0]; got.Status != shared.StatusRecalled {
			t.Fatalf("%+v", got)
		}
	}
	got := b.recallNew("b")
	if want := b.clock.Now().Add(10 * time.Second); got.Code != shared.CodeRateLimited || !got.RetryAt.Equal(want) {
		t.Errorf("%+v, want to try again at %s", got, want)
	}
}
