package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/internal/problem"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/apiv1/apiv1connect"
	"github.com/chat-recall/recall/sidecar/internal/api"
	"github.com/chat-recall/recall/sidecar/internal/config"
	"github.com/chat-recall/recall/sidecar/internal/pull"
	"github.com/chat-recall/recall/sidecar/internal/secret"
)

const token = "a-token-of-some-length"

// rig is a server over a real plugin, with a unix socket and a TCP address that needs a token.
type rig struct {
	*Server
	host      *host.Host
	socket    string
	unix, tcp config.Listener

	certificates *TLS // of tcp
}

func newRig(t *testing.T, change func(unix, tcp *config.Listener)) *rig {
	t.Helper()
	dir := hosttest.RunDir(t)
	tokens := filepath.Join(dir, "token")
	if err := os.WriteFile(tokens, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	service := api.New(map[string]pull.Step{"history": {Lease: time.Minute, AtATime: 100}})
	r := &rig{
		Server: New(service, 64, slog.New(slog.DiscardHandler)), socket: filepath.Join(dir, "s"),
		unix: config.Listener{Network: config.Unix, Path: filepath.Join(dir, "s"), Mode: 0o660, Admin: true},
		tcp:  config.Listener{Network: config.TCP, Address: "127.0.0.1:0", TokenFile: tokens},
	}
	if change != nil {
		change(&r.unix, &r.tcp)
	}
	var certificates *TLS
	if r.tcp.TLSCert != "" {
		certificates = NewTLS(r.tcp)
		if err := certificates.Read(); err != nil {
			t.Fatal(err)
		}
		r.certificates = certificates
	}
	all, err := Listen([]config.Listener{r.unix, r.tcp}, []*TLS{nil, certificates})
	if err != nil {
		t.Fatal(err)
	}
	r.tcp.Address = all[1].Addr().String()
	held := secret.Tokens(tokens)
	if err := held.Read(); err != nil {
		t.Fatal(err)
	}
	r.Serve(all[0], r.unix, nil)
	r.Serve(all[1], r.tcp, held)
	t.Cleanup(func() { r.Shutdown(t.Context()) })
	return r
}

// open opens the host behind the server.
func (r *rig) open(t *testing.T) {
	t.Helper()
	r.host = hosttest.Open(t, host.Config{Steps: map[string]host.Step{
		"history": {Run: r.Service.Broker.Run, Timeout: time.Hour, Concurrency: 128},
	}})
	r.Service.Open(r.host)
}

func opened(t *testing.T, change func(unix, tcp *config.Listener)) *rig {
	t.Helper()
	r := newRig(t, change)
	r.open(t)
	return r
}

func (r *rig) dial(t *testing.T, network string) net.Conn {
	t.Helper()
	address := r.socket
	if network == config.TCP {
		address = r.tcp.Address
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// answer is what a raw request was answered with.
type answer struct {
	*http.Response
	text    []byte
	problem problem.Problem
}

// raw sends text as it is and reads the response.
func (r *rig) raw(t *testing.T, network, text string) answer {
	t.Helper()
	c := r.dial(t, network)
	defer c.Close()
	go func() { _, _ = io.WriteString(c, text) }()
	return read(t, c)
}

func read(t *testing.T, c net.Conn) answer {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Response: resp}
	if a.text, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		if err := json.Unmarshal(a.text, &a.problem); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// tells checks the problem with which a request was refused.
func (a answer) tells(t *testing.T, code, field, detail string) {
	t.Helper()
	p := a.problem
	if p.Status != a.StatusCode || p.Code != code || p.Type != "about:blank" || p.Title != http.StatusText(p.Status) ||
		p.RequestID == "" || p.RequestID != a.Header.Get("X-Request-Id") || !strings.Contains(p.Detail, detail) {
		t.Errorf("%s", a.text)
	}
	if field != "" && (len(p.Errors) != 1 || p.Errors[0].Field != field || !strings.Contains(p.Errors[0].Detail, detail)) {
		t.Errorf("%s", a.text)
	}
	if len(a.text) > 4096 {
		t.Errorf("%d bytes", len(a.text))
	}
	if (a.StatusCode == 401) != (a.Header.Get("WWW-Authenticate") == "Bearer") {
		t.Error(a.Header)
	}
}

// setBodyTimeout sets bodyTimeout for a server that the test starts after it.
func setBodyTimeout(t *testing.T, d time.Duration) {
	t.Helper()
	usual := bodyTimeout
	bodyTimeout = d
	t.Cleanup(func() { bodyTimeout = usual })
}

// request is the text of a POST of JSON with more header lines, each of which ends with \r\n.
func request(path, more, body string) string {
	if !strings.Contains(more, "Host:") {
		more += "Host: localhost\r\n"
	}
	if !strings.Contains(more, "Content-Type:") {
		more += "Content-Type: application/json\r\n"
	}
	if !strings.Contains(more, "Transfer-Encoding:") {
		more += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return "POST " + path + " HTTP/1.1\r\n" + more + "\r\n" + body
}

const status = `{"tenant":"acme","ids":["m"]}`

func TestServer_Refusals(t *testing.T) {
	r := opened(t, func(unix, _ *config.Listener) { unix.Admin = false })
	bearer := "Authorization: Bearer " + token + "\r\n"
	long := strings.Repeat("x", 1<<20)
	chunked := "Transfer-Encoding: chunked\r\n"
	tooLarge := strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", len(long), long), 17) + "0\r\n\r\n"
	for _, c := range []struct {
		name, network, text string
		status              int
		code, field, detail string
	}{
		{"a call", "unix", request("/v1/status", "", status), 200, "", "", ""},
		{"a call with a token", "tcp", request("/v1/status", bearer, status), 200, "", "", ""},
		{"a charset", "unix", request("/v1/status", "Content-Type: application/json; charset=UTF-8\r\n", status), 200, "",
			"", ""},
		{"any single name on a unix socket", "unix", request("/v1/status", "Host: sidecar\r\n", status), 200, "", "", ""},
		{"no Host of HTTP/1.0", "unix", "POST /v1/status HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: " +
			fmt.Sprint(len(status)) + "\r\n\r\n" + status, 200, "", "", ""},
		{"loopback", "tcp", request("/v1/status", "Host: [::1]:80\r\n"+bearer, status), 200, "", "", ""},

		{"unknown field", "unix", request("/v1/status", "", `{"tenant":"a","ids":["m"],"limit":1}`), 400,
			"invalid_argument", "limit", "unknown; known are tenant, ids"},
		{"unknown field of a target", "unix", request("/v1/recall", "", `{"targets":[{},{"mesage_id":"m"}]}`), 400,
			"invalid_argument", "targets[1].mesage_id", "unknown"},
		{"unknown field of a message", "unix", request("/v1/index", "", `{"messages":[{"conversation":{"name":"x"}}]}`), 400,
			"invalid_argument", "messages[0].conversation.name", "unknown"},
		{"a number for text", "unix", request("/v1/status", "", `{"tenant":1}`), 400, "invalid_argument", "tenant", "is 1"},
		{"text for a list", "unix", request("/v1/status", "", `{"ids":"m"}`), 400, "invalid_argument", "ids", "a list"},
		{"null in a list", "unix", request("/v1/status", "", `{"ids":[null]}`), 400, "invalid_argument", "ids[0]", "null"},
		{"text for a flag", "unix", request("/v1/recall", "", `{"atomic":"yes"}`), 400, "invalid_argument", "atomic", "true"},
		{"a fraction", "unix", request("/v1/since", "", `{"limit":1.5}`), 400, "invalid_argument", "limit", "whole"},
		{"too large a number", "unix", request("/v1/since", "", `{"limit":1e12}`), 400, "invalid_argument", "limit", "whole"},
		{"no time", "unix", request("/v1/recall", "", `{"requested_at":"now"}`), 400, "invalid_argument", "requested_at",
			"RFC 3339"},
		{"seconds for a time", "unix", request("/v1/recall", "", `{"requested_at":5}`), 400, "invalid_argument",
			"requested_at", "RFC 3339"},
		{"no JSON", "unix", request("/v1/status", "", "tenant=a"), 400, "invalid_argument", "body", "not JSON"},
		{"no object", "unix", request("/v1/status", "", "[]"), 400, "invalid_argument", "body", "object"},
		{"no body", "unix", request("/v1/status", "", ""), 400, "invalid_argument", "body", "empty"},
		{"more than one object", "unix", request("/v1/status", "", status+status), 400, "invalid_argument", "body", ""},
		{"a field twice", "unix", request("/v1/status", "", `{"tenant":"a","tenant":"b"}`), 400, "invalid_argument", "body",
			"duplicate"},
		{"not UTF-8", "unix", request("/v1/status", "", "{\"tenant\":\"\xff\"}"), 400, "invalid_argument", "body", "UTF-8"},
		{"nested", "unix", request("/v1/status", "", strings.Repeat(`{"ids":[`, 20000)), 400, "invalid_argument", "body", ""},
		{"a million bytes of an id", "unix", request("/v1/status", "", `{"tenant":"a","ids":["`+long+`"]}`), 400,
			"invalid_argument", "ids[0]", "256"},
		{"a million bytes of a field", "unix", request("/v1/status", "", `{"`+long+`":1}`), 400, "invalid_argument", "", ""},

		{"a web page", "unix", request("/v1/status", "Origin: https://evil.example\r\n", status), 403, "permission_denied",
			"",
			"Origin"},
		{"a web page with no origin", "tcp", request("/v1/status", "Origin: null\r\n"+bearer, status), 403,
			"permission_denied", "", "Origin"},
		{"a form of a web page", "tcp", request("/v1/status", "Sec-Fetch-Site: cross-site\r\n"+bearer, status), 403,
			"permission_denied", "", ""},
		{"a web page that asks for health", "tcp", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a\r\n\r\n",
			403,
			"permission_denied", "", ""},
		{"another name", "tcp", request("/v1/status", "Host: evil.example\r\n"+bearer, status), 421, "permission_denied", "",
			"host_names"},
		{"another name on a unix socket", "unix", request("/v1/status", "Host: evil.example\r\n", status), 421,
			"permission_denied", "", "host_names"},
		{"another address", "tcp", request("/v1/status", "Host: 10.0.0.1\r\n"+bearer, status), 421, "permission_denied", "",
			""},
		{"localhost of another domain", "tcp", request("/v1/status", "Host: localhost.evil.example\r\n"+bearer, status), 421,
			"permission_denied", "", ""},

		{"a form", "unix", request("/v1/status", "Content-Type: application/x-www-form-urlencoded\r\n", status), 415,
			"invalid_argument", "", "application/json"},
		{"text", "unix", request("/v1/status", "Content-Type: text/plain\r\n", status), 415, "invalid_argument", "", ""},
		{"no type", "unix", request("/v1/status", "Content-Type: \r\n", status), 415, "invalid_argument", "", ""},
		{"another charset", "unix", request("/v1/status", "Content-Type: application/json; charset=latin1\r\n", status), 415,
			"invalid_argument", "", ""},
		{"compressed", "unix", request("/v1/status", "Content-Encoding: gzip\r\n", status), 415, "invalid_argument", "",
			"gzip"},

		{"too large by its length", "unix", request("/v1/status", "", strings.Repeat(" ", MaxBody)+status), 413,
			"invalid_argument", "", "16777216"},
		{"too large in chunks", "unix", request("/v1/status", chunked, tooLarge), 413, "invalid_argument", "", "16777216"},

		{"no token", "tcp", request("/v1/status", "", status), 401, "unauthenticated", "", "Bearer"},
		{"another token", "tcp", request("/v1/status", "Authorization: Bearer "+token+"x\r\n", status), 401,
			"unauthenticated", "", "Bearer"},
		{"a password", "tcp", request("/v1/status", "Authorization: Basic "+token+"\r\n", status), 401, "unauthenticated",
			"", ""},
		{"metrics without a token", "tcp", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 401, "unauthenticated", "",
			""},
		{"health without a token", "tcp", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "", "", ""},
		{"readiness without a token, by address", "tcp", "GET /readyz HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", 200, "", "", ""},

		{"GET", "unix", "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "unimplemented", "", "POST"},
		{"no such path", "unix", request("/v1/statuses", "", status), 404, "not_found", "", "openapi"},
		{"no such version", "unix", request("/v2/status", "", status), 404, "not_found", "", ""},
		{"admin without admin = true", "unix", request("/v1/admin/state", "", "{}"), 404, "not_found", "", "admin = true"},
		{"admin over TCP", "tcp", request("/v1/admin/backup", bearer, "{}"), 404, "not_found", "", "admin = true"},
		{"a long header", "unix", request("/v1/status", "X: "+strings.Repeat("x", 128<<10)+"\r\n", status), 431, "", "", ""},

		{"take of a step that is not pulled", "unix", request("/v1/steps/take", "", `{"steps":["notify"]}`), 400,
			"invalid_argument", "steps[0]", "history"},
		{"take of too many", "unix", request("/v1/steps/take", "", `{"max":101}`), 400, "invalid_argument", "max", "100"},
		{"take of fewer than none", "unix", request("/v1/steps/take", "", `{"max":-1}`), 400, "invalid_argument", "max", ""},
		{"too long a wait", "unix", request("/v1/steps/take", "", `{"wait":"31s"}`), 400, "invalid_argument", "wait", "30s"},
		{"no wait", "unix", request("/v1/steps/take", "", `{"wait":"30"}`), 400, "invalid_argument", "wait", "30s"},
		{"settle of nothing", "unix", request("/v1/steps/settle", "", `{}`), 400, "invalid_argument", "settle", "1 to 100"},
		{"settle of no delivery", "unix", request("/v1/steps/settle", "", `{"settle":[{"id":"x","outcome":"done"}]}`), 400,
			"invalid_argument", "settle[0].id", "not the id"},
		{"no messages", "unix", request("/v1/index", "", `{}`), 400, "invalid_argument", "messages", "1 to 1000"},
		{"clear of a fact that stays", "unix", request("/v1/amend", "",
			`{"amendments":[{"tenant":"a","message_id":"m","clear":["sender"]}]}`), 200, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := r.raw(t, c.network, c.text)
			if a.StatusCode != c.status {
				t.Fatalf("%s\n%.500s", a.Status, a.text)
			}
			if c.status == 200 || c.code == "" {
				return
			}
			a.tells(t, c.code, c.field, c.detail)
		})
	}
}

func TestServer_SlowBody(t *testing.T) {
	setBodyTimeout(t, 100*time.Millisecond)
	r := opened(t, nil)
	a := r.raw(t, "unix", request("/v1/status", "Transfer-Encoding: chunked\r\n", "1\r\n{\r\n"))
	if a.StatusCode != 408 {
		t.Fatalf("%s\n%s", a.Status, a.text)
	}
	a.tells(t, "deadline_exceeded", "", "did not arrive")
}

func TestServer_ForeignUser(t *testing.T) {
	for uid, want := range map[int]int{os.Getuid(): 200, os.Getuid() + 1: 403} {
		r := opened(t, func(unix, _ *config.Listener) { unix.AllowUIDs = []int{uid} })
		a := r.raw(t, "unix", request("/v1/status", "", status))
		if a.StatusCode != want {
			t.Errorf("%s %s", a.Status, a.text)
		}
		if health := r.raw(t, "unix", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"); health.StatusCode != 200 {
			t.Error(health.Status)
		}
	}
}

func TestServer_RequestID(t *testing.T) {
	r := opened(t, nil)
	if a := r.raw(t, "unix", request("/v1/status", "X-Request-Id: trace-1\r\n",
		status)); a.Header.Get("X-Request-Id") != "trace-1" {
		t.Error(a.Header)
	}
	if a := r.raw(t, "unix", request("/v1/status", "X-Request-Id: <b>\r\n",
		status)); len(a.Header.Get("X-Request-Id")) != 36 {
		t.Error(a.Header)
	}
}

// Too many requests at a time are refused at once, and the others are not disturbed.
func TestServer_Busy(t *testing.T) {
	r := opened(t, nil)
	var polls []net.Conn
	for range cap(r.inFlight) {
		c := r.dial(t, "unix")
		defer c.Close()
		if _, err := io.WriteString(c, request("/v1/steps/take", "", `{"wait":"15s"}`)); err != nil {
			t.Fatal(err)
		}
		polls = append(polls, c)
	}
	for len(r.inFlight) < cap(r.inFlight) {
		time.Sleep(time.Millisecond)
	}
	a := r.raw(t, "unix", request("/v1/status", "", status))
	if a.StatusCode != 429 || a.Header.Get("Retry-After") != "1" || a.problem.Code != "resource_exhausted" {
		t.Errorf("%s %s", a.Status, a.text)
	}
	if health := r.raw(t, "unix", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"); health.StatusCode != 200 {
		t.Error(health.Status)
	}
	r.Service.Leave() // as SIGTERM does: the polls end at once
	for _, c := range polls {
		if a := read(t, c); a.StatusCode != 200 || !bytes.Contains(a.text, []byte(`"deliveries":[]`)) {
			t.Errorf("%s %s", a.Status, a.text)
		}
	}
}

// The bodies of all requests together are bounded too.
func TestServer_BusyWithBodies(t *testing.T) {
	r := opened(t, nil)
	r.bodies = semaphore.NewWeighted(1 << 20)
	for range 3 {
		a := r.raw(t, "unix", request("/v1/status", "", strings.Repeat(" ", 1<<20)+status))
		if a.StatusCode != 429 || a.Header.Get("Retry-After") != "1" {
			t.Errorf("%s %s", a.Status, a.text)
		}
		if a := r.raw(t, "unix", request("/v1/status", "", strings.Repeat(" ", 1<<19)+status)); a.StatusCode != 200 {
			t.Errorf("%s %s", a.Status, a.text)
		}
	}
	rpc := apiv1connect.NewRecallServiceClient(r.client(true), "http://localhost", connect.WithGRPC())
	_, err := rpc.Status(t.Context(), &v1.StatusRequest{Tenant: strings.Repeat("x", 2<<20)})
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Error(err)
	}
}

// Calls that come before the plugin answers wait for it.
func TestServer_EarlyCallers(t *testing.T) {
	r := newRig(t, nil)
	c := r.dial(t, "unix")
	defer c.Close()
	if _, err := io.WriteString(c, request("/v1/status", "", status)); err != nil {
		t.Fatal(err)
	}
	if a := r.raw(t, "unix", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"); a.StatusCode != 200 {
		t.Error(a.Status)
	}
	if a := r.raw(t, "unix", "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"); a.StatusCode != 503 {
		t.Error(a.Status)
	}
	if a := r.raw(t, "unix", request("/v1/admin/state", "", "{}")); !bytes.Contains(a.text, []byte(`"phase":"opening"`)) {
		t.Errorf("%s", a.text)
	}
	r.open(t)
	if a := read(t, c); a.StatusCode != 200 {
		t.Errorf("%s %s", a.Status, a.text)
	}
	if a := r.raw(t, "unix", "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"); a.StatusCode != 200 {
		t.Error(a.Status)
	}
}

// post calls /v1/ over the unix socket and decodes the answer.
func (r *rig) post(t *testing.T, path, header, body string, into any) {
	t.Helper()
	a := r.raw(t, "unix", request(path, header, body))
	if a.StatusCode != 200 {
		t.Fatalf("%s: %s %s", path, a.Status, a.text)
	}
	if err := json.Unmarshal(a.text, into); err != nil {
		t.Fatal(err)
	}
}

func TestServer_Backup(t *testing.T) {
	r := opened(t, nil)
	a := r.raw(t, "unix", request("/v1/admin/backup", "", "{}"))
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "application/octet-stream" || len(a.text) == 0 {
		t.Errorf("%s %v, %d bytes", a.Status, a.Header, len(a.text))
	}
	file := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(file, a.text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, err := hosttest.RunPlugin(t, "index", "restore", file, filepath.Join(t.TempDir(), "index"))
	if err != nil {
		t.Errorf("%v\n%s", err, stderr)
	}
}

// A backup that breaks off must not look like a whole one.
func TestServer_BackupBreaksOff(t *testing.T) {
	r := opened(t, nil)
	rpc := apiv1connect.NewRecallServiceClient(r.client(true), "http://localhost", connect.WithGRPC())
	for i := range 40 { // more than the sockets on the way hold
		req := &v1.IndexRequest{}
		for j := range 1000 {
			m := message(fmt.Sprintf("m%d-%d", i, j))
			m.Ref = strings.Repeat("r", 200)
			req.Messages = append(req.Messages, m)
		}
		if _, err := rpc.Index(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	c := r.dial(t, config.Unix)
	defer c.Close()
	if _, err := io.WriteString(c, request("/v1/admin/backup", "", "{}")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	defer resp.Body.Close()
	hosttest.Kill(t, r.host)
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("the plugin was killed, and its backup ends after %d bytes without an error", n)
	}
}

func TestServer_TLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, mutual := range map[string]bool{"server": false, "both": true} {
		t.Run(name, func(t *testing.T) {
			pool := writeCertificate(t, cert, key)
			r := opened(t, func(_, tcp *config.Listener) {
				tcp.TLSCert, tcp.TLSKey = cert, key
				if mutual {
					tcp.TLSClientCA = cert
				}
			})
			settings := &tls.Config{RootCAs: pool, ServerName: "localhost"}
			call := func() (*http.Response, error) {
				client := &http.Client{Transport: &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true},
					Timeout: 10 * time.Second}
				req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://"+r.tcp.Address+"/v1/status",
					strings.NewReader(status))
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Authorization", "Bearer "+token)
				return client.Do(req)
			}
			resp, err := call()
			if mutual {
				if err == nil {
					t.Fatal("a client without a certificate was let in")
				}
				pair, err := tls.LoadX509KeyPair(cert, key)
				if err != nil {
					t.Fatal(err)
				}
				settings.Certificates = []tls.Certificate{pair}
				if resp, err = call(); err != nil {
					t.Fatal(err)
				}
			}
			if err != nil && !mutual {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
				t.Error(resp.Status, resp.Proto)
			}
			if mutual {
				return
			}
			settings.RootCAs = writeCertificate(t, cert, key) // renewed, as SIGHUP reads it
			if _, err := call(); err == nil {
				t.Error("the new certificate was read too early")
			}
			if err := r.certificates.Read(); err != nil {
				t.Fatal(err)
			}
			if resp, err = call(); err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if err := os.WriteFile(cert, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := r.certificates.Read(); err == nil {
				t.Error("an empty certificate was read")
			}
			if resp, err = call(); err != nil {
				t.Fatal("the certificates that were read before do not stay in force: ", err)
			}
			_ = resp.Body.Close()
		})
	}
}
