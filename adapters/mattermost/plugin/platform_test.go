package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

var _ adapter.Platform = platform{}

func TestPlatform_Role(t *testing.T) {
	db := newChat(t)
	db.exec(`INSERT INTO users VALUES ('new', 'new', 0, 0, 'system_user', 'en')`)
	db.exec(`INSERT INTO teammembers VALUES ('team', 'new', '', 0, false, false)`)
	p := platform{db.DB}
	for _, test := range []struct {
		channel, user string
		want          shared.Role
		reads         bool
	}{
		{town, alice, shared.RoleOwner, true},
		{town, bob, shared.RoleMember, true},
		{town, dave, shared.RoleAdmin, true},     // of the team, and not in the channel
		{town, root, shared.RoleAdmin, true},     // of the system
		{private, erin, shared.RoleNone, false},  // not in the team
		{town, erin, shared.RoleNone, false},     // not in the team
		{town, carol, shared.RoleNone, false},    // a guest reads only channels that it is in
		{archived, "new", shared.RoleNone, true}, // public, and not joined
		{town, gone, shared.RoleNone, false},     // deactivated
		{town, "nobody", shared.RoleNone, false},
		{private, bob, shared.RoleMember, true},
		{private, dave, shared.RoleNone, false}, // a team admin does not read private channels of others
		{private, root, shared.RoleAdmin, true},
		{direct, alice, shared.RoleMember, true}, // nobody is more in a direct message
		{direct, root, shared.RoleNone, false},
		{direct, dave, shared.RoleNone, false},
		{group, alice, shared.RoleMember, true},
		{group, root, shared.RoleNone, false},
		{"unknown", alice, shared.RoleNone, false},
	} {
		role, reads, err := p.Role(t.Context(), test.user, shared.Conversation{ID: test.channel})
		if err != nil || role != test.want || reads != test.reads {
			t.Errorf("%s in %s: %q, %t, want %q, %t (%v)", test.user, test.channel, role, reads, test.want, test.reads, err)
		}
	}
	t.Run("a channel admin who is not the creator", func(t *testing.T) {
		db.exec(`UPDATE channelmembers SET schemeadmin = true WHERE userid = $1 AND channelid = $2`, bob, private)
		if role, _, err := p.Role(t.Context(), bob, shared.Conversation{ID: private}); role != shared.RoleAdmin {
			t.Errorf("%q, %v", role, err)
		}
	})
	t.Run("an admin who left the team", func(t *testing.T) {
		db.exec(`UPDATE teammembers SET deleteat = 1 WHERE userid = $1`, dave)
		if role, reads, err := p.Role(t.Context(), dave, shared.Conversation{ID: town}); role != shared.RoleNone || reads {
			t.Errorf("%q, %v", role, err)
		}
	})
	t.Run("a database that is gone is an error", func(t *testing.T) {
		db.Close()
		if role, _, err := p.Role(t.Context(), alice, shared.Conversation{ID: town}); err == nil {
			t.Errorf("%q", role)
		}
	})
}

func TestPlatform_Facts(t *testing.T) {
	db := newChat(t)
	for id, channel := range map[string]string{"text": town, "image": town, "files": town, "system": town,
		"custom": town, "dm": direct,
		"deleted": town, "old": town} {
		db.post(id, channel, alice, "secret", time.Minute)
	}
	db.exec(`UPDATE posts SET type = 'system_join_channel' WHERE id = 'system'`)
	db.exec(`UPDATE posts SET type = 'custom_poll' WHERE id = 'custom'`)
	db.exec(`UPDATE posts SET deleteat = 1 WHERE id = 'deleted'`)
	db.exec(`UPDATE posts SET originalid = 'text' WHERE id = 'old'`)
	db.exec(`INSERT INTO fileinfo (id, mimetype) VALUES ('f1', 'image/png'), ('f2', 'text/plain')`)
	db.exec(`UPDATE posts SET fileids = '["f1"]' WHERE id = 'image'`)
	db.exec(`UPDATE posts SET fileids = '["f1","f2"]' WHERE id = 'files'`)
	facts, err := platform{db.DB}.Facts(t.Context(), []string{"text", "image", "files", "system", "custom", "dm",
		"deleted", "old", "no"})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]shared.MessageType{"text": shared.TypeText, "image": shared.TypeImage,
		"files":  shared.TypeFile,
		"system": shared.TypeCommand, "custom": shared.TypeCustom, "dm": shared.TypeText, "deleted": shared.TypeText} {
		if m, ok := facts[id]; !ok || m.Type != want || m.Sender != alice || time.Since(m.SentAt) < time.Minute {
			t.Errorf("%s: %+v, want type %s", id, m, want)
		}
	}
	if len(facts) != 7 {
		t.Errorf("old versions and unknown ids have facts: %+v", facts)
	}
	if got := facts["dm"].Conversation.Type; got != shared.ConversationSingle {
		t.Errorf("a direct message is %s", got)
	}
	if got := facts["text"].Conversation.Type; got != shared.ConversationGroup {
		t.Errorf("a channel is %s", got)
	}
	if got := facts["files"].Attachments; len(got) != 2 || got[1].Key != "f2" {
		t.Errorf("attachments %+v", got)
	}
}

func TestPlatform_LastPost(t *testing.T) {
	db := newChat(t)
	p := platform{db.DB}
	db.post("p1", town, alice, "", 4*time.Minute)
	db.post("p2", town, alice, "", 3*time.Minute)
	db.exec(`UPDATE posts SET rootid = 'p1' WHERE id = 'p2'`)
	db.post("p3", town, alice, "", 2*time.Minute)
	for i, change := range []string{"deleteat = 1", "originalid = 'p3'", "type = 'system_join'",
		`props = '{"recalled": true}'`, "userid = 'bob'"} {
		id := "later" + string(rune('0'+i))
		db.post(id, town, alice, "", time.Minute)
		db.exec(`UPDATE posts SET ` + change + ` WHERE id = '` + id + `'`)
	}
	for _, test := range []struct{ channel, root, want string }{{town, "", "p3"}, {town, "p1", "p2"}, {direct, "", ""}} {
		if id, err := p.lastPost(t.Context(), alice, test.channel, test.root); err != nil || id != test.want {
			t.Errorf("%+v: %q, %v", test, id, err)
		}
	}
}

func TestPlatform_Conversations(t *testing.T) {
	db := newChat(t)
	var ids []string
	for i := range shared.MaxSinceConversations - 3 {
		ids = append(ids, fmt.Sprint("unknown", i))
	}
	ids = append(ids, direct, town, direct)
	db.SetMaxIdleConns(-1) // a connection for each query
	before := db.Stats().MaxIdleClosed
	list, err := platform{db.DB}.conversations(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if n := db.Stats().MaxIdleClosed - before; n != 1 {
		t.Errorf("%d queries for %d channels, want 1", n, len(ids))
	}
	want := []shared.Conversation{conversation(direct, "D"), conversation(town, "O"), conversation(direct, "D")}
	if len(list) != len(ids) || list[0] != conversation(ids[0], "") || !slices.Equal(list[len(ids)-3:], want) {
		t.Errorf("%d conversations, the last ones %+v", len(list), list[max(0, len(list)-3):])
	}
}
