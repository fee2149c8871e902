package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/sidecar/internal/webhook"
)

func TestMain(m *testing.M) {
	// A webhook that used the proxy of the environment would reach no receiver.
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		os.Setenv(name, "http://127.0.0.1:1")
	}
	goleak.VerifyTestMain(m)
}

var (
	oldKey = []byte("the old secret of the hooks")
	newKey = []byte("the new secret of the hooks")
)

func delivery() shared.Delivery {
	return shared.Delivery{
		Event: shared.Event{
			Tenant: "acme", RecallID: "r1", Ext: "撤回", Message: shared.Message{Tenant: "acme", ID: "m1"},
			RecalledAt: time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.FixedZone("", 3600)),
		},
		Step: shared.StepHistory, Attempt: 1,
	}
}

// open opens a webhook to address, with defaults for what change leaves alone.
func open(t *testing.T, address string, change func(*webhook.Config)) *webhook.Webhook {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	c := webhook.Config{
		URL: u, AtATime: 4, Secrets: func() [][]byte { return [][]byte{newKey} },
		Encode: func(d shared.Delivery) ([]byte, error) { return json.Marshal(d) },
	}
	if change != nil {
		change(&c)
	}
	w := webhook.New(c)
	t.Cleanup(w.Close)
	return w
}

// serve starts a receiver until the test ends.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// within bounds an attempt that is to end by itself.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// request is what a receiver got.
type request struct {
	header http.Header
	body   []byte
	method string
	uri    string
}

// keep returns a receiver that keeps the requests and answers 204, and a function that returns them.
func keep(t *testing.T) (http.HandlerFunc, func() []request) {
	var mu sync.Mutex
	var all []request
	return func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, request{r.Header, body, r.Method, r.RequestURI})
		}, func() []request {
			mu.Lock()
			defer mu.Unlock()
			return all
		}
}

func run(t *testing.T, w *webhook.Webhook) {
	t.Helper()
	if outcome, err := w.Run(within(t), delivery()); err != nil || outcome != shared.OutcomeDone {
		t.Fatalf("got %q, %v", outcome, err)
	}
}

// failure runs an attempt that has to fail and returns the text of its error.
func failure(t *testing.T, w *webhook.Webhook) string {
	t.Helper()
	outcome, err := w.Run(within(t), delivery())
	if err == nil || outcome != shared.OutcomeFailed {
		t.Fatalf("got %q, %v", outcome, err)
	}
	return err.Error()
}

func signature(key []byte, r request) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(r.header.Get("webhook-id") + "." + r.header.Get("webhook-timestamp") + "."))
	mac.Write(r.body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func TestRun_Request(t *testing.T) {
	h, requests := keep(t)
	w := open(t, serve(t, h).URL+"/hooks?a=b", nil)
	before := time.Now().Unix()
	run(t, w)
	r := requests()[0]
	t.Run("is a POST of JSON", func(t *testing.T) {
		if r.method != "POST" || r.uri != "/hooks?a=b" || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("got %+v", r)
		}
		if got := r.header.Get("User-Agent"); got != "recall-sidecar" {
			t.Errorf("User-Agent is %q", got)
		}
		for _, name := range []string{"Idempotency-Key", "Accept-Encoding"} {
			if _, sent := r.header[name]; sent {
				t.Errorf("%s was sent", name)
			}
		}
	})
	t.Run("has type, timestamp and data", func(t *testing.T) {
		var got struct {
			Type      string
			Timestamp string
			Data      shared.Delivery
		}
		d := json.NewDecoder(bytes.NewReader(r.body))
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Type != "recall.step.history" || got.Timestamp != "2026-03-01T11:00:00.5Z" ||
			got.Data.Ext != "撤回" || got.Data.Step != shared.StepHistory {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("has the id of the delivery and the time of sending", func(t *testing.T) {
		if got, want := r.header.Get("webhook-id"), delivery().Key()+":history"; got != want {
			t.Errorf("webhook-id is %q, want %q", got, want)
		}
		at, err := strconv.ParseInt(r.header.Get("webhook-timestamp"), 10, 64)
		if err != nil || at < before || at > time.Now().Unix() {
			t.Errorf("webhook-timestamp is %d, %v", at, err)
		}
	})
	t.Run("is signed", func(t *testing.T) {
		if got, want := r.header.Get("webhook-signature"), signature(newKey, r); got != want {
			t.Errorf("webhook-signature is %q, want %q", got, want)
		}
	})
}

func TestRun_Secrets(t *testing.T) {
	h, requests := keep(t)
	var keys [][]byte
	w := open(t, serve(t, h).URL, func(c *webhook.Config) { c.Secrets = func() [][]byte { return keys } })
	for _, keys = range [][][]byte{{oldKey}, {newKey, oldKey}, {newKey}} {
		run(t, w)
		all := requests()
		r := all[len(all)-1]
		var want []string
		for _, key := range keys {
			want = append(want, signature(key, r))
		}
		if got := r.header.Get("webhook-signature"); got != strings.Join(want, " ") {
			t.Errorf("webhook-signature is %q, want %q", got, want)
		}
	}
	t.Run("none: nothing is sent", func(t *testing.T) {
		keys = nil
		sent := len(requests())
		if text := failure(t, w); !strings.Contains(text, "no secret") || len(requests()) > sent {
			t.Errorf("got %q and %d requests", text, len(requests())-sent)
		}
	})
}

func TestRun_Encode(t *testing.T) {
	h, requests := keep(t)
	w := open(t, serve(t, h).URL, func(c *webhook.Config) {
		c.Encode = func(shared.Delivery) ([]byte, error) { return nil, errors.New("no such field") }
	})
	if text := failure(t, w); !strings.Contains(text, "no such field") || len(requests()) > 0 {
		t.Errorf("got %q and %d requests", text, len(requests()))
	}
}

// A receiver sees one id in all attempts, and another time in each: it refuses a time that is minutes old.
func TestRun_Attempts(t *testing.T) {
	h, requests := keep(t)
	w := open(t, serve(t, h).URL, nil)
	first := delivery()
	if _, err := w.Run(within(t), first); err != nil {
		t.Fatal(err)
	}
	stamp := requests()[0].header.Get("webhook-timestamp")
	for deadline := time.Now().Add(time.Minute); ; first.Attempt++ {
		if _, err := w.Run(within(t), first); err != nil {
			t.Fatal(err)
		}
		all := requests()
		last := all[len(all)-1].header
		if last.Get("webhook-id") != all[0].header.Get("webhook-id") {
			t.Fatalf("webhook-id of attempt %d is %q", first.Attempt, last.Get("webhook-id"))
		}
		if last.Get("webhook-timestamp") != stamp {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("webhook-timestamp stays the same")
		}
		time.Sleep(10 * time.Millisecond) // only to spare the processor
	}
}

func TestRun_Answer(t *testing.T) {
	long := strings.Repeat("x", 8<<10)
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   shared.Outcome
		text   string // of the error
	}{
		{"empty", 200, "", "done", ""},
		{"created", 201, "", "done", ""},
		{"text", 200, "ok", "done", ""},
		{"long text", 200, long, "done", ""},
		{"a list", 200, `["failed"]`, "done", ""},
		{"null", 200, `null`, "done", ""},
		{"an object without outcome", 200, `{"ok":true,"error":"none"}`, "done", ""},
		{"outcome null", 200, `{"outcome":null}`, "done", ""},
		{"done", 200, ` {"outcome":"done"} `, "done", ""},
		{"nothing_to_do", 202, `{"outcome":"nothing_to_do"}`, "nothing_to_do", ""},
		{"unsupported", 200, `{"outcome":"unsupported"}`, "unsupported", ""},
		{"failed", 200, `{"outcome":"failed","error":"disk\nfull"}`, "failed", "HTTP 200 with outcome failed: disk full"},
		{"failed without error", 200, `{"outcome":"failed"}`, "failed", "HTTP 200 with outcome failed"},
		{"failed with a number for its error", 200, `{"outcome":"failed","error":7}`, "failed",
			"HTTP 200 with outcome failed"},
		{"deferred", 200, `{"outcome":"deferred"}`, "failed", "HTTP 200 with an unknown outcome: deferred"},
		{"empty outcome", 200, `{"outcome":""}`, "failed", "HTTP 200 with an unknown outcome"},
		{"a number", 200, `{"outcome":7}`, "failed", "HTTP 200 with an unknown outcome: 7"},
		{"an object that is too long", 200, `{"a":"` + long + `","outcome":"failed"}`, "failed",
			"HTTP 200, but its JSON is longer than 4096 bytes"},
		{"not found", 404, "no such\r\n\tpath \x1b[31m\x00", "failed", "HTTP 404: no such path [31m"},
		{"gone", 410, `{"outcome":"done"}`, "failed", `HTTP 410: {"outcome":"done"}`},
		{"server error", 500, "", "failed", "HTTP 500"},
		{"not modified", 304, "", "failed", "HTTP 304"},
		{"long error", 503, long, "failed", "HTTP 503: " + long[:200]},
		{"long error in Chinese", 503, strings.Repeat("撤", 1000), "failed", "HTTP 503: " + strings.Repeat("撤", 66)},
		{"no UTF-8", 500, "a\xff\xfeb", "failed", "HTTP 500: a\ufffd\ufffdb"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
			})
			outcome, err := open(t, s.URL, nil).Run(within(t), delivery())
			if outcome != test.want || (err != nil) != (test.want == shared.OutcomeFailed) {
				t.Fatalf("got %q, %v", outcome, err)
			}
			if err != nil && (err.Error() != test.text || !utf8.ValidString(err.Error())) {
				t.Errorf("got error %q, want %q", err, test.text)
			}
		})
	}
}

func TestRun_Redirect(t *testing.T) {
	var followed atomic.Bool
	target := serve(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL, status) })
		if text := failure(t, open(t, s.URL, nil)); !strings.HasPrefix(text, fmt.Sprintf("HTTP %d", status)) {
			t.Errorf("got %q", text)
		}
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

// endless writes a chunk until the connection breaks.
func endless(w http.ResponseWriter, chunk string) {
	for {
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
		w.(http.Flusher).Flush()
	}
}

func TestRun_EndlessBody(t *testing.T) {
	closed := make(chan struct{}, 2)
	for status, want := range map[int]shared.Outcome{200: shared.OutcomeDone, 500: shared.OutcomeFailed} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			endless(w, strings.Repeat("x", 1000))
			closed <- struct{}{}
		})
		if outcome, err := open(t, s.URL, nil).Run(within(t), delivery()); outcome != want {
			t.Errorf("HTTP %d: got %q, %v", status, outcome, err)
		}
		select {
		case <-closed:
		case <-within(t).Done():
			t.Fatal("the connection is still open")
		}
	}
}

// raw starts a receiver that reads a request and then does what answer does with the connection.
func raw(t *testing.T, answer func(net.Conn, *http.Request)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				io.Copy(io.Discard, r.Body)
				answer(c, r)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return "http://" + l.Addr().String()
}

func TestRun_Timeout(t *testing.T) {
	for name, answer := range map[string]string{
		"no answer":                  "",
		"a header that does not end": "HTTP/1.1 200 OK\r\nX-Slow: ",
		"a body that does not end":   "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"outcome\":",
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, raw(t, func(c net.Conn, _ *http.Request) {
				io.WriteString(c, answer)
				io.Copy(io.Discard, c) // until the webhook closes it
			}), nil)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			outcome, err := w.Run(ctx, delivery())
			if outcome != shared.OutcomeFailed || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %q, %v", outcome, err)
			}
		})
	}
}

func TestRun_Garbage(t *testing.T) {
	for name, answer := range map[string]string{
		"no HTTP":                "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"nothing":                "",
		"a body that breaks off": "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"outcome\":",
		"a header that is too long": "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 1<<20) +
			"\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, raw(t, func(c net.Conn, _ *http.Request) { io.WriteString(c, answer) }), nil)
			failure(t, w)
		})
	}
}

func TestRun_NoReceiver(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	if text := failure(t, open(t, s.URL, nil)); !strings.Contains(text, "refused") {
		t.Errorf("got %q", text)
	}
}

// A receiver that restarts closes idle connections. The attempt that meets one of them goes on with a new connection.
func TestRun_IdleConnectionClosed(t *testing.T) {
	var served atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1) == 2 {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		}
	})
	w := open(t, s.URL, nil)
	run(t, w)
	run(t, w)
	if got := served.Load(); got != 3 {
		t.Errorf("the receiver got %d requests, want 3", got)
	}
}

func TestRun_AtATime(t *testing.T) {
	const limit, attempts = 4, 12
	var connections atomic.Int32
	arrived, answer := make(chan struct{}, attempts), make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-answer
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	w := open(t, s.URL, func(c *webhook.Config) { c.AtATime = limit })
	for range 2 { // the second time over the connections of the first
		var wg sync.WaitGroup
		for range attempts {
			wg.Go(func() {
				if _, err := w.Run(within(t), delivery()); err != nil {
					t.Error(err)
				}
			})
		}
		for range limit {
			<-arrived
		}
		for range attempts - limit {
			answer <- struct{}{}
			<-arrived
		}
		for range limit {
			answer <- struct{}{}
		}
		wg.Wait()
	}
	if got := connections.Load(); got != limit {
		t.Errorf("%d connections were made, want %d", got, limit)
	}
}

func TestRun_Socket(t *testing.T) {
	dir, err := os.MkdirTemp("", "hook") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "chat.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	h, requests := keep(t)
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	w := open(t, "http://chat.example.com/hooks", func(c *webhook.Config) { c.Socket = path })
	run(t, w)
	if got := requests(); len(got) != 1 || got[0].uri != "/hooks" {
		t.Errorf("got %+v", got)
	}
	t.Run("that is gone", func(t *testing.T) {
		s.Close()
		if text := failure(t, w); !strings.Contains(text, path) {
			t.Errorf("got %q", text)
		}
	})
}

func TestRun_TLS(t *testing.T) {
	h, requests := keep(t)
	start := func(t *testing.T, version uint16) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version}
		s.Config.ErrorLog = quiet
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	t.Run("1.2 and 1.3", func(t *testing.T) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			s := start(t, version)
			w := open(t, s.URL, nil)
			w.Trust(pool(s))
			run(t, w)
		}
	})
	got := len(requests())
	t.Run("1.1 is refused", func(t *testing.T) {
		s := start(t, tls.VersionTLS11)
		w := open(t, s.URL, nil)
		w.Trust(pool(s))
		if text := failure(t, w); !strings.Contains(text, "protocol version") {
			t.Errorf("got %q", text)
		}
	})
	t.Run("an unknown certificate is refused", func(t *testing.T) {
		if text := failure(t, open(t, start(t, tls.VersionTLS13).URL, nil)); !strings.Contains(text, "certificate") {
			t.Errorf("got %q", text)
		}
	})
	if len(requests()) > got {
		t.Error("a request reached the receiver")
	}
}

func TestRun_NoSecretInErrors(t *testing.T) {
	token, path := "token-7f3a9c", "/hooks/path-51bb20"
	echo := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(404)
		fmt.Fprintf(w, "Cannot POST %s (%s) on %s, key %s whsec_%s", r.RequestURI, r.URL.Query().Get("t"), r.Host, newKey,
			base64.StdEncoding.EncodeToString(newKey))
	})
	away := httptest.NewServer(nil)
	away.Close()
	for name, base := range map[string]string{
		"an answer with all of it": echo.URL,
		"no receiver":              away.URL,
		"no such name":             "http://no-such-name.invalid",
		"refused address":          "http://192.0.2.1",
		"garbage":                  raw(t, func(c net.Conn, r *http.Request) { io.WriteString(c, r.RequestURI+"\r\n") }),
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(base)
			if err != nil {
				t.Fatal(err)
			}
			w := open(t, base+path+"?t="+token, nil)
			w.Resolve(names(t, nil))
			text := failure(t, w)
			for _, secret := range []string{
				token, path, "path-51bb20", u.Host, u.Hostname(), string(newKey), base64.StdEncoding.EncodeToString(newKey),
			} {
				if strings.Contains(text, secret) {
					t.Errorf("%q contains %q", text, secret)
				}
			}
		})
	}
}

func TestClose(t *testing.T) {
	closed := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(closed)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	w := open(t, s.URL, nil)
	run(t, w)
	w.Close()
	select {
	case <-closed:
	case <-within(t).Done():
		t.Error("the idle connection is still open")
	}
}
