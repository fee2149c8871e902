package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A socketChild is a second process of this program, at the other end of a socket that only the two hold. It ends when
// this end is closed.
type socketChild struct {
	cmd    *exec.Cmd
	socket *os.File
}

const childSocket = 3 // its descriptor in the second process

func startSocketChild(args ...string) (*socketChild, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	far := os.NewFile(uintptr(ends[1]), "socket")
	defer far.Close()
	if err := syscall.SetNonblock(ends[0], true); err != nil { // waiting for it blocks no thread
		return nil, errors.Join(err, syscall.Close(ends[0]))
	}
	c := &socketChild{cmd: exec.Command(self, args...), socket: os.NewFile(uintptr(ends[0]), "socket")}
	c.cmd.ExtraFiles, c.cmd.Stderr = []*os.File{far}, os.Stderr
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, c.socket.Close())
	}
	return c, nil
}

func (c *socketChild) cpu() time.Duration { return cpuOf(c.cmd.Process.Pid) }

func (c *socketChild) close() error {
	if err := errors.Join(c.socket.Close(), c.cmd.Wait()); err != nil {
		return fmt.Errorf("%s: %w", c.cmd.Args[1], err)
	}
	return nil
}
