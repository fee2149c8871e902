package rules

import (
	"fmt"
	"time"
)

// kind is what a field of a condition holds.
type kind uint8

const (
	textKind     kind = iota // any text
	wordKind                 // a word of a vocabulary
	flagKind                 // true or false
	durationKind             // only message.age
	timeKind                 // only message.sent_at
	textsKind                // a list of texts
)

func (k kind) String() string {
	return [...]string{"a text", "a word", "true or false", "a duration", "a time", "a list of texts"}[k]
}

// field is one thing that a condition may ask about. Exactly one of the getters of its kind is set; message.age has
// none, for it is handed to a condition beside the input.
type field struct {
	name  string
	kind  kind
	words *vocabulary // of a wordKind
	about string
	text  func(*Input) string // of textKind and wordKind
	flag  func(*Input) bool
	time  func(*Input) time.Time
	texts func(*Input) []string
}

// fields is every field there is. The reference for operators is made from it.
var fields = []*field{
	{name: "tenant", kind: textKind, about: "the tenant of the message", text: func(in *Input) string { return in.Tenant }},
	{name: "message.id", kind: textKind, about: "the message's id", text: func(in *Input) string { return in.MessageID }},
	{name: "message.type", kind: wordKind, words: typeWords, about: "what the message is", text: func(in *Input) string { return in.MessageType }},
	{name: "message.age", kind: durationKind, about: "how long after sending the request was made, never negative"},
	{name: "message.sent_at", kind: timeKind, about: "when the host accepted the message", time: func(in *Input) time.Time { return in.SentAt }},
	{name: "message.sender", kind: textKind, about: "who sent the message", text: func(in *Input) string { return in.Sender }},
	{name: "message.labels", kind: textsKind, about: "what the host marked the message with", texts: func(in *Input) []string { return in.MessageLabels }},
	{name: "conversation.id", kind: textKind, about: "the conversation's id", text: func(in *Input) string { return in.ConversationID }},
	{name: "conversation.type", kind: wordKind, words: conversationWords, about: "what the conversation is", text: func(in *Input) string { return in.ConversationType }},
	{name: "conversation.labels", kind: textsKind, about: "what the host marks the conversation with at the moment of the request", texts: func(in *Input) []string { return in.ConversationLabels }},
	{name: "actor.id", kind: textKind, about: "who asks", text: func(in *Input) string { return in.ActorID }},
	{name: "actor.role", kind: wordKind, words: roleWords, about: "the role of who asks; `member` for an owner or admin in a single conversation, `none` for somebody who is not in the conversation", text: (*Input).role},
	{name: "actor.is_sender", kind: flagKind, about: "whether who asks sent the message", flag: (*Input).isSender},
	{name: "request.reason", kind: textKind, about: "why, in the words of who asks; empty if not given", text: func(in *Input) string { return in.Reason }},
	{name: "request.ext", kind: textKind, about: "the caller's free text", text: func(in *Input) string { return in.Ext }},
}

var (
	tenantField = fieldNamed("tenant")
	ageField    = fieldNamed("message.age")
	senderField = fieldNamed("message.sender")
	actorField  = fieldNamed("actor.id")
	roleField   = fieldNamed("actor.role")
	reasonField = fieldNamed("request.reason")
)

// role is the role that the actor has in the conversation. None is that of a member, and nobody owns or administers a
// single one.
func (in *Input) role() string {
	manager := in.ActorRole == "owner" || in.ActorRole == "admin"
	if in.ActorRole == "" || manager && in.ConversationType == "single" {
		return "member"
	}
	return in.ActorRole
}

func (in *Input) isSender() bool { return in.ActorID == in.Sender }

func fieldNamed(name string) *field {
	for _, f := range fields {
		if f.name == name {
			return f
		}
	}
	return nil
}

// what says what the field holds, for messages.
func (f *field) what() string {
	if f.words != nil {
		return "a " + f.words.name
	}
	return f.kind.String()
}

// show is the value of a field, as it would be written.
func (f *field) show(in *Input, age time.Duration) string {
	switch f.kind {
	case flagKind:
		return fmt.Sprint(f.flag(in))
	case durationKind:
		return FormatDuration(age)
	case timeKind:
		return f.time(in).Format(time.RFC3339Nano)
	case textsKind:
		return quotedList(f.texts(in))
	}
	return fmt.Sprintf("%q", f.text(in))
}
