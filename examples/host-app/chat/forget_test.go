package chat

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// known counts where the server and the index name a user as the sender of a recalled message.
func known(t *testing.T, s *Server, user string) (n int) {
	t.Helper()
	page, err := s.recall.List(testContext(t), shared.ListRequest{Tenant: Tenant, Sender: user})
	if err != nil {
		t.Fatal(err)
	}
	n = len(page.Events)
	for _, table := range []string{"placeholders", "notices"} {
		var rows int
		if err := s.store.read.QueryRowContext(testContext(t), "SELECT count(*) FROM "+table+
			" WHERE notice LIKE ?", `%"`+user+`"%`).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		n += rows
	}
	return n
}

func TestForget_OfAUser(t *testing.T) {
	w := newWeb(t)
	someRecalls(t, w.server)
	if known(t, w.server, "cleo") < 4 {
		t.Fatal("nothing is known of the user")
	}
	for user, want := range map[string]int{"": http.StatusForbidden, "ann": http.StatusForbidden} {
		if status, answer := w.do("POST", "/audit/forget", user, `{"user":"cleo"}`); status != want {
			t.Errorf("%q: %d %v", user, status, answer)
		}
	}
	if status, answer := w.do("POST", "/audit/forget", "vera", `{"user":""}`); status != http.StatusBadRequest ||
		!strings.Contains(fmt.Sprint(answer), "user") {
		t.Errorf("no user: %d %v", status, answer)
	}

	send(t, w.server, "cleo", Outgoing{ID: "live", Conversation: groupRoom, Text: "x"})
	if status, answer := w.do("POST", "/audit/forget", "vera", `{"user":"cleo"}`); status != http.StatusConflict ||
		!strings.Contains(fmt.Sprint(answer), "1 message") {
		t.Errorf("with a live message: %d %v", status, answer)
	}
	if known(t, w.server, "cleo") < 4 {
		t.Error("a refused request has forgotten something")
	}
	takeBack(t, w.server, "cleo", adapter.Ask{MessageIDs: []string{"live"}, RecallID: "r-live"})
	settled(t, w.server, "r-live")
	others := known(t, w.server, "ann")

	// Ben took back m1, a message of Cleo.
	if status, answer := w.do("POST", "/audit/forget", "vera", `{"user":"ben"}`); status != http.StatusOK {
		t.Errorf("%d %v", status, answer)
	}
	var actor string
	if err := w.server.store.read.QueryRowContext(testContext(t),
		"SELECT json_extract(notice, '$.actor') FROM placeholders WHERE id = 'm1'").Scan(&actor); err != nil ||
		actor != shared.Forgotten {
		t.Errorf("m1 was recalled by %q, %v", actor, err)
	}

	if status, answer := w.do("POST", "/audit/forget", "vera", `{"user":"cleo"}`); status != http.StatusOK ||
		!strings.Contains(fmt.Sprint(answer["body"]), `"done":true`) {
		t.Errorf("%d %v", status, answer)
	}
	if n := known(t, w.server, "cleo"); n != 0 {
		t.Errorf("the user is named %d times", n)
	}
	if known(t, w.server, "ann") != others {
		t.Error("another user was forgotten")
	}
	status, err := w.server.recall.Status(testContext(t), Tenant, []string{"live"})
	if err != nil || status[0].State != shared.MessageRecalled || status[0].Message != nil {
		t.Errorf("%+v %v", status, err)
	}
}

func TestForget_Page(t *testing.T) {
	c := newChat(t)
	someRecalls(t, c.Server)
	vera := c.open("/audit?user=vera", desktop)
	vera.wait(`document.querySelectorAll('#recalls > li').length === 4`)
	vera.wait(`document.querySelector('#forget').hidden`)
	choose(vera, "sender", "cleo")
	vera.click("#forget")
	vera.shows("#forget-text", "cannot be undone")
	vera.click("#forget-yes")
	vera.shows("#forget-said", "2 recalled messages were forgotten")
	vera.wait(`document.querySelectorAll('#recalls > li').length === 0`)
	if n := known(t, c.Server, "cleo"); n != 0 {
		t.Errorf("the user is named %d times", n)
	}
}

// lateNotice is a plugin during whose Forget the last step of a recall is settled, which leaves a notice.
type lateNotice struct {
	index
	keep func() error
}

func (l *lateNotice) Forget(context.Context, shared.ForgetRequest) (shared.ForgetResult, error) {
	return shared.ForgetResult{Done: true}, l.keep()
}

func TestForget_LateNotice(t *testing.T) {
	s := newStubServer(t, new(index))
	s.recall = &lateNotice{keep: func() error {
		n := shared.Notice{MessageID: "m", Message: &shared.Message{ID: "m", Sender: "cleo"}}
		return s.store.Keep(t.Context(), "m", encode(n), map[string]bool{"dan": true}, nil)
	}}
	w := serveWeb(t, &api{server: s, held: new(heldCalls), limits: newLimits(192)})
	status, answer := w.do("POST", "/audit/forget", "vera", `{"user":"cleo"}`)
	if status != http.StatusOK || !strings.Contains(fmt.Sprint(answer["body"]), `"done":true`) {
		t.Errorf("%d %v", status, answer)
	}
	if kept, err := s.store.Kept(testContext(t), "dan", 0, 10); err != nil || len(kept) > 0 {
		t.Errorf("kept are %+v, %v", kept, err)
	}
}
