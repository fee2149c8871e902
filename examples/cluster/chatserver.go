package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chat-recall/recall/examples/host-app/chat"
	"github.com/chat-recall/recall/host"
)

const (
	watchEvery   = 250 * time.Millisecond
	watchTimeout = time.Second
)

var (
	errUnknown = errors.New("there is no such action")
	errNotNow  = errors.New("it does not run, or runs already: see its state")
)

// chatServer is one node: a chat server and its plugin.
type chatServer struct {
	name, user string
	addr       string
	data       string // the folder that the chat servers share
	log        string // the file that it logs to
	args       []string

	mu      sync.Mutex
	process *exec.Cmd     // nil: it does not run
	ended   chan struct{} // closed when process has ended
	status  status
	why     string // it ended by itself
	held    int    // pid of a plugin that is stopped by itself, 0: none

	plugin    host.State // in the last answer of the server
	reachable bool       // the server answered the last request
}

// start starts the chat server, which starts its plugin.
func (c *chatServer) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		return errNotNow
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self, c.args...)
	cmd.Stdout, cmd.Stderr = log, log
	// Ctrl-C is for this process alone, which ends the others; when it is killed, they end too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the chat server %s: %w", c.name, err)
	}
	end := make(chan struct{})
	c.process, c.ended, c.status, c.why, c.held = cmd, end, starting, "", 0
	c.plugin, c.reachable = host.State{}, false
	go func() {
		err := cmd.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.status != ended && err != nil {
			c.why = fmt.Sprintf("it ended: %v\n%s", err, c.lastLines())
		}
		c.process, c.status, c.reachable = nil, ended, false
		close(end)
	}()
	return nil
}

// lastLines are the last of what the server logged.
func (c *chatServer) lastLines() string {
	content, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
}

// waitUntilUp waits until the server serves and its plugin is connected.
func (c *chatServer) waitUntilUp(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		c.mu.Lock()
		up, why := c.reachable && c.plugin.Cluster != nil && c.plugin.Cluster.Connected, c.why
		c.mu.Unlock()
		switch {
		case up:
			return nil
		case why != "":
			return fmt.Errorf("the chat server %s: %s", c.name, why)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the chat server %s does not serve: %w\n%s", c.name, ctx.Err(), c.lastLines())
		}
	}
}

// watch keeps the state of the plugin up to date until ctx ends.
func (c *chatServer) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		c.ask(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// ask asks the server for the state of its plugin.
func (c *chatServer) ask(ctx context.Context) {
	c.mu.Lock()
	process := c.process
	asked := process != nil && c.status != stopped
	c.mu.Unlock()
	if !asked {
		return
	}
	state, err := c.readState(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != process { // it was of another one
		return
	}
	c.reachable = err == nil
	if err != nil {
		return
	}
	c.plugin = state
	if c.status == starting {
		c.status = running
	}
	if state.PID != c.held { // the server has started another one instead of the one that was stopped
		c.held = 0
	}
}

// readState asks the chat server for the state of its plugin.
func (c *chatServer) readState(ctx context.Context) (state host.State, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url()+"/plugin?user="+c.user, nil)
	if err != nil {
		return state, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return state, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return state, fmt.Errorf("%s: %s", c.url(), answer.Status)
	}
	return state, json.NewDecoder(answer.Body).Decode(&state)
}

func (c *chatServer) url() string { return "http://" + c.addr }

// do kills, stops, continues or starts the server with its plugin.
func (c *chatServer) do(ctx context.Context, action string) error {
	switch action {
	case "kill":
		c.kill()
		return nil
	case "start":
		return c.start()
	case "stop":
		c.ask(ctx)
		return chat.BetweenWrites(ctx, c.data, func() error { return c.signal(syscall.SIGSTOP, stopped) })
	case "continue":
		return c.signal(syscall.SIGCONT, running)
	}
	return errUnknown
}

// signal sends the server and its plugin a signal, as if the machine stood still, or went on.
func (c *chatServer) signal(signal syscall.Signal, then status) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return errNotNow
	}
	if err := c.process.Process.Signal(signal); err != nil {
		return fmt.Errorf("signal the chat server %s: %w", c.name, err)
	}
	c.status, c.held = then, 0
	if err := c.signalPlugin(signal); err != nil || signal != syscall.SIGSTOP {
		return err
	}
	err := error(unix.EINTR) // until no thread of the server runs any more
	for errors.Is(err, unix.EINTR) {
		err = unix.Waitid(unix.P_PID, c.process.Process.Pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
	}
	return err
}

// signalPlugin sends the plugin a signal, if there is one at this moment. The lock is held.
func (c *chatServer) signalPlugin(signal syscall.Signal) error {
	if c.plugin.PID == 0 {
		return nil
	}
	if err := syscall.Kill(c.plugin.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal the plugin of %s: %w", c.name, err)
	}
	return nil
}

// kill kills the server and its plugin, and waits for their end.
func (c *chatServer) kill() {
	c.mu.Lock()
	process, end, plugin := c.process, c.ended, c.plugin.PID
	if process == nil {
		c.mu.Unlock()
		return
	}
	c.status = ended
	_ = process.Process.Kill()
	c.mu.Unlock()
	<-end
	if plugin == 0 {
		return
	}
	// A plugin that runs is a child of this process by now. Another process may have the id of one that ended before.
	if pid, err := unix.Wait4(plugin, nil, unix.WNOHANG, nil); err != nil || pid != 0 {
		return
	}
	_ = syscall.Kill(plugin, syscall.SIGKILL)
	for err := error(unix.EINTR); errors.Is(err, unix.EINTR); {
		_, err = unix.Wait4(plugin, nil, 0, nil)
	}
}

// doPlugin kills, stops or continues the plugin alone. Its server starts another one by itself.
func (c *chatServer) doPlugin(ctx context.Context, action string) error {
	signal, ok := map[string]syscall.Signal{
		"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP, "continue": syscall.SIGCONT,
	}[action]
	if !ok {
		return errUnknown
	}
	c.ask(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil || c.status == stopped || c.plugin.PID == 0 {
		return errNotNow
	}
	if err := c.signalPlugin(signal); err != nil {
		return err
	}
	c.held = 0
	if action == "stop" {
		c.held = c.plugin.PID
	}
	return nil
}

// nodeState is what the page shows of a node.
type nodeState struct {
	Name   string     `json:"name"`
	User   string     `json:"user"`
	URL    string     `json:"url"`
	Status status     `json:"status"`
	Why    string     `json:"why,omitempty"`
	Fresh  bool       `json:"fresh"` // Plugin is as of now
	Held   bool       `json:"held"`  // the plugin is stopped
	Plugin host.State `json:"plugin,omitzero"`
}

func (c *chatServer) state() nodeState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return nodeState{Name: c.name, User: c.user, URL: c.url(), Status: c.status, Why: strings.TrimSpace(c.why),
		Fresh: c.reachable && c.status == running, Held: c.held != 0, Plugin: c.plugin}
}
