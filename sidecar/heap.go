package main

import "runtime"

// heapReserve is what the garbage collector counts as in use from the start. The sidecar itself needs a few MiB, so
// that under load it would collect dozens of times a second, a sixth of its processor time in batches. With the reserve
// it collects once that much again is allocated. Nothing writes to the reserve, so that it takes no memory itself.
const heapReserve = 32 << 20

// reserveHeap allocates the reserve. It is in use until the returned function is called.
func reserveHeap() (release func()) {
	reserve := make([]byte, heapReserve)
	return func() { runtime.KeepAlive(&reserve[0]) }
}
