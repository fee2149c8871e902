package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/chat-recall/recall/shared"
)

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
