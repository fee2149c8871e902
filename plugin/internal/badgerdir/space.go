package index

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/chat-recall/recall/shared"
)

// ErrDiskFull says that the disk is nearly full, so this was not written. It is not shared.ErrUnavailable, after
// which a host would wait for another process: one more would find no more room.
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

// Free disk asked for, in memtables. To commit: two logs of twice a memtable, their tables, a compaction of some, and
// more than what a second of writing at full rate adds between two looks. To open: the tables of the logs that a
// crash left; less, so that an index still answers reads on a disk too full for writes.
const (
	memtablesToCommit = 16
	memtablesToOpen   = 4
)

func newDiskGuard(path string, need int64) diskGuard {
	return diskGuard{path: path, need: uint64(need), free: freeBytes, now: time.Now}
}

// check looks at the disk at most once a second.
func (g *diskGuard) check() error {
	now := g.now()
	if since := now.Sub(g.checked); since >= 0 && since < time.Second {
		return g.err
	}
	g.checked, g.err = now, g.look()
	return g.err
}

// look is check, each time.
func (g *diskGuard) look() error {
	switch free, err := g.free(g.path); {
	case err != nil:
		return fmt.Errorf("%w: free space of %s: %w", shared.ErrUnavailable, g.path, err)
	case free < g.need:
		return fmt.Errorf("%w: %d MiB free in %s, at least %d needed; make room", ErrDiskFull, free>>20, g.path, g.need>>20)
	}
	return nil
}

// CheckRoom tells, as ErrDiskFull, that the disk of an index has too little room to open it for writing. A folder
// that is not there yet has room.
func CheckRoom(path string) error {
	g := newDiskGuard(path, memtablesToOpen*defaultMemtableBytes)
	if err := g.check(); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Held tells whether a process holds the index in a folder.
func Held(path string) bool {
	folder, err := os.Open(path)
	if err != nil {
		return false
	}
	defer folder.Close()
	return errors.Is(syscall.Flock(int(folder.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

func freeBytes(path string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}
