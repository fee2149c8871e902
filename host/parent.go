package host

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// parent is the process that started this one.
type parent struct {
	pid    int
	handle *os.File // a pidfd: readable once the process has ended
}

// openParent opens the parent of this process.
func openParent() (*parent, error) {
	pid := os.Getppid()
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("host.Config.EndWithParent: open process %d, the parent of this one: %w", pid, err)
	}
	if os.Getppid() != pid {
		_ = unix.Close(fd)
		return nil, errors.New("host.Config.EndWithParent: the parent of this process has ended")
	}
	return &parent{pid: pid, handle: os.NewFile(uintptr(fd), "parent")}, nil
}

// wait calls ended when the process has ended, unless ctx ends first.
func (p *parent) wait(ctx context.Context, ended func()) {
	defer p.handle.Close()
	raw, err := p.handle.SyscallConn()
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = p.handle.Close() })
	defer stop()
	err = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if err == nil && ctx.Err() == nil {
		ended()
	}
}
