package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

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

// sweepEdit has a moderator remove what cleo sent to the group in the last hour: an edit of an older message, and not
// that message.
func sweepEdit(t *testing.T, w *web) {
	t.Helper()
	status, answer := w.do("POST", "/sweep/start", "ben", `{`+team+`,"sender":"cleo","job_id":"j"}`)
	if status != 200 {
		t.Fatalf("%d %v", status, answer)
	}
	settled(t, w.server, "j-1")
}

// sendEdited sends an old message of cleo to the group, and a new edit of it that has the secret.
func sendEdited(t *testing.T, s *Server) (m, edit Stored) {
	t.Helper()
	m = send(t, s, "cleo", Outgoing{ID: "m", Conversation: groupRoom, Text: "the first version",
		SentAt: time.Now().Add(-2 * time.Hour)})
	send(t, s, "cleo", Outgoing{ID: "e0", Conversation: groupRoom, Text: "the text before", Edit: m.ID,
		SentAt: time.Now().Add(-90 * time.Minute)})
	return m, send(t, s, "cleo", Outgoing{ID: "e", Conversation: groupRoom, Text: secret, Edit: m.ID})
}

// The recall of an edit alone undoes it: its message has the text before, and no copy has that of the edit.
func TestRelations_EditAlone(t *testing.T) {
	w := newWeb(t)
	s := w.server
	ben := connect(t, s, "ben")
	m, edit := sendEdited(t, s)
	quote := send(t, s, "ben", Outgoing{ID: "q", Conversation: groupRoom, Text: "Really?", Quote: m.ID})
	again := send(t, s, "ben", Outgoing{ID: "q", Conversation: groupRoom, Text: "Really?", Quote: m.ID})
	copied := send(t, s, "ben", Outgoing{ID: "f", Conversation: lobby, Forward: m.ID})
	send(t, s, "ben", Outgoing{ID: "f2", Conversation: singleRoom, Forward: copied.ID})
	if quote.Quoted != secret || again.Quoted != secret || copied.Text != secret {
		t.Fatalf("quoted %q and %q, forwarded %q", quote.Quoted, again.Quoted, copied.Text)
	}
	if p := quote.payload(); p.Quote != m.ID || p.QuotedEdit != edit.ID || copied.payload().Forward != m.ID {
		t.Errorf("%+v, %+v", p, copied.payload())
	}

	sweepEdit(t, w)
	for _, id := range []string{edit.ID, copied.ID, "f2"} {
		ben.notice(t, id)
	}
	wantNowhere(t, s)
	list, _, err := s.timeline(testContext(t), groupRoom, "dan", 0, 10)
	if err != nil || len(list) != 2 || list[1].Text != "the text before" || list[1].Version != "e0" ||
		list[0].Text != "Really?" || list[0].Quoted != "" {
		t.Errorf("the history is %+v, %v", list, err)
	}
	_, answer := w.do("GET", "/sync", "dan", "")
	if body := answer["body"].(string); strings.Contains(body, "swordfish-7391") ||
		!strings.Contains(body, "the text before") || !strings.Contains(body, "Really?") {
		t.Errorf("a new device of dan gets %s", body)
	}
	dan := connect(t, s, "dan") // he was away for all of it
	dan.notice(t, edit.ID)
	for _, id := range []string{m.ID, "e0", quote.ID} {
		if f := dan.wait(t, "message", id); strings.Contains(string(f.Body), "swordfish-7391") {
			t.Errorf("dan got %s", f.Body)
		}
	}
	if _, got := dan.has("message", edit.ID); got {
		t.Error("dan got the recalled edit")
	}

	late := send(t, s, "ben", Outgoing{Conversation: groupRoom, Text: "And now?", Quote: m.ID})
	if late.Quoted != "the text before" {
		t.Errorf("a late quote repeats %q", late.Quoted)
	}
	r := takeBack(t, s, "ben", adapter.Ask{MessageIDs: []string{m.ID}})
	settled(t, s, r.RecallID)
	if err := s.store.Scrub(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if n := filesWith(t, filepath.Dir(s.store.Path()), "the text before"); n != nil {
		t.Errorf("after the recall of the message %q hold its text", n)
	}
}

// A quote that was copied just before a recall, of the message or of its edit, and indexed after it, goes without the
// text.
func TestRelations_RecalledWhileItIsQuoted(t *testing.T) {
	for _, what := range []string{"m", "e"} {
		t.Run(what, func(t *testing.T) {
			s, _ := newTestServer(t)
			cleo := connect(t, s, "cleo")
			m, _ := sendEdited(t, s)
			quote := Stored{Text: "Really?", Quoted: secret, Message: shared.Message{
				Tenant: Tenant, ID: "q", Conversation: groupRoom, Sender: "ben", Type: shared.TypeText, SentAt: m.SentAt,
				Relations: []shared.Relation{{Kind: shared.RelationQuote, MessageID: "m"},
					{Kind: shared.RelationQuote, MessageID: "e"}},
			}}
			held, _, _ := s.hub.Hold(quote.ID, quote.quotes(), []Member{{User: "cleo"}})
			if _, err := s.store.Insert(testContext(t), &quote, []string{"dan"}, []string{"dan"}); err != nil {
				t.Fatal(err)
			}
			r := takeBack(t, s, "ben", adapter.Ask{MessageIDs: []string{what}})
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
		})
	}
}

// A forward that was copied just before the recall of an edit, and indexed after it, is recalled too.
func TestRelations_RecalledWhileItIsForwarded(t *testing.T) {
	s, _ := newTestServer(t)
	sendEdited(t, s)
	copied := Stored{Text: secret, Message: shared.Message{
		Tenant: Tenant, ID: "f", Conversation: lobby, Sender: "ben", Type: shared.TypeText, SentAt: time.Now(),
		Relations: []shared.Relation{{Kind: shared.RelationForward, MessageID: "m"},
			{Kind: shared.RelationForward, MessageID: "e"}},
	}}
	if _, err := s.store.Insert(testContext(t), &copied, nil, []string{"dan"}); err != nil {
		t.Fatal(err)
	}
	r := takeBack(t, s, "ben", adapter.Ask{MessageIDs: []string{"e"}})
	settled(t, s, r.RecallID)
	if err := s.index(context.Background(), &copied); !errors.Is(err, ErrRecalled) {
		t.Fatalf("%v", err)
	}
	if ledger := settled(t, s, r.RecallID); len(ledger) != 2 {
		t.Errorf("%+v", ledger)
	}
	wantNowhere(t, s)
}

func TestRelations_MaxEdits(t *testing.T) {
	s := newStubServer(t, new(index))
	send(t, s, "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
	edit := func(id string) error {
		_, err := s.Send(testContext(t), "ann", Outgoing{ID: id, Conversation: groupRoom, Text: "y", Edit: "m"})
		return err
	}
	for i := range maxEdits {
		if err := edit(fmt.Sprint("e", i)); err != nil {
			t.Fatal(err)
		}
	}
	var field *shared.FieldError
	if err := edit("more"); !errors.As(err, &field) || field.Field != "edit" ||
		field.Problem != "the message has 100 edits; at most 100" {
		t.Errorf("one more: %v", err)
	}
	if err := edit("e0"); err != nil {
		t.Errorf("a retry: %v", err)
	}
}

// A request for the history does not read the texts of all edits, and a page ends when it has much text.
func TestHistory_Bounded(t *testing.T) {
	s := newStubServer(t, new(index))
	text := strings.Repeat("x", 256<<10)
	send(t, s, "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
	for range maxEdits {
		send(t, s, "ann", Outgoing{Conversation: singleRoom, Text: text, Edit: "m"})
	}
	page := func(before int64) (list []Payload, next int64, bytes uint64) {
		t.Helper()
		var was, is runtime.MemStats
		runtime.ReadMemStats(&was)
		list, next, err := s.timeline(testContext(t), singleRoom, "ben", before, maxPage)
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&is)
		return list, next, is.TotalAlloc - was.TotalAlloc
	}
	if list, next, bytes := page(0); len(list) != 1 || list[0].Text != text || next != 0 || bytes > 4<<20 {
		t.Errorf("%d messages, next %d, with %d bytes", len(list), next, bytes)
	}

	text = strings.Repeat("y", maxTextBytes)
	for i := range 10 { // five of them by an edit
		original := Outgoing{ID: fmt.Sprint("m", i), Conversation: singleRoom, Text: text}
		if i%2 == 0 {
			original.Text = "x"
		}
		send(t, s, "ann", original)
		if i%2 == 0 {
			send(t, s, "ann", Outgoing{Conversation: singleRoom, Text: text, Edit: original.ID})
		}
	}
	var ids []string
	for before, more := int64(0), true; more; {
		list, next, _ := page(before)
		size := 0
		for _, m := range list {
			ids, size = append(ids, m.ID), size+len(m.Text)
		}
		if size > maxPageText+maxTextBytes {
			t.Errorf("a page has %d bytes of text", size)
		}
		before, more = next, next != 0
	}
	if got := strings.Join(ids, " "); got != "m9 m8 m7 m6 m5 m4 m3 m2 m1 m0 m" {
		t.Errorf("the pages have %s", got)
	}
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
