package shared

import "time"

// IndexStatus is what Index and Amend did with one message.
type IndexStatus string

// The statuses of an IndexResult.
const (
	IndexAdded     IndexStatus = "indexed"   // Index: the message is on disk
	IndexAmended   IndexStatus = "amended"   // Amend: the change is on disk
	IndexUnchanged IndexStatus = "unchanged" // the index had the same facts already
	IndexConflict  IndexStatus = "conflict"  // Index: the id is live with other facts, which stay
	IndexRecalled  IndexStatus = "recalled"  // the message is recalled, whatever its facts: do not deliver it
	IndexNotFound  IndexStatus = "not_found" // Amend: the tenant has no such message
	// IndexInvalid: this message is malformed, see Field and Problem. The others are not affected.
	IndexInvalid IndexStatus = "invalid"
)

// IndexResult answers for one message given to Index or Amend.
type IndexResult struct {
	MessageID string      `json:"message_id"`
	Status    IndexStatus `json:"status"`

	// Field and Problem are those of a [FieldError], when Status is IndexInvalid. Field is relative to the message.
	Field   string `json:"field,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// Target is one message of a RecallRequest.
type Target struct {
	MessageID string `json:"message_id"`

	// Conversation is where the host looked up Role. A message that is indexed in another conversation is answered
	// not_found. It may be empty for RoleSystem only.
	Conversation Conversation `json:"conversation,omitzero"`

	Role   Role     `json:"role,omitempty"`   // of the actor in Conversation, now; empty means RoleMember
	Labels []string `json:"labels,omitempty"` // of Conversation, now, for rules such as a legal hold; at most MaxLabels

	// Message has facts for a message that may not be indexed, such as one sent before the plugin was installed: it is
	// then indexed and recalled in the same commit. Facts of a message that is indexed are ignored.
	Message *Message `json:"message,omitempty"`
}

// RecallRequest asks to recall messages of one tenant. Everything in it, the roles, labels, facts and RequestedAt above
// all, is the host's word: never copy it from what a client sent.
type RecallRequest struct {
	Tenant  string   `json:"tenant"`
	Targets []Target `json:"targets"` // 1 to MaxRecallTargets, each message once
	Actor   Actor    `json:"actor"`

	Ext    string `json:"ext,omitempty"`    // handed through to every notice; at most MaxExtBytes
	Reason string `json:"reason,omitempty"` // for rules that require one, and the ledger; at most MaxReasonBytes

	// RecallID makes a retry the same recall: a message that this actor already recalled under this id, whatever the role,
	// is answered recalled again. The id belongs to the actor that used it first: nobody else recalls under it
	// (CodeRecallIDUsed). At most MaxRecallMessages share it. The host package makes one (UUIDv7) where it is empty.
	RecallID string `json:"recall_id,omitempty"`

	// RequestedAt is when the request was made; zero means now. A time in the past lets a request that waited be judged by
	// when it was made. It must not be before a message was sent, nor in the future, by more than the policy's clock skew.
	RequestedAt time.Time `json:"requested_at,omitzero"`

	// Held is how long ago the request was made, where RequestedAt is zero: at most a day. The host package sets it to the
	// time for which it held the request. The plugin subtracts it from its own clock, to no moment before the message was
	// sent.
	Held time.Duration `json:"held,omitempty"`

	// Atomic recalls all targets or none. When one target is denied or not found, the others are answered StatusAborted
	// and nothing is committed. A target that was recalled before does not count against the others.
	Atomic bool `json:"atomic,omitempty"`
}

// RecallStatus is what Recall did with one target, or what Check says that Recall would do.
type RecallStatus string

// The statuses of a RecallResult.
const (
	StatusRecalled        RecallStatus = "recalled"
	StatusAlreadyRecalled RecallStatus = "already_recalled" // under another recall id, or by another actor
	StatusDenied          RecallStatus = "denied"
	StatusNotFound        RecallStatus = "not_found" // the tenant has no such message, or it is in another conversation
	StatusAborted         RecallStatus = "aborted"   // permitted, but another target of an Atomic request was refused
)

// Code is why a recall was denied. A rule may name others than these.
type Code string

// The codes of the built-in policy and of what every rule may require.
const (
	CodeForbidden         Code = "forbidden"
	CodeWindowExpired     Code = "window_expired"
	CodeTypeNotRecallable Code = "type_not_recallable"
	CodeReasonRequired    Code = "reason_required"
	CodeRateLimited       Code = "rate_limited"
	CodeRecallIDUsed      Code = "recall_id_used" // another actor used the RecallID first; no rule decides this
)

// Rule is the place of the rule that decided. Line 0 means that no rule of a file matched: default deny.
type Rule struct {
	Name string `json:"name,omitempty"`
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// RecallResult answers for one target of a request.
type RecallResult struct {
	MessageID string       `json:"message_id"`
	Status    RecallStatus `json:"status"`
	Code      Code         `json:"code,omitempty"` // of StatusDenied
	Rule      Rule         `json:"rule,omitzero"`  // of StatusDenied, and of StatusRecalled by this request

	// Text is what to tell the user about a refusal, by language tag. See Words.
	Text map[string]string `json:"text,omitempty"`

	// The recall that took the message back: this one, or the earlier one of StatusAlreadyRecalled.
	RecallID   string    `json:"recall_id,omitempty"`
	RecalledBy string    `json:"recalled_by,omitempty"` // the actor's id
	Role       Role      `json:"role,omitempty"`        // of that actor
	RecalledAt time.Time `json:"recalled_at,omitzero"`

	Until   time.Time `json:"until,omitzero"`    // Check: until when StatusRecalled holds; zero: no end
	RetryAt time.Time `json:"retry_at,omitzero"` // CodeRateLimited: when to try again; zero: the window ends before
}

// MessageState is what the index knows of a message id.
type MessageState string

// The states of a message.
const (
	MessageUnknown  MessageState = "unknown"
	MessageLive     MessageState = "live"
	MessageRecalled MessageState = "recalled"
)

// MessageStatus answers for one id given to Status.
type MessageStatus struct {
	MessageID string       `json:"message_id"`
	State     MessageState `json:"state"`

	// Message has the indexed facts; nil when unknown. They let a host tell a message that was sent again from an id that
	// was used twice.
	Message *Message `json:"message,omitempty"`

	RecallID   string    `json:"recall_id,omitempty"`  // when recalled
	RecalledAt time.Time `json:"recalled_at,omitzero"` // when recalled
}

// SinceRequest asks for the recalls of some conversations of a tenant after a cursor.
type SinceRequest struct {
	Tenant        string         `json:"tenant"`
	Conversations []Conversation `json:"conversations"`   // at most MaxSinceConversations; none: only the newest cursor
	After         string         `json:"after,omitempty"` // the Next of an earlier page; empty: from the first recall
	Limit         int            `json:"limit,omitempty"` // 1 to MaxSinceLimit; 0 means MaxSinceLimit
}

// EventPage is one page of events, in the order of their sequence. It may end before the limit where its events come to
// megabytes.
type EventPage struct {
	Events []Event `json:"events"`
	Next   string  `json:"next"` // After of the next page; keep it and ask again later where More is false
	More   bool    `json:"more,omitempty"`

	// Reset says that the cursor was of another index, or of this one before it was restored. The page has no events:
	// recalls may be missing from what its holder saw. Start again with an empty After.
	Reset bool `json:"reset,omitempty"`
}

// LedgerRequest asks for a page of the ledger of one recall.
type LedgerRequest struct {
	Tenant   string `json:"tenant"`
	RecallID string `json:"recall_id"`
	After    string `json:"after,omitempty"` // the Next of an earlier page; empty: from the first entry
	Limit    int    `json:"limit,omitempty"` // 1 to MaxLedgerLimit; 0 means MaxLedgerLimit
}

// LedgerPage is one page of a ledger, in the order of its events. It may end before the limit where its entries come to
// megabytes. An unknown recall has a page without entries.
type LedgerPage struct {
	Entries []LedgerEntry `json:"entries"`
	Next    string        `json:"next"` // After of the next page
	More    bool          `json:"more,omitempty"`
	Reset   bool          `json:"reset,omitempty"` // as in EventPage
}

// LedgerEntry is one recalled message with its steps.
type LedgerEntry struct {
	Event Event        `json:"event"`
	Steps []StepRecord `json:"steps"`
}
