package adapter_test

import (
	"errors"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// A recall that came before its message is for a conversation that the user may read, and tells nothing about messages
// elsewhere.
func TestRecall_Wait(t *testing.T) {
	p := newPlatform()
	a, recall := open(t, p)
	ctx := within(t)
	ask := func(id string, c shared.Conversation) adapter.Ask {
		return adapter.Ask{
			MessageIDs: []string{id}, Conversations: []shared.Conversation{c}, RecallID: "r-" + id, Wait: time.Hour,
		}
	}
	private := p.post("private", "ben", other, 0)
	if _, err := recall.Index(ctx, []shared.Message{withTenant(private)}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"m", "private"} {
		got, err := a.Recall(ctx, "ann", ask(id, team))
		if err != nil || got[0].Status != shared.StatusWaiting || got[0].Text["en"] == "" || got[0].Until.IsZero() {
			t.Fatalf("%s: %+v, %v", id, got, err)
		}
	}
	if got, err := recall.Index(ctx, []shared.Message{withTenant(p.post("m", "ann", team, 0))}); err != nil ||
		got[0].Status != shared.IndexRecalled {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := a.Recall(ctx, "ann", ask("m", team)); answers(t, got, err) != "recalled" {
		t.Errorf("again: %+v", got)
	}
	if _, err := a.Recall(ctx, "ann", ask("n", other)); !errors.Is(err, adapter.ErrNotVisible) {
		t.Errorf("in a conversation of others: %v", err)
	}
	if _, err := a.Recall(ctx, "ann", ask("n", shared.Conversation{})); !errors.Is(err, shared.ErrInvalid) {
		t.Errorf("without a conversation: %v", err)
	}
	page, err := recall.Waits(ctx, shared.WaitsRequest{Tenant: "acme"})
	if err != nil || len(page.Waits) != 0 {
		t.Errorf("waits %+v, %v", page, err)
	}
}

func withTenant(m shared.Message) shared.Message {
	m.Tenant = "acme"
	return m
}
