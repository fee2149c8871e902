// Package hosttest gives the tests of a chat server a real recall plugin, and its faults on demand.
package hosttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chat-recall/recall/host"
)

const (
	modulePath    = "github.com/chat-recall/recall"
	pluginPackage = "plugin"
)

// builds are the binaries that this process has built, by package.
var builds sync.Map // string → func() (string, error)

// Build builds a command of this module, such as sidecar, once for all tests of a process, and returns its path.
func Build(t testing.TB, command string) string {
	t.Helper()
	pkg := modulePath + "/" + command
	once, _ := builds.LoadOrStore(pkg, sync.OnceValues(func() (string, error) {
		module, dir, err := buildDir()
		if err != nil {
			return "", err
		}
		tmp, err := os.MkdirTemp(dir, "build-*")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(tmp)
		built, path := filepath.Join(tmp, "built"), filepath.Join(dir, filepath.Base(pkg))
		build := exec.Command("go", "build", "-mod=readonly", "-o", built, pkg)
		// where its dependencies are known: a server that uses the SDK has no need of the plugin's, nor vendors them
		build.Dir = module
		build.Env = append(os.Environ(), "GOWORK=off")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
		return path, os.Rename(built, path) // tests of several packages share it
	}))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// buildDir is the folder of this module, and one of this user for what is built from it as it lies there: another
// checkout has another.
func buildDir() (module, dir string, err error) {
	out, err := exec.Command("go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", modulePath).Output()
	if err != nil {
		return "", "", fmt.Errorf("go list -m %s: %w", modulePath, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(cache, "recall-hosttest", fmt.Sprintf("%x", sha256.Sum256(out))[:16])
	return strings.TrimSpace(string(out)), dir, os.MkdirAll(dir, 0o700)
}

// BuildPlugin builds recall-plugin and returns its path.
func BuildPlugin(t testing.TB) string {
	t.Helper()
	return Build(t, pluginPackage)
}

// faults are what BuildFaulty can do.
var faults = []string{
	"panic-prepare", "hang-prepare", // while it checks its configuration
	"panic-activate", "hang-activate", // before it takes the index
	"panic-activated", "exit-after-activate", // once it has the index
	"panic-first-call", "panic-poison", // the latter when it indexes a message with the id "poison"
	"swapped-answers",               // of Index
	"event-flood",                   // it delivers events without end, and waits for no outcome
	"ghost-events",                  // with each tenth event it delivers one that does not exist
	"few-statuses", "many-statuses", // of Settle, than it was asked for
	"older-minor", "newer-minor", "next-major", // another version of the wire; the first two have no lane
	"lane-only",    // it answers Index and Status on the lane, and not by gRPC
	"newer-format", // of the index
	"old-format",   // it reads only the oldest format of the entries of a cluster's log
}

// BuildFaulty builds a recall-plugin with a fault, or of another version, and returns its path. The faults are
// panic-prepare, hang-prepare, panic-activate, hang-activate, panic-activated, exit-after-activate, panic-first-call,
// panic-poison (when it indexes a message with the id "poison"), swapped-answers (of Index), event-flood, ghost-events
// (with each tenth event one that does not exist, of step "ghost"), few-statuses, many-statuses (of Settle),
// older-minor, newer-minor, next-major (of the wire), lane-only (Index and Status go by the lane alone), newer-format
// (of the index) and old-format (of the entries of a cluster's log, of which it reads only the oldest).
func BuildFaulty(t testing.TB, fault string) string {
	t.Helper()
	if !slices.Contains(faults, fault) {
		t.Fatalf("there is no fault %q; there are %s", fault, strings.Join(faults, ", "))
	}
	data, err := os.ReadFile(Build(t, pluginPackage+"/internal/faulty"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "recall-plugin-"+fault)
	if err := os.WriteFile(path, append(data, "\nrecall-fault="+fault...), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// WriteConfig writes a plugin.hcl into dir, for that binary, with its index in dir too. more is appended to it: blocks
// such as rules. It returns the path of the file.
func WriteConfig(t testing.TB, binary, dir string, more ...string) string {
	t.Helper()
	text := fmt.Sprintf("plugin {\n  binary = %q\n}\n\nindex {\n  path = \"index\"\n}\n", binary)
	for _, m := range more {
		text += "\n" + m
	}
	file := filepath.Join(dir, "plugin.hcl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// RunDir makes a folder for host.Config.RunDir with a path short enough for sockets, removed when the test ends.
func RunDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "recall")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Open opens a host on the real plugin and closes it when the test ends. Of c only what the test needs must be set:
// without a File the defaults are the plugin of this module and a new index.
func Open(t testing.TB, c host.Config) *host.Host {
	t.Helper()
	if c.File == "" {
		if c.Plugin.Binary == "" {
			c.Plugin.Binary = BuildPlugin(t)
		}
		if c.Index.Path == "" {
			c.Index.Path = filepath.Join(t.TempDir(), "index")
		}
	}
	if c.RunDir == "" {
		c.RunDir = RunDir(t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := host.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// Kill ends the plugin with SIGKILL, as the kernel does when memory runs out.
func Kill(t testing.TB, h *host.Host) { signal(t, h, syscall.SIGKILL) }

// Hang stops the plugin, as a deadlock would. When it returns, no thread of the plugin runs.
func Hang(t testing.TB, h *host.Host) {
	t.Helper()
	pid := signal(t, h, syscall.SIGSTOP)
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		err = unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
	}
	if err != nil {
		t.Fatalf("wait until the plugin has stopped: %v", err)
	}
}

// Continue lets a plugin go on after Hang.
func Continue(t testing.TB, h *host.Host) { signal(t, h, syscall.SIGCONT) }

// RunPlugin runs recall-plugin by hand, as a person would, and returns what it prints.
func RunPlugin(t testing.TB, args ...string) (stdout, stderr []byte, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), BuildPlugin(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.Bytes(), errs.Bytes(), err
}

func signal(t testing.TB, h *host.Host, sig syscall.Signal) (pid int) {
	t.Helper()
	pid = h.State().PID
	if pid == 0 {
		t.Fatal("there is no plugin process at this moment")
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("signal the plugin: %v", err)
	}
	return pid
}

// Missing skips a test that needs what this machine does not have, saying what. Under RECALL_REQUIRE_ALL=1, as in CI,
// it fails the test instead.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("RECALL_REQUIRE_ALL") == "1" {
		t.Fatalf("missing on this machine: %s", what)
	}
	t.Skipf("missing on this machine: %s", what)
}
