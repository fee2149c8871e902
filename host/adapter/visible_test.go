package adapter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// What a recall tells others than its actor and the sender must not tell what the message was, nor what is the
// server's.
func TestForUser(t *testing.T) {
	e := shared.Event{
		Actor: shared.Actor{ID: "olga", Labels: []string{"staff"}}, Reason: "an {insult}", Ext: "e",
		Message: shared.Message{ID: "m", Conversation: team, Sender: "ann", Type: shared.TypeImage,
			Labels: []string{"reported"}, Ref: "row 7", Attachments: []shared.Attachment{{Key: "k"}},
			Relations: []shared.Relation{{Kind: shared.RelationForward, MessageID: "elsewhere"}}},
		Related:     []shared.Related{{Kind: shared.RelationQuote, MessageID: "elsewhere", Conversation: other}},
		MoreRelated: true,
		Cause:       &shared.Relation{Kind: shared.RelationForward, MessageID: "elsewhere"},
		Attachments: []shared.Attachment{{Key: "k"}}, Rule: shared.Rule{Name: "managers", File: "/etc/rules.hcl", Line: 3},
		PolicyDigest: "abc", Placeholder: map[string]string{"en": "removed: {reason} by {actor}"},
	}
	secrets := []string{`"ann"`, "image", `"k"`, "staff", `"reason"`, "reported", "row 7", "/etc", "abc", "elsewhere",
		"more_related"}
	for user, want := range map[string][]string{
		"ann": {`"ann"`, "image", `"k"`}, "olga": {`"ann"`, "image", `"k"`, "staff", `"reason"`}, "ben": {},
	} {
		text, err := json.Marshal(adapter.ForUser(e, user))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if told := slices.Contains(want, secret); strings.Contains(string(text), secret) != told {
				t.Errorf("%s, %s: %s", user, secret, text)
			}
		}
		if !strings.Contains(string(text), "removed: an (insult) by {actor}") {
			t.Errorf("%s: %s", user, text)
		}
	}
	if e.Placeholder["en"] != "removed: {reason} by {actor}" {
		t.Error("the event itself is changed")
	}
}

// A recall of messages in two rooms: who reads one of them gets pages as if there were no other.
func TestLedger_PartlyVisible(t *testing.T) {
	p := newPlatform()
	p.roles[other]["olga"] = shared.RoleOwner
	a, _ := open(t, p)
	ctx := within(t)
	ask := adapter.Ask{RecallID: "r"}
	for i := range 9 {
		id, room := fmt.Sprint("m", i), team
		if i%3 > 0 {
			room = other
		}
		p.post(id, "olga", room, 0)
		ask.MessageIDs = append(ask.MessageIDs, id)
	}
	if got, err := a.Recall(ctx, "olga", ask); err != nil || strings.Contains(answers(t, got, err), "denied") {
		t.Fatal(got, err)
	}
	var ids []string
	req := shared.LedgerRequest{RecallID: "r", Limit: 1}
	for pages := 1; ; pages++ {
		page, err := a.Ledger(ctx, "ann", req)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			ids = append(ids, e.Event.Message.ID)
		}
		if page.Next != fmt.Sprint(pages) || page.More != (pages < 3) {
			t.Errorf("page %d: next %s, more %t", pages, page.Next, page.More)
		}
		if req.After = page.Next; !page.More {
			break
		}
	}
	if want := []string{"m0", "m3", "m6"}; !slices.Equal(ids, want) {
		t.Errorf("%q, want %q", ids, want)
	}
}

// Facts that the platform has wrong are not the fault of the user, and cost their message alone.
func TestRecall_WrongFacts(t *testing.T) {
	p := newPlatform()
	a, _ := open(t, p)
	p.post("good", "ann", team, 0)
	p.post("no sender", "", team, 0)
	p.post("future", "ann", team, -time.Hour)
	got, err := a.Recall(within(t), "olga", adapter.Ask{MessageIDs: []string{"future", "good", "no sender"}})
	if answers(t, got, err) != "not_found recalled not_found" {
		t.Error(got)
	}
}

func TestRecall_RoleForgotten(t *testing.T) {
	p := newPlatform()
	p.roles[team]["ann"] = ""
	a, _ := open(t, p)
	p.post("m", "ann", team, 0)
	if got, err := a.Recall(within(t), "ann", adapter.Ask{MessageIDs: []string{"m"}}); err == nil {
		t.Errorf("a user without a role is answered %v", got)
	}
}

type plugin = shared.Recall

// slowStatus is a plugin that is being restarted when a request comes.
type slowStatus struct {
	plugin
	wait time.Duration
}

func (s slowStatus) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	time.Sleep(s.wait)
	return s.plugin.Status(ctx, tenant, ids)
}

// A window does not run out while a request waits.
func TestRecall_HeldBeforeTheCall(t *testing.T) {
	p := newPlatform()
	a, h := open(t, p)
	a.Attach(slowStatus{h, 3 * time.Second})
	m := p.post("m", "ann", team, 2*time.Minute-2*time.Second)
	m.Tenant = "acme"
	if _, err := h.Index(within(t), []shared.Message{m}); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Recall(within(t), "ann", adapter.Ask{MessageIDs: []string{"m"}}); answers(t, got, err) != "recalled" {
		t.Error(got)
	}
}
