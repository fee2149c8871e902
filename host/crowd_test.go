//go:build !race

package host_test

// crowd is how many call at once.
const crowd = 10_000
