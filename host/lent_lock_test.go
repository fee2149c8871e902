package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// spins, in its environment, makes this test binary say so and then keep every core busy.
const spins = "RECALL_TEST_SPINS"

func init() {
	if os.Getenv(spins) == "" {
		return
	}
	time.AfterFunc(time.Minute, func() { os.Exit(1) }) // should nobody kill it
	spin := func() {
		for n := uint64(1); n != 0; n += 2 { // never
		}
	}
	for range runtime.GOMAXPROCS(0) - 1 {
		go spin()
	}
	os.Stdout.WriteString("spinning\n")
	spin()
}

// locked tells whether a folder is locked by somebody.
func locked(t *testing.T, folder string) bool {
	t.Helper()
	f, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
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
	if err := errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_EX),
		syscall.Sendmsg(int(to.Fd()), []byte{0}, syscall.UnixRights(int(f.Fd())), nil, 0)); err != nil {
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

// descriptors are how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

func TestLentLock_Unlock(t *testing.T) {
	lock, theirs, err := newLentLock()
	if err != nil {
		t.Fatal(err)
	}
	first, second := t.TempDir(), t.TempDir()
	if lock.unlock() {
		t.Error("a lock was freed that was never lent")
	}
	held := lend(t, theirs, first)
	eventually(t, "the first folder is received", lock.has)
	if !lock.unlock() || locked(t, first) {
		t.Error("the first folder is locked after unlock")
	}
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	// What it sends besides does no harm.
	before := descriptors(t)
	for range 50 {
		if err := syscall.Sendmsg(int(theirs.Fd()), []byte{0}, syscall.UnixRights(0, 1, 2), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Sendmsg(int(theirs.Fd()), []byte("chatter"), nil, nil, 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // should it take any of that for a folder
	if !lock.unlock() || locked(t, first) {
		t.Error("the first folder was exchanged for something else")
	}
	held.Close()
	// A plugin that locks again lends again.
	held = lend(t, theirs, second)
	held.Close() // the plugin dies: its descriptors are closed, and the one that it lent is left
	theirs.Close()
	eventually(t, "the second folder is free once its plugin is gone", func() bool { return !locked(t, second) })
	lock.close()
	if lock.has() {
		t.Error("a folder is kept after close")
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before: what is sent too much is not closed", after, before)
	}
}

func TestGoing_EveryThread(t *testing.T) {
	const leaving, running = "7 (a) b) Z 1 7 7 0 -1 4194828 0", "8 (recall-plugin) D 1 7 7 0 -1 4194560 0"
	for name, tc := range map[string]struct {
		threads string
		stats   []string // "" is one that cannot be read
		want    bool
	}{
		"all":                         {"2", []string{leaving, leaving}, true},
		"only the leader":             {"2", []string{leaving, running}, false},
		"only another":                {"2", []string{running, leaving}, false},
		"the list is cut short":       {"3", []string{leaving, leaving}, false},
		"more than were counted":      {"1", []string{leaving, leaving}, true},
		"one cannot be read":          {"2", []string{leaving, ""}, false},
		"one makes no sense":          {"1", []string{"7 (x) Z 1"}, false},
		"the count makes no sense":    {"many", []string{leaving}, false},
		"released, as good as reaped": {"0", nil, true},
	} {
		proc := t.TempDir()
		status := "Name:\tx\nThreads:\t" + tc.threads + "\nSigQ:\t0/0\n"
		if err := os.WriteFile(filepath.Join(proc, "status"), []byte(status), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(proc, "task"), 0o700); err != nil {
			t.Fatal(err)
		}
		for i, stat := range tc.stats {
			path := filepath.Join(proc, "task", strconv.Itoa(i), "stat")
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if stat == "" { // any error but that it is gone
				if err := os.Symlink("stat", path); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(path, []byte(stat), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := allExiting(proc); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if allExiting(filepath.Join(t.TempDir(), "none")) {
		t.Error("one that is not there is going")
	}
}

func TestGoing_AfterKill(t *testing.T) {
	c, err := newChild(exec.Command(os.Args[0], "-test.run=^$")) // of several threads
	if err != nil {
		t.Fatal(err)
	}
	if c.going() {
		t.Error("a process that was not started is going")
	}
	c.cmd.Env, c.cmd.SysProcAttr = append(os.Environ(), spins+"=1"), &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Kill(context.Background()) })
	if _, err := bufio.NewReader(c.stdout).ReadString('\n'); err != nil { // it spins
		t.Fatal(err)
	}
	if c.going() {
		t.Error("one that runs is going")
	}
	if err := c.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is going", c.going) // one call is enough but on a machine that is very busy
	if err := c.Wait(t.Context()); err != nil {
		t.Errorf("its end is told as a failure: %v", err)
	}
	if !c.going() {
		t.Error("one that is gone is not going")
	}
}

func TestRelease_FreesTheLentLock(t *testing.T) {
	dir, err := os.MkdirTemp("", "recall") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary, file := filepath.Join(dir, "recall-plugin"), filepath.Join(dir, "plugin.hcl")
	if out, err := exec.Command("go", "build", "-o", binary, "../plugin").CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	text := fmt.Sprintf("plugin {\n  binary = %q\n}\n\nindex {\n  path = \"index\"\n}\n", binary)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	staged, err := stage(dir, Binary{Path: binary})
	if err != nil {
		t.Fatal(err)
	}
	logger := hclog.NewNullLogger()
	for try := 0; ; try++ {
		p, err := launch(t.Context(), staged, dir, time.Minute, logger)
		if err != nil {
			t.Fatal(err)
		}
		defer p.kill()
		if err := errors.Join(p.prepare(t.Context(), file, logger), p.activate(t.Context(), nil)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the folder is received", p.lock.has)
		index := filepath.Join(dir, "index")
		if !locked(t, index) {
			t.Fatal("the index is not locked while the plugin is active")
		}
		if p.release() {
			if locked(t, index) {
				t.Error("the index is locked after it was freed")
			}
			return
		}
		if try == 10 {
			t.Fatal("the lock was never freed at once")
		}
		p.kill()
	}
}
