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
}

// Servers are the servers of one cluster.
type Servers struct {
	options Options
	ports   []int // of clients, then of routes

	mu      sync.Mutex
	running []*exec.Cmd // nil: not running
}

// Start starts servers, and returns once each accepts connections.
func Start(ctx context.Context, o Options) (_ *Servers, err error) {
	s := &Servers{options: o, running: make([]*exec.Cmd, o.Count)}
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
func (s *Servers) URL(i int) string { return fmt.Sprintf("nats://127.0.0.1:%d", s.ports[i]) }

// config is the configuration of a server.
func (s *Servers) config(i int) string {
	sync := "sync_interval: always"
	if s.options.Lazy {
		sync = ""
	}
	config := fmt.Sprintf(`server_name: s%d
listen: "127.0.0.1:%d"
jetstream { store_dir: %q, %s }
accounts {
  SYS { users: [{ user: system, password: system }] }
  RECALL { jetstream: enabled, users: [{ user: recall, password: recall }] }
}
system_account: SYS
`, i, s.ports[i], s.StoreFolder(i), sync)
	if s.options.Count == 1 {
		return config
	}
	var routes []string
	for k := range s.options.Count {
		if k != i {
			routes = append(routes, fmt.Sprintf("%q", fmt.Sprintf("nats://127.0.0.1:%d", s.ports[s.options.Count+k])))
		}
	}
	return config + fmt.Sprintf("cluster { name: recall, listen: \"127.0.0.1:%d\", routes: [%s] }\n",
		s.ports[s.options.Count+i], strings.Join(routes, ", "))
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
	file := filepath.Join(s.options.Folder, fmt.Sprintf("s%d.conf", i))
	if err := os.WriteFile(file, []byte(s.config(i)), 0o600); err != nil {
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
	if err := cmd.Start(); err != nil {
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
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(s.URL(i), "nats://"))
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
