package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
)

// server is a running demo, as one part of a test sees it.
type server struct {
	t      testing.TB // the subtest that runs now
	part   testing.TB // the part of the test: what it connects stays until it ends
	dir    string     // --data
	offset int
	cmd    *exec.Cmd
	out    hosttest.LogBuffer
	done   chan struct{}
	api    *http.Client
}

// start starts the demo and waits until it is ready. It ends with the test.
func start(t testing.TB, dir string, offset int, storage string) *server {
	t.Helper()
	for _, program := range []string{"prosody", "lua5.4"} {
		if _, err := exec.LookPath(program); err != nil {
			hosttest.Missing(t, program+": "+install)
		}
	}
	for name, path := range map[string]string{
		"recall-plugin": hosttest.BuildPlugin(t), "recall-sidecar": hosttest.Build(t, "sidecar"),
	} {
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	d := &server{t: t, part: t, dir: dir, offset: offset, done: make(chan struct{})}
	d.api = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "recall.sock"))
	}}}
	d.cmd = exec.Command(hosttest.Build(t, "adapters/prosody/demo"), "--data", dir, "--offset", strconv.Itoa(offset),
		"--storage", storage, "--window", "5m")
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.done)
	}()
	t.Cleanup(func() {
		d.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the demo says:\n%s\nthe end of the log of Prosody:\n%s", d.out.String(), d.tail("prosody.log"))
		}
	})
	d.eventually("the demo is ready", func() bool {
		select {
		case <-d.done:
			t.Fatalf("the demo ended: %s\n%s", d.cmd.ProcessState, d.out.String())
		default:
		}
		return strings.Contains(d.out.String(), "Ready.")
	})
	return d
}

// of is the server for a part of the test.
func (d *server) of(t testing.TB) *server {
	return &server{t: t, part: t, dir: d.dir, offset: d.offset, cmd: d.cmd, done: d.done, api: d.api}
}

// run runs a subtest. A failure of a client ends it.
func (d *server) run(name string, test func(*testing.T)) {
	parent := d.t
	parent.(*testing.T).Run(name, func(t *testing.T) {
		d.t = t
		defer func() { d.t = parent }()
		test(t)
	})
}

// end signals the process group of the demo and waits for the demo.
func (d *server) end(sig syscall.Signal) {
	_ = syscall.Kill(-d.cmd.Process.Pid, sig)
	<-d.done
}

func (d *server) tail(name string) string {
	text, _ := os.ReadFile(filepath.Join(d.dir, name))
	return string(text[max(0, len(text)-6000):])
}

// eventually waits until ok is true.
func (d *server) eventually(what string, ok func() bool) {
	d.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			d.t.Fatalf("it does not happen that %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// call makes a call of the sidecar's API. It returns an error if the sidecar does not answer 200.
func (d *server) call(path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := d.api.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, text)
	}
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

func (d *server) must(path string, request, answer any) {
	d.t.Helper()
	if err := d.call(path, request, answer); err != nil {
		d.t.Fatalf("%s: %v", path, err)
	}
}

type dict = map[string]any

// state answers what Recall knows of a message: unknown, live or recalled.
func (d *server) state(id string) string {
	d.t.Helper()
	var answer struct{ Results []struct{ State string } }
	d.must("status", dict{"tenant": "prosody", "ids": []string{id}}, &answer)
	return answer.Results[0].State
}

// settled waits until all steps of a recall have an outcome, and returns them.
func (d *server) settled(recallID string) map[string]string {
	d.t.Helper()
	var steps map[string]string
	d.eventually("all steps of "+recallID+" are settled", func() bool {
		var page struct {
			Entries []struct {
				Steps []struct{ Step, Outcome, Error string }
			}
		}
		err := d.call("ledger", dict{"tenant": "prosody", "recall_id": recallID}, &page)
		if err != nil || len(page.Entries) == 0 {
			return false
		}
		steps = map[string]string{}
		for _, e := range page.Entries {
			for _, s := range e.Steps {
				if s.Outcome == "" || s.Outcome == "failed" {
					return false
				}
				steps[s.Step] = s.Outcome
			}
		}
		return true
	})
	return steps
}

// window puts other rules in force.
func (d *server) window(w string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, "rules.hcl"), rulesText(w), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.must("admin/reload", dict{}, nil)
}

// pids are the processes of the demo: its children, and the child of the sidecar.
func (d *server) pids() map[string]int {
	parents, names := map[int]int{}, map[int]string{}
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range all {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[0] != "Z" {
			parents[pid], _ = strconv.Atoi(fields[1])
			command, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			names[pid] = string(command)
		}
	}
	pids := map[string]int{}
	for pid, parent := range parents {
		switch {
		case parent == d.cmd.Process.Pid && strings.Contains(names[pid], "sidecar.hcl"):
			pids["recall-sidecar"] = pid
		case parent == d.cmd.Process.Pid && strings.Contains(names[pid], "prosody.cfg.lua"):
			pids["prosody"] = pid
		case parents[parent] == d.cmd.Process.Pid && strings.Contains(names[parent], "sidecar.hcl"):
			pids["recall-plugin"] = pid
		}
	}
	return pids
}

func (d *server) signal(name string, sig syscall.Signal) int {
	d.t.Helper()
	pid := d.pids()[name]
	if pid == 0 {
		d.t.Fatalf("no %s runs", name)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		d.t.Fatal(err)
	}
	if sig == syscall.SIGSTOP {
		d.eventually(name+" has stopped", func() bool {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err == nil && strings.Contains(string(text), ") T ")
		})
	}
	return pid
}

// kill ends a process of the demo with SIGKILL, and waits until another one has taken its place and answers.
func (d *server) kill(name string) {
	d.t.Helper()
	old := d.signal(name, syscall.SIGKILL)
	d.eventually("another "+name+" runs", func() bool {
		pid := d.pids()[name]
		if pid == 0 || pid == old || d.call("status", dict{"tenant": "prosody", "ids": []string{"x"}}, nil) != nil {
			return false
		}
		return d.accepts()
	})
}

// accepts reports whether Prosody accepts connections.
func (d *server) accepts() bool {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", portC2S+d.offset))
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// onDisk lists the files of Prosody that have a text.
func (d *server) onDisk(text string) (files []string) {
	d.t.Helper()
	err := filepath.WalkDir(filepath.Join(d.dir, "prosody"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return ignoreMissing(err)
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			files = append(files, path)
		}
		return ignoreMissing(err)
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return files
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// gone waits until no file of Prosody has a text.
func (d *server) gone(text string) {
	d.t.Helper()
	what := fmt.Sprintf("%s is in no file, but in %s", text, d.onDisk(text))
	d.eventually(what, func() bool { return len(d.onDisk(text)) == 0 })
}
