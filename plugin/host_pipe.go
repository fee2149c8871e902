package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/chat-recall/recall/internal/wire"
)

// watchHost returns a channel that is closed when the pipe of wire.HostPipeEnv ends: the host is gone. Where the host
// gave no pipe, the channel is nil and the plugin may outlive it.
func watchHost() (gone <-chan struct{}, err error) {
	value := os.Getenv(wire.HostPipeEnv)
	if value == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q is not the descriptor of a pipe", wire.HostPipeEnv, value)
	}
	syscall.CloseOnExec(fd)
	pipe := os.NewFile(uintptr(fd), "host pipe")
	if _, err := pipe.Stat(); err != nil {
		return nil, fmt.Errorf("%s=%s: %w", wire.HostPipeEnv, value, err)
	}
	ended := make(chan struct{})
	go func() { // ends with the process
		defer close(ended)
		_, _ = io.Copy(io.Discard, pipe) // the host writes nothing; a pipe that cannot be read is no pipe of a host either
	}()
	return ended, nil
}
