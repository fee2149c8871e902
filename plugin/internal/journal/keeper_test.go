package journal

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/clock/clocktest"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// kept is a node with its keeper.
type kept struct {
	*node
	clock  *clocktest.Fake
	keeper *Keeper
	cancel context.CancelFunc
	ended  chan struct{}
}

const (
	testLease  = 15 * time.Second
	testForget = time.Hour
)

func keepNodes(t *testing.T, s Stream, count int) ([]*kept, *journaltest.Beats) {
	t.Helper()
	beats := journaltest.NewBeats()
	var all []*kept
	nodes := startNodes(t, s, count)
	for _, n := range nodes { // each knows all others before time passes
		if err := n.log.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		k := &kept{node: n}
		all = append(all, k)
		k.keep(t, beats)
		t.Cleanup(func() {
			k.end()
			k.stop(t)
		})
	}
	return all, beats
}

func (k *kept) keep(t *testing.T, beats *journaltest.Beats) {
	t.Helper()
	k.keepFrom(t, beats, clocktest.New())
}

// keepFrom is keep with a clock, as that of a later process.
func (k *kept) keepFrom(t *testing.T, beats *journaltest.Beats, clock *clocktest.Fake) {
	t.Helper()
	self, err := k.log.member()
	if k.keeper != nil {
		self = k.keeper.Self
	}
	if err != nil {
		t.Fatal(err)
	}
	k.clock = clock
	k.keeper, err = NewKeeper(KeeperOptions{
		Log: k.log, Beats: beats.Of(k.name), Self: self, Policy: func() string { return "p" },
		Lease: testLease, ForgetAfter: testForget, Clock: k.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	k.cancel, k.ended = cancel, make(chan struct{})
	ended := k.ended
	go func() {
		defer close(ended)
		k.keeper.Run(ctx)
	}()
}

func (k *kept) end() {
	k.cancel()
	<-k.ended
	k.keeper.Close()
}

// pass lets time pass on the clocks of all nodes, a beat at a time.
func pass(all []*kept, d time.Duration) {
	for tick := testLease / beatsPerLease; d > 0; d -= tick {
		for _, k := range all {
			k.tick(tick)
		}
	}
}

// tick lets time pass on the clock of one node, and waits until its keeper has done what was due.
func (k *kept) tick(d time.Duration) {
	k.clock.WaitArmed(k.clock.Elapsed() + testLease/beatsPerLease)
	k.clock.Advance(d)
	k.clock.WaitArmed(k.clock.Elapsed() + testLease/beatsPerLease)
}

func (k *kept) memberOf(t *testing.T, node string) *index.Member {
	t.Helper()
	if err := k.log.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	members, err := k.log.index.Members()
	if err != nil {
		t.Fatal(err)
	}
	return members[node]
}

func TestKeeper_NodesThatLiveStay(t *testing.T) {
	all, _ := keepNodes(t, journaltest.NewStream(), 3)
	pass(all, 10*testLease)
	for _, k := range all {
		if m := all[0].memberOf(t, k.name); m == nil || m.Gone || m.Epoch > 6 {
			t.Errorf("%s: %+v", k.name, m)
		}
	}
}

func TestKeeper_SilentNode(t *testing.T) {
	all, beats := keepNodes(t, journaltest.NewStream(), 3)
	pass(all, testLease)
	apply(t, all[0].log, put(message("m")), recall("r", message("m"), shared.StepNotify, shared.StepHistory))
	all[2].end()
	pass(all[:2], testLease/2)
	if m := all[0].memberOf(t, "n2"); m.Gone {
		t.Fatal("a node is gone after half a lease")
	}
	pass(all[:2], testLease)
	if m := all[0].memberOf(t, "n2"); !m.Gone {
		t.Fatal("a node that was silent for longer than a lease is not gone")
	}
	all[2].memberOf(t, "n2") // it has read that, too
	if open, err := all[2].log.index.OpenSteps(t.Context(), shared.StepNotify, 0, 10); err != nil || len(open) > 0 {
		t.Errorf("a node that is gone has open: %v %v", open, err)
	}
	// It is there again as soon as it sees that.
	all[2].keep(t, beats)
	all[2].tick(testLease / beatsPerLease)
	if m := all[0].memberOf(t, "n2"); m.Gone {
		t.Error("it has not joined again")
	}
	if open, err := all[2].log.index.OpenSteps(t.Context(), shared.StepNotify, 0, 10); err != nil || len(open) != 1 {
		t.Errorf("what it missed: %v %v", open, err)
	}
}

func TestKeeper_NodeThatIsCutOff(t *testing.T) {
	all, beats := keepNodes(t, journaltest.NewStream(), 2)
	pass(all, testLease)
	beats.Cut("n0", true)
	pass(all[:1], 3*testLease)
	if m := all[0].memberOf(t, "n1"); m.Gone {
		t.Error("a node that hears nobody says that another one is gone")
	}
}

func TestKeeper_NodeThatWasStopped(t *testing.T) {
	all, _ := keepNodes(t, journaltest.NewStream(), 2)
	pass(all, testLease)
	all[0].tick(10 * testLease) // as after SIGSTOP: it has heard nobody for long
	if m := all[0].memberOf(t, "n1"); m.Gone {
		t.Error("a node that did not run itself says that another one is gone")
	}
}

func TestKeeper_Forgotten(t *testing.T) {
	s := journaltest.NewStream()
	all, beats := keepNodes(t, s, 2)
	pass(all, testLease)
	beats.Cut("n1", true)
	all[1].end()
	pass(all[:1], 2*testLease)
	if m := all[0].memberOf(t, "n1"); !m.Gone {
		t.Fatal("it is not gone")
	}
	since := all[0].memberOf(t, "n1").Since
	pass(all[:1], testForget+testLease)
	if m := all[0].memberOf(t, "n1"); m != nil {
		t.Fatalf("it is not forgotten: %+v", m)
	}
	if _, err := all[1].log.Append(t.Context(), []index.Op{put(message("m"))}); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("a node that is forgotten writes: %v", err)
	}
	beats.Cut("n1", false)
	all[1].keep(t, beats) // and joins again as a new one
	pass(all, testLease)
	if m := all[0].memberOf(t, "n1"); m == nil || m.Gone || m.Missed != 0 || m.Since == since || !m.GoneAt.IsZero() {
		t.Errorf("%+v", m)
	}
}

// TestKeeper_ForgottenByAnotherProcess checks that a node is forgotten although no process has seen it be gone for so
// long.
func TestKeeper_ForgottenByAnotherProcess(t *testing.T) {
	all, beats := keepNodes(t, journaltest.NewStream(), 2)
	pass(all, testLease)
	beats.Cut("n1", true)
	all[1].end()
	pass(all[:1], 2*testLease)
	for _, left := range []time.Duration{testForget / 2, testForget} {
		all[0].end()
		gone := all[0].memberOf(t, "n1")
		if gone == nil || !gone.Gone {
			t.Fatalf("it is not gone: %+v", gone)
		}
		later := clocktest.New()
		later.Shift(gone.GoneAt.Add(left).Sub(later.Now()))
		all[0].keepFrom(t, beats, later)
		pass(all[:1], testLease)
	}
	if m := all[0].memberOf(t, "n1"); m != nil {
		t.Errorf("it is not forgotten: %+v", m)
	}
	all[1].keep(t, beats) // which its cleanup ends
}

// TestKeeper_ClockSetForward checks that a node is not forgotten because the clock of another one is set.
func TestKeeper_ClockSetForward(t *testing.T) {
	all, beats := keepNodes(t, journaltest.NewStream(), 2)
	pass(all, testLease)
	beats.Cut("n1", true)
	all[1].end()
	pass(all[:1], 2*testLease)
	all[0].clock.Shift(2 * testForget)
	pass(all[:1], testLease)
	if m := all[0].memberOf(t, "n1"); m == nil || !m.Gone {
		t.Errorf("%+v", m)
	}
	pass(all[:1], testForget)
	if m := all[0].memberOf(t, "n1"); m != nil {
		t.Errorf("it is not forgotten: %+v", m)
	}
	all[1].keep(t, beats) // which its cleanup ends
}

// TestKeeper_BeatsMeanwhile checks that a node is heard while it waits for the log.
func TestKeeper_BeatsMeanwhile(t *testing.T) {
	s := journaltest.NewStream()
	all, beats := keepNodes(t, s, 2)
	pass(all, testLease)
	heard := make(chan struct{}, 100)
	stop, err := beats.Of("n2").Receive(func(data []byte) {
		var b Beat
		if json.Unmarshal(data, &b) == nil && b.Node == "n0" {
			heard <- struct{}{}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	beats.Cut("n1", true)
	s.Break(func(data []byte) error {
		if e, err := decodeEntry(data, EntryFormat); err != nil || len(e.Calls) == 0 || e.Calls[0][0].Leave == nil {
			return nil
		}
		for len(heard) > 0 {
			<-heard
		}
		select {
		case <-heard:
		case <-time.After(testLease * 3 / 4):
			t.Error("it is silent while it waits")
		}
		return nil
	})
	pass(all[:1], 2*testLease)
	s.Break(nil)
	if m := all[0].memberOf(t, "n1"); !m.Gone {
		t.Error("it is not gone")
	}
	beats.Cut("n1", false)
	pass(all, testLease)
}

// sendBeat sends a beat as its node would.
func sendBeat(t *testing.T, beats *journaltest.Beats, b Beat) {
	t.Helper()
	data, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := beats.Of(b.Node).Send(data); err != nil {
		t.Fatal(err)
	}
}

func TestKeeper_IndexThatDiffers(t *testing.T) {
	all, beats := keepNodes(t, journaltest.NewStream(), 3)
	pass(all, testLease)
	apply(t, all[0].log, put(message("m")))
	for _, k := range all {
		k.memberOf(t, k.name)
	}
	position, sum := all[0].log.lastSum()
	say := func(node string, sum []byte) { sendBeat(t, beats, Beat{Node: node, Position: position, Sum: sum}) }
	members, err := all[0].log.index.Members()
	if err != nil {
		t.Fatal(err)
	}
	other := make([]byte, len(sum))
	say("n1", sum)
	say("n2", other)
	if all[0].keeper.differs(members) {
		t.Error("one of two others differs, and this one is to halt")
	}
	say("n1", other)
	if !all[0].keeper.differs(members) {
		t.Error("both others differ, and this one is to go on")
	}
	all[0].tick(testLease / beatsPerLease)
	if err := all[0].log.failure(); !errors.Is(err, errDiffers) || !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("it goes on: %v", err)
	}
}
