package host

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/wire"
)

func TestProgress(t *testing.T) {
	first, second := &process{}, &process{}
	start := time.Now()
	type answer struct {
		after time.Duration
		by    *process
		wire.Health
		hung bool
	}
	for name, answers := range map[string][]answer{
		"idle": {
			{0, first, wire.Health{Done: 7}, false}, {time.Hour, first, wire.Health{Done: 7}, false},
		},
		"busy": {
			{0, first, wire.Health{Waiting: 500, Done: 7}, false}, {7 * time.Second, first,
				wire.Health{Waiting: 500, Done: 8}, false},
			{14 * time.Second, first, wire.Health{Waiting: 500, Done: 9}, false},
		},
		"stuck": {
			{0, first, wire.Health{Waiting: 1, Done: 7}, false}, {7 * time.Second, first, wire.Health{Waiting: 3, Done: 7},
				false},
			{8 * time.Second, first, wire.Health{Waiting: 9, Done: 7}, true},
		},
		"stuck after it was idle for long": {
			{0, first, wire.Health{Done: 7}, false}, {time.Hour, first, wire.Health{Done: 7}, false},
			{time.Hour + 2*time.Second, first, wire.Health{Waiting: 1, Done: 7}, false},
			{time.Hour + 9*time.Second, first, wire.Health{Waiting: 1, Done: 7}, true},
		},
		"another process": {
			{0, first, wire.Health{Waiting: 1}, false}, {9 * time.Second, second, wire.Health{Waiting: 1}, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var g progress
			for i, a := range answers {
				if err := g.healthy(a.by, a.Health, start.Add(a.after)); (err != nil) != a.hung {
					t.Errorf("answer %d: %v", i, err)
				}
			}
		})
	}
	var g progress
	if err := g.silent(3); err != nil {
		t.Errorf("other calls were answered: %v", err)
	}
	if err := g.silent(0); err == nil {
		t.Error("nothing was answered")
	}
}

func TestIsStuck(t *testing.T) {
	const every, long = time.Millisecond, 50 * time.Millisecond
	for name, c := range map[string]struct {
		health func(n int) (wire.Health, error) // the n-th answer
		stuck  bool
	}{
		"no progress":     {func(int) (wire.Health, error) { return wire.Health{Done: 7}, nil }, true},
		"no answers":      {func(int) (wire.Health, error) { return wire.Health{}, errors.New("no answer") }, true},
		"progress":        {func(n int) (wire.Health, error) { return wire.Health{Done: uint64(n)}, nil }, false},
		"first, and then": {func(n int) (wire.Health, error) { return wire.Health{Done: uint64(min(n, 10))}, nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			ended, n, began := make(chan struct{}), 0, time.Now()
			var end sync.Once
			stuck := isStuck(ended, func(context.Context) (wire.Health, error) {
				if n++; !c.stuck && time.Since(began) > 3*long {
					end.Do(func() { close(ended) })
				}
				return c.health(n)
			}, every, long)
			if stuck != c.stuck {
				t.Errorf("stuck: %v", stuck)
			}
		})
	}
}
