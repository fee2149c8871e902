package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// Stream is a sequence of entries that several nodes share, in one order, and of which none is lost once it was
// acknowledged. An adapter to an engine implements it.
type Stream interface {
	// Publish puts an entry at the end, and calls done once, from any goroutine: with nil when it will not be lost any
	// more, else with why it may not be there. What ctx ends may still come to be there. Entries come in the order of the
	// calls, but for those that fail. Publish blocks for a moment at most.
	Publish(ctx context.Context, data []byte, done func(error))

	// Follow hands over every entry after a position, each once and in order, until ctx ends or handle fails. Positions
	// are consecutive, and start at 1. It fails with [ErrGone] if the log will not come back.
	Follow(ctx context.Context, after uint64, handle func(position uint64, data []byte) error) error

	// Last returns the last entry; nil: there is none.
	Last(ctx context.Context) (data []byte, err error)
}

// LastFormat is the format of the last entry of a log; the oldest if there is none. It fails with [index.ErrNewer] or
// [index.ErrCorrupt], each with [shared.ErrUnavailable], if a version that reads formats up to newest cannot read it.
func LastFormat(ctx context.Context, s Stream, newest int) (int, error) {
	data, err := s.Last(ctx)
	if err != nil || data == nil {
		return index.OldestOpFormat, err
	}
	if err := checkFormat(data, newest); err != nil {
		return 0, fmt.Errorf("%w: the last entry of the log: %w; upgrade this plugin", shared.ErrUnavailable, err)
	}
	return int(data[1]), nil
}

// ErrGone is what Follow fails with if the log was deleted, also if there is another one in its place.
var ErrGone = fmt.Errorf("%w: the log of the cluster is gone", shared.ErrUnavailable)

// ErrTooLarge is what Publish fails with for an entry that the engine never takes.
var ErrTooLarge = errors.New("the entry is larger than the servers take; raise their max_payload")
