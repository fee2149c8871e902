package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// wait is a request that waits for its messages.
func wait(recallID string, ids ...string) shared.RecallRequest {
	req := request(recallID, ids...)
	req.Wait = time.Hour
	return req
}

// waits lists the waits of acme.
func (r *rig) waits() (list []string) {
	r.t.Helper()
	page, err := r.Waits(r.t.Context(), shared.WaitsRequest{Tenant: "acme"})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, w := range page.Waits {
		list = append(list, fmt.Sprint(w.MessageID, " ", w.RecallID, " ", w.State, " ", w.Code))
	}
	return list
}

func (r *rig) indexOne(m shared.Message) shared.IndexStatus {
	r.t.Helper()
	results, err := r.Index(r.t.Context(), []shared.Message{m})
	if err != nil {
		r.t.Fatal(err)
	}
	return results[0].Status
}

// Of a limit, the recall that takes the message back holds a unit, and no other one that waited for it does.
func TestWaits_Limits(t *testing.T) {
	r := newActive(t, limited)
	for i := range shared.MaxIDWaits {
		if got := r.recall(wait(fmt.Sprint("w", i), "m"))[0]; got.Status != shared.StatusWaiting {
			t.Fatalf("%+v", got)
		}
	}
	if got := r.indexOne(r.message("m")); got != shared.IndexRecalled || r.waits() != nil {
		t.Fatalf("%s, waits %q", got, r.waits())
	}
	if got := r.indexOne(r.message("m")); got != shared.IndexRecalled {
		t.Errorf("again: %s", got)
	}
	for i, want := range []shared.RecallStatus{shared.StatusRecalled, shared.StatusRecalled, shared.StatusDenied} {
		if got := r.recallNew(fmt.Sprint("n", i)); got.Status != want {
			t.Errorf("%d: %+v", i, got)
		}
	}
	r.recall(wait("late", "o"))
	if got := r.indexOne(r.message("o")); got != shared.IndexAdded ||
		!slices.Equal(r.waits(), []string{"o late refused rate_limited"}) {
		t.Errorf("%s, waits %q", got, r.waits())
	}
}

// Between the judgement of a message and its commit, the recall that waits for it ends and is asked again, as somebody
// who may not.
func TestWaits_AskedAgainInAnotherRole(t *testing.T) {
	r := newActive(t, "")
	first := wait("w", "m")
	first.Actor.ID, first.Targets[0].Role = "zoe", shared.RoleAdmin
	r.recall(first)
	log := &meddledLog{}
	log.before = func() {
		log.before = nil
		r.clock.Advance(time.Second)
		if _, err := r.active.log.Append(t.Context(), []index.Op{{EndWait: &index.EndWait{
			Tenant: "acme", MessageID: "m", RecallID: "w", State: shared.WaitExpired,
			At: r.clock.Now().Add(first.Wait).UnixMicro(),
		}}}); err != nil {
			t.Error(err)
		}
		second := wait("w", "m")
		second.Actor.ID = "zoe"
		if got := r.recall(second)[0]; got.Status != shared.StatusWaiting {
			t.Errorf("%+v", got)
		}
	}
	r.meddle(log)
	if got := r.indexOne(r.message("m")); got != shared.IndexAdded ||
		!slices.Equal(r.waits(), []string{"m w refused forbidden"}) {
		t.Errorf("%s, waits %q", got, r.waits())
	}
}

// A wait whose recall id another actor used since is refused, and the next one takes the message back.
func TestWaits_RecallIDUsed(t *testing.T) {
	r := newActive(t, "")
	r.recall(wait("w1", "m"))
	r.clock.Advance(time.Second)
	r.recall(wait("w2", "m"))
	r.index(r.message("other"))
	r.recall(as("zoe", shared.RoleSystem, request("w1", "other")))
	if got := r.indexOne(r.message("m")); got != shared.IndexRecalled ||
		!slices.Equal(r.waits(), []string{"m w1 refused recall_id_used"}) || len(r.ledger("w2")) != 1 {
		t.Errorf("%s, waits %q", got, r.waits())
	}
	if got := r.recall(wait("w1", "n"))[0]; got.Code != shared.CodeRecallIDUsed {
		t.Errorf("%+v", got)
	}
}

// Nothing waits until a time that has passed.
func TestWaits_RequestedLongAgo(t *testing.T) {
	r := newActive(t, "")
	req := wait("w", "m")
	req.RequestedAt = r.clock.Now().Add(-time.Hour)
	if got := r.recall(req)[0]; got.Status != shared.StatusNotFound || r.waits() != nil {
		t.Errorf("%+v, waits %q", got, r.waits())
	}
	req.RequestedAt = req.RequestedAt.Add(time.Second)
	if got := r.recall(req)[0]; got.Status != shared.StatusWaiting || !got.Until.Equal(r.clock.Now().Add(time.Second)) {
		t.Errorf("%+v", got)
	}
}
