package index

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Badger maps its log into memory, as a sparse file: a page of it that finds no room on the disk is no error but a
// SIGBUS, which ends the process. So the index has the disk set the room of a log aside before Badger writes to it:
// that of the log in use when it was opened, and from then on that of the one after it, in an empty file under its
// name.

const keepSize = 0x1 // FALLOC_FL_KEEP_SIZE, <linux/falloc.h>

// allocate sets room aside for the first bytes of a file, whose size stays. File systems that cannot do it answer
// EOPNOTSUPP.
func allocate(f *os.File, bytes int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), keepSize, 0, bytes)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// reserveFirstLog sets room aside for the log that Badger has just made, and for the next.
func (x *Index) reserveFirstLog() error {
	names, _, err := x.logs()
	if err != nil || len(names) == 0 {
		return err
	}
	path := filepath.Join(x.path, slices.Max(names))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	switch err := allocate(f, x.logBytes()); {
	case errors.Is(err, syscall.EOPNOTSUPP):
		x.log.Warn("the file system of the index cannot set room aside: where another program fills the disk within a second, the "+
			"plugin dies and is started again", "path", x.path)
		return nil
	case err != nil:
		return fmt.Errorf("set room aside for the log %s: %w", path, err)
	}
	x.logInUse = path
	return x.reserveLog()
}

// logBytes is the size that Badger gives a log.
func (x *Index) logBytes() int64 { return 2 * x.memtable }

// reserveNextLog makes an empty file, with its room, where Badger will put the log after the one of this path.
func (x *Index) reserveNextLog(after string) error {
	id, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(after), ".mem"), 10, 64)
	if err != nil {
		return fmt.Errorf("name the log after %s: %w", after, err)
	}
	path := filepath.Join(x.path, fmt.Sprintf("%05d.mem", id+1))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("set room aside for the log %s: %w", path, err)
	}
	if err := allocate(f, x.logBytes()); err != nil {
		return errors.Join(fmt.Errorf("set room aside for the log %s: %w", path, err), f.Close(), os.Remove(path))
	}
	x.nextLog = f
	return nil
}

// reserveLog is called before each commit: where Badger has begun the log that room was set aside for, it sets room
// aside for the next. It fails with ErrDiskFull where there is none: the commit may need it. It fails the index where
// the log in use is gone.
func (x *Index) reserveLog() error {
	if x.nextLog != nil {
		info, err := x.nextLog.Stat()
		if err != nil {
			return err
		}
		if info.Size() == 0 {
			if _, err := os.Stat(x.logInUse); errors.Is(err, os.ErrNotExist) {
				x.fail(damaged(filepath.Base(x.logInUse), -1, "it was moved or removed while it was in use"))
			}
			return x.failure()
		}
		x.logInUse = x.nextLog.Name()
		_ = x.nextLog.Close()
		x.nextLog = nil
	}
	if x.logInUse == "" {
		return nil
	}
	err := x.reserveNextLog(x.logInUse)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w; make room", ErrDiskFull, err)
	}
	return err
}

// releaseLog gives back the room of the next log.
func (x *Index) releaseLog() error {
	if x.nextLog == nil {
		return nil
	}
	info, err := x.nextLog.Stat()
	if err == nil && info.Size() == 0 {
		err = os.Remove(x.nextLog.Name())
	}
	return errors.Join(err, x.nextLog.Close())
}
