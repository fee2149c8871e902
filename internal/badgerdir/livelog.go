package badgerdir

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// liveLog is the log that Badger writes commits to. It puts them on disk, and prepares the disk for the next ones:
//
//   - One sync a commit. Badger's WithSyncWrites also syncs its value log, which is empty here, and that flushes the
//     disk's cache a second time (112 µs of 760 in a call of one caller). sync does it once, for the log alone.
//   - Free space. Badger maps its log into memory, as a sparse file: writing a page for which the disk has no block
//     raises SIGBUS, which ends the process. So the blocks of a whole log are allocated before Badger writes to it:
//     those of the log in use when the database is opened, and from then on those of the next one, in an empty file
//     under its name.
//   - Zeroed blocks. After a write to allocated blocks, the file system records in its journal which blocks hold data
//     now, and sync waits for that (328 µs for 3,300 bytes, 195 if the blocks were written before). So zeros are
//     written ahead, between commits.
//   - Nothing else to write. A sync writes whole folios of the page cache: readahead and large writes make folios of up
//     to megabytes (120 KB a commit, 720 µs for 200). And it writes the inode of a file whose times changed: a read
//     changes the atime, and reading the times gives the next write a time of its own (5 KB and 110 µs a commit). So
//     the file is read at random, written page by page, without atime, and never passed to stat.
//
// It is guarded by Dir.writing.
type liveLog struct {
	log  hclog.Logger
	size int64 // that Badger gives a log, in bytes

	file   *os.File // the log in use
	end    int64    // of its last whole transaction
	last   int64    // bytes of that
	zeroed int64    // up to where its blocks are zeroed, or 0

	next   *os.File // the empty file that becomes the next log; nil before it is created
	sparse bool     // the file system cannot allocate blocks ahead
	buf    []byte
}

// openLiveLog takes over the log that Badger has just created in a folder, and allocates its blocks and those of the
// next one. size is the size that Badger gives a log.
func openLiveLog(folder string, size int64, log hclog.Logger) (_ *liveLog, err error) {
	logs, err := filepath.Glob(filepath.Join(folder, "*.mem"))
	if err != nil {
		return nil, err
	}
	if len(logs) == 0 {
		return nil, fmt.Errorf("no log in %s", folder)
	}
	l := &liveLog{log: log, size: size}
	file, err := openLog(slices.MaxFunc(logs, byLogNumber), os.O_RDWR)
	if err != nil {
		return nil, err
	}
	l.use(file)
	if err := errors.Join(l.allocate(l.file), syncFolderOf(l.file.Name()), l.ready()); err != nil {
		return nil, errors.Join(err, l.close())
	}
	if l.sparse {
		l.log.Warn("the file system of the index cannot allocate blocks ahead: if another program fills the disk within a "+
			"second, the plugin dies and is started again", "path", folder)
	}
	return l, nil
}

// logNumber is the number in the name of a log.
func logNumber(name string) (n uint64) {
	_, _ = fmt.Sscanf(filepath.Base(name), "%d.mem", &n)
	return n
}

func byLogNumber(a, b string) int { return cmp.Compare(logNumber(a), logNumber(b)) }

// openLog opens a log without updates of its atime, which only its owner may request.
func openLog(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOATIME, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return os.OpenFile(path, flags, 0o600)
	}
	return f, err
}

// use makes a new log the one in use.
func (l *liveLog) use(file *os.File) {
	l.file, l.end, l.zeroed = file, logHeaderBytes, 0
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_RANDOM) // a failure costs only time
}

// ready is called before each commit. It allocates the next log, which the commit may need, and fails with
// [ErrDiskFull] if the disk has too little space. It fails with [ErrCorrupt] if the log in use is gone.
func (l *liveLog) ready() error {
	if err := unix.Access(l.file.Name(), unix.F_OK); errors.Is(err, os.ErrNotExist) { // unlike stat, it reads no times
		return damaged(filepath.Base(l.file.Name()), -1, "it was moved or removed while it was in use")
	}
	if l.next != nil {
		return nil
	}
	path := filepath.Join(filepath.Dir(l.file.Name()), fmt.Sprintf("%05d.mem", logNumber(l.file.Name())+1))
	next, err := openLog(path, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return fmt.Errorf("create the log %s: %w", path, err)
	}
	if err := errors.Join(l.allocate(next), syncFolderOf(path)); err != nil {
		err = errors.Join(err, next.Close(), os.Remove(path))
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return fmt.Errorf("%w: %w; free some space", ErrDiskFull, err)
		}
		return err
	}
	l.next = next
	return nil
}

const keepSize = 0x1 // FALLOC_FL_KEEP_SIZE, <linux/falloc.h>

// allocate allocates the blocks of a log in a file, whose size stays.
func (l *liveLog) allocate(f *os.File) error {
	err := retryInterrupted(func() error { return syscall.Fallocate(int(f.Fd()), keepSize, 0, l.size) })
	if errors.Is(err, syscall.EOPNOTSUPP) {
		l.sparse = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("allocate the log %s: %w", f.Name(), err)
	}
	return nil
}

// sync is called after each commit and puts it on disk. A commit is in one log: Badger begins the next one only between
// commits. sync fails if the log does not hold the whole commit of this version.
func (l *liveLog) sync(version uint64) error {
	info, err := l.next.Stat()
	if err != nil {
		return err
	}
	if info.Size() > 0 { // Badger has begun it
		if err := l.file.Close(); err != nil {
			return err
		}
		l.use(l.next)
		l.next = nil
	}
	if err := l.follow(version); err != nil {
		return err
	}
	return l.flush()
}

// flush puts on disk what is written of the log in use.
func (l *liveLog) flush() error {
	return os.NewSyscallError("fdatasync "+l.file.Name(), retryInterrupted(func() error {
		return syscall.Fdatasync(int(l.file.Fd()))
	}))
}

func retryInterrupted(do func() error) error {
	for {
		if err := do(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// follow moves end after the transaction of this version, which it reads as the next process would.
func (l *liveLog) follow(version uint64) error {
	data, at, chunk := l.buf[:0], 0, int(pageBytes-l.end%pageBytes)
	defer func() {
		if cap(data) <= maxKeptBytes {
			l.buf = data
		}
	}()
	for {
		e, beyond := parseLogEntry(data[at:])
		switch {
		case beyond && l.end+int64(len(data)) < l.size:
			n := len(data)
			data = slices.Grow(data, chunk)[:n+chunk]
			read, err := l.file.ReadAt(data[n:], l.end+int64(n))
			if data = data[:n+read]; read == 0 {
				return fmt.Errorf("read the log %s: %w", l.file.Name(), err)
			}
			chunk *= 2
		case e.size == 0:
			return damaged(filepath.Base(l.file.Name()), l.end+int64(at), "the commit of version %d is not in it", version)
		default:
			at += e.size
			if e.mark && e.version() == version {
				l.end, l.last = l.end+int64(at), int64(at)
				return nil
			}
		}
	}
}

const (
	zeroChunk = 512 << 10 // written at a time
	zeroAhead = 256 << 10 // zeros are written when less than this is zeroed ahead
	zeroUpTo  = 64 << 10  // not after a larger commit: for one like it, zeros would cost more than they save
	pageBytes = 4 << 10

	maxKeptBytes = 2 << 20 // of the buffer of follow, which grows to the size of a commit
)

var zeroPage [pageBytes]byte

// zero writes zeros where the next commits will be. It is called between commits, and never touches a page that holds a
// part of one.
func (l *liveLog) zero() {
	if l.last > zeroUpTo || l.end+zeroAhead <= l.zeroed {
		return
	}
	from := max(l.zeroed, (l.end+pageBytes-1)/pageBytes*pageBytes)
	to := min(from+zeroChunk, l.size/pageBytes*pageBytes)
	if from >= to {
		return
	}
	var err error
	for at := from; at < to && err == nil; at += pageBytes { // one by one: no large folios
		_, err = l.file.WriteAt(zeroPage[:], at)
	}
	if err == nil {
		err = l.flush()
	}
	if err != nil { // a commit there is slower but as safe; its own sync meets what is wrong with the disk
		l.log.Warn("the log cannot be zeroed ahead", "error", err)
	}
	l.zeroed = to
}

// close frees the blocks of the next log.
func (l *liveLog) close() error {
	err := l.file.Close()
	if l.next == nil {
		return err
	}
	info, statErr := l.next.Stat()
	if statErr == nil && info.Size() == 0 {
		statErr = os.Remove(l.next.Name())
	}
	return errors.Join(err, statErr, l.next.Close())
}
