package delivery

import (
	"sync"

	"github.com/chat-recall/recall/shared"
)

// unsent is deliveries that wait for a consumer to take them. They are gathered while it is busy with earlier ones.
type unsent struct {
	mu     sync.Mutex
	some   sync.Cond // of mu: there are deliveries, or it is closed
	list   []shared.Delivery
	bytes  int64
	closed bool
}

func newUnsent() *unsent {
	u := &unsent{}
	u.some.L = &u.mu
	return u
}

func (u *unsent) add(list []shared.Delivery, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.list, u.bytes = append(u.list, list...), u.bytes+bytes
	u.some.Signal()
}

// take waits for deliveries and takes all that there are; none once it is closed.
func (u *unsent) take() (list []shared.Delivery, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.list) == 0 && !u.closed {
		u.some.Wait()
	}
	list, bytes = u.list, u.bytes
	u.list, u.bytes = nil, 0
	return list, bytes
}

// close ends it and returns the bytes of what was not taken.
func (u *unsent) close() (bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	bytes = u.bytes
	u.list, u.bytes, u.closed = nil, 0, true
	u.some.Signal()
	return bytes
}
