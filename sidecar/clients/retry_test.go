package clients_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/sidecar/sidecartest"
)

// answer is what a proxy does with one request.
type answer func(w http.ResponseWriter, r *http.Request, forward http.Handler)

// fails answers with a status of the sidecar.
func fails(status int) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"status":%d,"code":"code_%d","detail":"a fault","request_id":"r1"}`, status, status)
	}
}

func retryAfterASecond(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	w.Header().Set("Retry-After", "1")
	fails(http.StatusServiceUnavailable)(w, r, forward)
}

// retryMuchLater asks for a pause that is longer than the timeout of any call.
func retryMuchLater(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	w.Header().Set("Retry-After", "1000")
	fails(http.StatusServiceUnavailable)(w, r, forward)
}

func badGateway(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	http.Error(w, "<html>bad gateway</html>", http.StatusBadGateway)
}

// drop lets the sidecar answer, and closes the connection instead of passing the answer on.
func drop(_ http.ResponseWriter, r *http.Request, forward http.Handler) {
	forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// cut passes a part of the answer on.
func cut(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	full := httptest.NewRecorder()
	forward.ServeHTTP(full, r)
	w.Header().Set("Content-Length", fmt.Sprint(full.Body.Len()))
	_, _ = w.Write(full.Body.Bytes()[:full.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// hang answers nothing until the client gives up.
func hang(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() }

// proxy lies between a client and a sidecar.
type proxy struct {
	forward http.Handler

	mu      sync.Mutex
	answers []answer // to the next requests; the others are forwarded
	seen    []string // the recall_id of each request, or its Idempotency-Key
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	var request struct {
		RecallID string `json:"recall_id"`
	}
	_ = json.Unmarshal(body, &request)
	if request.RecallID == "" {
		request.RecallID = r.Header.Get("Idempotency-Key")
	}
	p.mu.Lock()
	p.seen = append(p.seen, request.RecallID)
	next := answer(func(w http.ResponseWriter, r *http.Request, forward http.Handler) { forward.ServeHTTP(w, r) })
	if len(p.answers) > 0 {
		next, p.answers = p.answers[0], p.answers[1:]
	}
	p.mu.Unlock()
	next(w, r, p.forward)
}

// plan sets the answers to the next requests, and returns the requests seen so far.
func (p *proxy) plan(answers ...answer) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen
	p.seen, p.answers = nil, answers
	return seen
}

// newProxy starts a proxy on a unix socket.
func newProxy(t *testing.T, s *sidecartest.Sidecar) (*proxy, string) {
	t.Helper()
	p := &proxy{forward: &sidecarHandler{s}}
	socket := filepath.Join(hosttest.RunDir(t), "proxy.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(p)
	_ = server.Listener.Close()
	server.Listener = ln
	server.Config.ErrorLog = nil
	server.Start()
	t.Cleanup(server.Close)
	return p, socket
}

// sidecarHandler passes requests on to a sidecar.
type sidecarHandler struct{ *sidecartest.Sidecar }

func (s *sidecarHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := r.Clone(r.Context())
	req.RequestURI, req.URL.Scheme, req.URL.Host, req.Host = "", "http", "localhost", ""
	res, err := s.Client.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	maps.Copy(w.Header(), res.Header)
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body)
}

func TestClients_Retries(t *testing.T) {
	each(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t)
		p, socket := newProxy(t, s)
		d := drive(t, l, at{socket: socket})
		var messages []string
		for i := range 20 {
			messages = append(messages, message(fmt.Sprint("m", i)))
		}
		d.must("index", `{"messages":[`+strings.Join(messages, ",")+`]}`, nil)

		sub := func(name string, test func(t *testing.T)) {
			t.Run(name, func(t *testing.T) {
				defer func(outer *testing.T) { d.t = outer }(d.t)
				d.t = t
				test(t)
			})
		}
		sub("the recall_id stays the same", func(t *testing.T) {
			p.plan(drop, cut, drop)
			var r results
			d.must("recall", request("", "m0"), &r)
			seen := p.plan()
			if len(seen) < 4 || seen[0] == "" || len(slices.Compact(seen)) != 1 || r.Results[0].RecallID != seen[0] ||
				r.statuses() != "recalled" {
				t.Errorf("the requests had %q; the answer is %+v", seen, r)
			}
		})
		sub("an own recall_id is kept", func(t *testing.T) {
			p.plan(drop)
			var r results
			d.must("recall", request("mine", "m1"), &r)
			if r.Results[0].RecallID != "mine" {
				t.Errorf("recalled as %q", r.Results[0].RecallID)
			}
		})
		for i, fault := range []struct {
			name   string
			answer answer
			least  time.Duration
		}{
			{"408", fails(408), 0}, {"429", fails(429), 0}, {"500", fails(500), 0}, {"501", fails(501), 0},
			{"503 with Retry-After", retryAfterASecond, time.Second}, {"504", fails(504), 0},
			{"a page of a proxy", badGateway, 0},
		} {
			sub(fault.name, func(t *testing.T) {
				p.plan(fault.answer, fault.answer)
				began := time.Now()
				var r results
				d.must("recall", request("", fmt.Sprint("m", 2+i)), &r)
				if seen := p.plan(); len(seen) != 3 || r.statuses() != "recalled" {
					t.Errorf("%d requests, answer %q", len(seen), r.statuses())
				}
				if took := time.Since(began); took < 2*fault.least {
					t.Errorf("it waited %s, less than Retry-After", took)
				}
			})
		}
		for _, status := range []int{400, 401, 403, 404, 405, 409, 413, 415, 421} {
			sub(fmt.Sprint(status, " is final"), func(t *testing.T) {
				p.plan(fails(status))
				got := d.call("recall", request("", "m19"), timeout, nil)
				if seen := p.plan(); len(seen) != 1 || got == nil || got.Status != status ||
					got.Code != fmt.Sprint("code_", status) || got.Detail != "a fault" || got.RequestID != "r1" {
					t.Errorf("%d requests, error %+v", len(seen), got)
				}
			})
		}
		sub("a refusal is final", func(t *testing.T) {
			p.plan()
			var r results
			d.must("recall", request("", "unknown"), &r)
			if seen := p.plan(); len(seen) != 1 || r.statuses() != "not_found" {
				t.Errorf("%d requests, answer %q", len(seen), r.statuses())
			}
		})
		sub("the timeout ends with the last error", func(t *testing.T) {
			p.plan(append(slices.Repeat([]answer{fails(500)}, 5), retryMuchLater)...)
			began := time.Now()
			got := d.call("status", `{"tenant":"acme","ids":["m1"]}`, timeout, nil)
			if seen := p.plan(); len(seen) != 6 || got == nil || got.Status != 503 {
				t.Errorf("%d requests, error %+v", len(seen), got)
			}
			if took := time.Since(began); took < 700*time.Millisecond { // 25+50+100+200+400 ms, and timers are not exact
				t.Errorf("five pauses took %s together", took)
			}
		})
		sub("the timeout ends an attempt", func(t *testing.T) {
			p.plan(hang)
			began := time.Now()
			got := d.call("status", `{"tenant":"acme","ids":["m1"]}`, 1, nil)
			if took := time.Since(began); got == nil || got.Status != 0 || took < time.Second {
				t.Errorf("after %s: %+v", took, got)
			} else if l.worker && got.Code != "deadline_exceeded" {
				t.Errorf("the code is %q", got.Code)
			}
			p.plan()
		})
	})
}

// Each idle connection that was closed meanwhile is replaced at once: the delays before as many other attempts are at
// least 35 s together, longer than the timeout of the call.
func TestClients_BrokenIdleConnections(t *testing.T) {
	eachWorker(t, func(t *testing.T, l language) {
		const connections = 40
		s := sidecartest.Start(t)
		p, socket := newProxy(t, s)
		d := drive(t, l, at{socket: socket})
		var together sync.WaitGroup
		together.Add(connections)
		p.plan(slices.Repeat([]answer{func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			together.Done()
			together.Wait()
			forward.ServeHTTP(w, r)
		}}, connections)...)
		const status = `{"tenant":"acme","ids":["m1"]}`
		many := fmt.Sprintf(`{"call":"status","request":%s,"timeout":%d,"parallel":%d}`, status, timeout, connections)
		if err := d.do(many, nil); err != nil {
			t.Fatalf("%+v", *err)
		}
		p.plan(slices.Repeat([]answer{drop}, connections)...)
		if err := d.call("status", status, timeout, nil); err != nil {
			t.Errorf("%+v", *err)
		}
		if seen := p.plan(); len(seen) != connections+1 {
			t.Errorf("%d requests; want one for each idle connection and one for a new one", len(seen))
		}
	})
}

func TestClients_HTTPS(t *testing.T) {
	each(t, func(t *testing.T, l language) {
		s := sidecartest.Start(t)
		server := httptest.NewTLSServer(http.StripPrefix("/recall", &sidecarHandler{s}))
		t.Cleanup(server.Close)
		ca := filepath.Join(t.TempDir(), "ca.pem")
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(ca, text, 0o600); err != nil {
			t.Fatal(err)
		}
		d := drive(t, l, at{url: server.URL + "/recall/",
			env: []string{"NODE_EXTRA_CA_CERTS=" + ca, "SSL_CERT_FILE=" + ca, "CURL_CA_BUNDLE=" + ca}})
		d.must("status", `{"tenant":"acme","ids":["m1"]}`, nil)
	})
}
