package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// sidecarProcess is recall-sidecar in a folder with a plugin.hcl.
type sidecarProcess struct {
	dir, binary string
	steps       string // blocks of sidecar.hcl

	cmd   *exec.Cmd // nil: it does not run
	ended chan error
}

const (
	sidecarReady = 2 * time.Minute // as long as host.Open may wait for a killed process
	sidecarStop  = time.Minute
)

func (p *sidecarProcess) socket() string { return filepath.Join(p.dir, "recall.sock") }
func (p *sidecarProcess) hooks() string  { return filepath.Join(p.dir, "hooks.sock") }
func (p *sidecarProcess) config() string { return filepath.Join(p.dir, "sidecar.hcl") }

// webhookStep is the block of a step that the sidecar sends to the socket hooks.
func webhookStep(name string) string {
	return fmt.Sprintf("step %q {\n  webhook     = \"http://localhost/%s\"\n  socket      = \"hooks.sock\"\n"+
		"  secret_file = \"hooks.secret\"\n  timeout     = \"1m\"\n}\n", name, name)
}

// write writes its files.
func (p *sidecarProcess) write() error {
	text := "plugin_file = \"plugin.hcl\"\nrun_dir     = \".\"\n\nlisten \"unix\" {\n  path = \"recall.sock\"\n}\n\n" +
		p.steps
	secret := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"
	return errors.Join(os.WriteFile(p.config(), []byte(text), 0o600),
		os.WriteFile(filepath.Join(p.dir, "hooks.secret"), []byte(secret), 0o600))
}

// buildSidecar builds recall-sidecar into a folder.
func buildSidecar(dir string) (string, error) {
	binary := filepath.Join(dir, "recall-sidecar")
	if out, err := exec.Command("go", "build", "-o", binary,
		"github.com/chat-recall/recall/sidecar").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the sidecar: %w\n%s", err, out)
	}
	return binary, nil
}

// start starts it. Calls wait until it is ready.
func (p *sidecarProcess) start() error {
	log, err := os.OpenFile(filepath.Join(p.dir, "sidecar.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, ended := exec.Command(p.binary, "--config", p.config()), make(chan error, 1)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { ended <- cmd.Wait() }()
	p.cmd, p.ended = cmd, ended
	return nil
}

// ready waits until calls are answered.
func (p *sidecarProcess) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sidecarReady)
	defer cancel()
	client := unixClient(p.socket(), false)
	defer client.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, sidecarURL+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-p.ended:
			p.ended <- err
			return fmt.Errorf("the sidecar ended: %v\n%s", err, p.log())
		case <-ctx.Done():
			return fmt.Errorf("the sidecar is not ready: %w\n%s", ctx.Err(), p.log())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// log is the end of its log.
func (p *sidecarProcess) log() []byte {
	text, _ := os.ReadFile(filepath.Join(p.dir, "sidecar.log"))
	return text[max(0, len(text)-4096):]
}

// kill ends it with SIGKILL, and its plugin with it.
func (p *sidecarProcess) kill() error { return p.end(syscall.SIGKILL) }

// stop ends it as systemd does.
func (p *sidecarProcess) stop() error { return p.end(syscall.SIGTERM) }

func (p *sidecarProcess) end(sig syscall.Signal) error {
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(sig)
	late := time.AfterFunc(sidecarStop, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.ended
	state := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	p.cmd = nil
	if sig == syscall.SIGKILL && state.Exited() || sig == syscall.SIGTERM && state != 0 {
		return fmt.Errorf("the sidecar ended with %#x instead of by %s\n%s", int(state), sig, p.log())
	}
	return nil
}

// cpu is that of the sidecar alone, and cpuAll that of its plugin too.
func (p *sidecarProcess) cpu() time.Duration    { return cpuAlone(p.cmd.Process.Pid) }
func (p *sidecarProcess) cpuAll() time.Duration { return cpuOf(p.cmd.Process.Pid) }
