package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

// Files of a chat node, in its folder.
const (
	configFile = "plugin.hcl"
	notesFile  = "notes"
	socketFile = "socket"
	logFile    = "log"
	dataDir    = "data"
	indexDir   = "data/index"
)

// nodeStartTimeout is how long a host may take to open, restoring a snapshot included.
const nodeStartTimeout = 90 * time.Second

// A clusterNode is a chat server of a cluster, with its plugin: processes of their own.
type clusterNode struct {
	name, dir string
	client    *http.Client
	skew      time.Duration // of its clock
	place     *netPlace     // where it has its network; nil: where this process has it

	mu       sync.Mutex // guards the following
	cmd      *exec.Cmd
	stdin    io.Closer
	ended    chan struct{}
	since    time.Duration // when it was a member for the first time
	troubles []trouble
}

// A trouble is a time in which a node may run again what it ran before: from when something was done to it until it was
// well again.
type trouble struct{ from, to time.Duration }

func newClusterNode(dir, name string) *clusterNode {
	n := &clusterNode{name: name, dir: dir}
	n.client = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", n.path(socketFile))
		},
	}}
	return n
}

func (n *clusterNode) path(file string) string { return filepath.Join(n.dir, file) }

// start starts the chat server, and waits until its plugin is a member of the cluster.
func (n *clusterNode) start(ctx context.Context) error {
	if err := n.launch(); err != nil {
		return err
	}
	return n.waitUntilRunning(ctx, 0)
}

// launch starts the chat server, which opens its host then.
func (n *clusterNode) launch() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(n.path(logFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self, "cluster-child", "--dir", n.dir)
	cmd.Stdout, cmd.Stderr = log, log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	n.client.CloseIdleConnections()
	start := cmd.Start
	if n.place != nil {
		start = func() error { return n.place.run(cmd.Start) }
	}
	if err := start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}()
	n.mu.Lock()
	n.cmd, n.stdin, n.ended = cmd, stdin, ended
	n.mu.Unlock()
	return nil
}

// waitUntilRunning waits until the host has a plugin that answers, and is another process than before.
func (n *clusterNode) waitUntilRunning(ctx context.Context, before int) error {
	ctx, cancel := context.WithTimeout(ctx, nodeStartTimeout)
	defer cancel()
	for {
		state, err := n.state(ctx)
		if err == nil && state.Phase == host.PhaseRunning && state.PID != before {
			n.mu.Lock()
			if n.since == 0 {
				n.since = now()
			}
			n.mu.Unlock()
			return nil
		}
		select {
		case <-n.processEnded():
			return fmt.Errorf("the chat server %s has ended:\n%s", n.name, n.lastLines())
		case <-ctx.Done():
			return fmt.Errorf("node %s does not run (%s, %v): %w\n%s", n.name, state.Phase, err, ctx.Err(), n.lastLines())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (n *clusterNode) processEnded() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ended
}

// lastLines are the last of the node's log.
func (n *clusterNode) lastLines() string {
	data, _ := os.ReadFile(n.path(logFile))
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// waitForLog waits until the node logs a text, from an offset in its log on; see logSize.
func (n *clusterNode) waitForLog(ctx context.Context, from int64, text string) error {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	for {
		if n.hasLogged(from, text) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not log %q: %w\n%s", n.name, text, ctx.Err(), n.lastLines())
		case <-time.After(time.Millisecond):
		}
	}
}

// logTimeout is how long it may take until something that must happen is logged.
const logTimeout = 90 * time.Second

// hasLogged reports whether the node has logged a text, from an offset in its log on.
func (n *clusterNode) hasLogged(from int64, text string) bool {
	file, err := os.Open(n.path(logFile))
	if err != nil {
		return false
	}
	defer file.Close()
	data, _ := io.ReadAll(io.NewSectionReader(file, from, 1<<40))
	return bytes.Contains(data, []byte(text))
}

// logSize is where the node's log ends now.
func (n *clusterNode) logSize() int64 {
	info, err := os.Stat(n.path(logFile))
	if err != nil {
		return 0
	}
	return info.Size()
}

// troubled notes what the fault does to the node from now on until the returned function is called.
func (n *clusterNode) troubled() (well func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := len(n.troubles)
	n.troubles = append(n.troubles, trouble{from: now(), to: 1<<63 - 1})
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.troubles[i].to = now()
	}
}

// killPlugin kills the plugin, and waits until another one runs.
func (n *clusterNode) killPlugin(ctx context.Context) error {
	state, err := n.state(ctx)
	if err != nil {
		return err
	}
	if state.PID == 0 {
		return n.waitUntilRunning(ctx, 0)
	}
	defer n.troubled()()
	if err := syscall.Kill(state.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return n.waitUntilRunning(ctx, state.PID)
}

// pids are the chat server, and its plugins.
func (n *clusterNode) pids() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return nil
	}
	pids := []int{n.cmd.Process.Pid}
	for pid, p := range processes() {
		if p.parent == pids[0] {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (n *clusterNode) signal(signal syscall.Signal) (err error) {
	for _, pid := range n.pids() {
		if one := syscall.Kill(pid, signal); !errors.Is(one, syscall.ESRCH) {
			err = errors.Join(err, one)
		}
	}
	return err
}

// kill kills the chat server and its plugin. It returns when the chat server is gone.
func (n *clusterNode) kill() error {
	err := n.signal(syscall.SIGKILL)
	n.mu.Lock()
	stdin, ended := n.stdin, n.ended
	n.cmd = nil
	n.mu.Unlock()
	if ended != nil {
		<-ended
		_ = stdin.Close()
	}
	return err
}

// upgrade replaces the plugin by another binary, and returns how long calls were held.
func (n *clusterNode) upgrade(ctx context.Context, binary string) (held time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, nodeStartTimeout)
	defer cancel()
	report, err := ask[host.UpgradeReport](ctx, n, "/upgrade", binary)
	return report.Held, err
}

// ask makes a call of the node.
func ask[A any](ctx context.Context, n *clusterNode, path string, question any) (answer A, err error) {
	body, err := json.Marshal(question)
	if err != nil {
		return answer, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://node"+path, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	res, err := n.client.Do(req)
	if err != nil {
		return answer, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return answer, fmt.Errorf("%s%s: %s", n.name, path, bytes.TrimSpace(text))
	}
	return answer, json.NewDecoder(res.Body).Decode(&answer)
}

func (n *clusterNode) state(ctx context.Context) (host.State, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return ask[host.State](ctx, n, "/state", struct{}{})
}

// position is how far the node has applied the log.
func (n *clusterNode) position(ctx context.Context) (uint64, error) {
	return n.gauge(ctx, "recall_cluster_position")
}

// gauge reads a metric of the node.
func (n *clusterNode) gauge(ctx context.Context, name string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	metrics, err := ask[[]shared.Metric](ctx, n, "/metrics", struct{}{})
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(metrics, func(m shared.Metric) bool { return m.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("%s has no metric %s", n.name, name)
	}
	return uint64(metrics[i].Value), nil
}

// notes reads what the node wrote down.
func (n *clusterNode) notes() ([]note, error) {
	file, err := os.Open(n.path(notesFile))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []note
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one note
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return nil, fmt.Errorf("the notes of %s, %q: %w", n.name, lines.Text(), err)
		}
		all = append(all, one)
	}
	return all, lines.Err()
}
