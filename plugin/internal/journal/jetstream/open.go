package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

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
