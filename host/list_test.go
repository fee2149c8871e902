package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// listed reads all pages of a list.
func listed(t *testing.T, h shared.Recall, req shared.ListRequest) (events []shared.Event) {
	t.Helper()
	for more := true; more; {
		page, err := h.List(within(t), req)
		if err != nil || page.Reset {
			t.Fatalf("list %+v: %+v, %v", req, page, err)
		}
		events = append(events, page.Events...)
		req.After, more = page.Next, page.More
	}
	return events
}

func TestList(t *testing.T) {
	fails := map[string]bool{"m3": true}
	step := host.Step{Run: func(_ context.Context, d shared.Delivery) (shared.Outcome, error) {
		if fails[d.Message.ID] {
			return "", errors.New("the database is read-only")
		}
		return shared.OutcomeDone, nil
	}}
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{shared.StepHistory: step}})
	began, rule := time.Now(), ""
	for i := range 6 {
		id := fmt.Sprint("m", i)
		index(t, h, id)
		result := takeBack(t, h, id)
		rule = result.Rule.Name
		if !fails[id] {
			settled(t, h, result.RecallID)
		}
	}
	wantIDs := func(what string, events []shared.Event, want ...string) {
		t.Helper()
		var got []string
		for _, e := range events {
			got = append(got, e.Message.ID)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	group := shared.Conversation{Type: shared.ConversationGroup, ID: "g"}
	wantIDs("all", listed(t, h, shared.ListRequest{Tenant: "acme", Conversation: group, Actor: "ann", Sender: "ann",
		From: began.Add(-time.Minute), Before: time.Now().Add(time.Minute), Rule: rule, Limit: 2}),
		"m5", "m4", "m3", "m2", "m1", "m0")
	wantIDs("another rule", listed(t, h, shared.ListRequest{Tenant: "acme", Rule: "other"}))
	wantIDs("from later on", listed(t, h, shared.ListRequest{Tenant: "acme", From: time.Now().Add(time.Minute)}))
	wantIDs("open", listed(t, h, shared.ListRequest{Tenant: "acme", Steps: shared.StepsOpen}), "m3")
	eventually(t, "a failed step", func() bool {
		return len(listed(t, h, shared.ListRequest{Tenant: "acme", Steps: shared.StepsFailed})) == 1
	})
	t.Run("goes on after a crash, while others recall", func(t *testing.T) {
		req := shared.ListRequest{Tenant: "acme", Limit: 4}
		page, err := h.List(within(t), req)
		if err != nil || !page.More {
			t.Fatalf("%+v, %v", page, err)
		}
		wantIDs("the first page", page.Events, "m5", "m4", "m3", "m2")
		index(t, h, "m6")
		takeBack(t, h, "m6")
		hosttest.Kill(t, h)
		req.After = page.Next
		wantIDs("the others", listed(t, h, req), "m1", "m0")
	})
	t.Run("refuses what is malformed", func(t *testing.T) {
		var field *shared.FieldError
		_, err := h.List(within(t), shared.ListRequest{Tenant: "acme", Steps: "done"})
		if !errors.As(err, &field) || field.Field != "steps" {
			t.Errorf("%v", err)
		}
	})
}

// The log of the host has each refusal that a real plugin logged.
func TestRefusals_Logged(t *testing.T) {
	var log hosttest.LogBuffer
	h := hosttest.Open(t, host.Config{Logger: hclog.New(&hclog.LoggerOptions{
		Name: "chat", Output: &log, Level: hclog.Info, JSONFormat: true,
	})})
	index(t, h, "m1")
	req := recallOf("m1")
	req.Actor.ID, req.RecallID, req.Ext = "bob", "r-bob", "host content"
	if got, err := h.Recall(within(t), req); err != nil || got[0].Status != shared.StatusDenied {
		t.Fatalf("%+v, %v", got, err)
	}
	var line map[string]any
	eventually(t, "the line", func() bool {
		for text := range strings.Lines(log.String()) {
			line = nil
			if json.Unmarshal([]byte(text), &line) == nil && line["@message"] == "refused" {
				return true
			}
		}
		return false
	})
	for name, want := range map[string]string{
		"@level": "info", "tenant": "acme", "recall_id": "r-bob", "actor": "bob", "role": "member", "message_id": "m1",
		"conversation": "g", "conversation_type": "group", "sender": "ann", "type": "text", "status": "denied",
		"code": "forbidden", "rule": "default_deny", "@module": "recall-plugin.audit",
	} {
		if line[name] != want {
			t.Errorf("%s is %v, want %s", name, line[name], want)
		}
	}
	if strings.Contains(log.String(), req.Ext) {
		t.Error("ext is in the log")
	}
}
