package host_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
)

// This test binary run again as a server that starts another one: the inner one has the host.
const (
	asOuter = "RECALL_TEST_OUTER"
	asInner = "RECALL_TEST_INNER"
)

func runOuter() {
	inner := exec.Command("/proc/self/exe")
	inner.Env = append(os.Environ(), asOuter+"=", asInner+"=1")
	inner.Stdout, inner.Stderr = os.Stdout, os.Stderr
	fmt.Println(inner.Run())
}

// innerLogger is that of the inner server. Others have none.
func innerLogger() hclog.Logger {
	if os.Getenv(asInner) == "" {
		return nil
	}
	return hclog.New(&hclog.LoggerOptions{Output: os.Stdout})
}

// startOuter starts the outer server, and returns what the inner one writes.
func startOuter(t *testing.T, file string) (outer *exec.Cmd, out *bufio.Reader) {
	t.Helper()
	outer = exec.Command("/proc/self/exe")
	outer.Env = append(os.Environ(), asHost+"="+file, asOuter+"=1")
	outer.Stderr = os.Stderr
	pipe, err := outer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := outer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = outer.Process.Kill()
		_ = outer.Wait()
	})
	return outer, bufio.NewReader(pipe)
}

// lineWith reads lines up to one that has the words.
func lineWith(t *testing.T, r *bufio.Reader, words string) string {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("no line with %q: %v", words, err)
		}
		if strings.Contains(line, words) {
			return line
		}
	}
}

func TestOpen_EndWithParent(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), hosttest.RunDir(t))
	outer, out := startOuter(t, file)
	var plugin int
	if _, err := fmt.Sscanf(lineWith(t, out, "open "), "open %d", &plugin); err != nil {
		t.Fatal(err)
	}
	if err := outer.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plugin ends", func() bool { return syscall.Kill(plugin, 0) != nil })
	h, err := host.Open(within(t), host.Config{File: file, RunDir: hosttest.RunDir(t)}) // the index is free
	if err != nil {
		t.Fatal(err)
	}
	index(t, h, "m2")
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpen_ParentThatEndsMeanwhile(t *testing.T) {
	dir := hosttest.RunDir(t)
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	hosttest.Open(t, host.Config{File: file, RunDir: dir}) // which the inner host waits for
	outer, out := startOuter(t, file)
	lineWith(t, out, "waiting for another host")
	if err := outer.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("error the parent of this process, %d, ended\n", outer.Process.Pid)
	if got := lineWith(t, out, "error "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
