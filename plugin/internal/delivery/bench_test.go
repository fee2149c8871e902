package delivery

import (
	"context"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/clock/clocktest"
	"github.com/chat-recall/recall/shared"
)

// endlessIndex has one step open for ever more events.
type endlessIndex struct{ entry shared.LedgerEntry }

func (*endlessIndex) OpenSteps(_ context.Context, _ string, after uint64, limit int) ([]uint64, error) {
	out := make([]uint64, limit)
	for i := range out {
		out[i] = after + uint64(i) + 1
	}
	return out, nil
}

func (*endlessIndex) BackingOff(context.Context, string, int, uint64, uint64, int) ([]index.Failure, error) {
	return nil, nil
}

func (*endlessIndex) LastFailure() uint64 { return 0 }

func (x *endlessIndex) Entry(uint64, string) (*shared.LedgerEntry, error) { return &x.entry, nil }

// BenchmarkDispatcher is of 128 deliveries that are settled. It says how many of them go at once.
func BenchmarkDispatcher(b *testing.B) {
	x := &endlessIndex{shared.LedgerEntry{Steps: []shared.StepRecord{{Step: "history"}}}}
	d := NewDispatcher(x, []string{"history"}, clocktest.New(), hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(b.Context())
	events, messages := make(chan uint64, 2*maxInFlight), 0
	var consumer sync.WaitGroup
	consumer.Go(func() {
		sequence := uint64(0)
		_ = d.Run(ctx, func(some []shared.Delivery) {
			messages++
			for range some {
				sequence++
				events <- sequence
			}
		})
	})
	b.ReportAllocs()
	for b.Loop() {
		for range maxInFlight {
			d.Settle(<-events, "history", index.StepState{})
		}
	}
	cancel()
	consumer.Wait()
	b.ReportMetric(float64(b.N)*maxInFlight/float64(messages), "events/message")
}
