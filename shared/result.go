package shared

import "time"

// IndexStatus says what Index or Amend did with one message.
type IndexStatus string

// The statuses of an IndexResult.
const (
	IndexAdded     IndexStatus = "indexed"   // Index: the message is on disk
	IndexAmended   IndexStatus = "amended"   // Amend: the change is on disk
	IndexUnchanged IndexStatus = "unchanged" // the index had the same facts already
	IndexConflict  IndexStatus = "conflict"  // Index: a live message has this id and other facts, which stay
	IndexRecalled  IndexStatus = "recalled"  // the message is recalled, whatever its facts: do not deliver it
	IndexNotFound  IndexStatus = "not_found" // Amend: the tenant has no such message
	// IndexInvalid: this message or amendment is malformed, see Field and Problem. The others are not affected.
	IndexInvalid IndexStatus = "invalid"
)

// IndexResult is the answer for one message of an Index call or one amendment of an Amend call.
type IndexResult struct {
	MessageID string      `json:"message_id"`
	Status    IndexStatus `json:"status"`

	// Field and Problem are set if Status is IndexInvalid, as in a [FieldError]. Field is relative to the message.
	Field   string `json:"field,omitempty"`
	Problem string `json:"problem,omitempty"`

	// Related are the recalled messages that this live message relates to. The host removes from it what it repeats of
	// them before it delivers it.
	Related []Related `json:"related,omitempty"`
}

// Target is one message of a RecallRequest.
type Target struct {
	MessageID string `json:"message_id"`

	// Conversation is the conversation in which the host looked up Role. If the message is indexed in another one, the
	// answer is StatusNotFound. Conversation may be empty only for RoleSystem.
	Conversation Conversation `json:"conversation,omitzero"`

	Role   Role     `json:"role,omitempty"`   // of the actor in Conversation, now; empty means RoleMember
	Labels []string `json:"labels,omitempty"` // of Conversation now, for rules such as a legal hold; at most MaxLabels

	// Message has the facts of a message that may not be indexed, such as one sent before the plugin was installed. The
	// message is then indexed and recalled in the same commit. If the message is indexed already, Message is ignored.
	Message *Message `json:"message,omitempty"`
}

// RecallRequest asks to recall messages of one tenant. The plugin trusts everything in it. The host must look up the
// roles, labels and facts itself, and must never copy them or RequestedAt from a client.
type RecallRequest struct {
	Tenant  string   `json:"tenant"`
	Targets []Target `json:"targets"` // 1 to MaxRecallTargets, each message once
	Actor   Actor    `json:"actor"`

	Ext    string `json:"ext,omitempty"`    // copied to every event and notice; at most MaxExtBytes
	Reason string `json:"reason,omitempty"` // for rules that require one, and the ledger; at most MaxReasonBytes

	// RecallID makes a retry the same recall: for a message that this actor already recalled under this id, in whatever
	// role, the answer is StatusRecalled again. The id belongs to the actor that used it first; requests of others are
	// denied with CodeRecallIDUsed. At most MaxRecallMessages messages share an id. If it is empty, package host makes one
	// (UUIDv7).
	RecallID string `json:"recall_id,omitempty"`

	// RequestedAt is when the request was made; zero means now. A request that waited is judged by this time. By more than
	// the policy's clock skew, it must not be in the future nor before a message was sent.
	RequestedAt time.Time `json:"requested_at,omitzero"`

	// Held is how long ago the request was made, if RequestedAt is zero: at most a day. Package host adds the time for
	// which it held the request. The plugin subtracts it from its own clock, but never goes back to before the message
	// was sent.
	Held time.Duration `json:"held,omitempty"`

	// Wait is for how long the recall of an unknown message waits for that message, from the time of the request: at most
	// MaxWait, which is 7 days. The answer is then StatusWaiting instead of StatusNotFound, also for a message that is in
	// another conversation than its target, so that it cannot be told from an unknown one. When the message is indexed,
	// the rules judge the request. If they permit it, Index answers IndexRecalled, so that the message is never
	// delivered. Otherwise the message stays; see [Recall] Waits. Wait is not allowed with Atomic.
	Wait time.Duration `json:"wait,omitempty"`

	// Atomic recalls all targets or none. If one target is denied or not found, nothing is committed, and the answer for
	// the permitted targets is StatusAborted. A target that was recalled before does not keep the others from being
	// recalled.
	Atomic bool `json:"atomic,omitempty"`
}

// RecallStatus says what Recall did with one target, or what it would do, in the answer of Check.
type RecallStatus string

// The statuses of a RecallResult.
const (
	StatusRecalled        RecallStatus = "recalled"
	StatusAlreadyRecalled RecallStatus = "already_recalled" // under another recall id, or by another actor
	StatusDenied          RecallStatus = "denied"
	StatusNotFound        RecallStatus = "not_found" // the tenant has no such message, or it is in another conversation
	StatusAborted         RecallStatus = "aborted"   // permitted, but another target of an Atomic request was refused
	StatusWaiting         RecallStatus = "waiting"   // with Wait: the message is unknown, and its recall waits until Until
)

// Code says why a recall was denied. A rule may set a code of its own.
type Code string

// The standard codes, of the built-in policy and of the built-in checks of rules such as windows and limits.
const (
	CodeForbidden         Code = "forbidden"
	CodeWindowExpired     Code = "window_expired"
	CodeTypeNotRecallable Code = "type_not_recallable"
	CodeReasonRequired    Code = "reason_required"
	CodeRateLimited       Code = "rate_limited"
	CodeRecallIDUsed      Code = "recall_id_used" // another actor used the RecallID first; no rule decides this
)

// Rule is the name and place of the rule that decided. Line 0 means that no rule of a file matched, so the recall was
// denied by default.
type Rule struct {
	Name string `json:"name,omitempty"`
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// RecallResult is the answer for one target of a request.
type RecallResult struct {
	MessageID string       `json:"message_id"`
	Status    RecallStatus `json:"status"`
	Code      Code         `json:"code,omitempty"` // of StatusDenied
	Rule      Rule         `json:"rule,omitzero"`  // of StatusDenied, and of StatusRecalled by this request

	// Text is a sentence for the user about a refusal, by language tag. See [Words].
	Text map[string]string `json:"text,omitempty"`

	// The recall of the message: this one, or the earlier one with StatusAlreadyRecalled. Empty if that was forgotten.
	RecallID   string    `json:"recall_id,omitempty"`
	RecalledBy string    `json:"recalled_by,omitempty"` // the actor's id
	Role       Role      `json:"role,omitempty"`        // of that actor
	RecalledAt time.Time `json:"recalled_at,omitzero"`

	// With are the messages that this request recalled in the same commit because they relate to this one: its edits, and
	// what on_recall { cascade } names. At most MaxRelated.
	With []string `json:"with,omitempty"`

	// Until is the end of a StatusWaiting. Of Check, it is also the last moment at which StatusRecalled holds; zero: no
	// end.
	Until   time.Time `json:"until,omitzero"`
	RetryAt time.Time `json:"retry_at,omitzero"` // CodeRateLimited: when to try again; zero: a later try is refused too
}

// MessageState says what the index knows about a message id.
type MessageState string

// The states of a message.
const (
	MessageUnknown  MessageState = "unknown"
	MessageLive     MessageState = "live"
	MessageRecalled MessageState = "recalled"
)

// MessageStatus is the answer for one id of a Status call.
type MessageStatus struct {
	MessageID string       `json:"message_id"`
	State     MessageState `json:"state"`

	// Message has the indexed facts; nil if the message is unknown, or was recalled and then forgotten, see Forget. With
	// them a host can tell a message that was sent again from another message with the same id.
	Message *Message `json:"message,omitempty"`

	RecallID   string    `json:"recall_id,omitempty"`  // when recalled and not forgotten
	RecalledAt time.Time `json:"recalled_at,omitzero"` // when recalled and not forgotten
}

// SinceRequest asks for the recalls of some conversations of a tenant after a cursor.
type SinceRequest struct {
	Tenant        string         `json:"tenant"`
	Conversations []Conversation `json:"conversations"`   // at most MaxSinceConversations; none: only the newest cursor
	After         string         `json:"after,omitempty"` // the Next of an earlier page; empty: from the first recall
	Limit         int            `json:"limit,omitempty"` // 1 to MaxSinceLimit; 0 means MaxSinceLimit
}

// StepsFilter selects recalls by the state of their steps.
type StepsFilter string

// The filters of ListRequest.Steps. The empty one selects all recalls.
const (
	StepsOpen   StepsFilter = "open"   // at least one step is not settled
	StepsFailed StepsFilter = "failed" // the last attempt of at least one step that is not settled failed
)

// ListRequest asks for the recalls of a tenant, newest first. A recall is listed if it matches every field that is set.
//
// The order is that of Event.Sequence, descending, in which recalls were committed. A recall that was committed before
// the first page was answered is listed once, whatever is recalled between two pages; one that is committed later is
// not listed. The state of steps is that of the moment when a page reads them. In a cluster, List reads what the node
// has applied.
//
// No key of the index serves a filter: List reads the recalls of all tenants one after the other, or those of
// Conversation if it is set. A page ends after 5,000 recalls that it read, also if few or none of them match: go on
// while More is set. 5,000 take about 25 ms if they are in memory.
type ListRequest struct {
	Tenant string `json:"tenant"`

	// From and Before select recalls by Event.RecalledAt: at From or later, and before Before. Zero means no limit. A
	// request that waited is committed later than others that were made after it, so RecalledAt does not follow the order
	// of the list. List therefore reads to the oldest recall whatever From is, and what is listed is exact. A client that
	// can do without the recalls that waited stops at the first page that only has older ones.
	From   time.Time `json:"from,omitzero"`
	Before time.Time `json:"before,omitzero"`

	Actor        string       `json:"actor,omitempty"`       // the id of the actor
	Sender       string       `json:"sender,omitempty"`      // the sender of the message
	Conversation Conversation `json:"conversation,omitzero"` // in which the message was when it was recalled
	Rule         string       `json:"rule,omitempty"`        // the name of the rule that permitted the recall
	JobID        string       `json:"job_id,omitempty"`      // of the job that recalled the message
	Steps        StepsFilter  `json:"steps,omitempty"`       // the state of its steps
	After        string       `json:"after,omitempty"`       // the Next of an earlier page; empty: from the newest recall
	Limit        int          `json:"limit,omitempty"`       // 1 to MaxListLimit; 0 means MaxListLimit
}

// EventPage is one page of events: of Since in the order of their sequence, of List in the opposite one. It ends before
// the limit if its events exceed about 1 MiB.
type EventPage struct {
	Events []Event `json:"events"`

	// Next is After of the next request. If More is false, keep it for a later Since; List has then listed everything.
	Next string `json:"next"`
	More bool   `json:"more,omitempty"`

	// Reset says that the cursor is from another index, or from this one before a restore. The page has no events. The
	// client may have missed recalls: start again with an empty After.
	Reset bool `json:"reset,omitempty"`
}

// WaitState says what became of a recall that waits for its message.
type WaitState string

// The states of a Waiting. If its message is recalled, it is no longer listed.
const (
	WaitWaiting WaitState = "waiting"
	WaitRefused WaitState = "refused" // the message came, and the rules refused the recall: see Code
	WaitExpired WaitState = "expired" // the message did not come in time
)

// Waiting is a recall that was requested before its message was indexed. It keeps the request as it was made.
type Waiting struct {
	Tenant       string       `json:"tenant"`
	MessageID    string       `json:"message_id"`
	RecallID     string       `json:"recall_id"`
	Actor        Actor        `json:"actor"`
	Role         Role         `json:"role,omitempty"`
	Conversation Conversation `json:"conversation,omitzero"`
	Labels       []string     `json:"labels,omitempty"` // of Conversation, at the time of the request
	Ext          string       `json:"ext,omitempty"`
	Reason       string       `json:"reason,omitempty"`
	RequestedAt  time.Time    `json:"requested_at"`
	Until        time.Time    `json:"until"`

	State   WaitState `json:"state"`
	Code    Code      `json:"code,omitempty"` // of WaitRefused
	Rule    Rule      `json:"rule,omitzero"`  // of WaitRefused
	EndedAt time.Time `json:"ended_at,omitzero"`
}

// WaitsRequest asks for the recalls of a tenant that wait for their messages.
type WaitsRequest struct {
	Tenant string `json:"tenant"`
	After  string `json:"after,omitempty"` // the Next of an earlier page; empty: from the first one
	Limit  int    `json:"limit,omitempty"` // 1 to MaxWaitsLimit; 0 means MaxWaitsLimit
}

// WaitPage is one page of waiting recalls, sorted by message id, with those that were refused or that expired in the
// last 7 days, at most MaxWaits of the index. It ends before the limit if they exceed about 1 MiB.
type WaitPage struct {
	Waits []Waiting `json:"waits"`
	Next  string    `json:"next"` // After of the next request
	More  bool      `json:"more,omitempty"`
}

// RelatedRequest asks for the messages that relate to a message.
type RelatedRequest struct {
	Tenant    string `json:"tenant"`
	MessageID string `json:"message_id"`
	After     string `json:"after,omitempty"` // the Next of an earlier page; empty: from the first one
	Limit     int    `json:"limit,omitempty"` // 1 to MaxRelatedLimit; 0 means MaxRelatedLimit
}

// RelatedPage is one page of the live messages that relate to a message, sorted by kind and id. It ends before the
// limit if they exceed about 1 MiB. A page may have no messages, and More.
type RelatedPage struct {
	Related []Related `json:"related"`
	Next    string    `json:"next"` // After of the next request
	More    bool      `json:"more,omitempty"`
}

// LedgerRequest asks for a page of the ledger of one recall.
type LedgerRequest struct {
	Tenant   string `json:"tenant"`
	RecallID string `json:"recall_id"`
	After    string `json:"after,omitempty"` // the Next of an earlier page; empty: from the first entry
	Limit    int    `json:"limit,omitempty"` // 1 to MaxLedgerLimit; 0 means MaxLedgerLimit
}

// LedgerPage is one page of a ledger, in the order of its events. It ends before the limit if its entries exceed about
// 1 MiB. The page of a recall that does not exist has no entries.
type LedgerPage struct {
	Entries []LedgerEntry `json:"entries"`
	Next    string        `json:"next"` // After of the next request
	More    bool          `json:"more,omitempty"`
	Reset   bool          `json:"reset,omitempty"` // as in EventPage
}

// LedgerEntry is one recalled message with its steps.
type LedgerEntry struct {
	Event Event        `json:"event"`
	Steps []StepRecord `json:"steps"`
}
