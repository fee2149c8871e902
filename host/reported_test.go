package host_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// What users of other chat systems reported, through the real plugin.
func TestDepth_Reported(t *testing.T) {
	d := openDepth(t)
	as := func(role shared.Role, c shared.Conversation, req shared.RecallRequest) shared.RecallRequest {
		for i := range req.Targets {
			req.Targets[i].Role, req.Targets[i].Conversation = role, c
		}
		return req
	}
	status := func(t *testing.T, want shared.RecallStatus, req shared.RecallRequest) {
		t.Helper()
		if got := d.recall(req); got[0].Status != want {
			t.Errorf("got %+v, want %s", got[0], want)
		}
	}
	t.Run("a recall that loses to its delivery", func(t *testing.T) {
		// The sender recalls at once; the server has not indexed the message yet. The answer is not "not found".
		req := d.request("ann", "at-once", "fast")
		req.Wait = time.Minute
		status(t, shared.StatusWaiting, req)
		if got := d.index(d.sent("fast", 0)); got[0].Status != shared.IndexRecalled {
			t.Errorf("%+v", got)
		}
		status(t, shared.StatusRecalled, req)
	})
	t.Run("a chat that became a group", func(t *testing.T) {
		chat := shared.Conversation{Type: shared.ConversationSingle, ID: "ann-ben"}
		m := d.sent("moved", 10*time.Minute)
		m.Conversation = chat
		d.index(m)
		status(t, shared.StatusDenied, as(shared.RoleOwner, chat, d.request("ben", "c1", "moved"))) // it has no owner
		got, err := d.Amend(d.ctx, []shared.Amendment{{Tenant: "acme", MessageID: "moved", Conversation: &room}})
		if err != nil || got[0].Status != shared.IndexAmended {
			t.Fatal(got, err)
		}
		status(t, shared.StatusNotFound, as(shared.RoleOwner, chat, d.request("ben", "c2", "moved")))
		status(t, shared.StatusRecalled, as(shared.RoleOwner, room, d.request("ben", "c3", "moved")))
	})
	t.Run("ids that are counted in each chat", func(t *testing.T) {
		elsewhere := d.sent("1", 0)
		elsewhere.Conversation.ID, elsewhere.Sender = "elsewhere", "bob"
		d.index(d.sent("1", 0))
		if got := d.index(elsewhere); got[0].Status != shared.IndexConflict {
			t.Errorf("the message 1 of another chat: %+v", got)
		}
		status(t, shared.StatusNotFound, as(shared.RoleAdmin, elsewhere.Conversation, d.request("mod", "n1", "1")))
		d.wantState("1", shared.MessageLive)
	})
	t.Run("an admin who is demoted between check and recall", func(t *testing.T) {
		d.index(d.sent("old", time.Hour))
		checked, err := d.Check(d.ctx, as(shared.RoleAdmin, room, d.request("mod", "a1", "old")))
		if err != nil || checked[0].Status != shared.StatusRecalled {
			t.Fatal(checked, err)
		}
		status(t, shared.StatusDenied, as(shared.RoleMember, room, d.request("mod", "a1", "old")))
	})
	t.Run("a thread whose root is recalled", func(t *testing.T) {
		d.index(d.sent("root", 0), d.sent("answer", 0, relation(shared.RelationThread, "root"),
			relation(shared.RelationReply, "root")))
		status(t, shared.StatusRecalled, d.request("ann", "t1", "root"))
		d.wantState("answer", shared.MessageLive)
		entries, err := shared.ReadLedger(d.ctx, d, "acme", "t1")
		if err != nil || len(entries) != 1 || len(entries[0].Event.Related) != 1 ||
			entries[0].Event.Related[0].MessageID != "answer" {
			t.Errorf("%+v, %v", entries, err)
		}
	})
	t.Run("an attachment of two messages of two owners", func(t *testing.T) {
		first, link := d.sent("first", 0), d.sent("link", 0)
		link.Sender = "bob"
		first.Attachments = []shared.Attachment{{Key: "file"}}
		link.Attachments = []shared.Attachment{{Key: "file", Owner: "ann"}, {Key: "own"}}
		d.index(first, link)
		released := func(recallID string) (keys []string) {
			entries, err := shared.ReadLedger(d.ctx, d, "acme", recallID)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range entries[0].Event.Attachments {
				keys = append(keys, a.Key)
			}
			return keys
		}
		status(t, shared.StatusRecalled, d.request("bob", "f1", "link"))
		if got := released("f1"); !slices.Equal(got, []string{"own"}) {
			t.Errorf("the recall of a link released %q", got)
		}
		status(t, shared.StatusRecalled, d.request("ann", "f2", "first"))
		if got := released("f2"); !slices.Equal(got, []string{"file"}) {
			t.Errorf("the recall of the owner's message released %q", got)
		}
	})
}

// A restored backup has the relations and the waiting recalls of its time, and says that cursors are void.
func TestDepth_RestoredBackup(t *testing.T) {
	d := openDepth(t)
	d.index(d.sent("m", 0), d.sent("e", 0, relation(shared.RelationEdit, "m")), d.sent("late", 0))
	req := d.request("ann", "w", "coming")
	req.Wait = time.Hour
	d.recall(req)
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "backup"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := d.Backup(d.ctx, file); err != nil {
		t.Fatal(err)
	}
	d.recall(d.request("ann", "after", "late"))
	page, err := d.Since(d.ctx, shared.SinceRequest{Tenant: "acme", Conversations: []shared.Conversation{room}})
	if err != nil {
		t.Fatal(err)
	}

	index := filepath.Join(dir, "index")
	if _, stderr, err := hosttest.RunPlugin(t, "index", "restore", file.Name(), index); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	h := hosttest.Open(t, host.Config{Index: host.IndexConfig{Path: index}})
	restored := &depth{Host: h, t: t, ctx: d.ctx, now: d.now}
	again, err := h.Since(d.ctx, shared.SinceRequest{
		Tenant: "acme", Conversations: []shared.Conversation{room}, After: page.Next,
	})
	if err != nil || !again.Reset {
		t.Errorf("a cursor of before: %+v, %v", again, err)
	}
	restored.wantState("late", shared.MessageLive) // its recall is gone: the host learns so by the reset
	if got := restored.index(restored.sent("coming", 0)); got[0].Status != shared.IndexRecalled {
		t.Errorf("%+v", got)
	}
	if got := restored.recall(restored.request("ann", "r", "m")); !slices.Equal(got[0].With, []string{"e"}) {
		t.Errorf("%+v", got)
	}
}
