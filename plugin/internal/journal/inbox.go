package journal

import (
	"sync"

	"github.com/chat-recall/recall/internal/index"
)

const (
	// maxInboxBytes bounds what is read of the stream and not applied. More would let reads of the index wait for longer.
	maxInboxBytes = 2 << 20

	// maxApplied is how many entries are applied together at most.
	maxApplied = 256
)

// inbox holds the entries of the stream that are to be applied.
type inbox struct {
	mu      sync.Mutex
	changed *sync.Cond
	entries []index.LogEntry
	sizes   []int
	bytes   int
	closed  bool
}

func newInbox() *inbox {
	b := &inbox{}
	b.changed = sync.NewCond(&b.mu)
	return b
}

// put adds an entry of so many bytes. It waits for room, and drops the entry when the inbox is closed.
func (b *inbox) put(e index.LogEntry, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.closed && len(b.entries) > 0 && b.bytes+bytes > maxInboxBytes {
		b.changed.Wait()
	}
	b.entries, b.sizes, b.bytes = append(b.entries, e), append(b.sizes, bytes), b.bytes+bytes
	b.changed.Broadcast()
}

// take waits for entries and returns the first of them; nil once the inbox is closed.
func (b *inbox) take() []index.LogEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.closed && len(b.entries) == 0 {
		b.changed.Wait()
	}
	if b.closed {
		return nil
	}
	n := min(len(b.entries), maxApplied)
	taken := b.entries[:n:n]
	for _, size := range b.sizes[:n] {
		b.bytes -= size
	}
	b.entries, b.sizes = b.entries[n:], b.sizes[n:]
	b.changed.Broadcast()
	return taken
}

// len is how many entries wait.
func (b *inbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.entries)
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.changed.Broadcast()
}
