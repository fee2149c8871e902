package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chat-recall/recall/sidecar/internal/config"
)

// Listen opens the listeners, in order, with TLS where certificates has any. If systemd passed sockets, they are used
// instead: one for each listener, found by its address.
func Listen(all []config.Listener, certificates []*TLS) (out []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, ln := range out {
				_ = ln.Close()
			}
		}
	}()
	passed, err := activated()
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, ln := range passed { // that no block is for
			_ = ln.Close()
		}
	}()
	byUs := len(passed) == 0
	for i, l := range all {
		var ln net.Listener
		switch {
		case !byUs:
			ln, passed, err = match(l, passed)
		case l.Network == config.Unix:
			ln, err = listenUnix(l)
		default:
			ln, err = net.Listen("tcp", l.Address)
		}
		if err != nil {
			return out, err
		}
		if certificates[i] != nil {
			ln = tls.NewListener(ln, certificates[i].config())
		}
		out = append(out, ln)
	}
	if len(passed) > 0 {
		return out, fmt.Errorf("systemd passed the socket %s, for which there is no block listen", passed[0].Addr())
	}
	return out, nil
}

// listenUnix makes a socket that has its mode from the first moment at which its path leads to it. It replaces the
// socket of a process that has ended.
func listenUnix(l config.Listener) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", l.Path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("another process answers at %s: stop it, or name another path", l.Path)
	}
	if info, err := os.Lstat(l.Path); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("%s exists and is not a socket: remove it, or name another path", l.Path)
	}
	fresh := freshPath(l.Path)
	if info, err := os.Lstat(fresh); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("%s, which is needed to make %s, exists and is not a socket: remove it", fresh, l.Path)
	}
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	mask := unix.Umask(0o777) // nobody connects before it has its mode
	ln, err := net.Listen("unix", fresh)
	unix.Umask(mask)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(fresh, l.Mode); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	if err := os.Rename(fresh, l.Path); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// freshPath returns a path in the same folder that is no longer, since a path of a socket has at most 107 bytes.
func freshPath(path string) string {
	dir, name := filepath.Split(path)
	if name[0] == '~' {
		return dir + "_" + name[1:]
	}
	return dir + "~" + name[1:]
}
