package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// A judged chat: a real recall-plugin with the steps, on a fake server.
type judged struct {
	db      testDB
	fake    *fakeServer
	host    *host.Host
	adapter *adapter.Adapter
	list    *bypassLog
	pass    func() // over the deletions
}

func newJudged(t *testing.T) *judged {
	s, f, db := newSteps(t)
	j := &judged{db: db, fake: f}
	j.host = hosttest.Open(t, host.Config{Steps: s.all()})
	j.adapter = adapter.New(adapter.Config{Tenant: tenant, Platform: platform{db.DB}})
	j.adapter.Attach(j.host)
	dir := t.TempDir()
	var err error
	if j.list, err = openBypassLog(filepath.Join(dir, "bypassed.jsonl")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.list.close() })
	judge := &deletions{recall: j.host, adapter: j.adapter, list: j.list, log: f.logger()}
	follower := deleted(db.DB).follow("deleted posts", filepath.Join(dir, "cursor"), hclog.NewNullLogger(), judge.judge)
	j.pass = func() {
		t.Helper()
		if err := follower.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	j.pass() // begins now
	return j
}

// delete deletes a post as Mattermost does.
func (db testDB) delete(id, by string) {
	db.t.Helper()
	db.exec(`UPDATE posts SET deleteat = $2, updateat = $2, props = jsonb_set(props, '{deleteBy}', to_jsonb($3::text))
		WHERE id = $1`,
		id, time.Now().UnixMilli(), by)
}

func TestDeletions(t *testing.T) {
	j := newJudged(t)
	for id, ago := range map[string]time.Duration{"own": time.Minute, "late": time.Hour, "foreign": time.Minute,
		"admins":   time.Hour,
		"byplugin": time.Minute, "byus": time.Minute, "unknown": time.Minute, "marked": time.Hour} {
		j.db.post(id, town, bob, "secret "+id, ago)
	}
	j.db.delete("own", bob)
	j.db.delete("late", bob)
	j.db.exec(`UPDATE posts SET props = '{"recalled": true}' WHERE id = 'marked'`) // as users can
	j.db.delete("marked", bob)
	j.db.delete("foreign", carol)
	j.db.delete("admins", dave)
	j.db.delete("byplugin", "com.example.cleaner")
	j.db.delete("byus", pluginID)
	j.db.exec(`UPDATE posts SET deleteat = $1 WHERE id = 'unknown'`, time.Now().UnixMilli())
	for range 2 {
		j.pass()
	}
	codes := map[string]string{}
	for _, b := range j.list.page(0, 0).Bypassed {
		codes[b.PostID] = string(b.Result.Status) + " " + string(b.Result.Code) + b.Problem
	}
	for id, want := range map[string]string{"late": "denied window_expired",
		"marked": "denied window_expired", "foreign": "not_found ",
		"byplugin": "not_found ",
		"unknown":  " Mattermost does not say who deleted it"} {
		if codes[id] != want {
			t.Errorf("%s: %q, want %q", id, codes[id], want)
		}
	}
	if len(codes) != 5 {
		t.Errorf("listed: %v", codes)
	}
	for _, id := range []string{"own", "admins"} {
		if err := j.host.Wait(t.Context(), tenant, "mattermost-delete-"+id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if got := j.db.text(`SELECT string_agg(id, ' ' ORDER BY id) FROM posts WHERE message <>
		''`); got != "byplugin byus foreign late marked unknown" {
		t.Errorf("posts with text: %s", got)
	}
	if log := j.fake.log.String(); strings.Contains(log, "secret") || !strings.Contains(log, "late") {
		t.Errorf("log: %s", log)
	}
}

func TestDeletions_JudgedByTheirTime(t *testing.T) {
	j := newJudged(t)
	j.db.post("p", town, bob, "secret", 10*time.Minute)
	j.db.delete("p", bob)
	at := time.Now().Add(-9 * time.Minute) // it was in time then; the plugin was disabled
	p := post{id: "p", channel: town, deletedBy: bob, deleted: at.UnixMilli()}
	judge := &deletions{recall: j.host, adapter: j.adapter, list: j.list, log: hclog.NewNullLogger()}
	if err := judge.judge(t.Context(), []post{p}); err != nil {
		t.Fatal(err)
	}
	if page := j.list.page(0, 0); len(page.Bypassed) != 0 {
		t.Errorf("%+v", page)
	}
}

func TestDeletions_PluginAway(t *testing.T) {
	j := newJudged(t)
	j.db.post("p", town, bob, "secret", time.Minute)
	if err := j.host.Close(); err != nil {
		t.Fatal(err)
	}
	judge := &deletions{recall: j.host, adapter: j.adapter, list: j.list, log: hclog.NewNullLogger()}
	err := judge.judge(t.Context(), []post{{id: "p", channel: town, deletedBy: bob, deleted: time.Now().UnixMilli()}})
	if err == nil || len(j.list.page(0, 0).Bypassed) != 0 {
		t.Errorf("a deletion that could not be judged is settled: %v", err)
	}
}

// A server that dies under a step is no success: the ledger shows the failure, and the step runs until it is proven.
func TestRecall_ServerDiesUnderIt(t *testing.T) {
	j := newJudged(t)
	j.db.post("p", town, alice, "secret", time.Minute)
	j.fake.mu.Lock()
	j.fake.diesOn = "DeletePost"
	j.fake.mu.Unlock()
	results, err := j.adapter.Recall(t.Context(), alice, adapter.Ask{MessageIDs: []string{"p"}, RecallID: "r"})
	if err != nil || results[0].Status != shared.StatusRecalled {
		t.Fatal(results, err)
	}
	history := func() (s shared.StepRecord) {
		entries, err := shared.ReadLedger(t.Context(), j.host, tenant, "r")
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(entries[0].Steps, func(s shared.StepRecord) bool { return s.Step == shared.StepHistory })
		return entries[0].Steps[i]
	}
	for history().Outcome != shared.OutcomeFailed {
		if t.Context().Err() != nil {
			t.Fatal(history())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s := history(); !strings.Contains(s.Error, "Verify failed") {
		t.Errorf("%+v", s)
	}
	hosttest.Kill(t, j.host)
	j.fake.revive()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := j.host.Wait(ctx, tenant, "r"); err != nil {
		t.Fatal(err)
	}
	if s := history(); s.Outcome != shared.OutcomeDone || j.db.count(`SELECT count(*) FROM posts WHERE deleteat = 0 AND
		id = 'p'`) != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBypassLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bypassed.jsonl")
	open := func() *bypassLog {
		t.Helper()
		l, err := openBypassLog(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.close() })
		return l
	}
	add := func(l *bypassLog, id string) {
		t.Helper()
		if err := l.add(bypass{PostID: id, DeletedBy: bob, DeletedAt: time.Unix(1, 0).UTC()}); err != nil {
			t.Fatal(err)
		}
	}
	posts := func(page bypassPage) (list []string) {
		for _, b := range page.Bypassed {
			list = append(list, b.PostID)
		}
		return list
	}
	l := open()
	for _, id := range []string{"a", "b", "a", "c"} {
		add(l, id)
	}
	t.Run("survives", func(t *testing.T) {
		if got := posts(open().page(0, 0)); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("%v", got)
		}
	})
	t.Run("in pages", func(t *testing.T) {
		page := l.page(0, 2)
		if !page.More || page.Next != 2 || len(page.Bypassed) != 2 {
			t.Errorf("%+v", page)
		}
		if page = l.page(page.Next, 2); page.More || !slices.Equal(posts(page), []string{"c"}) {
			t.Errorf("%+v", page)
		}
		if page = l.page(100, 2); page.More || len(page.Bypassed) != 0 {
			t.Errorf("%+v", page)
		}
	})
	t.Run("a torn last line goes", func(t *testing.T) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(text, `{"post_id": "d"`...), 0o600); err != nil {
			t.Fatal(err)
		}
		l := open()
		add(l, "e")
		if got := posts(open().page(0, 0)); !slices.Equal(got, []string{"a", "b", "c", "e"}) {
			t.Errorf("%v", got)
		}
	})
	t.Run("a damaged line is an error that names it", func(t *testing.T) {
		if err := os.WriteFile(file, []byte("{}\nx\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openBypassLog(file); err == nil || !strings.Contains(err.Error(), "bypassed.jsonl:2 is damaged") {
			t.Error(err)
		}
	})
}

// A user can give the id that a deletion gets to a recall of their own.
func TestDeletions_RecallIDUsed(t *testing.T) {
	j := newJudged(t)
	j.db.post("p", town, bob, "secret", time.Minute)
	j.db.post("other", town, alice, "secret", time.Minute)
	ask := adapter.Ask{MessageIDs: []string{"other"}, RecallID: "mattermost-delete-p"}
	if r, err := j.adapter.Recall(t.Context(), alice, ask); err != nil || r[0].Status != shared.StatusRecalled {
		t.Fatalf("%v, %v", r, err)
	}
	j.db.delete("p", bob)
	j.pass()
	states, err := j.host.Status(t.Context(), tenant, []string{"p"})
	if err != nil || states[0].RecallID == "" || j.list.len() > 0 {
		t.Errorf("the deletion did not become a recall: %v, %v, %v", states, err, j.list.page(0, 0).Bypassed)
	}
}

// What was recalled is no bypass when somebody deletes what stayed of it.
func TestDeletions_OfRecalled(t *testing.T) {
	j := newJudged(t)
	j.db.post("root", town, bob, "secret", time.Minute)
	j.db.post("reply", town, alice, "kept", time.Minute)
	j.db.exec(`UPDATE posts SET rootid = 'root' WHERE id = 'reply'`)
	ask := adapter.Ask{MessageIDs: []string{"root"}, RecallID: "r"}
	if _, err := j.adapter.Recall(t.Context(), bob, ask); err != nil {
		t.Fatal(err)
	}
	if err := j.host.Wait(t.Context(), tenant, "r"); err != nil {
		t.Fatal(err)
	}
	j.db.delete("root", "com.example.cleaner")
	j.pass()
	if j.list.len() > 0 {
		t.Errorf("listed: %v", j.list.page(0, 0).Bypassed)
	}
}
