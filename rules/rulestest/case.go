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

// Case is an Input as people write it: in test files, as JSON and as flags. Its zero value is a text that a member
// sent to a group and takes back at once.
type Case struct {
	Tenant             string   `json:"tenant,omitempty"`
	Conversation       string   `json:"conversation,omitempty"`
	ConversationID     string   `json:"conversation_id,omitempty"`
	ConversationLabels []string `json:"conversation_labels,omitempty"`
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

// CaseField is one thing that a Case can say. One of Text, List and Flag is set: where its value goes.
type CaseField struct {
	Name  string // in test files and JSON; flags have - for _
	About string
	Text  func(*Case) *string
	List  func(*Case) *[]string
	Flag  func(*Case) **bool
}

// CaseFields is everything that a Case can say, in the order it is shown.
var CaseFields = []CaseField{
	{Name: "tenant", About: "Without it `any`.", Text: func(c *Case) *string { return &c.Tenant }},
	{Name: "conversation", About: "The conversation's type. Without it `group`.", Text: func(c *Case) *string { return &c.Conversation }},
	{Name: "conversation_id", About: "Without it `c1`.", Text: func(c *Case) *string { return &c.ConversationID }},
	{Name: "conversation_labels", About: "Without it none.", List: func(c *Case) *[]string { return &c.ConversationLabels }},
	{Name: "type", About: "The message's type. Without it `text`.", Text: func(c *Case) *string { return &c.Type }},
	{Name: "message_id", About: "Without it `m1`.", Text: func(c *Case) *string { return &c.MessageID }},
	{Name: "labels", About: "The message's labels. Without it none.", List: func(c *Case) *[]string { return &c.Labels }},
	{Name: "sent_by", About: "The id of who sent the message. Without it as `sender` says.", Text: func(c *Case) *string { return &c.SentBy }},
	{Name: "sent_at", About: "When it was sent, like `2026-01-31T08:00:00Z`. Without it `2026-01-01T00:00:00Z`.", Text: func(c *Case) *string { return &c.SentAt }},
	{Name: "age", About: "How long after sending the request is made. Without it `0s`.", Text: func(c *Case) *string { return &c.Age }},
	{Name: "actor", About: "The id of who asks. Without it `ann`.", Text: func(c *Case) *string { return &c.Actor }},
	{Name: "role", About: "Without it `member`.", Text: func(c *Case) *string { return &c.Role }},
	{Name: "sender", About: "Whether the actor sent the message. Without it `true`, unless `sent_by` says otherwise.", Flag: func(c *Case) **bool { return &c.Sender }},
	{Name: "reason", About: "Without it none is given.", Text: func(c *Case) *string { return &c.Reason }},
	{Name: "ext", About: "Without it empty.", Text: func(c *Case) *string { return &c.Ext }},
}

// ParseCase reads a Case from JSON and refuses what it does not know.
func ParseCase(text []byte) (Case, error) {
	var c Case
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return c, fmt.Errorf("the case is not a JSON object such as {\"role\": \"admin\"}: %w", err)
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
		return c, fmt.Errorf("the case cannot be read: %w", err)
	}
	return c, nil
}

// Input is the case as a policy judges it. Errors name the field and what it can be.
func (c Case) Input() (*policy.Input, error) {
	in := &policy.Input{
		Tenant: cmp.Or(c.Tenant, "any"), MessageID: cmp.Or(c.MessageID, "m1"), MessageType: cmp.Or(c.Type, "text"), MessageLabels: c.Labels,
		ConversationID: cmp.Or(c.ConversationID, "c1"), ConversationType: cmp.Or(c.Conversation, "group"), ConversationLabels: c.ConversationLabels,
		ActorID: cmp.Or(c.Actor, "ann"), ActorRole: cmp.Or(c.Role, "member"), SentAt: policy.Origin, Reason: c.Reason, Ext: c.Ext,
	}
	for _, word := range []struct {
		field, text string
		vocabulary  *policy.Vocabulary
	}{{"conversation", in.ConversationType, policy.ConversationTypes}, {"type", in.MessageType, policy.MessageTypes}, {"role", in.ActorRole, policy.Roles}} {
		if word.vocabulary.Bit(word.text) == 0 {
			return nil, fmt.Errorf("%s: unknown %s %q. %s", word.field, word.vocabulary.Name, word.text, lang.WordAdvice(word.vocabulary, word.text))
		}
	}
	in.Sender = cmp.Or(c.SentBy, in.ActorID)
	if c.Sender != nil {
		switch {
		case c.SentBy == "" && !*c.Sender:
			in.Sender = "somebody but " + in.ActorID
		case in.IsSender() != *c.Sender:
			return nil, fmt.Errorf("sender is %t, but the actor is %q and the message was sent by %q", *c.Sender, in.ActorID, in.Sender)
		}
	}
	var err error
	if c.SentAt != "" {
		if in.SentAt, err = time.Parse(time.RFC3339Nano, c.SentAt); err != nil {
			return nil, fmt.Errorf("sent_at: %q is not a time: write it like \"2026-01-31T08:00:00Z\"", c.SentAt)
		}
	}
	age, err := policy.ParseDuration(cmp.Or(c.Age, "0s"))
	if err != nil {
		return nil, fmt.Errorf("age: %w", err)
	}
	in.RequestedAt = in.SentAt.Add(age)
	return in, nil
}

// caseOf is the case that in is, without what a Case says of itself.
func CaseOf(in *policy.Input) Case {
	plain := func(text, otherwise string) string {
		if text == otherwise {
			return ""
		}
		return text
	}
	c := Case{
		Tenant: plain(in.Tenant, "any"), Conversation: in.ConversationType, ConversationID: plain(in.ConversationID, "c1"), ConversationLabels: in.ConversationLabels,
		Type: in.MessageType, MessageID: plain(in.MessageID, "m1"), Labels: in.MessageLabels, Age: policy.FormatDuration(in.Age()), Role: in.Role(), Reason: in.Reason, Ext: in.Ext,
		Actor: plain(in.ActorID, "ann"), SentBy: plain(in.Sender, in.ActorID),
	}
	if !in.SentAt.Equal(policy.Origin) {
		c.SentAt = in.SentAt.Format(time.RFC3339Nano)
	}
	is := in.IsSender()
	c.Sender = &is
	return c
}

// String is the case as attributes of a test, on one line.
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
