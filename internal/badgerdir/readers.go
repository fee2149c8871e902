package badgerdir

import "sync"

// readers counts the reads under way by the version that they see. The committer never waits for them: it asks for the
// oldest, and has Badger keep what that needs.
type readers struct {
	mu     sync.Mutex
	open   map[uint64]int
	closed bool
	idle   chan struct{} // closed when the last read leaves; nil while nobody waits for that
}

// enter begins a read at the version that newest returns; ok is false once the index is closed.
func (r *readers) enter(newest func() uint64) (version uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, false
	}
	if r.open == nil {
		r.open = map[uint64]int{}
	}
	version = newest()
	r.open[version]++
	return version, true
}

func (r *readers) leave(version uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[version]--; r.open[version] == 0 {
		delete(r.open, version)
	}
	if len(r.open) == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// oldest is the lowest version that a read sees, or newest where there is none below it.
func (r *readers) oldest(newest uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for version := range r.open {
		newest = min(newest, version)
	}
	return newest
}

// close lets no further read in and waits for those under way.
func (r *readers) close() {
	r.mu.Lock()
	r.closed = true
	if len(r.open) == 0 {
		r.mu.Unlock()
		return
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	<-idle
}
