package shared

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/chat-recall/recall/shared/recallv1"
)

// counting counts how the calls on a connection are made.
type counting struct {
	grpc.ClientConnInterface
	unary, streams atomic.Int64
}

func (c *counting) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c.unary.Add(1)
	return c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

func (c *counting) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c.streams.Add(1)
	return c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// slow is a plugin whose Index waits, and whose Status answers with the ids that it is asked for.
type slow struct {
	echo
	release chan struct{}
}

func (p *slow) Index(ctx context.Context, m []Message) ([]IndexResult, error) {
	select {
	case <-p.release:
		return []IndexResult{{MessageID: m[0].ID, Status: Indexed}}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *slow) Status(_ context.Context, _ string, ids []string) ([]MessageStatus, error) {
	if ids[0] == "bad" {
		return nil, Invalidf("message_ids[0]", "is bad")
	}
	return []MessageStatus{{MessageID: ids[0], State: MessageLive}}, nil
}

func TestCallsSideBySideShareOneStreamAndGetTheirOwnAnswers(t *testing.T) {
	conn := &counting{ClientConnInterface: dial(t, &slow{})}
	client := NewClient(t.Context(), conn)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			id := fmt.Sprint("m", i)
			got, err := client.Status(t.Context(), "acme", []string{id})
			if err != nil || got[0].MessageID != id {
				t.Errorf("status of %s: %v, %v", id, got, err)
			}
		})
	}
	all.Wait()
	if conn.streams.Load() != 1 || conn.unary.Load() != 0 {
		t.Errorf("%d streams and %d calls of their own; want one stream", conn.streams.Load(), conn.unary.Load())
	}
}

func TestAnErrorOnTheStreamIsOfItsCallAlone(t *testing.T) {
	client := NewClient(t.Context(), dial(t, &slow{}))
	_, err := client.Status(t.Context(), "acme", []string{"bad"})
	var field *FieldError
	if !errors.As(err, &field) || field.Field != "message_ids[0]" {
		t.Errorf("got %v; want the field", err)
	}
	if _, err := client.Status(t.Context(), "acme", []string{"m"}); err != nil {
		t.Error(err)
	}
}

func TestASlowCallOnTheStreamHoldsUpNoOtherAndEndsWithItsContext(t *testing.T) {
	p := &slow{release: make(chan struct{})}
	client := NewClient(t.Context(), dial(t, p))
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		_, err := client.Index(ctx, []Message{fullMessage})
		waits <- err
	}()
	if _, err := client.Status(t.Context(), "acme", []string{"m"}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want the end of the context", err)
	}
	close(p.release)
	if got, err := client.Index(t.Context(), []Message{fullMessage}); err != nil || got[0].Status != Indexed {
		t.Errorf("a later call got %v, %v", got, err)
	}
}

// deaf is a plugin that hangs: it reads no call.
type deaf struct{ *recallServer }

func (deaf) Calls(stream recallv1.RecallService_CallsServer) error {
	<-stream.Context().Done()
	return nil
}

func TestCallsOfAPluginThatReadsNothingEndWithTheirContexts(t *testing.T) {
	alive, gone := context.WithCancel(t.Context())
	defer gone()
	client := NewClient(alive, dialServer(t, func(s *grpc.Server) {
		recallv1.RegisterRecallServiceServer(s, deaf{newRecallServer(&slow{})})
	}))
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = strings.Repeat("i", 250)
	}
	ended := make(chan error, 50)
	go func() {
		for range 50 { // 2.5 MB, one after the other
			ctx, cancel := context.WithTimeout(alive, time.Millisecond)
			_, err := client.Status(ctx, "acme", ids)
			cancel()
			ended <- err
		}
	}()
	for n := range 50 {
		select {
		case err := <-ended:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("call %d: %v", n, err)
			}
		case <-time.After(10 * time.Second):
			gone()
			t.Fatalf("call %d does not end: %v", n, <-ended)
		}
	}
}

func TestALargeRequestDoesNotGoOnTheSharedStream(t *testing.T) {
	conn := &counting{ClientConnInterface: dial(t, &slow{})}
	client := NewClient(t.Context(), conn)
	ids := make([]string, MaxStatusIDs)
	for i := range ids {
		ids[i] = strings.Repeat("i", 200) + fmt.Sprint(i)
	}
	_, _ = client.Status(t.Context(), "acme", ids)
	if conn.unary.Load() != 1 {
		t.Errorf("%d calls of their own; want one", conn.unary.Load())
	}
}

// olderServer is a plugin of a version before Calls.
type olderServer struct{ *recallServer }

func (olderServer) Calls(recallv1.RecallService_CallsServer) error {
	return status.Error(codes.Unimplemented, "unknown method Calls")
}

func TestAPluginWithoutCallsGetsEachByItself(t *testing.T) {
	conn := &counting{ClientConnInterface: dialServer(t, func(s *grpc.Server) {
		recallv1.RegisterRecallServiceServer(s, olderServer{newRecallServer(&slow{})})
	})}
	client := NewClient(t.Context(), conn)
	for range 3 {
		if got, err := client.Status(t.Context(), "acme", []string{"m"}); err != nil || got[0].MessageID != "m" {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	if conn.unary.Load() != 3 || conn.streams.Load() != 1 {
		t.Errorf("%d calls of their own and %d streams; want 3 and 1", conn.unary.Load(), conn.streams.Load())
	}
}

func TestACallCutOffWithItsStreamIsUnavailable(t *testing.T) {
	var server *grpc.Server
	p := &slow{release: make(chan struct{})}
	client := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) {
		server = s
		Register(s, p)
	}))
	if _, err := client.Status(t.Context(), "acme", []string{"m"}); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := client.Index(t.Context(), []Message{fullMessage})
		waits <- err
	}()
	server.Stop()
	if err := <-waits; !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v; want unavailable", err)
	}
}

func TestAnUnknownCallOnTheStreamIsUnimplemented(t *testing.T) {
	s := newRecallServer(&slow{})
	a, leave := s.answer(t.Context(), &recallv1.Call{Id: 4, Name: "Tomorrow"})
	leave()
	if a.GetId() != 4 || !errors.Is(fromStatus(t.Context(), answerError(a.GetStatus())), ErrUnimplemented) {
		t.Errorf("got %v", a)
	}
}

func BenchmarkCalls(b *testing.B) {
	for _, way := range []string{"stream", "alone"} {
		b.Run(way, func(b *testing.B) {
			conn := dial(b, &slow{})
			client := NewClient(b.Context(), conn)
			if way == "alone" {
				client.recall = recallv1.NewRecallServiceClient(conn)
			}
			b.ReportAllocs()
			b.SetParallelism(32) // times 2 cores
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := client.Status(b.Context(), "acme", []string{"m"}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
