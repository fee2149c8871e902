package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/sidecar/internal/api"
	"github.com/chat-recall/recall/sidecar/internal/webhook"
)

const document = "../docs/any-language.md"

// block is a fenced block of the document.
type block struct{ language, text string }

func blocks(t *testing.T) (all []block) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllSubmatch(text, -1) {
		all = append(all, block{string(m[1]), string(m[2])})
	}
	return all
}

// TestDocument_Commands runs the bash blocks of the document in order, in one shell, as a newcomer would. The output of
// a block has what the json block after it shows.
func TestDocument_Commands(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			hosttest.Missing(t, tool)
		}
	}
	home := hosttest.RunDir(t)
	port := freePort(t)
	var script strings.Builder
	type expectation struct{ command, output, answer string }
	var expected []expectation
	script.WriteString("set -euo pipefail\n")
	for _, b := range blocks(t) {
		switch b.language {
		case "bash":
			output := filepath.Join(home, fmt.Sprintf("output-%d", len(expected)))
			// no subshell: the blocks share variables, the folder and background jobs
			fmt.Fprintf(&script, "{\n%s} >%s\n", strings.ReplaceAll(b.text, "8181", port), output)
			expected = append(expected, expectation{command: b.text, output: output})
		case "json":
			expected[len(expected)-1].answer = b.text
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	cmd.Dir = ".."
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOTOOLCHAIN"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, name+"="+strings.TrimSpace(string(value)))
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // a sidecar that is left
		}
		log, _ := os.ReadFile(filepath.Join(home, "recall/sidecar.log"))
		t.Errorf("the commands: %v\n%s\nThe log of the sidecar:\n%s", err, stderr.Bytes(), log)
	}
	answers := 0
	for _, e := range expected {
		output, err := os.ReadFile(e.output)
		if err != nil {
			t.Fatalf("not run:\n%s", e.command)
		}
		if e.answer == "" {
			continue
		}
		answers++
		var want, got any
		if err := json.Unmarshal([]byte(e.answer), &want); err != nil {
			t.Fatalf("%s: %v", e.answer, err)
		}
		if err := json.Unmarshal(output, &got); err != nil {
			t.Errorf("%s%s: %v", e.command, output, err)
			continue
		}
		if problem := lacks(want, got, ""); problem != "" {
			t.Errorf("%s%s\n%s", e.command, output, problem)
		}
	}
	if answers < 10 {
		t.Errorf("the document shows %d answers", answers)
	}
}

// lacks says what of want is not in got. A text "…" stands for any that is not empty.
func lacks(want, got any, path string) string {
	switch want := want.(type) {
	case map[string]any:
		object, _ := got.(map[string]any)
		for name, value := range want {
			is, there := object[name]
			if !there {
				return fmt.Sprintf("%s.%s is missing", path, name)
			}
			if problem := lacks(value, is, path+"."+name); problem != "" {
				return problem
			}
		}
		return ""
	case []any:
		list, _ := got.([]any)
		if len(list) != len(want) {
			return fmt.Sprintf("%s has %d elements, not %d", path, len(list), len(want))
		}
		for i := range want {
			if problem := lacks(want[i], list[i], fmt.Sprintf("%s[%d]", path, i)); problem != "" {
				return problem
			}
		}
		return ""
	case string:
		if text, ok := got.(string); ok && want == "…" && text != "" {
			return ""
		}
	}
	if want != got {
		return fmt.Sprintf("%s is %v, not %v", path, got, want)
	}
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestDocument_VerifyWebhook runs verify of the document on a request that was sent.
func TestDocument_VerifyWebhook(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		hosttest.Missing(t, "python3")
	}
	var verify string
	for _, b := range blocks(t) {
		if b.language == "python" && strings.Contains(b.text, "def verify(") {
			verify = b.text
		}
	}
	sent := map[string]any{}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		headers := map[string]string{}
		for name := range r.Header {
			headers[strings.ToLower(name)] = r.Header.Get(name)
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		sent["headers"], sent["body"] = headers, body.String()
	}))
	defer receiver.Close()
	address, err := url.Parse(receiver.URL)
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{bytes.Repeat([]byte("old "), 8), bytes.Repeat([]byte("new "), 8)}
	hook := webhook.New(webhook.Config{URL: address, AtATime: 1, Encode: api.Webhook,
		Secrets: func() [][]byte { return secrets }})
	defer hook.Close()
	_, err = hook.Run(t.Context(), shared.Delivery{Step: "notify", Attempt: 1, Event: shared.Event{Tenant: "acme",
		RecallID: "r1", Message: shared.Message{Tenant: "acme", ID: "m1"}}})
	if err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", verify+`
import base64, json, sys
sent = json.load(sys.stdin)
headers, body = sent["headers"], sent["body"].encode()
secret = lambda text: "whsec_" + base64.b64encode(text * 8).decode()
print(verify(secret(b"old "), headers, body), verify(secret(b"new "), headers, body),
      verify(secret(b"bad "), headers, body), verify(secret(b"new "), headers, body + b" "),
      verify(secret(b"new "), {**headers, "webhook-timestamp": "1"}, body))`)
	cmd.Stdin = bytes.NewReader(request)
	out, err := cmd.CombinedOutput()
	if want := "True True False False False\n"; err != nil || string(out) != want {
		t.Errorf("verify: %v, %s, want %s", err, out, want)
	}
}
