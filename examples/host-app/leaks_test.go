package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/shared"
)

const secret = "nobody should ever read these words again"

// The search for leaks is worth nothing if it does not find one: each is planted and must be seen.
func TestALeakIsFoundInEachStore(t *testing.T) {
	lines := func() []*traceLine {
		return []*traceLine{
			{Op: "message", ID: "gone", ConversationID: "team", ConversationType: "group", Sender: "dan", Text: secret, Attachments: []string{"gone.png"}, accepted: true},
			{Op: "message", ID: "short", ConversationID: "team", ConversationType: "group", Sender: "dan", Text: "psst", accepted: true},
			{Op: "message", ID: "live", ConversationID: "team", ConversationType: "group", Sender: "dan", Text: "words that may stay where they are", Attachments: []string{"kept.png"}, accepted: true},
		}
	}
	row := func(query string, args ...any) func(context.Context, *Server) error {
		return func(ctx context.Context, s *Server) error {
			return s.store.apply(ctx, func(tx *writeTx) error { return tx.exec(query, args...) })
		}
	}
	const insert = "INSERT INTO messages (id, conversation, sender, type, sent_at, text, attachments) VALUES (?, 'group/team', 'dan', 'text', 1, ?, '[]')"
	for name, c := range map[string]struct {
		plant func(context.Context, *Server) error
		want  string
	}{
		"nothing planted":        {func(context.Context, *Server) error { return nil }, ""},
		"what may stay":          {row(insert, "live", "words that may stay where they are"), ""},
		"history, by id":         {row(insert, "gone", "other words"), "history: message gone is there"},
		"history, by text":       {row(insert, "quote", "psst"), "history: the text of message short"},
		"offline queue, by id":   {row("INSERT INTO offline (user, id, payload) VALUES ('ben', 'gone', '{}')"), "offline queue: message gone"},
		"offline queue, by text": {row(`INSERT INTO offline (user, id, payload) VALUES ('ben', 'x', '{"text":"psst"}')`), "offline queue: the text of message short"},
		"roaming log, by id":     {row("INSERT INTO roaming (user, id, payload) VALUES ('ben', 'gone', '{}')"), "roaming log: message gone"},
		"roaming log, by text":   {row(`INSERT INTO roaming (user, id, payload) VALUES ('ben', 'x', '{"text":"psst"}')`), "roaming log: the text of message short"},
		"notice":                 {row(`INSERT INTO notices (user, id, notice) VALUES ('ben', 'gone', '{"message":{"text":"psst"}}')`), "notices: the text of message short"},
		"file of an attachment": {func(_ context.Context, s *Server) error {
			return os.WriteFile(s.files.path("gone.png"), []byte("x"), 0o600)
		}, "attachment: the file gone.png"},
		"copy of an attachment": {func(_ context.Context, s *Server) error {
			return os.WriteFile(filepath.Join(s.files.dir, "copy"), []byte(fileText("gone.png")), 0o600)
		}, "copy: a piece of the text of file gone.png"},
		"part of a text, in any file": {func(_ context.Context, s *Server) error {
			return os.WriteFile(filepath.Join(s.files.dir, "log"), []byte("\x00\x01"+secret[3:30]+"\xff"), 0o600)
		}, "log: a piece of the text of message gone"},
		"name of an attachment, elsewhere": {row("INSERT INTO files (key, name, owner, conversation) VALUES ('k', ?, 'dan', '')", secret), "chat.db: a piece of the text of message gone"},
		"queue of a client": {func(_ context.Context, s *Server) error {
			_, err := s.Connect("ben")
			s.hub.Hold("gone", []Member{{User: "ben"}})
			return err
		}, "delivery: message gone waits for ben"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newServer(t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx := testContext(t)
			if err := addDemo(ctx, s); err != nil {
				t.Fatal(err)
			}
			if err := c.plant(ctx, s); err != nil {
				t.Fatal(err)
			}
			r := &replay{lines: lines(), server: s, recalled: map[string]bool{"gone": true, "short": true}}
			leaks, err := r.searchServer(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(leaks, "\n"); c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("found %q; want %q", all, c.want)
			}
		})
	}
}

// In the plugin's folder no text of any message may be, recalled or not.
func TestATextInThePluginsFolderIsFound(t *testing.T) {
	dir := t.TempDir()
	r := &replay{}
	for i := range 2000 {
		text := fmt.Sprintf("the letter %d says that the river is high", i)
		r.lines = append(r.lines, &traceLine{Op: "message", ID: fmt.Sprint("an id of some length ", i), Text: text, accepted: true})
	}
	write := func(value func(l *traceLine) string) {
		db, err := badger.OpenManaged(badger.DefaultOptions(dir).WithLogger(nil)) // compressed, as the plugin's
		if err != nil {
			t.Fatal(err)
		}
		batch := db.NewWriteBatchAt(db.MaxVersion() + 1)
		for _, l := range r.lines {
			if err := batch.Set([]byte("m\x00example\x00"+l.ID), []byte(value(l))); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(batch.Flush(), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write(func(l *traceLine) string { return l.ID })
	if leaks, err := r.scanPlugin(dir); err != nil || len(leaks) > 0 {
		t.Errorf("ids are taken for %d leaks: %v, %v", len(leaks), leaks[:min(len(leaks), 3)], err)
	}
	write(func(l *traceLine) string { return l.Text })
	leaks, err := r.scanPlugin(dir)
	found := map[string]bool{}
	for _, l := range leaks {
		found[l[strings.LastIndex(l, "message "):]] = true
	}
	if err != nil || len(found) != len(r.lines) {
		t.Errorf("%d of %d texts are found, %v", len(found), len(r.lines), err)
	}
}

// Deleted text must leave the database files, whatever pages were split and merged meanwhile.
func TestDeletedTextLeavesTheFilesOfTheDatabase(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := testContext(t)
	var lines []*traceLine
	recalled := make(map[string]bool)
	for i := range 600 {
		id := newID()
		word := fmt.Sprintf("%x", sha256.Sum256([]byte(id)))
		text := "letter " + word + " says that the " + strings.Repeat("river "+word[:9]+" ", i%40) + "is high"
		l := &traceLine{Op: "message", ID: id, ConversationID: "team", ConversationType: "group", Sender: "dan", Text: text, accepted: true}
		lines = append(lines, l)
		m := Stored{Text: text, Message: shared.Message{Tenant: tenant, ID: id, Conversation: groupRoom, Sender: "dan", Type: shared.Text}}
		if _, err := s.Insert(ctx, &m, []string{"ben", "ann"}, []string{"dan", "ann"}); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			recalled[id] = true
		}
	}
	e := gather(lines, recalled)
	if err := s.Scrub(ctx); err != nil {
		t.Fatal(err)
	}
	if leaks, err := e.searchBytes(dir); err != nil || len(leaks) < len(recalled) {
		t.Fatalf("before they are deleted only %d of %d texts are found, %v", len(leaks), len(recalled), err)
	}
	for id := range recalled {
		for _, from := range []func(context.Context, string, shared.Conversation) (bool, error){s.Remove, s.Dequeue, s.Unroam} {
			if found, err := from(ctx, id, groupRoom); err != nil || !found {
				t.Fatalf("%v, %v", found, err)
			}
		}
	}
	if err := s.Scrub(ctx); err != nil {
		t.Fatal(err)
	}
	if leaks, err := e.searchBytes(dir); err != nil || len(leaks) > 0 {
		t.Fatalf("%d deleted texts are still in the files, %v: %.300q", len(leaks), err, leaks[:1])
	}
}
