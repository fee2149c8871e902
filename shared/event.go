package shared

import (
	"encoding/base64"
	"strings"
	"time"
)

// Disposition is what the host does with the content of a recalled message.
type Disposition string

// The dispositions. With both, every step removes the message from the places where users read it.
const (
	// DispositionErase leaves nothing of the content anywhere.
	DispositionErase Disposition = "erase"

	// DispositionArchive moves the content, and the attachments in Event.Attachments, to an archive that only compliance
	// can read. The archive keeps them until Event.RecalledAt plus Event.Retention. The step that removes the last
	// readable copy archives the content first. A step may run again, so it must not archive the content twice.
	DispositionArchive Disposition = "archive"
)

// Related is a message that relates to another one.
type Related struct {
	Kind         RelationKind `json:"kind"`
	MessageID    string       `json:"message_id"`
	Conversation Conversation `json:"conversation"`
	Ref          string       `json:"ref,omitempty"`
}

// Event is one committed recall of one message. It is the same in Since, List and Ledger and in a
// [Delivery].
type Event struct {
	Sequence   uint64    `json:"sequence"` // grows with every recalled message of the index
	Tenant     string    `json:"tenant"`
	RecallID   string    `json:"recall_id"`
	JobID      string    `json:"job_id,omitempty"` // of the job that recalled the message; empty: no job did
	Actor      Actor     `json:"actor"`
	Role       Role      `json:"role"` // the actor's role in the conversation, as the request gave it
	Ext        string    `json:"ext,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	RecalledAt time.Time `json:"recalled_at"` // the time for which the rules judged the request
	Message    Message   `json:"message"`

	// Silent, Placeholder, Disposition and Retention come from on_recall of the rule that decided.

	// Silent asks clients to remove the message and show nothing instead.
	Silent bool `json:"silent,omitempty"`

	// Placeholder is the text that clients show instead of the message, by language tag ("en", "zh-Hans"). In the text,
	// the host replaces {actor}, {sender}, {role}, {type} and {reason}. A client uses the text for its language tag, or
	// for the first part of that tag, or the English text, or the first text in the order of the tags. The map is empty if
	// the rules set no text: clients then show the host's own words, unless Silent.
	Placeholder map[string]string `json:"placeholder,omitempty"`

	Disposition Disposition `json:"disposition"`
	// Retention is how long an archive keeps the message after RecalledAt; 0 with DispositionErase.
	Retention time.Duration `json:"retention,omitempty"`

	// Attachments are the attachments that the host deletes or archives. An attachment is listed if no live message of
	// the tenant uses its key any more, and a message of the attachment's owner that used the key has been recalled. So
	// recalling a message that links to somebody else's file never deletes that file.
	Attachments []Attachment `json:"attachments,omitempty"`

	// Related are the live messages that relate to this one and were not recalled with it, such as quotes: at most
	// MaxRelated. The host removes from them what they repeat of this message. Those that are indexed later are named by
	// IndexResult.Related. If MoreRelated is set there are others, and [Recall] Related lists all.
	Related     []Related `json:"related,omitempty"`
	MoreRelated bool      `json:"more_related,omitempty"`

	// Cause is set if the message was recalled because it relates to a recalled message: that message, and how.
	Cause *Relation `json:"cause,omitempty"`

	Rule         Rule   `json:"rule"`
	PolicyDigest string `json:"policy_digest,omitempty"` // SHA-256 of the rules that decided, hex
}

// Key returns a stable id of the event, made from its tenant, recall id and message id. All deliveries of its steps
// have the same key, also after a restart. It is URL-safe text of at most 1,027 bytes.
func (e Event) Key() string {
	return base64.RawURLEncoding.EncodeToString([]byte(e.Tenant + "\x00" + e.RecallID + "\x00" + e.Message.ID))
}

// ParseEventKey splits an [Event.Key] into its parts. If key is not an event key, the error is a [*FieldError] that
// names the field "key".
func ParseEventKey(key string) (tenant, recallID, messageID string, err error) {
	data, err := base64.RawURLEncoding.DecodeString(key)
	parts := strings.Split(string(data), "\x00")
	if err != nil || len(parts) != 3 {
		return "", "", "", Invalidf("key", "%.80q is not the key of an event", key)
	}
	return parts[0], parts[1], parts[2], nil
}

// Delivery asks the host to carry out one step of a recall.
type Delivery struct {
	Event
	Step    string `json:"step"`
	Attempt int    `json:"attempt"` // the number of this delivery of the step, from 1; restarts do not reset it
}

// Notice is what a host tells one client about a recall.
type Notice struct {
	RecallID     string       `json:"recall_id"`
	Actor        string       `json:"actor"` // its id
	Role         Role         `json:"role"`
	MessageID    string       `json:"message_id"`
	Conversation Conversation `json:"conversation"`
	Ext          string       `json:"ext,omitempty"`
	RecalledAt   time.Time    `json:"recalled_at"`
	Message      *Message     `json:"message,omitempty"` // nil for a client that never received it

	Silent      bool              `json:"silent,omitempty"`      // the client shows nothing instead of the message
	Placeholder map[string]string `json:"placeholder,omitempty"` // the client shows this text; see Event.Placeholder
}

// Notice returns the notice for one client. delivered says whether that client ever received the message. A client that
// never received it, because it was offline from before the message was sent until after the recall, gets a notice
// without the message.
func (e Event) Notice(delivered bool) Notice {
	n := Notice{
		RecallID: e.RecallID, Actor: e.Actor.ID, Role: e.Role, MessageID: e.Message.ID, Conversation: e.Message.Conversation,
		Ext: e.Ext, RecalledAt: e.RecalledAt, Silent: e.Silent, Placeholder: e.Placeholder,
	}
	if delivered {
		m := e.Message
		n.Message = &m
	}
	return n
}
