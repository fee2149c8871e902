package adapter

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// feedTimeout is how long a send waits for the plugin before its message is spooled.
const feedTimeout = time.Second

// Feed indexes messages as they are sent, on a platform that must not wait for the plugin and that nobody can read them
// from later. What cannot be indexed within a second is spooled to disk; until it is indexed, everything else is
// spooled after it at once, so that a plugin that is away delays one send and no more, and the order stays.
type Feed struct {
	adapter *Adapter
	spool   *Spool
	follow  Follower[shared.Message]
}

// OpenFeed opens a feed with its spool in a folder.
func (a *Adapter) OpenFeed(dir string, log hclog.Logger) (*Feed, error) {
	spool, err := OpenSpool(dir, log)
	if err != nil {
		return nil, err
	}
	index := a.Index(log, nil)
	return &Feed{a, spool, Follower[shared.Message]{
		What: "spooled messages", Read: spool.Read, Cursor: filepath.Join(dir, "cursor"), Log: log,
		Do: func(ctx context.Context, msgs []shared.Message) error {
			if err := index(ctx, msgs); err != nil {
				return err
			}
			return spool.Handled()
		},
	}}, nil
}

// Run indexes what is spooled, until ctx ends.
func (f *Feed) Run(ctx context.Context) { f.follow.Run(ctx) }

// Close closes the spool. End Run before.
func (f *Feed) Close() error { return f.spool.Close() }

// Index indexes messages, or spools them: then there are no results. A [*shared.FieldError] says that the call is
// malformed; any other error that the messages are neither indexed nor spooled, such as a full disk.
func (f *Feed) Index(ctx context.Context, msgs []shared.Message) (results []shared.IndexResult, spooled bool,
	err error) {
	var cause error
	if f.spool.Empty() {
		try, cancel := context.WithTimeout(ctx, feedTimeout)
		defer cancel()
		results, cause = f.adapter.index(try, msgs)
		if cause == nil || errors.Is(cause, shared.ErrInvalid) {
			return results, false, cause
		}
	}
	if err := f.spool.Add(msgs...); err != nil {
		return nil, false, errors.Join(err, cause)
	}
	f.follow.Wake()
	return nil, true, nil
}
