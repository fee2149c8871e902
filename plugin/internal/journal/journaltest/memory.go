// Package journaltest has the log of a cluster in memory, for tests, which can break it.
package journaltest

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Stream is a journal.Stream in memory.
type Stream struct {
	mu      sync.Mutex
	entries [][]byte
	changed chan struct{}
	copies  int
	broken  func(data []byte) error
	trimmed uint64 // entries removed
}

// NewStream makes an empty stream.
func NewStream() *Stream { return &Stream{changed: make(chan struct{})} }

// Copies has every entry be there so many times more, as one is that was published again while it was in doubt.
func (s *Stream) Copies(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copies = n
}

// Break has entries fail for which broken has an error; nil: none does.
func (s *Stream) Break(broken func(data []byte) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// Publish is journal.Stream.
func (s *Stream) Publish(_ context.Context, data []byte, done func(error)) {
	s.mu.Lock()
	var err error
	if s.broken != nil {
		err = s.broken(data)
	}
	if err == nil {
		for range 1 + s.copies {
			s.entries = append(s.entries, data)
		}
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.mu.Unlock()
	done(err)
}

// Follow is journal.Stream.
func (s *Stream) Follow(ctx context.Context, after uint64, handle func(uint64, []byte) error) error {
	for {
		s.mu.Lock()
		var data []byte
		after = max(after, s.trimmed)
		isThere := after < uint64(len(s.entries))
		if isThere {
			data = s.entries[after]
		}
		changed := s.changed
		s.mu.Unlock()
		if !isThere {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		after++
		if err := handle(after, data); err != nil {
			return err
		}
	}
}

// Trim removes the entries up to a position.
func (s *Stream) Trim(_ context.Context, upTo uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trimmed = max(s.trimmed, min(upTo, uint64(len(s.entries))))
	clear(s.entries[:s.trimmed])
	return nil
}

// Skip has so many entries come that were removed before anybody read them.
func (s *Stream) Skip(count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, make([][]byte, count)...)
	s.trimmed = uint64(len(s.entries))
}

// First is the position of the first entry that there is, or of the next one.
func (s *Stream) First(context.Context) (position uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trimmed + 1, nil
}

// Last is the last entry; nil if there is none.
func (s *Stream) Last(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trimmed == uint64(len(s.entries)) {
		return nil, nil
	}
	return s.entries[len(s.entries)-1], nil
}

// Len is how many entries there were.
func (s *Stream) Len() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.entries))
}

// Pause lets others go on, where a test has nothing to wait for.
func (s *Stream) Pause() { time.Sleep(time.Millisecond) }

// Beats are what the nodes of a cluster tell each other.
type Beats struct {
	mu     sync.Mutex
	hear   map[*NodeBeats]func([]byte)
	cutOff map[string]bool
	deaf   map[string]bool
}

// NewBeats makes the beats of a cluster.
func NewBeats() *Beats {
	return &Beats{hear: map[*NodeBeats]func([]byte){}, cutOff: map[string]bool{}, deaf: map[string]bool{}}
}

// Cut cuts a node off from the others, or connects it again.
func (b *Beats) Cut(node string, off bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cutOff[node] = off
}

// Deafen has a node hear nobody although it is connected, as to a server that is cut off from the others.
func (b *Beats) Deafen(node string, is bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deaf[node] = is
}

// Of are the beats of a node.
func (b *Beats) Of(node string) *NodeBeats { return &NodeBeats{b, node} }

// NodeBeats are a journal.Beats.
type NodeBeats struct {
	all  *Beats
	node string
}

// IsConnected reports whether the node is not cut off.
func (b *NodeBeats) IsConnected() bool {
	b.all.mu.Lock()
	defer b.all.mu.Unlock()
	return !b.all.cutOff[b.node]
}

// Send is journal.Beats.
func (b *NodeBeats) Send(data []byte) error {
	b.all.mu.Lock()
	defer b.all.mu.Unlock()
	if b.all.cutOff[b.node] {
		return errors.New("not connected")
	}
	for to, hear := range b.all.hear {
		if !b.all.cutOff[to.node] && !b.all.deaf[to.node] {
			hear(data)
		}
	}
	return nil
}

// Receive is journal.Beats.
func (b *NodeBeats) Receive(hear func([]byte)) (stop func(), err error) {
	b.all.mu.Lock()
	defer b.all.mu.Unlock()
	b.all.hear[b] = hear
	return func() {
		b.all.mu.Lock()
		defer b.all.mu.Unlock()
		delete(b.all.hear, b)
	}, nil
}
