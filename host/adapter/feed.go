package adapter

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// feedTimeout is how long a send waits for the plugin before its message is spooled.
const feedTimeout = time.Second

// Feed indexes messages as they are sent, on a platform that must not wait for the plugin and that nobody can read them
// from later. What cannot be indexed within a second is spooled to disk. Until all that is indexed, every other message
// is spooled after it at once: a plugin that is away delays the sends of one second and no more, and the order stays.
type Feed struct {
	adapter *Adapter
	spool   *Spool
	follow  Follower[shared.Message]
}

// OpenFeed opens the feed of the adapter with its spool in a folder. While messages are spooled, a recall of a message
// that neither the plugin nor the platform knows is answered with shared.ErrUnavailable.
func (a *Adapter) OpenFeed(dir string, log hclog.Logger) (*Feed, error) {
	spool, err := OpenSpool(dir, log)
	if err != nil {
		return nil, err
	}
	f := &Feed{adapter: a, spool: spool}
	index := a.Index(log, nil)
	f.follow.What, f.follow.Read, f.follow.Log = "spooled messages", spool.Read, log
	f.follow.Do = func(ctx context.Context, msgs []shared.Message) error {
		if err := index(ctx, msgs); err != nil {
			return err
		}
		return spool.Handled()
	}
	a.mu.Lock()
	a.feed = f
	a.mu.Unlock()
	return f, nil
}

// Run indexes what is spooled, until ctx ends.
func (f *Feed) Run(ctx context.Context) { f.follow.Run(ctx) }

// Close closes the spool. End Run before.
func (f *Feed) Close() error { return f.spool.Close() }

// Index indexes messages, or spools them: then there are no results. A [*shared.FieldError] says that the call is
// malformed; any other error, such as a full disk while the plugin is away, that nothing is spooled. Then send the same
// messages again later.
func (f *Feed) Index(ctx context.Context, msgs []shared.Message) (results []shared.IndexResult, spooled bool,
	err error) {
	if len(msgs) > shared.MaxIndexBatch {
		return nil, false, shared.Invalidf("messages", "%d entries; at most %d", len(msgs), shared.MaxIndexBatch)
	}
	var cause error
	tried := f.spool.Empty()
	if tried {
		results, cause = f.try(ctx, msgs)
		if cause == nil || errors.Is(cause, shared.ErrInvalid) {
			return results, false, cause
		}
	}
	if err := f.spool.Add(msgs...); err != nil {
		if !tried && !errors.Is(err, shared.ErrInvalid) { // the plugin may be back
			if results, cause = f.try(ctx, msgs); cause == nil {
				return results, false, nil
			}
		}
		return nil, false, errors.Join(err, cause)
	}
	f.follow.Wake()
	return nil, true, nil
}

func (f *Feed) try(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	ctx, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	return f.adapter.index(ctx, msgs)
}
