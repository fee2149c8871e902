// Package journal orders the operations of the index. The index is a state machine: it applies the entries of an
// ordered log, each at its position, with [index.Index.Apply]. A log decides what the next entry is. [Local] is that of
// a single machine: its order is the order of the commits, and its disk is the index. [Replicated] is that of a node of
// a cluster: its order is that of a [Stream], which all nodes follow.
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

	// Barrier returns once everything that was acknowledged anywhere before the call is applied here.
	Barrier(ctx context.Context) error

	// OnOpen sets the function that is called, once for each step, after an entry that opened this step for any event;
	// first is the lowest sequence of those events, see [index.Applied]. f runs on the goroutine that commits, after the
	// calls of the entry were answered, and must not block.
	OnOpen(f func(step string, first uint64))

	// Spends passes what recalls spent of limits: to stored the newest that the index has, at most so many and the oldest
	// of them first; and to later, from then on, what is applied that no call of this process is answered for. later must
	// not block.
	Spends(most uint64, stored, later func(*index.Spend)) error

	// Flush shortens the replay after a crash, see [index.Index.Flush].
	Flush(ctx context.Context) error

	// Progress returns how many calls and reads wait for the index, and how much it has done. It is stuck if something
	// waits and nothing is done for long.
	Progress() (waiting int, done uint64)

	// Stats returns the numbers of the log since it was started.
	Stats() Stats

	// Close answers the waiting calls, and closes the index. It may be called again.
	Close() error
}

// Stats are the numbers of a log since it was started.
type Stats struct {
	Overloads  uint64 // calls that were refused because too much was waiting
	QueueCalls int    // calls that wait
	QueueBytes int    // about what their operations write
}
