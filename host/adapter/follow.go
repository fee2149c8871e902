package adapter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

	// Cursor is the file in which the cursor is kept; empty: every pass begins before everything, for a Read that gives
	// only what is still to do.
	Cursor string

	Every time.Duration // between two passes; 0: a pass is made when Wake is called
	Log   hclog.Logger

	mu    sync.Mutex // held during a pass
	once  sync.Once
	awake chan struct{}
}

// Wake makes Run make a pass now.
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
		if err != nil {
			failures = min(max(2*failures, firstWait), maxWait)
			f.Log.Warn(f.What+" not followed; trying again", "in", failures, "error", err)
			next = time.After(failures)
		} else {
			failures = 0
			if f.Every > 0 {
				next = time.After(f.Every)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		case <-f.alarm():
		}
	}
}

// Once makes one pass: it reads until there is no more.
func (f *Follower[T]) Once(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	after, err := f.readCursor()
	if err != nil {
		return err
	}
	for {
		page, err := f.Read(ctx, after)
		if err != nil {
			return fmt.Errorf("read %s: %w", f.What, err)
		}
		if len(page.Items) > 0 {
			if err := f.Do(ctx, page.Items); err != nil {
				return err
			}
		}
		if page.Next != after {
			if err := f.keepCursor(page.Next); err != nil {
				return err
			}
		}
		if !page.More {
			return nil
		}
		if page.Next == after { // it would never end
			return fmt.Errorf("read %s: there is more after cursor %q, but the page ends there too", f.What, after)
		}
		after = page.Next
	}
}

func (f *Follower[T]) readCursor() (string, error) {
	if f.Cursor == "" {
		return "", nil
	}
	text, err := os.ReadFile(f.Cursor)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return string(text), err
}

func (f *Follower[T]) keepCursor(cursor string) error {
	if f.Cursor == "" {
		return nil
	}
	return replaceFile(f.Cursor, []byte(cursor))
}

// replaceFile writes a file so that after a crash it has the old or the new content.
func replaceFile(path string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // gone if it was renamed
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
	if indexed == nil {
		indexed = func(_ context.Context, m shared.Message, r shared.IndexResult) error {
			if r.Status == shared.IndexInvalid || r.Status == shared.IndexConflict {
				log.Warn("message cannot be indexed, and so not be recalled", "message_id", m.ID, "status", r.Status,
					"field", r.Field, "problem", r.Problem)
			}
			return nil
		}
	}
	return func(ctx context.Context, msgs []shared.Message) error {
		results, err := a.index(ctx, msgs)
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

// index indexes messages of the adapter's tenant.
func (a *Adapter) index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	recall, err := a.plugin(ctx)
	if err != nil {
		return nil, err
	}
	for i := range msgs {
		msgs[i].Tenant = a.Tenant
	}
	results, err := recall.Index(ctx, msgs)
	if err != nil {
		return nil, fmt.Errorf("index messages: %w", err)
	}
	return results, nil
}
