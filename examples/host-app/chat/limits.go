package chat

import (
	"fmt"
	"net"
	"net/http"
	"syscall"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/semaphore"
)

// ownDescriptors are kept back for the plugin, the stores, uploads and the log.
const ownDescriptors = 64

// limits are how many connections the server has at once, and how many of them may be streams, which stay. They
// follow from the descriptors that the process may open (ulimit -n).
type limits struct {
	connections int
	streams     *semaphore.Weighted
	maxStreams  int64
}

// streamRetry is after how many seconds a client that found no room for its stream should ask again.
const streamRetry = "10"

func limitsOfProcess() (*limits, error) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return nil, fmt.Errorf("read the limit of open files: %w", err)
	}
	if files.Cur < 2*ownDescriptors {
		return nil, fmt.Errorf("%d open files are too few; allow %d or more (ulimit -n)", files.Cur, 2*ownDescriptors)
	}
	return newLimits(int(min(files.Cur, 1<<16)) - ownDescriptors), nil
}

func newLimits(connections int) *limits {
	streams := int64(connections) * 2 / 3 // the others are for requests
	return &limits{connections: connections, streams: semaphore.NewWeighted(streams), maxStreams: streams}
}

// listen makes connections beyond the limit wait until one ends.
func (l *limits) listen(from net.Listener) net.Listener {
	return netutil.LimitListener(from, l.connections)
}

// stream takes a place for a stream; leave gives it back. Without one the connection ends with the answer, and its
// descriptor is free.
func (l *limits) stream(w http.ResponseWriter) (leave func(), err error) {
	if !l.streams.TryAcquire(1) {
		w.Header().Set("Retry-After", streamRetry)
		w.Header().Set("Connection", "close")
		return nil, refuse(http.StatusServiceUnavailable, "%d streams are open, at most %d; try again in %s seconds",
			l.maxStreams, l.maxStreams, streamRetry)
	}
	return func() { l.streams.Release(1) }, nil
}
