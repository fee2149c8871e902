package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A peer is a second process of this program, at the other end of a socket that only the two hold.
type peer struct {
	cmd    *exec.Cmd
	socket *os.File
}

const peerSocket = 3 // its descriptor in the second process

func startPeer(args ...string) (*peer, error) {
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
	if err := syscall.SetNonblock(ends[0], true); err != nil { // so that to wait for it takes no thread
		return nil, errors.Join(err, syscall.Close(ends[0]))
	}
	p := &peer{cmd: exec.Command(self, args...), socket: os.NewFile(uintptr(ends[0]), "socket")}
	p.cmd.ExtraFiles, p.cmd.Stderr = []*os.File{far}, os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, p.socket.Close())
	}
	return p, nil
}

func (p *peer) cpu() time.Duration { return cpuOf(p.cmd.Process.Pid) }

// close ends the second process by the end of its input.
func (p *peer) close() error {
	if err := errors.Join(p.socket.Close(), p.cmd.Wait()); err != nil {
		return fmt.Errorf("%s: %w", p.cmd.Args[1], err)
	}
	return nil
}
