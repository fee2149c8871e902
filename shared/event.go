package shared

import "time"

// The steps of a recall that every host knows by the same name. A host may have others of its own.
const (
	StepNotify      = "notify"      // tell the clients; the other steps wait until it is settled, for at most 30 s
	StepHistory     = "history"     // remove the message from the history store
	StepOffline     = "offline"     // remove it from the queues of users who are away
	StepRoaming     = "roaming"     // remove it from what a new device synchronises
	StepAttachments = "attachments" // delete Event.Attachments
	StepSearch      = "search"      // remove it from the search index
	StepPush        = "push"        // withdraw it from push notifications
)

// StandardSteps are the steps of every recall, in the order that a ledger lists them.
func StandardSteps() []string {
	return []string{StepNotify, StepHistory, StepOffline, StepRoaming, StepAttachments, StepSearch, StepPush}
}

// Outcome is what became of a step; empty while it is open and was not tried.
type Outcome string

// The outcomes. All but OutcomeFailed settle the step.
const (
	OutcomeDone        Outcome = "done"
	OutcomeNothingToDo Outcome = "nothing_to_do"
	OutcomeUnsupported Outcome = "unsupported" // the host has no such step; never to be read as done
	OutcomeFailed      Outcome = "failed"      // and is delivered again
)

// Settles tells whether a step with this outcome is closed.
func (o Outcome) Settles() bool {
	return o == OutcomeDone || o == OutcomeNothingToDo || o == OutcomeUnsupported
}

// Disposition is what the host does with the content of a recalled message.
type Disposition string

// The dispositions. With either, every step removes the message from where users read it.
const (
	// DispositionErase leaves nothing of the content anywhere.
	DispositionErase Disposition = "erase"

	// DispositionArchive keeps the content, with the attachments in Event.Attachments, where only compliance reads
	// it: until Event.RecalledAt plus Event.Retention and no longer. The step that removes the last readable copy puts
	// it there first, and puts it there once: a step can run again.
	DispositionArchive Disposition = "archive"
)

// Event is one committed recall of one message.
type Event struct {
	Sequence   uint64    `json:"sequence"` // grows with every recall of the index
	Tenant     string    `json:"tenant"`
	RecallID   string    `json:"recall_id"`
	Actor      Actor     `json:"actor"`
	Ext        string    `json:"ext,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	RecalledAt time.Time `json:"recalled_at"` // the moment by which it was judged
	Message    Message   `json:"message"`

	// Silent, Tombstone, Disposition and Retention are what the rule that decided asks for in on_recall.

	// Silent asks clients to remove the message and show nothing in its place.
	Silent bool `json:"silent,omitempty"`

	// Tombstone is what clients show in its place: language tag, as in "en" or "zh-Hans", to a text in which {actor},
	// {sender}, {role}, {type} and {reason} stand for what the host shows for them. A client takes the text of its
	// language, else of the first part of the tag, else the English one, else the first by tag. Empty where the rules
	// name none: then clients show the host's own words, unless Silent.
	Tombstone map[string]string `json:"tombstone,omitempty"`

	Disposition Disposition   `json:"disposition"`
	Retention   time.Duration `json:"retention,omitempty"` // how long an archive keeps it, from RecalledAt on; 0 with DispositionErase

	// Attachments are those of the message that no other live message of the tenant uses: the ones to delete, or to
	// archive.
	Attachments []string `json:"attachments,omitempty"`

	Rule         Rule   `json:"rule"`
	PolicyDigest string `json:"policy_digest,omitempty"` // SHA-256 of the rules that decided, hex

	Steps   []string `json:"steps,omitempty"`   // the open steps that this delivery asks for
	Attempt int      `json:"attempt,omitempty"` // 1 for the first delivery of these steps
}

// Notice is what a host tells one client about a recall.
type Notice struct {
	RecallID     string       `json:"recall_id"`
	Actor        Actor        `json:"actor"`
	MessageID    string       `json:"message_id"`
	Conversation Conversation `json:"conversation"`
	Ext          string       `json:"ext,omitempty"`
	RecalledAt   time.Time    `json:"recalled_at"`
	Message      *Message     `json:"message,omitempty"` // nil for a client that never received it

	Silent    bool              `json:"silent,omitempty"`    // the client shows nothing in place of the message
	Tombstone map[string]string `json:"tombstone,omitempty"` // else it shows this, if not empty; see Event.Tombstone
}

// Notice makes the notice for one client. delivered tells whether that client ever received the message: one that
// was away both when it was sent and when it was recalled did not, and is not told what it was.
func (e Event) Notice(delivered bool) Notice {
	n := Notice{
		RecallID: e.RecallID, Actor: e.Actor, MessageID: e.Message.ID, Conversation: e.Message.Conversation,
		Ext: e.Ext, RecalledAt: e.RecalledAt, Silent: e.Silent, Tombstone: e.Tombstone,
	}
	if delivered {
		m := e.Message
		n.Message = &m
	}
	return n
}

// Ledger is what became of a recall: an entry for each message that it took back.
type Ledger struct {
	Tenant   string        `json:"tenant"`
	RecallID string        `json:"recall_id"`
	Entries  []LedgerEntry `json:"entries"`
}

// LedgerRequest asks for a page of the ledger of one recall.
type LedgerRequest struct {
	Tenant   string
	RecallID string
	After    uint64 // the Next of an earlier page; 0: from the first entry
	Limit    int    // 1 to MaxLedgerLimit; 0 means MaxLedgerLimit
}

// LedgerPage is one page of a ledger, in the order of its events. It ends before the limit where its entries come to
// megabytes.
type LedgerPage struct {
	Entries []LedgerEntry
	Next    uint64 // After of the next page
	More    bool   // there are further entries
}

// LedgerEntry is one recalled message with its steps.
type LedgerEntry struct {
	Event Event        `json:"event"`
	Steps []StepRecord `json:"steps"`
}

// StepRecord is where one step stands.
type StepRecord struct {
	Step    string  `json:"step"`
	Outcome Outcome `json:"outcome,omitempty"` // empty: open and not yet tried; failed: open, to be tried again
	// how many had an outcome; one that was given up and succeeds late counts once
	Attempts  int       `json:"attempts"`
	Error     string    `json:"error,omitempty"` // of the last failed attempt
	ChangedAt time.Time `json:"changed_at,omitzero"`
}
