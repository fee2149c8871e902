package badgerdir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// ErrLocked says that another process held the lock for as long as Open waited.
var ErrLocked = errors.New("index is held by another process")

// lockRetry is the interval at which a held lock is tried again. The kernel frees it when its holder dies.
const lockRetry = time.Millisecond

// lockQuiet is how long Open waits for the lock before it logs that it does: longer than any handover takes.
const lockQuiet = time.Second

// folderLock is the lock that Badger would take, on the folder itself. The package takes it, so that nothing in the
// folder is read without it, and because Badger does not wait for it.
type folderLock struct{ folder *os.File }

// lockFolder creates the folder if it does not exist, and waits for its lock until ctx ends.
func lockFolder(ctx context.Context, path string, log hclog.Logger) (*folderLock, error) {
	l, err := openFolder(path)
	if err != nil {
		return nil, err
	}
	pidFile := filepath.Join(path, "LOCK")
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	quiet := time.After(lockQuiet)
	for {
		err := syscall.Flock(int(l.folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil && l.isAt(path) {
			break
		}
		if err == nil { // another folder took its place meanwhile
			l.release()
			if l, err = openFolder(path); err != nil {
				return nil, err
			}
			continue
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			l.release()
			return nil, fmt.Errorf("lock the folder: %w", err)
		}
		select {
		case <-tick.C:
		case <-quiet:
			log.Warn("waiting for the index, another process holds it"+holder(pidFile), "path", path)
		case <-ctx.Done():
			l.release()
			return nil, fmt.Errorf("%w%s: %w; stop it, or name another folder", ErrLocked, holder(pidFile), ctx.Err())
		}
	}
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		l.release()
		return nil, fmt.Errorf("the folder is not writable: %w; give it to the user that runs the plugin", err)
	}
	return l, nil
}

// openFolder opens a folder to lock it, and creates it if it does not exist.
func openFolder(path string) (*folderLock, error) {
	if err := makeFolder(path); err != nil {
		return nil, fmt.Errorf("the folder cannot be made: %w; make it, owned by the user that runs the plugin", err)
	}
	folder, err := os.Open(path)
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("%w; give the folder to the user that runs the plugin", err)
	}
	if err != nil {
		return nil, err
	}
	return &folderLock{folder}, nil
}

// isAt reports whether the folder is the one that a path leads to now.
func (l *folderLock) isAt(path string) bool {
	mine, err := l.folder.Stat()
	there, err2 := os.Stat(path)
	return err == nil && err2 == nil && os.SameFile(mine, there)
}

// makeFolder creates a folder and puts its name on disk.
func makeFolder(path string) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return &os.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
		}
		return nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return syncFolderOf(path)
}

// syncFolderOf puts the name of a file or folder on disk.
func syncFolderOf(path string) error {
	parent, err := os.Open(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// holder names the process that wrote its id last, for error texts.
func holder(pidFile string) string {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return ""
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
		return fmt.Sprintf(" (%d)", pid)
	}
	return ""
}

// release frees the lock, even if it was lent.
func (l *folderLock) release() {
	_ = syscall.Flock(int(l.folder.Fd()), syscall.LOCK_UN)
	_ = l.folder.Close()
}

// warnOfReaders warns if others than the owner can read the folder: it holds who wrote to whom, and when.
func warnOfReaders(folder *os.File, log hclog.Logger) {
	info, err := folder.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("other users can look into the folder of the index; chmod 700 it",
			"path", folder.Name(), "mode", info.Mode().Perm())
	}
}

// Held reports whether a process holds the lock of a folder.
func Held(path string) bool {
	folder, err := os.Open(path)
	if err != nil {
		return false
	}
	defer folder.Close()
	return errors.Is(syscall.Flock(int(folder.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// lockClosed keeps a folder closed until unlock. It fails if a process has it open.
func lockClosed(path string) (unlock func(), err error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err := folder.Stat(); err != nil || !info.IsDir() {
		return nil, errors.Join(err, fmt.Errorf("%s is not the folder of an index", path), folder.Close())
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w; stop its server first, or use a copy", path, ErrLocked), folder.Close())
	}
	return func() { _ = folder.Close() }, nil
}
