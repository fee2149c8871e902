package wire

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
)

func TestLaneWorkers(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	w := newLaneWorkers(ctx.Done())
	var tasks sync.WaitGroup
	var done atomic.Int32
	held := make(chan struct{})
	const many = 3 * maxSpareWorkers
	for range many { // none waits for another one
		tasks.Add(1)
		w.do(func() {
			defer tasks.Done()
			<-held
			done.Add(1)
		})
	}
	close(held)
	tasks.Wait()
	for range many {
		tasks.Add(1)
		w.do(func() {
			defer tasks.Done()
			done.Add(1)
		})
	}
	tasks.Wait()
	if n := done.Load(); n != 2*many {
		t.Errorf("%d tasks were carried out", n)
	}
	if n := len(w.spare); n > maxSpareWorkers {
		t.Errorf("%d workers are left", n)
	}
	end()
	w.all.Wait()
}
