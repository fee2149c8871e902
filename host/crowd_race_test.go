//go:build race

package host_test

// crowd is how many call at once: the race detector follows 8,128 goroutines at most.
const crowd = 6_000
