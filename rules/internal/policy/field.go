package policy

import (
	"fmt"
	"time"
)

// Kind is what a field of a condition holds.
type Kind uint8

const (
	KindText     Kind = iota // any text
	KindWord                 // a word of a vocabulary
	KindFlag                 // true or false
	KindDuration             // only message.age
	KindTime                 // only message.sent_at
	KindTexts                // a list of texts
)

func (k Kind) String() string {
	return [...]string{"a text", "a word", "true or false", "a duration", "a time", "a list of texts"}[k]
}

// Field is one thing that a condition may ask about. Exactly one of the getters of its kind is set; message.age has
// none, for it is handed to a condition beside the input.
type Field struct {
	Name  string
	Kind  Kind
	Words *Vocabulary // of a KindWord
	About string
	Text  func(*Input) string // of KindText and KindWord
	flag  func(*Input) bool
	time  func(*Input) time.Time
	texts func(*Input) []string
}

// Fields is every field there is. The reference for operators is made from it.
var Fields = []*Field{
	{Name: "tenant", Kind: KindText, About: "the tenant of the message", Text: func(in *Input) string { return in.Tenant }},
	{Name: "message.id", Kind: KindText, About: "the message's id", Text: func(in *Input) string { return in.MessageID }},
	{Name: "message.type", Kind: KindWord, Words: MessageTypes, About: "what the message is", Text: func(in *Input) string { return in.MessageType }},
	{Name: "message.age", Kind: KindDuration, About: "how long after sending the request was made, never negative"},
	{Name: "message.sent_at", Kind: KindTime, About: "when the host accepted the message", time: func(in *Input) time.Time { return in.SentAt }},
	{Name: "message.sender", Kind: KindText, About: "who sent the message", Text: func(in *Input) string { return in.Sender }},
	{Name: "message.labels", Kind: KindTexts, About: "what the host marked the message with", texts: func(in *Input) []string { return in.MessageLabels }},
	{Name: "conversation.id", Kind: KindText, About: "the conversation's id", Text: func(in *Input) string { return in.ConversationID }},
	{Name: "conversation.type", Kind: KindWord, Words: ConversationTypes, About: "what the conversation is", Text: func(in *Input) string { return in.ConversationType }},
	{Name: "conversation.labels", Kind: KindTexts, About: "what the host marks the conversation with at the moment of the request", texts: func(in *Input) []string { return in.ConversationLabels }},
	{Name: "actor.id", Kind: KindText, About: "who asks", Text: func(in *Input) string { return in.ActorID }},
	{Name: "actor.role", Kind: KindWord, Words: Roles, About: "the role of who asks; `member` for an owner or admin in a single conversation, `none` for somebody who is not in the conversation", Text: (*Input).Role},
	{Name: "actor.is_sender", Kind: KindFlag, About: "whether who asks sent the message", flag: (*Input).IsSender},
	{Name: "request.reason", Kind: KindText, About: "why, in the words of who asks; empty if not given", Text: func(in *Input) string { return in.Reason }},
	{Name: "request.ext", Kind: KindText, About: "the caller's free text", Text: func(in *Input) string { return in.Ext }},
}

var (
	TenantField           = FieldNamed("tenant")
	AgeField              = FieldNamed("message.age")
	SenderField           = FieldNamed("message.sender")
	ActorField            = FieldNamed("actor.id")
	RoleField             = FieldNamed("actor.role")
	IsSenderField         = FieldNamed("actor.is_sender")
	ConversationTypeField = FieldNamed("conversation.type")
	MessageTypeField      = FieldNamed("message.type")
	ReasonField           = FieldNamed("request.reason")
)

// Role is the role that the actor has in the conversation. None is that of a member, and nobody owns or administers a
// single one.
func (in *Input) Role() string {
	manager := in.ActorRole == "owner" || in.ActorRole == "admin"
	if in.ActorRole == "" || manager && in.ConversationType == "single" {
		return "member"
	}
	return in.ActorRole
}

func (in *Input) IsSender() bool { return in.ActorID == in.Sender }

func FieldNamed(name string) *Field {
	for _, f := range Fields {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// What says what the field holds, for messages.
func (f *Field) What() string {
	if f.Words != nil {
		return "a " + f.Words.Name
	}
	return f.Kind.String()
}

// Show is the value of a field, as it would be written.
func (f *Field) Show(in *Input, age time.Duration) string {
	switch f.Kind {
	case KindFlag:
		return fmt.Sprint(f.flag(in))
	case KindDuration:
		return FormatDuration(age)
	case KindTime:
		return f.time(in).Format(time.RFC3339Nano)
	case KindTexts:
		return QuotedList(f.texts(in))
	}
	return fmt.Sprintf("%q", f.Text(in))
}
