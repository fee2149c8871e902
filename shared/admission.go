package shared

import (
	"context"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/chat-recall/recall/shared/recallv1"
)

// The memory that calls take in a plugin is bounded by bytes, before their requests are decoded: whatever the number of
// callers and the size of their calls, it stays below maxStreamBytes + maxWorkingBytes + maxUnary × MaxWireBytes.
const (
	// maxWorkingBytes bounds what the calls take that are being answered, decoded requests and answers together.
	maxWorkingBytes = 64 << 20

	// decodedFactor is what a request takes when it is decoded, for each of its bytes: the most is an empty text in a list, of
	// two bytes, which takes sixteen.
	decodedFactor = 8

	// maxStreamCalls and maxStreamBytes bound the calls of streams that are under way, by their requests.
	maxStreamCalls = maxUnsent
	maxStreamBytes = 64 << 20

	// maxElements bounds the fields of a request, before they are decoded. It is above the limits of every list.
	maxElements = 2 * MaxIndexBatch

	// maxUnary bounds the calls that come by themselves and are being read, answered or waiting: each may be as large as
	// MaxWireBytes. A client keeps to half of it, so that the plugin need not refuse any.
	maxUnary       = 16
	maxUnaryClient = maxUnary / 2
)

// answerBytes is what the answers of a call take at most, where that is much: a page, decoded and encoded.
var answerBytes = map[string]int64{"Since": 4 << 20}

// admission lets calls in as far as there is memory for them.
type admission struct {
	working *semaphore.Weighted

	mu    sync.Mutex
	calls int // of streams
	bytes int // of their requests
}

func newAdmission() *admission { return &admission{working: semaphore.NewWeighted(maxWorkingBytes)} }

// take counts a call of a stream, with a request of so many bytes; done must follow.
func (a *admission) take(bytes int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls >= maxStreamCalls || a.calls > 0 && a.bytes+bytes > maxStreamBytes {
		return status.Errorf(codes.ResourceExhausted, "%d calls of %d bytes are under way in the plugin; at most %d of %d bytes",
			a.calls, a.bytes, maxStreamCalls, maxStreamBytes)
	}
	a.calls++
	a.bytes += bytes
	return nil
}

func (a *admission) done(bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls--
	a.bytes -= bytes
}

// enter waits until there is memory for a call, and keeps it until leave.
func (a *admission) enter(ctx context.Context, method string, request []byte) (leave func(), err error) {
	if n := elements(request); n > maxElements {
		return nil, toStatus(Invalidf("request", "has %d elements; at most %d", n, maxElements))
	}
	weight := min(int64(len(request))*decodedFactor+answerBytes[method], maxWorkingBytes)
	if err := a.working.Acquire(ctx, weight); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return func() { a.working.Release(weight) }, nil
}

// elements counts the fields of an encoded message, up to one more than maxElements.
func elements(message []byte) (n int) {
	for len(message) > 0 && n <= maxElements {
		_, _, size := protowire.ConsumeField(message)
		if size < 0 {
			return n // the decoder says what is wrong
		}
		message = message[size:]
		n++
	}
	return n
}

// admitted is a handler of a unary call that waits for memory before it decodes the request.
func admitted(m grpc.MethodDesc) grpc.MethodDesc {
	handle := m.Handler
	m.Handler = func(srv any, ctx context.Context, dec func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
		var raw emptypb.Empty // keeps every field undecoded
		if err := dec(&raw); err != nil {
			return nil, err
		}
		return srv.(*recallServer).handle(ctx, m.MethodName, handle, raw.ProtoReflect().GetUnknown(), i)
	}
	return m
}

// ServerOptions are those of a server on which Register serves a plugin.
func ServerOptions() []grpc.ServerOption {
	unary := semaphore.NewWeighted(maxUnary)
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxWireBytes), grpc.MaxSendMsgSize(MaxWireBytes),
		grpc.InitialWindowSize(WireWindowBytes), grpc.InitialConnWindowSize(WireWindowBytes),
		// Before anything of the call is read.
		grpc.InTapHandle(func(ctx context.Context, info *tap.Info) (context.Context, error) {
			if !isUnary(info.FullMethodName) {
				return ctx, nil
			}
			if !unary.TryAcquire(1) {
				return ctx, status.Errorf(codes.ResourceExhausted, "%d calls are under way by themselves; at most %d", maxUnary, maxUnary)
			}
			context.AfterFunc(ctx, func() { unary.Release(1) })
			return ctx, nil
		}),
	}
}

// isUnary tells whether a method is of RecallService and no stream that stays.
func isUnary(method string) bool {
	switch method {
	case recallv1.RecallService_Calls_FullMethodName, recallv1.RecallService_Events_FullMethodName:
		return false
	}
	return strings.HasPrefix(method, "/"+recallv1.RecallService_ServiceDesc.ServiceName+"/")
}
