package chat

import (
	"encoding/json"
	"maps"
	"sync"

	"github.com/chat-recall/recall/shared"
)

// maxClientQueue is how far a connected client may lag. One that lags more is cut off: what it did not get waits in
// the offline queue, and it synchronizes when it connects again.
const maxClientQueue = 1024

// Hub delivers to connected clients.
//
// A message is held in the queues of its receivers before the plugin is asked about it, and released by the answer. A
// recall strikes it from every queue. So there is no moment between "is it recalled?" and "put it in the queue" in
// which a recall could slip through.
type Hub struct {
	mu      sync.Mutex
	clients map[string]map[*Client]struct{}
	pending map[string]map[*delivery]struct{} // by message id: not yet taken by all of its clients
	quoting map[string]map[*delivery]struct{} // the same, by the ids of the messages that they quote
	missed  map[string]map[string]bool        // by message id: the users from whose queues a recall struck it
	present map[string][]span                 // by user: earlier stretches of being connected
	joined  uint64                            // clients, since the start
	leaving map[*Client]struct{}              // cut off, and what they got may still lie in the store
}

// span is a stretch of sequence numbers, from exclusive, to inclusive.
type span struct{ from, to int64 }

// maxSpans is how many stretches of being connected are remembered of a user. A chatroom has no queue to tell who got
// what; a message older than these is taken as not received.
const maxSpans = 64

// delivery is one message on its way to some clients, or a notice.
type delivery struct {
	id      string
	quotes  []string // the ids of the messages of which it repeats a part
	notice  bool
	queued  bool // it lies in a queue of the store until the client has it
	copied  bool // another server of the cluster delivers it too, and puts it into the offline queues
	body    json.RawMessage
	bare    bool            // plain goes out, and not body
	plain   json.RawMessage // body without what it repeats; a notice without the facts of the message
	state   deliveryState
	waiting map[*Client]struct{}
	took    map[string]bool // users of whom one client has it
}

type deliveryState int

const (
	held deliveryState = iota
	released
	struck
)

// NewHub makes a hub without clients.
func NewHub() *Hub {
	return &Hub{
		clients: make(map[string]map[*Client]struct{}),
		pending: make(map[string]map[*delivery]struct{}),
		quoting: make(map[string]map[*delivery]struct{}),
		missed:  make(map[string]map[string]bool),
		present: make(map[string][]span),
		leaving: make(map[*Client]struct{}),
	}
}

// Hold puts a message in the queues of the members of a conversation who are connected, not to be delivered yet. away
// lists the others. quotes are the messages of which it repeats a part, if any: should one be recalled from now on, the
// message goes without that part.
func (h *Hub) Hold(id string, quotes []string, members []Member) (d *delivery, here, away []string) {
	d = &delivery{id: id, quotes: quotes}
	here, away = h.hold(d, members)
	return d, here, away
}

func (h *Hub) hold(d *delivery, members []Member) (here, away []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range members {
		clients := h.clients[members[i].User]
		if len(clients) == 0 {
			away = append(away, members[i].User)
		} else {
			here = append(here, members[i].User)
		}
		for c := range clients {
			h.push(c, d)
		}
	}
	return here, away
}

// push queues a delivery for a client. The lock is held.
func (h *Hub) push(c *Client, d *delivery) {
	if len(c.queue) >= maxClientQueue && !d.queued {
		h.cutOff(c)
	}
	if d.waiting == nil {
		d.waiting = make(map[*Client]struct{})
	}
	d.waiting[c] = struct{}{}
	c.queue = append(c.queue, d)
	if !d.notice {
		if h.pending[d.id] == nil {
			h.pending[d.id] = make(map[*delivery]struct{})
		}
		h.pending[d.id][d] = struct{}{}
		for _, quoted := range d.quotes {
			if d.state != held {
				break
			}
			if h.quoting[quoted] == nil {
				h.quoting[quoted] = make(map[*delivery]struct{})
			}
			h.quoting[quoted][d] = struct{}{}
		}
	}
	c.signal()
}

// Release lets a held message go, unless a recall has struck it. It returns the users who left meanwhile without it.
func (h *Hub) Release(d *delivery, b bodies) (left []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.state == struck {
		return nil
	}
	d.state, d.body, d.plain = released, b.body, b.plain
	for c := range d.waiting {
		if c.cut {
			left = append(left, c.user) // it stays here until it is in their queues: Left
		}
		c.signal()
	}
	if len(d.waiting) == 0 {
		h.forget(d)
	}
	return left
}

// Left says that those who left have a released message in their queues.
func (h *Hub) Left(d *delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range d.waiting {
		if c.cut {
			delete(d.waiting, c)
		}
	}
	if len(d.waiting) == 0 {
		h.forget(d)
	}
}

// Drop takes a held message out of the queues.
func (h *Hub) Drop(d *delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.state = struck
	for c := range d.waiting {
		c.signal()
	}
	h.forget(d)
}

// forget ends the tracking of a delivery. The lock is held.
func (h *Hub) forget(d *delivery) {
	if set := h.pending[d.id]; set != nil {
		if delete(set, d); len(set) == 0 {
			delete(h.pending, d.id)
		}
	}
	for _, quoted := range d.quotes {
		if set := h.quoting[quoted]; set != nil {
			if delete(set, d); len(set) == 0 {
				delete(h.quoting, quoted)
			}
		}
	}
}

// Gone strikes a recalled message from every queue. When it returns, no client gets the message any more, nor what
// others repeat of it. It does not note as missed what is also in an offline queue or delivered by another server: the
// user may have the message from there. Of those the offline queues tell who has not got it.
func (h *Hub) Gone(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for d := range h.quoting[id] {
		d.bare = true
	}
	delete(h.quoting, id)
	for d := range h.pending[id] {
		d.state = struck // its body stays: a client that has just taken it reads it without the lock
		for c := range d.waiting {
			c.signal()
			if d.queued || d.copied || d.took[c.user] {
				continue
			}
			if h.missed[id] == nil {
				h.missed[id] = make(map[string]bool)
			}
			h.missed[id][c.user] = true
		}
	}
	delete(h.pending, id)
}

// Received tells what the hub knows of who has a message: of got some client got it just now, from the queue of
// missed a recall struck it. Of the others the store knows, if it is asked after this: what a client got leaves the
// store first.
func (h *Hub) Received(id string) (got, missed map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	got = make(map[string]bool)
	for user, clients := range h.clients {
		for c := range clients {
			if c.fresh[id] {
				got[user] = true
			}
		}
	}
	for c := range h.leaving {
		if c.fresh[id] {
			got[c.user] = true
		}
	}
	return got, maps.Clone(h.missed[id])
}

// Notify gives the notice of a recall to each user in had who is connected, and returns the others. had tells who got
// the message; only their notices include its facts. copied says that other servers notify the same users, and may keep
// the notice in the store.
func (h *Hub) Notify(e shared.Event, had map[string]bool, copied bool) (away []string) {
	body, plain := encode(e.Notice(true)), encode(e.Notice(false))
	h.mu.Lock()
	defer h.mu.Unlock()
	for user, got := range had {
		clients := h.clients[user]
		if len(clients) == 0 {
			away = append(away, user)
			continue
		}
		d := &delivery{id: e.Message.ID, notice: true, copied: copied, state: released, body: body, plain: plain,
			bare: !got}
		for c := range clients {
			h.push(c, d)
		}
	}
	return away
}

// Settled ends the memory of who missed a recalled message.
func (h *Hub) Settled(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.missed, id)
}

// Poke makes the clients of these users look in the store for what waits there.
func (h *Hub) Poke(users []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range users {
		for c := range h.clients[u] {
			c.look = true
			c.signal()
		}
	}
}

// WasPresent tells whether a user was connected when a message was sent.
func (h *Hub) WasPresent(user string, seq int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients[user] {
		if c.from < seq {
			return true
		}
	}
	for _, s := range h.present[user] {
		if s.from < seq && seq <= s.to {
			return true
		}
	}
	return false
}

// Came notes that users were there when a message was sent, though they connected a moment later.
func (h *Hub) Came(users []string, seq int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range users {
		for c := range h.clients[u] {
			c.from = min(c.from, seq-1)
		}
	}
}

// Present tells whether a user is connected.
func (h *Hub) Present(user string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.clients[user]) > 0
}

// Kick disconnects every client of a user.
func (h *Hub) Kick(user string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients[user] {
		h.cutOff(c)
	}
}

// KickAll disconnects everyone.
func (h *Hub) KickAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, clients := range h.clients {
		for c := range clients {
			h.cutOff(c)
		}
	}
}

// cutOff ends a client: from now on its user is away, and nothing more is taken from its queue. The lock is held.
func (h *Hub) cutOff(c *Client) {
	if c.cut {
		return
	}
	c.cut = true
	h.leaving[c] = struct{}{}
	c.signal()
	delete(h.clients[c.user], c)
	if len(h.clients[c.user]) == 0 {
		delete(h.clients, c.user)
	}
}

// Delivery is a message that lies in the queue of a connected client.
type Delivery struct{ User, ID string }

// Queued lists the messages that connected clients will still get.
func (h *Hub) Queued() (list []Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for user, clients := range h.clients {
		for c := range clients {
			for _, d := range c.queue {
				if !d.notice && d.state != struck {
					list = append(list, Delivery{user, d.id})
				}
			}
		}
	}
	return list
}
