package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	"github.com/chat-recall/recall/sidecar/internal/api"
	"github.com/chat-recall/recall/sidecar/internal/config"
	"github.com/chat-recall/recall/sidecar/internal/secret"
)

const requestIDHeader = "X-Request-Id"

var requestID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// The reasons for which the guard refuses a request, in the metrics.
const (
	refusedOrigin = "origin"
	refusedHost   = "host"
	refusedUID    = "uid"
	refusedToken  = "token"
	refusedBusy   = "busy"
)

// refusal is why the guard refuses a request.
type refusal struct {
	reason string
	status int
	err    error
}

// guard is what every request of one listener passes.
type guard struct {
	*Server
	listener config.Listener
	tokens   *secret.File // nil: none are needed
	errors   *connect.ErrorWriter
	private  http.Handler
}

// ServeHTTP answers health to everybody on this machine, and the rest to those who may ask.
func (g *guard) ServeHTTP(to http.ResponseWriter, r *http.Request) {
	g.fresh.Delete(r.Context().Value(connKey{}))
	id := r.Header.Get(requestIDHeader)
	if !requestID.MatchString(id) {
		id = uuid.NewString()
	}
	w := &response{ResponseWriter: to, controller: http.NewResponseController(to)}
	w.Header().Set(requestIDHeader, id)
	incoming := &body{ReadCloser: r.Body, controller: w.controller, budget: g.bodies}
	if r.Body != http.NoBody { // also of one that no handler reads: net/http then reads it to its end
		_ = w.controller.SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	r = r.WithContext(r.Context()) // net/http looks at the body of its own
	r.Body = incoming
	began := time.Now()
	defer func() {
		p := recover()
		incoming.release()
		g.metrics.observe(r.URL.Path, w.status, time.Since(began))
		if w.status == http.StatusInternalServerError {
			g.Log.Error("a request failed", "path", r.URL.Path, "request_id", id, "error", w.detail)
		}
		if err, _ := p.(error); p != nil && !errors.Is(err, http.ErrAbortHandler) {
			g.Log.Error("a request panicked", "path", r.URL.Path, "request_id", id, "panic", p, "stack", string(debug.Stack()))
		}
		if p != nil {
			panic(http.ErrAbortHandler) // the client must not take a part for the whole
		}
	}()
	switch {
	case isBrowser(r):
		g.refuse(w, r, refusal{refusedOrigin, http.StatusForbidden,
			denied("the request comes from a web page (it has the header Origin), and none may call the sidecar")})
	case r.URL.Path == "/healthz" && isRead(r):
		_, _ = io.WriteString(w, "ok\n")
	case r.URL.Path == "/readyz" && isRead(r):
		if err := g.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	default:
		if no, bad := g.refused(r); bad {
			g.refuse(w, r, no)
			return
		}
		if r.URL.Path == healthPath { // it needs no token, so it takes no place from those who have one
			g.private.ServeHTTP(w, r)
			return
		}
		select {
		case g.inFlight <- struct{}{}:
		default:
			g.refuse(w, r, refusal{refusedBusy, http.StatusTooManyRequests,
				api.Overloaded(fmt.Sprintf("more than %d requests at a time (max_in_flight)", cap(g.inFlight)))})
			return
		}
		defer func() { <-g.inFlight }()
		g.private.ServeHTTP(w, r)
	}
}

func isRead(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// isBrowser reports whether a web page sent the request.
func isBrowser(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return len(r.Header.Values("Origin")) > 0 || site != "" && site != "none"
}

func denied(format string, args ...any) error {
	return connect.NewError(connect.CodePermissionDenied, fmt.Errorf(format, args...))
}

// refused says whether a request may not be asked by this client, and why.
func (g *guard) refused(r *http.Request) (refusal, bool) {
	if !g.isOurs(r.Host) {
		return refusal{refusedHost, http.StatusMisdirectedRequest, denied("the sidecar is not %.80q: see host_names in "+
			"sidecar.hcl", r.Host)}, true
	}
	if allowed := g.listener.AllowUIDs; len(allowed) > 0 {
		uid, err := peerUID(r.Context())
		if err != nil || !slices.Contains(allowed, uid) {
			return refusal{refusedUID, http.StatusForbidden, denied("user %d of this machine is not in allow_uids", uid)}, true
		}
	}
	if g.tokens != nil && r.URL.Path != healthPath {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !g.tokens.Match([]byte(token)) {
			return refusal{refusedToken, http.StatusUnauthorized, connect.NewError(connect.CodeUnauthenticated,
				errors.New("the header Authorization: Bearer needs a token of token_file"))}, true
		}
	}
	return refusal{}, false
}

// isOurs reports whether a Host header names this sidecar, and not another name that leads here. A page in a browser
// that knows such a name cannot reach a unix socket, where clients send what they like as long as it is no domain.
func (g *guard) isOurs(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	ip := net.ParseIP(host)
	switch {
	case host == "localhost", ip != nil && ip.IsLoopback():
		return true
	case slices.ContainsFunc(g.listener.HostNames, func(name string) bool { return strings.EqualFold(name, host) }):
		return true
	case g.listener.Network == "unix":
		return ip == nil && !strings.ContainsAny(host, ".:")
	}
	own, _, err := net.SplitHostPort(g.listener.Address)
	return err == nil && ip != nil && ip.Equal(net.ParseIP(own))
}

// refuse answers in the protocol of the request.
func (g *guard) refuse(w http.ResponseWriter, r *http.Request, no refusal) {
	g.metrics.refused.WithLabelValues(no.reason).Inc()
	if r.ProtoMajor == 1 { // and does not wait for the rest of its body
		w.Header().Set("Connection", "close")
	}
	if no.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if g.errors.IsSupported(r) && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		_ = g.errors.Write(w, r, no.err)
		return
	}
	fail(w, no.status, no.err)
}
