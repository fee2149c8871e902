package wire

import (
	"context"
	"errors"
	"io"
	"syscall"
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

// polled is a connection whose polls find something only if the test wrote something before.
type polled struct {
	syscall.RawConn
	polls int
	write func() bool
}

func (p *polled) Read(f func(fd uintptr) bool) error {
	if p.polls++; !p.write() {
		return nil
	}
	return p.RawConn.Read(f)
}

func TestLane_WhenTheReaderWaitsForCompany(t *testing.T) {
	for name, tc := range map[string]struct {
		first   int // calls that are there before the reader begins
		company bool
		then    []int // calls that come after as many answers
		polls   int
		want    gathering
	}{
		"one call":                  {1, false, []int{1}, 1, gathering{expected: 1, together: 1, missed: 3}},
		"one call after the other":  {1, false, []int{1, 1, 1}, 3, gathering{expected: 1, together: 1, missed: 3}},
		"two calls, and no company": {2, false, []int{2}, 2, gathering{expected: 1, together: 1, missed: 4, skips: 16}},
		"two calls, and company": {2, true, []int{3, 1}, 4,
			gathering{expected: 1, together: 1, missed: 1, skips: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			host, plugin := laneEnds(t)
			l, err := newLaneServer(newRecallServer(&meetingPlugin{}), plugin)
			if err != nil {
				t.Fatal(err)
			}
			company := tc.company
			raw := &polled{RawConn: l.raw, write: func() bool {
				if !company {
					return false
				}
				company = false
				write(t, host, indexFrame(t, 99))
				return true
			}}
			l.raw, l.gathering.missed = raw, 3
			for id := range tc.first {
				write(t, host, indexFrame(t, uint64(id)))
			}
			ended := make(chan error, 1)
			go func() { ended <- l.read() }()
			in := &laneReader{conn: host, limit: maxLaneAnswer}
			for i, answers := range tc.then {
				for range answers {
					nextFrame(t, in)
				}
				if i+1 < len(tc.then) {
					write(t, host, indexFrame(t, 100))
				}
			}
			host.Close()
			if err := <-ended; !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			l.end()
			l.out.writers.Wait()
			if raw.polls != tc.polls || l.gathering != tc.want {
				t.Errorf("%d polls, then %+v; want %d, then %+v", raw.polls, l.gathering, tc.polls, tc.want)
			}
		})
	}
}
