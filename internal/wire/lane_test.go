package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// laneEnds are both ends of a lane, closed when the test ends.
func laneEnds(t testing.TB) (host, plugin *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "lane")
		conn, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		ends[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { conn.Close() })
	}
	return ends[0], ends[1]
}

// serveLane serves impl on a lane and returns the host's end.
func serveLane(t testing.TB, s *recallServer) *net.UnixConn {
	t.Helper()
	host, plugin := laneEnds(t)
	served := make(chan error, 1)
	go func() { served <- s.serveLane(plugin) }()
	t.Cleanup(func() {
		host.Close()
		if err := <-served; err != nil {
			t.Errorf("the host broke the lane: %v", err)
		}
		if !s.admission.working.TryAcquire(maxWorkingBytes) {
			t.Error("memory for calls was not given back")
		}
	})
	return host
}

// onLane is a client whose calls go by a lane to impl, which it also reaches by gRPC.
func onLane(t testing.TB, impl Plugin) (*Client, *counting) {
	t.Helper()
	s := newRecallServer(impl)
	conn := &counting{ClientConnInterface: dialServer(t, func(g *grpc.Server) { s.register(g, CapabilityLane) })}
	c := NewClient(t.Context(), conn)
	if err := c.UseLane(serveLane(t, s)); err != nil {
		t.Fatal(err)
	}
	return c, conn
}

// bothWays runs a test with calls by the lane, of a plugin that is waited for and of one that is not, and with calls by
// gRPC.
func bothWays(t *testing.T, test func(t *testing.T, connect func(Plugin) *Client)) {
	t.Run("lane", func(t *testing.T) {
		test(t, func(impl Plugin) *Client { c, _ := onLane(t, impl); return c })
	})
	t.Run("lane of an AsyncPlugin", func(t *testing.T) {
		test(t, func(impl Plugin) *Client { c, _ := onLane(t, async{impl}); return c })
	})
	t.Run("gRPC", func(t *testing.T) {
		test(t, func(impl Plugin) *Client { return NewClient(t.Context(), dial(t, impl)) })
	})
}

// counting counts how the calls on a connection are made.
type counting struct {
	grpc.ClientConnInterface
	unary, streams atomic.Int64
}

func (c *counting) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c.unary.Add(1)
	return c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

func (c *counting) NewStream(
	ctx context.Context,
	desc *grpc.StreamDesc,
	method string,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	c.streams.Add(1)
	return c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// slow is a plugin whose Index waits, and whose Status answers with the ids that it is asked for.
type slow struct {
	echo
	release  chan struct{}
	entered  chan struct{} // gets each call of Index; may be nil
	canceled chan error    // gets why a call of Index ended by its context; may be nil
}

func (p *slow) Index(ctx context.Context, m []shared.Message) ([]shared.IndexResult, error) {
	if p.entered != nil {
		p.entered <- struct{}{}
	}
	select {
	case <-p.release:
		return mapSlice(m, func(m shared.Message) shared.IndexResult {
			return shared.IndexResult{MessageID: m.ID, Status: shared.IndexAdded}
		}), nil
	case <-ctx.Done():
		if p.canceled != nil {
			p.canceled <- ctx.Err()
		}
		return nil, ctx.Err()
	}
}

func (p *slow) Status(_ context.Context, _ string, ids []string) ([]shared.MessageStatus, error) {
	if ids[0] == "bad" {
		return nil, shared.Invalidf("message_ids[0]", "is bad")
	}
	return []shared.MessageStatus{{MessageID: ids[0], State: shared.MessageLive}}, nil
}

func TestLane_CallsSideBySide(t *testing.T) {
	client, conn := onLane(t, &slow{})
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
	if conn.streams.Load() != 0 || conn.unary.Load() != 0 {
		t.Errorf("%d streams and %d calls by gRPC; want none", conn.streams.Load(), conn.unary.Load())
	}
}

func TestCalls_ErrorIsOfItsCallAlone(t *testing.T) {
	bothWays(t, func(t *testing.T, connect func(Plugin) *Client) {
		client := connect(&slow{})
		_, err := client.Status(t.Context(), "acme", []string{"bad"})
		var field *shared.FieldError
		if !errors.As(err, &field) || field.Field != "message_ids[0]" {
			t.Errorf("got %v; want the field", err)
		}
		if _, err := client.Status(t.Context(), "acme", []string{"m"}); err != nil {
			t.Error(err)
		}
	})
}

func TestCalls_SlowCallHoldsUpNoOther(t *testing.T) {
	bothWays(t, func(t *testing.T, connect func(Plugin) *Client) {
		p := &slow{release: make(chan struct{}), entered: make(chan struct{}, 2), canceled: make(chan error, 1)}
		client := connect(p)
		ctx, cancel := context.WithCancel(t.Context())
		waits := make(chan error, 1)
		go func() {
			_, err := client.Index(ctx, []shared.Message{fullMessage})
			waits <- err
		}()
		<-p.entered
		if _, err := client.Status(t.Context(), "acme", []string{"m"}); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-waits; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v; want the end of the context", err)
		}
		if err := <-p.canceled; !errors.Is(err, context.Canceled) {
			t.Errorf("the context of the call in the plugin ended with %v", err)
		}
		close(p.release)
		if got, err := client.Index(t.Context(), []shared.Message{fullMessage}); err != nil ||
			got[0].Status != shared.IndexAdded {
			t.Errorf("a later call got %v, %v", got, err)
		}
	})
}

// contexts is a plugin that keeps the contexts of its calls.
type contexts struct {
	slow
	seen chan context.Context
}

func (p *contexts) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	p.seen <- ctx
	return p.slow.Status(ctx, tenant, ids)
}

func (p *contexts) Index(ctx context.Context, m []shared.Message) ([]shared.IndexResult, error) {
	p.seen <- ctx
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestCalls_ContextReachesThePlugin(t *testing.T) {
	bothWays(t, func(t *testing.T, connect func(Plugin) *Client) {
		p := &contexts{seen: make(chan context.Context, 1)}
		client := connect(p)
		call := func(ctx context.Context) context.Context {
			if _, err := client.Status(ctx, "acme", []string{"m"}); err != nil {
				t.Fatal(err)
			}
			return <-p.seen
		}
		t.Run("no deadline and no metadata", func(t *testing.T) {
			ctx := call(t.Context())
			if _, ok := ctx.Deadline(); ok {
				t.Error("there is a deadline")
			}
			if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("traceparent")) > 0 {
				t.Errorf("there is metadata: %v", md)
			}
		})
		t.Run("deadline", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			want, _ := ctx.Deadline()
			if got, ok := call(ctx).Deadline(); !ok || got.Sub(want).Abs() > time.Minute {
				t.Errorf("deadline %v, %v; want %v", got, ok, want)
			}
		})
		t.Run("ends at the deadline", func(t *testing.T) {
			for wait := 10 * time.Millisecond; ; wait *= 2 {
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				_, err := client.Index(ctx, []shared.Message{fullMessage})
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("got %v", err)
				}
				select {
				case ctx := <-p.seen:
					<-ctx.Done()
					return
				default: // the time was over before the call reached the plugin
				}
			}
		})
		for name, value := range map[string]string{
			"metadata": "00-abc-def-01", "metadata that is too large for the lane": strings.Repeat("x", maxLaneMetadata),
		} {
			t.Run(name, func(t *testing.T) {
				md, _ := metadata.FromIncomingContext(call(metadata.AppendToOutgoingContext(t.Context(),
					"Traceparent", value, "traceparent", "second", "other", "")))
				if got := md.Get("traceparent"); len(got) != 2 || got[0] != value || got[1] != "second" ||
					len(md.Get("other")) != 1 {
					t.Errorf("got %.200v", md)
				}
			})
		}
	})
}

func TestLane_PluginThatReadsNothing(t *testing.T) {
	host, _ := laneEnds(t)
	client := NewClient(t.Context(), dial(t, &slow{}))
	if err := client.UseLane(host); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = strings.Repeat("i", 250)
	}
	for n := range 50 { // 2.5 MB, one after the other: more than the socket takes
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := client.Status(ctx, "acme", ids)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("call %d: %v", n, err)
		}
	}
	t.Run("room for what is not sent is waited for", func(t *testing.T) {
		var all sync.WaitGroup
		batch := largeMessages(maxLaneRequest * 3 / 4)
		for range maxLaneUnsent/(maxLaneRequest*3/4) + 10 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if _, err := client.Index(ctx, batch); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		out := client.calls.lane.Load().out
		out.mu.Lock()
		defer out.mu.Unlock()
		if n := len(out.due); n > maxLaneUnsent+1<<20 { // and cancels
			t.Errorf("%d bytes wait to be sent", n)
		}
	})
}

func TestLane_LargeRequestGoesByGRPC(t *testing.T) {
	client, conn := onLane(t, &slow{release: closed()})
	if _, err := client.Index(t.Context(), largeMessages(maxLaneRequest*9/10)); err != nil || conn.unary.Load() != 0 {
		t.Errorf("%d calls by gRPC; want none; %v", conn.unary.Load(), err)
	}
	if _, err := client.Index(t.Context(), largeMessages(maxLaneRequest)); err != nil || conn.unary.Load() != 1 {
		t.Errorf("%d calls by gRPC; want one; %v", conn.unary.Load(), err)
	}
}

func TestClient_WayAndWeightOfACall(t *testing.T) {
	lane, err := newLaneClient(serveLane(t, newRecallServer(&slow{})))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		method string
		size   int   // of the request
		lane   bool  // there is one
		weight int64 // of the call by gRPC; 0: it goes by the lane
	}{
		"as large as the lane takes":  {recallv1.RecallService_Status_FullMethodName, maxLaneRequest, true, 0},
		"larger":                      {recallv1.RecallService_Status_FullMethodName, maxLaneRequest + 1, true, largeUnary},
		"not of the lane":             {recallv1.RecallService_Since_FullMethodName, 100, true, largeUnary},
		"small":                       {recallv1.RecallService_Status_FullMethodName, smallUnary, false, 1},
		"larger than what is small":   {recallv1.RecallService_Status_FullMethodName, smallUnary + 1, false, largeUnary},
		"small, with a larger answer": {recallv1.RecallService_Since_FullMethodName, 100, false, largeUnary},
	} {
		t.Run(name, func(t *testing.T) {
			conn := &weighing{}
			client := NewClient(t.Context(), conn)
			conn.unary = client.calls.unary
			if tc.lane {
				client.calls.lane.Store(lane)
			}
			request := &recallv1.StatusRequest{MessageIds: []string{"m"}, Tenant: strings.Repeat("x", tc.size)}
			request.Tenant = request.Tenant[proto.Size(request)-tc.size:]
			if n := proto.Size(request); n < tc.size {
				request.Tenant += strings.Repeat("x", tc.size-n)
			}
			if n := proto.Size(request); n != tc.size {
				t.Fatalf("the request has %d bytes", n)
			}
			if err := client.calls.Invoke(t.Context(), tc.method, request, &recallv1.StatusResponse{}); err != nil {
				t.Error(err)
			}
			if conn.weight != tc.weight {
				t.Errorf("weight %d, want %d", conn.weight, tc.weight)
			}
		})
	}
}

// weighing answers every call and keeps its weight.
type weighing struct {
	grpc.ClientConnInterface
	unary  *semaphore.Weighted
	weight int64
}

func (c *weighing) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	left := int64(maxUnaryClient)
	for !c.unary.TryAcquire(left) {
		left--
	}
	c.unary.Release(left)
	c.weight = maxUnaryClient - left
	return nil
}

func TestLane_Alone(t *testing.T) {
	host, _ := laneEnds(t)
	l, err := newLaneClient(host)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		waiting, givenUp int
		want             bool
	}{
		"no call":                    {0, 0, true},
		"one waits":                  {1, 0, false},
		"one is given up":            {0, 1, false},
		"one waits, one is given up": {1, 1, false},
	} {
		clear(l.waiting)
		clear(l.givenUp)
		for id := range tc.waiting {
			l.waiting[uint64(id)] = &pendingCall{}
		}
		for id := range tc.givenUp {
			l.givenUp[uint64(id)] = struct{}{}
		}
		if _, alone, err := l.begin(99); err != nil || alone != tc.want {
			t.Errorf("%s: alone %v, %v", name, alone, err)
		}
	}
}

func TestLane_FramesAtTheLimits(t *testing.T) {
	t.Run("frame", func(t *testing.T) {
		for _, size := range []int{laneHead, 100} {
			frame := binary.BigEndian.AppendUint32(nil, uint32(size-4))
			frame = append(frame, make([]byte, size-4)...)
			if _, got, err := decodeFrame(frame, size); err != nil || got != size {
				t.Errorf("a frame of %d bytes: %d, %v", size, got, err)
			}
			if _, _, err := decodeFrame(frame, size-1); err == nil {
				t.Errorf("a frame of %d bytes is within a limit of %d", size, size-1)
			}
		}
	})
	t.Run("time left", func(t *testing.T) {
		frame := frameOf(t, laneFrame{kind: laneCall}, nil)
		for us, want := range map[uint64]time.Duration{
			0: 0, 7: 7 * time.Microsecond, math.MaxUint64: math.MaxInt64 / time.Microsecond * time.Microsecond,
		} {
			binary.BigEndian.PutUint64(frame[16:], us)
			if f, _, err := decodeFrame(frame, maxLaneCall); err != nil || f.timeout != want {
				t.Errorf("%d µs are read as %v, %v", us, f.timeout, err)
			}
		}
	})
	pairs := func(n int) metadata.MD { return metadata.MD{"key": make([]string, n)} }
	sized := func(key, value int) metadata.MD {
		return metadata.MD{strings.Repeat("k", key): {strings.Repeat("v", value)}}
	}
	two := sized(1, maxLaneMetadata-4-1-(4+3+5))
	two["two"] = []string{"value"}
	over := sized(1, maxLaneMetadata-4-1-(4+3+5)+1)
	over["two"] = []string{"value"}
	for name, tc := range map[string]struct {
		md   metadata.MD
		fits bool
	}{
		"no metadata":                {metadata.MD{}, true},
		"an empty pair":              {metadata.MD{"": {""}}, true},
		"as many pairs as may be":    {pairs(maxLanePairs), true},
		"a pair more":                {pairs(maxLanePairs + 1), false},
		"as many bytes as may be":    {sized(1000, maxLaneMetadata-1004), true},
		"a byte more":                {sized(1000, maxLaneMetadata-1003), false},
		"a long value":               {sized(1, maxLaneMetadata-4), false},
		"two pairs of as many bytes": {two, true},
		"two pairs with a byte more": {over, false},
	} {
		t.Run(name, func(t *testing.T) {
			b, fits := encodeMetadata(tc.md)
			if fits != tc.fits {
				t.Fatalf("fits: %v", fits)
			}
			if !fits {
				return
			}
			if md, err := decodeMetadata(b); err != nil || !reflect.DeepEqual(md, tc.md) {
				t.Errorf("comes back as %.200v, %v", md, err)
			}
		})
	}
}

func TestLaneFrame_IsWrite(t *testing.T) {
	for _, tc := range []struct {
		kind, method byte
		want         bool
	}{
		{laneCall, 1, true}, {laneCall, 2, true}, {laneCall, 3, false}, {laneCall, laneStatusMethod, false},
		{laneCall, byte(len(laneMethods)), false}, {laneCancel, 1, false},
	} {
		if f := (laneFrame{kind: tc.kind, method: tc.method}); f.isWrite() != tc.want {
			t.Errorf("kind %d of method %d: %v", tc.kind, tc.method, f.isWrite())
		}
	}
}

func TestLane_BytesOfACall(t *testing.T) {
	if got := callBytes(100, 0); got != 100+laneCallBytes {
		t.Errorf("without metadata: %d", got)
	}
	if got := callBytes(100, 1); got != 100+laneCallBytes+maxLanePairs*lanePairBytes {
		t.Errorf("with metadata: %d", got)
	}
}

// closed is a channel that is.
func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestLane_EndsUnderACall(t *testing.T) {
	s := newRecallServer(&slow{})
	client := NewClient(t.Context(), dialServer(t, func(g *grpc.Server) { s.register(g) }))
	host, plugin := laneEnds(t)
	if err := client.UseLane(host); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 10)
	for range cap(waits) {
		go func() {
			_, err := client.Index(t.Context(), []shared.Message{fullMessage})
			waits <- err
		}()
	}
	in := laneReader{conn: plugin, limit: maxLaneCall}
	for range cap(waits) {
		nextFrame(t, &in)
	}
	plugin.Close()
	for range cap(waits) {
		if err := <-waits; !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("got %v; want unavailable", err)
		}
	}
	if _, err := client.Status(t.Context(), "acme", []string{"m"}); err != nil {
		t.Errorf("a later call, by gRPC: %v", err)
	}
}

func TestLane_EndsWithThePlugin(t *testing.T) {
	alive, gone := context.WithCancel(t.Context())
	host, _ := laneEnds(t)
	client := NewClient(alive, dial(t, &slow{}))
	if err := client.UseLane(host); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := client.Index(t.Context(), []shared.Message{fullMessage})
		waits <- err
	}()
	gone()
	if err := <-waits; !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("got %v; want unavailable", err)
	}
}

// nextFrame reads a frame.
func nextFrame(t testing.TB, in *laneReader) laneFrame {
	t.Helper()
	for {
		f, size, err := in.frame()
		if err == nil && size == 0 {
			err = in.fill()
		}
		if err != nil {
			t.Fatal(err)
		}
		if size > 0 {
			in.skip(size)
			return f
		}
	}
}

// frameOf encodes a frame.
func frameOf(t testing.TB, f laneFrame, m proto.Message) []byte {
	t.Helper()
	frame, err := encodeFrame(f, protoPayload(m))
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// rawMessage is a message that is encoded as these bytes.
func rawMessage(data ...byte) proto.Message {
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(data)
	return m
}

// statusOf is an answer to a call of Status for one message.
func statusOf(id string) *recallv1.StatusResponse {
	return &recallv1.StatusResponse{Statuses: []*recallv1.MessageStatus{{
		MessageId: id, State: recallv1.MessageState_MESSAGE_STATE_LIVE,
	}}}
}

// rawPlugin is a client whose plugin is the test, at the other end of the lane. By gRPC it reaches impl.
func rawPlugin(t testing.TB, impl Plugin) (*Client, *net.UnixConn, *laneReader) {
	t.Helper()
	host, plugin := laneEnds(t)
	client := NewClient(t.Context(), dial(t, impl))
	if err := client.UseLane(host); err != nil {
		t.Fatal(err)
	}
	return client, plugin, &laneReader{conn: plugin, limit: maxLaneCall}
}

func write(t testing.TB, conn net.Conn, data []byte) {
	t.Helper()
	if _, err := conn.Write(data); err != nil {
		t.Fatal(err)
	}
}

func TestLane_LeaderGivesUpWithinAFrame(t *testing.T) {
	client, plugin, in := rawPlugin(t, &slow{})
	ctx, cancel := context.WithCancel(t.Context())
	leader, follower := make(chan error, 1), make(chan error, 1)
	status := func(ctx context.Context, id string) error {
		got, err := client.Status(ctx, "acme", []string{id})
		if err == nil && got[0].MessageID != id {
			err = fmt.Errorf("got %v", got)
		}
		return err
	}
	go func() { leader <- status(ctx, "first") }()
	nextFrame(t, in)
	go func() { follower <- status(t.Context(), "second") }()
	second := nextFrame(t, in)
	answer := frameOf(t, laneFrame{kind: laneAnswer, id: second.id}, statusOf("second"))
	write(t, plugin, answer[:len(answer)-1])
	cancel()
	if err := <-leader; !errors.Is(err, context.Canceled) {
		t.Errorf("the leader got %v", err)
	}
	if f := nextFrame(t, in); f.kind != laneCancel || f.id == second.id {
		t.Errorf("the plugin got %+v; want that the first call is canceled", f)
	}
	write(t, plugin, answer[len(answer)-1:])
	if err := <-follower; err != nil {
		t.Errorf("the follower got %v", err)
	}
}

// TestLane_LeadersThatGiveUp has leaders end while others read, so that the deadline of one meets the read of the next.
func TestLane_LeadersThatGiveUp(t *testing.T) {
	client, _ := onLane(t, &slow{release: closed()})
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for k := range 300 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%2 == 0 {
					ctx, cancel = context.WithTimeout(t.Context(), time.Duration(k%100)*time.Microsecond)
				}
				_, err := client.Status(ctx, "acme", []string{"m"})
				if err != nil && (i%2 != 0 || !errors.Is(err, context.DeadlineExceeded)) {
					t.Errorf("got %v", err)
				}
				cancel()
			}
		})
	}
	all.Wait()
}

func TestLane_AnswersThatNobodyWaitsFor(t *testing.T) {
	ids := strings.Split(strings.Repeat("m,", 999)+"m", ",")
	const answers = maxWorkingBytes / (5 << 20) // as many as there is memory for, about, and more than the socket takes
	p := &late{entered: make(chan struct{}, 10*answers), release: make(chan struct{})}
	client, _ := onLane(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 2 * answers {
		all.Go(func() {
			if _, err := client.Status(ctx, "acme", ids); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	for range answers {
		<-p.entered
	}
	cancel()
	all.Wait()
	close(p.release)
	if _, err := client.Since(t.Context(), fullSince); err != nil { // by gRPC
		t.Error(err)
	}
}

// late is a plugin that answers Status at length, after its release and whatever became of the caller.
type late struct {
	many
	entered, release chan struct{}
}

func (p *late) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	p.entered <- struct{}{}
	<-p.release
	return p.many.Status(ctx, tenant, ids)
}

func TestLane_HostilePlugin(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(id uint64) []byte
		words  string
	}{
		"more answers than calls": {func(id uint64) []byte {
			return append(frameOf(t, laneFrame{kind: laneAnswer, id: id + 1}, statusOf("m")),
				frameOf(t, laneFrame{kind: laneAnswer, id: id}, statusOf("m"))...)
		}, "answers more calls than it was asked"},
		"a frame that is too long": {func(uint64) []byte {
			return binary.BigEndian.AppendUint32(nil, maxLaneAnswer-3)
		}, fmt.Sprintf("length %d; from 20 to %d", maxLaneAnswer-3, maxLaneAnswer-4)},
		"a frame that is too short": {func(uint64) []byte {
			return binary.BigEndian.AppendUint32(nil, 19)
		}, "length 19"},
		"metadata beyond the frame": {func(id uint64) []byte {
			frame := frameOf(t, laneFrame{kind: laneAnswer, id: id}, nil)
			frame[7] = 1
			return frame
		}, "1 bytes of metadata in a frame of 24 bytes"},
		"an unknown kind": {func(id uint64) []byte {
			return frameOf(t, laneFrame{kind: 9, id: id}, nil)
		}, "kind 9"},
		"a call": {func(id uint64) []byte {
			return frameOf(t, laneFrame{kind: laneCall, id: id, method: 4}, nil)
		}, "kind 1"},
		"a response that cannot be read": {func(id uint64) []byte {
			return frameOf(t, laneFrame{kind: laneAnswer, id: id}, rawMessage(0x0a, 9))
		}, "read the answer to Status"},
		"millions of empty messages": {func(id uint64) []byte {
			return frameOf(t, laneFrame{kind: laneAnswer, id: id},
				&recallv1.StatusResponse{Statuses: empty[recallv1.MessageStatus](1 << 20)})
		}, tooLargeDecoded},
		"an error that is none": {func(id uint64) []byte {
			return frameOf(t, laneFrame{kind: laneError, id: id}, nil)
		}, "read an error of the plugin: it is none"},
		"an error that cannot be read": {func(id uint64) []byte {
			return frameOf(t, laneFrame{kind: laneError, id: id}, rawMessage(0x0a, 9))
		}, "read an error of the plugin"},
		"an error of millions of empty messages": {func(id uint64) []byte {
			return frameOf(t, laneFrame{kind: laneError, id: id}, &spb.Status{Code: 2, Details: empty[anypb.Any](1 << 20)})
		}, tooLargeDecoded},
	} {
		t.Run(name, func(t *testing.T) {
			client, plugin, in := rawPlugin(t, &slow{})
			failed := make(chan error, 1)
			go func() {
				_, err := client.Status(t.Context(), "acme", []string{"m"})
				failed <- err
			}()
			call := nextFrame(t, in)
			go func() { _, _ = plugin.Write(tc.answer(call.id)) }() // of which a part may not be read
			if err := <-failed; err == nil || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("got %v, want %q", err, tc.words)
			}
		})
	}
	t.Run("closes its half", func(t *testing.T) {
		client, plugin, in := rawPlugin(t, &slow{})
		failed := make(chan error, 1)
		go func() {
			_, err := client.Status(t.Context(), "acme", []string{"m"})
			failed <- err
		}()
		nextFrame(t, in)
		if err := plugin.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if _, err := client.Status(t.Context(), "acme", []string{"m"}); err != nil {
			t.Errorf("a later call, by gRPC: %v", err)
		}
	})
	t.Run("reads no more", func(t *testing.T) {
		client, plugin, _ := rawPlugin(t, &slow{})
		if err := plugin.CloseRead(); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Status(t.Context(), "acme", []string{"m"}); !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if _, err := client.Status(t.Context(), "acme", []string{"m"}); err != nil {
			t.Errorf("a later call, by gRPC: %v", err)
		}
	})
	t.Run("ends within an answer", func(t *testing.T) {
		client, plugin, in := rawPlugin(t, &slow{})
		failed := make(chan error, 1)
		go func() {
			_, err := client.Status(t.Context(), "acme", []string{"m"})
			failed <- err
		}()
		answer := frameOf(t, laneFrame{kind: laneAnswer, id: nextFrame(t, in).id}, statusOf("m"))
		write(t, plugin, answer[:len(answer)-1])
		plugin.Close()
		if err := <-failed; !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

const laneStatusMethod = 4 // of laneMethods

func TestLane_CallsThatAreRefused(t *testing.T) {
	host := serveLane(t, newRecallServer(&slow{}))
	in := &laneReader{conn: host, limit: maxLaneAnswer}
	request := &recallv1.StatusRequest{Tenant: "acme", MessageIds: []string{"m"}}
	pairs := func(n int) []byte { return make([]byte, 4*n) }
	for name, tc := range map[string]struct {
		frame   laneFrame
		message proto.Message
		code    codes.Code
		words   string
	}{
		"an unknown method": {laneFrame{kind: laneCall, method: byte(len(laneMethods))}, nil, codes.Unimplemented,
			fmt.Sprint("no method ", len(laneMethods))},
		"method 0":        {laneFrame{kind: laneCall}, nil, codes.Unimplemented, "no method 0"},
		"an unknown kind": {laneFrame{kind: 9, method: laneStatusMethod}, request, codes.Unimplemented, "no kind 9"},
		"an answer":       {laneFrame{kind: laneAnswer, method: laneStatusMethod}, request, codes.Unimplemented, "no kind 2"},
		"too much metadata": {laneFrame{kind: laneCall, method: laneStatusMethod, metadata: make([]byte, maxLaneMetadata+4)},
			request, codes.InvalidArgument, fmt.Sprint("at most ", maxLaneMetadata)},
		"too many pairs of metadata": {laneFrame{kind: laneCall, method: laneStatusMethod, metadata: pairs(maxLanePairs + 1)},
			request, codes.InvalidArgument, fmt.Sprint("more than ", maxLanePairs)},
		"half a length of a pair": {laneFrame{kind: laneCall, method: laneStatusMethod, metadata: []byte{0, 1, 0}},
			request, codes.InvalidArgument, "ends within a pair"},
		"half a pair": {laneFrame{kind: laneCall, method: laneStatusMethod, metadata: []byte{0, 1, 0, 1, 'k'}},
			request, codes.InvalidArgument, "ends within a pair"},
		"a request that cannot be read": {laneFrame{kind: laneCall, method: laneStatusMethod}, rawMessage(0x0a, 9),
			codes.Internal,
			"read the request of Status"},
		"many empty elements": {laneFrame{kind: laneCall, method: 1},
			&recallv1.IndexRequest{Messages: empty[recallv1.Message](maxLaneRequest / 2)}, codes.InvalidArgument,
			fmt.Sprint("at most ", maxElements)},
	} {
		t.Run(name, func(t *testing.T) {
			tc.frame.id = 7
			write(t, host, frameOf(t, tc.frame, tc.message))
			f := nextFrame(t, in)
			st := status.Convert(laneStatus(f.payload))
			if f.kind != laneError || f.id != 7 || st.Code() != tc.code || !strings.Contains(st.Message(), tc.words) {
				t.Errorf("got kind %d, id %d, %v", f.kind, f.id, st)
			}
		})
	}
}

func TestLane_HostileHost(t *testing.T) {
	for name, tc := range map[string]struct {
		data  []byte
		words string // of why the lane ended; empty: it is no fault of the host
	}{
		"a frame that is too long": {binary.BigEndian.AppendUint32(nil, maxLaneCall-3),
			fmt.Sprintf("length %d; from 20 to %d", maxLaneCall-3, maxLaneCall-4)},
		"a frame that is too short": {binary.BigEndian.AppendUint32(nil, 19), "length 19"},
		"metadata beyond the frame": {func() []byte {
			frame := frameOf(t, laneFrame{kind: laneCall, method: laneStatusMethod}, nil)
			frame[7] = 1
			return frame
		}(), "1 bytes of metadata in a frame of 24 bytes"},
		"half a frame":        {frameOf(t, laneFrame{kind: laneCall, method: laneStatusMethod}, nil)[:23], ""},
		"cancels without end": {bytes.Repeat(frameOf(t, laneFrame{kind: laneCancel, id: 1}, nil), 10_000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			host, plugin := laneEnds(t)
			served := make(chan error, 1)
			go func() { served <- newRecallServer(&slow{}).serveLane(plugin) }()
			write(t, host, tc.data)
			if tc.words == "" {
				host.Close()
			}
			err := <-served
			if tc.words == "" && err != nil || tc.words != "" && (err == nil || !strings.Contains(err.Error(), tc.words)) {
				t.Errorf("got %v, want %q", err, tc.words)
			}
		})
	}
	t.Run("closes its half", func(t *testing.T) {
		host, plugin := laneEnds(t)
		p := &slow{entered: make(chan struct{}, 1), canceled: make(chan error, 1)}
		served := make(chan error, 1)
		go func() { served <- newRecallServer(p).serveLane(plugin) }()
		write(t, host, frameOf(t, laneFrame{kind: laneCall, method: 1, id: 1},
			&recallv1.IndexRequest{Messages: []*recallv1.Message{encodeMessage(fullMessage)}}))
		<-p.entered
		if err := host.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := <-p.canceled; !errors.Is(err, context.Canceled) {
			t.Errorf("the call ended by %v", err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// many answers Status at length.
type many struct{ echo }

func (*many) Status(_ context.Context, _ string, ids []string) ([]shared.MessageStatus, error) {
	return slices.Repeat(
		[]shared.MessageStatus{{State: shared.MessageRecalled, RecallID: strings.Repeat("r", shared.MaxIDBytes)}},
		len(ids),
	), nil
}

func TestLane_HostThatDoesNotReadAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		frame   laneFrame
		message proto.Message
	}{
		"unknown calls": {laneFrame{kind: laneCall}, nil},
		"calls of many answers": {laneFrame{kind: laneCall, method: laneStatusMethod},
			&recallv1.StatusRequest{Tenant: "t", MessageIds: make([]string, 1000)}},
		"calls with metadata": {laneFrame{kind: laneCall, metadata: make([]byte, 4*maxLanePairs)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newRecallServer(&many{})
			host := serveLane(t, s)
			frames := bytes.Repeat(frameOf(t, tc.frame, tc.message), 100)
			most := maxLaneBytes / (laneCallBytes + len(frames)/100) * len(frames) / 100
			most += 2 * (laneReadBytes + 1<<20) // in the sockets and in the reader
			sent := 0
			for {
				// The write times out once the plugin reads no more. One that goes on for ever fails below.
				if err := host.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
					t.Fatal(err)
				}
				n, err := host.Write(frames[sent%len(frames):])
				if sent += n; err != nil {
					break
				}
				if sent > most {
					t.Fatalf("%d bytes were read; at most %d", sent, most)
				}
			}
			if health, err := NewClient(
				t.Context(),
				dialServer(t, func(g *grpc.Server) { s.register(g) }),
			).Health(t.Context()); err != nil {
				t.Errorf("health beside it: %v, %v", health, err)
			}
			in := &laneReader{conn: host, limit: maxLaneAnswer}
			for range 200 {
				nextFrame(t, in)
			}
			go func() { _, _ = io.Copy(io.Discard, host) }() // ends with the lane
			if err := host.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			write(t, host, frames[sent%len(frames):]) // which is read again, now that answers are
		})
	}
}

func TestOpenLane(t *testing.T) {
	open := func(t *testing.T, value string) (*net.UnixConn, error) {
		t.Setenv(LaneFDEnv, value)
		return OpenLane()
	}
	t.Run("none", func(t *testing.T) {
		if conn, err := open(t, ""); conn != nil || err != nil {
			t.Errorf("got %v, %v", conn, err)
		}
	})
	for _, value := range []string{"lane", "-1", "2"} {
		t.Run("no descriptor "+value, func(t *testing.T) {
			if _, err := open(t, value); err == nil || !strings.Contains(err.Error(), LaneFDEnv) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("no socket", func(t *testing.T) {
		var ends [2]int
		if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(ends[1])
		if _, err := open(t, fmt.Sprint(ends[0])); err == nil || !strings.Contains(err.Error(), LaneFDEnv) { // closes it
			t.Errorf("got %v", err)
		}
	})
	t.Run("a socket of another kind", func(t *testing.T) {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, fmt.Sprint(fd)); err == nil || !strings.Contains(err.Error(), "not a unix socket") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a lane", func(t *testing.T) {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fds[1])
		conn, err := open(t, fmt.Sprint(fds[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := syscall.Write(fds[1], []byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 9)); n != 1 || err != nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
	})
}

func TestLane_LastAnswerIsWrittenAtOnce(t *testing.T) {
	host, plugin := laneEnds(t)
	l, err := newLaneServer(newRecallServer(&slow{}), plugin)
	if err != nil {
		t.Fatal(err)
	}
	l.underWay.Store(1)
	l.calls.Add(1)
	(&servedCall{lane: l, id: 7, cancel: func() {}}).answer(statusOf("m"), nil)
	l.out.mu.Lock()
	if l.out.writing || len(l.out.due) > 0 {
		t.Errorf("%d bytes are left to a goroutine", len(l.out.due))
	}
	l.out.mu.Unlock()
	if f := nextFrame(t, &laneReader{conn: host, limit: maxLaneAnswer}); f.kind != laneAnswer || f.id != 7 {
		t.Errorf("got kind %d, id %d", f.kind, f.id)
	}
	l.end()
}

// wordy answers Status with so many bytes.
type wordy struct {
	echo
	size int
}

func (p *wordy) Status(context.Context, string, []string) ([]shared.MessageStatus, error) {
	s := shared.MessageStatus{State: shared.MessageLive, RecallID: strings.Repeat("x", p.size)}
	encoded := proto.Size(&recallv1.StatusResponse{Statuses: []*recallv1.MessageStatus{encodeMessageStatus(s)}})
	s.RecallID = s.RecallID[encoded-p.size:]
	return []shared.MessageStatus{s}, nil
}

func TestLane_LargestAnswer(t *testing.T) {
	p := &wordy{}
	_, send, next := laneOf(t, p)
	p.size = MaxWireBytes
	send(statusFrame(t, 1))
	if f := next(); f.kind != laneAnswer || len(f.payload) != p.size {
		t.Errorf("got kind %d with %d bytes; want an answer of %d", f.kind, len(f.payload), p.size)
	}
	p.size++
	send(statusFrame(t, 2))
	f := next()
	if err := laneStatus(f.payload); f.kind != laneError || status.Code(err) != codes.ResourceExhausted ||
		!strings.Contains(err.Error(), "larger than max") {
		t.Errorf("a byte more: got kind %d, %.200v", f.kind, err)
	}
}

func TestLane_ErrorThatIsNoText(t *testing.T) {
	client, _ := onLane(t, &echo{err: errors.New("\xff is no text")})
	if _, err := client.Status(t.Context(), "acme", []string{"m"}); err == nil || err.Error() != "\uFFFD is no text" {
		t.Errorf("got %v", err)
	}
}

func TestLane_MethodsAreThoseOfTheService(t *testing.T) {
	for n, m := range laneMethods {
		if n > 0 && callHandlers[m.name] == nil {
			t.Errorf("method %d: RecallService has no unary call %q", n, m.name)
		}
	}
}

func FuzzLane(f *testing.F) {
	md, _ := encodeMetadata(metadata.Pairs("traceparent", "00-abc-def-01", "traceparent", "", "other", "x"))
	f.Add(frameOf(f, laneFrame{kind: laneCall, method: 1, id: 7, timeout: time.Second, metadata: md},
		&recallv1.IndexRequest{Messages: []*recallv1.Message{encodeMessage(fullMessage)}}))
	f.Add(frameOf(f, laneFrame{kind: laneCancel, id: 1}, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, size, err := decodeFrame(data, maxLaneCall)
		if err != nil || size == 0 {
			return
		}
		if size > len(data) || laneHead+len(frame.metadata)+len(frame.payload) != size {
			t.Fatalf("a frame of %d bytes in %d bytes has %d of metadata and %d of payload", size, len(data),
				len(frame.metadata), len(frame.payload))
		}
		again, _, err := decodeFrame(frameOf(t, frame, rawMessage(frame.payload...)), maxLaneCall)
		if err != nil || !reflect.DeepEqual(again, frame) {
			t.Errorf("%+v comes back as %+v, %v", frame, again, err)
		}
		decoded, err := decodeMetadata(frame.metadata)
		if err != nil {
			return
		}
		encoded, fits := encodeMetadata(decoded)
		if other, err := decodeMetadata(encoded); !fits || err != nil || !reflect.DeepEqual(other, decoded) {
			t.Errorf("%v comes back as %v, %v, %v", decoded, other, fits, err)
		}
	})
}

func BenchmarkCalls(b *testing.B) {
	lane, _ := onLane(b, &slow{})
	for way, client := range map[string]*Client{"lane": lane, "gRPC": NewClient(b.Context(), dial(b, &slow{}))} {
		for _, parallel := range []int{1, 32} {
			b.Run(fmt.Sprint(way, "/", parallel), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(parallel) // times cores
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
}
