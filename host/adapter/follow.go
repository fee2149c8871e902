package adapter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// Page is some of what a platform has, in an order of the platform.
type Page[T any] struct {
	Items []T
	Next  string // the cursor after them
	More  bool   // there is more at this moment
}

const (
	firstWait = time.Second
	maxWait   = 5 * time.Second
)

// Follower reads what a platform has, page by page, and acts on it. It goes on where it was when it last ended: what
// was added meanwhile is not missed. After a crash, the last page comes again.
type Follower[T any] struct {
	What string // what it reads, for the log: "posts"

	// Read reads a page after a cursor; an empty one is before everything. What is added later must come after every
	// cursor that was given out, or be read again: a Read may go back a little, if Do does nothing twice.
	Read func(ctx context.Context, after string) (Page[T], error)

	// Do acts on the items of a page. If it fails, it gets the page again.
	Do func(ctx context.Context, items []T) error

	// Cursor is the file in which the cursor is kept: beside the index, so that one is not lost without the other. Empty:
	// every pass begins before everything, for a Read that gives only what is still to do.
	Cursor string

	Every time.Duration // between two passes; 0: a pass is made when Wake is called
	Log   hclog.Logger  // nil: no log

	mu     sync.Mutex // held during a pass
	loaded bool
	cursor string // up to where Do has succeeded
	once   sync.Once
	awake  chan struct{}
}

// Wake makes Run make a pass now, or, if the last one failed, when it would try again anyway.
func (f *Follower[T]) Wake() {
	select {
	case f.alarm() <- struct{}{}:
	default:
	}
}

func (f *Follower[T]) alarm() chan struct{} {
	f.once.Do(func() { f.awake = make(chan struct{}, 1) })
	return f.awake
}

// Run makes passes until ctx ends: one at once, then every Every and when Wake is called. After an error it tries
// again, after one second at first and five at most.
func (f *Follower[T]) Run(ctx context.Context) {
	failures := time.Duration(0)
	for {
		err := f.Once(ctx)
		if ctx.Err() != nil {
			return
		}
		var next <-chan time.Time
		awake := f.alarm()
		switch {
		case err != nil:
			failures = min(max(2*failures, firstWait), maxWait)
			orNone(f.Log).Warn("cannot follow; trying again", "what", f.What, "in", failures, "error", err)
			next, awake = time.After(failures), nil
		case f.Every > 0:
			next = time.After(f.Every)
		}
		if err == nil {
			failures = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		case <-awake:
		}
	}
}

// Once makes one pass: it reads until there is no more.
func (f *Follower[T]) Once(ctx context.Context) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	after, err := f.start()
	if err != nil {
		return err
	}
	kept := error(nil) // what keeps the cursor from being kept; the pass goes on
	for {
		page, err := f.Read(ctx, after)
		if err != nil {
			return errors.Join(fmt.Errorf("read %s: %w", f.What, err), kept)
		}
		if len(page.Items) > 0 {
			if err := f.Do(ctx, page.Items); err != nil {
				return errors.Join(err, kept)
			}
		}
		if page.More && (page.Next == after || page.Next == "") { // it would never end
			return fmt.Errorf("read %s: there is more after cursor %q, but the page ends there too", f.What, after)
		}
		if page.Next != "" && page.Next != after {
			after = page.Next
			kept = f.keep(after)
		}
		if !page.More {
			return kept
		}
	}
}

// start is the cursor from which a pass begins.
func (f *Follower[T]) start() (string, error) {
	if f.Cursor == "" || f.loaded {
		return f.cursor, nil
	}
	text, err := os.ReadFile(f.Cursor)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the cursor of %s: %w", f.What, err)
	}
	f.loaded, f.cursor = true, string(text)
	return f.cursor, nil
}

func (f *Follower[T]) keep(cursor string) error {
	if f.Cursor == "" {
		return nil
	}
	f.cursor = cursor // whether or not it can be written: a full disk does not make a page come again
	if err := replaceFile(f.Cursor, []byte(cursor)); err != nil {
		return fmt.Errorf("keep the cursor of %s: %w", f.What, err)
	}
	return nil
}

// replaceFile writes a file so that after a crash it has the old or the new content.
func replaceFile(path string, content []byte) error {
	temp, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Indexed is called with a message and what the plugin answered.
type Indexed func(ctx context.Context, m shared.Message, r shared.IndexResult) error

// Index is the Do of a [Follower] of messages: it indexes them. Then it calls indexed with each of them; nil means to
// log a message that the plugin refuses.
func (a *Adapter) Index(log hclog.Logger, indexed Indexed) func(context.Context, []shared.Message) error {
	log = orNone(log)
	if indexed == nil {
		indexed = func(_ context.Context, m shared.Message, r shared.IndexResult) error {
			if r.Status == shared.IndexInvalid || r.Status == shared.IndexConflict {
				log.Error("message cannot be indexed, and so not be recalled", "message_id", m.ID, "status", r.Status,
					"field", r.Field, "problem", r.Problem)
			}
			return nil
		}
	}
	return func(ctx context.Context, msgs []shared.Message) error {
		results, err := a.indexAll(ctx, msgs)
		if err != nil {
			return err
		}
		for i, r := range results {
			if err := indexed(ctx, msgs[i], r); err != nil {
				return err
			}
		}
		return nil
	}
}

// indexAll indexes messages, and finds those because of which a whole call is refused.
func (a *Adapter) indexAll(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	results, err := a.index(ctx, msgs)
	var field *shared.FieldError
	switch {
	case !errors.As(err, &field):
		return results, err
	case len(msgs) == 1:
		return []shared.IndexResult{{MessageID: msgs[0].ID, Status: shared.IndexInvalid, Field: field.Field,
			Problem: field.Problem}}, nil
	}
	half := len(msgs) / 2
	first, err := a.indexAll(ctx, msgs[:half])
	if err != nil {
		return nil, err
	}
	rest, err := a.indexAll(ctx, msgs[half:])
	return append(first, rest...), err
}

// index indexes messages of the adapter's tenant.
func (a *Adapter) index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	recall, err := a.plugin(ctx)
	if err != nil {
		return nil, err
	}
	ours := slices.Clone(msgs)
	for i := range ours {
		ours[i].Tenant = a.tenant
	}
	results, err := recall.Index(ctx, ours)
	if err != nil {
		return nil, fmt.Errorf("index messages: %w", err)
	}
	return results, nil
}
