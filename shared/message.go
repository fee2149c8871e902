package shared

import "time"

// ConversationType is the kind of a conversation.
type ConversationType string

// The kinds of conversation. A single conversation has no owner and no admins: there, these roles count as RoleMember.
const (
	ConversationSingle   ConversationType = "single"
	ConversationGroup    ConversationType = "group"
	ConversationChatroom ConversationType = "chatroom"
)

// MessageType is the kind of a message.
type MessageType string

// The kinds of message. A command is never shown and cannot be recalled.
const (
	TypeText     MessageType = "text"
	TypeImage    MessageType = "image"
	TypeAudio    MessageType = "audio"
	TypeVideo    MessageType = "video"
	TypeFile     MessageType = "file"
	TypeLocation MessageType = "location"
	TypeCustom   MessageType = "custom"
	TypeCombine  MessageType = "combine"
	TypeCommand  MessageType = "command"
)

// Role is the role of an actor in the conversation of a message. The host looks it up for each request.
type Role string

// The roles. An empty role means RoleMember. RoleSystem is the server itself or a compliance tool. RoleNone means that
// the actor is not in the conversation: no built-in permit covers it.
const (
	RoleMember Role = "member"
	RoleAdmin  Role = "admin"
	RoleOwner  Role = "owner"
	RoleSystem Role = "system"
	RoleNone   Role = "none"
)

// Conversation identifies a conversation of a tenant. Two conversations of different types may have the same id.
type Conversation struct {
	Type ConversationType `json:"type"`
	ID   string           `json:"id"`
}

// Actor is the user or system that asks for a recall.
type Actor struct {
	ID     string   `json:"id"`
	Labels []string `json:"labels,omitempty"` // of the actor now, for rules; copied to events; at most MaxLabels
}

// Attachment is a stored file that a message uses.
type Attachment struct {
	Key string `json:"key"` // storage key or URL, at most MaxAttachmentBytes

	// Owner is the user whose file it is, at most MaxIDBytes. Empty means the sender of the message. See
	// Event.Attachments.
	Owner string `json:"owner,omitempty"`
}

// RelationKind says how a message relates to another one.
type RelationKind string

// The kinds of relation. An edit is part of its original: it is recalled with it, in the same commit, and the rules
// judge it by the time of sending of the original and by the labels of both. The other kinds are recalled with the
// message that they relate to where the rule that decides says so, by on_recall { cascade = [...] }.
const (
	RelationEdit    RelationKind = "edit"    // has a newer version of its content
	RelationQuote   RelationKind = "quote"   // repeats its content, or a part of it
	RelationForward RelationKind = "forward" // repeats its content in another place
	RelationReply   RelationKind = "reply"   // answers it, and may show a preview of it
	RelationThread  RelationKind = "thread"  // is in the thread that begins with it
)

// Relation names a message of the same tenant that a message relates to. That message need not be indexed.
type Relation struct {
	Kind      RelationKind `json:"kind"`
	MessageID string       `json:"message_id"`
}

// Message has the facts of a message that the index stores. The content of a message never enters the plugin.
//
// Ids are UTF-8 without NUL, 1 to MaxIDBytes long. Times are kept to the microsecond.
type Message struct {
	Tenant       string       `json:"tenant"`
	ID           string       `json:"id"` // unique within the tenant
	Conversation Conversation `json:"conversation"`
	Sender       string       `json:"sender"`
	Type         MessageType  `json:"type"`
	SentAt       time.Time    `json:"sent_at,omitzero"`      // at most the policy's clock skew in the future
	Attachments  []Attachment `json:"attachments,omitempty"` // at most MaxAttachments, each key once
	Labels       []string     `json:"labels,omitempty"`      // for rules; at most MaxLabels

	// Ref is the host's own reference to the message, such as a row number. Events return it. It must not hold content. At
	// most MaxRefBytes.
	Ref string `json:"ref,omitempty"`

	// Relations are the messages that this one edits, quotes, forwards or answers, in any order: at most MaxRelations, one
	// of them RelationEdit. None is the message itself. Amend does not change them.
	Relations []Relation `json:"relations,omitempty"`
}

// Amendment changes facts of an indexed message. Sender, type, time of sending and relations never change, so an edit
// never extends the time in which a message can be recalled.
type Amendment struct {
	Tenant    string `json:"tenant"`
	MessageID string `json:"message_id"`

	// A nil field leaves the fact as it is. An empty list that is not nil removes all its elements.
	Conversation *Conversation `json:"conversation,omitempty"` // for a chat that was converted or renamed
	Attachments  []Attachment  `json:"attachments"`
	Labels       []string      `json:"labels"`
	Ref          *string       `json:"ref,omitempty"`
}
