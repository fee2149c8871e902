package journal

import (
	"bytes"
	"sync"

	"github.com/chat-recall/recall/internal/index"
)

// sumsKept is how many sums of an index are remembered, for nodes that are behind.
const sumsKept = 4096

// sums are those of the index after the last entries, so that they can be compared with those of other nodes.
type sums struct {
	mu   sync.Mutex
	kept []index.Log // a ring, at position modulo sumsKept
	last index.Log
}

func (s *sums) add(at index.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = make([]index.Log, sumsKept)
	}
	s.kept[at.Position%sumsKept], s.last = at, at
}

// lastSum is the last one.
func (r *Replicated) lastSum() (position uint64, sum []byte) {
	r.sums.mu.Lock()
	defer r.sums.mu.Unlock()
	return r.sums.last.Position, bytes.Clone(r.sums.last.Sum[:])
}

// hadSum reports whether the index had a sum after an entry; known is false where that is not remembered, or to come.
func (r *Replicated) hadSum(position uint64, sum []byte) (same, known bool) {
	r.sums.mu.Lock()
	defer r.sums.mu.Unlock()
	if position == 0 || r.sums.kept == nil {
		return false, false
	}
	at := r.sums.kept[position%sumsKept]
	return bytes.Equal(at.Sum[:], sum), at.Position == position
}
