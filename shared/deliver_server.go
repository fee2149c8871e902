package shared

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared/recallv1"
)

// Deliver sends together what the plugin hands over together.
func (s *recallServer) Deliver(_ *recallv1.DeliverRequest, stream recallv1.RecallService_DeliverServer) error {
	return s.deliver(stream, func(events []Event) error {
		message, size := &recallv1.DeliverResponse{}, 0
		for _, e := range events {
			w := encodeEvent(e)
			bytes := deliveryBytes(w)
			if size+bytes > MaxDeliverBytes && size > 0 {
				if err := stream.Send(message); err != nil {
					return err
				}
				message, size = &recallv1.DeliverResponse{}, 0
			}
			message.Deliveries, size = append(message.Deliveries, w), size+bytes
		}
		return stream.Send(message)
	})
}

// deliveriesField is the number of DeliverResponse.deliveries.
const deliveriesField = 1

// deliveryBytes is what a delivery takes of a message.
func deliveryBytes(e *recallv1.Event) int {
	return protowire.SizeTag(deliveriesField) + protowire.SizeBytes(proto.Size(e))
}

// Events is for hosts from before there was Deliver.
func (s *recallServer) Events(_ *recallv1.EventsRequest, stream recallv1.RecallService_EventsServer) error {
	return s.deliver(stream, func(events []Event) error {
		for _, e := range events {
			if err := stream.Send(encodeEvent(e)); err != nil {
				return err
			}
		}
		return nil
	})
}

// deliver calls send, once at a time, until the stream ends or the plugin delivers no more.
func (s *recallServer) deliver(stream grpc.ServerStream, send func([]Event) error) error {
	// The headers tell the host that the stream is open, also while there is no event.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	handle := func(events []Event) {
		if ctx.Err() != nil {
			return
		}
		if err := send(events); err != nil {
			cancel(err)
		}
	}
	if d, ok := s.impl.(Deliverer); ok {
		return toStatus(d.Deliver(ctx, handle))
	}
	var mu sync.Mutex // the handlers of Events run side by side, send may not
	return toStatus(s.impl.Events(ctx, func(e Event, _ Settler) {
		mu.Lock()
		defer mu.Unlock()
		handle([]Event{e})
	}))
}
