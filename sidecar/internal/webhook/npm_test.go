package webhook_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/sidecar/internal/npm"
	"github.com/chat-recall/recall/sidecar/internal/webhook"
)

// nodeReceiver starts a Node.js process that verifies what it receives with the npm package standardwebhooks and these
// keys, and returns its address.
func nodeReceiver(t *testing.T, keys ...[]byte) string {
	t.Helper()
	node, dir := npm.Require(t)
	args := []string{filepath.Join(dir, "receive.mjs")}
	for _, key := range keys {
		args = append(args, "whsec_"+base64.StdEncoding.EncodeToString(key))
	}
	cmd := exec.CommandContext(t.Context(), node, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the receiver prints no port: %v", err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(line)
}

// between starts a proxy that changes requests on their way to address.
func between(t *testing.T, address string, change func(*http.Request)) string {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, (&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); change(r.Out) },
		Transport: &http.Transport{DisableKeepAlives: true},
	}).ServeHTTP).URL
}

// flip changes one bit of the body, so that it is still JSON: the name of the tenant.
func flip(r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	body[bytes.Index(body, []byte("acme"))] ^= 1
	r.Body = io.NopCloser(bytes.NewReader(body))
}

// The receiver's side of Standard Webhooks is the published npm package: it accepts what was signed for it, and nothing
// else.
func TestRun_StandardWebhooksFromNPM(t *testing.T) {
	other := []byte("a secret of somebody else")
	receiver, beforeRotation := nodeReceiver(t, newKey), nodeReceiver(t, oldKey)
	id, stamp := "Webhook-Id", "Webhook-Timestamp"
	for _, test := range []struct {
		name    string
		address string
		keys    [][]byte
		text    string // of the error
	}{
		{"valid", receiver, [][]byte{newKey}, ""},
		{"passed on unchanged", between(t, receiver, func(*http.Request) {}), [][]byte{newKey}, ""},
		{"rotation: receiver with the old secret", beforeRotation, [][]byte{newKey, oldKey}, ""},
		{"rotation: receiver with the new secret", receiver, [][]byte{newKey, oldKey}, ""},
		{"rotation: receiver with both secrets", nodeReceiver(t, newKey, oldKey), [][]byte{oldKey}, ""},
		{"after rotation, receiver with the old secret", beforeRotation, [][]byte{newKey}, "No matching signature"},
		{"wrong secret", receiver, [][]byte{other}, "No matching signature"},
		{"flipped body", between(t, receiver, flip), [][]byte{newKey}, "No matching signature"},
		{"another id", between(t, receiver, func(r *http.Request) { r.Header.Set(id, "x"+r.Header.Get(id)) }),
			[][]byte{newKey}, "No matching signature"},
		{"replayed six minutes later", between(t, receiver, func(r *http.Request) {
			r.Header.Set(stamp, strconv.FormatInt(time.Now().Add(-6*time.Minute).Unix(), 10))
		}), [][]byte{newKey}, "too old"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, test.address, func(c *webhook.Config) { c.Secrets = func() [][]byte { return test.keys } })
			d := delivery()
			d.Reason = "没有这条消息" // for which the receiver answers nothing_to_do, once it has verified it
			outcome, err := w.Run(within(t), d)
			if test.text == "" {
				if err != nil || outcome != shared.OutcomeNothingToDo {
					t.Fatalf("got %q, %v", outcome, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "HTTP 401") || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %q, %v", outcome, err)
			}
		})
	}
}
