package host_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

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

func TestOpen_EndWithParent(t *testing.T) {
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), hosttest.RunDir(t))
	outer := exec.Command("/proc/self/exe")
	outer.Env = append(os.Environ(), asHost+"="+file, asOuter+"=1")
	outer.Stderr = os.Stderr
	out, err := outer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := outer.Start(); err != nil {
		t.Fatal(err)
	}
	var plugin int
	if _, err := fmt.Fscanf(bufio.NewReader(out), "open %d", &plugin); err != nil {
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
	_ = outer.Wait()
}
