package index

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/chat-recall/recall/shared"
)

// ErrDiskFull says that the disk is nearly full, so nothing was written. Errors that are it are also
// shared.ErrUnavailable.
var ErrDiskFull = errors.New("disk nearly full")

// diskGuard keeps the committer from writing to a disk that is nearly full. Badger's log is a sparse file mapped into
// memory: a page of it that finds no room on the disk is no error but a SIGBUS, which ends the process.
type diskGuard struct {
	path string
	need uint64 // bytes

	free func(path string) (uint64, error)
	now  func() time.Time

	checked time.Time
	err     error
}

// newDiskGuard asks for 16 memtables of free disk: two logs of twice a memtable, their tables, a compaction of some,
// and more than what a second of writing at full rate adds between two looks.
func newDiskGuard(path string, memtable uint64) diskGuard {
	return diskGuard{path: path, need: 16 * memtable, free: freeBytes, now: time.Now}
}

// check looks at the disk at most once a second.
func (g *diskGuard) check() error {
	now := g.now()
	if since := now.Sub(g.checked); since >= 0 && since < time.Second {
		return g.err
	}
	g.checked = now
	free, err := g.free(g.path)
	switch {
	case err != nil:
		g.err = fmt.Errorf("%w: free space of %s: %w", shared.ErrUnavailable, g.path, err)
	case free < g.need:
		g.err = fmt.Errorf("%w: %w: %d MiB free in %s, at least %d needed; make room",
			shared.ErrUnavailable, ErrDiskFull, free>>20, g.path, g.need>>20)
	default:
		g.err = nil
	}
	return g.err
}

func freeBytes(path string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}
