package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/chat-recall/recall/internal/wire"
)

// hostPipe is the plugin's end of wire.HostPipeEnv.
type hostPipe struct {
	gone   <-chan struct{} // closed when the host is; nil where it gave no pipe, and then the plugin may outlive it
	socket *net.UnixConn   // nil where it is a mere pipe
}

func openHostPipe() (*hostPipe, error) {
	value := os.Getenv(wire.HostPipeEnv)
	if value == "" {
		return &hostPipe{}, nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q is not the descriptor of a pipe", wire.HostPipeEnv, value)
	}
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "host pipe")
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", wire.HostPipeEnv, value, err)
	}
	p := &hostPipe{}
	var from io.Reader = file
	if info.Mode().Type() == os.ModeSocket { // to try it on a pipe would make that one non-blocking
		conn, err := net.FileConn(file) // has a copy
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w", wire.HostPipeEnv, value, err)
		}
		file.Close()
		p.socket, _ = conn.(*net.UnixConn)
		from = conn
	}
	gone := make(chan struct{})
	p.gone = gone
	go func() { // ends with the process
		defer close(gone)
		_, _ = io.Copy(io.Discard, from) // the host writes nothing; a pipe that cannot be read is no pipe of a host either
	}()
	return p, nil
}

// lend is engine.Options.Lend. A host that is gone or does not listen goes without.
func (p *hostPipe) lend(folder *os.File) {
	if p.socket != nil {
		_, _, _ = p.socket.WriteMsgUnix([]byte{0}, syscall.UnixRights(int(folder.Fd())), nil)
	}
}
