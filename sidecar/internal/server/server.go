// Package server serves the API of recall-sidecar on its listeners.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/chat-recall/recall/host/hostprom"
	"github.com/chat-recall/recall/shared"
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
