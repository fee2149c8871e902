package shared

import (
	"encoding/base64"
	"strings"
	"time"
)

// Disposition is what the host does with the content of a recalled message.
type Disposition string

// The dispositions. With either, every step removes the message from where users read it.
const (
	// DispositionErase leaves nothing of the content anywhere.
	DispositionErase Disposition = "erase"

	// DispositionArchive keeps the content and the attachments in Event.Attachments where only compliance reads them,
	// until Event.RecalledAt plus Event.Retention. The step that removes the last readable copy puts the content there
	// first, and only once: a step can run again.
	DispositionArchive Disposition = "archive"
)

// Event is one committed recall of one message. It is the same in Since, in Ledger and in a [Delivery].
type Event struct {
	Sequence   uint64    `json:"sequence"` // grows with every recall of the index
	Tenant     string    `json:"tenant"`
	RecallID   string    `json:"recall_id"`
	Actor      Actor     `json:"actor"`
	Role       Role      `json:"role"` // of the actor in the conversation, as the request named it
	Ext        string    `json:"ext,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	RecalledAt time.Time `json:"recalled_at"` // the moment at which the request was judged
	Message    Message   `json:"message"`

	// Silent, Placeholder, Disposition and Retention come from on_recall of the rule that decided.

	// Silent asks clients to remove the message and show nothing instead.
	Silent bool `json:"silent,omitempty"`

	// Placeholder is what clients show instead of the message: a text by language tag ("en", "zh-Hans"), in which {actor},
	// {sender}, {role}, {type} and {reason} stand for what the host shows for them. A client takes the text of its
	// language, else of the first part of the tag, else the English one, else the first by tag. It is empty where the
	// rules name none: clients then show the host's own words, unless Silent.
	Placeholder map[string]string `json:"placeholder,omitempty"`

	Disposition Disposition `json:"disposition"`
	// Retention is how long an archive keeps it after RecalledAt; 0 with DispositionErase
	Retention time.Duration `json:"retention,omitempty"`

	// Attachments are those that the host deletes or archives. An attachment is among them when no live message of the
	// tenant uses its key any more and a message of the attachment's owner that used it has been recalled. So recalling a
	// link never deletes somebody else's file.
	Attachments []Attachment `json:"attachments,omitempty"`

	Rule         Rule   `json:"rule"`
	PolicyDigest string `json:"policy_digest,omitempty"` // SHA-256 of the rules that decided, hex
}

// Key is a stable id of the event: of its tenant, recall id and message id. Deliveries of its steps have the same key,
// also after a restart. It is URL-safe text of at most 1,027 bytes.
func (e Event) Key() string {
	return base64.RawURLEncoding.EncodeToString([]byte(e.Tenant + "\x00" + e.RecallID + "\x00" + e.Message.ID))
}

// ParseEventKey splits the [Event.Key] of an event. A text that is none is a *FieldError of the field "key".
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
	Attempt int    `json:"attempt"` // counts the deliveries of this step from 1, also over restarts of the host
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
	Placeholder map[string]string `json:"placeholder,omitempty"` // else it shows this, if not empty; see Event.Placeholder
}

// Notice makes the notice for one client. delivered says whether that client ever received the message. One that was
// offline both when it was sent and when it was recalled did not: its notice does not carry the message.
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
