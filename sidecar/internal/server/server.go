// Package server serves the API of recall-sidecar on its listeners.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/semaphore"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hostprom"
	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/apiv1/apiv1connect"
	"github.com/chat-recall/recall/sidecar/internal/api"
	"github.com/chat-recall/recall/sidecar/internal/config"
	"github.com/chat-recall/recall/sidecar/internal/secret"
)

const (
	headerTimeout  = 5 * time.Second // for the header of a request
	idleTimeout    = 2 * time.Minute // between two requests of a connection
	maxHeaderBytes = 64 << 10
	maxStreams     = 1000      // of an HTTP/2 connection at a time
	maxBodies      = 256 << 20 // bytes of the bodies of all requests under way: they are held until the answer
	scrapeTimeout  = 2 * time.Second
	maxSmall       = 4 << 10 // bytes of a question about health or reflection
	metricsPath    = "/metrics"
	openAPIPath    = "/openapi.json"
	healthPath     = "/" + grpchealth.HealthV1ServiceName + "/Check"
)

// Server is the HTTP side of one sidecar.
type Server struct {
	Service *api.Service
	Log     *slog.Logger

	inFlight chan struct{}
	bodies   *semaphore.Weighted
	metrics  *counters
	registry *prometheus.Registry
	leaving  atomic.Bool
	running  sync.WaitGroup // a goroutine for each listener, that accepts
	open     []net.Listener
	servers  []*http.Server
	fresh    sync.Map // connections whose first request has not come yet: net.Conn
	failed   chan error
}

// New returns a server that answers at most maxInFlight requests at a time.
func New(service *api.Service, maxInFlight int, log *slog.Logger) *Server {
	s := &Server{Service: service, Log: log, inFlight: make(chan struct{}, maxInFlight),
		bodies:   semaphore.NewWeighted(maxBodies),
		registry: prometheus.NewRegistry(), failed: make(chan error, 1)}
	s.metrics = newCounters(s.registry, service.Broker, s.inFlight)
	s.registry.MustRegister(hostprom.New(pluginMetrics{service}, scrapeTimeout))
	return s
}

// pluginMetrics are the metrics of the host and the plugin, none before they are open.
type pluginMetrics struct{ service *api.Service }

func (m pluginMetrics) Metrics(ctx context.Context) ([]shared.Metric, error) {
	if h := m.service.Host(); h != nil {
		return h.Metrics(ctx)
	}
	return nil, nil
}

// Serve answers on a listener until Shutdown. tokens are those of its token_file, nil if it has none.
func (s *Server) Serve(ln net.Listener, l config.Listener, tokens *secret.File) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: &guard{Server: s, listener: l, tokens: tokens, errors: connect.NewErrorWriter(),
			private: s.handler(l.Admin)},
		Protocols: &protocols, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: writeTimeout},
		DisableGeneralOptionsHandler: true, ConnContext: s.accepted,
		ConnState: s.changed,
		ErrorLog:  slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	s.open, s.servers = append(s.open, ln), append(s.servers, server)
	s.running.Go(func() {
		if err := server.Serve(ln); !s.leaving.Load() {
			select {
			case s.failed <- fmt.Errorf("listener %s: %w", ln.Addr(), err):
			default:
			}
		}
	})
}

// Failed delivers the error of a listener that ended by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// accepted notes a new connection. Handlers can then ask who is at the other end.
func (s *Server) accepted(ctx context.Context, c net.Conn) context.Context {
	s.fresh.Store(c, nil)
	return context.WithValue(ctx, connKey{}, c)
}

// changed forgets a connection that ends without a request.
func (s *Server) changed(c net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		s.fresh.Delete(c)
	}
}

// Shutdown takes no new connections, ends the polls, and answers the other requests until ctx ends.
func (s *Server) Shutdown(ctx context.Context) {
	if s.leaving.Swap(true) {
		return
	}
	s.Service.Leave()
	for _, ln := range s.open {
		_ = ln.Close()
	}
	s.running.Wait()
	for _, server := range s.servers {
		server.SetKeepAlivesEnabled(false)
	}
	s.awaitFirstRequests(ctx)
	var all sync.WaitGroup
	for _, server := range s.servers {
		all.Go(func() {
			if err := server.Shutdown(ctx); err != nil {
				s.Log.Warn("requests were cut off", "error", err)
				_ = server.Close()
			}
		})
	}
	all.Wait()
}

// awaitFirstRequests waits until every connection has sent its first request, for as long as one may take. A server
// that shuts down drops a request that it reads then, and a client that has just connected cannot know.
func (s *Server) awaitFirstRequests(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, headerTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		waits := false
		s.fresh.Range(func(_, _ any) bool {
			waits = true
			return false
		})
		if !waits {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ready says why calls are not answered now; nil if they are. While the plugin restarts or is upgraded, calls wait for
// it, and the sidecar is ready.
func (s *Server) ready() error {
	if s.leaving.Load() {
		return errors.New("stopping")
	}
	h := s.Service.Host()
	if h == nil {
		return errors.New("the plugin is starting")
	}
	if st := h.State(); st.Phase == host.PhaseFailed || st.Phase == host.PhaseClosed || st.Damaged {
		return fmt.Errorf("plugin %s: %s", st.Phase, st.Error)
	}
	return nil
}

// Check implements grpc.health.v1.
func (s *Server) Check(_ context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	switch r.Service {
	case "", apiv1connect.RecallServiceName, apiv1connect.StepServiceName, apiv1connect.AdminServiceName:
	default:
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no service %.80q", r.Service))
	}
	if s.ready() != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

// handler is what a listener serves to those who may ask.
func (s *Server) handler(admin bool) http.Handler {
	mux := http.NewServeMux()
	// Nothing is compressed: clients are near, and a few bytes could stand for many.
	plainBytes := connect.WithCompression("gzip", nil, nil)
	options := []connect.HandlerOption{plainBytes,
		connect.WithCodec(api.JSON{Type: "json"}), connect.WithCodec(api.JSON{Type: "json; charset=utf-8"}),
		connect.WithCodec(api.Binary{}), connect.WithReadMaxBytes(MaxBody),
	}
	services := []string{apiv1connect.RecallServiceName, apiv1connect.StepServiceName}
	mux.Handle(apiv1connect.NewRecallServiceHandler(s.Service, options...))
	mux.Handle(apiv1connect.NewStepServiceHandler(s.Service, options...))
	plain(mux, "index", s.Service.Index)
	plain(mux, "amend", s.Service.Amend)
	plain(mux, "recall", s.Service.Recall)
	plain(mux, "check", s.Service.Check)
	plain(mux, "explain", s.Service.Explain)
	plain(mux, "status", s.Service.Status)
	plain(mux, "since", s.Service.Since)
	plain(mux, "ledger", s.Service.Ledger)
	plain(mux, "steps/take", s.Service.Take)
	plain(mux, "steps/settle", s.Service.Settle)
	if admin {
		mux.Handle(apiv1connect.NewAdminServiceHandler(s.Service, options...))
		services = append(services, apiv1connect.AdminServiceName)
		plain(mux, "admin/state", s.Service.State)
		plain(mux, "admin/reload", s.Service.Reload)
		plain(mux, "admin/upgrade", s.Service.Upgrade)
		post(mux, "admin/backup", s.backup)
	}
	reflector := grpcreflect.NewStaticReflector(append(services, grpchealth.HealthV1ServiceName)...)
	mux.Handle(grpchealth.NewHandler(s, plainBytes, connect.WithReadMaxBytes(maxSmall)))
	mux.Handle(grpcreflect.NewHandlerV1(reflector, plainBytes, connect.WithReadMaxBytes(maxSmall)))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, plainBytes, connect.WithReadMaxBytes(maxSmall)))
	mux.Handle("GET "+metricsPath, promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET "+openAPIPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(v1.OpenAPI)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		hint := ""
		if strings.HasPrefix(r.URL.Path, "/v1/admin/") && !admin {
			hint = ", and /v1/admin only on a unix socket with admin = true"
		}
		fail(w, http.StatusNotFound, connect.NewError(connect.CodeNotFound,
			fmt.Errorf("there is no %.80q here; /openapi.json lists the calls%s", r.URL.Path, hint)))
	})
	return mux
}

// backup streams a backup. One that fails on the way ends in the middle of its response.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	var none v1.BackupRequest
	if status, err := readJSON(w, r, &none); err != nil {
		fail(w, status, err)
		return
	}
	begun := false
	err := s.Service.BackupTo(r.Context(), writerFunc(func(p []byte) (int, error) {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		return w.Write(p)
	}))
	switch {
	case err != nil && !begun:
		fail(w, 0, err)
	case err != nil:
		s.Log.Error("a backup is incomplete", "error", err)
		panic(http.ErrAbortHandler)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
