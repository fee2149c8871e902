package wire

import (
	"context"
	"strings"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// The memory of the calls in a plugin is bounded in bytes, whatever a host sends, even a broken one. A request is not
// read until there is memory to read it, and not decoded until there is memory to answer it.
const (
	// maxReading bounds the requests of RecallService that are being read at once: each may have MaxWireBytes, twice while
	// it is put together from what came over the wire.
	maxReading = 2

	// maxWorkingBytes bounds what calls take until their answers are sent, decoded requests and answers together.
	maxWorkingBytes = 64 << 20

	// decodedFactor is how many bytes a decoded request takes for each encoded byte. The worst case is an empty text in a
	// list: two bytes become sixteen.
	decodedFactor = 8

	// maxElements bounds the fields of a request, before they are decoded. It is above the limits of every list.
	maxElements = 2 * shared.MaxIndexBatch

	// maxSmallBytes bounds a request of LifecycleService and of other services.
	maxSmallBytes = 64 << 10

	// maxStreams bounds the streams of a connection, unary calls included, until their answers have left the plugin. A
	// host that needs more waits.
	maxStreams = 32

	// maxOtherStreams bounds the streams of services other than RecallService and LifecycleService. These are go-plugin's,
	// which needs two permanent streams and one more at a time.
	maxOtherStreams = 4

	// maxHeaderBytes bounds the metadata of a call.
	maxHeaderBytes = 64 << 10

	// maxUnaryClient bounds the calls that a client makes by gRPC at once, below maxStreams. One that is large, or whose
	// answer may be, counts as largeUnary, so that there are at most 8 of them.
	maxUnaryClient = 24
	largeUnary     = 3
	smallUnary     = 64 << 10 // bytes of a request that is not large
)

// maxRecordBytes is what a message takes at most when it is read from the index.
const maxRecordBytes = shared.MaxAttachments*(shared.MaxAttachmentBytes+shared.MaxIDBytes) +
	shared.MaxLabels*shared.MaxLabelBytes + 8*shared.MaxIDBytes + shared.MaxRefBytes

// working is the memory in bytes that a call takes in addition to its request, per call and per element: the records
// that it reads, and its answer, decoded and encoded.
var working = map[string]struct{ call, element int64 }{
	"Index":   {0, 1 << 10},
	"Amend":   {0, maxRecordBytes},
	"Recall":  {0, maxRecordBytes}, // which it keeps until it is committed
	"Check":   {0, maxRecordBytes},
	"Explain": {maxExplainBytes, maxRecordBytes},
	"Status":  {maxRecordBytes, 4 << 10},
	"Since":   {3 * maxPageBytes, 0},
	"List":    {3 * maxPageBytes, 0},
	"Ledger":  {3 * maxPageBytes, 0},
	"Waits":   {3 * maxPageBytes, 0},
	"Related": {3 * maxPageBytes, 0},
	"Forget":  {4 << 10, 0},

	"StartJob":   {maxJobBytes, 0},
	"PreviewJob": {3 * maxPageBytes, 0}, // the records of a slice
	"JobStatus":  {maxJobBytes, 0},
	"Jobs":       {shared.MaxJobsLimit * maxJobBytes, 0},
	"CancelJob":  {maxJobBytes, 0},

	"Settle": {0, 4 << 10}, // a goroutine each where one is refused, and its answer
}

// maxJobBytes is what a job takes at most, decoded and encoded.
const maxJobBytes = 64 << 10

// maxPageBytes is about the size of a page of Since, of List or of a ledger; the last event of it may go beyond.
const maxPageBytes = 1 << 20

// admission admits calls while there is memory for them.
type admission struct {
	maxRequest int // bytes
	reading    *semaphore.Weighted
	working    *semaphore.Weighted

	interceptors []Interceptor
}

func newAdmission(maxRequest int, reading int64) *admission {
	return &admission{
		maxRequest: maxRequest, reading: semaphore.NewWeighted(reading), working: semaphore.NewWeighted(maxWorkingBytes),
	}
}

// weigh returns how many of maxWorkingBytes a call takes.
func (a *admission) weigh(method string, request []byte) (int64, error) {
	n := elements(request)
	if n > maxElements {
		return 0, toStatus(shared.Invalidf("request", "has %d elements; at most %d", n, maxElements))
	}
	extra := working[method]
	return min(int64(len(request))*decodedFactor+extra.call+int64(n)*extra.element, maxWorkingBytes), nil
}

// enter waits until there is memory for a call, and keeps it until leave.
func (a *admission) enter(ctx context.Context, method string, request []byte) (leave func(), err error) {
	weight, err := a.weigh(method, request)
	if err != nil {
		return nil, err
	}
	if weight == 0 { // such as Health, which must not wait
		return func() {}, nil
	}
	if err := a.working.Acquire(ctx, weight); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return func() { a.working.Release(weight) }, nil
}

// decodeRequest decodes the request of a call that was let in, into an indexRequest or a proto.Message.
func decodeRequest(method string, request []byte, into any) error {
	var err error
	switch into := into.(type) {
	case *indexRequest:
		err = into.decode(request)
	case proto.Message:
		err = proto.Unmarshal(request, into)
	}
	if err != nil {
		return status.Errorf(codes.Internal, "read the request of %s: %v", method, err)
	}
	return nil
}

// elements counts the fields of an encoded message, up to one more than maxElements.
func elements(message []byte) (n int) {
	for n <= maxElements {
		_, _, size := protowire.ConsumeField(message)
		if size < 0 {
			return n // the end, or the decoder says what is wrong
		}
		message = message[size:]
		n++
	}
	return n
}

// admitted turns the unary methods of a service into streams. gRPC reads the request of a unary call before any handler
// runs, but that of a stream only when the handler asks for it. On the wire the two are the same.
func (a *admission) admitted(desc grpc.ServiceDesc) *grpc.ServiceDesc {
	streams := mapSlice(desc.Streams, a.stream)
	for _, m := range desc.Methods {
		handle := func(srv any, in grpc.ServerStream) error {
			ctx, done := intercept(a.interceptors, in.Context(), m.MethodName)
			answer, err := m.Handler(srv, ctx, in.RecvMsg, nil)
			done(err)
			if err != nil {
				return err
			}
			return in.SendMsg(answer)
		}
		// ServerStreams, for gRPC runs interceptors of streams for nothing less.
		streams = append(streams, a.stream(grpc.StreamDesc{StreamName: m.MethodName, ServerStreams: true, Handler: handle}))
	}
	desc.Methods, desc.Streams = nil, streams
	return &desc
}

func (a *admission) stream(d grpc.StreamDesc) grpc.StreamDesc {
	handle := d.Handler
	d.Handler = func(srv any, stream grpc.ServerStream) error {
		in := &admittedStream{ServerStream: stream, admission: a, method: d.StreamName, leave: func() {}}
		defer func() { in.leave() }()
		return handle(srv, in)
	}
	return d
}

// admittedStream is a stream of one request.
type admittedStream struct {
	grpc.ServerStream
	admission *admission
	method    string
	leave     func() // gives back the memory of the request and of its answer
}

// RecvMsg is grpc.ServerStream's. It returns once there is memory for the call.
func (s *admittedStream) RecvMsg(into any) error {
	if err := s.admission.reading.Acquire(s.Context(), 1); err != nil {
		return status.FromContextError(err).Err()
	}
	defer s.admission.reading.Release(1)
	request := undecoded{max: s.admission.maxRequest}
	if err := s.ServerStream.RecvMsg(&request); err != nil {
		return err
	}
	data, err := request.bytes()
	if err != nil {
		return err
	}
	leave, err := s.admission.enter(s.Context(), s.method, data)
	if err != nil {
		return err
	}
	s.leave = leave
	return decodeRequest(s.method, data, into)
}

// ServerOptions returns the options of a server on which Register serves a plugin.
func ServerOptions() []grpc.ServerOption {
	others := semaphore.NewWeighted(maxOtherStreams)
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxWireBytes), grpc.MaxSendMsgSize(MaxWireBytes),
		grpc.InitialWindowSize(WireWindowBytes), grpc.InitialConnWindowSize(WireWindowBytes),
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ForceServerCodecV2(serverCodec{}),
		// Before anything of the call is read.
		grpc.InTapHandle(func(ctx context.Context, info *tap.Info) (context.Context, error) {
			if isOf(recallv1.RecallService_ServiceDesc, info.FullMethodName) ||
				isOf(recallv1.LifecycleService_ServiceDesc, info.FullMethodName) {
				return ctx, nil
			}
			if !others.TryAcquire(1) {
				return ctx, status.Errorf(codes.ResourceExhausted, "%d calls of other services are under way; at most %d",
					maxOtherStreams,
					maxOtherStreams)
			}
			context.AfterFunc(ctx, func() { others.Release(1) })
			return ctx, nil
		}),
	}
}

func isOf(service grpc.ServiceDesc, method string) bool {
	return strings.HasPrefix(method, "/"+service.ServiceName+"/")
}
