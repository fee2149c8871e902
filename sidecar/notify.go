package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

// notifier returns a function that tells systemd the state of the service; it does nothing without systemd. The plugin,
// a child of this process, does not get the socket.
func notifier() (func(state string), error) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return func(string) {}, nil
	}
	_ = os.Unsetenv("NOTIFY_SOCKET")
	c, err := net.Dial("unixgram", path)
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return func(state string) { _, _ = io.WriteString(c, state) }, nil
}
