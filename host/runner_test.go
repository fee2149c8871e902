package host

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
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
