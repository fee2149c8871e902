package shared

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// The limits of a call. Each is refused with a *FieldError that names it.
const (
	MaxIDBytes            = 256  // tenant, message, conversation, sender, actor and recall ids
	MaxRecallIDs          = 100  // messages of a RecallRequest
	MaxIndexBatch         = 1000 // messages of an Index call
	MaxStatusIDs          = 1000 // ids of a Status call
	MaxSinceConversations = 1000
	MaxSinceLimit         = 1000
	MaxLedgerLimit        = 1000
	MaxExtBytes           = 4 << 10
	MaxReasonBytes        = 1 << 10
	MaxAttachments        = 100
	MaxAttachmentBytes    = 2 << 10 // one attachment key
	MaxLabels             = 32
	MaxLabelBytes         = 128
	MaxStepBytes          = 64  // the name of a step
	MaxSteps              = 32  // steps that a host carries out
	MaxSettlements        = 512 // of a SettleAll call
	MaxDeliveries         = 128 // deliveries of one step without an outcome; a host runs no more at once

	// MaxRecallMessages is how many messages can be recalled under one recall id, in one request or many.
	MaxRecallMessages = 10_000

	// MaxDeliverBytes bounds the deliveries of one message on the wire, unless it has only one.
	MaxDeliverBytes = 256 << 10

	// MaxWireBytes bounds one message on the wire, in both directions.
	MaxWireBytes = 16 << 20
)

const (
	// MaxStepErrorBytes is how much of the error of a step the ledger keeps.
	MaxStepErrorBytes = 1 << 10

	// WireWindowBytes is what either side sends before the other has read it. A batch of 500 messages is larger than
	// gRPC's own 64 KiB, and waited half way for leave to go on (bench speed: 1.2 × as many messages a second with this).
	WireWindowBytes = 1 << 20
)

// minTime and maxTime are the first and the last moment that a time may name: 0 µs is none on the wire, and what is
// after 9999 does not survive JSON.
var (
	minTime = time.UnixMicro(1)
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// ValidateIndex checks the arguments of Index by themselves.
func ValidateIndex(msgs []Message) error {
	if len(msgs) > MaxIndexBatch {
		return Invalidf("messages", "%d messages; at most %d a call", len(msgs), MaxIndexBatch)
	}
	for i := range msgs {
		if err := msgs[i].validate(); err != nil {
			return under(fmt.Sprintf("messages[%d].", i), err)
		}
	}
	return nil
}

// under names what a field of err is in. The names of fields are put together where one is wrong, and not for every
// message: that was a tenth of what a plugin allocated.
func under(holder string, err error) error {
	var f *FieldError
	if errors.As(err, &f) {
		return &FieldError{Field: holder + f.Field, Problem: f.Problem}
	}
	return err
}

func (m *Message) validate() error {
	if err := validID("tenant", m.Tenant); err != nil {
		return err
	}
	if err := validID("id", m.ID); err != nil {
		return err
	}
	if err := m.Conversation.validate(); err != nil {
		return under("conversation.", err)
	}
	if err := validID("sender", m.Sender); err != nil {
		return err
	}
	if _, ok := messageTypes.number[m.Type]; !ok {
		return Invalidf("type", "unknown message type %.40q; one of %s", m.Type, messageTypes.words())
	}
	if m.SentAt.IsZero() {
		return Invalidf("sent_at", "is not set")
	}
	if err := validTime("sent_at", m.SentAt); err != nil {
		return err
	}
	if err := validList("attachments", m.Attachments, MaxAttachments, MaxAttachmentBytes); err != nil {
		return err
	}
	return validList("labels", m.Labels, MaxLabels, MaxLabelBytes)
}

func (c Conversation) validate() error {
	if _, ok := conversationTypes.number[c.Type]; !ok {
		return Invalidf("type", "unknown conversation type %.40q; one of %s", c.Type, conversationTypes.words())
	}
	return validID("id", c.ID)
}

// Validate checks a request by itself: what needs the clock or the index is judged by the plugin.
func (r *RecallRequest) Validate() error {
	if err := validID("tenant", r.Tenant); err != nil {
		return err
	}
	at, err := validIDs("message_ids", r.MessageIDs, MaxRecallIDs)
	if err != nil {
		return err
	}
	if err := validID("actor.id", r.Actor.ID); err != nil {
		return err
	}
	if _, ok := roles.number[r.Actor.Role]; !ok && r.Actor.Role != "" {
		return Invalidf("actor.role", "unknown role %.40q; one of %s", r.Actor.Role, roles.words())
	}
	if err := validText("ext", r.Ext, MaxExtBytes); err != nil {
		return err
	}
	if err := validText("reason", r.Reason, MaxReasonBytes); err != nil {
		return err
	}
	if err := validID("recall_id", r.RecallID); err != nil {
		return err
	}
	if err := validTime("requested_at", r.RequestedAt); err != nil {
		return err
	}
	if err := validList("conversation_labels", r.ConversationLabels, MaxLabels, MaxLabelBytes); err != nil {
		return err
	}
	if len(r.Messages) > len(r.MessageIDs) {
		return Invalidf("messages", "%d messages for %d message_ids", len(r.Messages), len(r.MessageIDs))
	}
	seen := make(map[string]int, len(r.Messages))
	for i := range r.Messages {
		m, field := &r.Messages[i], fmt.Sprintf("messages[%d]", i)
		if err := m.validate(); err != nil {
			return under(field+".", err)
		}
		if m.Tenant != r.Tenant {
			return Invalidf(field+".tenant", "is %q in a request of tenant %q", m.Tenant, r.Tenant)
		}
		if _, ok := at[m.ID]; !ok {
			return Invalidf(field+".id", "%q is not among message_ids", m.ID)
		}
		if first, dup := seen[m.ID]; dup {
			return Invalidf(field+".id", "is the same as messages[%d].id", first)
		}
		seen[m.ID] = i
	}
	return nil
}

// ValidateStatus checks the arguments of Status.
func ValidateStatus(tenant string, ids []string) error {
	if err := validID("tenant", tenant); err != nil {
		return err
	}
	if len(ids) > MaxStatusIDs {
		return Invalidf("message_ids", "%d ids; at most %d a call", len(ids), MaxStatusIDs)
	}
	for i, id := range ids {
		if err := validID("", id); err != nil {
			return under(fmt.Sprintf("message_ids[%d]", i), err)
		}
	}
	return nil
}

// Validate checks the request by itself.
func (r *SinceRequest) Validate() error {
	if err := validID("tenant", r.Tenant); err != nil {
		return err
	}
	if len(r.Conversations) > MaxSinceConversations {
		return Invalidf("conversations", "%d conversations; at most %d a call", len(r.Conversations), MaxSinceConversations)
	}
	seen := make(map[Conversation]int, len(r.Conversations))
	for i, c := range r.Conversations {
		if err := c.validate(); err != nil {
			return under(fmt.Sprintf("conversations[%d].", i), err)
		}
		if first, dup := seen[c]; dup {
			return Invalidf(fmt.Sprintf("conversations[%d]", i), "is the same as conversations[%d]", first)
		}
		seen[c] = i
	}
	if r.Limit < 0 || r.Limit > MaxSinceLimit {
		return Invalidf("limit", "is %d; 1 to %d, or 0 for %d", r.Limit, MaxSinceLimit, MaxSinceLimit)
	}
	return nil
}

// ValidateLedger checks the arguments of Ledger.
func ValidateLedger(tenant, recallID string) error {
	if err := validID("tenant", tenant); err != nil {
		return err
	}
	return validID("recall_id", recallID)
}

// Validate checks the request by itself.
func (r *LedgerRequest) Validate() error {
	if err := ValidateLedger(r.Tenant, r.RecallID); err != nil {
		return err
	}
	if r.Limit < 0 || r.Limit > MaxLedgerLimit {
		return Invalidf("limit", "is %d; 1 to %d, or 0 for %d", r.Limit, MaxLedgerLimit, MaxLedgerLimit)
	}
	return nil
}

// Validate checks the settlement by itself.
func (s *Settlement) Validate() error {
	if err := ValidateStep("step", s.Step); err != nil {
		return err
	}
	if s.Attempt < 0 {
		return Invalidf("attempt", "is %d; from 1, or 0 for the next", s.Attempt)
	}
	if !s.Outcome.Settles() && s.Outcome != OutcomeFailed {
		return Invalidf("outcome", "unknown outcome %.40q; one of %s", s.Outcome, outcomes.words())
	}
	if len(s.Error) > MaxStepErrorBytes {
		return Invalidf("error", "is %d bytes long; at most %d", len(s.Error), MaxStepErrorBytes)
	}
	return nil
}

// ValidateSettlements checks how many settlements a call has.
func ValidateSettlements(n int) error {
	if n > MaxSettlements {
		return Invalidf("settlements", "%d settlements; at most %d a call", n, MaxSettlements)
	}
	return nil
}

// ValidateStep checks the name of a step: MaxStepBytes of lower case letters, digits, _ and -.
func ValidateStep(field, step string) error {
	if !isStep(step) {
		return Invalidf(field, "%.80q is no step name: 1 to %d of a-z, 0-9, _ and -", step, MaxStepBytes)
	}
	return nil
}

func isStep(name string) bool {
	return name != "" && len(name) <= MaxStepBytes && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// validIDs checks a list of 1 to limit ids, each once, and returns where each stands.
func validIDs(field string, ids []string, limit int) (map[string]int, error) {
	if len(ids) == 0 || len(ids) > limit {
		return nil, Invalidf(field, "%d ids; 1 to %d a call", len(ids), limit)
	}
	at := make(map[string]int, len(ids))
	for i, id := range ids {
		if err := validID("", id); err != nil {
			return nil, under(fmt.Sprintf("%s[%d]", field, i), err)
		}
		if first, dup := at[id]; dup {
			return nil, Invalidf(fmt.Sprintf("%s[%d]", field, i), "is the same as %s[%d]", field, first)
		}
		at[id] = i
	}
	return at, nil
}

func validID(field, s string) error {
	if s == "" {
		return Invalidf(field, "is empty")
	}
	return validText(field, s, MaxIDBytes)
}

func validText(field, s string, limit int) error {
	switch {
	case len(s) > limit:
		return Invalidf(field, "is %d bytes long; at most %d", len(s), limit)
	case !utf8.ValidString(s):
		return Invalidf(field, "is not valid UTF-8")
	case strings.IndexByte(s, 0) >= 0:
		return Invalidf(field, "holds a NUL")
	}
	return nil
}

func validList(field string, list []string, limit, bytes int) error {
	if len(list) > limit {
		return Invalidf(field, "%d entries; at most %d", len(list), limit)
	}
	for i, s := range list {
		if s == "" {
			return Invalidf(fmt.Sprintf("%s[%d]", field, i), "is empty")
		}
		if err := validText("", s, bytes); err != nil {
			return under(fmt.Sprintf("%s[%d]", field, i), err)
		}
	}
	return nil
}

// validTime checks a time that may be zero.
func validTime(field string, t time.Time) error {
	if !t.IsZero() && (t.Before(minTime) || t.After(maxTime)) {
		return Invalidf(field, "%s is outside 1970 to 9999", t.Format(time.RFC3339))
	}
	return nil
}

// clipText cuts a text that is only for people to at most limit bytes of valid UTF-8.
func clipText(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
