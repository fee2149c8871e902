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
	out := &answerQueue{stream: stream}
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, c := range frame.GetCalls() {
			if err := s.admission.take(len(c.GetRequest())); err != nil {
				out.send(answerOf(c, nil, err))
				continue
			}
			calls.Go(func() {
				defer s.admission.done(len(c.GetRequest()))
				out.send(s.answer(stream.Context(), c))
			})
		}
	}
}

// answer carries out one call.
func (s *recallServer) answer(ctx context.Context, c *recallv1.Call) *recallv1.Answer {
	response, err := s.carryOut(ctx, c)
	return answerOf(c, response, err)
}

func answerOf(c *recallv1.Call, response proto.Message, err error) *recallv1.Answer {
	a := &recallv1.Answer{Id: c.GetId()}
	if err == nil {
		a.Response, err = proto.Marshal(response)
	}
	if err != nil {
		a.Status, _ = proto.Marshal(status.Convert(err).Proto())
	}
	return a
}

func (s *recallServer) carryOut(ctx context.Context, c *recallv1.Call) (proto.Message, error) {
	handle := callHandlers[c.GetName()]
	if handle == nil {
		return nil, status.Errorf(codes.Unimplemented, "there is no call %.40q", c.GetName())
	}
	response, err := s.handle(ctx, c.GetName(), handle, c.GetRequest(), nil)
	if err != nil {
		return nil, err
	}
	return response.(proto.Message), nil
}

// handle carries out one call, once there is memory for it.
func (s *recallServer) handle(ctx context.Context, name string, handle grpc.MethodHandler, request []byte,
	interceptor grpc.UnaryServerInterceptor) (any, error) {
	leave, err := s.admission.enter(ctx, name, request)
	if err != nil {
		return nil, err
	}
	defer leave()
	return handle(s, ctx, func(into any) error {
		if err := proto.Unmarshal(request, into.(proto.Message)); err != nil {
			return status.Errorf(codes.Internal, "read the request of %s: %v", name, err)
		}
		return nil
	}, interceptor)
}

// answerQueue gathers answers that are given while another is being sent.
type answerQueue struct {
	stream recallv1.RecallService_CallsServer

	mu      sync.Mutex
	unsent  []*recallv1.Answer
	sending bool
}

// send sends an answer, or leaves that to the one who is sending.
func (q *answerQueue) send(a *recallv1.Answer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unsent = append(q.unsent, a)
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
		frame := &recallv1.AnswerFrame{Answers: q.unsent[:n:n]}
		q.unsent = q.unsent[n:]
		q.mu.Unlock()
		err := q.stream.Send(frame)
		q.mu.Lock()
		if err != nil { // the stream has ended, and Recv says so
			q.unsent = nil
			return
		}
	}
	q.sending = false
}
