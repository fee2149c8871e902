package wire

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chat-recall/recall/shared"
)

func TestValidate_InvalidInput(t *testing.T) {
	msg := func(change func(*shared.Message)) func() error {
		return func() error {
			bad := fullMessage
			change(&bad)
			return ValidateMessage(&bad)
		}
	}
	req := func(change func(*shared.RecallRequest)) func() error {
		return func() error {
			bad, message := fullRequest, fullMessage
			bad.Targets = fullTargets()
			bad.Targets[0].Message = &message
			change(&bad)
			return ValidateRecall(&bad)
		}
	}
	since := func(change func(*shared.SinceRequest)) func() error {
		return func() error {
			bad := fullSince
			change(&bad)
			return ValidateSince(&bad)
		}
	}
	list := func(change func(*shared.ListRequest)) func() error {
		return func() error {
			bad := fullList
			change(&bad)
			return ValidateList(&bad)
		}
	}
	forget := func(change func(*shared.ForgetRequest)) func() error {
		return func() error {
			bad := fullForget
			change(&bad)
			return ValidateForget(&bad)
		}
	}
	ledger := func(change func(*shared.LedgerRequest)) func() error {
		return func() error {
			bad := fullLedger
			change(&bad)
			return ValidateLedger(&bad)
		}
	}
	settlement := func(change func(*Settlement)) func() error {
		return func() error {
			bad := settlements(1)[0]
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
		{msg(func(m *shared.Message) { m.Tenant = "" }), "tenant", "empty"},
		{msg(func(m *shared.Message) { m.ID = "" }), "id", "empty"},
		{msg(func(m *shared.Message) { m.ID = long }), "id", "65536 bytes long; at most 256"},
		{msg(func(m *shared.Message) { m.ID = "a\x00b" }), "id", "NUL"},
		{msg(func(m *shared.Message) { m.ID = "\x00b" }), "id", "NUL"},
		{msg(func(m *shared.Message) { m.ID = "a\xff" }), "id", "UTF-8"},
		{msg(func(m *shared.Message) { m.Conversation.ID = "" }), "conversation.id", "empty"},
		{msg(func(m *shared.Message) { m.Conversation.Type = "grupo" }), "conversation.type",
			`"grupo"; one of single, group, chatroom`},
		{msg(func(m *shared.Message) { m.Sender = long }), "sender", "at most 256"},
		{msg(func(m *shared.Message) { m.Type = "gif" }), "type", "one of text, image"},
		{msg(func(m *shared.Message) { m.SentAt = time.Time{} }), "sent_at", "not set"},
		{msg(func(m *shared.Message) { m.SentAt = time.Unix(-5, 0) }), "sent_at", "1970"},
		{msg(func(m *shared.Message) { m.SentAt = time.Unix(1<<40, 0) }), "sent_at", "9999"},
		{msg(func(m *shared.Message) { m.Attachments = make([]shared.Attachment, 101) }), "attachments",
			"101 entries; at most 100"},
		{msg(func(m *shared.Message) { m.Attachments = []shared.Attachment{{Key: "a"}, {Key: long}} }), "attachments[1].key",
			"at most 2048"},
		{msg(func(m *shared.Message) { m.Labels = []string{""} }), "labels[0]", "empty"},
		{msg(func(m *shared.Message) { m.Labels = []string{"a", long} }), "labels[1]", "at most 128"},
		{msg(func(m *shared.Message) { m.Attachments = []shared.Attachment{{}} }), "attachments[0].key", "empty"},
		{msg(func(m *shared.Message) { m.Attachments = []shared.Attachment{{Key: "a", Owner: long}} }),
			"attachments[0].owner", "256"},
		{msg(func(m *shared.Message) { m.Ref = long }), "ref", "65536 bytes long; at most 1024"},
		{func() error { return ValidateBatch("messages", 1_000_000) }, "messages", "1000000 entries; at most 1000"},
		{func() error { return ValidateAmendment(&shared.Amendment{MessageID: "m"}) }, "tenant", "empty"},
		{func() error { return ValidateAmendment(&shared.Amendment{Tenant: "t"}) }, "message_id", "empty"},
		{func() error {
			return ValidateAmendment(&shared.Amendment{Tenant: "t", MessageID: "m", Conversation: &shared.Conversation{ID: "g"}})
		}, "conversation.type", "one of single"},
		{func() error { return ValidateAmendment(&shared.Amendment{Tenant: "t", MessageID: "m", Ref: &long}) }, "ref",
			"at most 1024"},

		{req(func(r *shared.RecallRequest) { r.Tenant = "" }), "tenant", "empty"},
		{req(func(r *shared.RecallRequest) { r.Targets = nil }), "targets", "0 targets; 1 to 100"},
		{req(func(r *shared.RecallRequest) { r.Targets = make([]shared.Target, 101) }), "targets", "101 targets; 1 to 100"},
		{req(func(r *shared.RecallRequest) { r.Targets = append(r.Targets, r.Targets[0]) }), "targets[1].message_id",
			"targets[0].message_id"},
		{req(func(r *shared.RecallRequest) { r.Targets[0].MessageID = "" }), "targets[0].message_id", "empty"},
		{req(func(r *shared.RecallRequest) { r.Targets[0].Role = "admim" }), "targets[0].role",
			`"admim"; one of member, admin, owner, system, none`},
		{req(func(r *shared.RecallRequest) { r.Targets[0].Conversation = shared.Conversation{} }), "targets[0].conversation",
			"only the role system"},
		{req(func(r *shared.RecallRequest) { r.Targets[0].Conversation.Type = "" }), "targets[0].conversation.type",
			"one of single"},
		{req(func(r *shared.RecallRequest) { r.Targets[0].Labels = many(33) }), "targets[0].labels", "at most 32"},
		{req(func(r *shared.RecallRequest) { r.Targets[0].Message.Sender = "" }), "targets[0].message.sender", "empty"},
		{req(func(r *shared.RecallRequest) { r.Targets[0].Message.Tenant = "other" }), "targets[0].message.tenant", "tenant"},
		{req(func(r *shared.RecallRequest) { r.Targets[0].Message.ID = "other" }), "targets[0].message.id", "m/1"},
		{req(func(r *shared.RecallRequest) { r.Targets[0].Message.Conversation.ID = "other" }),
			"targets[0].message.conversation", "lobby"},
		{req(func(r *shared.RecallRequest) { r.Actor.Labels = many(33) }), "actor.labels", "at most 32"},
		{req(func(r *shared.RecallRequest) { r.Actor.ID = "" }), "actor.id", "empty"},
		{req(func(r *shared.RecallRequest) { r.Ext = long }), "ext", "at most 4096"},
		{req(func(r *shared.RecallRequest) { r.Reason = long }), "reason", "at most 1024"},
		{req(func(r *shared.RecallRequest) { r.RecallID = "" }), "recall_id", "empty"},
		{req(func(r *shared.RecallRequest) { r.RequestedAt = time.Unix(-1, 0) }), "requested_at", "1970"},
		{req(func(r *shared.RecallRequest) { r.RequestedAt = time.Unix(0, 999) }), "requested_at", "1970"},
		{req(func(r *shared.RecallRequest) { // so long ago that its microseconds are those of today
			r.RequestedAt = time.Unix(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix()-1<<58/15625, 0)
		}), "requested_at", "1970"},

		{func() error { return ValidateStatus("", nil) }, "tenant", "empty"},
		{func() error { return ValidateStatus("t", many(1001)) }, "ids", "at most 1000"},
		{func() error { return ValidateStatus("t", []string{"a", "\xfe"}) }, "ids[1]", "UTF-8"},
		{since(func(r *shared.SinceRequest) { r.After = long }), "after", "at most 256"},
		{since(func(r *shared.SinceRequest) { r.Limit = 1001 }), "limit", "1000"},
		{since(func(r *shared.SinceRequest) { r.Limit = -1 }), "limit", "-1"},
		{since(func(r *shared.SinceRequest) { r.Conversations = make([]shared.Conversation, 1001) }), "conversations",
			"at most 1000"},
		{since(func(r *shared.SinceRequest) { r.Conversations = append(r.Conversations, r.Conversations[0]) }),
			"conversations[1]", "conversations[0]"},
		{since(func(r *shared.SinceRequest) { r.Tenant = "" }), "tenant", "empty"},
		{since(func(r *shared.SinceRequest) { r.Conversations[0].ID = "" }), "conversations[0].id", "empty"},
		{list(func(r *shared.ListRequest) { r.Tenant = "" }), "tenant", "empty"},
		{forget(func(r *shared.ForgetRequest) { r.Tenant = "" }), "tenant", "empty"},
		{forget(func(r *shared.ForgetRequest) { r.Conversation = shared.Conversation{} }), "sender", "0 of sender"},
		{forget(func(r *shared.ForgetRequest) { r.Sender = "ann" }), "sender", "2 of sender"},
		{forget(func(r *shared.ForgetRequest) { r.Sender = long }), "sender", "at most 256"},
		{forget(func(r *shared.ForgetRequest) { r.Conversation.Type = "crowd" }), "conversation.type", "crowd"},
		{forget(func(r *shared.ForgetRequest) { r.Conversation.ID = "" }), "conversation.id", "empty"},
		{forget(func(r *shared.ForgetRequest) { r.Before = maxTime.Add(time.Second) }), "before", "9999"},
		{list(func(r *shared.ListRequest) { r.Actor = long }), "actor", "at most 256"},
		{list(func(r *shared.ListRequest) { r.Sender = "a\x00" }), "sender", "NUL"},
		{list(func(r *shared.ListRequest) { r.Rule = long }), "rule", "at most 256"},
		{list(func(r *shared.ListRequest) { r.JobID = long }), "job_id", "at most 256"},
		{list(func(r *shared.ListRequest) { r.After = long }), "after", "at most 256"},
		{list(func(r *shared.ListRequest) { r.Conversation.Type = "crowd" }), "conversation.type", "crowd"},
		{list(func(r *shared.ListRequest) { r.Conversation.ID = "" }), "conversation.id", "empty"},
		{list(func(r *shared.ListRequest) { r.From = minTime.Add(-time.Second) }), "from", "1970"},
		{list(func(r *shared.ListRequest) { r.Before = maxTime.Add(time.Second) }), "before", "9999"},
		{list(func(r *shared.ListRequest) { r.Before = r.From }), "before", "not after from"},
		{list(func(r *shared.ListRequest) { r.Steps = "done" }), "steps", "one of open, failed"},
		{list(func(r *shared.ListRequest) { r.Limit = 1001 }), "limit", "1000"},
		{list(func(r *shared.ListRequest) { r.Limit = -1 }), "limit", "-1"},
		{ledger(func(r *shared.LedgerRequest) { r.Tenant = "" }), "tenant", "empty"},
		{ledger(func(r *shared.LedgerRequest) { r.RecallID = "" }), "recall_id", "empty"},
		{ledger(func(r *shared.LedgerRequest) { r.After = long }), "after", "at most 256"},
		{ledger(func(r *shared.LedgerRequest) { r.Limit = 1001 }), "limit", "1000"},
		{ledger(func(r *shared.LedgerRequest) { r.Limit = -1 }), "limit", "-1"},
		{settlement(func(s *Settlement) { s.Step = "" }), "step", "a-z"},
		{settlement(func(s *Settlement) { s.Key = "no key" }), "key", ""},
		{settlement(func(s *Settlement) { s.Attempt = -1 }), "attempt", "-1"},
		{settlement(func(s *Settlement) { s.Outcome = "" }), "outcome", "one of done"},
		{settlement(func(s *Settlement) { s.Error = long }), "error", "at most 1024"},
		{func() error { return ValidateSettlements(MaxSettlements + 1) }, "settlements", "at most 512"},
		{func() error { return ValidateSteps(make([]StepPlan, shared.MaxSteps+1)) }, "steps", "at most 32"},
		{
			func() error { return ValidateSteps([]StepPlan{{Name: "push", After: []string{long}}}) },
			"steps[0].after[0]", "no step",
		},
		{func() error { return ValidateSteps([]StepPlan{{Name: "No"}}) }, "steps[0]", "a-z"},
		{func() error { return ValidateSteps([]StepPlan{{Name: "push"}, {Name: "push"}}) }, "steps[1]", "steps[0]"},
		{
			func() error {
				return ValidateSteps([]StepPlan{{Name: "push"}, {Name: "seen", After: []string{"seen"}}})
			},
			"steps[1].after[0]", "waits for itself",
		},
		{
			func() error {
				return ValidateSteps([]StepPlan{{Name: "push"}, {Name: shared.StepNotify, After: []string{"push"}}})
			},
			"steps[1].after[0]", "waits for no step",
		},
		{
			func() error {
				return ValidateSteps([]StepPlan{{Name: "push"}, {Name: "seen", After: []string{"push", "push"}}})
			},
			"steps[1].after[1]", "there twice",
		},
		{
			func() error {
				return ValidateSteps([]StepPlan{{Name: "push", After: []string{"seen"}}, {Name: "seen", After: []string{"push"}}})
			},
			"steps[0].after[0]", "in a circle",
		},
		{func() error { return shared.ValidateStep("step", "No Tify") }, "step", "a-z"},
		{func() error { return shared.ValidateStep("step", long) }, "step", "64"},
	} {
		// Each change works on slices of its own.
		fullSince.Conversations = []shared.Conversation{{Type: shared.ConversationGroup, ID: "g"}}
		err := tc.call()
		var field *shared.FieldError
		if !errors.As(err, &field) || field.Field != tc.field || !strings.Contains(field.Problem, tc.words) {
			t.Errorf("%s: got %v, want a problem with %q", tc.field, err, tc.words)
		}
		if len(err.Error()) > 300 {
			t.Errorf("%s: an error of %d bytes repeats the bad input", tc.field, len(err.Error()))
		}
	}
}

func TestValidate_ValidInput(t *testing.T) {
	m := fullMessage
	m.ID = strings.Repeat("é", shared.MaxIDBytes/2)
	for _, kind := range strings.Split(messageTypes.words(), ", ") {
		m.Type = shared.MessageType(kind)
		if err := ValidateMessage(&m); err != nil {
			t.Error(err)
		}
	}
	r := fullRequest
	r.Targets, r.RequestedAt = []shared.Target{{MessageID: "m", Role: shared.RoleSystem}}, time.Time{}
	r.Ext = strings.Repeat("x", shared.MaxExtBytes)
	if err := ValidateRecall(&r); err != nil {
		t.Error(err)
	}
	for _, step := range shared.StandardSteps() {
		if err := shared.ValidateStep("step", step); err != nil {
			t.Error(err)
		}
	}
}

func TestValidate_AtTheLimits(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	ids := func(n int) []string {
		return mapSlice(make([]string, n), func(string) string { return text(shared.MaxLabelBytes) })
	}
	attachments := slices.Repeat([]shared.Attachment{
		{Key: text(shared.MaxAttachmentBytes), Owner: text(shared.MaxIDBytes)},
	}, shared.MaxAttachments)
	message := fullMessage
	message.Attachments, message.Labels, message.Ref = attachments, ids(shared.MaxLabels), text(shared.MaxRefBytes)
	first, last := message, message
	first.SentAt, last.SentAt = minTime, maxTime
	request := fullRequest
	request.Targets = nil
	for i := range shared.MaxRecallTargets {
		request.Targets = append(request.Targets, shared.Target{
			MessageID: fmt.Sprint(i), Role: shared.RoleSystem, Labels: ids(shared.MaxLabels),
		})
	}
	request.Actor.Labels = ids(shared.MaxLabels)
	request.Ext, request.Reason = text(shared.MaxExtBytes), text(shared.MaxReasonBytes)
	one := request
	one.Targets = request.Targets[:1]
	since := shared.SinceRequest{Tenant: "t", After: text(maxCursorBytes), Limit: shared.MaxSinceLimit}
	for i := range shared.MaxSinceConversations {
		c := shared.Conversation{Type: shared.ConversationGroup, ID: fmt.Sprint(i)}
		since.Conversations = append(since.Conversations, c)
	}
	list := fullList
	list.Actor, list.Sender, list.Rule, list.After = ids(1)[0], ids(1)[0], text(shared.MaxIDBytes), text(maxCursorBytes)
	list.From, list.Before, list.Limit = minTime, maxTime, shared.MaxListLimit
	ledger := shared.LedgerRequest{
		Tenant: "t", RecallID: "r", After: text(maxCursorBytes), Limit: shared.MaxLedgerLimit,
	}
	settlement := settlements(1)[0]
	settlement.Attempt, settlement.Error = 0, text(shared.MaxStepErrorBytes)
	bySequence := settlement
	bySequence.Key = ""
	amendment := shared.Amendment{Tenant: "t", MessageID: "m", Attachments: attachments}
	languages := map[string]string{"en": text(maxAnswerTextBytes - 2)}
	for i := range maxLanguages - 1 {
		languages[fmt.Sprint(i)] = ""
	}
	for name, err := range map[string]error{
		"batch":                    ValidateBatch("messages", shared.MaxIndexBatch),
		"message":                  ValidateMessage(&message),
		"the first moment":         ValidateMessage(&first),
		"the last moment":          ValidateMessage(&last),
		"amendment":                ValidateAmendment(&amendment),
		"recall":                   ValidateRecall(&request),
		"recall of one message":    ValidateRecall(&one),
		"status":                   ValidateStatus("t", ids(shared.MaxStatusIDs)),
		"since":                    ValidateSince(&since),
		"since without a limit":    ValidateSince(&shared.SinceRequest{Tenant: "t"}),
		"list":                     ValidateList(&list),
		"forget a sender":          ValidateForget(&shared.ForgetRequest{Tenant: "t", Sender: ids(1)[0]}),
		"forget a conversation":    ValidateForget(&fullForget),
		"forget by time":           ValidateForget(&shared.ForgetRequest{Tenant: "t", Before: minTime}),
		"list of everything":       ValidateList(&shared.ListRequest{Tenant: "t"}),
		"ledger":                   ValidateLedger(&ledger),
		"ledger without a limit":   ValidateLedger(&shared.LedgerRequest{Tenant: "t", RecallID: "r"}),
		"settlement":               settlement.Validate(),
		"settlement by a sequence": bySequence.Validate(),
		"settlements":              ValidateSettlements(MaxSettlements),
		"texts":                    validTexts("text", languages),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := validTexts("text", map[string]string{text(maxAnswerTextBytes): "x"})
	if want := "text: a text of 65537 bytes; at most 65536"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestClipText(t *testing.T) {
	for _, tc := range []struct {
		text  string
		limit int
		want  string
	}{
		{"abc", 4, "abc"}, {"abc", 3, "abc"}, {"abc", 2, "ab"}, {"abc", 0, ""},
		{"aé", 3, "aé"}, {"aé", 2, "a"}, {"é", 1, ""}, {"a\xff", 4, "a\uFFFD"}, {"a\xff", 3, "a"},
	} {
		if got := clipText(tc.text, tc.limit); got != tc.want {
			t.Errorf("%q clipped to %d bytes is %q, want %q", tc.text, tc.limit, got, tc.want)
		}
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
