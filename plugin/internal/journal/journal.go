// Package journal orders the operations of the index. The index is a state machine: it applies the entries of an
// ordered log, each at its position, with [index.Index.Apply]. A log decides what the next entry is. [Local] is that of
// a single machine: its order is the order of the commits, and its disk is the index.
package journal

import (
	"context"

	"github.com/chat-recall/recall/internal/index"
)

// Log orders operations.
type Log interface {
	// Append returns once all ops are applied and on disk, in their order and with nothing between them, with one Result
	// for each. It fails with [shared.ErrUnavailable] when the index is released; with [shared.ErrOverloaded], having done
	// nothing, when too much is waiting; and with [shared.ErrInvalid], having done nothing, when the call is refused, see
	// [index.Answer].
	Append(ctx context.Context, ops []index.Op) ([]index.Result, error)

	// AppendThen is Append without waiting: it calls then once, from any goroutine and perhaps before it returns. then
	// must not block. alone says that nobody else is about to append, so that gathering calls gains nothing and the
	// calling goroutine may commit.
	AppendThen(ops []index.Op, alone bool, then func([]index.Result, error))
}
