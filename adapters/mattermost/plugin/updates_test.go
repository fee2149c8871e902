package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// The server reads a post for an edit, the recall empties and deletes it, and the server writes it whole.
func TestUpdates(t *testing.T) {
	s, _, db := newSteps(t)
	h := hosttest.Open(t, host.Config{Steps: s.all()})
	a := adapter.New(adapter.Config{Tenant: tenant, Platform: platform{db.DB}})
	a.Attach(h)
	again := &updates{recall: h, steps: s}
	follower := updated(db.DB).follow("updated posts", filepath.Join(t.TempDir(), "cursor"), hclog.NewNullLogger(),
		again.again)
	pass := func() {
		t.Helper()
		if err := follower.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pass() // begins now
	for _, id := range []string{"p", "root", "other"} {
		db.post(id, town, bob, "secret", time.Minute)
	}
	db.post("reply", town, alice, "kept", time.Minute)
	db.exec(`UPDATE posts SET rootid = 'root' WHERE id = 'reply'`)
	ask := adapter.Ask{MessageIDs: []string{"p", "root"}, RecallID: "r"}
	if r, err := a.Recall(t.Context(), bob, ask); err != nil || r[0].Status != shared.StatusRecalled {
		t.Fatalf("%v, %v", r, err)
	}
	if err := h.Wait(t.Context(), tenant, "r"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a post may come back more than once
		for _, id := range []string{"p", "root", "other"} {
			at := time.Now().UnixMilli()
			db.exec(`UPDATE posts SET message = 'secret, edited', props = '{}', fileids = '["f"]', deleteat = 0, updateat = $2
				WHERE id = $1`, id, at)
			db.exec(`INSERT INTO posts (id, originalid, channelid, userid, message, createat, updateat, deleteat)
				VALUES ($1 || 'v' || $2::bigint, $1, 'town', 'bob', 'secret', 1, $2, $2)`, id, at)
		}
		pass()
		if got := db.text(`SELECT string_agg(id || ' ' || (deleteat > 0), ', ' ORDER BY id) FROM posts
			WHERE coalesce(originalid, '') = '' AND message NOT LIKE 'secret%'`); got != "p true, reply false, root false" {
			t.Errorf("posts without the text: %s", got)
		}
		if n := db.count(`SELECT count(*) FROM posts WHERE originalid IN ('p', 'root')`); n > 0 {
			t.Errorf("%d old versions are there again", n)
		}
		if n := db.count(`SELECT count(*) FROM posts WHERE originalid = 'other'`); n == 0 {
			t.Error("a post that was not recalled lost its old versions")
		}
	}
	// It writes the old version last.
	db.exec(`INSERT INTO posts (id, originalid, channelid, userid, message, createat, updateat, deleteat)
		VALUES ('pv', 'p', 'town', 'bob', 'secret', 1, $1, $1)`, time.Now().UnixMilli())
	pass()
	if n := db.count(`SELECT count(*) FROM posts WHERE originalid = 'p'`); n > 0 {
		t.Error("an old version that came late is still there")
	}
}
