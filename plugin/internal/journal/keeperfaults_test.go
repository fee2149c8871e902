package journal

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// TestKeeper_OneOfManyDiffers checks that a node does not halt because one other differs while a third one has been
// elsewhere in the log: that one may agree.
func TestKeeper_OneOfManyDiffers(t *testing.T) {
	all, beats := keepNodes(t, journaltest.NewStream(), 3)
	pass(all, testLease)
	apply(t, all[0].log, put(message("m")))
	for _, k := range all {
		k.memberOf(t, k.name)
	}
	position, sum := all[0].log.lastSum()
	say := func(node string, position uint64, sum []byte) {
		sendBeat(t, beats, Beat{Node: node, Position: position, Sum: sum})
	}
	members, err := all[0].log.index.Members()
	if err != nil {
		t.Fatal(err)
	}
	say("n1", position+10, sum) // it is ahead
	say("n2", position, make([]byte, len(sum)))
	if all[0].keeper.differs(members) {
		t.Error("one of two others differs, nobody knows of the other one, and this one is to halt")
	}
}

// TestKeeper_Replaced checks that a process that is not its node any more does not speak for it.
func TestKeeper_Replaced(t *testing.T) {
	s := journaltest.NewStream()
	all, _ := keepNodes(t, s, 2)
	pass(all, testLease)
	second := &node{name: "n1", path: t.TempDir()} // as of a cloned machine
	second.start(t, s)
	defer second.stop(t)
	all[1].memberOf(t, "n1")
	all[1].tick(testLease / beatsPerLease)
	if err := all[1].log.failure(); !errors.Is(err, ErrReplaced) {
		t.Errorf("it goes on: %v", err)
	}
}

// TestKeeper_JoinThatWasCutShort checks that a node ends a Join of which it could write a part only.
func TestKeeper_JoinThatWasCutShort(t *testing.T) {
	s := journaltest.NewStream()
	all, _ := keepNodes(t, s, 2)
	pass(all, testLease)
	for _, k := range all { // nobody has history
		if _, err := k.log.Join(t.Context(), index.Member{
			Node: k.name, Instance: k.name, Format: EntryFormat, EachNode: []string{shared.StepNotify},
		}); err != nil {
			t.Fatal(err)
		}
	}
	const recalls = 450
	for i := range recalls {
		id := fmt.Sprint("m", i)
		apply(t, all[0].log, put(message(id)), recall(id, message(id), shared.StepHistory))
	}
	self := all[1].keeper.Self
	self.Steps = []string{shared.StepHistory}
	all[1].keeper.Self = self
	ctx, cancel := context.WithCancel(t.Context())
	sent := 0
	s.Break(func([]byte) error {
		if sent++; sent <= 2 { // a barrier, and the first part
			return nil
		}
		cancel()
		return errors.New("no quorum")
	})
	if _, err := all[1].log.Join(ctx, self); err == nil {
		t.Fatal("it has joined")
	}
	s.Break(nil)
	all[1].tick(testLease / beatsPerLease)
	all[1].memberOf(t, "n1")
	open, err := all[1].log.index.OpenSteps(t.Context(), shared.StepHistory, 0, 1000)
	if err != nil || len(open) != recalls {
		t.Errorf("%d of %d steps that nobody had are open on the node that has them: %v", len(open), recalls, err)
	}
}

// TestKeeper_ServerThatIsCutOff checks that a node does not say that others are gone once its server is back: what it
// writes while that is cut off is in the log then.
func TestKeeper_ServerThatIsCutOff(t *testing.T) {
	s := journaltest.NewStream()
	all, beats := keepNodes(t, s, 2)
	pass(all, testLease)
	all[0].end()
	all[0].stop(t)
	all[0].patience = 200 * time.Millisecond
	all[0].start(t, s)
	all[0].keep(t, beats)
	pass(all, testLease)
	before := all[1].memberOf(t, "n1").Epoch
	beats.Deafen("n0", true)
	s.Break(func(data []byte) error {
		if e, err := decodeEntry(data, EntryFormat); err != nil || e.Node == "n0" {
			return errors.New("no quorum")
		}
		return nil
	})
	pass(all, 2*testLease)
	s.Break(nil)
	beats.Deafen("n0", false)
	for all[0].log.isWaiting() { // whatever it wrote
		s.Pause()
	}
	pass(all, testLease)
	if m := all[1].memberOf(t, "n1"); m.Gone || m.Epoch != before {
		t.Errorf("a node that lived was said to be gone: %+v", m)
	}
}
