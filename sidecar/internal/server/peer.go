package server

import (
	"context"
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// connKey is the key of a context for the connection of a request, a net.Conn.
type connKey struct{}

// peerUID returns the user at the other end of a unix socket.
func peerUID(ctx context.Context) (int, error) {
	c, ok := ctx.Value(connKey{}).(*net.UnixConn)
	if !ok {
		return -1, errors.New("not a unix socket")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	uid := -1
	var asked error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); asked == nil {
			uid = int(cred.Uid)
		}
	})
	return uid, errors.Join(err, asked)
}
