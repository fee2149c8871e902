package index

import (
	"slices"
	"sync"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// maxRecentBytes bounds the events that are kept in memory, by about what they take.
const maxRecentBytes = 4 << 20

// recentEvents keeps the last recalls as they were committed. Each is read again soon, once to deliver each of its
// steps and once to settle notify; from here that costs none of the three lookups. What changes of an event, the
// state of its steps, is not in it.
type recentEvents struct {
	mu         sync.Mutex
	bySequence map[uint64]*recentEvent
	order      []uint64
	bytes      int
}

// recentEvent is immutable.
type recentEvent struct {
	event shared.Event
	entry *indexpb.Entry
}

func (r *recentEvents) add(events []*recentEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bySequence == nil {
		r.bySequence = map[uint64]*recentEvent{}
	}
	for _, e := range events {
		r.bySequence[e.entry.Sequence] = e
		r.order = append(r.order, e.entry.Sequence)
		r.bytes += EventBytes(&e.event)
	}
	for r.bytes > maxRecentBytes {
		oldest := r.order[0]
		r.order = r.order[1:]
		r.bytes -= EventBytes(&r.bySequence[oldest].event)
		delete(r.bySequence, oldest)
	}
}

// remove removes events that were erased or changed.
func (r *recentEvents) remove(sequences map[uint64]bool) {
	if len(sequences) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.order = slices.DeleteFunc(r.order, func(sequence uint64) bool {
		e := r.bySequence[sequence]
		if !sequences[sequence] {
			return false
		}
		r.bytes -= EventBytes(&e.event)
		delete(r.bySequence, sequence)
		return true
	})
}

// get is nil for an event that is not among the last ones.
func (r *recentEvents) get(sequence uint64) *recentEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bySequence[sequence]
}
