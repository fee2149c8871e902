package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chat-recall/recall/sidecar/internal/calls"
	"github.com/chat-recall/recall/sidecar/internal/pull"
)

// seconds are the buckets of a request: from 100 µs to 30 s, the longest wait.
var seconds = []float64{
	0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
}

// counters are the metrics of the sidecar itself.
type counters struct {
	paths    map[string]bool // that are labels
	requests *prometheus.HistogramVec
	refused  *prometheus.CounterVec
}

func newCounters(registry *prometheus.Registry, broker *pull.Broker, inFlight chan struct{}) *counters {
	c := &counters{
		paths: map[string]bool{"/healthz": true, "/readyz": true, metricsPath: true, openAPIPath: true, healthPath: true},
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "recall_sidecar_request_seconds", Help: "Requests by path and HTTP status.", Buckets: seconds,
		}, []string{"path", "status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recall_sidecar_refused_total", Help: "Requests that were refused before they were read, by reason.",
		}, []string{"reason"}),
	}
	for _, call := range calls.All {
		c.paths[call.HTTP()], c.paths[call.RPC()] = true, true
	}
	for _, reason := range []string{refusedOrigin, refusedHost, refusedUID, refusedToken, refusedBusy} {
		c.refused.WithLabelValues(reason)
	}
	registry.MustRegister(c.requests, c.refused, &steps{broker}, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "recall_sidecar_in_flight", Help: "Requests that are answered now, polls included.",
	}, func() float64 { return float64(len(inFlight)) }))
	return c
}

// observe counts a request. Other paths share a label.
func (c *counters) observe(path string, status int, took time.Duration) {
	if !c.paths[path] {
		path = "other"
	}
	c.requests.WithLabelValues(path, strconv.Itoa(status)).Observe(took.Seconds())
}

// steps are the metrics of the pulled steps.
type steps struct{ broker *pull.Broker }

var (
	stepsDesc = prometheus.NewDesc("recall_sidecar_pulled_steps", "Deliveries of pulled steps, by step and whether "+
		"they wait for a worker or are leased.", []string{"step", "state"}, nil)
	waitDesc = prometheus.NewDesc("recall_sidecar_pulled_wait_seconds", "How long the first delivery of a pulled step "+
		"has waited for a worker; 0 if none waits.", []string{"step"}, nil)
)

// Describe implements [prometheus.Collector].
func (*steps) Describe(to chan<- *prometheus.Desc) {
	to <- stepsDesc
	to <- waitDesc
}

// Collect implements [prometheus.Collector].
func (s *steps) Collect(to chan<- prometheus.Metric) {
	for _, c := range s.broker.Counts() {
		wait := 0.0
		if !c.Since.IsZero() {
			wait = time.Since(c.Since).Seconds()
		}
		to <- prometheus.MustNewConstMetric(stepsDesc, prometheus.GaugeValue, float64(c.Waiting), c.Step, "waiting")
		to <- prometheus.MustNewConstMetric(stepsDesc, prometheus.GaugeValue, float64(c.Leased), c.Step, "leased")
		to <- prometheus.MustNewConstMetric(waitDesc, prometheus.GaugeValue, wait, c.Step)
	}
}
