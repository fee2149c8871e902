package wire

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// No task waits for another one.
func TestLaneWorkers_SideBySide(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	w := newLaneWorkers(ctx.Done())
	var tasks sync.WaitGroup
	var done atomic.Int32
	held := make(chan struct{})
	const many = 3 * maxSpareWorkers
	tasks.Add(many)
	for range many {
		w.do(func() {
			defer tasks.Done()
			<-held
			done.Add(1)
		})
	}
	close(held)
	tasks.Wait()
	if n := done.Load(); n != many {
		t.Errorf("%d tasks were carried out", n)
	}
	end()
	w.all.Wait()
}

// Tasks one after the other run in goroutines that carried out others before.
func TestLaneWorkers_Kept(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	w := newLaneWorkers(ctx.Done())
	const many = 10 * maxSpareWorkers
	ran := map[string]bool{} // by goroutine
	for range many {
		done := make(chan struct{})
		w.do(func() {
			defer close(done)
			trace := make([]byte, 64) // it begins with "goroutine 7 [running]:"
			name, _, _ := bytes.Cut(trace[:runtime.Stack(trace, false)], []byte(" ["))
			ran[string(name)] = true
		})
		<-done
	}
	if len(ran) > many/2 {
		t.Errorf("%d tasks ran in %d goroutines", many, len(ran))
	}
	end()
	w.all.Wait()
}
