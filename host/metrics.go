package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chat-recall/recall/internal/metrics"
	"github.com/chat-recall/recall/shared"
)

// timings are the histograms of a host.
type timings struct {
	registry *prometheus.Registry
	held     prometheus.Histogram     // calls that waited for a plugin and were then let through
	steps    *prometheus.HistogramVec // attempts of steps: step, outcome
}

func newTimings(steps []string) *timings {
	t := &timings{
		registry: prometheus.NewRegistry(),
		held: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "recall_host_held_seconds",
			Buckets: metrics.Seconds}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "recall_host_step_seconds", Buckets: metrics.Seconds,
		}, []string{"step", "outcome"}),
	}
	t.registry.MustRegister(t.held, t.steps)
	for _, step := range steps {
		for _, outcome := range []shared.Outcome{
			shared.OutcomeDone, shared.OutcomeNothingToDo, shared.OutcomeUnsupported, shared.OutcomeFailed,
			shared.OutcomeDeferred,
		} {
			t.steps.WithLabelValues(step, string(outcome))
		}
	}
	return t
}

// ran records one attempt of a step: its outcome, and after which time it was known.
func (t *timings) ran(step string, outcome shared.Outcome, began time.Time) {
	t.steps.WithLabelValues(step, string(outcome)).Observe(time.Since(began).Seconds())
}

// Metrics returns the metrics of the host, whose names begin with recall_host_, and those of the plugin in force. It
// does not wait for a plugin that restarts. If the plugin does not answer before ctx ends, or sends a malformed answer,
// Metrics returns the metrics of the host and an error. docs/operating.md lists the metrics.
func (h *Host) Metrics(ctx context.Context) ([]shared.Metric, error) {
	list, err := metrics.Gather(h.timings.registry)
	if err != nil {
		return nil, err
	}
	st := h.State()
	add := func(name string, kind shared.MetricKind, value float64) {
		list = append(list, shared.Metric{Name: name, Kind: kind, Value: value})
	}
	is := func(yes bool) float64 {
		if yes {
			return 1
		}
		return 0
	}
	add("recall_host_index_damaged", shared.MetricGauge, is(st.Damaged))
	add("recall_host_plugin_running", shared.MetricGauge, is(st.Phase == PhaseRunning || st.Phase == PhaseUpgrading))
	add("recall_host_restarts_total", shared.MetricCounter, float64(st.Restarts))
	add("recall_host_upgrades_total", shared.MetricCounter, float64(st.Upgrades))
	p := h.gate.inForce()
	if p == nil {
		return list, nil
	}
	plugin, err := p.api.Metrics(ctx)
	switch {
	case err == nil:
		return append(list, plugin...), nil
	case errors.Is(err, shared.ErrUnavailable), errors.Is(err, shared.ErrUnimplemented): // it just ended, or has none
		return list, nil
	}
	return list, fmt.Errorf("metrics of the plugin: %w", err)
}
