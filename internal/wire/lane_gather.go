package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

// Callers who were answered together call again together, some tens of microseconds later. Their calls are to be in one
// commit: two callers whose calls are committed one by one wait for two syncs each. So the reader of a lane that has
// seen several writes under way together waits a moment for as many before it begins the next. One caller alone, and
// many who always leave something under way, never wait. (bench speed: 2 to 16 callers index 1.1 to 1.5 times as many
// messages.)
const (
	maxGather      = 120 * time.Microsecond // about half of a sync
	maxGatherCalls = 16                     // more come together by themselves
	maxGatherSkips = 64
)

// gathering is how the reader of a lane waits for calls. It belongs to the reader.
type gathering struct {
	expected int // calls
	together int // most calls under way at once since there were none
	skips    int // so many times it does not wait, because waiting was in vain
	missed   int // how often in a row
}

// begun records that a call started. underWay counts the calls under way, including this one.
func (g *gathering) begun(underWay int) {
	if underWay > 1 {
		g.together = max(g.together, underWay)
		return
	}
	g.expect(g.together)
	g.together = 1
}

// expect sets how many calls the reader waits for next time.
func (g *gathering) expect(calls int) {
	switch {
	case calls < 2:
		g.expected = 1
	case g.skips > 0:
		g.skips--
	default:
		g.expected = min(calls, maxGatherCalls)
	}
}

// got records how many calls arrived while the reader waited.
func (g *gathering) got(calls int) {
	if calls >= g.expected {
		g.missed = 0
		return
	}
	g.expected = 1
	g.missed++
	g.skips = min(1<<g.missed, maxGatherSkips)
}

// gather reads until as many calls are there as were under way together before, for maxGather at most.
func (l *laneServer) gather() error {
	deadline := time.Now().Add(maxGather)
	for l.in.complete() < l.gathering.expected && l.readable(time.Until(deadline)) {
		if err := l.in.fill(); err != nil {
			return err
		}
	}
	l.gathering.got(l.in.complete())
	return nil
}

// readable tells whether there is something to read, or whether there is within a time.
func (l *laneServer) readable(within time.Duration) (ready bool) {
	within = max(within, 0)
	err := l.raw.Read(func(fd uintptr) bool {
		wait := unix.NsecToTimespec(within.Nanoseconds())
		n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, &wait, nil)
		ready = n == 1 && err == nil
		return true
	})
	return ready && err == nil
}
