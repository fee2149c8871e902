package index

import (
	"time"

	"github.com/chat-recall/recall/shared"
)

// Op is one decided operation. Exactly one field is set, and Judged with Put only. Everything that the decision needed
// the clock, the rules or chance for is in it, so applying it is deterministic, and applying it twice changes nothing.
// Batches of messages have one for each, so it is kept small.
type Op struct {
	Put    *shared.Message   // this message exists
	Amend  *shared.Amendment // these facts of a live message changed
	Recall *Recall           // this message was recalled, unless it already is or the recall id is another actor's
	Settle *Settle           // this attempt of a step ended so, unless the step is settled
	Ungate *Ungate           // the steps of this event wait no longer for notify
	Join   *Join             // this node is one of the cluster from here on
	Leave  *Leave            // this node is none of it any more, and its open steps are no longer its
	Forget *Forget           // messages are erased
	Job    *JobOp            // a bulk recall started, went on or ended

	Judged *Judged // of a Put: what was decided about its message; nil: nothing was

	Wait    *shared.Waiting // this recall waits for its message
	EndWait *EndWait        // this recall waits no longer

	Cascade *Cascade // further messages that relate to a recalled one are recalled with it

	record string // of a Put that was read from a log: what it has of the facts; it is written as it is
}

// Judged is what was decided about a new message.
type Judged struct {
	// Waited are the recalls that waited for the message, in the order of their requests, as they were decided.
	Waited []Waited

	Late *Late // about the recalls that a message with relations would go with; nil: it goes with any
}

func (op *Op) waited() []Waited {
	if op.Judged == nil {
		return nil
	}
	return op.Judged.Waited
}

func (op *Op) late() *Late {
	if op.Judged == nil {
		return nil
	}
	return op.Judged.Late
}

// Recall is a decided recall of one message.
type Recall struct {
	// Event is complete but for Sequence and Attachments. Message has the facts that were judged; an unknown message is
	// indexed with them, unless Known.
	Event shared.Event

	// Known says that the facts are those of the index. If it has none when the recall is applied, the message was erased
	// since, and the recall is stale.
	Known bool

	Steps []string // the steps of this recall, in the order of the ledger; an open notify keeps the others waiting

	// After names, by step, the steps that are settled before it is queued. It is transitive: a step that waits for
	// another one waits for what that waits for too. Steps that are not of this recall, or settled from the start, count
	// as settled. Notify waits for none.
	After map[string][]string

	// Unsupported are those of Steps that no host carries out: settled so from the start.
	Unsupported []string

	// Cascade are the kinds of relation by which other messages are recalled with this one, besides edits. With are the
	// messages that relate to it, and to those that go with it, as they were judged: see [Index.FindRelated].
	Cascade Kinds
	With    []With

	Originals uint64 // if the message is an edit: those that it was judged by, see [Index.EditFacts]

	Spend *Spend // of a limit of the rules; nil: it spends nothing

	// Atomic applies this recall only together with all others of its call, in one transaction. See Result.
	Atomic bool
}

// Cascade recalls further messages that relate to the message of an event: those that did not fit in the commit of its
// recall. It is repeated until the event is not among [Index.OpenCascades] any more.
type Cascade struct {
	Tenant   string
	Sequence uint64
	After    string // of the OpenCascade that was read; of another one it changes nothing
	With     []With // as in a Recall
}

// Settle is what became of one attempt of one step of one event.
//
// Attempts are ordered by number, not by time. A failure counts if it is that of the attempt after the last one that
// counted; any other one is a repetition and changes nothing. An outcome that settles the step counts whichever attempt
// it is of: one that was given up and succeeds late settles the step, and is not counted twice.
type Settle struct {
	Sequence uint64
	Step     string
	Attempt  int // from 1; 0, where Outcome settles the step: the next
	Outcome  shared.Outcome
	Error    string    // of OutcomeFailed
	At       time.Time // for the ledger
	Node     string    // whose host carried it out; empty on a single machine
}

// Ungate opens the steps of an event that wait for its notify. For an event without such steps it changes nothing.
type Ungate struct {
	Sequence uint64
}

// Result is what applying one operation did.
type Result struct {
	Put     shared.IndexStatus // of a Put or an Amend
	Related []shared.Related   // of a Put of a live message: the recalled messages that it relates to

	// Of a Recall: the tombstone of the message, made now or before, and whether this operation made it. The tombstone
	// is empty if the message was recalled and then forgotten. Both are zero if the recall was not applied, or if the
	// slice of a job that it belongs to does not go on where the job is. Of a Put, New says that a recall that waited
	// for the message recalled it; of a Wait, that it waits.
	Tombstone *Tombstone
	New       bool

	// Of a Recall or Wait: it was not applied, because another actor used its recall id first.
	OtherActor bool

	// Of a Recall or Cascade: it was not applied, because the facts of the message, or the messages that relate to it,
	// changed since they were judged. Of a Put: other recalls wait for the message, or took back what it relates to. Of
	// a Wait: the message is known by now. Judge it again.
	Stale bool

	// Of a Wait: it was not applied, because as many wait as may.
	Full bool

	// Of an Atomic Recall, or one of a slice of a job: it was not applied, because another one of its call was not.
	Aborted bool

	// Of a Settle: where the step stands after it, on its node.
	Step StepState

	// Of a Join: the node as it is after it, another process's unless New; nil: it is no member. Of a Join and a Leave:
	// More says that it did a part, and is to be written again.
	Member *Member
	More   bool

	Forgot *Forgot // of a Forget; nil: of another one

	// Of a JobOp: the job as it is after it. New says that it was applied.
	Job *Job
}

// StepState is where a step stands. Zero: it is settled.
type StepState struct {
	Open     bool
	Attempts int    // that failed
	Position uint64 // of the last of them among all failed attempts of the index
}

// Tombstone is what the index keeps of who took a message back.
type Tombstone struct {
	RecallID   string
	RecalledBy string // the actor's id
	Role       shared.Role
	RecalledAt time.Time
	Sequence   uint64
	Cascade    Kinds // as in Recall
}
