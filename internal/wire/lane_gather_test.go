package wire

import (
	"context"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
)

func TestLane_GathersCalls(t *testing.T) {
	t.Run("one caller never waits", func(t *testing.T) {
		var g gathering
		for range 10 {
			if g.begun(1); g.expected > 1 {
				t.Fatalf("waits for %d calls", g.expected)
			}
		}
	})
	t.Run("as many as were under way together", func(t *testing.T) {
		var g gathering
		for n := range 4 {
			g.begun(n + 1)
		}
		if g.begun(1); g.expected != 4 {
			t.Errorf("waits for %d calls, want 4", g.expected)
		}
		if g.got(4); g.expected != 4 {
			t.Errorf("waits for %d calls after 4 came", g.expected)
		}
	})
	t.Run("bounded", func(t *testing.T) {
		var g gathering
		g.begun(1000)
		if g.begun(1); g.expected != maxGatherCalls {
			t.Errorf("waits for %d calls", g.expected)
		}
	})
	t.Run("in vain", func(t *testing.T) {
		var g gathering
		waits := 0
		for range 1000 {
			g.expect(2)
			if g.expected > 1 {
				waits++
				g.got(1)
			}
		}
		if waits < 2 || waits > 25 {
			t.Errorf("waited %d times of 1,000 in vain", waits)
		}
		g.expected = 2
		g.got(2)
		if g.missed != 0 {
			t.Error("remembers what it missed after it did not")
		}
	})
}

// meetingPlugin has a second call come while it commits the first one.
type meetingPlugin struct {
	Plugin
	during func()
}

func (p *meetingPlugin) IndexThen(_ context.Context, msgs []shared.Message, _ bool,
	then func([]shared.IndexResult, error)) {
	if p.during != nil {
		p.during()
		p.during = nil
	}
	then([]shared.IndexResult{{MessageID: msgs[0].ID, Status: shared.IndexAdded}}, nil)
}

func (p *meetingPlugin) RecallThen(context.Context, shared.RecallRequest, bool, func([]shared.RecallResult, error)) {
}

func TestLane_CallThatWaitedForACommit(t *testing.T) {
	host, plugin := laneEnds(t)
	frame := func(id uint64) []byte { return indexFrame(t, id) }
	impl := &meetingPlugin{during: func() { _, _ = host.Write(frame(2)) }}
	ended := make(chan error, 1)
	go func() { ended <- newRecallServer(impl).serveLane(plugin) }()
	if _, err := host.Write(frame(1)); err != nil {
		t.Fatal(err)
	}
	in := &laneReader{conn: host, limit: maxLaneAnswer}
	_ = host.SetReadDeadline(time.Now().Add(10 * time.Second))
	for answered := 0; answered < 5; {
		f, size, err := in.frame()
		if err != nil {
			t.Fatal(err)
		}
		if size == 0 {
			if err := in.fill(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		in.skip(size)
		if answered++; f.kind != laneAnswer {
			t.Errorf("answer %d is of kind %d: %q", answered, f.kind, f.payload)
		}
		if answered == 2 { // the reader waits for company now, and gets part of it late
			late := frame(5)
			_, _ = host.Write(append(append(frame(3), frame(4)...), late[:9]...))
			_, _ = host.Write(late[9:])
		}
	}
	host.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
