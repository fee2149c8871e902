package badgerdir

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/chat-recall/recall/shared"
)

// ErrDiskFull says that the disk is nearly full and nothing was written. It is not [shared.ErrUnavailable], after which
// a host would wait for another process: that would find no more free space.
var ErrDiskFull = errors.New("disk nearly full")

// spaceGuard refuses commits while the disk is nearly full. Badger's log is a sparse file mapped into memory: writing a
// page of it for which the disk has no block raises SIGBUS, which ends the process.
type spaceGuard struct {
	path string
	need uint64 // bytes

	free func(path string) (uint64, error)
	now  func() time.Time

	checked time.Time
	err     error
}

// The free space that is required, in memtables. To commit: two logs of twice a memtable, their tables, a compaction of
// some, and more than a second of writes at full rate adds between two checks. To open: the tables of the logs that a
// crash left. That is less, so that a database still answers reads on a disk too full for writes.
const (
	memtablesToCommit = 16
	memtablesToOpen   = 4
)

func newSpaceGuard(path string, need int64) spaceGuard {
	return spaceGuard{path: path, need: uint64(need), free: freeBytes, now: time.Now}
}

// check looks at the disk at most once a second.
func (g *spaceGuard) check() error {
	now := g.now()
	if since := now.Sub(g.checked); since >= 0 && since < time.Second {
		return g.err
	}
	g.checked, g.err = now, g.look()
	return g.err
}

// look is check without the limit.
func (g *spaceGuard) look() error {
	switch free, err := g.free(g.path); {
	case err != nil:
		return fmt.Errorf("%w: free space of %s: %w", shared.ErrUnavailable, g.path, err)
	case free < g.need:
		return fmt.Errorf("%w: %d MiB free in %s, at least %d needed; free some space", ErrDiskFull,
			free>>20, g.path, g.need>>20)
	}
	return nil
}

// CheckSpace returns [ErrDiskFull] if the disk has too little free space to open a database for writing. A folder that
// does not exist yet passes.
func CheckSpace(path string, memtableBytes int64) error {
	g := newSpaceGuard(path, memtablesToOpen*memtableBytes)
	if err := g.check(); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func freeBytes(path string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}
