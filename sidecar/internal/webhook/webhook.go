// Package webhook carries out steps by signed HTTP requests, as Standard Webhooks 1.0 describes them
// (github.com/standard-webhooks/standard-webhooks).
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/chat-recall/recall/shared"
)

const (
	maxAnswerBytes = 4 << 10  // of a response body; no more of it is read
	maxHeaderBytes = 64 << 10 // of a response header
	idleTimeout    = time.Minute
	connectTimeout = 10 * time.Second // also ends a connection that outlives the attempt that asked for it
)

// Config says where the requests of one step go and who signs them.
type Config struct {
	URL     *url.URL // http or https, without a user; http reaches only this machine
	Socket  string   // if not empty, the unix socket to connect to instead of the host of URL
	AtATime int      // connections at a time, at least 1

	// Secrets returns the keys that sign. Each request calls it and carries a signature of every key, so that a receiver
	// can change from one to the next. Without a key nothing is sent.
	Secrets func() [][]byte

	// Encode returns the JSON of a delivery.
	Encode func(shared.Delivery) ([]byte, error)
}

// Webhook carries out one step. It is safe for concurrent use.
type Webhook struct {
	config    Config
	dialer    *net.Dialer
	transport *http.Transport
	redact    *redactor
}

// New returns a webhook. Close it after the last Run.
func New(c Config) *Webhook {
	w := &Webhook{config: c, dialer: &net.Dialer{Timeout: connectTimeout}, redact: newRedactor(c.URL)}
	w.dialer.Control = func(_, address string, _ syscall.RawConn) error { return checkAddress(c.URL.Scheme, address) }
	dial := w.dialer.DialContext
	if c.Socket != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "unix", c.Socket)
		}
	}
	// HTTP/1.1 only: an attempt that hangs takes no other one's connection with it. Without Proxy the environment names no
	// proxy, which would resolve the name itself.
	w.transport = &http.Transport{
		DialContext: dial, MaxConnsPerHost: c.AtATime, MaxIdleConnsPerHost: c.AtATime, IdleConnTimeout: idleTimeout,
		TLSHandshakeTimeout: connectTimeout, MaxResponseHeaderBytes: maxHeaderBytes, DisableCompression: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	return w
}

// Close closes the connections that no attempt uses.
func (w *Webhook) Close() { w.transport.CloseIdleConnections() }

// Run makes one attempt; it is a Run of host.Step. The attempt fails without an answer before ctx ends, and with any
// status but 2xx, a redirect too. No status gives a step up: a misspelled path must not lose a recall. A 2xx answer
// settles the step as done, unless its body is a JSON object with another "outcome". Errors contain nothing of the URL
// and no secret, since the ledger keeps them.
func (w *Webhook) Run(ctx context.Context, d shared.Delivery) (shared.Outcome, error) {
	secrets := w.config.Secrets()
	outcome, err := w.attempt(ctx, d, secrets)
	if err != nil {
		return shared.OutcomeFailed, w.redact.err(ctx, err, secrets)
	}
	return outcome, nil
}

func (w *Webhook) attempt(ctx context.Context, d shared.Delivery, secrets [][]byte) (shared.Outcome, error) {
	req, err := w.request(ctx, d, secrets)
	if err != nil {
		return "", err
	}
	resp, err := w.transport.RoundTrip(req) // a client would follow redirects
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	return outcomeOf(resp.StatusCode, body, err)
}

// request builds the signed request of one attempt.
func (w *Webhook) request(ctx context.Context, d shared.Delivery, secrets [][]byte) (*http.Request, error) {
	if len(secrets) == 0 {
		return nil, errors.New("there is no secret to sign with")
	}
	data, err := w.config.Encode(d)
	if err != nil {
		return nil, fmt.Errorf("encode the delivery: %w", err)
	}
	body := fmt.Appendf(nil, `{"type":"recall.step.%s","timestamp":"%s","data":%s}`, d.Step,
		d.RecalledAt.UTC().Format(time.RFC3339Nano), data)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.config.URL.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	id, now := d.Key()+":"+d.Step, strconv.FormatInt(time.Now().Unix(), 10)
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		signatures[i] = sign(secret, id, now, body)
	}
	req.Header = http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {"recall-sidecar"},
		"Webhook-Id":        {id}, // constant over all attempts: the receiver recognizes what it has done
		"Webhook-Timestamp": {now},
		"Webhook-Signature": {strings.Join(signatures, " ")},
		// Not sent. It lets the transport send the request again on a new connection if the receiver has closed the idle one.
		"Idempotency-Key": {},
	}
	return req, nil
}

// sign returns the symmetric signature of Standard Webhooks.
func sign(secret []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
