package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/sidecar/internal/config"
)

const (
	firstSocket = 3 // the first descriptor that systemd passes
	maxPEM      = 1 << 20
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

// TLS are the certificates of a listener.
type TLS struct {
	listener config.Listener
	now      atomic.Pointer[tls.Config]
}

// NewTLS returns the certificates of a listener, which Read reads.
func NewTLS(l config.Listener) *TLS { return &TLS{listener: l} }

// Read reads the certificates again. If it fails, those that were read before stay in force.
func (t *TLS) Read() error {
	settings, err := tlsOf(t.listener)
	if err == nil {
		t.now.Store(settings)
	}
	return err
}

// config returns settings that use the certificates in force for each new connection.
func (t *TLS) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: alpn,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.now.Load(), nil }}
}

var alpn = []string{"h2", "http/1.1"}

// tlsOf reads the certificates of a listener.
func tlsOf(l config.Listener) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(l.TLSCert, l.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("tls_cert and tls_key of %s: %w", l.Address, err)
	}
	settings := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: alpn}
	if l.TLSClientCA == "" {
		return settings, nil
	}
	pem, err := hclfile.Read(l.TLSClientCA, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("tls_client_ca of %s: %w", l.Address, err)
	}
	settings.ClientCAs, settings.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !settings.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls_client_ca of %s: %s has no PEM certificate", l.Address, l.TLSClientCA)
	}
	return settings, nil
}
