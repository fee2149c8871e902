package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/chat-recall/recall/host/hosttest"
)

func TestRun(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, hosttest.RunDir(t), "127.0.0.1:0", writer)
		_ = writer.CloseWithError(io.EOF)
		ended <- err
	}()
	base := ""
	lines := bufio.NewScanner(reader)
	for first := true; base == "" && lines.Scan(); first = false {
		if first && !strings.HasPrefix(lines.Text(), "Building the plugin.") {
			t.Errorf("the first line is %q", lines.Text())
		}
		_, base, _ = strings.Cut(lines.Text(), "Listening on ")
	}
	if base == "" {
		t.Fatal("it does not listen:", <-ended)
	}

	id := strings.TrimSpace(call(t, "POST", base+"/messages", "user=ann&text=wrong+room", http.StatusOK))
	if got := call(t, "GET", base+"/messages", "", http.StatusOK); !strings.Contains(got, id+" wrong room") {
		t.Errorf("the message is not shown: %q", got)
	}
	call(t, "POST", base+"/messages", "text=hello", http.StatusBadRequest)
	refusal := call(t, "DELETE", base+"/messages/"+id+"?user=ben", "", http.StatusBadRequest)
	if refusal != "You can't recall this message.\n" {
		t.Errorf("the refusal is %q", refusal)
	}
	call(t, "DELETE", base+"/messages/unknown?user=ann", "", http.StatusBadRequest)
	call(t, "DELETE", base+"/messages/"+id+"?user=ann", "", http.StatusOK)
	if got := call(t, "GET", base+"/messages", "", http.StatusOK); got != "" {
		t.Errorf("still shown after the recall: %q", got)
	}
	call(t, "DELETE", base+"/messages/"+id+"?user=ann", "", http.StatusOK)

	stop()
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func call(t *testing.T, method, url, body string, want int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
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
		t.Errorf("%s %s: %s %q, %v; want %d", method, url, res.Status, text, err, want)
	}
	return string(text)
}

func TestMain_Size(t *testing.T) {
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(source, []byte("\n")); n > 120 {
		t.Errorf("main.go has %d lines; at most 120", n)
	}
}
