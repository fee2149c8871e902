package service

import (
	"sync"

	"github.com/chat-recall/recall/shared"
)

// unsent is deliveries that wait for a consumer to take them. They are gathered while it is busy with earlier ones.
type unsent struct {
	mu     sync.Mutex
	some   sync.Cond // of mu: there are events, or it is closed
	events []shared.Event
	bytes  int64
	closed bool
}

func newUnsent() *unsent {
	u := &unsent{}
	u.some.L = &u.mu
	return u
}

func (u *unsent) add(events []shared.Event, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.events, u.bytes = append(u.events, events...), u.bytes+bytes
	u.some.Signal()
}

// take waits for events and takes all that there are; none once it is closed.
func (u *unsent) take() (events []shared.Event, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.events) == 0 && !u.closed {
		u.some.Wait()
	}
	events, bytes = u.events, u.bytes
	u.events, u.bytes = nil, 0
	return events, bytes
}

// close ends it and returns the bytes of what was not taken.
func (u *unsent) close() (bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	bytes = u.bytes
	u.events, u.bytes, u.closed = nil, 0, true
	u.some.Signal()
	return bytes
}
