package rulestest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/chat-recall/recall/rules/internal/lang"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// Case is a [rules.Input] as people write it: in test files, as JSON, and as flags of recall-plugin explain. Its zero
// value is a text message that a member sent to a group and recalls at once. Empty fields have the defaults that
// [CaseFields] describe.
type Case struct {
	Tenant             string   `json:"tenant,omitempty"`
	Conversation       string   `json:"conversation,omitempty"`
	ConversationID     string   `json:"conversation_id,omitempty"`
	ConversationLabels []string `json:"conversation_labels,omitempty"`
	ActorLabels        []string `json:"actor_labels,omitempty"`
	Type               string   `json:"type,omitempty"`
	MessageID          string   `json:"message_id,omitempty"`
	Labels             []string `json:"labels,omitempty"`
	SentBy             string   `json:"sent_by,omitempty"`
	SentAt             string   `json:"sent_at,omitempty"`
	Age                string   `json:"age,omitempty"`
	Actor              string   `json:"actor,omitempty"`
	Role               string   `json:"role,omitempty"`
	Sender             *bool    `json:"sender,omitempty"`
	Reason             string   `json:"reason,omitempty"`
	Ext                string   `json:"ext,omitempty"`
}

// CaseField describes one field of a [Case]. One of Text, List and Flag is set; it returns the place of the value.
type CaseField struct {
	Name  string // in test files and JSON; flags have - instead of _
	About string
	Text  func(*Case) *string
	List  func(*Case) *[]string
	Flag  func(*Case) **bool
}

// CaseFields is every field of a [Case], in the order in which they are shown.
var CaseFields = []CaseField{
	{Name: "tenant", About: "Default: `any`.", Text: func(c *Case) *string { return &c.Tenant }},
	{Name: "conversation", About: "The type of the conversation. Default: `group`.",
		Text: func(c *Case) *string { return &c.Conversation }},
	{Name: "conversation_id", About: "Default: `c1`.", Text: func(c *Case) *string { return &c.ConversationID }},
	{Name: "conversation_labels", About: "Default: none.", List: func(c *Case) *[]string { return &c.ConversationLabels }},
	{Name: "type", About: "The type of the message. Default: `text`.", Text: func(c *Case) *string { return &c.Type }},
	{Name: "message_id", About: "Default: `m1`.", Text: func(c *Case) *string { return &c.MessageID }},
	{Name: "labels", About: "The labels of the message. Default: none.",
		List: func(c *Case) *[]string { return &c.Labels }},
	{Name: "sent_by", About: "The ID of the sender. Default: depends on `sender`.",
		Text: func(c *Case) *string { return &c.SentBy }},
	{Name: "sent_at", About: "When the message was sent, like `2026-01-31T08:00:00Z`. Default: `2026-01-01T00:00:00Z`.",
		Text: func(c *Case) *string { return &c.SentAt }},
	{Name: "age", About: "The time from sending to the request. Default: `0s`.",
		Text: func(c *Case) *string { return &c.Age }},
	{Name: "actor", About: "The ID of the actor. Default: `ann`.", Text: func(c *Case) *string { return &c.Actor }},
	{Name: "actor_labels", About: "Default: none.", List: func(c *Case) *[]string { return &c.ActorLabels }},
	{Name: "role", About: "The role of the actor. Default: `member`.", Text: func(c *Case) *string { return &c.Role }},
	{Name: "sender", About: "Whether the actor sent the message. Default: `true`, unless `sent_by` is somebody else.",
		Flag: func(c *Case) **bool { return &c.Sender }},
	{Name: "reason", About: "The reason of the request. Default: none.",
		Text: func(c *Case) *string { return &c.Reason }},
	{Name: "ext", About: "Free text of the request. Default: empty.", Text: func(c *Case) *string { return &c.Ext }},
}

// ParseCase reads a case from a JSON object and refuses unknown fields.
func ParseCase(text []byte) (Case, error) {
	var c Case
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return c, fmt.Errorf("the case is not a JSON object like {\"role\": \"admin\"}: %w", err)
	}
	var names []string
	for _, f := range CaseFields {
		names = append(names, f.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if known := lang.Nearest(name, names); known != name {
			advice := lang.DidYouMean(name, names)
			return c, fmt.Errorf("a case has no field %q. %sThere are %s", name, advice, strings.Join(names, ", "))
		}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("decode the case: %w", err)
	}
	return c, nil
}

// Input returns the case as an input of a policy. Errors name the field and its possible values.
func (c Case) Input() (*policy.Input, error) {
	in := &policy.Input{
		Tenant:             cmp.Or(c.Tenant, "any"),
		MessageID:          cmp.Or(c.MessageID, "m1"),
		MessageType:        cmp.Or(c.Type, "text"),
		MessageLabels:      c.Labels,
		SentAt:             policy.Origin,
		ConversationID:     cmp.Or(c.ConversationID, "c1"),
		ConversationType:   cmp.Or(c.Conversation, "group"),
		ConversationLabels: c.ConversationLabels,
		ActorLabels:        c.ActorLabels,
		ActorID:            cmp.Or(c.Actor, "ann"),
		ActorRole:          cmp.Or(c.Role, "member"),
		Reason:             c.Reason,
		Ext:                c.Ext,
	}
	for _, word := range []struct {
		field, text string
		vocabulary  *policy.Vocabulary
	}{
		{"conversation", in.ConversationType, policy.ConversationTypes},
		{"type", in.MessageType, policy.MessageTypes},
		{"role", in.ActorRole, policy.Roles},
	} {
		if word.vocabulary.Bit(word.text) == 0 {
			return nil, fmt.Errorf("%s: unknown %s %q. %s", word.field, word.vocabulary.Name, word.text,
				lang.WordAdvice(word.vocabulary, word.text))
		}
	}
	in.Sender = cmp.Or(c.SentBy, in.ActorID)
	if c.Sender != nil {
		switch {
		case c.SentBy == "" && !*c.Sender:
			in.Sender = "somebody but " + in.ActorID
		case in.IsSender() != *c.Sender:
			return nil, fmt.Errorf("sender is %t, but the actor is %q and the message was sent by %q", *c.Sender, in.ActorID,
				in.Sender)
		}
	}
	var err error
	if c.SentAt != "" {
		if in.SentAt, err = time.Parse(time.RFC3339Nano, c.SentAt); err != nil {
			return nil, fmt.Errorf("sent_at: %q is not a time; write it like \"2026-01-31T08:00:00Z\"", c.SentAt)
		}
	}
	age, err := policy.ParseDuration(cmp.Or(c.Age, "0s"))
	if err != nil {
		return nil, fmt.Errorf("age: %w", err)
	}
	in.RequestedAt = in.SentAt.Add(age)
	return in, nil
}

// caseOf returns the case of an input, without the fields that have their default.
func caseOf(in *policy.Input) Case {
	plain := func(text, otherwise string) string {
		if text == otherwise {
			return ""
		}
		return text
	}
	c := Case{
		Tenant:             plain(in.Tenant, "any"),
		Conversation:       in.ConversationType,
		ConversationID:     plain(in.ConversationID, "c1"),
		ConversationLabels: in.ConversationLabels,
		ActorLabels:        in.ActorLabels,
		Type:               in.MessageType,
		MessageID:          plain(in.MessageID, "m1"),
		Labels:             in.MessageLabels,
		SentBy:             plain(in.Sender, in.ActorID),
		Age:                policy.FormatDuration(in.Age()),
		Actor:              plain(in.ActorID, "ann"),
		Role:               in.Role(),
		Reason:             in.Reason,
		Ext:                in.Ext,
	}
	if !in.SentAt.Equal(policy.Origin) {
		c.SentAt = in.SentAt.Format(time.RFC3339Nano)
	}
	is := in.IsSender()
	c.Sender = &is
	return c
}

// String returns the case as attributes of a test, on one line.
func (c Case) String() string {
	var parts []string
	for _, f := range CaseFields {
		switch {
		case f.Text != nil && *f.Text(&c) != "":
			parts = append(parts, fmt.Sprintf("%s = %q", f.Name, *f.Text(&c)))
		case f.List != nil && len(*f.List(&c)) > 0:
			parts = append(parts, fmt.Sprintf("%s = %s", f.Name, policy.QuotedList(*f.List(&c))))
		case f.Flag != nil && *f.Flag(&c) != nil:
			parts = append(parts, fmt.Sprintf("%s = %t", f.Name, **f.Flag(&c)))
		}
	}
	return strings.Join(parts, ", ")
}
