package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// delivering hands over what is due at once, and then no more.
type delivering struct {
	echo
	due   []shared.Delivery
	later uint64 // the sequence of what is due afterwards; 0: nothing
}

func (p *delivering) Deliver(_ context.Context, handle func([]shared.Delivery)) error {
	handle(p.due)
	if p.later > 0 {
		x := fullDelivery
		x.Sequence = p.later
		handle([]shared.Delivery{x})
	}
	return shared.ErrUnavailable
}

// attached are n attachments with keys of so many bytes.
func attached(n, bytes int) []shared.Attachment {
	return slices.Repeat([]shared.Attachment{{Key: strings.Repeat("x", bytes)}}, n)
}

// deliveriesOf are n deliveries of events with so many attachments of 1 KiB each.
func deliveriesOf(n, attachments int) []shared.Delivery {
	out := make([]shared.Delivery, n)
	for i := range out {
		out[i] = fullDelivery
		out[i].Sequence = uint64(i + 1)
		out[i].Attachments = attached(attachments, 1<<10)
	}
	return out
}

// delivered are the sequences that a client gets, by call of handle.
func delivered(t *testing.T, c *Client) (calls [][]uint64) {
	t.Helper()
	err := c.Deliver(t.Context(), func(due []shared.Delivery) {
		calls = append(calls, mapSlice(due, func(d shared.Delivery) uint64 { return d.Sequence }))
	})
	if !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("it ended with %v", err)
	}
	return calls
}

func TestDeliver_WhatIsDueTogetherSharesAMessage(t *testing.T) {
	impl := &delivering{}
	conn := dial(t, impl)
	c := NewClient(t.Context(), conn)
	t.Run("with every field", func(t *testing.T) {
		other := fullDelivery
		other.Sequence++
		impl.due = []shared.Delivery{fullDelivery, other}
		var got []shared.Delivery
		if err := c.Deliver(t.Context(), func(due []shared.Delivery) { got = append(got, due...) }); !errors.Is(err,
			shared.ErrUnavailable) {
			t.Error(err)
		}
		if !reflect.DeepEqual(got, impl.due) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("as far as it has room", func(t *testing.T) {
		impl.due = deliveriesOf(100, 16)
		stream, err := recallv1.NewRecallServiceClient(conn).Deliver(t.Context(), &recallv1.DeliverRequest{})
		var sequences []uint64
		messages := 0
		for err == nil {
			var m *recallv1.DeliverResponse
			if m, err = stream.Recv(); err == nil {
				messages++
				for _, e := range m.GetDeliveries() {
					sequences = append(sequences, e.GetEvent().GetSequence())
				}
				if size := proto.Size(m); size > MaxDeliverBytes {
					t.Errorf("a message of %d bytes", size)
				}
			}
		}
		if want := 100/15 + 1; messages != want {
			t.Errorf("%d messages, want %d", messages, want)
		}
		if len(sequences) != 100 || !slices.IsSorted(sequences) {
			t.Errorf("events %v", sequences)
		}
	})
	t.Run("up to the limit", func(t *testing.T) {
		due := deliveriesOf(2, 0)
		due[0].Attachments = attached(63, shared.MaxAttachmentBytes)
		due[1].Attachments, due[1].Ext = due[0].Attachments, ""
		free := MaxDeliverBytes - deliveryBytes(encodeDelivery(due[0])) - deliveryBytes(encodeDelivery(due[1]))
		due[1].Ext = strings.Repeat("x", free-3) // of 3 bytes are its tag and its length
		impl.due = due
		if got := delivered(t, c); !reflect.DeepEqual(got, [][]uint64{{1, 2}}) {
			t.Errorf("got %v", got)
		}
		due[1].Ext += "x"
		if got := delivered(t, c); !reflect.DeepEqual(got, [][]uint64{{1}, {2}}) {
			t.Errorf("with a byte more: got %v", got)
		}
	})
	t.Run("a large one goes alone", func(t *testing.T) {
		impl.due = deliveriesOf(3, 1)
		impl.due[1].Attachments = attached(shared.MaxAttachments, shared.MaxAttachmentBytes)
		impl.due[1].Message.Attachments = impl.due[1].Attachments
		if got := delivered(t, c); !reflect.DeepEqual(got, [][]uint64{{1}, {2}, {3}}) {
			t.Errorf("got %v", got)
		}
		impl.due = impl.due[1:2]
		stream, err := recallv1.NewRecallServiceClient(conn).Deliver(t.Context(), &recallv1.DeliverRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); err != nil || len(m.GetDeliveries()) != 1 {
			t.Errorf("the first message has %d deliveries, %v", len(m.GetDeliveries()), err)
		}
		for err == nil {
			_, err = stream.Recv()
		}
	})
	t.Run("what is due later goes later", func(t *testing.T) {
		impl.due, impl.later = deliveriesOf(3, 0), fullDelivery.Sequence
		defer func() { impl.later = 0 }()
		if got := delivered(t, c); !reflect.DeepEqual(got, [][]uint64{{1, 2, 3}, {impl.later}}) {
			t.Errorf("got %v", got)
		}
	})
}

// newer delivers together an event with an enum value of a later version and one that is known.
type newer struct {
	recallv1.UnimplementedRecallServiceServer
	busy    atomic.Bool // it has not refused to settle yet
	settled chan *recallv1.Settlement
}

func (p *newer) Deliver(_ *recallv1.DeliverRequest, stream recallv1.RecallService_DeliverServer) error {
	odd := encodeDelivery(fullDelivery)
	odd.Event.Sequence, odd.Event.Message.Type = 99, 99
	err := stream.Send(&recallv1.DeliverResponse{Deliveries: []*recallv1.Delivery{odd, encodeDelivery(fullDelivery)}})
	if err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p *newer) Settle(_ context.Context, req *recallv1.SettleRequest) (*recallv1.SettleResponse, error) {
	if p.busy.CompareAndSwap(true, false) {
		return nil, status.Error(codes.ResourceExhausted, "too much is waiting")
	}
	p.settled <- req.GetSettlements()[0]
	return &recallv1.SettleResponse{Statuses: make([][]byte, 1)}, nil
}

func TestDeliver_WhatCannotBeReadHoldsUpNoOther(t *testing.T) {
	impl := &newer{settled: make(chan *recallv1.Settlement, 1)}
	impl.busy.Store(true)
	conn := dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) })
	handled := make(chan []shared.Delivery, 2)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- NewClient(t.Context(), conn).Deliver(ctx, func(due []shared.Delivery) { handled <- due })
	}()
	if due := <-handled; len(due) != 1 || due[0].Sequence != fullEvent.Sequence {
		t.Errorf("handled %+v", due)
	}
	if s := <-impl.settled; s.Outcome != recallv1.Outcome_OUTCOME_FAILED || s.Sequence != 99 ||
		!strings.Contains(s.Error, "message.type") {
		t.Errorf("settled as %v", s)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// refusing refuses every settlement.
type refusing struct{ echo }

func (*refusing) Settle(context.Context, []Settlement) ([]error, error) {
	return []error{shared.Invalidf("event", "does not exist")}, nil
}

func TestDeliver_WhatCannotBeReadNorSettled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	NewClient(t.Context(), dial(t, &refusing{})).cannotRead(ctx, &fullDelivery, errors.New("of another version"))
	if ctx.Err() != nil {
		t.Error("it asked again and again")
	}
}

// raw delivers this message, byte for byte.
type raw struct {
	recallv1.UnimplementedRecallServiceServer
	message []byte
}

func (p *raw) Deliver(_ *recallv1.DeliverRequest, stream recallv1.RecallService_DeliverServer) error {
	m := &recallv1.DeliverResponse{}
	m.ProtoReflect().SetUnknown(p.message)
	return errors.Join(stream.Send(m), io.EOF)
}

func TestDeliver_MessagesThatCannotBe(t *testing.T) {
	delivery := func(change func(*recallv1.Delivery)) []byte {
		w := encodeDelivery(fullDelivery)
		change(w)
		return mustMarshal(t, &recallv1.DeliverResponse{Deliveries: []*recallv1.Delivery{w}})
	}
	large := delivery(func(w *recallv1.Delivery) { w.Event.Ext = strings.Repeat("x", MaxDeliverBytes) })
	good := delivery(func(*recallv1.Delivery) {})
	// of empty attachments of one event
	bomb := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType),
		bytes.Repeat([]byte{10<<3 | 2, 0}, 4<<20))
	bomb = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), bomb)
	for name, tc := range map[string]struct {
		message []byte
		words   string
	}{
		"several in a large message": {slices.Concat(large, good), "deliveries: several in a message of"},
		"no delivery":                {[]byte{1<<3 | 2, 1, 0xff}, "read a delivery"},
		"a step without a name":      {delivery(func(w *recallv1.Delivery) { w.Step = "" }), "delivery.step"},
		"many empty attachments":     {bomb, "too large when decoded"},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) {
				recallv1.RegisterRecallServiceServer(s, &raw{message: tc.message})
			}))
			err := c.Deliver(t.Context(), func([]shared.Delivery) { t.Error("handled") })
			if err == nil || !strings.HasPrefix(err.Error(), "answer of the plugin: ") ||
				!strings.Contains(err.Error(), tc.words) {
				t.Errorf("got %v, want %q", err, tc.words)
			}
		})
	}
	t.Run("fields of a later version are passed over", func(t *testing.T) {
		message := slices.Concat([]byte{9 << 3, 1}, good)
		c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) {
			recallv1.RegisterRecallServiceServer(s, &raw{message: message})
		}))
		var got []shared.Delivery
		_ = c.Deliver(t.Context(), func(due []shared.Delivery) { got = append(got, due...) })
		if len(got) != 1 || got[0].Sequence != fullEvent.Sequence {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a message without a delivery is not handled", func(t *testing.T) {
		c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) {
			recallv1.RegisterRecallServiceServer(s, &raw{message: []byte{9 << 3, 1}})
		}))
		_ = c.Deliver(t.Context(), func(due []shared.Delivery) { t.Errorf("handled %v", due) })
	})
}
