package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	// drainPage is how many waiting messages a client that is back is given at a time.
	drainPage = 100

	// leaveTimeout bounds how long a client that goes may take to put back what it did not get.
	leaveTimeout = 10 * time.Second
)

// errCutOff says that the server ended the connection: the client was too slow, or its user went away. It should
// synchronize when it connects again.
var errCutOff = errors.New("disconnected by the server")

// errReplaced says that its user has connected too often since. The client should not connect again by itself.
var errReplaced = fmt.Errorf("disconnected by the server: its user has connected %d times since", maxUserClients)

// Frame is one thing that a client is told.
type Frame struct {
	Event string // message or notice
	ID    string // of the message
	Body  json.RawMessage
}

// Client is one connection of a user. Next and Leave belong to one goroutine; the fields above the line to the hub.
type Client struct {
	user     string
	queue    []*delivery
	fresh    map[string]bool // got from a queue of the store, which does not know yet
	cut      bool
	replaced bool  // cut off for a newer one
	look     bool  // something may wait in the store, from its first entry on: what was not indexed yet may be now
	from     int64 // the last message before it connected
	order    uint64
	wake     chan struct{}

	server     *Server
	current    *delivery // given out, not yet known to have arrived
	cursor     int64     // of the offline queue
	more       bool      // there was something at the last look
	got, heard []string  // messages and notices that arrived and may still lie in the store
}

// Connect makes a client; it must Leave.
func (s *Server) Connect(user string) (*Client, error) {
	if !s.store.UserExists(user) {
		return nil, errNoUser
	}
	c := &Client{user: user, server: s, fresh: make(map[string]bool), look: true, wake: make(chan struct{}, 1)}
	s.hub.join(c, s.store.LastSeq())
	return c, nil
}

func (h *Hub) join(c *Client, seq int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.from = seq
	if h.clients[c.user] == nil {
		h.clients[c.user] = make(map[*Client]struct{})
	}
	h.joined++
	c.order = h.joined
	h.clients[c.user][c] = struct{}{}
	if len(h.clients[c.user]) > maxUserClients {
		oldest := h.oldest(c.user)
		oldest.replaced = true
		h.cutOff(oldest)
	}
}

// maxUserClients bounds the clients of a user. The oldest makes room for one more: it is most likely one that is gone
// and not yet noticed, and whoever reloads a page is not locked out.
const maxUserClients = 16

// oldest is the client of a user that connected first. The lock is held.
func (h *Hub) oldest(user string) *Client {
	var first *Client
	for c := range h.clients[user] {
		if first == nil || c.order < first.order {
			first = c
		}
	}
	return first
}

func (c *Client) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Next waits for what the client is to be told next. Asking for it says that the frame before has arrived.
func (c *Client) Next(ctx context.Context) (Frame, error) {
	c.arrived()
	for {
		d, body, look, err := c.take()
		if err != nil {
			return Frame{}, err
		}
		if d != nil {
			c.current = d
			event := "message"
			if d.notice {
				event = "notice"
			}
			return Frame{Event: event, ID: d.id, Body: body}, nil
		}
		if err := c.flush(ctx); err != nil {
			return Frame{}, err
		}
		if look {
			if err := c.fetch(ctx); err != nil {
				return Frame{}, err
			}
			continue
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return Frame{}, ctx.Err()
		}
	}
}

// arrived notes that the client has the frame it was given.
func (c *Client) arrived() {
	d := c.current
	c.current = nil
	switch {
	case d == nil || !d.queued && !d.copied:
	case d.notice:
		c.heard = append(c.heard, d.id)
	default:
		c.got = append(c.got, d.id)
	}
}

// take takes the next delivery that may go out. look tells to fetch from the store.
func (c *Client) take() (d *delivery, body json.RawMessage, look bool, err error) {
	h := c.server.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.replaced {
		return nil, nil, false, errReplaced
	}
	if c.cut {
		return nil, nil, false, errCutOff
	}
	for len(c.queue) > 0 {
		d := c.queue[0]
		if d.state == held {
			return nil, nil, false, nil
		}
		c.queue[0] = nil
		c.queue = c.queue[1:]
		if d.state == struck {
			continue
		}
		delete(d.waiting, c)
		if len(d.waiting) == 0 {
			h.forget(d)
		} else if !d.notice {
			if d.took == nil {
				d.took = make(map[string]bool)
			}
			d.took[c.user] = true
		}
		if (d.queued || d.copied) && !d.notice {
			c.fresh[d.id] = true
		}
		body := d.body
		if d.bare {
			body = d.plain
		}
		return d, body, false, nil
	}
	if c.look {
		c.look, c.more, c.cursor = false, true, 0
	}
	return nil, nil, c.more, nil
}

// flush takes from the store what has arrived.
func (c *Client) flush(ctx context.Context) error {
	if len(c.got)+len(c.heard) == 0 {
		return nil
	}
	if err := c.server.store.Got(ctx, c.user, c.got, c.heard); err != nil {
		return err
	}
	c.server.hub.mu.Lock()
	for _, id := range c.got {
		delete(c.fresh, id)
	}
	c.server.hub.mu.Unlock()
	c.got, c.heard = nil, nil
	return nil
}

// fetch queues what waits in the store: held first, and only then is the plugin asked which of it is still live.
func (c *Client) fetch(ctx context.Context) error {
	notices, err := c.server.store.Kept(ctx, c.user, 0, drainPage)
	if err != nil {
		return err
	}
	messages, err := c.server.store.Queued(ctx, c.user, c.cursor, drainPage)
	if err != nil {
		return err
	}
	h := c.server.hub
	ids := make([]string, 0, len(messages))
	queued, all := make([]*delivery, 0, len(messages)), make([]bodies, 0, len(messages))
	h.mu.Lock()
	for _, w := range notices {
		h.push(c, &delivery{id: w.ID, notice: true, queued: true, body: w.Body, state: released})
	}
	for _, w := range messages {
		b := bodiesOf(w.Body)
		d := &delivery{id: w.ID, quotes: b.quotes, queued: true}
		h.push(c, d)
		queued, all = append(queued, d), append(all, b)
		ids = append(append(ids, w.ID), b.quotes...)
		c.cursor = w.Entry
	}
	h.mu.Unlock()
	c.more = len(notices)+len(messages) > 0
	live, err := c.server.live(ctx, ids)
	for i, d := range queued {
		if err == nil && live[d.id] {
			h.Release(d, all[i].asFar(live))
		} else {
			h.Drop(d)
		}
	}
	return err
}

// Leave ends the client. What it did not get waits for its user in the store.
func (c *Client) Leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	s, h := c.server, c.server.hub
	h.mu.Lock()
	h.cutOff(c)
	rest := c.queue
	if c.current != nil {
		rest = append([]*delivery{c.current}, rest...)
		delete(c.fresh, c.current.id) // it may not have arrived
	}
	var ids []string
	var notices []*delivery
	for _, d := range rest {
		switch {
		case d.queued, d.state != released, d.took[c.user] && d != c.current:
		case d.notice:
			notices = append(notices, d)
		case !d.copied:
			ids = append(ids, d.id)
		}
	}
	spans := append(h.present[c.user], span{c.from, s.store.LastSeq()})
	h.present[c.user] = spans[max(0, len(spans)-maxSpans):]
	h.mu.Unlock()

	err := c.flush(ctx)
	if len(ids) > 0 {
		err = errors.Join(err, s.store.Enqueue(ctx, []string{c.user}, ids...))
	}
	for _, d := range notices {
		err = errors.Join(err, s.store.Keep(ctx, d.id, d.body, map[string]bool{c.user: !d.bare}, nil))
	}

	h.mu.Lock()
	for _, d := range rest {
		if d.state == held && !d.queued {
			continue // Release finds the client gone
		}
		delete(d.waiting, c)
		if len(d.waiting) == 0 {
			h.forget(d)
		}
	}
	c.queue = nil
	delete(h.leaving, c)
	h.mu.Unlock()
	h.Poke([]string{c.user}) // it may be back already
	return err
}
