package index

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4/y"
)

// Badger drops the error of a block whose checksum is wrong: a read does not find what was in the block, and a
// compaction writes a table without it. (badger v4.9.6: level_handler.go, table/iterator.go) But it words that error
// first, by the Error method of a variable of its package y. So a mismatch can be noticed at the moment at which it
// happens: reads throw away what they found, and a compaction stops before it replaces anything.
//
// TestBlockDamagedUnderARunningIndex and TestBlockDamagedBeforeACompaction fail where an update of Badger ends this.

// mismatches counts the blocks with a wrong checksum that Badger met in this process.
var mismatches atomic.Uint64

// stopped tells that a compaction met one and was stopped, or that Badger met a table that was cut: it cannot be closed
// any more.
var stopped atomic.Bool

// mismatch takes the place of y.ErrChecksumMismatch.
type mismatch struct{}

func (mismatch) Error() string {
	mismatches.Add(1)
	openIndexes.notify()
	if inCompaction() {
		stopped.Store(true)
		select {} // for good: the index fails, and a new process finds the block before it opens the index
	}
	return "checksum mismatch"
}

func init() { y.ErrChecksumMismatch = mismatch{} }

// inCompaction tells whether the calling goroutine is one of Badger's that compact tables.
func inCompaction() bool {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		frame, more := frames.Next()
		if strings.Contains(frame.Function, "(*levelsController).subcompact") {
			return true
		}
		if !more {
			return false
		}
	}
}

// openIndexes are those of this process: one, but in tests.
var openIndexes = &indexSet{all: map[*Index]bool{}}

type indexSet struct {
	mu  sync.Mutex
	all map[*Index]bool
}

func (s *indexSet) add(x *Index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[x] = true
}

func (s *indexSet) remove(x *Index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, x)
}

// notify has every index look for the damage.
func (s *indexSet) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.all {
		select {
		case x.suspect <- struct{}{}:
		default:
		}
	}
}
