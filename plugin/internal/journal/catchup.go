package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// maxCatchUp bounds the entries that are applied in one go.
const maxCatchUp = 500

// CatchUp applies everything to an index that was acknowledged before the call, without a node that runs. It fails with
// [shared.ErrUnavailable] if the log does not answer for DefaultPatience, and with [ErrTrimmed] if what the index lacks
// was removed.
func CatchUp(ctx context.Context, x *index.Index, s Stream, node string) error {
	c := &catchUp{index: x, after: x.Log().Position}
	c.end = index.LogEntry{Node: node, Process: newProcess(), Number: firstBarrier + 1}
	c.answered = time.Now()
	for {
		err := c.publishEnd(ctx, s)
		if err == nil {
			break
		}
		if errors.Is(err, index.ErrNewer) || errors.Is(err, index.ErrCorrupt) {
			return err
		}
		if err := c.wait(ctx, err); err != nil {
			return err
		}
	}
	for {
		err := s.Follow(ctx, c.after, c.handle)
		switch {
		case c.err != nil:
			return c.err
		case errors.Is(err, errCaughtUp):
			return nil
		}
		if err := c.wait(ctx, err); err != nil {
			return err
		}
	}
}

var errCaughtUp = errors.New("everything is applied")

// catchUp reads the log up to a barrier.
type catchUp struct {
	index    *index.Index
	end      index.LogEntry // the barrier
	after    uint64         // position of the last entry that was read
	answered time.Time      // when it was read
	entries  []index.LogEntry
	err      error // why it cannot go on
}

// wait waits before the log is tried again, unless it has failed for too long.
func (c *catchUp) wait(ctx context.Context, because error) error {
	if time.Since(c.answered) > DefaultPatience {
		return fmt.Errorf("%w: the log has not answered for %s: %w", shared.ErrUnavailable, DefaultPatience, because)
	}
	select {
	case <-time.After(applyRetry):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *catchUp) handle(position uint64, data []byte) error {
	var e index.LogEntry
	if e, c.err = readEntry(position, data, c.after, EntryFormat); c.err != nil {
		return c.err
	}
	c.after, c.answered = position, time.Now()
	c.entries = append(c.entries, e)
	isEnd := e.Node == c.end.Node && e.Process == c.end.Process
	for len(c.entries) > 0 && (isEnd || len(c.entries) >= maxCatchUp) {
		applied, err := c.index.ApplyLog(c.entries)
		if err != nil {
			c.err = fmt.Errorf("apply the log: %w", err)
			return c.err
		}
		c.entries = c.entries[len(applied):]
	}
	if isEnd {
		return errCaughtUp
	}
	return nil
}

// publishEnd puts the barrier into a stream, in the format of the entry before it, and waits until it is there.
func (c *catchUp) publishEnd(ctx context.Context, s Stream) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	format, err := LastFormat(ctx, s, EntryFormat)
	if err != nil {
		return err
	}
	data, err := encodeEntry(&c.end, format)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	s.Publish(ctx, data, func(err error) { done <- err })
	return <-done
}
