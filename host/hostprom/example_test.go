package hostprom_test

import (
	"context"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hostprom"
)

// A chat server exports the metrics of Recall together with its own.
func Example() {
	h, err := host.Open(context.Background(), host.Config{File: "plugin.hcl"})
	if err != nil {
		os.Exit(1)
	}
	defer h.Close()
	prometheus.MustRegister(hostprom.New(h, 5*time.Second))
	http.Handle("GET /metrics", promhttp.Handler())
}
