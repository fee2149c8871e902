// Package jetstream is the log of a cluster on NATS JetStream: a [journal.Stream], with what the nodes tell each other
// and their snapshots beside it. It is the only package that imports nats.go.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chat-recall/recall/plugin/internal/journal"
)

const (
	// requestTimeout is the time of one request to the servers. Servers without a leader do not answer at all, so every
	// request has an end of its own and is made again.
	requestTimeout = 2 * time.Second
	requestRetry   = 200 * time.Millisecond

	connectTimeout = 3 * time.Second

	// serverOffline is the code with which the servers say that they are too few now for the replicas of a stream
	// (JSClusterNoPeersErrF of nats-server).
	serverOffline = 10005

	// ackTimeout is how long the client remembers an entry that nobody acknowledges, of which it holds so many at most.
	ackTimeout = 5 * time.Second

	// Of the consumer that reads the stream.
	readAheadBytes = 4 << 20
	readExpiry     = 10 * time.Second
	readHeartbeat  = time.Second
	readInactive   = 30 * time.Second // after which the servers drop one that nobody reads
)

// moveAfter is for how long nothing may succeed on a connection until another server is tried. It is about as long as
// an election.
const moveAfter = 5 * time.Second

// goneAfter is for how long the servers must say that there is no stream. One of them may not know all of them yet.
const goneAfter = 5 * time.Second

// Stream is the log of one cluster.
type Stream struct {
	options Options
	nc      *nats.Conn
	js      jetstream.JetStream
	created time.Time

	mu      sync.Mutex
	missing time.Time // since when the servers say that there is no stream; zero: they do not
	failing time.Time // since when nothing succeeds; zero: the last did

	publishing sync.WaitGroup
}

var _ journal.Stream = (*Stream)(nil)

// ID names the log. A stream that was created anew under the same name is another log.
func (s *Stream) ID() string {
	return s.options.Stream + "-" + strconv.FormatInt(s.created.UnixNano(), 36)
}

func (s *Stream) subject(of string) string { return subject(s.options.Stream, of) }

func subject(stream, of string) string { return "recall." + stream + "." + of }

// IsConnected reports whether there is a connection to a server now.
func (s *Stream) IsConnected() bool { return s.nc.IsConnected() }

// Publish is [journal.Stream].
func (s *Stream) Publish(ctx context.Context, data []byte, done func(error)) {
	ack, err := s.js.PublishAsync(s.subject("log"), data, jetstream.WithRetryAttempts(0))
	if errors.Is(err, nats.ErrMaxPayload) {
		err = fmt.Errorf("%w: %w", journal.ErrTooLarge, err)
	}
	if err != nil {
		done(err)
		return
	}
	s.publishing.Go(func() {
		select {
		case <-ack.Ok():
			s.note(nil)
			done(nil)
		case err := <-ack.Err():
			s.note(err)
			done(err)
		case <-ctx.Done():
			s.note(ctx.Err())
			done(ctx.Err())
		}
	})
}

// note notes how something went that needs a server which reaches the others. A server that is cut off from them, and
// not from this node, would keep the connection for as long as that takes: another one is tried.
func (s *Stream) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.failing = time.Time{}
	case s.failing.IsZero():
		s.failing = time.Now()
	case time.Since(s.failing) >= moveAfter && s.nc.IsConnected():
		s.failing = time.Time{}
		s.options.Logger.Warn("a server of the cluster does not serve the log, and another one is tried", "url",
			s.nc.ConnectedUrlRedacted(), "error", err)
		_ = s.nc.ForceReconnect() // fails only if the connection is closed
	}
}

// Follow is [journal.Stream]. It reads with a consumer of its own and ends where that one does, as when its server is
// lost: the next call goes on with another one. (An ordered consumer of nats.go, which replaces itself, sometimes read
// nothing more after the server was killed that had it.)
func (s *Stream) Follow(ctx context.Context, after uint64, handle func(position uint64, data []byte) error) error {
	messages, err := s.read(ctx, after)
	if ctx.Err() == nil {
		s.note(err)
	}
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, messages.Stop)()
	defer messages.Stop()
	for next := uint64(0); ; next++ {
		m, err := messages.Next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var about *jetstream.MsgMetadata
		if err == nil {
			about, err = m.Metadata()
		}
		switch {
		case err != nil:
			return fmt.Errorf("read the stream %s: %w", s.options.Stream, err)
		case next == 0:
			next = about.Sequence.Stream // what is missing before it is not in the stream
		case about.Sequence.Stream != next:
			return fmt.Errorf("read the stream %s: entry %d came after entry %d", s.options.Stream,
				about.Sequence.Stream, next-1)
		}
		if err := handle(about.Sequence.Stream, m.Data()); err != nil {
			return err
		}
	}
}

// read begins to read the stream after a position.
func (s *Stream) read(ctx context.Context, after uint64) (jetstream.MessagesContext, error) {
	if err := s.checkReadable(ctx, after); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := s.js.CreateConsumer(ctx, s.options.Stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1, AckPolicy: jetstream.AckNonePolicy,
		Replicas: 1, MemoryStorage: true, InactiveThreshold: readInactive,
	})
	if err != nil {
		return nil, fmt.Errorf("read the stream %s: %w", s.options.Stream, err)
	}
	return consumer.Messages(jetstream.PullMaxBytes(readAheadBytes), jetstream.PullExpiry(readExpiry),
		jetstream.PullHeartbeat(readHeartbeat))
}

// checkReadable refuses to read a stream that is not the one that was opened, or that has lost its end.
func (s *Stream) checkReadable(ctx context.Context, after uint64) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, s.options.Stream)
	if s.isGone(err) {
		return fmt.Errorf("%w: the stream %s was deleted; another log needs new index folders", journal.ErrGone,
			s.options.Stream)
	}
	if err != nil {
		return fmt.Errorf("read the stream %s: %w", s.options.Stream, err)
	}
	switch info := stream.CachedInfo(); {
	case !info.Created.Equal(s.created):
		return fmt.Errorf("%w: the stream %s was created anew, at %s: it is another log", journal.ErrGone,
			s.options.Stream, info.Created.Format(time.RFC3339))
	case info.State.LastSeq < after:
		return fmt.Errorf("the stream %s ends with entry %d, and this node has applied entry %d: its servers lost entries, "+
			"or the one that answers is behind", s.options.Stream, info.State.LastSeq, after)
	}
	return nil
}

// isGone reports whether the servers say for long enough that there is no stream. err is their last answer.
func (s *Stream) isGone(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		s.missing = time.Time{}
		return false
	}
	if s.missing.IsZero() {
		s.missing = time.Now()
	}
	return time.Since(s.missing) >= goneAfter
}

// First returns the position of the first entry that the stream still has.
func (s *Stream) First(ctx context.Context) (position uint64, err error) {
	err = s.retry(ctx, "look at the stream "+s.options.Stream, func(ctx context.Context) error {
		stream, err := s.js.Stream(ctx, s.options.Stream)
		if err == nil {
			position = stream.CachedInfo().State.FirstSeq
		}
		return err
	})
	return position, err
}

// Last returns the last entry of the stream; nil if it has none.
func (s *Stream) Last(ctx context.Context) (data []byte, err error) {
	err = s.retry(ctx, "read the last entry of the stream "+s.options.Stream, func(ctx context.Context) error {
		stream, err := s.js.Stream(ctx, s.options.Stream)
		if err != nil {
			return err
		}
		message, err := stream.GetLastMsgForSubject(ctx, s.subject("log"))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return nil
		case err == nil:
			data = message.Data
		}
		return err
	})
	return data, err
}

// Send tells all nodes something now. It is not kept, and fails where there is no connection.
func (s *Stream) Send(data []byte) error {
	if !s.nc.IsConnected() {
		return nats.ErrDisconnected
	}
	return s.nc.Publish(s.subject("beats"), data)
}

// Receive calls hear, from one goroutine, with everything that a node sends, until stop is called.
func (s *Stream) Receive(hear func(data []byte)) (stop func(), err error) {
	sub, err := s.nc.Subscribe(s.subject("beats"), func(m *nats.Msg) { hear(m.Data) })
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// Close ends the connection. What is being published is given up.
func (s *Stream) Close() {
	s.nc.Close()
	s.publishing.Wait()
}
