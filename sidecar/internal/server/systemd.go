package server

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/chat-recall/recall/sidecar/internal/config"
)

const firstSocket = 3 // the first descriptor that systemd passes

// activated returns the sockets that systemd passed to this process. The plugin, a child of this process, gets none of
// them.
func activated() (passed []net.Listener, err error) {
	pid, n := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	count, err := strconv.Atoi(n)
	if err != nil || count < 0 {
		return nil, fmt.Errorf("LISTEN_FDS is %.20q, which is no number of sockets", n)
	}
	for fd := firstSocket; fd < firstSocket+count; fd++ {
		unix.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), fmt.Sprintf("socket %d of systemd", fd))
		ln, err := net.FileListener(f)
		_ = f.Close()
		if err != nil {
			return passed, fmt.Errorf("%s: %w", f.Name(), err)
		}
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		passed = append(passed, ln)
	}
	return passed, nil
}

// match takes from the sockets of systemd the one that a block listen is about, by its address. It refuses a unix
// socket that lets more users in than the block.
func match(l config.Listener, passed []net.Listener) (net.Listener, []net.Listener, error) {
	address, want := l.Address, "ListenStream="+l.Address
	if l.Network == config.Unix {
		address, want = l.Path, fmt.Sprintf("ListenStream=%s and SocketMode=%04o", l.Path, l.Mode)
	}
	i := slices.IndexFunc(passed, func(ln net.Listener) bool {
		return ln.Addr().Network() == l.Network && ln.Addr().String() == address
	})
	if i < 0 {
		return nil, passed, fmt.Errorf("systemd passed no socket for the block listen of %s: the unit needs %s", address,
			want)
	}
	if l.Network == config.Unix {
		info, err := os.Stat(l.Path)
		if err != nil {
			return nil, passed, fmt.Errorf("the socket that systemd passed: %w", err)
		}
		if more := info.Mode().Perm() &^ l.Mode; more != 0 {
			return nil, passed, fmt.Errorf("the socket %s of systemd has mode %04o, and its block listen %04o: "+
				"the unit needs %s",
				l.Path, info.Mode().Perm(), l.Mode, want)
		}
	}
	return passed[i], slices.Delete(slices.Clone(passed), i, i+1), nil
}
