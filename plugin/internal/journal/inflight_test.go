package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// silentStream takes entries while it is silent, and neither acknowledges nor hands them over. It keeps what it is to
// call.
type silentStream struct {
	*journaltest.Stream
	mu     sync.Mutex
	silent bool
	done   []func(error)
	data   [][]byte
}

func (s *silentStream) Publish(ctx context.Context, data []byte, done func(error)) {
	s.mu.Lock()
	if s.silent {
		s.done, s.data = append(s.done, done), append(s.data, data)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.Stream.Publish(ctx, data, done)
}

func (s *silentStream) set(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silent
}

func (s *silentStream) taken() (data [][]byte, done []func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data, s.done
}

// TestReplicated_HaltsWithCallsOnTheirWay checks that a log that fails answers what it has sent, and does not leave
// that to Close.
func TestReplicated_HaltsWithCallsOnTheirWay(t *testing.T) {
	s := &silentStream{Stream: journaltest.NewStream()}
	n := startNode(t, s)
	s.set(true)
	answers := make(chan error, 1)
	n.log.AppendThen([]index.Op{put(message("m"))}, false, func(_ []index.Result, err error) { answers <- err })
	for {
		if data, _ := s.taken(); len(data) > 0 {
			break
		}
		s.Pause()
	}
	s.Stream.Publish(t.Context(), []byte("hello"), func(error) {})
	if err := <-answers; !errors.Is(err, index.ErrCorrupt) {
		t.Error(err)
	}
}

// TestReplicated_TooLargeForALaterServer checks that an entry that was taken, and is too large when it is sent again,
// is answered once.
func TestReplicated_TooLargeForALaterServer(t *testing.T) {
	s := &silentStream{Stream: journaltest.NewStream()}
	n := startNode(t, s)
	s.set(true)
	answers := make(chan error, 2)
	n.log.AppendThen([]index.Op{put(message("m"))}, false, func(_ []index.Result, err error) { answers <- err })
	var data [][]byte
	var done []func(error)
	for len(data) == 0 {
		s.Pause()
		data, done = s.taken()
	}
	s.set(false)
	s.Stream.Publish(t.Context(), data[0], func(error) {}) // its acknowledgement is lost
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	done[0](ErrTooLarge)
	apply(t, n.log, put(message("other")))
	n.stop(t)
	select {
	case err := <-answers:
		t.Errorf("it is answered again: %v", err)
	default:
	}
}

// TestReplicated_LateFailures checks that many entries may fail late, also after the log has ended.
func TestReplicated_LateFailures(t *testing.T) {
	s := &silentStream{Stream: journaltest.NewStream()}
	n := startNode(t, s)
	s.set(true)
	const entries = 5 * maxSent
	for i := range entries {
		answered := make(chan error, 1)
		n.log.AppendThen([]index.Op{put(message(fmt.Sprint("m", i)))}, false,
			func(_ []index.Result, err error) { answered <- err })
		var data [][]byte
		for len(data) <= i {
			s.Pause()
			data, _ = s.taken()
		}
		s.Stream.Publish(t.Context(), data[i], func(error) {})
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	}
	_, done := s.taken()
	n.stop(t)
	for _, d := range done { // none of them blocks
		d(shared.ErrUnavailable)
	}
}
