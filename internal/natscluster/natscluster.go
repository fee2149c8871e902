// Package natscluster starts servers of NATS JetStream on loopback, for tests, measurements and the example. The server
// is a dependency of a module of its own, in the folder server, and no part of any binary of this one.
package natscluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Accounts of the servers: who uses the log, and who may ask how the servers store.
const (
	User         = "recall:recall"
	SystemUser   = "system:system"
	startTimeout = 20 * time.Second
)

// Build builds the server into a folder, and returns its path. The module of the server is found from the folder of the
// process, which is in the module of this package.
func Build(ctx context.Context, folder string) (binary string, err error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	binary = filepath.Join(folder, "nats-server")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/nats-io/nats-server/v2")
	build.Dir = filepath.Join(strings.TrimSpace(string(root)), "internal", "natscluster", "server")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the NATS server: %w\n%s", err, out)
	}
	return binary, nil
}

// BuildCached builds the server into a folder of this user's cache, and returns its path. Another process that builds
// it at the same time makes the same file.
func BuildCached(ctx context.Context) (binary string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "recall-nats-server")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(folder, "build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	built, err := Build(ctx, temp)
	if err != nil {
		return "", err
	}
	binary = filepath.Join(folder, filepath.Base(built))
	return binary, os.Rename(built, binary)
}

// Options configure Start.
type Options struct {
	Binary string // from Build
	Folder string // of the servers' files
	Count  int    // of servers: 1, 3 or 5

	// Lazy leaves out that the servers sync before they acknowledge, as is NATS's default.
	Lazy bool

	// Users, "name:password", use the log besides [User].
	Users []string

	// TLS has clients and servers prove by certificates who they are; nil: they do not.
	TLS *TLS

	// Hosts are the addresses of the servers, and In does something where a server has its network: it starts the server,
	// and connects to it. nil: all are on loopback.
	Hosts []string
	In    func(server int, do func() error) error
}

// TLS are files in PEM: the certificate of everybody, and the CA that has signed it.
type TLS struct{ CA, Cert, Key string }

// Servers are the servers of one cluster.
type Servers struct {
	options Options
	ports   []int // of clients, then of routes

	mu      sync.Mutex  // guards the following
	users   []string    // that the servers know besides [User]
	alone   []bool      // whether a server does not know the others
	running []*exec.Cmd // nil: not running
}

// Start starts servers, and returns once each accepts connections.
func Start(ctx context.Context, o Options) (_ *Servers, err error) {
	s := &Servers{options: o, users: o.Users, alone: make([]bool, o.Count), running: make([]*exec.Cmd, o.Count)}
	if s.ports, err = freePorts(2 * o.Count); err != nil {
		return nil, err
	}
	for i := range o.Count {
		if err := s.start(i); err != nil {
			s.Close()
			return nil, err
		}
	}
	for i := range o.Count {
		if err := s.WaitUntilUp(ctx, i); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// freePorts returns ports of loopback that nobody uses.
func freePorts(n int) (ports []int, err error) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			err = errors.Join(err, l.Close())
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open = append(open, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// URLs are those of all servers.
func (s *Servers) URLs() (urls []string) {
	for i := range s.options.Count {
		urls = append(urls, s.URL(i))
	}
	return urls
}

// URL is that of one server.
func (s *Servers) URL(i int) string {
	if s.options.TLS != nil {
		return "tls://" + s.address(i)
	}
	return "nats://" + s.address(i)
}

// address is where a server listens for clients, and route where for the other servers.
func (s *Servers) address(i int) string { return fmt.Sprintf("%s:%d", s.host(i), s.ports[i]) }

func (s *Servers) route(i int) string {
	return fmt.Sprintf("%s:%d", s.host(i), s.ports[s.options.Count+i])
}

func (s *Servers) host(i int) string {
	if s.options.Hosts == nil {
		return "127.0.0.1"
	}
	return s.options.Hosts[i]
}

// in does something where a server has its network.
func (s *Servers) in(i int, do func() error) error {
	if s.options.In == nil {
		return do()
	}
	return s.options.In(i, do)
}

// dial connects to a server, from where it is.
func (s *Servers) dial(ctx context.Context, i int) (conn net.Conn, err error) {
	err = s.in(i, func() (err error) {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, "tcp", s.address(i))
		return err
	})
	return conn, err
}

// config is the configuration of a server.
func (s *Servers) config(i int) string {
	sync := "sync_interval: always"
	if s.options.Lazy {
		sync = ""
	}
	users := ""
	for _, user := range append([]string{User}, s.knownUsers()...) {
		name, password, _ := strings.Cut(user, ":")
		users += fmt.Sprintf("{ user: %s, password: %s }, ", name, password)
	}
	config := fmt.Sprintf(`server_name: s%d
listen: %q
jetstream { store_dir: %q, %s }
accounts {
  SYS { users: [{ user: system, password: system }] }
  RECALL { jetstream: enabled, users: [%s] }
}
system_account: SYS
%s`, i, s.address(i), s.StoreFolder(i), sync, users, s.tls())
	if s.options.Count == 1 {
		return config
	}
	var routes []string
	for k := range s.options.Count {
		if k != i {
			routes = append(routes, fmt.Sprintf("%q", "nats://route:"+s.routePassword(i)+"@"+s.route(k)))
		}
	}
	return config + fmt.Sprintf(`cluster {
  name: recall, listen: %q, routes: [%s]
  authorization { user: route, password: %s }
  %s}
`, s.route(i), strings.Join(routes, ", "), s.routePassword(i), s.tls())
}

// routePassword is by which a server knows the others.
func (s *Servers) routePassword(i int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alone[i] {
		return "alone"
	}
	return "route"
}

// SetAlone has a server refuse the others, and they refuse it, from when it is started next. Clients reach it all the
// same.
func (s *Servers) SetAlone(i int, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alone[i] = is
}

// tls is the block of that name, if there is one.
func (s *Servers) tls() string {
	t := s.options.TLS
	if t == nil {
		return ""
	}
	return fmt.Sprintf("tls { ca_file: %q, cert_file: %q, key_file: %q, verify: true }\n", t.CA, t.Cert, t.Key)
}

func (s *Servers) knownUsers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users
}

// SetUsers has the servers know other users besides [User], without a restart. They end the connections of those whom
// they know no more.
func (s *Servers) SetUsers(users ...string) error {
	s.mu.Lock()
	s.users = users
	s.mu.Unlock()
	for i := range s.options.Count {
		if _, err := s.writeConfig(i); err != nil {
			return err
		}
		if s.isRunning(i) {
			if err := s.Signal(i, syscall.SIGHUP); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Servers) writeConfig(i int) (file string, err error) {
	file = filepath.Join(s.options.Folder, fmt.Sprintf("s%d.conf", i))
	return file, os.WriteFile(file, []byte(s.config(i)), 0o600)
}

// StoreFolder is where a server keeps its streams.
func (s *Servers) StoreFolder(i int) string {
	return filepath.Join(s.options.Folder, fmt.Sprint("s", i))
}

// LogFile is where a server writes what it logs.
func (s *Servers) LogFile(i int) string {
	return filepath.Join(s.options.Folder, fmt.Sprintf("s%d.log", i))
}

func (s *Servers) start(i int) error {
	file, err := s.writeConfig(i)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.LogFile(i), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.options.Binary, "-c", file)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.in(i, cmd.Start); err != nil {
		return fmt.Errorf("start the NATS server: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[i] = cmd
	return nil
}

// Start starts a server again that was ended.
func (s *Servers) Start(ctx context.Context, i int) error {
	if err := s.start(i); err != nil {
		return err
	}
	return s.WaitUntilUp(ctx, i)
}

// WaitUntilUp waits until a server accepts connections.
func (s *Servers) WaitUntilUp(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		conn, err := s.dial(ctx, i)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(s.LogFile(i))
			return fmt.Errorf("the NATS server %d does not accept connections: %w\n%s", i, err, log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Signal sends a server a signal, such as SIGSTOP and SIGCONT.
func (s *Servers) Signal(i int, signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[i] == nil {
		return fmt.Errorf("the NATS server %d is not running", i)
	}
	return s.running[i].Process.Signal(signal)
}

// PID is the number of a server's process; 0: it is not running.
func (s *Servers) PID(i int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[i] == nil {
		return 0
	}
	return s.running[i].Process.Pid
}

// Kill kills a server, and waits for its end.
func (s *Servers) Kill(i int) { s.end(i, syscall.SIGKILL) }

// Stop shuts a server down as an operator does, and waits for its end.
func (s *Servers) Stop(i int) { s.end(i, syscall.SIGTERM) }

func (s *Servers) end(i int, signal syscall.Signal) {
	s.mu.Lock()
	cmd := s.running[i]
	s.running[i] = nil
	s.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Signal(signal)
		_ = cmd.Wait()
	}
}

// Close kills all servers.
func (s *Servers) Close() {
	for i := range s.running {
		s.Kill(i)
	}
}
