package shared

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestBadInputNamesItsFieldAndLimit(t *testing.T) {
	msg := func(change func(*Message)) func() error {
		return func() error {
			bad := fullMessage
			change(&bad)
			return ValidateIndex([]Message{fullMessage, bad})
		}
	}
	req := func(change func(*RecallRequest)) func() error {
		return func() error {
			bad := fullRequest
			change(&bad)
			return bad.Validate()
		}
	}
	since := func(change func(*SinceRequest)) func() error {
		return func() error {
			bad := fullSince
			change(&bad)
			return bad.Validate()
		}
	}
	many := func(n int) []string {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprint(i)
		}
		return ids
	}
	long := strings.Repeat("x", 64<<10)
	for _, tc := range []struct {
		call         func() error
		field, words string
	}{
		{msg(func(m *Message) { m.Tenant = "" }), "messages[1].tenant", "empty"},
		{msg(func(m *Message) { m.ID = "" }), "messages[1].id", "empty"},
		{msg(func(m *Message) { m.ID = long }), "messages[1].id", "65536 bytes long; at most 256"},
		{msg(func(m *Message) { m.ID = "a\x00b" }), "messages[1].id", "NUL"},
		{msg(func(m *Message) { m.ID = "a\xff" }), "messages[1].id", "UTF-8"},
		{msg(func(m *Message) { m.Conversation.ID = "" }), "messages[1].conversation.id", "empty"},
		{msg(func(m *Message) { m.Conversation.Type = "grupo" }), "messages[1].conversation.type", `"grupo"; one of single, group, chatroom`},
		{msg(func(m *Message) { m.Sender = long }), "messages[1].sender", "at most 256"},
		{msg(func(m *Message) { m.Type = "gif" }), "messages[1].type", "one of text, image"},
		{msg(func(m *Message) { m.SentAt = time.Time{} }), "messages[1].sent_at", "not set"},
		{msg(func(m *Message) { m.SentAt = time.Unix(-5, 0) }), "messages[1].sent_at", "1970"},
		{msg(func(m *Message) { m.SentAt = time.Unix(1<<40, 0) }), "messages[1].sent_at", "9999"},
		{msg(func(m *Message) { m.Attachments = many(101) }), "messages[1].attachments", "101 entries; at most 100"},
		{msg(func(m *Message) { m.Attachments = []string{"a", long} }), "messages[1].attachments[1]", "at most 2048"},
		{msg(func(m *Message) { m.Labels = []string{""} }), "messages[1].labels[0]", "empty"},
		{func() error { return ValidateIndex(make([]Message, 1_000_000)) }, "messages", "1000000 messages; at most 1000"},

		{req(func(r *RecallRequest) { r.Tenant = "" }), "tenant", "empty"},
		{req(func(r *RecallRequest) { r.MessageIDs = nil }), "message_ids", "1 to 100"},
		{req(func(r *RecallRequest) { r.MessageIDs = many(101) }), "message_ids", "101 ids; 1 to 100"},
		{req(func(r *RecallRequest) { r.MessageIDs = []string{"a", "b", "a"} }), "message_ids[2]", "message_ids[0]"},
		{req(func(r *RecallRequest) { r.MessageIDs = []string{"a", ""} }), "message_ids[1]", "empty"},
		{req(func(r *RecallRequest) { r.Actor.ID = "" }), "actor.id", "empty"},
		{req(func(r *RecallRequest) { r.Actor.Role = "admim" }), "actor.role", `"admim"; one of member, admin, owner, system`},
		{req(func(r *RecallRequest) { r.Ext = long }), "ext", "at most 4096"},
		{req(func(r *RecallRequest) { r.Reason = long }), "reason", "at most 1024"},
		{req(func(r *RecallRequest) { r.RecallID = "" }), "recall_id", "empty"},
		{req(func(r *RecallRequest) { r.RequestedAt = time.Unix(-1, 0) }), "requested_at", "1970"},
		{req(func(r *RecallRequest) { r.RequestedAt = time.Unix(0, 999) }), "requested_at", "1970"},
		{req(func(r *RecallRequest) { // so long ago that its microseconds are those of today
			r.RequestedAt = time.Unix(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix()-1<<58/15625, 0)
		}), "requested_at", "1970"},
		{req(func(r *RecallRequest) { r.ConversationLabels = many(33) }), "conversation_labels", "at most 32"},
		{req(func(r *RecallRequest) { r.Messages = []Message{fullMessage, fullMessage} }), "messages", "2 messages for 1"},
		{req(func(r *RecallRequest) { r.Messages[0].ID = "other" }), "messages[0].id", "not among"},
		{req(func(r *RecallRequest) { r.Messages[0].Tenant = "other" }), "messages[0].tenant", "tenant"},
		{req(func(r *RecallRequest) {
			r.MessageIDs = []string{"m/1", "m2"}
			r.Messages = []Message{fullMessage, fullMessage}
		}), "messages[1].id", "messages[0].id"},

		{func() error { return ValidateStatus("", nil) }, "tenant", "empty"},
		{func() error { return ValidateStatus("t", many(1001)) }, "message_ids", "at most 1000"},
		{func() error { return ValidateStatus("t", []string{"a", "\xfe"}) }, "message_ids[1]", "UTF-8"},
		{since(func(r *SinceRequest) { r.Limit = 1001 }), "limit", "1000"},
		{since(func(r *SinceRequest) { r.Limit = -1 }), "limit", "-1"},
		{since(func(r *SinceRequest) { r.Conversations = make([]Conversation, 1001) }), "conversations", "at most 1000"},
		{since(func(r *SinceRequest) { r.Conversations = append(r.Conversations, r.Conversations[0]) }), "conversations[1]", "conversations[0]"},
		{func() error { return ValidateLedger("t", "") }, "recall_id", "empty"},
		{func() error { return ValidateStep("step", "No Tify") }, "step", "a-z"},
		{func() error { return ValidateStep("step", long) }, "step", "64"},
	} {
		// Each change works on slices of its own.
		fullRequest.Messages = []Message{fullMessage}
		fullSince.Conversations = []Conversation{{Type: Group, ID: "g"}}
		err := tc.call()
		var field *FieldError
		if !errors.As(err, &field) || field.Field != tc.field || !strings.Contains(field.Problem, tc.words) {
			t.Errorf("%s: got %v, want a problem with %q", tc.field, err, tc.words)
		}
		if len(err.Error()) > 300 {
			t.Errorf("%s: an error of %d bytes repeats the bad input", tc.field, len(err.Error()))
		}
	}
	fullRequest.Messages = []Message{fullMessage}
}

func TestAllThatIsAllowedPasses(t *testing.T) {
	m := fullMessage
	m.ID = strings.Repeat("é", MaxIDBytes/2)
	for _, kind := range strings.Split(messageTypes.words(), ", ") {
		m.Type = MessageType(kind)
		if err := ValidateIndex([]Message{m}); err != nil {
			t.Error(err)
		}
	}
	r := fullRequest
	r.Actor.Role, r.Messages, r.RequestedAt = "", nil, time.Time{}
	r.Ext = strings.Repeat("x", MaxExtBytes)
	if err := r.Validate(); err != nil {
		t.Error(err)
	}
	for _, step := range StandardSteps() {
		if err := ValidateStep("step", step); err != nil {
			t.Error(err)
		}
	}
}

func TestANoticeHidesTheMessageFromWhoNeverReceivedIt(t *testing.T) {
	if n := fullEvent.Notice(false); n.Message != nil || n.MessageID != "m/1" || n.Ext != "{}" {
		t.Errorf("got %+v", n)
	}
	if n := fullEvent.Notice(true); n.Message == nil || n.Message.Sender != "ann" {
		t.Errorf("got %+v", n)
	}
}

func FuzzClipText(f *testing.F) {
	f.Add("aé漢😀", 5)
	f.Add("\xff\xfe", 1)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1<<16 {
			return
		}
		if got := clipText(s, limit); len(got) > limit || !utf8.ValidString(got) {
			t.Errorf("%q of %d bytes, limit %d", got, len(got), limit)
		}
	})
}

func TestTheErrorOfDiagnosticsLeavesWarningsOut(t *testing.T) {
	warning, fault := Diagnostic{Severity: SeverityWarning, Summary: "odd"}, Diagnostic{Severity: SeverityError, Summary: "wrong"}
	if err := (Diagnostics{warning}).Err(); err != nil {
		t.Errorf("a warning alone is %v", err)
	}
	if err := (Diagnostics{warning, fault}).Err(); err == nil || strings.Contains(err.Error(), "odd") || !strings.Contains(err.Error(), "wrong") {
		t.Errorf("got %v", err)
	}
}
