package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
)

// patience bounds every wait.
const patience = 30 * time.Second

func TestRun_WrongCommandLine(t *testing.T) {
	for args, c := range map[string]struct {
		err   error
		words string
	}{
		"--help":                {flag.ErrHelp, "-addr"},
		"--port 1":              {errUsage, "-addr"},
		"start":                 {errUsage, "-addr"},
		"chat-server --help":    {flag.ErrHelp, "-node"},
		"--addr 0.0.0.0:8090":   {nil, ""},
		"chat-server --addr :1": {nil, ""},
	} {
		var said strings.Builder
		err := run(t.Context(), strings.Fields(args), &said, &said)
		if c.err == nil {
			if err == nil || !strings.Contains(err.Error(), "loopback") {
				t.Errorf("cluster %s: %v", args, err)
			}
			continue
		}
		if !errors.Is(err, c.err) || !strings.Contains(said.String(), c.words) {
			t.Errorf("cluster %s: %v, and it said %s", args, err, said.String())
		}
	}
}

func TestServe_AddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = serve(t.Context(), l.Addr().String(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "choose another address with --addr") {
		t.Error(err)
	}
}

func TestServe_NothingToBuild(t *testing.T) {
	t.Run("outside of the module", func(t *testing.T) {
		t.Chdir(t.TempDir())
		err := serve(t.Context(), "127.0.0.1:0", io.Discard)
		if err == nil || !strings.Contains(err.Error(), "in a clone of it") {
			t.Error(err)
		}
	})
	t.Run("without Go", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		err := serve(t.Context(), "127.0.0.1:0", io.Discard)
		if err == nil || !strings.Contains(err.Error(), "install Go") {
			t.Error(err)
		}
	})
}

// example is this program as a user starts it.
type example struct {
	t      *testing.T
	cmd    *exec.Cmd
	url    string
	folder string // in which it makes its own
	ended  chan error
}

// startExample builds the program, starts it, and returns once it tells its address.
func startExample(t *testing.T) *example {
	t.Helper()
	e := &example{t: t, folder: hosttest.RunDir(t), ended: make(chan error, 1)}
	binary := filepath.Join(t.TempDir(), "cluster")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	e.cmd = exec.Command(binary, "--addr", "127.0.0.1:0")
	e.cmd.Env = append(os.Environ(), "TMPDIR="+e.folder)
	e.cmd.Stderr = t.Output()
	said, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.cmd.Process.Kill() })
	lines := bufio.NewScanner(said)
	for e.url == "" && lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "Open "); ok {
			e.url, _, _ = strings.Cut(rest, " ")
		}
	}
	go func() {
		_, _ = io.Copy(io.Discard, said)
		e.ended <- e.cmd.Wait()
	}()
	if e.url == "" {
		t.Fatalf("it does not start: %v", <-e.ended)
	}
	return e
}

// shown is what the page shows.
type shown struct {
	Nodes   []nodeState
	Servers []serverState
}

func (e *example) state() (s shown) {
	e.t.Helper()
	e.call("GET", e.url+"/state", "", nil, &s)
	return s
}

// call is one request; anything but 200 fails the test.
func (e *example) call(method, url, user string, body, answer any) {
	e.t.Helper()
	if err := request(e.t.Context(), method, url, user, body, answer); err != nil {
		e.t.Fatal(err)
	}
}

func request(ctx context.Context, method, url, user string, body, answer any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(content))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-User", user)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s %s: %s %s", method, url, response.Status, said)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
		select {
		case <-time.After(50 * time.Millisecond): // polling, bounded by the deadline
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// send sends a message to the team, as Cleo, by a server.
func (e *example) send(node int, text string) (id string) {
	e.t.Helper()
	var sent struct{ ID string }
	e.call("POST", e.state().Nodes[node].URL+"/messages", "cleo", map[string]any{
		"text": text, "conversation": map[string]string{"type": "group", "id": "team"},
	}, &sent)
	return sent.ID
}

// recall takes a message back, as Ann, by a server.
func (e *example) recall(node int, id string) {
	e.t.Helper()
	var answer struct {
		Results []struct{ Status string }
	}
	e.call("POST", e.state().Nodes[node].URL+"/recall", "ann", map[string]any{"message_ids": []string{id}}, &answer)
	if len(answer.Results) != 1 || answer.Results[0].Status != "recalled" {
		e.t.Fatalf("%+v", answer)
	}
}

func (e *example) click(p *browser, to, what string) {
	e.t.Helper()
	p.click(button(to, what))
}

// button is the selector of a button of the page.
func button(to, what string) string { return fmt.Sprintf(`[data-of=%q] [data-do=%q]`, to, what) }

// exchange sends a message by one server and takes it back by another; all see both.
func (e *example) exchange(p *browser, from, by int, text string) {
	e.t.Helper()
	id := e.send(from, text)
	for i := range count {
		p.shows(i, id, text)
	}
	e.recall(by, id)
	for i := range count {
		p.lacks(i, id, text)
	}
}

func TestCluster(t *testing.T) {
	e := startExample(t)
	p := openBrowser(t, e)
	run := func(name string, do func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			whole := e.t
			defer func() { e.t, p.t = whole, whole }()
			e.t, p.t = t, t
			do(t)
		})
	}
	run("a recall on one server removes the message on all", func(*testing.T) { e.exchange(p, 0, 1, "first") })

	run("a plugin is killed", func(t *testing.T) {
		before := e.state().Nodes[1].Plugin.PID
		e.click(p, "plugin-n1", "kill")
		e.exchange(p, 1, 2, "plugin killed")
		eventually(t, "another plugin runs", func() bool {
			n := e.state().Nodes[1]
			return n.Plugin.PID != before && n.Plugin.Restarts == 1
		})
	})
	run("a chat server is killed, and what is recalled meanwhile disappears", func(t *testing.T) {
		id := e.send(2, "while it was away")
		p.shows(2, id, "while it was away")
		e.click(p, "n2", "kill")
		eventually(t, "the server has ended", func() bool { return e.state().Nodes[2].Status == ended })
		e.recall(0, id)
		p.lacks(1, id, "while it was away")
		e.click(p, "n2", "start")
		p.lacks(2, id, "while it was away")
		e.exchange(p, 0, 2, "server killed")
	})
	run("a chat server stands still for longer than its lease", func(t *testing.T) {
		e.click(p, "n1", "stop")
		id := e.send(0, "while it stands still")
		eventually(t, "others take it for gone", func() bool {
			n := e.state().Nodes[0]
			return n.Plugin.Cluster != nil && len(n.Plugin.Cluster.Members) == count && n.Plugin.Cluster.Members[1].Gone
		})
		e.recall(2, id)
		p.shot("cluster")
		e.click(p, "n1", "continue")
		p.lacks(1, id, "while it stands still")
		e.exchange(p, 1, 0, "stood still")
	})
	run("the leader of the log is killed", func(t *testing.T) {
		leader := func() int { return slices.IndexFunc(e.state().Servers, func(s serverState) bool { return s.Leader }) }
		killed := -1
		eventually(t, "the page tells the leader", func() bool {
			killed = leader()
			return killed >= 0
		})
		name := fmt.Sprint("s", killed)
		e.click(p, name, "kill")
		eventually(t, "the server has ended", func() bool { return e.state().Servers[killed].Status == ended })
		e.exchange(p, 2, 1, "leader killed")
		eventually(t, "another one leads", func() bool { l := leader(); return l >= 0 && l != killed })
		e.click(p, name, "start")
		eventually(t, "the server runs", func() bool { return e.state().Servers[killed].Status == running })
	})
	run("a page of somebody else cannot use the buttons", func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), "POST", e.url+"/do", strings.NewReader(`{"what":"kill","to":"n0"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Origin", "http://elsewhere.example")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusForbidden || e.state().Nodes[0].Status != running {
			t.Errorf("%s", answer.Status)
		}
	})
	run("Ctrl-C ends everything", func(t *testing.T) {
		e.click(p, "s1", "stop") // as does whatever stands still
		eventually(t, "the server stands still", func() bool { return e.state().Servers[1].Status == stopped })
		eventually(t, "the plugin stands still", func() bool { // until its server starts another one instead
			p.tryClick(button("plugin-n2", "stop"))
			return e.state().Nodes[2].Held
		})
		if err := e.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-e.ended:
			if err != nil {
				t.Errorf("its exit status is not 0: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("it does not end")
		}
		if left, err := os.ReadDir(e.folder); err != nil || len(left) > 0 {
			t.Errorf("it leaves %v, %v", left, err)
		}
		if left := processesOf(t, e.folder); len(left) > 0 {
			t.Errorf("it leaves the processes %q", left)
		}
	})
}

// processesOf lists the processes that have a folder in their command line.
func processesOf(t *testing.T, folder string) (list []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && bytes.Contains(line, []byte(folder)) { // it may have ended
			list = append(list, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return list
}
