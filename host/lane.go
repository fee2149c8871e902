package host

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/chat-recall/recall/internal/wire"
)

// newLane makes both ends of the lane of a plugin process; nil where the environment turns lanes off.
func newLane() (ours *net.UnixConn, theirs *os.File, err error) {
	switch value := os.Getenv(wire.LaneEnv); value {
	case "off":
		return nil, nil, nil
	case "", "on":
		return socketPair()
	default:
		return nil, nil, fmt.Errorf("the environment variable %s is %q; set it to on or off", wire.LaneEnv, value)
	}
}

// socketPair makes a socket of which this process has one end, and the plugin that it starts the other.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("lane: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "lane of the plugin")
	file := os.NewFile(uintptr(fds[0]), "lane")
	defer file.Close()
	conn, err := net.FileConn(file) // has a copy
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("lane: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}
