package index

import (
	"context"
	"time"

	"github.com/chat-recall/recall/shared"
)

// The index is a state machine: it applies an ordered log of decided operations. Everything that a decision needed
// the clock, the rules or chance for is in the operation, so applying one is deterministic, and applying it twice
// changes nothing.

// Log orders operations. On one machine the committer of the index is the log; a replicated log would stand in its
// place, and every node would apply what comes back.
type Log interface {
	// Append returns once all ops are applied and on disk, in their order and nothing between them, with one Result
	// an op. It fails with shared.ErrOverloaded, having done nothing, when too much is waiting; with shared.ErrInvalid
	// when a message is recalled by other facts than it is indexed with; with shared.ErrUnavailable when the index is
	// released.
	Append(ctx context.Context, ops []Op) ([]Result, error)
}

// Op is one decided operation. Exactly one field is set.
type Op struct {
	Put    *shared.Message // this message exists
	Recall *Recall         // this message, of these facts, was recalled so, unless it has a tombstone
	Settle *Settle         // this step was settled so, unless it is settled
}

// Recall is a decided recall of one message.
type Recall struct {
	Event shared.Event // all but Sequence, Attachments, Steps and Attempt; Message is complete and is indexed if it is not
	Steps []string     // the steps of this recall, in the order of the ledger; notify, if any, opens the others

	// Unsupported are those of Steps that the host does not carry out: settled so from the start.
	Unsupported []string
}

// Settle is what became of one step of one event.
type Settle struct {
	Sequence uint64
	Step     string
	Outcome  shared.Outcome
	Error    string // of OutcomeFailed
	At       time.Time
}

// Result is what applying one operation did.
type Result struct {
	Put IndexStatus // of a Put

	// Of a Recall: the tombstone of the message, made now or before, and whether this operation made it.
	Tombstone Tombstone
	New       bool
}

// IndexStatus is shared.IndexStatus.
type IndexStatus = shared.IndexStatus

// Tombstone is what the index keeps of who took a message back.
type Tombstone struct {
	RecallID   string
	RecalledBy shared.Actor
	RecalledAt time.Time
	Sequence   uint64
}
