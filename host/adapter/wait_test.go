package adapter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

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
	if err != nil || len(page.Waits) != 1 || page.Waits[0].MessageID != "private" {
		t.Errorf("waits %+v, %v", page, err)
	}
}

// A user must not learn from a recall that may wait whether a message exists elsewhere.
func TestRecall_WaitHidesMessagesElsewhere(t *testing.T) {
	p := newPlatform()
	a, recall := open(t, p)
	ctx := within(t)
	if _, err := recall.Index(ctx, []shared.Message{
		withTenant(p.post("indexed", "ben", other, 0)), withTenant(p.post("taken back", "zoe", other, 0)),
	}); err != nil {
		t.Fatal(err)
	}
	got, err := a.Recall(ctx, "zoe", adapter.Ask{MessageIDs: []string{"taken back"}, RecallID: "of zoe"})
	if answers(t, got, err) != "recalled" {
		t.Fatal(got)
	}
	p.post("posted", "ben", other, 0)
	exist := []string{"indexed", "taken back", "posted"}
	now := time.Now()
	calls := map[string]func(context.Context, string, adapter.Ask) ([]shared.RecallResult, error){
		"recall": a.Recall, "check": a.Check,
	}
	// answer is the JSON of an answer without the id of the message.
	answer := func(t *testing.T, call string, id string, ask adapter.Ask) map[string]any {
		t.Helper()
		ask.MessageIDs = []string{id}
		got, err := calls[call](ctx, "ann", ask)
		if err != nil {
			return map[string]any{"error": err.Error()}
		}
		text, err := json.Marshal(got[0])
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		delete(fields, "message_id")
		return fields
	}
	for call := range calls {
		for name, ask := range map[string]adapter.Ask{
			"waits": {
				Conversations: []shared.Conversation{team}, Wait: time.Hour, RecallID: "r",
				RequestedAt: now.Add(-time.Second),
			},
			"the wait is over": {
				Conversations: []shared.Conversation{team}, Wait: time.Second, RecallID: "r2",
				RequestedAt: now.Add(-time.Minute),
			},
			"in a conversation of others": {Conversations: []shared.Conversation{other}, Wait: time.Hour, RecallID: "r"},
			"without a conversation":      {Wait: time.Hour, RecallID: "r"},
		} {
			t.Run(call+" "+name, func(t *testing.T) {
				want := answer(t, call, "unknown", ask)
				for _, id := range exist {
					if got := answer(t, call, id, ask); !reflect.DeepEqual(got, want) {
						t.Errorf("%s: %v\nunknown: %v", id, got, want)
					}
				}
			})
		}
		t.Run(call+" with the recall id of another user", func(t *testing.T) {
			ask := adapter.Ask{Conversations: []shared.Conversation{team}, Wait: time.Hour, RecallID: "of zoe"}
			for _, id := range append([]string{"unknown"}, exist...) {
				if got := answer(t, call, id, ask); got["code"] != "recall_id_used" {
					t.Errorf("%s: %v", id, got)
				}
			}
		})
		t.Run(call+" without recall id and time", func(t *testing.T) {
			ask := adapter.Ask{Conversations: []shared.Conversation{team}, Wait: time.Hour}
			for _, id := range append([]string{"unknown"}, exist...) {
				began := time.Now().Add(time.Hour).Truncate(time.Microsecond)
				got := answer(t, call, id, ask)
				recallID, _ := got["recall_id"].(string)
				if is, err := uuid.Parse(recallID); err != nil || is.Version() != 7 {
					t.Errorf("%s: recall id %q: %v", id, recallID, err)
				}
				text, _ := got["until"].(string)
				until, err := time.Parse(time.RFC3339Nano, text)
				if err != nil || !strings.HasSuffix(text, "Z") || until.Nanosecond()%1000 != 0 || until.Before(began) ||
					until.After(time.Now().Add(time.Hour)) {
					t.Errorf("%s: until %q: %v", id, text, err)
				}
				delete(got, "recall_id")
				delete(got, "until")
				if want := map[string]any{"status": "waiting", "text": got["text"]}; !reflect.DeepEqual(got, want) ||
					got["text"] == nil {
					t.Errorf("%s: %v", id, got)
				}
			}
		})
	}
}

// As many recalls wait for a message elsewhere as for an unknown one, also if it is sent or recalled meanwhile.
func TestRecall_WaitLimitElsewhere(t *testing.T) {
	p := newPlatform()
	a, recall := open(t, p)
	ctx := within(t)
	index := func(id string) {
		t.Helper()
		if _, err := recall.Index(ctx, []shared.Message{withTenant(p.post(id, "zoe", other, 0))}); err != nil {
			t.Fatal(err)
		}
	}
	index("known")
	ids := []string{"unknown", "known", "sent", "recalled"}
	ask := func(id string, n int) string {
		t.Helper()
		got, err := a.Recall(ctx, "ann", adapter.Ask{
			MessageIDs: []string{id}, Conversations: []shared.Conversation{team}, RecallID: fmt.Sprint(id, n), Wait: time.Hour,
		})
		return answers(t, got, err)
	}
	for _, id := range ids {
		for n := range shared.MaxIDWaits {
			if got := ask(id, n); got != "waiting" {
				t.Fatalf("%s, %d: %s", id, n, got)
			}
		}
	}
	index("sent")
	index("recalled")
	got, err := a.Recall(ctx, "zoe", adapter.Ask{MessageIDs: []string{"recalled"}})
	if answers(t, got, err) != "recalled" {
		t.Fatal(got)
	}
	for _, id := range ids {
		if first, more := ask(id, 0), ask(id, shared.MaxIDWaits); first != "waiting" || more != "denied:rate_limited" {
			t.Errorf("%s: %s, %s", id, first, more)
		}
	}
}

func withTenant(m shared.Message) shared.Message {
	m.Tenant = "acme"
	return m
}
