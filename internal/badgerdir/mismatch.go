package badgerdir

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4/y"
)

// Badger drops the error of a block whose checksum is wrong: a read does not find what was in the block, and a
// compaction writes a table without it. (badger v4.9.6: level_handler.go, table/iterator.go) But it formats that error
// first, with the Error method of a variable of its package y. So a mismatch is noticed when it happens: reads discard
// what they found, and a compaction stops before it replaces anything.
//
// TestGuard_BlockDamagedWhileOpen and TestCompaction_DamagedBlock fail if an update of Badger changes this.

// mismatches counts the blocks with a wrong checksum that Badger met in this process.
var mismatches atomic.Uint64

// stopped says that a compaction met one and was stopped, or that Badger met a table that was cut. Badger then cannot
// be closed any more.
var stopped atomic.Bool

// mismatch replaces y.ErrChecksumMismatch.
type mismatch struct{}

func (mismatch) Error() string {
	mismatches.Add(1)
	openDirs.notify()
	if inCompaction() {
		stopped.Store(true)
		select {} // for good: the database fails, and a new process finds the block before it opens it
	}
	return "checksum mismatch"
}

func init() { y.ErrChecksumMismatch = mismatch{} }

// inCompaction reports whether the calling goroutine is one of Badger's that compact tables.
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

// openDirs are the open databases of this process: one, except in tests.
var openDirs = &dirSet{all: map[*Dir]bool{}}

type dirSet struct {
	mu  sync.Mutex
	all map[*Dir]bool
}

func (s *dirSet) add(d *Dir) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[d] = true
}

func (s *dirSet) remove(d *Dir) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, d)
}

// notify makes every database look for the damage.
func (s *dirSet) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.all {
		select {
		case d.suspect <- struct{}{}:
		default:
		}
	}
}
