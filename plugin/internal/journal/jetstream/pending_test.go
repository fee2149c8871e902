package jetstream

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/chat-recall/recall/internal/natscluster"
	"github.com/chat-recall/recall/internal/natscluster/natstest"
)

// TestStream_AcknowledgementsThatNeverCome checks that the client forgets them: it refuses to publish once it waits for
// 4,000.
func TestStream_AcknowledgementsThatNeverCome(t *testing.T) {
	s := open(t, options(t, natstest.Start(t, 1, func(*natscluster.Options) {}), 1))
	if err := s.js.DeleteStream(t.Context(), "RECALL"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.nc.Subscribe(s.subject("log"), func(*nats.Msg) {}); err != nil { // it takes them, and says nothing
		t.Fatal(err)
	}
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 10)
	for range cap(done) {
		s.Publish(ctx, []byte("x"), func(err error) { done <- err })
	}
	cancel()
	for range cap(done) {
		if err := <-done; err == nil {
			t.Error("an entry is acknowledged by nobody")
		}
	}
	select {
	case <-s.js.PublishAsyncComplete():
	case <-time.After(10 * time.Second):
		t.Errorf("the client still waits for %d acknowledgements", s.js.PublishAsyncPending())
	}
}
