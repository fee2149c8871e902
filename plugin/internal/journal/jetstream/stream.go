// Package jetstream is the log of a cluster on NATS JetStream: a [journal.Stream], with what the nodes tell each other
// and their snapshots beside it. It is the only package that imports nats.go.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
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

// Options say where the log of a cluster is.
type Options struct {
	Node     string
	URLs     []string
	Stream   string
	Replicas int // of the stream

	// Files; empty: none. Credentials are those that NATS calls so, or one line "user:password".
	Credentials       string
	SystemCredentials string // of an account that may ask the servers how they store
	CA, Cert, Key     string // of TLS

	// Import has the stream be new, for an index that goes on in it; nil: none does.
	Import *Import

	// Existing refuses a stream that is not there, and does not create it.
	Existing bool

	// Unchecked leaves out the check that the servers sync what they acknowledge.
	Unchecked bool

	Logger hclog.Logger // nil for nothing
}

// OptionsOf are those that a block of plugin.hcl names.
func OptionsOf(c *config.ClusterBlock, logger hclog.Logger) Options {
	return Options{
		Node: c.Node, URLs: c.URLs, Stream: c.Stream, Replicas: c.Replicas,
		Credentials: c.Credentials, SystemCredentials: c.SystemCredentials, Unchecked: c.Unchecked,
		CA: c.CA, Cert: c.Cert, Key: c.Key, Logger: logger,
	}
}

// Import is an index that goes on in a stream, which is created for it.
type Import struct {
	Claim string // names the index; whoever creates the stream has it for its own
	After uint64 // position of the last entry that the index has: the stream begins behind it
}

// importClaim is what of the metadata of a stream has the claim.
const importClaim = "recall-import"

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

// Open connects to the servers, checks that they keep what they acknowledge, and creates the stream if it is not there.
// Until ctx ends it waits for servers that do not answer; then it fails with [shared.ErrUnavailable]. What it refuses
// is an error that says what to change.
func Open(ctx context.Context, o Options) (_ *Stream, err error) {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if err := checkDurability(ctx, &o); err != nil {
		return nil, err
	}
	nc, err := connect(ctx, &o, o.Credentials)
	if err != nil {
		return nil, err
	}
	s := &Stream{options: o, nc: nc}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(requestTimeout),
		jetstream.WithPublishAsyncTimeout(ackTimeout)); err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	info, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkStream(&info.Config, &o); err != nil {
		return nil, err
	}
	if err := o.Import.check(info); err != nil {
		return nil, err
	}
	s.created = info.Created
	return s, nil
}

// open finds or creates the stream.
func (s *Stream) open(ctx context.Context) (info *jetstream.StreamInfo, err error) {
	what := "open the stream " + s.options.Stream
	err = s.retry(ctx, what, func(ctx context.Context) error {
		stream, err := s.js.Stream(ctx, s.options.Stream)
		isMissing := errors.Is(err, jetstream.ErrStreamNotFound)
		switch {
		case isMissing && s.options.Existing && s.isGone(err):
			return nil
		case isMissing && !s.options.Existing:
			stream, err = s.js.CreateStream(ctx, s.config())
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another process has just created it
				stream, err = s.js.Stream(ctx, s.options.Stream)
			}
		}
		if err == nil {
			info = stream.CachedInfo() // of this answer: a server that is asked again may not know yet of a stream that is new
		}
		return err
	})
	if err == nil && info == nil {
		err = fmt.Errorf("%s: %w", what, journal.ErrGone)
	}
	return info, err
}

// config is that of a new stream.
func (s *Stream) config() jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name: s.options.Stream, Subjects: []string{s.subject("log")}, Storage: jetstream.FileStorage,
		Replicas: s.options.Replicas, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		Compression: jetstream.S2Compression, DenyDelete: true, Duplicates: time.Second,
	}
	if im := s.options.Import; im != nil {
		c.FirstSeq, c.Metadata = im.After+1, map[string]string{importClaim: im.Claim}
	}
	return c
}

// check refuses a stream that was not created for this import.
func (im *Import) check(info *jetstream.StreamInfo) error {
	if im == nil {
		return nil
	}
	is := "with entries up to " + strconv.FormatUint(info.State.LastSeq, 10)
	switch claim := info.Config.Metadata[importClaim]; claim {
	case im.Claim:
		return nil
	case "":
	default:
		is = "for the import of " + claim
	}
	return fmt.Errorf("the stream %s is there already, %s, and the import of %s needs a new one; name another stream, or "+
		"delete it if nothing in it is needed (nats stream rm %s)", info.Config.Name, is, im.Claim, info.Config.Name)
}

// retry makes a request again and again, each time with a time of its own, until it succeeds, is refused or ctx ends.
func (s *Stream) retry(ctx context.Context, what string, request func(context.Context) error) error {
	for {
		try, cancel := context.WithTimeout(ctx, requestTimeout)
		err := request(try)
		cancel()
		var refused *jetstream.APIError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused) && !isTransient(refused), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-time.After(requestRetry):
		case <-ctx.Done():
			return fmt.Errorf("%w: %s: %w", shared.ErrUnavailable, what, err)
		}
	}
}

// isTransient reports whether the servers may answer otherwise soon: a server may not know yet of a stream that is new,
// and while servers start they are too few for one.
func isTransient(refused *jetstream.APIError) bool {
	return refused.Code >= 500 || refused.ErrorCode == serverOffline ||
		refused.ErrorCode == jetstream.JSErrCodeStreamNotFound
}

// checkStream refuses a stream that loses entries by itself.
func checkStream(c *jetstream.StreamConfig, o *Options) error {
	var wrong string
	switch {
	case c.Storage != jetstream.FileStorage:
		wrong = "it is in memory"
	case c.Replicas < o.Replicas:
		wrong = fmt.Sprintf("it has %d replicas, and cluster.replicas is %d", c.Replicas, o.Replicas)
	case c.Retention != jetstream.LimitsPolicy:
		wrong = "it drops what was read"
	case c.MaxAge > 0 || c.MaxMsgs > 0 || c.MaxMsgsPerSubject > 0:
		wrong = "it drops entries by age or number"
	case c.MaxBytes > 0 && c.Discard != jetstream.DiscardNew:
		wrong = "it drops old entries when it is full"
	case c.Mirror != nil || len(c.Sources) > 0:
		wrong = "it copies another stream"
	case len(c.Subjects) != 1 || c.Subjects[0] != subject(o.Stream, "log"):
		wrong = fmt.Sprintf("it has the subjects %q", c.Subjects)
	default:
		return nil
	}
	return fmt.Errorf("the stream %s cannot be the log of a cluster: %s; edit it, or name another one", o.Stream, wrong)
}

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

// connect connects to any of the servers. A connection that is lost is made again, also after the servers refused the
// credentials: they may be given back, or the file replaced.
func connect(ctx context.Context, o *Options, credentials string) (*nats.Conn, error) {
	var refused atomic.Bool // which was logged
	opts := []nats.Option{
		nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			switch {
			case !isRefusal(err):
				o.Logger.Warn("the connection to the servers of the cluster has a problem", "error", err)
			case !refused.Swap(true):
				o.Logger.Error("the servers refuse the credentials of this node, which are tried again", "file", credentials,
					"error", err)
			}
		}),
		nats.Name("recall " + o.Node), nats.Timeout(connectTimeout), nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 100*time.Millisecond),
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1), // what cannot be sent fails at once
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				o.Logger.Warn("the connection to the servers of the cluster is lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			refused.Store(false)
			o.Logger.Info("connected to a server of the cluster again", "url", nc.ConnectedUrlRedacted())
		}),
	}
	login, err := login(credentials)
	if err != nil {
		return nil, err
	}
	opts = append(opts, login...)
	if o.CA != "" {
		opts = append(opts, nats.RootCAs(o.CA))
	}
	if o.Cert != "" {
		opts = append(opts, nats.ClientCert(o.Cert, o.Key))
	}
	for {
		nc, err := nats.Connect(strings.Join(o.URLs, ","), opts...)
		switch {
		case err == nil:
			return nc, nil
		case isRefusal(err):
			return nil, fmt.Errorf("the servers %s refuse the credentials of %q: %w", strings.Join(o.URLs, ", "),
				credentials, err)
		}
		select {
		case <-time.After(requestRetry):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: connect to %s: %w", shared.ErrUnavailable, strings.Join(o.URLs, ", "), err)
		}
	}
}

// isRefusal reports whether servers do not accept the credentials.
func isRefusal(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}
