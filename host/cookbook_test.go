package host_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// Nothing that a teacher reported disappears: a label that comes after the message holds it, for whoever asks, and also
// after the plugin was killed.
func TestCookbook_SchoolReported(t *testing.T) {
	rules, err := filepath.Abs("../rules/cookbook/school")
	if err != nil {
		t.Fatal(err)
	}
	h := hosttest.Open(t, host.Config{Rules: host.RulesConfig{Paths: []string{rules}}})
	ctx := within(t)
	class := shared.Conversation{Type: shared.ConversationGroup, ID: "class"}
	var msgs []shared.Message
	for _, id := range []string{"insult", "typo"} {
		msgs = append(msgs, shared.Message{Tenant: "school", ID: id, Conversation: class, Sender: "pupil",
			Type: shared.TypeText, SentAt: time.Now()})
	}
	if got, err := h.Index(ctx, msgs); err != nil || got[0].Status != shared.IndexAdded ||
		got[1].Status != shared.IndexAdded {
		t.Fatal(got, err)
	}
	report := []shared.Amendment{{Tenant: "school", MessageID: "insult", Labels: []string{"reported"}}}
	if got, err := h.Amend(ctx, report); err != nil || got[0].Status != shared.IndexAmended {
		t.Fatal(got, err)
	}
	pid := h.State().PID
	hosttest.Kill(t, h)
	eventually(t, "the next plugin", func() bool { return h.State().PID != pid && h.State().PID != 0 })
	for _, actor := range []struct {
		id   string
		role shared.Role
	}{{"pupil", shared.RoleMember}, {"teacher", shared.RoleOwner}} {
		got, err := h.Recall(ctx, shared.RecallRequest{Tenant: "school", Actor: shared.Actor{ID: actor.id},
			Targets: []shared.Target{{MessageID: "insult", Conversation: class, Role: actor.role}}})
		if err != nil || got[0].Code != "reported" || got[0].Text["en"] == "" || got[0].Text["zh-Hans"] == "" {
			t.Errorf("%s: %+v, %v", actor.id, got, err)
		}
	}
	got, err := h.Recall(ctx, shared.RecallRequest{Tenant: "school", Actor: shared.Actor{ID: "teacher"},
		Targets: []shared.Target{{MessageID: "typo", Conversation: class, Role: shared.RoleOwner}}})
	if err != nil || got[0].Status != shared.StatusRecalled {
		t.Errorf("what nobody reported: %+v, %v", got, err)
	}
}
