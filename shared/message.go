package shared

import "time"

// ConversationType is the kind of a conversation.
type ConversationType string

// The kinds of conversation. In a single conversation only the sender recalls; in the others managers do too.
const (
	Single   ConversationType = "single"
	Group    ConversationType = "group"
	Chatroom ConversationType = "chatroom"
)

// MessageType is the kind of a message.
type MessageType string

// The kinds of message. A command is never shown and never recallable.
const (
	Text     MessageType = "text"
	Image    MessageType = "image"
	Audio    MessageType = "audio"
	Video    MessageType = "video"
	File     MessageType = "file"
	Location MessageType = "location"
	Custom   MessageType = "custom"
	Combine  MessageType = "combine"
	Command  MessageType = "command"
)

// Role is what an actor is in the conversation of the message, by the host's word at the moment of the request.
type Role string

// The roles. No role means Member; System is the server itself or a compliance tool.
const (
	Member Role = "member"
	Admin  Role = "admin"
	Owner  Role = "owner"
	System Role = "system"
)

// Conversation names a conversation of a tenant. Two of different type may have the same id.
type Conversation struct {
	Type ConversationType `json:"type"`
	ID   string           `json:"id"`
}

// Actor is who asks for a recall.
type Actor struct {
	ID   string `json:"id"`
	Role Role   `json:"role,omitempty"`
}

// Message is what the index knows of a message: everything but its content, which never enters the plugin.
//
// Ids are UTF-8 without NUL, 1 to MaxIDBytes long. Times are kept to the microsecond.
type Message struct {
	Tenant       string       `json:"tenant"`
	ID           string       `json:"id"` // unique within the tenant
	Conversation Conversation `json:"conversation"`
	Sender       string       `json:"sender"`
	Type         MessageType  `json:"type"`
	SentAt       time.Time    `json:"sent_at"`               // never in the future beyond the policy's clock skew
	Attachments  []string     `json:"attachments,omitempty"` // storage keys or URLs; at most MaxAttachments
	Labels       []string     `json:"labels,omitempty"`      // for rules; at most MaxLabels
}
