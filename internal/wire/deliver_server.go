package wire

import (
	"context"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// Deliver sends together what the plugin hands over together.
func (s *recallServer) Deliver(_ *recallv1.DeliverRequest, stream recallv1.RecallService_DeliverServer) error {
	// The headers tell the host that the stream is open, also while nothing is due.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	return toStatus(s.impl.Deliver(ctx, func(due []shared.Delivery) {
		if ctx.Err() != nil {
			return
		}
		if err := send(stream, due); err != nil {
			cancel(err)
		}
	}))
}

func send(stream recallv1.RecallService_DeliverServer, due []shared.Delivery) error {
	message, size := &recallv1.DeliverResponse{}, 0
	for _, x := range due {
		w := encodeDelivery(x)
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
}

// deliveriesField is the number of DeliverResponse.deliveries.
const deliveriesField = 1

// deliveryBytes is what a delivery takes of a message.
func deliveryBytes(x *recallv1.Delivery) int {
	return protowire.SizeTag(deliveriesField) + protowire.SizeBytes(proto.Size(x))
}
