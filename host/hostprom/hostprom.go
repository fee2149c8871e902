// Package hostprom exports the metrics of a host and its plugin to Prometheus. It is a package of its own so that
// package host has no Prometheus type in its API.
package hostprom

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chat-recall/recall/shared"
)

// help is the help text of all metrics: [shared.Metric] has none.
const help = "See docs/operating.md of Recall."

// New returns a collector of the metrics of h, a [host.Host], for any Prometheus registry. Each scrape calls h.Metrics
// once, for at most timeout. Choose one below the scrape_timeout of Prometheus, 10 s by default. New panics if timeout
// is not positive.
//
// A plugin that restarts, hangs or sends a malformed answer does not fail the scrape: the metrics of the host, among
// them recall_host_plugin_running, are exported without those of the plugin. Alert on absent(recall_active) too.
//
// [host.Host]: https://pkg.go.dev/github.com/chat-recall/recall/host#Host
func New(h interface {
	Metrics(ctx context.Context) ([]shared.Metric, error)
}, timeout time.Duration) prometheus.Collector {
	if timeout <= 0 {
		panic(fmt.Sprintf("hostprom.New: timeout is %s; it must be positive", timeout))
	}
	return &collector{h.Metrics, timeout}
}

type collector struct {
	metrics func(context.Context) ([]shared.Metric, error)
	timeout time.Duration
}

// Describe describes nothing: which metrics there are changes with the plugin.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	list, err := c.metrics(ctx)
	if len(list) == 0 {
		out <- invalid("recall", errors.Join(errors.New("the host has no metrics"), err))
	}
	for _, m := range list {
		out <- convert(m)
	}
}

// convert returns the Prometheus metric with the name, labels and values of m.
func convert(m shared.Metric) prometheus.Metric {
	desc := prometheus.NewDesc(m.Name, help, nil, m.Labels)
	var metric prometheus.Metric
	var err error
	switch m.Kind {
	case shared.MetricCounter:
		metric, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, m.Value)
	case shared.MetricGauge:
		metric, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, m.Value)
	case shared.MetricHistogram:
		buckets := make(map[float64]uint64, len(m.Buckets))
		for _, b := range m.Buckets {
			buckets[b.UpperBound] = b.Count
		}
		metric, err = prometheus.NewConstHistogram(desc, m.Count, m.Value, buckets)
	default:
		err = fmt.Errorf("metric %s is of the unknown kind %q", m.Name, m.Kind)
	}
	if err != nil {
		return invalid(m.Name, err)
	}
	return metric
}

// invalid returns a metric that fails the scrape with err.
func invalid(name string, err error) prometheus.Metric {
	return prometheus.NewInvalidMetric(prometheus.NewDesc(name, help, nil, nil), err)
}
