package index

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

// lockRetry is how often a held lock is tried again. The kernel frees it when its holder dies.
const lockRetry = time.Millisecond

// lockPatience is how long a lock is waited for in silence: longer than any handover takes.
const lockPatience = time.Second

// folderLock is the lock that Badger would take, on the folder itself. We take it, so that nothing of the folder is
// looked at without it, and so that it can be waited for.
type folderLock struct{ folder *os.File }

// lockFolder makes the folder if it is not there, and waits for its lock until ctx ends.
func lockFolder(ctx context.Context, path string, log hclog.Logger) (*folderLock, error) {
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
	l := &folderLock{folder}
	pidFile := filepath.Join(path, "LOCK")
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	patience := time.After(lockPatience)
	for {
		err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			l.release()
			return nil, fmt.Errorf("lock the folder: %w", err)
		}
		select {
		case <-tick.C:
		case <-patience:
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

// makeFolder makes a folder and puts its name on disk.
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

// holder is for people: the process that wrote its id last.
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

// release frees the lock, also where it was lent.
func (l *folderLock) release() {
	_ = syscall.Flock(int(l.folder.Fd()), syscall.LOCK_UN)
	_ = l.folder.Close()
}

// warnOfReaders warns where others than the owner can read the folder: it holds who wrote to whom, and when.
func warnOfReaders(folder *os.File, log hclog.Logger) {
	info, err := folder.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("other users can look into the folder of the index; chmod 700 it", "path", folder.Name(), "mode", info.Mode().Perm())
	}
}
