package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mattermost/mattermost/server/public/model"

	"github.com/chat-recall/recall/shared"
)

func newSteps(t testing.TB) (*steps, *fakeServer, testDB) {
	db := newChat(t)
	f := newFake(t, db)
	return &steps{api: f, db: db.DB, admin: &admin{f, db.DB}, archive: archive{t.TempDir()}, log: f.logger()}, f, db
}

// delivery is of a post that its sender recalled now.
func delivery(db testDB, id string) shared.Delivery {
	db.t.Helper()
	posts, err := postsByID(db.t.Context(), db.DB, []string{id})
	if err != nil || len(posts) != 1 {
		db.t.Fatalf("post %s: %v, %v", id, posts, err)
	}
	m := posts[0].message()
	m.Tenant = tenant
	return shared.Delivery{Attempt: 1, Event: shared.Event{
		Tenant: tenant, RecallID: "r", Message: m, RecalledAt: time.Now(), Actor: shared.Actor{ID: m.Sender},
		Role: shared.RoleMember, Disposition: shared.DispositionErase, Reason: "typo",
	}}
}

// carryOut runs a step as the host does: Run, then Verify.
func carryOut(t testing.TB, s *steps, name string, d shared.Delivery) (shared.Outcome, error) {
	t.Helper()
	step := s.all()[name]
	outcome, err := step.Run(t.Context(), d)
	if err == nil && outcome == shared.OutcomeDone && step.Verify != nil {
		err = step.Verify(t.Context(), d)
	}
	return outcome, err
}

func wantOutcome(t testing.TB, s *steps, name string, d shared.Delivery, want shared.Outcome) {
	t.Helper()
	if got, err := carryOut(t, s, name, d); got != want || err != nil {
		t.Errorf("%s: %q, want %q (%v)", name, got, want, err)
	}
}

func TestSteps_History(t *testing.T) {
	s, f, db := newSteps(t)
	db.post("other", town, bob, "secret of another", time.Minute)
	t.Run("a post is emptied and deleted, with its old versions, reactions and link previews", func(t *testing.T) {
		db.post("p", town, alice, "secret https://example.org/a%20b www.example.net/x and more "+
			`https://example.org/?a=1&amp;b=2 [x](https://example.org/a/../b\_c) [y](/here)`, time.Minute)
		db.exec(`UPDATE posts SET hashtags = '#secret', ispinned = true, hasreactions = true,
			props = '{"attachments": [{"text": "secret", "image_url": "https://example.org/picture?x=1&y=2"}]}'
			WHERE id = 'p'`)
		db.post("v", town, alice, "secret before", time.Minute)
		db.exec(`UPDATE posts SET originalid = 'p', deleteat = 1 WHERE id = 'v'`)
		db.exec(`INSERT INTO reactions VALUES ('bob', 'p', 'tada'), ('bob', 'other', 'tada')`)
		hour := int64(time.Hour / time.Millisecond)
		created := int64(db.count(`SELECT createat FROM posts WHERE id = 'p'`))
		db.exec(`INSERT INTO linkmetadata VALUES (1, 'https://example.org/a%20b', $1), (2, 'http://www.example.net/x', $1),
			(3, 'https://example.com/', $1), (4, 'https://example.org/a%20b', $2), (5, 'https://example.org/?a=1&b=2', $1),
			(6, 'https://example.org/b_c', $1), (7, 'https://example.org/picture?x=1&y=2', $1), (8, $3, $1)`,
			created-created%hour, created-created%hour-hour, f.rest.URL+"/here")
		wantOutcome(t, s, shared.StepHistory, delivery(db, "p"), shared.OutcomeDone)
		if n := db.count(`SELECT count(*) FROM posts WHERE (id = 'p' OR originalid = 'p') AND
				(posts::text LIKE '%secret%' OR ispinned OR hasreactions OR deleteat = 0)`); n != 0 {
			t.Error(db.text(`SELECT posts::text FROM posts WHERE id = 'p'`))
		}
		if got := db.text(`SELECT string_agg(hash::text, ' ' ORDER BY hash) FROM linkmetadata`); got != "3 4" {
			t.Errorf("link previews left: %s", got)
		}
		if got := db.text(`SELECT string_agg(postid, ' ') FROM reactions`); got != "other" {
			t.Errorf("reactions left: %s", got)
		}
	})
	t.Run("copies in tables of later versions go", func(t *testing.T) {
		db.exec(`CREATE TABLE translations (objectid varchar(26), text text)`)
		db.exec(`CREATE TABLE temporaryposts (postid varchar(26), message text)`)
		defer db.exec(`DROP TABLE translations, temporaryposts`)
		db.exec(`INSERT INTO translations VALUES ('tr', 'geheim'), ('other', 'anderes')`)
		db.exec(`INSERT INTO temporaryposts VALUES ('tr', 'secret'), ('other', 'other')`)
		db.post("tr", town, alice, "secret", time.Minute)
		wantOutcome(t, s, shared.StepHistory, delivery(db, "tr"), shared.OutcomeDone)
		if got := db.text(`SELECT string_agg(text, ' ') || (SELECT string_agg(message, ' ') FROM temporaryposts)
			FROM translations`); got != "anderesother" {
			t.Errorf("copies left: %s", got)
		}
	})
	t.Run("a root with replies stays with a placeholder", func(t *testing.T) {
		db.post("root1", town, alice, "secret", time.Minute)
		db.post("reply1", town, bob, "a reply", time.Minute)
		db.exec(`UPDATE posts SET rootid = 'root1' WHERE id = 'reply1'`)
		db.exec(`UPDATE posts SET type = 'custom_poll' WHERE id = 'root1'`)
		d := delivery(db, "root1")
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
		if got := db.text(`SELECT message || type || deleteat || editat FROM posts WHERE id =
			'root1'`); got != "_This message was recalled._00" {
			t.Errorf("root %q", got)
		}
		if n := db.count(`SELECT count(*) FROM posts WHERE originalid = 'root1'`); n != 0 {
			t.Errorf("%d old versions", n)
		}
		if got := db.text(`SELECT message || deleteat FROM posts WHERE id = 'reply1'`); got != "a reply0" {
			t.Errorf("reply %q", got)
		}
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone) // again, as after a crash
	})
	t.Run("the placeholder is that of the rules, in the language of the server", func(t *testing.T) {
		f.config.LocalizationSettings.DefaultClientLocale = model.NewPointer("zh-CN")
		defer func() { f.config.LocalizationSettings.DefaultClientLocale = nil }()
		d := delivery(db, "root1")
		d.Placeholder = map[string]string{"en": "x", "zh-Hans": "{actor}（{role}）撤回了 {sender} 的消息：{reason}"}
		d.Actor.ID, d.Role = dave, shared.RoleAdmin
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
		const placeholder = "@dave（admin）撤回了 @alice 的消息：typo"
		if got := db.text(`SELECT message FROM posts WHERE id = 'root1'`); got != placeholder {
			t.Errorf("placeholder %q", got)
		}
	})
	t.Run("a placeholder without text is the standard one", func(t *testing.T) {
		d := delivery(db, "root1")
		d.Placeholder = map[string]string{"en": " "}
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
		if got := db.text(`SELECT message FROM posts WHERE id = 'root1'`); got != placeholders["en"] {
			t.Errorf("placeholder %q", got)
		}
	})
	t.Run("a post that was deleted before is emptied", func(t *testing.T) {
		db.post("deleted", town, alice, "secret", time.Minute)
		db.exec(`UPDATE posts SET deleteat = 5, props = '{"deleteBy": "alice"}' WHERE id = 'deleted'`)
		wantOutcome(t, s, shared.StepHistory, delivery(db, "deleted"), shared.OutcomeDone)
		got := db.text(`SELECT message || deleteat || (props->>'deleteBy') FROM posts WHERE id = 'deleted'`)
		if got != "5alice" {
			t.Errorf("post %q", got)
		}
	})
	t.Run("in an archived channel, where the server deletes nothing", func(t *testing.T) {
		db.post("arch", archived, alice, "secret", time.Minute)
		f.diesOn = "DeletePost" // it is not called
		defer f.revive()
		wantOutcome(t, s, shared.StepHistory, delivery(db, "arch"), shared.OutcomeDone)
	})
	t.Run("a root that stays in an archived channel is new to clients", func(t *testing.T) {
		db.post("archroot", archived, alice, "secret", time.Minute)
		db.post("archreply", archived, bob, "a reply", time.Minute)
		db.exec(`UPDATE posts SET rootid = 'archroot' WHERE id = 'archreply'`)
		before := time.Now().UnixMilli()
		wantOutcome(t, s, shared.StepHistory, delivery(db, "archroot"), shared.OutcomeDone)
		if got := db.text(`SELECT message || deleteat || (updateat >= $1) FROM posts WHERE id = 'archroot'`,
			before); got != placeholders["en"]+"0true" {
			t.Errorf("root %q", got)
		}
	})
	t.Run("a post that the database does not have", func(t *testing.T) {
		db.post("no", town, alice, "", time.Minute)
		d := delivery(db, "no")
		db.exec(`DELETE FROM posts WHERE id = 'no'`)
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeNothingToDo)
	})
	if got := db.text(`SELECT message FROM posts WHERE id = 'other'`); got != "secret of another" {
		t.Errorf("a post of another is %q", got)
	}
}

// The server deletes the replies of a root with it, and says of all that the plugin deleted them.
func TestSteps_History_ReplyMeanwhile(t *testing.T) {
	s, f, db := newSteps(t)
	reply := func(id, root string) {
		db.post(id, town, bob, "a reply", time.Second)
		db.exec(`UPDATE posts SET rootid = $2, props = '{"x": 1}' WHERE id = $1`, id, root)
	}
	begin := func(root string) shared.Delivery {
		db.post(root, town, alice, "secret", time.Minute)
		for id, by := range map[string]string{root + "bobs": bob, root + "recalled": pluginID} {
			reply(id, root)
			db.delete(id, by)
		}
		db.exec(`UPDATE posts SET message = '', props = '{"recalled": true}' WHERE id = $1`, root+"recalled")
		return delivery(db, root)
	}
	wantRestored := func(root string) {
		t.Helper()
		if got := db.text(`SELECT message || deleteat || props FROM posts WHERE id = $1`, root); got !=
			placeholders["en"]+`0{"recalled": true}` {
			t.Errorf("root %q", got)
		}
		if got := db.text(`SELECT string_agg(id || ' ' || message || ' ' || props, ', ' ORDER BY id) FROM posts
			WHERE rootid = $1 AND deleteat = 0`, root); got != root+`new a reply {"x": 1}` {
			t.Errorf("replies %q", got)
		}
	}
	t.Run("a reply that comes before the server deletes the root is restored", func(t *testing.T) {
		d := begin("a")
		f.before = map[string]func(){"DeletePost": func() { reply("anew", "a") }}
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
		wantRestored("a")
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone) // again
		wantRestored("a")
	})
	t.Run("also by the attempt after a crash", func(t *testing.T) {
		d := begin("b")
		if _, err := s.empty(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		reply("bnew", "b")
		f.DeletePost("b")
		if err := s.historyIsGone(t.Context(), d); err == nil {
			t.Error("the step is taken for done, and a reply is lost")
		}
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
		wantRestored("b")
	})
	t.Run("without one, the root goes, and its deleted replies stay deleted", func(t *testing.T) {
		d := begin("c")
		for range 2 {
			wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
			if n := db.count(`SELECT count(*) FROM posts WHERE (id = 'c' OR rootid = 'c') AND deleteat = 0`); n != 0 {
				t.Errorf("%d posts are not deleted", n)
			}
		}
	})
}

// A dead server reports success. No step takes it for one.
func TestSteps_ServerDies(t *testing.T) {
	for name, diesOn := range map[string]string{
		shared.StepNotify: "PublishWebSocketEvent", shared.StepHistory: "DeletePost", stepPreviews: "UpdatePost",
		shared.StepPush: "SendPushNotification", stepCaches: "CreateSession", stepEmail: "GetConfig",
		shared.StepSearch: "GetConfig", shared.StepAttachments: "GetConfig",
	} {
		t.Run(name, func(t *testing.T) {
			s, f, db := newSteps(t)
			f.version = "9.1.0"
			f.config.EmailSettings.SendPushNotifications = model.NewPointer(true)
			f.config.EmailSettings.SendEmailNotifications = model.NewPointer(true)
			db.exec(`INSERT INTO sessions VALUES ('s', 'bob', 'apple:1', 0)`)
			db.post("p", town, alice, "secret", time.Minute)
			db.exec(`INSERT INTO fileinfo (id, creatorid, postid, path) VALUES ('f', 'alice', 'p', 'f/f.txt')`)
			db.exec(`UPDATE posts SET fileids = '["f"]' WHERE id = 'p'`)
			db.post("quote", town, bob, "see http://localhost/team/pl/p", time.Second)
			d := delivery(db, "p")
			if name == stepPreviews {
				wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
			}
			f.diesOn = diesOn
			if outcome, err := carryOut(t, s, name, d); err == nil {
				t.Errorf("%q, and the server died in %s", outcome, diesOn)
			}
			f.revive()
			if outcome, err := carryOut(t, s, name, d); err != nil {
				t.Errorf("when the server is back: %q, %v", outcome, err)
			}
		})
	}
	t.Run("before the root of a thread is updated", func(t *testing.T) {
		s, f, db := newSteps(t)
		db.post("p", town, alice, "secret", time.Minute)
		db.post("r", town, bob, "", time.Minute)
		db.exec(`UPDATE posts SET rootid = 'p' WHERE id = 'r'`)
		d := delivery(db, "p")
		f.diesOn = "UpdatePost"
		if outcome, err := carryOut(t, s, shared.StepHistory, d); err == nil {
			t.Errorf("%q", outcome)
		}
		f.revive()
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
	})
}

func TestSteps_Attachments(t *testing.T) {
	s, f, db := newSteps(t)
	dir := *f.config.FileSettings.Directory
	file := func(id, owner, post string) {
		folder := filepath.Join("20260101", owner, id)
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a.png", "a_preview.jpg", "a_thumb.jpg"} {
			if err := os.WriteFile(filepath.Join(dir, folder, name), []byte(id), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		db.exec(`INSERT INTO fileinfo VALUES ($1, $2, $3, $4 || '/a.png', $4 || '/a_thumb.jpg', $4 || '/a_preview.jpg',
			'a.png', 'image/png',
			'text of the document')`, id, owner, post, folder)
	}
	left := func() (paths []string) {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				paths = append(paths, path)
			}
			return err
		})
		return paths
	}
	t.Run("files, previews, thumbnails and rows go, those of other posts stay", func(t *testing.T) {
		db.post("p", town, alice, "secret", time.Minute)
		db.exec(`UPDATE posts SET fileids = '["f1","byedit","stolen"]' WHERE id = 'p'`)
		file("f1", alice, "p")
		file("byedit", alice, "") // that a plugin gave the post by an edit
		file("stolen", bob, "")   // of another user
		file("other", bob, "q")
		d := delivery(db, "p")
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
		wantOutcome(t, s, shared.StepAttachments, d, shared.OutcomeDone)
		if got := db.text(`SELECT string_agg(id, ' ' ORDER BY id) FROM fileinfo`); got != "other stolen" {
			t.Errorf("rows left: %s", got)
		}
		if got := left(); len(got) != 6 || strings.Contains(strings.Join(got, " "), "f1") {
			t.Errorf("files left: %v", got)
		}
		if _, err := os.Stat(filepath.Join(dir, "20260101", alice, "f1")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder of the file is left: %v", err)
		}
		wantOutcome(t, s, shared.StepAttachments, d, shared.OutcomeNothingToDo) // again
	})
	t.Run("a post without files", func(t *testing.T) {
		db.post("none", town, alice, "", time.Minute)
		wantOutcome(t, s, shared.StepAttachments, delivery(db, "none"), shared.OutcomeNothingToDo)
	})
	t.Run("a disk that does not delete fails the step and keeps the rows", func(t *testing.T) {
		db.post("busy", town, alice, "", time.Minute)
		file("f2", alice, "busy")
		stuck := filepath.Join(dir, "20260101", alice, "f2", "a.png")
		if err := errors.Join(os.Remove(stuck), os.MkdirAll(filepath.Join(stuck, "folder"), 0o700)); err != nil {
			t.Fatal(err)
		}
		if outcome, err := carryOut(t, s, shared.StepAttachments, delivery(db, "busy")); err == nil {
			t.Errorf("%q", outcome)
		}
		if n := db.count(`SELECT count(*) FROM fileinfo WHERE id = 'f2'`); n != 1 {
			t.Error("the row is gone: the next attempt does not know the file")
		}
	})
	t.Run("a path out of the file store is refused", func(t *testing.T) {
		outside := filepath.Join(t.TempDir(), "outside")
		if err := os.WriteFile(outside, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		db.post("evil", town, alice, "", time.Minute)
		relative, err := filepath.Rel(dir, outside)
		if err != nil {
			t.Fatal(err)
		}
		db.exec(`INSERT INTO fileinfo (id, creatorid, postid, path) VALUES ('f3', 'alice', 'evil', $1)`, relative)
		if outcome, err := carryOut(t, s, shared.StepAttachments, delivery(db, "evil")); err == nil {
			t.Errorf("%q", outcome)
		}
		if _, err := os.Stat(outside); err != nil {
			t.Error(err)
		}
	})
	t.Run("an object store keeps its objects: unsupported, and the rows go", func(t *testing.T) {
		f.config.FileSettings.DriverName = model.NewPointer(model.ImageDriverS3)
		defer func() { f.config.FileSettings.DriverName = model.NewPointer(model.ImageDriverLocal) }()
		db.post("s3", town, alice, "", time.Minute)
		file("f4", alice, "s3")
		wantOutcome(t, s, shared.StepAttachments, delivery(db, "s3"), shared.OutcomeUnsupported)
		if n := db.count(`SELECT count(*) FROM fileinfo WHERE id = 'f4'`); n != 0 {
			t.Error("the row is left")
		}
	})
}

func TestSteps_Archive(t *testing.T) {
	s, f, db := newSteps(t)
	dir := *f.config.FileSettings.Directory
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	db.post("p", town, alice, "secret", time.Minute)
	db.exec(`INSERT INTO fileinfo (id, creatorid, postid, path) VALUES ('f', 'alice', 'p', 'a.txt')`)
	d := delivery(db, "p")
	d.Disposition, d.Retention = shared.DispositionArchive, time.Hour
	for range 2 { // the second time the post is empty, and the archive stays
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
	}
	wantOutcome(t, s, shared.StepAttachments, d, shared.OutcomeDone)
	text, err := os.ReadFile(filepath.Join(s.archive.dir, "p", "post.json"))
	if err != nil || !strings.Contains(string(text), "secret") {
		t.Errorf("archive: %s, %v", text, err)
	}
	if text, err := os.ReadFile(filepath.Join(s.archive.dir, "p", "f.txt")); err != nil || string(text) != "content" {
		t.Errorf("archived file: %s, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a.txt")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is in the file store: %v", err)
	}
	if err := s.archive.expire(d.RecalledAt.Add(time.Hour - time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.archive.dir, "p")); err != nil {
		t.Errorf("expired too early: %v", err)
	}
	if err := s.archive.expire(d.RecalledAt.Add(time.Hour + time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.archive.dir, "p")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not expired: %v", err)
	}
}

func TestSteps_Notify(t *testing.T) {
	s, f, db := newSteps(t)
	db.post("p", town, alice, "secret", time.Minute)
	d := delivery(db, "p")
	d.Ext = "ext"
	wantOutcome(t, s, shared.StepNotify, d, shared.OutcomeDone)
	if len(f.events) != 1 {
		t.Fatalf("%d events", len(f.events))
	}
	e := f.events[0]
	for key, want := range map[string]any{"event": "recalled", "recall_id": "r", "message_id": "p", "channel_id": town,
		"actor": alice,
		"role":  "member", "ext": "ext", "message": nil} {
		if e[key] != want {
			t.Errorf("%s is %v, want %v", key, e[key], want)
		}
	}
}

func TestSteps_Previews(t *testing.T) {
	s, _, db := newSteps(t)
	db.post("p", town, alice, "secret", time.Hour)
	link := "see http://localhost/team/pl/p"
	db.post("quote", town, bob, link, time.Minute)
	db.exec(`UPDATE posts SET props = '{"previewed_post": "p", "x": 1}' WHERE id = 'quote'`)
	db.post("unmarked", private, bob, link, time.Minute)
	db.post("before", town, bob, link, 2*time.Hour) // it cannot quote what was not there
	db.post("deleted", town, bob, link, time.Minute)
	db.exec(`UPDATE posts SET deleteat = 1 WHERE id = 'deleted'`)
	db.post("arch", archived, bob, link, time.Minute)
	at := func(id string) int { return db.count(`SELECT updateat FROM posts WHERE id = $1`, id) }
	times := map[string]int{}
	for _, id := range []string{"quote", "unmarked", "before", "deleted", "arch"} {
		times[id] = at(id)
	}
	d := delivery(db, "p")
	wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
	wantOutcome(t, s, stepPreviews, d, shared.OutcomeDone)
	for id, before := range times {
		if touched := at(id) > before; touched != slices.Contains([]string{"quote", "unmarked"}, id) {
			t.Errorf("%s: updated %v", id, touched)
		}
	}
	if got := db.text(`SELECT message || (props->>'previewed_post') FROM posts WHERE id = 'unmarked'`); got != link+"p" {
		t.Errorf("post %q", got)
	}
	if got := db.text(`SELECT props::text FROM posts WHERE id = 'quote'`); got != `{"x": 1, "previewed_post": "p"}` {
		t.Errorf("props %s", got)
	}
	if n := db.count(`SELECT count(*) FROM posts WHERE originalid <> ''`); n != 0 {
		t.Errorf("%d old versions of posts that did not change", n)
	}
	wantOutcome(t, s, stepPreviews, d, shared.OutcomeNothingToDo) // again
	db.post("lonely", town, alice, "", time.Minute)
	wantOutcome(t, s, stepPreviews, delivery(db, "lonely"), shared.OutcomeNothingToDo)
}

func TestSteps_Previews_EditedMeanwhile(t *testing.T) {
	s, f, db := newSteps(t)
	db.post("p", town, alice, "secret", time.Hour)
	link := "see http://localhost/team/pl/p"
	edit := func(id string) {
		db.exec(`UPDATE posts SET message = message || ' (edited)', updateat = $2 WHERE id = $1`, id,
			time.Now().Add(-time.Second).UnixMilli())
	}
	t.Run("after the posts were found", func(t *testing.T) {
		db.post("q1", town, bob, link, time.Minute)
		db.post("q2", town, bob, link, time.Minute)
		d := delivery(db, "p")
		wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
		f.before = map[string]func(){"UpdatePost": func() {
			edit(db.text(`SELECT id FROM posts WHERE id IN ('q1', 'q2') AND props->>'previewed_post' IS NULL
				ORDER BY ctid DESC LIMIT 1`)) // the one that is not being updated
		}}
		wantOutcome(t, s, stepPreviews, d, shared.OutcomeDone)
		if n := db.count(`SELECT count(*) FROM posts WHERE message = $1 || ' (edited)' AND originalid = ''`,
			link); n != 1 {
			t.Errorf("%d edited posts, want 1: the step overwrote an edit", n)
		}
	})
	t.Run("after the post was read for the update", func(t *testing.T) {
		db.post("q", town, bob, link, time.Minute)
		reads := 0
		err := s.update(t.Context(), "q", func(*model.Post) {
			if reads++; reads == 1 {
				edit("q")
			}
		})
		if got := db.text(`SELECT message FROM posts WHERE id = 'q'`); err != nil || got != link+" (edited)" {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("again and again", func(t *testing.T) {
		db.post("busy", town, bob, link, time.Minute)
		err := s.update(t.Context(), "busy", func(p *model.Post) {
			db.exec(`UPDATE posts SET updateat = updateat + 1 WHERE id = 'busy'`)
		})
		if err == nil || db.count(`SELECT count(*) FROM posts WHERE originalid = 'busy'`) > 0 {
			t.Errorf("it was updated: %v", err)
		}
	})
}

func TestSteps_Saved(t *testing.T) {
	s, _, db := newSteps(t)
	db.post("p", town, alice, "", time.Minute)
	db.exec(`INSERT INTO preferences VALUES ('bob', 'flagged_post', 'p', 'true'), ('bob', 'flagged_post', 'q', 'true'),
		('bob', 'theme', 'p', '')`)
	wantOutcome(t, s, stepSaved, delivery(db, "p"), shared.OutcomeDone)
	if n := db.count(`SELECT count(*) FROM preferences`); n != 2 {
		t.Errorf("%d preferences left", n)
	}
	wantOutcome(t, s, stepSaved, delivery(db, "p"), shared.OutcomeNothingToDo)
}

func TestSteps_Push(t *testing.T) {
	s, f, db := newSteps(t)
	db.post("p", town, alice, "", time.Minute)
	d := delivery(db, "p")
	wantOutcome(t, s, shared.StepPush, d, shared.OutcomeNothingToDo) // push is off
	f.config.EmailSettings.SendPushNotifications = model.NewPointer(true)
	wantOutcome(t, s, shared.StepPush, d, shared.OutcomeUnsupported) // 6.7.2 has no call for it
	f.version = "10.11.3"
	wantOutcome(t, s, shared.StepPush, d, shared.OutcomeNothingToDo) // nobody has a device
	db.exec(`INSERT INTO sessions VALUES ('1', 'bob', 'apple:1', 0), ('2', 'bob', 'android:1', 0), ('3', 'alice',
		'apple:2', 0),
		('4', 'dave', 'apple:3', 0), ('5', 'gone', 'apple:4', 1)`)
	wantOutcome(t, s, shared.StepPush, d, shared.OutcomeDone)
	if len(f.pushed) != 1 || f.pushed[0] != bob {
		t.Errorf("cleared for %v, want bob: not for the sender, for those outside, nor for an expired session", f.pushed)
	}
}

func TestSteps_CannotBeReached(t *testing.T) {
	s, f, db := newSteps(t)
	db.post("p", town, alice, "", time.Minute)
	d := delivery(db, "p")
	wantOutcome(t, s, stepEmail, d, shared.OutcomeNothingToDo)
	f.config.EmailSettings.SendEmailNotifications = model.NewPointer(true)
	wantOutcome(t, s, stepEmail, d, shared.OutcomeUnsupported)
	if _, has := s.all()[shared.StepOffline]; has {
		t.Error("the replay queue of WebSockets cannot be reached: without the step, the ledger has unsupported")
	}
	wantOutcome(t, s, shared.StepRoaming, d, shared.OutcomeNothingToDo)
}

func TestSteps_Search(t *testing.T) {
	s, f, db := newSteps(t)
	db.post("p", town, alice, "secret", time.Minute)
	d := delivery(db, "p")
	wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
	wantOutcome(t, s, shared.StepSearch, d, shared.OutcomeNothingToDo) // PostgreSQL searches the posts
	f.config.ElasticsearchSettings.EnableIndexing = model.NewPointer(true)
	wantOutcome(t, s, shared.StepSearch, d, shared.OutcomeDone) // the server told it
	db.post("arch", archived, alice, "secret", time.Minute)
	d = delivery(db, "arch")
	wantOutcome(t, s, shared.StepHistory, d, shared.OutcomeDone)
	wantOutcome(t, s, shared.StepSearch, d, shared.OutcomeUnsupported)
}

func TestSteps_Caches(t *testing.T) {
	s, f, db := newSteps(t)
	const call = "POST /api/v4/caches/invalidate"
	db.post("p", town, alice, "", time.Minute)
	wantOutcome(t, s, stepCaches, delivery(db, "p"), shared.OutcomeNothingToDo)
	if f.called(call) {
		t.Error("the caches of the server were emptied for a post without files")
	}
	db.exec(`UPDATE posts SET props = '{"recalled_files": "true"}' WHERE id = 'p'`)
	wantOutcome(t, s, stepCaches, delivery(db, "p"), shared.OutcomeDone)
	if !f.called(call) {
		t.Error("the caches of the server were not emptied")
	}
	f.calls = nil
	db.post("arch", archived, alice, "", time.Minute)
	wantOutcome(t, s, stepCaches, delivery(db, "arch"), shared.OutcomeDone)
	if !f.called(call) {
		t.Error("the server was not made to forget when the last post of an archived channel was changed")
	}
	if len(f.tokens) != 0 {
		t.Error("the session was not revoked")
	}
	db.exec(`UPDATE users SET deleteat = 1 WHERE id = 'root'`)
	if outcome, err := carryOut(t, s, stepCaches, delivery(db, "p")); err == nil || !strings.Contains(err.Error(),
		"no active system admin") {
		t.Errorf("%q, %v", outcome, err)
	}
}
