package replay

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/examples/host-app/chat"
	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
)

const secret = "nobody should ever read these words again"

// Each store in turn gets a leak, which the search must find.
func TestFindLeaks_EachStore(t *testing.T) {
	lines := func() []*traceLine {
		return []*traceLine{
			{Op: "message", ID: "gone", ConversationID: "team", ConversationType: "group", Sender: "dan", Text: secret,
				Attachments: []string{"gone.png"}, accepted: true},
			{Op: "message", ID: "short", ConversationID: "team", ConversationType: "group", Sender: "dan", Text: "psst",
				accepted: true},
			{Op: "message", ID: "live", ConversationID: "team", ConversationType: "group", Sender: "dan",
				Text: "words that may stay where they are", Attachments: []string{"kept.png"}, accepted: true},
		}
	}
	row := func(query string, args ...any) func(context.Context, *chat.Server) error {
		return func(ctx context.Context, s *chat.Server) error {
			db, err := sql.Open("sqlite", "file:"+s.Store().Path()+"?_pragma=busy_timeout(10000)")
			if err != nil {
				return err
			}
			_, err = db.ExecContext(ctx, query, args...)
			return errors.Join(err, db.Close())
		}
	}
	const insert = "INSERT INTO messages (id, conversation, sender, type, sent_at, text, attachments) " +
		"VALUES (?, 'group/team', 'dan', 'text', 1, ?, '[]')"
	for name, c := range map[string]struct {
		plant func(context.Context, *chat.Server) error
		want  string
	}{
		"nothing planted":  {func(context.Context, *chat.Server) error { return nil }, ""},
		"what may stay":    {row(insert, "live", "words that may stay where they are"), ""},
		"history, by id":   {row(insert, "gone", "other words"), "history: message gone is there"},
		"history, by text": {row(insert, "quote", "psst"), "history: the text of message short"},
		"offline queue, by id": {row("INSERT INTO offline (user, id, payload) VALUES ('ben', 'gone', '{}')"),
			"offline queue: message gone"},
		"offline queue, by text": {row(`INSERT INTO offline (user, id, payload) VALUES ('ben', 'x', '{"text":"psst"}')`),
			"offline queue: the text of message short"},
		"roaming log, by id": {row("INSERT INTO roaming (user, id, payload) VALUES ('ben', 'gone', '{}')"),
			"roaming log: message gone"},
		"roaming log, by text": {row(`INSERT INTO roaming (user, id, payload) VALUES ('ben', 'x', '{"text":"psst"}')`),
			"roaming log: the text of message short"},
		"notice": {row(`INSERT INTO notices (user, id, had, notice) VALUES ('ben', 'gone', 1,
			'{"message":{"text":"psst"}}')`), "notices: the text of message short"},
		"placeholder": {row(`INSERT INTO placeholders (seq, id, conversation, notice, received) VALUES (1, 'gone',
			'', '{"message":{"text":"psst"}}', '[]')`), "placeholders: the text of message short"},
		"file of an attachment": {func(_ context.Context, s *chat.Server) error {
			return os.WriteFile(s.Files().Path("gone.png"), []byte("x"), 0o600)
		}, "attachment: the file gone.png"},
		"copy of an attachment": {func(_ context.Context, s *chat.Server) error {
			return os.WriteFile(filepath.Join(s.Files().Dir(), "copy"), []byte(fileText("gone.png")), 0o600)
		}, "copy: a piece of the text of file gone.png"},
		"part of a text, in any file": {func(_ context.Context, s *chat.Server) error {
			return os.WriteFile(filepath.Join(s.Files().Dir(), "log"), []byte("\x00\x01"+secret[3:30]+"\xff"), 0o600)
		}, "log: a piece of the text of message gone"},
		"name of an attachment, elsewhere": {
			row("INSERT INTO files (key, name, owner, conversation) VALUES ('k', ?, 'dan', '')", secret),
			"chat.db: a piece of the text of message gone"},
		"queue of a client": {func(_ context.Context, s *chat.Server) error {
			_, err := s.Connect("ben")
			s.Hub().Hold("gone", nil, []chat.Member{{User: "ben"}})
			return err
		}, "delivery: message gone waits for ben"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			config := host.Config{File: hosttest.WriteConfig(t, hosttest.BuildPlugin(t), t.TempDir()),
				RunDir: hosttest.RunDir(t)}
			s, _, err := chat.Open(ctx, chat.Data{Folder: t.TempDir()}, config, hclog.NewNullLogger())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Store().AddUser(ctx, "ben", "Ben", false); err != nil {
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
func TestFindLeaks_IndexFolder(t *testing.T) {
	dir := t.TempDir()
	r := &replay{}
	for i := range 2000 {
		text := fmt.Sprintf("the letter %d says that the river is high", i)
		r.lines = append(r.lines, &traceLine{Op: "message", ID: fmt.Sprint("an id of some length ", i), Text: text,
			accepted: true})
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
