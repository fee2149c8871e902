package chat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/chat-recall/recall/host/hosttest"
)

// openStream asks for the stream of a user, which ends with ctx.
func openStream(ctx context.Context, t *testing.T, url, user string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/stream?user="+user, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func TestStream_NoRoom(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	w := serveWeb(t, &api{server: newStubServer(t, &index{}), held: new(heldCalls), limits: newLimits(3)})
	for _, user := range []string{"ann", "ben"} {
		if r := openStream(ctx, t, w.url, user); r.StatusCode != http.StatusOK {
			t.Fatalf("stream of %s: %s", user, r.Status)
		}
	}
	r := openStream(ctx, t, w.url, "ann")
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") != streamRetry ||
		!r.Close ||
		!strings.Contains(string(body), "2 streams are open") {
		t.Errorf("one more: %s %v %s, %v", r.Status, r.Header, body, err)
	}
}

func TestStream_TheNewestOfAUserStays(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	w := newStubWeb(t, &index{})
	first := bufio.NewReader(openStream(ctx, t, w.url, "ann").Body)
	for range maxUserClients {
		if r := openStream(ctx, t, w.url, "ann"); r.StatusCode != http.StatusOK {
			t.Fatal(r.Status)
		}
	}
	text, err := io.ReadAll(first)
	if err != nil || !strings.Contains(string(text), "event: replaced") {
		t.Errorf("the oldest got %q, %v", text, err)
	}
}

// A server that may open few files goes on answering whatever the number of streams.
func TestStream_ManyAtFewDescriptors(t *testing.T) {
	dir, ctx := hosttest.RunDir(t), testContext(t)
	binary := filepath.Join(dir, "host-app")
	if out, err := exec.Command("go", "build", "-o", binary, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir)
	server := exec.CommandContext(
		ctx,
		"sh",
		"-c",
		`ulimit -n 256; exec "$0" "$@"`,
		binary,
		"--addr",
		"127.0.0.1:0",
		"--config",
		config,
		"--data",
		filepath.Join(dir, "data"),
	)
	server.Env = append(server.Environ(), "XDG_CACHE_HOME="+dir)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil {
			t.Errorf("the server: %v\n%s", err, log.String())
		}
	}()
	var url string
	for lines := bufio.NewScanner(out); url == "" && lines.Scan(); {
		url = regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(lines.Text())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	streams, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range 400 {
		user := []string{"ann", "ben"}[i%2]
		if r := openStream(
			streams,
			t,
			url,
			user,
		); r.StatusCode != http.StatusOK &&
			r.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("stream %d: %s", i, r.Status)
		}
	}
	body := `{"conversation":{"type":"group","id":"team"},"text":"hello"}`
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/messages?user=ann", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK || err != nil {
		t.Errorf(
			"a message beside 400 streams: %s %s %v",
			answer.Status,
			text,
			errors.Join(err, fmt.Errorf("%s", log.String())),
		)
	}
}
