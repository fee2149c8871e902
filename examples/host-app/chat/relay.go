package chat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chat-recall/recall/shared"
)

const (
	// relayEvery is how often a server looks for messages that other servers accepted. A database or a message bus that
	// notifies its readers needs no interval.
	relayEvery = 50 * time.Millisecond

	// relayPage is how many entries of the table relay are read at a time.
	relayPage = 100

	// relayAgain is how many entries a server that starts reads again: its plugin may not know those messages yet.
	relayAgain = 200
)

// relay gives the clients of this server the messages that other servers of the cluster accepted. Those servers have
// stored them in the database that all share; each server delivers to its own clients.
type relay struct {
	mu      sync.Mutex
	after   int64        // the last entry of the table relay that was read
	waiting []relayEntry // of messages that the plugin does not know yet
}

// passOn is one message on its way to the clients of this server.
type passOn struct {
	Stored
	entry      relayEntry
	held       *delivery
	here, away []string // the members who were connected here when it was held, and the others
}

// relayLoop passes messages on until ctx ends.
func (s *Server) relayLoop(ctx context.Context) {
	tick := time.NewTicker(relayEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.relayOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("messages of other servers wait to be passed on; trying again", "error", err)
		}
	}
}

// relayOnce passes on what other servers have stored so far. As with every late delivery, a message is held before the
// plugin is asked whether it is live. The plugin of this server learns of a message a moment after the other server has
// stored it; until then the message waits.
func (s *Server) relayOnce(ctx context.Context) error {
	r := &s.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := s.readRelay(ctx); err != nil {
		return err
	}
	list, err := s.holdWaiting(ctx)
	ids := make([]string, 0, len(list))
	for _, m := range list {
		ids = append(append(ids, m.ID), m.quotes()...)
	}
	var states map[string]shared.MessageState
	if err == nil && len(ids) > 0 {
		states, err = s.states(ctx, ids)
	}
	if err != nil {
		for _, m := range list {
			s.hub.Drop(m.held)
		}
		return err
	}
	r.waiting = nil
	for _, m := range list {
		switch states[m.ID] {
		case shared.MessageLive:
			for _, id := range m.quotes() {
				if states[id] != shared.MessageLive {
					m.Quoted = ""
				}
			}
			if m.Conversation.Type == shared.ConversationChatroom {
				s.hub.Came(m.here, m.Seq) // some may have come since the message was held the first time
			}
			err = errors.Join(err, s.release(ctx, m.Stored, m.held, m.away))
		case shared.MessageRecalled:
			s.hub.Gone(m.ID)
		default:
			s.hub.Drop(m.held)
			r.waiting = append(r.waiting, m.entry)
		}
	}
	return err
}

// readRelay puts the messages that other servers have stored since with those that wait. The lock is held.
func (s *Server) readRelay(ctx context.Context) error {
	for {
		entries, err := s.store.relayed(ctx, s.relay.after)
		if err != nil {
			return err
		}
		for _, e := range entries {
			s.relay.after = e.entry
			if e.node != s.store.node {
				s.relay.waiting = append(s.relay.waiting, e)
			}
		}
		if len(entries) < relayPage {
			return nil
		}
	}
}

// holdWaiting holds the messages that wait, but for those that are no longer in the store. The lock is held.
func (s *Server) holdWaiting(ctx context.Context) (list []passOn, err error) {
	for _, e := range s.relay.waiting {
		m, found, err := s.store.Message(ctx, e.id)
		if err != nil {
			return list, err
		}
		if !found { // recalled and removed, or never accepted
			continue
		}
		s.store.saw(m.Seq)
		held := &delivery{id: e.id, quotes: m.quotes(),
			copied: m.Conversation.Type != shared.ConversationChatroom && e.node != s.store.node}
		here, away := s.hub.hold(held, s.store.Members(m.Conversation))
		list = append(list, passOn{m, e, held, here, away})
	}
	return list, nil
}

// relayEntry is one row of the table relay.
type relayEntry struct {
	entry    int64
	id, node string
}

// relayed lists up to relayPage entries of the table relay, oldest first.
func (s *Store) relayed(ctx context.Context, after int64) ([]relayEntry, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT entry, id, node FROM relay WHERE entry > ? ORDER BY entry LIMIT ?",
		after, relayPage)
	if err != nil {
		return nil, fmt.Errorf("read what other servers have stored: %w", err)
	}
	return scanAll(rows, func(r *sql.Rows) (e relayEntry, err error) { return e, r.Scan(&e.entry, &e.id, &e.node) })
}

// open reads the last entries of the table relay: whatever of them the plugin of this server does not know waits.
func (r *relay) open(ctx context.Context, s *Store) error {
	var last int64
	if err := s.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(entry), 0) FROM relay").Scan(&last); err != nil {
		return fmt.Errorf("read what other servers have stored: %w", err)
	}
	r.after = max(0, last-relayAgain)
	for r.after < last {
		entries, err := s.relayed(ctx, r.after)
		if err != nil {
			return err
		}
		for _, e := range entries {
			r.after, r.waiting = e.entry, append(r.waiting, e)
		}
	}
	return nil
}
