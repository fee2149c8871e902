// Package sidecartest gives the tests of a chat server a real recall-sidecar with a real plugin, and its faults on
// demand.
package sidecartest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
)

const (
	readyTimeout = 2 * time.Minute // as long as host.Open may wait for the index of a process that was killed
	stopTimeout  = time.Minute
	logTail      = 16 << 10 // bytes of the log that a failed test shows
)

// Sidecar is a recall-sidecar. Its methods are for the goroutine of the test.
type Sidecar struct {
	Dir    string       // of its files: sidecar.hcl, plugin.hcl, the index and the log
	Socket string       // path of its unix socket, with /v1/admin
	Client *http.Client // of that socket, for any host name

	t     testing.TB
	cmd   *exec.Cmd     // nil: it does not run
	ended chan struct{} // closed when cmd has ended
}

// Build builds recall-sidecar and returns its path.
func Build(t testing.TB) string {
	t.Helper()
	return hosttest.Build(t, "sidecar")
}

// Start starts a sidecar, waits until it is ready, and ends it with the test. blocks are appended to sidecar.hcl, which
// has a unix socket already: for example the steps. plugin.hcl has no rules: the built-in ones decide.
func Start(t testing.TB, blocks ...string) *Sidecar {
	t.Helper()
	dir := hosttest.RunDir(t)
	s := &Sidecar{Dir: dir, Socket: filepath.Join(dir, "recall.sock"), t: t}
	s.Client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.Socket)
		},
	}}
	t.Cleanup(s.Client.CloseIdleConnections)
	hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	text := `plugin_file = "plugin.hcl"
run_dir     = "run"

listen "unix" {
  path  = "recall.sock"
  admin = true
}
`
	for _, block := range blocks {
		text += "\n" + block + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "sidecar.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.Stop()
		}
		if t.Failed() {
			log, _ := os.ReadFile(s.log())
			t.Logf("the end of the log of the sidecar:\n%s", log[max(0, len(log)-logTail):])
		}
	})
	s.Start()
	return s
}

func (s *Sidecar) log() string { return filepath.Join(s.Dir, "log") }

// Start starts the sidecar again after Stop or Kill, and waits until it is ready.
func (s *Sidecar) Start() {
	s.t.Helper()
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(Build(s.t), "--config", filepath.Join(s.Dir, "sidecar.hcl"))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan<- struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(s.cmd, s.ended)
	s.awaitReady()
}

// awaitReady waits until calls are answered.
func (s *Sidecar) awaitReady() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), readyTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := s.ready(ctx); err == nil {
			return
		} else if ctx.Err() != nil {
			s.t.Fatalf("the sidecar is not ready: %v", err)
		}
		select {
		case <-s.ended:
			s.t.Fatalf("the sidecar ended: %s", s.cmd.ProcessState)
		case <-tick.C:
		}
	}
}

func (s *Sidecar) ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", nil)
	if err != nil {
		return err
	}
	res, err := s.Client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", text)
	}
	return err
}

// Stop ends the sidecar with SIGTERM and waits for it. The test fails if it does not end with status 0.
func (s *Sidecar) Stop() {
	s.t.Helper()
	s.end(syscall.SIGTERM)
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("the sidecar ended after SIGTERM with %s", s.cmd.ProcessState)
	}
	s.cmd = nil
}

// Kill ends the sidecar with SIGKILL and waits for it. Its plugin then ends by itself.
func (s *Sidecar) Kill() {
	s.t.Helper()
	s.end(syscall.SIGKILL)
	s.cmd = nil
}

func (s *Sidecar) end(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.ended:
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.ended
		s.t.Fatalf("the sidecar did not end within %s of %s", stopTimeout, sig)
	}
}

// Signal sends a signal to the sidecar.
func (s *Sidecar) Signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// KillPlugin ends the plugin with SIGKILL. The sidecar then starts it again.
func (s *Sidecar) KillPlugin() {
	s.t.Helper()
	var state struct{ PID int }
	s.Post("admin/state", "{}", &state)
	if state.PID == 0 {
		s.t.Fatal("there is no plugin process at this moment")
	}
	if err := syscall.Kill(state.PID, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// Upgrade replaces the plugin by a new process of the same binary.
func (s *Sidecar) Upgrade() {
	s.t.Helper()
	s.Post("admin/upgrade", fmt.Sprintf(`{"path":%q}`, hosttest.BuildPlugin(s.t)), nil)
}

// Post makes the call POST /v1/path and decodes its response into answer, if that is not nil. The test fails if the
// response is not 200.
func (s *Sidecar) Post(path, body string, answer any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://localhost/v1/"+path,
		strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := s.Client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %s %s, %v", path, body, res.Status, text, err)
	}
	if answer == nil {
		return
	}
	if err := json.Unmarshal(text, answer); err != nil {
		s.t.Fatalf("%s: %s: %v", path, text, err)
	}
}
