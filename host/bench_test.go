package host

import (
	"context"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// BenchmarkWorker is of 128 deliveries of a step that does nothing, until their outcomes are answered. The reports are
// how many calls of the plugin that takes.
func BenchmarkWorker(b *testing.B) {
	g := newGate(nil)
	reports := 0
	g.open(&process{api: wire.NewClient(b.Context(), pluginConn{settleAll: func(_ context.Context,
		req *recallv1.SettleRequest) (*recallv1.SettleResponse, error) {
		reports++
		return stored(req), nil
	}})})
	ctx, cancel := context.WithCancel(context.Background())
	w := newWorker(ctx, map[string]Step{"wipe": {Run: func(context.Context, shared.Delivery) (shared.Outcome, error) {
		return shared.OutcomeDone, nil
	}}}, g, hclog.NewNullLogger())
	var reporter sync.WaitGroup
	reporter.Go(func() { w.reports.run(ctx) })
	e := shared.Delivery{Step: "wipe", Attempt: 1}
	b.ReportAllocs()
	for b.Loop() {
		for range shared.MaxDeliveries {
			e.Sequence++
			if err := w.take(e); err != nil {
				b.Fatal(err)
			}
		}
		w.handed.Wait()
	}
	b.ReportMetric(float64(reports)/float64(b.N), "reports/op")
	cancel()
	reporter.Wait()
}
