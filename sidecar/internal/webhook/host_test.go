package webhook_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// A real plugin delivers a step to a receiver that fails twice.
func TestRun_StepOfHost(t *testing.T) {
	h, requests := keep(t)
	statuses := []int{http.StatusInternalServerError, http.StatusNotFound, http.StatusNoContent}
	next := make(chan int, len(statuses))
	for _, status := range statuses {
		next <- status
	}
	w := open(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		h(w, r)
		w.WriteHeader(<-next)
	}).URL, nil)
	recall := hosttest.Open(t, host.Config{Steps: map[string]host.Step{shared.StepHistory: {Run: w.Run}}})
	team := shared.Conversation{Type: shared.ConversationGroup, ID: "team"}
	m := shared.Message{
		Tenant: "acme", ID: "m1", Conversation: team, Sender: "ann", Type: shared.TypeText, SentAt: time.Now(),
	}
	if got, err := recall.Recall(within(t), shared.RecallRequest{
		Tenant: "acme", Actor: shared.Actor{ID: "ann"}, RecallID: "r1",
		Targets: []shared.Target{{MessageID: m.ID, Conversation: team, Role: shared.RoleMember, Message: &m}},
	}); err != nil || got[0].Status != shared.StatusRecalled {
		t.Fatalf("got %+v, %v", got, err)
	}
	if err := recall.Wait(within(t), "acme", "r1"); err != nil {
		t.Fatal(err)
	}
	t.Run("all attempts have one webhook-id", func(t *testing.T) {
		all := requests()
		if len(all) != len(statuses) {
			t.Fatalf("got %d requests, want %d", len(all), len(statuses))
		}
		for _, r := range all {
			if id := r.header.Get("webhook-id"); id == "" || id != all[0].header.Get("webhook-id") {
				t.Errorf("webhook-id is %q, of the first attempt %q", id, all[0].header.Get("webhook-id"))
			}
		}
	})
	t.Run("the ledger counts the attempts", func(t *testing.T) {
		page, err := recall.Ledger(within(t), shared.LedgerRequest{Tenant: "acme", RecallID: "r1"})
		if err != nil {
			t.Fatal(err)
		}
		steps := page.Entries[0].Steps
		i := slices.IndexFunc(steps, func(s shared.StepRecord) bool { return s.Step == shared.StepHistory })
		if i < 0 || steps[i].Outcome != shared.OutcomeDone || steps[i].Attempts != len(statuses) {
			t.Errorf("got %+v", steps)
		}
	})
}
