package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

const (
	cannotReadRetry = 200 * time.Millisecond // between attempts to say so

	// maxHandlers bounds the deliveries that are settled as failed at once.
	maxHandlers = 1024
)

// Deliver is [Plugin]. handle holds up the stream, and must return once ctx ends. It settles as failed what a plugin of
// another version delivers and this one cannot read.
func (c *Client) Deliver(ctx context.Context, handle func([]shared.Delivery)) error {
	unread := newHandlers()
	defer unread.wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.recall.Deliver(ctx, &recallv1.DeliverRequest{})
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
		var due []shared.Delivery
		err = eachDelivery(data, func(encoded []byte) error {
			x, readErr, err := readDelivery(encoded)
			switch {
			case err != nil:
				return err
			case readErr != nil: // of a newer plugin; the others must not wait for it
				unread.run(ctx, func() { c.cannotRead(ctx, &x, readErr) })
			default:
				due = append(due, x)
			}
			return nil
		})
		if err != nil {
			return badAnswer(err)
		}
		if len(due) > 0 {
			handle(due)
		}
	}
}

// readDelivery decodes a delivery. readErr says what of it this version cannot read; err that it cannot even be settled
// as failed.
func readDelivery(encoded []byte) (x shared.Delivery, readErr, err error) {
	w := &recallv1.Delivery{}
	if err := checkDecoded(w, encoded); err != nil {
		return shared.Delivery{}, nil, err
	}
	if err := proto.Unmarshal(encoded, w); err != nil {
		return shared.Delivery{}, nil, fmt.Errorf("read a delivery: %w", err)
	}
	if err := shared.ValidateStep("delivery.step", w.GetStep()); err != nil {
		return shared.Delivery{}, nil, err
	}
	d := decoder{}
	x = d.delivery(w)
	return x, d.err, nil
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
			return shared.Invalidf("deliveries", "several in a message of %d bytes; at most %d", len(message), MaxDeliverBytes)
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

// run waits for room, unless ctx ends first, and does not wait for f.
func (h *handlers) run(ctx context.Context, f func()) {
	select {
	case h.room <- struct{}{}:
	case <-ctx.Done():
		return
	}
	h.running.Go(func() {
		defer func() { <-h.room }()
		f()
	})
}

func (h *handlers) wait() { h.running.Wait() }

// cannotRead settles as failed a step of an event that this version cannot read, and says why in its ledger. It tries
// until the plugin has stored or refused that, or ctx ends, which is that of the stream: the next stream delivers it
// again.
func (c *Client) cannotRead(ctx context.Context, x *shared.Delivery, cause error) {
	failed := []Settlement{NewSettlement(x, shared.OutcomeFailed, cause)}
	for {
		errs, err := c.Settle(ctx, failed)
		if err == nil {
			err = errs[0]
		}
		if err == nil || errors.Is(err, shared.ErrInvalid) { // asking again would be answered alike
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(cannotReadRetry):
		}
	}
}
