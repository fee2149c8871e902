package index

import (
	"fmt"
	"sync"
	"testing"

	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
	"github.com/chat-recall/recall/shared"
)

func TestFlush_WhileCallsAreApplied(t *testing.T) {
	x := filled(t)
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				m := message(fmt.Sprint("m", c, "-", i))
				if r := apply(t, x, put(m), recall(m.ID, m)); r[0].Put != shared.IndexAdded || !r[1].New {
					t.Errorf("%s: %+v", m.ID, r)
				}
			}
		})
	}
	for round := range 3 {
		for i := range 5 {
			apply(t, x, thousand(fmt.Sprint("more", round, "-", i, "-"))...)
		}
		before := x.dir.Version()
		if err := x.Flush(t.Context(), &turns); err != nil {
			t.Error(err)
		}
		if n := x.dir.Version() - before; n < 30 {
			t.Errorf("%d commits: there was nothing to flush", n)
		}
	}
	close(stop)
	callers.Wait()
}

func TestFlush_KeepsWhatWasApplied(t *testing.T) {
	x := filled(t)
	if err := x.Flush(t.Context(), &turns); err != nil {
		t.Fatal(err)
	}
	apply(t, x, thousand("after")...)
	y := openAt(t, dirtest.Snapshot(t, x.path))
	for _, id := range []string{"filled0-0", "filled4-999", "after0", "after999"} {
		if r, err := y.Messages("acme", []string{id}); err != nil || r[0] == nil {
			t.Errorf("%s after a crash: %v, %v", id, r, err)
		}
	}
}

// filled is an index with something to flush.
func filled(t *testing.T) *Index {
	t.Helper()
	x := openNew(t)
	for i := range 5 {
		apply(t, x, thousand(fmt.Sprint("filled", i, "-"))...)
	}
	return x
}

func thousand(name string) []Op {
	ops := make([]Op, 1000)
	for i := range ops {
		ops[i] = put(message(fmt.Sprint(name, i)))
	}
	return ops
}
