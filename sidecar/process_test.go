package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/sidecar/sidecartest"
)

const status = `{"tenant":"acme","ids":["m"]}`

// command runs the binary to its end.
func command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), sidecartest.Build(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	good := writeFile(t, dir, "good.hcl", `plugin_file = "plugin.hcl"
listen "unix" { path = "s" }
listen "tcp" {
  address    = "127.0.0.1:0"
  token_file = "token"
}
`)
	hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	tcpOnly := writeFile(t, dir, "tcp.hcl", `plugin_file = "plugin.hcl"
listen "tcp" {
  address    = "127.0.0.1:0"
  token_file = "token"
}
`)
	writeFile(t, dir, "token", "a-token-of-some-length\n")
	bad := writeFile(t, dir, "bad.hcl", "plugin_file = \"plugin.hcl\"\nlisten \"unix\" { path = \"s\" }\nstep \"x\" {}\n")
	noToken := writeFile(t, dir, "notoken.hcl", strings.ReplaceAll(`plugin_file = "plugin.hcl"
listen "tcp" {
  address    = "127.0.0.1:0"
  token_file = "TOKEN"
}
`, "TOKEN", "open"))
	writeFile(t, dir, "open", "a-token-of-some-length\n")
	if err := os.Chmod(filepath.Join(dir, "open"), 0o644); err != nil {
		t.Fatal(err)
	}
	noPlugin := writeFile(t, dir, "noplugin.hcl", "plugin_file = \"none.hcl\"\nlisten \"unix\" { path = \"s\" }\n")
	noKey := writeFile(t, dir, "nokey.hcl", `plugin_file = "plugin.hcl"
listen "tcp" {
  address    = "127.0.0.1:0"
  token_file = "token"
  tls_cert   = "none.pem"
  tls_key    = "none.pem"
}
`)
	for _, c := range []struct {
		args        []string
		code        int
		out, errors string
	}{
		{[]string{"-h"}, 0, "usage: recall-sidecar", ""},
		{[]string{"version"}, 0, "recall-sidecar ", ""},
		{[]string{"--check", "--config", good}, 0, "is valid", ""},
		{[]string{"--check", "--config", bad}, 1, "", "bad.hcl:3"},
		{[]string{"--check", "--config", noToken}, 1, "", "chmod 600"},
		{[]string{"--check", "--config", noPlugin}, 1, "", "none.hcl"},
		{[]string{"--check", "--config", noKey}, 1, "", "none.pem"},
		{[]string{"--config", bad}, 1, "", "bad.hcl:3"},
		{[]string{"--config", noKey}, 1, "", "none.pem"},
		{[]string{"--config", filepath.Join(dir, "nothing")}, 1, "", "--config"},
		{[]string{"healthcheck", "--config", good}, 1, "", "not ready"},
		{[]string{"healthcheck", "--config", bad}, 1, "", "bad.hcl:3"},
		{[]string{"export", "-h"}, 0, "--tenant T", ""},
		{[]string{"export", "--config", good}, 2, "", "--tenant is missing"},
		{[]string{"export", "--tenant", "acme", "now"}, 2, "", `"now"`},
		{[]string{"export", "--tenant", "acme", "--from", "yesterday"}, 2, "", "2026-11-01T12:00:00Z"},
		{[]string{"export", "--tenant", "acme", "--conversation", "g1"}, 2, "", "group/g1"},
		{[]string{"export", "--tenant", "acme", "--output", "x", "--after", "y"}, 2, "", "--after"},
		{[]string{"export", "--tenant", "acme", "--config", bad}, 1, "", "bad.hcl:3"},
		{[]string{"export", "--tenant", "acme", "--config", tcpOnly}, 1, "", `listen "unix"`},
		{[]string{"start"}, 2, "", `"start"`},
		{[]string{"version", "now"}, 2, "", `"now"`},
		{[]string{"--port", "1"}, 2, "", "-port"},
	} {
		out, errs, code := command(t, c.args...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errors) {
			t.Errorf("%v: exit %d\n%s%s", c.args, code, out, errs)
		}
	}
}

func TestServe_Healthcheck(t *testing.T) {
	s := sidecartest.Start(t)
	if out, errs, code := command(t, "healthcheck", "--config", filepath.Join(s.Dir, "sidecar.hcl")); code != 0 ||
		out != "ready\n" {
		t.Errorf("exit %d, %s%s", code, out, errs)
	}
	t.Run("another one on the same socket", func(t *testing.T) {
		_, errs, code := command(t, "--config", filepath.Join(s.Dir, "sidecar.hcl"))
		if code != 1 || !strings.Contains(errs, "another process answers at") {
			t.Errorf("exit %d, %s", code, errs)
		}
		s.Post("status", status, nil)
	})
}

func TestServe_SocketMode(t *testing.T) {
	s := sidecartest.Start(t)
	info, err := os.Stat(s.Socket)
	if err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Error(info.Mode(), err)
	}
}

// SIGTERM ends polls and answers calls that are under way.
func TestServe_LogsWhereItListens(t *testing.T) {
	s := sidecartest.Start(t)
	log, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`"listeners":[%q]`, s.Socket); !strings.Contains(string(log), want) {
		t.Errorf("the log has no %s:\n%s", want, log)
	}
}

func TestServe_Terminated(t *testing.T) {
	s := sidecartest.Start(t, "step \"history\" {\n  pull = true\n}")
	polled := make(chan string, 1)
	go func() {
		resp, err := s.Client.Post("http://localhost/v1/steps/take", "application/json", strings.NewReader(`{"wait":"30s"}`))
		if err != nil {
			polled <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		polled <- string(text)
	}()
	var state struct {
		PulledSteps []struct{ Waiting int } `json:"pulled_steps"`
	}
	s.Post("admin/state", "{}", &state)
	for metric := ""; !strings.Contains(metric, "recall_sidecar_in_flight 2\n"); {
		resp, err := s.Client.Get("http://localhost/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		metric = string(text)
	}
	began := time.Now()
	s.Stop()
	if answer := <-polled; !strings.Contains(answer, `"deliveries":[]`) || time.Since(began) > 20*time.Second {
		t.Errorf("%s after %s", answer, time.Since(began))
	}
}

// SIGHUP reads tokens again. A file that is wrong changes nothing.
func TestServe_HangUp(t *testing.T) {
	port := freePort(t)
	dir := t.TempDir()
	tokens := writeFile(t, dir, "token", "the-first-token-of-all\n")
	s := sidecartest.Start(t, fmt.Sprintf("listen \"tcp\" {\n  address = \"127.0.0.1:%s\"\n  token_file = %q\n}", port,
		tokens))
	try := func(token string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%s/v1/status",
			port),
			strings.NewReader(status))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if try("the-first-token-of-all") != 200 || try("the-second-token-of-all") != 401 {
		t.Fatal("the first token does not hold")
	}
	writeFile(t, dir, "token", "short\n")
	s.Signal(syscall.SIGHUP)
	writeFile(t, dir, "token", "the-second-token-of-all\n")
	s.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(20 * time.Second); try("the-second-token-of-all") != 200; {
		if time.Now().After(deadline) {
			t.Fatal("the second token does not hold")
		}
	}
	if try("the-first-token-of-all") != 401 {
		t.Error("the first token holds still")
	}
}

// systemd is what systemd is for a service: it holds the socket, and hears how the service is.
type systemd struct {
	t      *testing.T
	dir    string
	socket *os.File
	notify *net.UnixConn
}

func newSystemd(t *testing.T) *systemd {
	t.Helper()
	dir := hosttest.RunDir(t)
	hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	writeFile(t, dir, "sidecar.hcl", `plugin_file = "plugin.hcl"
run_dir     = "run"
listen "unix" {
  path  = "s"
  admin = true
}
`)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "s"), 0o660); err != nil {
		t.Fatal(err)
	}
	d := &systemd{t: t, dir: dir}
	if d.socket, err = ln.File(); err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	t.Cleanup(func() { _ = d.socket.Close() })
	if d.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.notify.Close() })
	return d
}

// start starts the service. It returns once the process runs, and does not wait until it is ready.
func (d *systemd) start() *exec.Cmd {
	d.t.Helper()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" --config "$1"`, sidecartest.Build(d.t),
		filepath.Join(d.dir, "sidecar.hcl"))
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=recall", "NOTIFY_SOCKET="+filepath.Join(d.dir, "n"))
	cmd.ExtraFiles = []*os.File{d.socket}
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	return cmd
}

// hears returns the next state that the service tells.
func (d *systemd) hears() string {
	d.t.Helper()
	_ = d.notify.SetReadDeadline(time.Now().Add(time.Minute))
	text := make([]byte, 1024)
	n, err := d.notify.Read(text)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
		d.t.Fatalf("%v\n%s", err, log)
	}
	return string(text[:n])
}

func (d *systemd) stop(cmd *exec.Cmd) {
	d.t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
		d.t.Errorf("%v\n%s", err, log)
	}
}

// While the service restarts, the socket is with systemd: no call on a new connection fails, without any retry.
func TestServe_SocketActivation(t *testing.T) {
	d := newSystemd(t)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(d.dir, "s"))
		},
	}}
	var calls atomic.Int64
	call := func() error {
		resp, err := client.Post("http://localhost/v1/status", "application/json", strings.NewReader(status))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != 200 {
			err = fmt.Errorf("%s %s", resp.Status, text)
		}
		calls.Add(1)
		return err
	}
	done := make(chan struct{})
	var callers sync.WaitGroup
	for range 16 { // the first calls come before the first process
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := call(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 4 {
		cmd := d.start()
		if s := d.hears(); s != "READY=1" {
			t.Errorf("%q", s)
		}
		for before := calls.Load(); calls.Load() < before+200 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		if pid := pluginOf(t, cmd.Process.Pid); inherits(t, pid, filepath.Join(d.dir, "s")) {
			t.Error("the plugin has the socket of the service")
		}
		d.stop(cmd)
		if s := d.hears(); s != "STOPPING=1" {
			t.Errorf("%q", s)
		}
	}
	cmd := d.start()
	close(done)
	callers.Wait()
	d.hears()
	d.stop(cmd)
	t.Logf("%d calls", calls.Load())
}

// pluginOf returns the process that a sidecar has started.
func pluginOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range all {
		if one, err := os.ReadFile(file); err == nil {
			text = append(text, one...)
		}
	}
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		t.Fatal("the sidecar has no plugin")
	}
	return fields[0]
}

// inherits reports whether a process has a socket that listens at path.
func inherits(t *testing.T, pid, path string) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("/proc/" + pid + "/fd/*")
	if len(files) == 0 {
		t.Fatal("the plugin has no files")
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[7] != path {
			continue
		}
		for _, f := range files {
			if to, _ := os.Readlink(f); to == "socket:["+fields[6]+"]" {
				return true
			}
		}
	}
	return false
}
