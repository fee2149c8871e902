package wire

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/chat-recall/recall/shared"
)

// minTime and maxTime are the first and the last moment that a time may name: 0 µs is none on the wire, and what is
// after 9999 does not survive JSON.
var (
	minTime = time.UnixMicro(1)
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

func validateConversation(c shared.Conversation) error {
	if _, ok := conversationTypes.number[c.Type]; !ok {
		return shared.Invalidf("type", "unknown conversation type %.40q; one of %s", c.Type, conversationTypes.words())
	}
	return validID("id", c.ID)
}

// maxCursorBytes bounds a cursor; the plugin's are shorter.
const maxCursorBytes = 256

// What bounds the cursors that name messages, in base 64. Each id ends with a NUL.
var (
	// That of Related is a kind and an id.
	maxRelatedCursorBytes = base64.RawURLEncoding.EncodedLen(1 + shared.MaxIDBytes + 1)
	// That of Waits is the id of a message and that of a recall.
	maxWaitsCursorBytes = base64.RawURLEncoding.EncodedLen(2 * (shared.MaxIDBytes + 1))
)

// ValidateRecall checks the request of Recall and Check by itself. The plugin checks what needs its clock or its index.
func ValidateRecall(r *shared.RecallRequest) error {
	if err := validID("tenant", r.Tenant); err != nil {
		return err
	}
	if n := len(r.Targets); n == 0 || n > shared.MaxRecallTargets {
		return shared.Invalidf("targets", "%d targets; 1 to %d a call", n, shared.MaxRecallTargets)
	}
	at := make(map[string]int, len(r.Targets))
	for i := range r.Targets {
		t := &r.Targets[i]
		if err := validTarget(r.Tenant, t); err != nil {
			return under(fmt.Sprintf("targets[%d].", i), err)
		}
		if first, dup := at[t.MessageID]; dup {
			return shared.Invalidf(fmt.Sprintf("targets[%d].message_id", i), "is the same as targets[%d].message_id", first)
		}
		at[t.MessageID] = i
	}
	if err := validID("actor.id", r.Actor.ID); err != nil {
		return err
	}
	if err := validList("actor.labels", r.Actor.Labels, shared.MaxLabels, shared.MaxLabelBytes); err != nil {
		return err
	}
	if err := validText("ext", r.Ext, shared.MaxExtBytes); err != nil {
		return err
	}
	if err := validText("reason", r.Reason, shared.MaxReasonBytes); err != nil {
		return err
	}
	if err := validID("recall_id", r.RecallID); err != nil {
		return err
	}
	if r.Wait < 0 || r.Wait > shared.MaxWait {
		return shared.Invalidf("wait", "is %s; 0 to %s", r.Wait, shared.MaxWait)
	}
	return validTime("requested_at", r.RequestedAt)
}

func validTarget(tenant string, t *shared.Target) error {
	if err := validID("message_id", t.MessageID); err != nil {
		return err
	}
	if _, ok := roles.number[t.Role]; !ok && t.Role != "" {
		return shared.Invalidf("role", "unknown role %.40q; one of %s", t.Role, roles.words())
	}
	if t.Conversation == (shared.Conversation{}) {
		if t.Role != shared.RoleSystem {
			return shared.Invalidf("conversation", "is not set; only the role system may leave it out")
		}
	} else if err := validateConversation(t.Conversation); err != nil {
		return under("conversation.", err)
	}
	if err := validList("labels", t.Labels, shared.MaxLabels, shared.MaxLabelBytes); err != nil {
		return err
	}
	if m := t.Message; m != nil {
		if err := ValidateMessage(m); err != nil {
			return under("message.", err)
		}
		if m.Tenant != tenant {
			return shared.Invalidf("message.tenant", "is %q in a request of tenant %q", m.Tenant, tenant)
		}
		if m.ID != t.MessageID {
			return shared.Invalidf("message.id", "is %q in the target %q", m.ID, t.MessageID)
		}
		if t.Conversation != (shared.Conversation{}) && m.Conversation != t.Conversation {
			return shared.Invalidf("message.conversation", "is %s %q in a target of %s %q", m.Conversation.Type,
				m.Conversation.ID,
				t.Conversation.Type, t.Conversation.ID)
		}
	}
	return nil
}

// ValidateStatus checks the arguments of Status.
func ValidateStatus(tenant string, ids []string) error {
	if err := validID("tenant", tenant); err != nil {
		return err
	}
	if len(ids) > shared.MaxStatusIDs {
		return shared.Invalidf("ids", "%d ids; at most %d a call", len(ids), shared.MaxStatusIDs)
	}
	for i, id := range ids {
		if err := validID("", id); err != nil {
			return under(fmt.Sprintf("ids[%d]", i), err)
		}
	}
	return nil
}

// ValidateSince checks the request of Since.
func ValidateSince(r *shared.SinceRequest) error {
	if err := validID("tenant", r.Tenant); err != nil {
		return err
	}
	if len(r.Conversations) > shared.MaxSinceConversations {
		return shared.Invalidf("conversations", "%d conversations; at most %d a call", len(r.Conversations),
			shared.MaxSinceConversations)
	}
	seen := make(map[shared.Conversation]int, len(r.Conversations))
	for i, c := range r.Conversations {
		if err := validateConversation(c); err != nil {
			return under(fmt.Sprintf("conversations[%d].", i), err)
		}
		if first, dup := seen[c]; dup {
			return shared.Invalidf(fmt.Sprintf("conversations[%d]", i), "is the same as conversations[%d]", first)
		}
		seen[c] = i
	}
	if err := validText("after", r.After, maxCursorBytes); err != nil {
		return err
	}
	if r.Limit < 0 || r.Limit > shared.MaxSinceLimit {
		return shared.Invalidf("limit", "is %d; 1 to %d, or 0 for %d", r.Limit, shared.MaxSinceLimit, shared.MaxSinceLimit)
	}
	return nil
}

// ValidateList checks the request of List.
func ValidateList(r *shared.ListRequest) error {
	if err := validID("tenant", r.Tenant); err != nil {
		return err
	}
	for _, t := range []struct{ field, text string }{
		{"actor", r.Actor}, {"sender", r.Sender}, {"rule", r.Rule}, {"job_id", r.JobID},
	} {
		if err := validText(t.field, t.text, shared.MaxIDBytes); err != nil {
			return err
		}
	}
	if err := validText("after", r.After, maxCursorBytes); err != nil {
		return err
	}
	if r.Conversation != (shared.Conversation{}) {
		if err := validateConversation(r.Conversation); err != nil {
			return under("conversation.", err)
		}
	}
	if err := validTime("from", r.From); err != nil {
		return err
	}
	if err := validTime("before", r.Before); err != nil {
		return err
	}
	if !r.From.IsZero() && !r.Before.IsZero() && !r.From.Before(r.Before) {
		return shared.Invalidf("before", "%s is not after from, %s", r.Before.UTC().Format(time.RFC3339Nano),
			r.From.UTC().Format(time.RFC3339Nano))
	}
	if _, ok := stepsFilters.number[r.Steps]; !ok && r.Steps != "" {
		return shared.Invalidf("steps", "unknown filter %.40q; one of %s", r.Steps, stepsFilters.words())
	}
	if r.Limit < 0 || r.Limit > shared.MaxListLimit {
		return shared.Invalidf("limit", "is %d; 1 to %d, or 0 for %d", r.Limit, shared.MaxListLimit, shared.MaxListLimit)
	}
	return nil
}

// ValidateLedger checks the request of Ledger.
func ValidateLedger(r *shared.LedgerRequest) error {
	if err := validID("tenant", r.Tenant); err != nil {
		return err
	}
	if err := validID("recall_id", r.RecallID); err != nil {
		return err
	}
	if err := validText("after", r.After, maxCursorBytes); err != nil {
		return err
	}
	if r.Limit < 0 || r.Limit > shared.MaxLedgerLimit {
		return shared.Invalidf("limit", "is %d; 1 to %d, or 0 for %d", r.Limit, shared.MaxLedgerLimit, shared.MaxLedgerLimit)
	}
	return nil
}

// ValidateWaits checks the request of Waits.
func ValidateWaits(r *shared.WaitsRequest) error {
	if err := validID("tenant", r.Tenant); err != nil {
		return err
	}
	if len(r.After) > maxWaitsCursorBytes {
		return shared.Invalidf("after", "is %d bytes long; at most %d", len(r.After), maxWaitsCursorBytes)
	}
	if r.Limit < 0 || r.Limit > shared.MaxWaitsLimit {
		return shared.Invalidf("limit", "is %d; 1 to %d, or 0 for %d", r.Limit, shared.MaxWaitsLimit, shared.MaxWaitsLimit)
	}
	return nil
}

// ValidateRelated checks the request of Related.
func ValidateRelated(r *shared.RelatedRequest) error {
	if err := validID("tenant", r.Tenant); err != nil {
		return err
	}
	if err := validID("message_id", r.MessageID); err != nil {
		return err
	}
	if len(r.After) > maxRelatedCursorBytes {
		return shared.Invalidf("after", "is %d bytes long; at most %d", len(r.After), maxRelatedCursorBytes)
	}
	if r.Limit < 0 || r.Limit > shared.MaxRelatedLimit {
		return shared.Invalidf("limit", "is %d; 1 to %d, or 0 for %d", r.Limit, shared.MaxRelatedLimit,
			shared.MaxRelatedLimit)
	}
	return nil
}

// Validate checks the settlement by itself.
func (s *Settlement) Validate() error {
	if err := shared.ValidateStep("step", s.Step); err != nil {
		return err
	}
	if s.Key != "" {
		if _, _, _, err := shared.ParseEventKey(s.Key); err != nil {
			return err
		}
	}
	if s.Attempt < 0 {
		return shared.Invalidf("attempt", "is %d; from 1, or 0 for the next", s.Attempt)
	}
	if _, ok := outcomes.number[s.Outcome]; !ok {
		return shared.Invalidf("outcome", "unknown outcome %.40q; one of %s", s.Outcome, outcomes.words())
	}
	if len(s.Error) > shared.MaxStepErrorBytes {
		return shared.Invalidf("error", "is %d bytes long; at most %d", len(s.Error), shared.MaxStepErrorBytes)
	}
	return nil
}

// ValidateSettlements checks how many settlements a call has.
func ValidateSettlements(n int) error {
	if n > MaxSettlements {
		return shared.Invalidf("settlements", "%d settlements; at most %d a call", n, MaxSettlements)
	}
	return nil
}

func validID(field, s string) error {
	if s == "" {
		return shared.Invalidf(field, "is empty")
	}
	return validText(field, s, shared.MaxIDBytes)
}

func validText(field, s string, limit int) error {
	switch {
	case len(s) > limit:
		return shared.Invalidf(field, "is %d bytes long; at most %d", len(s), limit)
	case !utf8.ValidString(s):
		return shared.Invalidf(field, "is not valid UTF-8")
	case strings.IndexByte(s, 0) >= 0:
		return shared.Invalidf(field, "holds a NUL")
	}
	return nil
}

func validList(field string, list []string, limit, bytes int) error {
	if len(list) > limit {
		return shared.Invalidf(field, "%d entries; at most %d", len(list), limit)
	}
	for i, s := range list {
		if s == "" {
			return shared.Invalidf(fmt.Sprintf("%s[%d]", field, i), "is empty")
		}
		if err := validText("", s, bytes); err != nil {
			return under(fmt.Sprintf("%s[%d]", field, i), err)
		}
	}
	return nil
}

// validTexts checks texts by language tag.
func validTexts(field string, texts map[string]string) error {
	if len(texts) > maxLanguages {
		return shared.Invalidf(field, "%d entries; at most %d", len(texts), maxLanguages)
	}
	for language, text := range texts {
		if len(language)+len(text) > maxAnswerTextBytes {
			return shared.Invalidf(field, "a text of %d bytes; at most %d", len(language)+len(text), maxAnswerTextBytes)
		}
	}
	return nil
}

// validTime checks a time that may be zero.
func validTime(field string, t time.Time) error {
	if !t.IsZero() && (t.Before(minTime) || t.After(maxTime)) {
		return shared.Invalidf(field, "%s is outside 1970 to 9999", t.Format(time.RFC3339))
	}
	return nil
}

// clipText cuts a text that is only for people to at most limit bytes of valid UTF-8.
func clipText(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for !utf8.RuneStart(s[limit]) { // s is valid, so it begins with one
		limit--
	}
	return s[:limit]
}

// ValidateForget checks the request of Forget.
func ValidateForget(r *shared.ForgetRequest) error {
	if err := validID("tenant", r.Tenant); err != nil {
		return err
	}
	set := 0
	if r.Sender != "" {
		set++
		if err := validID("sender", r.Sender); err != nil {
			return err
		}
	}
	if r.Conversation != (shared.Conversation{}) {
		set++
		if err := validateConversation(r.Conversation); err != nil {
			return under("conversation.", err)
		}
	}
	if !r.Before.IsZero() {
		set++
		if err := validTime("before", r.Before); err != nil {
			return err
		}
	}
	if set != 1 {
		return shared.Invalidf("sender", "%d of sender, conversation and before are set; set exactly one", set)
	}
	return nil
}
