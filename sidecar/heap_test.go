package main

import (
	"runtime"
	"testing"
)

func TestReserveHeap(t *testing.T) {
	release := reserveHeap()
	defer release()
	runtime.GC()
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.NextGC < 2*heapReserve {
		t.Errorf("the next collection is at %d bytes of heap, want %d or more", m.NextGC, 2*heapReserve)
	}
}
