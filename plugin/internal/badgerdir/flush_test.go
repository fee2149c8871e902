package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
)

// logged is how much is written in the logs of an index.
func logged(t *testing.T, path string) (bytes int64) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(path, "*.mem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range logs {
		facts, _, err := checkLog(log)
		if err != nil {
			t.Fatal(err)
		}
		bytes += facts.end
	}
	return bytes
}

func TestFlushLeavesNextToNothingToReplayAndLosesNothing(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	for i := range 20 {
		apply(t, x, thousand(fmt.Sprint("before", i, "-"))...)
	}
	if n := logged(t, path); n < 1<<20 {
		t.Fatalf("%d bytes in the log before: too little to see anything", n)
	}
	if err := x.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := logged(t, path); n > littleLogged {
		t.Errorf("%d bytes in the log after", n)
	}
	apply(t, x, thousand("after")...)
	crash := t.TempDir()
	if err := os.CopyFS(crash, os.DirFS(path)); err != nil { // as SIGKILL leaves it
		t.Fatal(err)
	}
	y := openAt(t, crash)
	for _, id := range []string{"before0-0", "before19-999", "after0", "after999"} {
		if r, err := y.Messages("acme", []string{id}); err != nil || r[0] == nil {
			t.Errorf("%s after a crash: %v, %v", id, r, err)
		}
	}
}

func TestFlushGoesAlongWithCalls(t *testing.T) {
	x := filled(t)
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				m := message(fmt.Sprint("m", c, "-", i))
				if r := apply(t, x, put(m), recall(m.ID, m)); r[0].Put != shared.Indexed || !r[1].New {
					t.Errorf("%s: %+v", m.ID, r)
				}
			}
		})
	}
	for round := range 3 {
		for i := range 5 {
			apply(t, x, thousand(fmt.Sprint("more", round, "-", i, "-"))...)
		}
		before := x.Stats().Commits
		if err := x.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if n := x.Stats().Commits - before; n < 30 {
			t.Errorf("%d commits: there was nothing to flush", n)
		}
	}
	close(stop)
	callers.Wait()
}

func TestFlushEndsWithItsContextAndTheIndex(t *testing.T) {
	x := filled(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	closed := filled(t)
	crash := t.TempDir() // so that there is something logged when it is closed
	if err := os.CopyFS(crash, os.DirFS(closed.path)); err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	closed.path = crash
	if err := closed.Flush(t.Context()); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("closed: %v", err)
	}
	full := filled(t)
	full.disk.free, full.disk.checked = func(string) (uint64, error) { return 1, nil }, time.Time{}
	if err := full.Flush(t.Context()); !errors.Is(err, ErrDiskFull) {
		t.Errorf("a full disk: %v", err)
	}
	if names, _, err := full.logs(); err != nil || len(names) != 1 {
		t.Errorf("logs %v, %v", names, err)
	}
	poisoned := filled(t)
	poisoned.fail(syscall.EIO)
	before := poisoned.Stats().Commits
	if err := poisoned.Flush(t.Context()); !errors.Is(err, syscall.EIO) || poisoned.Stats().Commits != before {
		t.Errorf("poisoned: %v, %d commits", err, poisoned.Stats().Commits-before)
	}
}

func TestFlushOfNextToNothingWritesNothing(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("m")))
	before := x.Stats().Commits
	if err := x.Flush(t.Context()); err != nil || x.Stats().Commits != before {
		t.Errorf("%v, %d commits", err, x.Stats().Commits-before)
	}
}

func TestFlush_LeavesLittlePaddingInTables(t *testing.T) {
	x, err := Open(t.Context(), Options{Path: t.TempDir(), MemtableBytes: minMemtableBytes})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	const rounds = 10
	for round := range rounds {
		apply(t, x, thousand(fmt.Sprint("a", round, "-"))...)
		apply(t, x, thousand(fmt.Sprint("b", round, "-"))...)
		if err := x.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	size := int64(0)
	for _, table := range x.db.Tables() {
		size += int64(table.OnDiskSize)
	}
	if size > rounds*minMemtableBytes/2 { // there is less than 3 MiB of anything else
		t.Errorf("%d MiB of tables after %d times", size>>20, rounds)
	}
}

// filled is an index with something to flush.
func filled(t *testing.T) *Index {
	t.Helper()
	x := openNew(t)
	for i := range 5 {
		apply(t, x, thousand(fmt.Sprint("filled", i, "-"))...)
	}
	return x
}

func thousand(name string) []Op {
	ops := make([]Op, 1000)
	for i := range ops {
		ops[i] = put(message(fmt.Sprint(name, i)))
	}
	return ops
}

// lent opens an index and keeps what it lends, as a host does: a descriptor of its own of the same open folder.
func lent(t *testing.T, path string) (*Index, int) {
	t.Helper()
	fd := -1
	x, err := Open(t.Context(), Options{Path: path, Lend: func(folder *os.File) {
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
		_ = x.Close()
	})
	return x, fd
}

func TestALentFolderIsUnlockedByWhoHasIt(t *testing.T) {
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

func TestAnIndexThatIsClosedIsFreeWhoeverWasLentItsFolder(t *testing.T) {
	path := t.TempDir()
	x, _ := lent(t, path)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tryOpen(t, path); err != nil {
		t.Error(err)
	}
	// Also where the opening fails.
	if err := os.WriteFile(filepath.Join(path, "MANIFEST"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd := -1
	_, err := Open(t.Context(), Options{Path: path, Lend: func(folder *os.File) { fd, _ = syscall.Dup(int(folder.Fd())) }})
	defer func() { _ = syscall.Close(fd) }()
	if !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := Open(ctx, Options{Path: path}); errors.Is(err, ErrLocked) {
		t.Errorf("a folder that could not be opened is still locked: %v", err)
	}
}
