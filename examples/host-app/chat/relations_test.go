package chat

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

const secret = "the password is swordfish-7391"

// wantNowhere fails if any file of the server holds the secret, or a user reads it in the history.
func wantNowhere(t *testing.T, s *Server) {
	t.Helper()
	ctx := testContext(t)
	if err := s.store.Scrub(ctx); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Dir(s.store.Path()), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("swordfish-7391")) {
			t.Errorf("%s holds the recalled text", filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range []shared.Conversation{singleRoom, groupRoom, lobby} {
		list, _, err := s.timeline(ctx, room, "ann", 0, maxPage)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(encode(list)); strings.Contains(text, "swordfish-7391") {
			t.Errorf("the history of %s shows %s", room.ID, text)
		}
	}
}

// The text of a recalled message is nowhere: not in its edits, nor in a forward, nor in quotes of others, for whoever
// is there and whoever is away.
func TestRelations_TextIsNowhere(t *testing.T) {
	s, _ := newTestServer(t)
	ben := connect(t, s, "ben")
	m := send(t, s, "ann", Outgoing{Conversation: groupRoom, Text: "the password is " + "secret"})
	edit := send(t, s, "ann", Outgoing{Conversation: groupRoom, Text: secret, Edit: m.ID})
	quote := send(t, s, "ben", Outgoing{Conversation: groupRoom, Text: "Really?", Quote: m.ID})
	copied := send(t, s, "ben", Outgoing{Conversation: lobby, Forward: m.ID})
	if quote.Quoted != secret || copied.Text != secret {
		t.Fatalf("quoted %q, forwarded %q", quote.Quoted, copied.Text)
	}
	if f := ben.wait(t, "message", edit.ID); !strings.Contains(string(f.Body), `"edit":"`+m.ID+`"`) {
		t.Errorf("ben got %s", f.Body)
	}
	list, _, err := s.timeline(testContext(t), groupRoom, "dan", 0, 10)
	if err != nil || len(list) != 2 || list[1].Text != secret || list[1].Edited != edit.Seq || list[0].Quoted != secret {
		t.Fatalf("the history is %+v, %v", list, err)
	}

	r := takeBack(t, s, "ann", adapter.Ask{MessageIDs: []string{m.ID}})
	if r.Status != shared.StatusRecalled {
		t.Fatalf("%+v", r)
	}
	settled(t, s, r.RecallID)
	wantNowhere(t, s)
	if n := ben.notice(t, m.ID); n.MessageID != m.ID {
		t.Errorf("%+v", n)
	}
	ben.notice(t, copied.ID)
	if list, _, err = s.timeline(testContext(t), groupRoom, "dan", 0, 10); err != nil || len(list) != 2 ||
		list[0].Text != "Really?" || list[0].Quoted != "" || list[1].Recalled == nil {
		t.Errorf("the history is %+v, %v", list, err)
	}
	for _, user := range []string{"dan", "cleo"} { // they were away
		c, err := s.Connect(user)
		if err != nil {
			t.Fatal(err)
		}
		for {
			f, err := c.Next(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(f.Body), "swordfish-7391") {
				t.Errorf("%s got %s", user, f.Body)
			}
			if f.ID == m.ID && f.Event == "notice" {
				break
			}
		}
		if err := c.Leave(); err != nil {
			t.Fatal(err)
		}
	}

	late := send(t, s, "ben", Outgoing{Conversation: groupRoom, Text: "And now?", Quote: m.ID})
	if late.Quoted != "" {
		t.Errorf("a late quote repeats %q", late.Quoted)
	}
	if _, err := s.Send(testContext(t), "ann", Outgoing{Conversation: groupRoom, Text: secret, Edit: m.ID}); err == nil {
		t.Error("a recalled message was edited")
	}
	if _, err := s.Send(testContext(t), "ben", Outgoing{Conversation: lobby, Forward: m.ID}); err == nil {
		t.Error("a recalled message was forwarded")
	}
}

// A quote that was copied just before the recall, and indexed after it, goes without the text.
func TestRelations_RecalledWhileItIsQuoted(t *testing.T) {
	s, _ := newTestServer(t)
	cleo := connect(t, s, "cleo")
	m := send(t, s, "ann", Outgoing{Conversation: groupRoom, Text: secret})
	quote := Stored{Text: "Really?", Quoted: secret, Message: shared.Message{
		Tenant: Tenant, ID: "q", Conversation: groupRoom, Sender: "ben", Type: shared.TypeText, SentAt: m.SentAt,
		Relations: []shared.Relation{{Kind: shared.RelationQuote, MessageID: m.ID}},
	}}
	held, _, _ := s.hub.Hold(quote.ID, m.ID, []Member{{User: "cleo"}})
	if _, err := s.store.Insert(testContext(t), &quote, []string{"dan"}, []string{"dan"}); err != nil {
		t.Fatal(err)
	}
	r := takeBack(t, s, "ann", adapter.Ask{MessageIDs: []string{m.ID}})
	settled(t, s, r.RecallID)
	body := quote.bodies()
	if err := s.index(context.Background(), &quote); err != nil || quote.Quoted != "" {
		t.Fatalf("%+v, %v", quote, err)
	}
	s.hub.Release(held, body)
	if f := cleo.wait(t, "message", "q"); strings.Contains(string(f.Body), "swordfish-7391") {
		t.Errorf("cleo got %s", f.Body)
	}
	wantNowhere(t, s)
}

func TestRelations_Refused(t *testing.T) {
	s, _ := newTestServer(t)
	m := send(t, s, "ann", Outgoing{Conversation: groupRoom, Text: "hello"})
	private := send(t, s, "ann", Outgoing{Conversation: singleRoom, Text: "private"})
	edit := send(t, s, "ann", Outgoing{Conversation: groupRoom, Text: "hello again", Edit: m.ID})
	for name, c := range map[string]struct {
		user string
		out  Outgoing
	}{
		"an edit of another's message":      {"ben", Outgoing{Conversation: groupRoom, Text: "x", Edit: m.ID}},
		"an edit in another conversation":   {"ann", Outgoing{Conversation: lobby, Text: "x", Edit: m.ID}},
		"an edit of an edit":                {"ann", Outgoing{Conversation: groupRoom, Text: "x", Edit: edit.ID}},
		"an edit of nothing":                {"ann", Outgoing{Conversation: groupRoom, Text: "x", Edit: "none"}},
		"a quote from another conversation": {"ann", Outgoing{Conversation: groupRoom, Text: "x", Quote: private.ID}},
		"a forward of what one cannot read": {"dan", Outgoing{Conversation: groupRoom, Forward: private.ID}},
		"a forward with a text":             {"ann", Outgoing{Conversation: lobby, Text: "x", Forward: m.ID}},
		"two relations":                     {"ann", Outgoing{Conversation: groupRoom, Text: "x", Edit: m.ID, Quote: m.ID}},
	} {
		if _, err := s.Send(testContext(t), c.user, c.out); !errors.Is(err, shared.ErrInvalid) &&
			!errors.Is(err, adapter.ErrNotVisible) {
			t.Errorf("%s: %v", name, err)
		}
	}
	again := Outgoing{ID: "f", Conversation: lobby, Forward: m.ID}
	if first := send(t, s, "ann", again); first.Text != "hello again" {
		t.Errorf("forwarded %q", first.Text)
	}
	send(t, s, "ann", Outgoing{Conversation: groupRoom, Text: "edited once more", Edit: m.ID})
	if repeated := send(t, s, "ann", again); repeated.Text != "hello again" {
		t.Errorf("a retry forwarded %q", repeated.Text)
	}
}

// A forwarded file stays its owner's: the recall of a forward does not delete it, that of the original deletes both.
func TestRelations_ForwardedFile(t *testing.T) {
	s, _ := newTestServer(t)
	ctx := testContext(t)
	put := func(key string) {
		t.Helper()
		info := FileInfo{Name: "a.txt", Owner: "ann", Conversation: groupRoom}
		if err := s.files.Put(ctx, key, info, strings.NewReader(secret)); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(key string) bool {
		_, err := os.Stat(s.files.Path(key))
		return err == nil
	}
	put("k")
	m := send(t, s, "ann", Outgoing{Conversation: groupRoom, Type: shared.TypeFile, Attachments: []string{"k"}})
	f1 := send(t, s, "ben", Outgoing{Conversation: lobby, Forward: m.ID})
	send(t, s, "ben", Outgoing{Conversation: lobby, Forward: f1.ID})
	r := takeBack(t, s, "ben", adapter.Ask{MessageIDs: []string{f1.ID}})
	settled(t, s, r.RecallID)
	if !exists("k") {
		t.Fatal("the recall of a forward deleted the file of its original")
	}
	r = takeBack(t, s, "ann", adapter.Ask{MessageIDs: []string{m.ID}})
	settled(t, s, r.RecallID)
	if exists("k") {
		t.Error("the file outlived the recall of its original")
	}
	wantNowhere(t, s)
}
