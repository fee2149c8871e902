package hostprom_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hostprom"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/internal/metrics"
	"github.com/chat-recall/recall/shared"
)

// source answers Metrics in the place of a host.
type source func(context.Context) ([]shared.Metric, error)

func (s source) Metrics(ctx context.Context) ([]shared.Metric, error) { return s(ctx) }

func registry(c prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	return r
}

// scrape gets the page that Prometheus reads.
func scrape(t *testing.T, r *prometheus.Registry) string {
	t.Helper()
	s := httptest.NewServer(promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	defer s.Close()
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %v: %s", resp.Status, err, page)
	}
	return string(page)
}

func TestNew(t *testing.T) {
	list := []shared.Metric{
		{Name: "active", Kind: shared.MetricGauge, Value: 1},
		{Name: "calls_total", Kind: shared.MetricCounter, Labels: map[string]string{"method": "Index", "code": ""}, Value: 1},
		{
			Name: "calls_total", Kind: shared.MetricCounter, Labels: map[string]string{"method": "Recall", "code": "da\"nied"},
			Value: 3,
		},
		{
			Name: "took_seconds", Kind: shared.MetricHistogram, Labels: map[string]string{"step": "notify"},
			Value: 9.5, Count: 3,
			Buckets: []shared.Bucket{{UpperBound: 1, Count: 1}, {UpperBound: 2, Count: 2}},
		},
	}
	r := registry(hostprom.New(source(func(context.Context) ([]shared.Metric, error) { return list, nil }), time.Minute))
	t.Run("keeps names, kinds, labels and values", func(t *testing.T) {
		got, err := metrics.Gather(r)
		if err != nil || !reflect.DeepEqual(got, list) {
			t.Errorf("got  %+v, %v\nwant %+v", got, err, list)
		}
	})
	t.Run("page of a scrape", func(t *testing.T) {
		page := scrape(t, r)
		for _, want := range []string{
			"# HELP active See docs/operating.md of Recall.\n# TYPE active gauge\nactive 1\n",
			"# TYPE calls_total counter\ncalls_total{code=\"\",method=\"Index\"} 1\n",
			"calls_total{code=\"da\\\"nied\",method=\"Recall\"} 3\n",
			"# TYPE took_seconds histogram\ntook_seconds_bucket{step=\"notify\",le=\"1\"} 1\n",
			"took_seconds_bucket{step=\"notify\",le=\"+Inf\"} 3\ntook_seconds_sum{step=\"notify\"} 9.5\n",
		} {
			if !strings.Contains(page, want) {
				t.Errorf("no %q in\n%s", want, page)
			}
		}
	})
}

func TestNew_Timeout(t *testing.T) {
	r := registry(hostprom.New(source(func(ctx context.Context) ([]shared.Metric, error) {
		<-ctx.Done()
		return []shared.Metric{{Name: "up", Kind: shared.MetricGauge}}, ctx.Err()
	}), time.Millisecond))
	t.Run("ends the call, and what there is counts", func(t *testing.T) {
		if page := scrape(t, r); !strings.Contains(page, "\nup 0\n") {
			t.Error(page)
		}
	})
	t.Run("0 panics", func(t *testing.T) {
		defer func() {
			if p := fmt.Sprint(recover()); !strings.Contains(p, "timeout is 0s") {
				t.Errorf("got %s", p)
			}
		}()
		hostprom.New(source(nil), 0)
	})
}

func TestNew_Invalid(t *testing.T) {
	for name, test := range map[string]struct {
		list []shared.Metric
		err  error
		want string
	}{
		"no metric at all":       {nil, errors.New("out of order"), "out of order"},
		"no metric and no error": {nil, nil, "no metrics"},
		"unknown kind": {[]shared.Metric{{Name: "took", Kind: "summary"}}, nil,
			`took is of the unknown kind "summary"`},
		"bad label": {[]shared.Metric{{
			Name: "took", Kind: shared.MetricGauge, Labels: map[string]string{"a\xff": ""},
		}}, nil, "label"},
		"the same series twice": {[]shared.Metric{
			{Name: "took", Kind: shared.MetricGauge}, {Name: "took", Kind: shared.MetricGauge},
		}, nil, "collected before"},
	} {
		t.Run(name, func(t *testing.T) {
			r := registry(hostprom.New(source(func(context.Context) ([]shared.Metric, error) {
				return test.list, test.err
			}), time.Minute))
			if _, err := r.Gather(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNew_Host(t *testing.T) {
	h := hosttest.Open(t, host.Config{})
	const (
		running = "\nrecall_host_plugin_running 1\n"
		held    = "\nrecall_host_held_seconds_count 0\n"
		active  = "\nrecall_active 1\n" // of the plugin, as the next
		first   = "\nrecall_index_sequence 0\n"
	)
	t.Run("plugin answers", func(t *testing.T) {
		page := scrape(t, registry(hostprom.New(h, time.Minute)))
		for _, want := range []string{running, held, active, first} {
			if !strings.Contains(page, want) {
				t.Errorf("no %q in\n%s", want, page)
			}
		}
	})
	t.Run("plugin hangs: the metrics of the host", func(t *testing.T) {
		hosttest.Hang(t, h)
		page := scrape(t, registry(hostprom.New(h, 100*time.Millisecond)))
		if !strings.Contains(page, running) || strings.Contains(page, active) {
			t.Error(page)
		}
	})
	t.Run("plugin is gone: the metrics of the host", func(t *testing.T) {
		hosttest.Kill(t, h)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		page := scrape(t, registry(hostprom.New(h, time.Minute)))
		if !strings.Contains(page, "\nrecall_host_plugin_running 0\n") || strings.Contains(page, active) {
			t.Error(page)
		}
	})
}
