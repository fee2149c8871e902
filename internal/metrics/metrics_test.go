package metrics

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chat-recall/recall/shared"
)

func TestGather(t *testing.T) {
	r := prometheus.NewRegistry()
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "calls_total"}, []string{"method", "code"})
	open := prometheus.NewGauge(prometheus.GaugeOpts{Name: "active"})
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Buckets: []float64{1, 2}})
	r.MustRegister(calls, open, took)
	calls.WithLabelValues("Recall", "denied").Add(3)
	calls.WithLabelValues("Index", "").Inc()
	open.Set(1)
	for _, seconds := range []float64{0.5, 2, 7} {
		took.Observe(seconds)
	}
	got, err := Gather(r)
	if err != nil {
		t.Fatal(err)
	}
	want := []shared.Metric{
		{Name: "active", Kind: shared.MetricGauge, Value: 1},
		{Name: "calls_total", Kind: shared.MetricCounter, Labels: map[string]string{"method": "Index", "code": ""}, Value: 1},
		{
			Name: "calls_total", Kind: shared.MetricCounter,
			Labels: map[string]string{"method": "Recall", "code": "denied"}, Value: 3,
		},
		{
			Name: "took_seconds", Kind: shared.MetricHistogram, Value: 9.5, Count: 3,
			Buckets: []shared.Bucket{{UpperBound: 1, Count: 1}, {UpperBound: 2, Count: 2}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestGather_Empty(t *testing.T) {
	if got, err := Gather(prometheus.NewRegistry()); err != nil || len(got) > 0 {
		t.Error(got, err)
	}
}

func TestGather_WhatCannotBeCollected(t *testing.T) {
	r := prometheus.NewRegistry()
	desc := prometheus.NewDesc("broken", "", nil, nil)
	r.MustRegister(prometheus.CollectorFunc(func(ch chan<- prometheus.Metric) {
		ch <- prometheus.NewInvalidMetric(desc, errors.New("not today"))
	}))
	if _, err := Gather(r); err == nil {
		t.Error("no error")
	}
}

func TestSeconds(t *testing.T) {
	if first, last := Seconds[0], Seconds[len(Seconds)-1]; first != 0.0001 || last < 60 || last > 120 {
		t.Error(first, last)
	}
}

func TestGather_OtherKind(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(prometheus.NewSummary(prometheus.SummaryOpts{Name: "size_bytes"}))
	if _, err := Gather(r); err == nil || !strings.Contains(err.Error(), "size_bytes") {
		t.Errorf("got %v", err)
	}
}
