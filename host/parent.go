package host

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// watchParent returns a context that ends, with a cause, when the process that started this one has ended. stop ends
// the watch and the context.
func watchParent() (parent context.Context, stop func(), err error) {
	pid := os.Getppid()
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("host.Config.EndWithParent: open process %d, the parent of this one: %w", pid, err)
	}
	handle := os.NewFile(uintptr(fd), "parent") // readable once the process has ended
	ended := fmt.Errorf("the parent of this process, %d, ended", pid)
	if os.Getppid() != pid { // the handle may be of another process with its number
		return nil, nil, errors.Join(ended, handle.Close())
	}
	raw, err := handle.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("host.Config.EndWithParent: %w", err), handle.Close())
	}
	parent, cancel := context.WithCancelCause(context.Background())
	go func() {
		err := raw.Read(func(fd uintptr) bool { // until it returns true; an error is that of a closed handle
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err == nil {
			cancel(ended)
		}
	}()
	return parent, func() {
		_ = handle.Close()
		cancel(nil)
	}, nil
}
