package shared

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared/recallv1"
)

const (
	cannotReadRetry = 200 * time.Millisecond // between attempts to say so

	// maxHandlers bounds the calls of a handler of events that run side by side. A plugin that has more to deliver
	// waits: one that works sends at most MaxDeliveries of each step before their outcomes.
	maxHandlers = 1024
)

// Events is Recall.
func (c *Client) Events(ctx context.Context, handle func(Event, Settler)) error {
	handlers := newHandlers()
	defer handlers.wait()
	return c.Deliver(ctx, func(events []Event) {
		for _, e := range events {
			if !handlers.run(ctx, func() { handle(e, EventSettler(c, e)) }) {
				return // nothing of it is under way, so it is delivered again
			}
		}
	})
}

// Deliver is Deliverer. handle holds up the stream, and must return once ctx ends. What a plugin of another version
// delivers that this one cannot read is settled as failed here.
func (c *Client) Deliver(ctx context.Context, handle func([]Event)) error {
	if !c.deliversSingly.Load() {
		err := c.deliver(ctx, handle, eachDelivery, func(ctx context.Context) (grpc.ClientStream, error) {
			return c.recall.Deliver(ctx, &recallv1.DeliverRequest{})
		})
		if !errors.Is(err, ErrUnimplemented) {
			return err
		}
		c.deliversSingly.Store(true) // it is from before there was Deliver
	}
	one := func(message []byte, do func([]byte) error) error { return do(message) }
	return c.deliver(ctx, handle, one, func(ctx context.Context) (grpc.ClientStream, error) {
		return c.recall.Events(ctx, &recallv1.EventsRequest{})
	})
}

// deliver reads a stream whose messages are of encoded events, as each says.
func (c *Client) deliver(ctx context.Context, handle func([]Event), each func([]byte, func([]byte) error) error,
	open func(context.Context) (grpc.ClientStream, error)) error {
	unread := newHandlers()
	defer unread.wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := open(ctx)
	if err != nil {
		return fromStatus(ctx, err)
	}
	for {
		message := undecoded{max: MaxWireBytes}
		if err := stream.RecvMsg(&message); err != nil {
			return fromStatus(ctx, err)
		}
		data, err := message.bytes()
		if err != nil {
			return badAnswer(err)
		}
		var events []Event
		err = each(data, func(encoded []byte) error {
			e, readErr, err := readDelivery(encoded)
			switch {
			case err != nil:
				return err
			case readErr != nil: // of a newer plugin; the others must not wait for it
				unread.run(ctx, func() { c.cannotRead(ctx, e, readErr) })
			default:
				events = append(events, e)
			}
			return nil
		})
		if err != nil {
			return badAnswer(err)
		}
		if len(events) > 0 {
			handle(events)
		}
	}
}

// readDelivery decodes a delivery. readErr says what of it this version cannot read; err that it cannot even be settled
// as failed.
func readDelivery(encoded []byte) (e Event, readErr, err error) {
	w := &recallv1.Event{}
	if err := checkDecoded(w, encoded); err != nil {
		return Event{}, nil, err
	}
	if err := proto.Unmarshal(encoded, w); err != nil {
		return Event{}, nil, fmt.Errorf("read an event: %w", err)
	}
	if err := checkSteps("event.steps", w.GetSteps()); err != nil {
		return Event{}, nil, err
	}
	d := decoder{}
	e = d.event(w)
	return e, d.err, nil
}

// eachDelivery goes through the deliveries of a message one by one: a message of empty ones takes a hundred times as
// much when it is decoded.
func eachDelivery(message []byte, do func(encoded []byte) error) error {
	for rest, n := message, 0; len(rest) > 0; {
		number, kind, size := protowire.ConsumeField(rest)
		if size < 0 {
			return fmt.Errorf("read deliveries: %w", protowire.ParseError(size))
		}
		field := rest[:size]
		rest = rest[size:]
		if number != deliveriesField || kind != protowire.BytesType {
			continue // of a later version
		}
		if n++; n > 1 && len(message) > MaxDeliverBytes {
			return Invalidf("deliveries", "several in a message of %d bytes; at most %d", len(message), MaxDeliverBytes)
		}
		_, _, tag := protowire.ConsumeTag(field)
		encoded, _ := protowire.ConsumeBytes(field[tag:])
		if err := do(encoded); err != nil {
			return err
		}
	}
	return nil
}

// handlers runs functions side by side, at most maxHandlers.
type handlers struct {
	room    chan struct{}
	running sync.WaitGroup
}

func newHandlers() *handlers { return &handlers{room: make(chan struct{}, maxHandlers)} }

// run waits for room and does not wait for f. It tells whether there was room before ctx ended.
func (h *handlers) run(ctx context.Context, f func()) bool {
	select {
	case h.room <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	h.running.Go(func() {
		defer func() { <-h.room }()
		f()
	})
	return true
}

func (h *handlers) wait() { h.running.Wait() }

// cannotRead has the steps of an event that this version cannot read tried again later, and says why in its ledger. ctx
// is that of the stream: the next one delivers it again.
func (c *Client) cannotRead(ctx context.Context, e Event, cause error) {
	for _, step := range e.Steps {
		for EventSettler(c, e).Settle(ctx, step, OutcomeFailed, cause) != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(cannotReadRetry):
			}
		}
	}
}
