package host

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// socketPair makes a socket of which this process has one end, and the plugin that it starts the other.
func socketPair(name string) (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	theirs = os.NewFile(uintptr(fds[1]), name+" of the plugin")
	file := os.NewFile(uintptr(fds[0]), name)
	defer file.Close()
	conn, err := net.FileConn(file) // has a copy
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return conn.(*net.UnixConn), theirs, nil
}
