package shared

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

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared/recallv1"
)

// delivering hands over these events at once, and then no more.
type delivering struct {
	echo
	events []Event
}

func (p *delivering) Deliver(_ context.Context, handle func([]Event)) error {
	handle(p.events)
	return ErrUnavailable
}

// eventsOf are n events with so many attachments of 1 KiB each.
func eventsOf(n, attachments int) []Event {
	out := make([]Event, n)
	for i := range out {
		out[i] = fullEvent
		out[i].Sequence = uint64(i + 1)
		out[i].Attachments = slices.Repeat([]string{strings.Repeat("x", 1<<10)}, attachments)
	}
	return out
}

// delivered are the sequences that a client gets, by call of handle.
func delivered(t *testing.T, c *Client) (calls [][]uint64) {
	t.Helper()
	err := c.Deliver(t.Context(), func(events []Event) {
		calls = append(calls, mapSlice(events, func(e Event) uint64 { return e.Sequence }))
	})
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("it ended with %v", err)
	}
	return calls
}

func TestDeliver_WhatIsDueTogetherSharesAMessage(t *testing.T) {
	impl := &delivering{}
	conn := dial(t, impl)
	c := NewClient(t.Context(), conn)
	t.Run("with every field", func(t *testing.T) {
		other := fullEvent
		other.Sequence++
		impl.events = []Event{fullEvent, other}
		var got []Event
		if err := c.Deliver(t.Context(), func(events []Event) { got = append(got, events...) }); !errors.Is(err,
			ErrUnavailable) {
			t.Error(err)
		}
		if !reflect.DeepEqual(got, impl.events) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("as far as it has room", func(t *testing.T) {
		impl.events = eventsOf(100, 16)
		stream, err := recallv1.NewRecallServiceClient(conn).Deliver(t.Context(), &recallv1.DeliverRequest{})
		var sequences []uint64
		messages := 0
		for err == nil {
			var m *recallv1.DeliverResponse
			if m, err = stream.Recv(); err == nil {
				messages++
				for _, e := range m.GetDeliveries() {
					sequences = append(sequences, e.GetSequence())
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
	t.Run("a large one goes alone", func(t *testing.T) {
		impl.events = eventsOf(3, 1)
		impl.events[1].Attachments = slices.Repeat([]string{strings.Repeat("x", MaxAttachmentBytes)}, MaxAttachments)
		impl.events[1].Message.Attachments = impl.events[1].Attachments
		if got := delivered(t, c); !reflect.DeepEqual(got, [][]uint64{{1}, {2}, {3}}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestDeliver_OtherVersions(t *testing.T) {
	t.Run("an older host gets them one by one", func(t *testing.T) {
		impl := &delivering{events: eventsOf(3, 1)}
		stream, err := recallv1.NewRecallServiceClient(dial(t, impl)).Events(t.Context(), &recallv1.EventsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range impl.events {
			w, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			d := decoder{}
			if e := d.event(w); d.err != nil || !reflect.DeepEqual(e, impl.events[i]) {
				t.Errorf("got %+v, %v", e, d.err)
			}
		}
		if _, err := stream.Recv(); !errors.Is(fromStatus(t.Context(), err), ErrUnavailable) {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("an older plugin delivers one by one, and is not asked again", func(t *testing.T) {
		impl := &singly{events: eventsOf(3, 1)}
		conn := dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) })
		c := NewClient(t.Context(), conn)
		for range 2 {
			if got := delivered(t, c); !reflect.DeepEqual(got, [][]uint64{{1}, {2}, {3}}) {
				t.Errorf("got %v", got)
			}
		}
		if n := impl.asked.Load(); n != 1 {
			t.Errorf("it was asked for Deliver %d times", n)
		}
	})
	t.Run("an implementation that has only Events", func(t *testing.T) {
		c := NewClient(t.Context(), dial(t, &echo{err: ErrUnavailable}))
		if got := delivered(t, c); !reflect.DeepEqual(got, [][]uint64{{fullEvent.Sequence}}) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("what cannot be read holds up no other of its message", func(t *testing.T) {
		impl := &newerBatch{newer{settled: make(chan *recallv1.SettleRequest, 1)}}
		conn := dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) })
		handled := make(chan []Event, 2)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- NewClient(t.Context(), conn).Deliver(ctx, func(events []Event) { handled <- events })
		}()
		if events := <-handled; len(events) != 1 || events[0].Sequence != fullEvent.Sequence {
			t.Errorf("handled %+v", events)
		}
		if s := <-impl.settled; s.Outcome != recallv1.Outcome_OUTCOME_FAILED || s.Sequence != 99 {
			t.Errorf("settled as %v", s)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// singly is a plugin from before there was Deliver.
type singly struct {
	recallv1.UnimplementedRecallServiceServer
	asked  atomic.Int64 // for Deliver
	events []Event
}

func (p *singly) Deliver(*recallv1.DeliverRequest, recallv1.RecallService_DeliverServer) error {
	p.asked.Add(1)
	return status.Error(codes.Unimplemented, "unknown method Deliver")
}

func (p *singly) Events(_ *recallv1.EventsRequest, stream recallv1.RecallService_EventsServer) error {
	for _, e := range p.events {
		if err := stream.Send(encodeEvent(e)); err != nil {
			return err
		}
	}
	return toStatus(ErrUnavailable)
}

// newerBatch delivers together an event with an enum value of a later version and one that is known.
type newerBatch struct{ newer }

func (p *newerBatch) Deliver(_ *recallv1.DeliverRequest, stream recallv1.RecallService_DeliverServer) error {
	odd := encodeEvent(fullEvent)
	odd.Sequence, odd.Message.Type = 99, 99
	err := stream.Send(&recallv1.DeliverResponse{Deliveries: []*recallv1.Event{odd, encodeEvent(fullEvent)}})
	if err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
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
	event := func(change func(*recallv1.Event)) []byte {
		w := encodeEvent(fullEvent)
		change(w)
		return mustMarshal(t, &recallv1.DeliverResponse{Deliveries: []*recallv1.Event{w}})
	}
	large := event(func(w *recallv1.Event) { w.Ext = strings.Repeat("x", MaxDeliverBytes) })
	good := event(func(*recallv1.Event) {})
	bomb := protowire.AppendTag(nil, 1, protowire.BytesType) // of empty texts, as attachments of one event
	bomb = protowire.AppendBytes(bomb, bytes.Repeat([]byte{9<<3 | 2, 0}, 4<<20))
	for name, tc := range map[string]struct {
		message []byte
		words   string
	}{
		"several in a large message": {slices.Concat(large, good), "deliveries: several in a message of"},
		"no event":                   {[]byte{1<<3 | 2, 1, 0xff}, "read an event"},
		"a step without a name":      {event(func(w *recallv1.Event) { w.Steps = []string{""} }), "event.steps[0]"},
		"too many steps":             {event(func(w *recallv1.Event) { w.Steps = make([]string, 100) }), "event.steps"},
		"many empty texts":           {bomb, "too large when decoded"},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) {
				recallv1.RegisterRecallServiceServer(s, &raw{message: tc.message})
			}))
			err := c.Deliver(t.Context(), func([]Event) { t.Error("handled") })
			if err == nil || !strings.HasPrefix(err.Error(), "answer of the plugin: ") ||
				!strings.Contains(err.Error(), tc.words) {
				t.Errorf("got %v, want %q", err, tc.words)
			}
		})
	}
	t.Run("empty deliveries and fields of a later version are passed over", func(t *testing.T) {
		message := slices.Concat(bytes.Repeat([]byte{1<<3 | 2, 0}, 1000), []byte{9 << 3, 1}, good)
		c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) {
			recallv1.RegisterRecallServiceServer(s, &raw{message: message})
		}))
		var got []Event
		_ = c.Deliver(t.Context(), func(events []Event) { got = append(got, events...) })
		if len(got) != 1 || got[0].Sequence != fullEvent.Sequence {
			t.Errorf("got %+v", got)
		}
	})
}
