package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/sidecar/sidecartest"
)

// recallMany indexes and recalls messages of two conversations, and returns their ids, newest first.
func recallMany(t *testing.T, s *sidecartest.Sidecar, n int) (ids []string) {
	t.Helper()
	const batch = 100
	for from := 0; from < n; from += batch {
		var messages, targets []string
		for i := from; i < from+batch; i++ {
			id, conversation := fmt.Sprint("m", i), fmt.Sprintf(`{"type":"group","id":"g%d"}`, i%2)
			messages = append(messages, fmt.Sprintf(`{"tenant":"acme","id":%q,"conversation":%s,"sender":"ann","type":"text",`+
				`"sent_at":%q}`, id, conversation, time.Now().UTC().Format(time.RFC3339Nano)))
			targets = append(targets, fmt.Sprintf(`{"message_id":%q,"conversation":%s}`, id, conversation))
			ids = append([]string{id}, ids...)
		}
		s.Post("index", fmt.Sprintf(`{"messages":[%s]}`, strings.Join(messages, ",")), nil)
		s.Post("recall", fmt.Sprintf(`{"tenant":"acme","actor":{"id":"ann"},"reason":"a\nb","targets":[%s]}`,
			strings.Join(targets, ",")), nil)
	}
	return ids
}

// exported reads JSON lines, each of which must be whole.
func exported(t *testing.T, text string) (ids []string) {
	t.Helper()
	if text != "" && !strings.HasSuffix(text, "\n") {
		t.Errorf("the last line is not whole: %.200q", text[strings.LastIndex(text, "\n")+1:])
	}
	for line := range strings.Lines(text) {
		var event struct {
			Key     string
			Reason  string
			Message struct{ ID string }
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil || event.Key == "" || event.Reason != "a\nb" {
			t.Fatalf("%s: %v", line, err)
		}
		ids = append(ids, event.Message.ID)
	}
	return ids
}

func wantIDs(t *testing.T, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s: %d recalls, want %d", what, len(got), len(want))
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// gate is a socket in front of a sidecar. Each request of /v1/list passes through plan, which may answer instead.
func gate(t *testing.T, s *sidecartest.Sidecar, plan func(n int, w http.ResponseWriter) (passes bool)) (socket string) {
	t.Helper()
	socket = filepath.Join(hosttest.RunDir(t), "gate.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "localhost"})
	proxy.Transport = s.Client.Transport
	var requests atomic.Int32
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if plan(int(requests.Add(1)), w) {
			proxy.ServeHTTP(w, r)
		}
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return socket
}

// exportUntil runs an export that gets the signal while its at-th request is not answered.
func exportUntil(
	t *testing.T, s *sidecartest.Sidecar, at int, sig os.Signal, args ...string,
) (out, errs string, err error) {
	t.Helper()
	started, held := make(chan *exec.Cmd, 1), make(chan struct{})
	defer close(held)
	socket := gate(t, s, func(n int, _ http.ResponseWriter) bool {
		if n == at {
			_ = (<-started).Process.Signal(sig)
			<-held
		}
		return n < at
	})
	cmd := exec.CommandContext(t.Context(), sidecartest.Build(t),
		append([]string{"export", "--socket", socket, "--tenant", "acme"}, args...)...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started <- cmd
	err = cmd.Wait()
	return o.String(), e.String(), err
}

func TestExport(t *testing.T) {
	s := sidecartest.Start(t, `step "history" { pull = true }`)
	const n = 2500 // three pages
	ids := recallMany(t, s, n)
	config := filepath.Join(s.Dir, "sidecar.hcl")
	export := func(args ...string) (string, string) {
		t.Helper()
		out, errs, code := command(t, append([]string{"export", "--config", config, "--tenant", "acme"}, args...)...)
		if code != 0 {
			t.Fatalf("%q: exit %d: %s", args, code, errs)
		}
		return out, errs
	}
	all, errs := export()
	wantIDs(t, "all", exported(t, all), ids)
	if !strings.Contains(errs, fmt.Sprintf("exported %d recalls\n", n)) {
		t.Errorf("%s", errs)
	}

	t.Run("filters", func(t *testing.T) {
		var odd []string
		for i := 0; i < n; i += 2 {
			odd = append(odd, ids[i])
		}
		out, _ := export("--conversation", "group/g1", "--actor", "ann", "--sender", "ann", "--rule", "sender_in_window",
			"--from", "2026-01-01", "--before", time.Now().Add(time.Minute).Format(time.RFC3339), "--steps", "open")
		wantIDs(t, "one conversation", exported(t, out), odd)
		for _, args := range [][]string{
			{"--conversation", "single/g1"}, {"--job", "j"}, {"--actor", "bob"}, {"--sender", "bob"}, {"--rule", "none"},
			{"--before", "2026-01-01"}, {"--from", time.Now().Add(time.Minute).Format(time.RFC3339)}, {"--steps", "failed"},
		} {
			if out, _ := export(args...); out != "" {
				t.Errorf("%q: %.100s", args, out)
			}
		}
	})
	t.Run("the sidecar says what is wrong", func(t *testing.T) {
		_, errs, code := command(t, "export", "--socket", s.Socket, "--tenant", "acme", "--steps", "done")
		if code != 1 || !strings.Contains(errs, "steps: unknown filter") {
			t.Errorf("exit %d: %s", code, errs)
		}
		_, errs, code = command(t, "export", "--socket", s.Socket, "--tenant", "acme", "--after", "0123456789abcdef-3")
		if code != 1 || !strings.HasSuffix(errs, "of the one before; export from the start, without --after\n") {
			t.Errorf("exit %d: %s", code, errs)
		}
	})
	t.Run("is interrupted, and continues after the cursor", func(t *testing.T) {
		first, errs, err := exportUntil(t, s, 2, syscall.SIGTERM)
		if err == nil {
			t.Error("it ended as if it were complete")
		}
		cursor := regexp.MustCompile(`continue with --after (\S+)\n`).FindStringSubmatch(errs)
		if cursor == nil {
			t.Fatalf("%s", errs)
		}
		rest, _ := export("--after", cursor[1])
		wantIDs(t, "both parts", exported(t, first+rest), ids)
		if n := len(exported(t, first)); n != 1000 {
			t.Errorf("the first part has %d", n)
		}
	})
	t.Run("waits while the sidecar does not answer", func(t *testing.T) {
		socket := gate(t, s, func(n int, w http.ResponseWriter) bool {
			if n == 2 || n == 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return n != 2 && n != 3
		})
		out, errs, code := command(t, "export", "--socket", socket, "--tenant", "acme")
		if code != 0 || out != all {
			t.Errorf("exit %d, %d bytes: %s", code, len(out), errs)
		}
	})
	t.Run("to a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "recalls.jsonl")
		export("--output", path)
		if readFile(t, path) != all {
			t.Error("the file differs")
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info.Mode(), err)
		}
		if list, _ := filepath.Glob(path + ".*"); len(list) > 0 {
			t.Errorf("it left %q", list)
		}
		_, errs, code := command(t, "export", "--config", config, "--tenant", "acme", "--output", path)
		if code != 1 || !strings.Contains(errs, "exists") || readFile(t, path) != all {
			t.Errorf("over a file: exit %d: %s", code, errs)
		}
	})
	t.Run("to a file, and the index is replaced meanwhile", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "recalls.jsonl")
		if _, _, err := exportUntil(t, s, 2, syscall.SIGKILL, "--output", path); err == nil {
			t.Error("it ended as if it were complete")
		}
		resume := path + ".resume"
		cursor := regexp.MustCompile(`"after":"[0-9a-f]+-`) // the epoch of the index and a number
		text := cursor.ReplaceAllString(readFile(t, resume), `"after":"0123456789abcdef-`)
		if err := os.WriteFile(resume, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, errs, code := command(t, "export", "--socket", s.Socket, "--tenant", "acme", "--output", path)
		want := fmt.Sprintf("restored or replaced, and the cursor is of the one before; remove %s and %s to export from "+
			"the start\n", resume, path)
		if code != 1 || !strings.HasSuffix(errs, want) {
			t.Fatalf("exit %d: %s", code, errs)
		}
		for _, file := range []string{resume, path} {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		export("--output", path)
		if readFile(t, path) != all {
			t.Error("the file differs")
		}
	})
	for name, at := range map[string]int{"before the first page": 1, "after the first page": 2, "before the last": 3} {
		t.Run("killed "+name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "recalls.jsonl")
			if _, _, err := exportUntil(t, s, at, syscall.SIGKILL, "--output", path); err == nil {
				t.Error("it ended as if it were complete")
			}
			whole := readFile(t, path)
			if got := len(exported(t, whole)); got != 1000*(at-1) {
				t.Errorf("%d recalls are in the file", got)
			}
			if err := os.WriteFile(path, []byte(whole+`{"key":"torn`), 0o600); err != nil { // killed in the middle of a write
				t.Fatal(err)
			}
			_, errs, code := command(t, "export", "--socket", s.Socket, "--tenant", "acme", "--output", path, "--actor", "ann")
			if code != 1 || !strings.Contains(errs, "other filters") {
				t.Errorf("another filter: exit %d: %s", code, errs)
			}
			export("--output", path)
			if readFile(t, path) != all {
				t.Error("the file differs")
			}
		})
	}
}
