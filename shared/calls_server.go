package shared

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared/recallv1"
)

// callHandlers are the handlers of the calls that may come by a stream, as gRPC has them.
var callHandlers = func() map[string]grpc.MethodHandler {
	all := map[string]grpc.MethodHandler{}
	for _, m := range recallv1.RecallService_ServiceDesc.Methods {
		all[m.MethodName] = m.Handler
	}
	return all
}()

// Calls answers the calls of a stream side by side, each as if it had come alone.
func (s *recallServer) Calls(stream recallv1.RecallService_CallsServer) error {
	if err := s.admission.streams.Acquire(stream.Context(), 1); err != nil {
		return status.FromContextError(err).Err()
	}
	defer s.admission.streams.Release(1)
	out := newAnswerQueue(stream)
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		frame := undecoded{max: maxCallFrameBytes}
		err := stream.RecvMsg(&frame)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := frame.bytes()
		if err != nil {
			return err
		}
		// Call by call, since a frame of empty ones takes fifty times as much when it is decoded.
		err = eachCall(data, func(c *recallv1.Call) {
			bytes := len(c.GetRequest())
			if err := s.admission.take(bytes); err != nil {
				out.send(answerOf(c, nil, err), func() {})
				out.awaitRoom()
				return
			}
			calls.Go(func() {
				answer, leave := s.answer(stream.Context(), c)
				out.send(answer, func() {
					leave()
					s.admission.done(bytes)
				})
			})
		})
		if err != nil {
			return err
		}
	}
}

// eachCall decodes the calls of a frame, one after the other.
func eachCall(frame []byte, do func(*recallv1.Call)) error {
	const calls = 1 // the field of CallFrame
	for len(frame) > 0 {
		number, kind, n := protowire.ConsumeTag(frame)
		if n < 0 {
			return status.Errorf(codes.Internal, "read a frame of calls: %v", protowire.ParseError(n))
		}
		field := frame[n:]
		if n = protowire.ConsumeFieldValue(number, kind, field); n < 0 {
			return status.Errorf(codes.Internal, "read a frame of calls: %v", protowire.ParseError(n))
		}
		frame = field[n:]
		if number != calls || kind != protowire.BytesType {
			continue // of a later version
		}
		value, _ := protowire.ConsumeBytes(field)
		c := &recallv1.Call{}
		if err := proto.Unmarshal(value, c); err != nil {
			return status.Errorf(codes.Internal, "read a call: %v", err)
		}
		do(c)
	}
	return nil
}

// answer carries out one call. leave gives back the memory of its answer.
func (s *recallServer) answer(ctx context.Context, c *recallv1.Call) (a *recallv1.Answer, leave func()) {
	leave = func() {}
	handle := callHandlers[c.GetName()]
	if handle == nil {
		return answerOf(c, nil, status.Errorf(codes.Unimplemented, "there is no call %.40q", c.GetName())), leave
	}
	response, err := handle(s, ctx, func(into any) (err error) {
		if leave, err = s.admission.enter(ctx, c.GetName(), c.GetRequest()); err != nil {
			leave = func() {}
			return err
		}
		if err := proto.Unmarshal(c.GetRequest(), into.(proto.Message)); err != nil {
			return status.Errorf(codes.Internal, "read the request of %s: %v", c.GetName(), err)
		}
		return nil
	}, nil)
	return answerOf(c, response, err), leave
}

func answerOf(c *recallv1.Call, response any, err error) *recallv1.Answer {
	a := &recallv1.Answer{Id: c.GetId()}
	if err == nil {
		a.Response, err = proto.Marshal(response.(proto.Message))
	}
	if err != nil {
		a.Status, _ = proto.Marshal(status.Convert(err).Proto())
	}
	return a
}

// answerQueue gathers answers that are given while another is being sent. What waits in it is bounded by what the calls
// of the stream may take: see admission.
type answerQueue struct {
	stream recallv1.RecallService_CallsServer

	mu      sync.Mutex
	room    sync.Cond // of mu: fewer wait, or none any more
	unsent  []unsentAnswer
	sending bool
	ended   bool // the stream has: nothing more is sent
}

type unsentAnswer struct {
	*recallv1.Answer
	sent func() // called when it was, or cannot be
}

func newAnswerQueue(stream recallv1.RecallService_CallsServer) *answerQueue {
	q := &answerQueue{stream: stream}
	q.room.L = &q.mu
	return q
}

// maxRefusals is how many answers may wait while calls are refused.
const maxRefusals = 1024

// awaitRoom waits until few answers wait: it keeps a host that sends and does not read from sending.
func (q *answerQueue) awaitRoom() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.unsent) > maxRefusals && !q.ended {
		q.room.Wait()
	}
}

// send sends an answer, or leaves that to the one who is sending.
func (q *answerQueue) send(a *recallv1.Answer, sent func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		sent()
		return
	}
	q.unsent = append(q.unsent, unsentAnswer{a, sent})
	if q.sending {
		return
	}
	q.sending = true
	for len(q.unsent) > 0 {
		q.mu.Unlock()
		runtime.Gosched() // calls that were committed together answer together (a tenth less CPU a message with 64 callers)
		q.mu.Lock()
		size, n := 0, 0
		for n < len(q.unsent) && size <= maxFrameBytes {
			size += len(q.unsent[n].GetResponse())
			n++
		}
		taken := q.unsent[:n:n]
		q.unsent = q.unsent[n:]
		q.mu.Unlock()
		err := q.stream.Send(&recallv1.AnswerFrame{Answers: mapSlice(taken,
			func(a unsentAnswer) *recallv1.Answer { return a.Answer })})
		q.mu.Lock()
		if err != nil { // the stream has ended, and Recv says so
			taken, q.unsent, q.ended = append(taken, q.unsent...), nil, true
		}
		for _, a := range taken {
			a.sent()
		}
		q.room.Broadcast()
	}
	q.sending = false
}
