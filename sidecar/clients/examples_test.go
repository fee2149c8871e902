package clients_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chat-recall/recall/host/hosttest"
)

// processes counts the processes of programs in a folder.
func processes(t *testing.T, dir string) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if text, err := os.ReadFile(file); err == nil && bytes.HasPrefix(text, []byte(dir)) {
			n++
		}
	}
	return n
}

func TestExamples(t *testing.T) {
	for _, example := range []struct{ command, file string }{
		{"node", "node-chat/chat.mjs"},
		{"python3", "python-chat/chat.py"},
	} {
		t.Run(example.file, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(example.command); err != nil {
				hosttest.Missing(t, example.command)
			}
			source, err := os.ReadFile("../../examples/" + example.file)
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(source, []byte("\n")); n > 120 {
				t.Errorf("%s has %d lines; at most 120", example.file, n)
			}
			dir := hosttest.RunDir(t)
			cmd := exec.Command(example.command, "../../examples/"+example.file)
			cmd.Env = append(os.Environ(), "PORT=0", "DATA="+dir, "PYTHONDONTWRITEBYTECODE=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			var log hosttest.LogBuffer
			cmd.Stderr = &log
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := false
			interrupt := func() { // as Ctrl-C in a terminal does
				if !ended {
					ended = true
					_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
					if err := cmd.Wait(); err != nil {
						t.Errorf("it ended with %v\n%s", err, log.String())
					}
				}
			}
			defer interrupt()

			lines, said, base := bufio.NewScanner(out), "", ""
			for base == "" && lines.Scan() {
				said += lines.Text() + "\n"
				_, base, _ = strings.Cut(lines.Text(), "Listening on ")
			}
			if base == "" || strings.Count(said, "Building recall-") != 2 {
				t.Fatalf("it says:\n%s\n%s", said, log.String())
			}
			go func() { _, _ = io.Copy(io.Discard, out) }()

			do := func(method, path, body string, want int) string {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				text, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != want {
					t.Fatalf("%s %s%s: %s %q, %v; want %d", method, base, path, res.Status, text, err, want)
				}
				return strings.TrimSpace(string(text))
			}
			id := do("POST", "", url.Values{"user": {"ann"}, "text": {"wrong room"}}.Encode(), 200)
			if got := do("GET", "", "", 200); got != id+" wrong room" {
				t.Errorf("shown: %q", got)
			}
			do("POST", "", "text=hello", 400)
			if got := do("DELETE", "/"+id+"?user=ben", "", 403); got != "You can't recall this message." {
				t.Errorf("the refusal is %q", got)
			}
			do("DELETE", "/"+id+"?user=ann", "", 200)
			await(t, "a notice is shown instead of the text", func() bool {
				return do("GET", "", "", 200) == id+" ann recalled a message"
			})
			do("DELETE", "/"+id+"?user=ann", "", 200)

			if n := processes(t, dir); n < 2 {
				t.Errorf("%d processes run in %s; want a sidecar and a plugin", n, dir)
			}
			interrupt()
			if n := processes(t, dir); n > 0 {
				t.Errorf("%d processes run after Ctrl-C", n)
			}
		})
	}
}
