package policy

import (
	"fmt"
	"time"
)

// Kind is the kind of values of a [Field].
type Kind uint8

// Kinds of fields.
const (
	KindText     Kind = iota // any text
	KindWord                 // a word of a vocabulary
	KindFlag                 // true or false
	KindDuration             // only message.age
	KindTime                 // only message.sent_at
	KindTexts                // a list of texts
	KindMinute               // only request.time
)

// String names the kind in diagnostics, as in "a string".
func (k Kind) String() string {
	return [...]string{
		"a string", "a word", "true or false", "a duration", "a time", "a list of strings", "a time of day",
	}[k]
}

// Field is one field that a condition can compare. The getter of its kind is set; message.age has none, because
// conditions get the age as a parameter, and neither have the fields of the clock, which need a time zone.
type Field struct {
	Name  string
	Kind  Kind
	Words *Vocabulary // of a KindWord
	About string
	Text  func(*Input) string // of KindText and KindWord, but for those of the clock
	flag  func(*Input) bool
	time  func(*Input) time.Time
	texts func(*Input) *[]string
}

// Fields is every field of the rule language. docs/rules.md is generated from it.
var Fields = []*Field{
	{Name: "tenant", Kind: KindText, About: "the tenant of the message",
		Text: func(in *Input) string { return in.Tenant }},
	{Name: "message.id", Kind: KindText, About: "the ID of the message",
		Text: func(in *Input) string { return in.MessageID }},
	{Name: "message.type", Kind: KindWord, Words: MessageTypes, About: "the type of the message",
		Text: func(in *Input) string { return in.MessageType }},
	{Name: "message.age", Kind: KindDuration, About: "the time from sending to the request, never negative"},
	{Name: "message.sent_at", Kind: KindTime, About: "when the host accepted the message",
		time: func(in *Input) time.Time { return in.SentAt }},
	{Name: "message.sender", Kind: KindText, About: "the ID of the sender",
		Text: func(in *Input) string { return in.Sender }},
	{Name: "message.labels", Kind: KindTexts, About: "the labels that the host gave the message",
		texts: func(in *Input) *[]string { return &in.MessageLabels }},
	{Name: "conversation.id", Kind: KindText, About: "the ID of the conversation",
		Text: func(in *Input) string { return in.ConversationID }},
	{Name: "conversation.type", Kind: KindWord, Words: ConversationTypes, About: "the type of the conversation",
		Text: func(in *Input) string { return in.ConversationType }},
	{Name: "conversation.labels", Kind: KindTexts, About: "the labels of the conversation at the time of the request",
		texts: func(in *Input) *[]string { return &in.ConversationLabels }},
	{Name: "actor.id", Kind: KindText, About: "the ID of the user who asks for the recall",
		Text: func(in *Input) string { return in.ActorID }},
	{Name: "actor.role", Kind: KindWord, Words: Roles, Text: (*Input).Role,
		About: "the role of the actor in the conversation: `member` also for " +
			"an owner or admin of a single conversation, `none` for an actor who is not in the conversation"},
	{Name: "actor.is_sender", Kind: KindFlag, About: "whether the actor sent the message", flag: (*Input).IsSender},
	{Name: "actor.labels", Kind: KindTexts,
		About: "the labels of the actor at the time of the request, such as a team",
		texts: func(in *Input) *[]string { return &in.ActorLabels }},
	{Name: "request.reason", Kind: KindText, About: "the reason that the actor gave; empty if none",
		Text: func(in *Input) string { return in.Reason }},
	{Name: "request.ext", Kind: KindText, About: "free text of the caller",
		Text: func(in *Input) string { return in.Ext }},
	{Name: "request.weekday", Kind: KindWord, Words: Weekdays,
		About: "the day of the week when the request was made, in the time zone of the policy"},
	{Name: "request.time", Kind: KindMinute,
		About: "the time of day when the request was made, to the minute, in the time zone of the policy"},
}

// Fields that the engine itself needs.
var (
	TenantField           = FieldNamed("tenant")
	AgeField              = FieldNamed("message.age")
	SenderField           = FieldNamed("message.sender")
	ActorField            = FieldNamed("actor.id")
	ReasonField           = FieldNamed("request.reason")
	RoleField             = FieldNamed("actor.role")
	IsSenderField         = FieldNamed("actor.is_sender")
	ConversationTypeField = FieldNamed("conversation.type")
	MessageTypeField      = FieldNamed("message.type")
)

// Role returns the role that the actor has in the conversation. It is member if ActorRole is empty, and for an owner or
// admin in a single conversation, which nobody owns or administers.
func (in *Input) Role() string {
	manager := in.ActorRole == "owner" || in.ActorRole == "admin"
	if in.ActorRole == "" || manager && in.ConversationType == "single" {
		return "member"
	}
	return in.ActorRole
}

// IsSender reports whether the actor sent the message.
func (in *Input) IsSender() bool { return in.ActorID == in.Sender }

// SetTexts sets the value of a field that is a list of texts.
func (f *Field) SetTexts(in *Input, texts []string) { *f.texts(in) = texts }

// FieldNamed returns the field with a name, nil if there is none.
func FieldNamed(name string) *Field {
	for _, f := range Fields {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// What names the kind of values of the field, as in "a duration", for diagnostics.
func (f *Field) What() string {
	if f.Words != nil {
		return "a " + f.Words.Name
	}
	return f.Kind.String()
}

// Show returns the value of a field as the rule language writes it. zone is that of the policy.
func (f *Field) Show(in *Input, age time.Duration, zone *time.Location) string {
	switch f {
	case WeekdayField:
		return fmt.Sprintf("%q", weekdayOf(in.RequestedAt.In(zone)))
	case ClockField:
		return fmt.Sprintf("%q", FormatMinute(minuteOf(in.RequestedAt.In(zone))))
	}
	switch f.Kind {
	case KindFlag:
		return fmt.Sprint(f.flag(in))
	case KindDuration:
		return FormatDuration(age)
	case KindTime:
		return f.time(in).Format(time.RFC3339Nano)
	case KindTexts:
		return QuotedList(*f.texts(in))
	}
	return fmt.Sprintf("%q", f.Text(in))
}
