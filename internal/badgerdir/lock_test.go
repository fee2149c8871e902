package badgerdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestOpen_HeldFolder(t *testing.T) {
	path := t.TempDir()
	d := openAt(t, path)
	err := tryOpen(t, path)
	if !errors.Is(err, ErrLocked) || !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("%v", err)
	}
	if !Held(path) {
		t.Error("Held reports a folder that is open as free")
	}
	opened := make(chan error)
	go func() {
		d, err := open(t.Context(), Options{Path: path})
		if err == nil {
			err = d.Close()
		}
		opened <- err
	}()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("after its holder closed it: %v", err)
	}
	if Held(path) {
		t.Error("Held reports a closed folder as held")
	}
}

func TestOpen_NotWritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tryOpen(t, file); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
	if err := tryOpen(t, filepath.Join(file, "below")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
	if os.Getuid() == 0 { // no permission stops root; a folder in place of the file that is written does
		path := t.TempDir()
		if err := os.Mkdir(filepath.Join(path, "LOCK"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := tryOpen(t, path); !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), "not writable") {
			t.Errorf("%v", err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "readonly")
	if err := os.Mkdir(path, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := tryOpen(t, path); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "not writable") {
		t.Errorf("%v", err)
	}
	if err := tryOpen(t, filepath.Join(path, "below")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
}

// lent opens a database and keeps what it lends, as a host does: a descriptor of its own of the same open folder.
func lent(t *testing.T, path string) (*Dir, int) {
	t.Helper()
	fd := -1
	d, err := open(t.Context(), Options{Path: path, Lend: func(folder *os.File) {
		var err error
		if fd, err = syscall.Dup(int(folder.Fd())); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Close(fd)
		_ = d.Close()
	})
	return d, fd
}

func TestLend_BorrowerUnlocks(t *testing.T) {
	path := t.TempDir()
	_, fd := lent(t, path)
	if err := tryOpen(t, path); !errors.Is(err, ErrLocked) {
		t.Fatalf("while it is locked: %v", err)
	}
	if err := syscall.Flock(fd, syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	lock, err := lockFolder(t.Context(), path, nil) // and not opened, for the first one still writes
	if err != nil {
		t.Fatal(err)
	}
	lock.release()
}

func TestLend_CloseFreesTheFolder(t *testing.T) {
	path := t.TempDir()
	d, _ := lent(t, path)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tryOpen(t, path); err != nil {
		t.Error(err)
	}
	// So does an open that fails.
	if err := os.WriteFile(filepath.Join(path, "MANIFEST"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd := -1
	_, err := open(t.Context(), Options{Path: path, Lend: func(folder *os.File) { fd, _ = syscall.Dup(int(folder.Fd())) }})
	defer func() { _ = syscall.Close(fd) }()
	if !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := open(ctx, Options{Path: path}); errors.Is(err, ErrLocked) {
		t.Errorf("a folder that could not be opened is still locked: %v", err)
	}
}

// TestLock_FolderReplacedMeanwhile waits for the lock of a folder of which another one takes the place.
func TestLock_FolderReplacedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	held, err := lockFolder(t.Context(), path, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	waits, log := io.Pipe()
	logger := hclog.New(&hclog.LoggerOptions{Output: log})
	locked := make(chan *folderLock, 1)
	go func() {
		l, err := lockFolder(t.Context(), path, logger)
		if err != nil {
			t.Error(err)
		}
		locked <- l
	}()
	if _, err := waits.Read(make([]byte, 1)); err != nil { // it says that it waits
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, waits) }()
	if err := errors.Join(os.Rename(path, path+".old"), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	held.release()
	l := <-locked
	if l == nil || !l.isAt(path) {
		t.Error("a folder is locked that is not there any more")
	}
	l.release()
	_ = log.Close()
}
