package journal

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// closedNode opens the index of a node that is stopped.
func closedNode(t *testing.T, n *node) *index.Index {
	t.Helper()
	x, err := index.Open(t.Context(), index.Options{Path: n.path})
	if err == nil {
		err = x.Follow(t.Context(), "log", n.name)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func TestCatchUp(t *testing.T) {
	s := journaltest.NewStream()
	nodes := startNodes(t, s, 2)
	behind := nodes[1]
	behind.stop(t)
	for i := range 2 * maxCatchUp {
		apply(t, nodes[0].log, put(message(fmt.Sprint("m", i))))
	}
	want := nodes[0].log.index.Log()
	x := closedNode(t, behind)
	var tries int
	s.Break(func([]byte) error {
		if tries++; tries < 3 {
			return errors.New("no leader")
		}
		return nil
	})
	if err := CatchUp(t.Context(), x, s, behind.name); err != nil {
		t.Fatal(err)
	}
	if got := x.Log(); got != want || tries != 3 {
		t.Errorf("it is at entry %d, want %d, after %d tries", got.Position, want.Position, tries)
	}
	if err := CatchUp(t.Context(), x, s, behind.name); err != nil || x.Log() != want {
		t.Errorf("again: %v, at entry %d", err, x.Log().Position)
	}
	nodes[0].stop(t)
	if _, err := LastFormat(t.Context(), s, index.OldestOpFormat); !errors.Is(err, index.ErrNewer) {
		t.Errorf("an older version reads the log after it: %v", err)
	}

	t.Run("no answer", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s.Break(func([]byte) error {
			cancel()
			return errors.New("no leader")
		})
		if err := CatchUp(ctx, x, s, behind.name); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		s.Break(nil)
	})
	t.Run("an entry of a newer version", func(t *testing.T) {
		s.Publish(t.Context(), []byte{magic, 255}, func(error) {})
		if err := CatchUp(t.Context(), x, s, behind.name); !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	})
	t.Run("trimmed", func(t *testing.T) {
		if err := s.Trim(t.Context(), s.Len()); err != nil {
			t.Fatal(err)
		}
		if err := CatchUp(t.Context(), x, s, behind.name); !errors.Is(err, ErrTrimmed) {
			t.Errorf("%v", err)
		}
	})
}
