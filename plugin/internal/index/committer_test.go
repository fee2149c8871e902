package index

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// held is a committer that waits in the middle of a commit.
type held struct {
	x    *Index
	gate chan struct{}
	done chan struct{}
}

// hold stops the committer of an index in a commit of its own making.
func hold(x *Index) *held {
	h := &held{x: x, gate: make(chan struct{}), done: make(chan struct{})}
	entered := make(chan struct{})
	x.OnOpen(func(string) {
		x.OnOpen(func(string) {})
		close(entered)
		<-h.gate
	})
	go func() {
		defer close(h.done)
		_, _ = x.Append(context.Background(), []Op{recall("hold", message("hold"), "hold")})
	}()
	<-entered
	return h
}

// untilQueued returns when so many calls wait.
func (h *held) untilQueued(t *testing.T, calls int) {
	t.Helper()
	for h.x.Stats().QueueCalls < calls {
		runtime.Gosched()
	}
}

func (h *held) release() {
	close(h.gate)
	<-h.done
}

var _ = badger.ErrTxnTooBig
var _ = time.Now
