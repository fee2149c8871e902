package shared

import "time"

// IndexStatus is what became of one message given to Index.
type IndexStatus string

// What Index answers of a message.
const (
	Indexed        IndexStatus = "indexed"
	IndexUnchanged IndexStatus = "unchanged" // was there already, with the same facts
	IndexConflict  IndexStatus = "conflict"  // was there already, is live and has other facts, which stay
	IndexRecalled  IndexStatus = "recalled"  // is recalled, whatever its facts: do not deliver it
)

// IndexResult answers for one message given to Index.
type IndexResult struct {
	MessageID string      `json:"message_id"`
	Status    IndexStatus `json:"status"`
}

// RecallRequest asks to take messages of one tenant back.
type RecallRequest struct {
	Tenant     string
	MessageIDs []string // 1 to MaxRecallIDs, each once

	// Actor asks for the recall. The role is that in the conversation of the messages. Where they are of several, an Owner
	// or Admin is so in the conversation of the first known one, and a Member in the others: send a request for each
	// conversation.
	Actor Actor

	Ext    string // handed through to every notice; at most MaxExtBytes
	Reason string // for rules that require one, and the ledger; at most MaxReasonBytes

	// RecallID makes a retry the same act: a message already recalled under this id by this actor, whatever the role, is
	// answered Recalled again. It belongs to the actor that used it first: nobody else recalls under it
	// (CodeRecallIDUsed). At most MaxRecallMessages share it. The SDK makes one (UUIDv7) where it is empty.
	RecallID string

	// RequestedAt is when the request was made; zero means now. A time in the past lets a request that waited be
	// judged by when it was made. It is never before a message was sent, nor in the future, beyond the policy's clock
	// skew.
	RequestedAt time.Time

	// Held is how long ago the request was made, where RequestedAt is not set. The SDK sets it, for the time that it held
	// the request: the plugin counts back from its own clock, to no moment before the message was sent. At most a day.
	Held time.Duration

	// ConversationLabels are the labels of the conversation at this moment, by the host's word, for rules such as
	// a legal hold; at most MaxLabels.
	ConversationLabels []string

	// Messages are the facts of some of MessageIDs, so that one older than the plugin's installation is indexed
	// and recalled in the same commit. Facts that differ from what is indexed are refused.
	Messages []Message
}

// RecallStatus is what became of one message of a request.
type RecallStatus string

// What Recall answers of a message.
const (
	Recalled        RecallStatus = "recalled"
	AlreadyRecalled RecallStatus = "already_recalled" // under another recall id, or by another actor
	Denied          RecallStatus = "denied"
	NotFound        RecallStatus = "not_found" // this tenant has no such message
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

// RecallResult answers for one message of a request.
type RecallResult struct {
	MessageID string       `json:"message_id"`
	Status    RecallStatus `json:"status"`
	Code      Code         `json:"code,omitempty"` // when Denied
	Rule      Rule         `json:"rule,omitzero"`  // when Recalled by this request, or Denied

	// The recall that took the message back: this one, or the earlier one when AlreadyRecalled.
	RecallID   string    `json:"recall_id,omitempty"`
	RecalledBy Actor     `json:"recalled_by,omitzero"`
	RecalledAt time.Time `json:"recalled_at,omitzero"`

	Until   time.Time `json:"until,omitzero"`    // Check, Recalled: the last moment at which it holds; zero: no end
	RetryAt time.Time `json:"retry_at,omitzero"` // CodeRateLimited: when to try again; zero: there is room only when it is too late
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
	MessageID  string       `json:"message_id"`
	State      MessageState `json:"state"`
	RecallID   string       `json:"recall_id,omitempty"`  // when recalled
	RecalledAt time.Time    `json:"recalled_at,omitzero"` // when recalled
}

// SinceRequest asks for the recalls of some conversations of a tenant after a cursor.
type SinceRequest struct {
	Tenant        string
	Conversations []Conversation // at most MaxSinceConversations; none: only where the cursor stands now
	After         uint64         // the Next of an earlier page; 0: from the first recall
	Limit         int            // 1 to MaxSinceLimit; 0 means MaxSinceLimit
}

// SincePage is one page of them. Steps of its events is empty: nothing is asked of the reader.
type SincePage struct {
	Events []Event
	Next   uint64 // After of the next page; keep it and ask again later where More is false
	More   bool   // there are further recalls already
}
