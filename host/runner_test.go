package host

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStart_BinaryBusy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(file, os.O_WRONLY, 0) // keeps it busy
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	start := func(ctx context.Context) (*child, chan error) {
		c, err := newChild(exec.Command(file))
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan error, 1)
		go func() { started <- c.Start(ctx) }()
		return c, started
	}
	ended := func(what string, started chan error) {
		t.Helper()
		select {
		case err := <-started:
			if err == nil {
				t.Errorf("%s: a busy program was started", what)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: still waited for", what)
		}
	}
	c, started := start(t.Context())
	time.Sleep(30 * time.Millisecond) // so that it waits by now
	if err := c.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	ended("killed", started)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, started = start(ctx)
	ended("at the end of its context", started)

	c, started = start(t.Context())
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatalf("once it is not busy: %v", err)
	}
	c.hangUp()
	if err := c.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestKill_WhoEndedTheProcess(t *testing.T) {
	start := func(t *testing.T) *child {
		t.Helper()
		cmd := exec.Command("sleep", "60")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		c, err := newChild(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c
	}
	t.Run("this host", func(t *testing.T) {
		c := start(t)
		for range 2 {
			if err := c.Kill(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Errorf("its end is reported as a failure: %v", err)
		}
		if c.endedByItself() {
			t.Error("the kill is taken for its own end")
		}
	})
	t.Run("another process, a moment before", func(t *testing.T) {
		c := start(t)
		pid := c.cmd.Process.Pid
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// until it has ended; it is reaped by Wait
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		if err := c.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(t.Context()); err == nil {
			t.Error("its end is reported as asked for")
		}
		if !c.endedByItself() {
			t.Error("its end is taken for the kill of this host")
		}
	})
}

func TestThreadExiting_Stat(t *testing.T) {
	for stat, want := range map[string]bool{
		"7 (a) b) Z 1 7 7 0 -1 4194828 0":           true,
		"8 (recall-plugin) D 1 7 7 0 -1 4194560 0":  false,
		"8 (recall-plugin) D 1 7 7 0 -1 -4194828 0": false,
		"7 (x) Z 1": false,
		"":          false,
	} {
		if got := threadExiting([]byte(stat)); got != want {
			t.Errorf("%q: %v", stat, got)
		}
	}
}
