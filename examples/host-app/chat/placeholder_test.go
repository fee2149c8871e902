package chat

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

func TestPlaceholder_EveryDevice(t *testing.T) {
	c := newChat(t)
	send(t, c.Server, "cleo", Outgoing{ID: "first", Conversation: groupRoom, Text: "good morning"})
	ben := c.user("ben", "group/team", desktop)
	send(t, c.Server, "cleo", Outgoing{ID: "secret", Conversation: groupRoom, Text: "said too much"})
	ben.message("said too much")
	send(t, c.Server, "cleo", Outgoing{ID: "last", Conversation: groupRoom, Text: "see you later"})
	ben.recall(ben.message("said too much"))
	const words = "You removed a message of Cleo"
	ben.shows(".placeholder", words)
	settled(t, c.Server, c.recallIDOf(t, "secret"))
	shown := func(tb *tab, words string) {
		t.Helper()
		tb.wait(`JSON.stringify([...document.querySelectorAll('#list > [data-id]')].map((e) =>
			e.dataset.id)) === '["first","secret","last"]'`)
		tb.shows(`[data-id="secret"].placeholder`, words)
		tb.holdsNot("said too much")
	}
	t.Run("after a reload", func(t *testing.T) {
		ben.run(chromedp.Reload())
		shown(ben, words)
	})
	t.Run("on a second device", func(t *testing.T) {
		shown(c.user("ben", "group/team", phone), words)
	})
	t.Run("of the sender", func(t *testing.T) {
		shown(c.user("cleo", "group/team", desktop), "A message of yours was removed by an admin")
	})
}

// recallIDOf is the recall id under which a message was recalled.
func (c *chat) recallIDOf(t *testing.T, id string) string {
	t.Helper()
	states, err := c.recall.Status(testContext(t), Tenant, []string{id})
	if err != nil || states[0].RecallID == "" {
		t.Fatalf("%s is not recalled: %+v %v", id, states, err)
	}
	return states[0].RecallID
}

func TestPlaceholder_AwayForBoth(t *testing.T) {
	c := newChat(t)
	for _, m := range []struct{ id, actor, text string }{
		{"own", "cleo", "a slip of the tongue"},
		{"removed", "ben", "an advert for watches"},
	} {
		send(t, c.Server, "cleo", Outgoing{ID: m.id, Conversation: groupRoom, Text: m.text})
		takeBack(t, c.Server, m.actor, adapter.Ask{MessageIDs: []string{m.id}, RecallID: "r-" + m.id})
		settled(t, c.Server, "r-"+m.id)
	}
	dan := c.user("dan", "group/team", desktop)
	dan.shows(`[data-id="own"].placeholder`, "Cleo recalled a message")
	dan.shows(`[data-id="removed"].placeholder`, "Ben recalled a message")
	dan.shows(`[data-room="group/team"] .preview`, "Ben recalled a message")
	dan.wait(`document.querySelectorAll('#list .day').length === 1`)
	for _, text := range []string{"slip of the tongue", "advert"} {
		dan.holdsNot(text)
	}
}

func TestPlaceholder_NoticeOfUnknownMessage(t *testing.T) {
	c := newChat(t)
	dan := c.user("dan", "group/team", desktop)
	m := Stored{Text: "never delivered",
		Message: shared.Message{Tenant: Tenant, ID: "m", Conversation: groupRoom, Sender: "cleo",
			Type: shared.TypeText, SentAt: time.Now().UTC()}}
	ctx := testContext(t)
	if _, err := c.store.Insert(ctx, &m, nil, nil); err != nil {
		t.Fatal(err)
	}
	e := shared.Event{Tenant: Tenant, RecallID: "r", Actor: shared.Actor{ID: "cleo"}, RecalledAt: time.Now(),
		Message: m.Message}
	if err := c.store.setPlaceholder(ctx, e, nil); err != nil {
		t.Fatal(err)
	}
	c.hub.Notify(e, map[string]bool{"dan": false}, false)
	dan.shows(`[data-id="m"].placeholder`, "Cleo recalled a message")
	dan.holdsNot("never delivered")
}

func TestHistory_Placeholders(t *testing.T) {
	t.Run("facts for those who had the message", func(t *testing.T) {
		w := newWeb(t)
		ben := connect(t, w.server, "ben")
		send(t, w.server, "cleo", Outgoing{ID: "m", Conversation: groupRoom, Text: "the secret"})
		ben.wait(t, "message", "m")
		takeBack(t, w.server, "cleo", adapter.Ask{MessageIDs: []string{"m"}, RecallID: "r", Reason: "private"})
		settled(t, w.server, "r")
		for user, had := range map[string]bool{"ben": true, "cleo": true, "dan": false, "ann": false} {
			_, answer := w.do("GET", "/history?type=group&id=team", user, "")
			body := answer["body"].(string)
			if !strings.Contains(body, `"recall_id":"r"`) || strings.Contains(body, `"sender":"cleo"`) != had ||
				strings.Contains(body, `"sent_at":"2`) != had {
				t.Errorf("%s is shown %s", user, body)
			}
			if strings.Contains(body, "secret") || strings.Contains(body, "private") {
				t.Errorf("%s is shown the text or the reason: %s", user, body)
			}
		}
	})

	t.Run("none for a silent recall", func(t *testing.T) {
		_, block := rulesFile(t, ownWords)
		w := newWeb(t, block)
		send(t, w.server, "cleo", Outgoing{ID: "m", Conversation: groupRoom, Text: "an advert"})
		if r := takeBack(t, w.server, "ann",
			adapter.Ask{MessageIDs: []string{"m"}, RecallID: "r"}); r.Status != shared.StatusRecalled {
			t.Fatalf("%+v", r)
		}
		settled(t, w.server, "r")
		if _, answer := w.do("GET", "/history?type=group&id=team", "ann", ""); len(answer["messages"].([]any)) > 0 {
			t.Errorf("%v", answer)
		}
	})

	t.Run("without facts when the notice is late", func(t *testing.T) {
		w := newStubWeb(t, new(index))
		m := send(t, w.server, "cleo", Outgoing{ID: "m", Conversation: groupRoom, Text: "the secret"})
		e := shared.Event{Tenant: Tenant, RecallID: "r", Actor: shared.Actor{ID: "cleo"}, RecalledAt: time.Now(),
			Message: m.Message}
		for _, step := range []string{shared.StepHistory, shared.StepNotify, shared.StepHistory} {
			if _, err := w.server.steps()[step].Run(testContext(t),
				shared.Delivery{Event: e, Step: step, Attempt: 1}); err != nil {
				t.Fatalf("%s: %v", step, err)
			}
		}
		for user, had := range map[string]bool{"cleo": true, "dan": false} {
			_, answer := w.do("GET", "/history?type=group&id=team", user, "")
			body := answer["body"].(string)
			if strings.Count(body, `"recall_id":"r"`) != 1 || strings.Contains(body, `"sender":"cleo"`) != had ||
				strings.Contains(body, "secret") {
				t.Errorf("%s is shown %s", user, body)
			}
		}
	})

	t.Run("pages", func(t *testing.T) {
		w := newWeb(t)
		var want []string
		for i := range 9 {
			id := fmt.Sprint("m", i)
			send(t, w.server, "cleo", Outgoing{ID: id, Conversation: groupRoom, Text: "x"})
			want = append([]string{id}, want...)
		}
		recalled := map[string]bool{"m0": true, "m1": true, "m4": true, "m5": true, "m6": true, "m8": true}
		for id := range recalled {
			takeBack(t, w.server, "cleo", adapter.Ask{MessageIDs: []string{id}, RecallID: id})
			settled(t, w.server, id)
		}
		for limit := 1; limit <= 10; limit++ {
			var got []string
			for before, more := 0.0, true; more; {
				_, answer := w.do("GET", fmt.Sprintf("/history?type=group&id=team&limit=%d&before=%.0f", limit, before), "dan", "")
				for _, entry := range answer["messages"].([]any) {
					m := entry.(map[string]any)
					if _, is := m["recalled"]; is != recalled[m["id"].(string)] {
						t.Errorf("limit %d: %v", limit, m)
					}
					got = append(got, m["id"].(string))
				}
				before, more = answer["before"].(float64)
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("limit %d: %v, want %v", limit, got, want)
			}
		}
	})
}
