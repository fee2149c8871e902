package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/chat-recall/recall/examples/host-app/chat"
	"github.com/chat-recall/recall/internal/natscluster"
)

const (
	count = 3 // of JetStream servers, and of chat servers

	// startTimeout is how long a chat server may take until it serves with its plugin.
	startTimeout = time.Minute

	// stream is the name of the log, which the plugins create.
	stream        = "RECALL"
	leaderEvery   = 500 * time.Millisecond
	leaderTimeout = 5 * time.Second // servers without a leader do not answer

	// endTimeout is how long a plugin may take to end by itself after its chat server.
	endTimeout = 10 * time.Second
)

// fleet is everything that runs.
type fleet struct {
	folder  string // of everything
	origin  string // of the page
	options natscluster.Options

	servers *natscluster.Servers
	logs    []*logServer
	chats   []*chatServer
	leader  atomic.Int64 // the number of the server that leads the stream; -1: none is known
	watches sync.WaitGroup
	unwatch context.CancelFunc
}

// users are on one server each.
var users = [count]string{"ann", "ben", "cleo"}

// plugin is the path of the plugin.
func (f *fleet) plugin() string { return filepath.Join(f.folder, "recall-plugin") }

// start starts everything, and returns once every chat server serves.
func (f *fleet) start(ctx context.Context, stdout io.Writer) error {
	// A plugin outlives a chat server that was killed for a moment. It becomes a child of this process, which can then
	// wait for its end.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt the plugins of killed servers: %w", err)
	}
	for _, dir := range []string{f.options.Folder, filepath.Join(f.folder, "data")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	fmt.Fprintln(stdout, "Starting three servers of NATS JetStream.")
	var err error
	if f.servers, err = natscluster.Start(ctx, f.options); err != nil {
		return err
	}
	for i := range count {
		f.logs = append(f.logs, &logServer{servers: f.servers, number: i})
	}
	fmt.Fprintln(stdout, "Starting three chat servers, each with its plugin.")
	if err := chat.Prepare(ctx, f.data()); err != nil {
		return err
	}
	watch, unwatch := context.WithCancel(context.Background())
	f.unwatch = unwatch
	f.watches.Go(func() { f.watchLeader(watch) })
	for i := range count {
		c, err := f.newChatServer(i)
		if err != nil {
			return err
		}
		f.chats = append(f.chats, c)
		f.watches.Go(func() { c.watch(watch) })
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var started errgroup.Group
	for _, c := range f.chats {
		started.Go(func() error {
			if err := c.start(); err != nil {
				return err
			}
			return c.waitUntilUp(ctx)
		})
	}
	return started.Wait()
}

// watchLeader keeps the leader of the stream up to date until ctx ends.
func (f *fleet) watchLeader(ctx context.Context) {
	for ctx.Err() == nil {
		asked, cancel := context.WithTimeout(ctx, leaderTimeout)
		leader, err := f.servers.Leader(asked, stream)
		cancel()
		if err != nil {
			leader = -1
		}
		f.leader.Store(int64(leader))
		select {
		case <-time.After(leaderEvery):
		case <-ctx.Done():
		}
	}
}

// data is the folder that the chat servers share: it stands for a database.
func (f *fleet) data() string { return filepath.Join(f.folder, "data") }

// newChatServer writes the configuration of a chat server, and chooses its address.
func (f *fleet) newChatServer(i int) (*chatServer, error) {
	name := fmt.Sprint("n", i)
	folder := filepath.Join(f.folder, name)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`plugin {
  binary        = %q
  start_timeout = "30s"
}

index {
  path = "index"
}

cluster {
  node               = %q
  urls               = [%q, %q, %q]
  stream             = %q
  credentials        = "log.login"
  system_credentials = "system.login"
  lease              = "5s"
}
`, f.plugin(), name, f.servers.URL(0), f.servers.URL(1), f.servers.URL(2), stream)
	for file, text := range map[string]string{
		"plugin.hcl": config, "log.login": natscluster.User, "system.login": natscluster.SystemUser,
	} {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	// The address stays the same when the server is started again.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for a chat server: %w", err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	return &chatServer{
		name: name, user: users[i], addr: addr, data: f.data(), log: filepath.Join(folder, "log"),
		args: []string{
			chatServerCommand, "--addr", addr, "--data", f.data(), "--node", name, "--framed-by", f.origin,
			"--config", filepath.Join(folder, "plugin.hcl"), "--run", filepath.Join(folder, "run"),
		},
	}, nil
}

// close ends everything, and waits for the end of every process.
func (f *fleet) close() error {
	if f.unwatch != nil {
		f.unwatch()
		f.watches.Wait()
	}
	for _, c := range f.chats {
		c.kill()
	}
	if f.servers != nil {
		f.servers.Close()
	}
	for deadline := time.Now().Add(endTimeout); ; {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for the end of the plugins: %w", err)
		case time.Now().After(deadline):
			return fmt.Errorf("a plugin of a killed chat server does not end; end it with pkill -f %s", f.plugin())
		case pid == 0:
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// logServer is a server of JetStream.
type logServer struct {
	servers *natscluster.Servers
	number  int

	mu     sync.Mutex
	status status
}

// status is whether a process runs.
type status string

const (
	running  status = "running"
	starting status = "starting"
	stopped  status = "stopped"
	ended    status = "ended"
)

func (l *logServer) name() string { return fmt.Sprint("s", l.number) }

func (l *logServer) state() status {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status == "" {
		return running
	}
	return l.status
}

// do kills, stops, continues or starts the server.
func (l *logServer) do(ctx context.Context, action string) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch action {
	case "kill":
		l.servers.Kill(l.number)
		l.status = ended
	case "stop":
		if err = l.servers.Signal(l.number, syscall.SIGSTOP); err == nil {
			l.status = stopped
		}
	case "continue":
		if err = l.servers.Signal(l.number, syscall.SIGCONT); err == nil {
			l.status = running
		}
	case "start":
		if l.status == ended {
			if err = l.servers.Start(ctx, l.number); err == nil {
				l.status = running
			}
		}
	default:
		return errUnknown
	}
	return err
}
