package host

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// locked tells whether a folder is locked by somebody.
func locked(t *testing.T, folder string) bool {
	t.Helper()
	f, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Fatal(err)
	}
	return err != nil
}

// lend locks a folder and sends it as a plugin does.
func lend(t *testing.T, to *os.File, folder string) *os.File {
	t.Helper()
	f, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX),
		unix.Sendmsg(int(to.Fd()), []byte{0}, unix.UnixRights(int(f.Fd())), nil, 0)); err != nil {
		t.Fatal(err)
	}
	return f
}

func (l *lentLock) has() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.folder != nil
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func TestALentLockIsUnlockedAndNeverOutlivesItsPlugin(t *testing.T) {
	lock, theirs, err := newLentLock()
	if err != nil {
		t.Fatal(err)
	}
	first, second := t.TempDir(), t.TempDir()
	lock.unlock() // of nothing
	held := lend(t, theirs, first)
	eventually(t, "the first folder is received", lock.has)
	lock.unlock()
	if locked(t, first) {
		t.Error("the first folder is locked after unlock")
	}
	held.Close()
	// A plugin that locks again lends again, and what it sends besides does no harm.
	if err := unix.Sendmsg(int(theirs.Fd()), []byte{0}, unix.UnixRights(0, 1, 2), nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(int(theirs.Fd()), []byte("chatter"), nil, nil, 0); err != nil {
		t.Fatal(err)
	}
	held = lend(t, theirs, second)
	held.Close() // the plugin dies: its descriptors are closed, and the one that it lent is left
	theirs.Close()
	eventually(t, "the second folder is free once its plugin is gone", func() bool { return !locked(t, second) })
	lock.close()
	if lock.has() {
		t.Error("a folder is kept after close")
	}
}

func TestAFrozenProcessHasStopped(t *testing.T) {
	c, err := newChild(exec.Command("sh", "-c", "while :; do :; done"))
	if err != nil {
		t.Fatal(err)
	}
	if c.freeze() {
		t.Error("a process that was not started is frozen")
	}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is frozen", c.freeze) // one call is enough but on a machine that is very busy
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOWAIT|unix.WNOHANG, nil); err != nil || info.Signo == 0 {
		t.Errorf("it runs: %v, %+v", err, info)
	}
	if !c.freeze() {
		t.Error("one that is frozen already is not")
	}
	if err := c.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(t.Context()); err != nil {
		t.Errorf("its end is told as a failure: %v", err)
	}
	if c.freeze() {
		t.Error("one that is gone is frozen")
	}
}
