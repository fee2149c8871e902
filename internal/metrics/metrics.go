// Package metrics turns the metrics of a registry into those of the contract.
package metrics

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/chat-recall/recall/shared"
)

// Seconds are the bounds of histograms of time, from 0.1 ms to a minute and a half.
var Seconds = prometheus.ExponentialBuckets(0.0001, 2.5, 16)

// Gather lists the metrics of a registry, ordered by name and labels.
func Gather(r *prometheus.Registry) ([]shared.Metric, error) {
	families, err := r.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	var out []shared.Metric
	for _, f := range families {
		for _, m := range f.GetMetric() {
			one, err := metric(f, m)
			if err != nil {
				return nil, err
			}
			out = append(out, one)
		}
	}
	return out, nil
}

func metric(f *dto.MetricFamily, m *dto.Metric) (shared.Metric, error) {
	out := shared.Metric{Name: f.GetName()}
	for _, l := range m.GetLabel() {
		if out.Labels == nil {
			out.Labels = make(map[string]string, len(m.GetLabel()))
		}
		out.Labels[l.GetName()] = l.GetValue()
	}
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		out.Kind, out.Value = shared.MetricCounter, m.GetCounter().GetValue()
	case dto.MetricType_HISTOGRAM:
		h := m.GetHistogram()
		out.Kind, out.Value, out.Count = shared.MetricHistogram, h.GetSampleSum(), h.GetSampleCount()
		for _, b := range h.GetBucket() {
			out.Buckets = append(out.Buckets, shared.Bucket{UpperBound: b.GetUpperBound(), Count: b.GetCumulativeCount()})
		}
	case dto.MetricType_GAUGE:
		out.Kind, out.Value = shared.MetricGauge, m.GetGauge().GetValue()
	default:
		return out, fmt.Errorf("metric %s is of a kind that the contract does not have: %s", f.GetName(), f.GetType())
	}
	return out, nil
}
