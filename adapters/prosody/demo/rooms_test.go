package main

import (
	"fmt"
	"strings"
	"testing"
)

func testRooms(t *testing.T, d *server) {
	alice, bob, carol := d.connect("alice").present(), d.connect("bob").present(), d.connect("carol").present()
	room := alice.create("alice", map[string]string{"persistentroom": "1"})
	bob.join(room, "bob")
	carol.join(room, "carol")

	for _, version := range []string{"v0", "v1"} {
		d.run("own message "+version, func(t *testing.T) {
			text := "in the room " + version
			sid, _ := bob.say(room, text)
			carol.awaitText(text)
			r := bob.retract(room, "groupchat", version, sid)
			for _, c := range []*client{alice, bob, carol} {
				if n := c.awaitRetraction(sid); n.attr("from") != room+"/bob" || strings.Contains(n.Inner, "moderated") {
					t.Errorf("the notice is from %s: %s", n.attr("from"), n.Inner)
				}
			}
			steps := d.settled("bob@localhost/" + r)
			if steps["notify"] != "done" || steps["history"] != "done" || steps["roaming"] != "done" {
				t.Errorf("the steps are %v", steps)
			}
			d.gone(text)
			if alice.archived(room, "", text) {
				t.Error("the archive has the text")
			}
		})
		d.run("moderation "+version, func(t *testing.T) {
			text := "to moderate " + version
			sid, _ := bob.say(room, text)
			carol.awaitText(text)
			if condition, _ := carol.moderate(room, version, sid, ""); condition != "forbidden" {
				t.Errorf("a member: %q", condition)
			}
			if condition, _ := alice.moderate(room, version, sid, "spam & more"); condition != "" {
				t.Errorf("the owner: %q", condition)
			}
			n := carol.awaitRetraction(sid)
			if n.attr("from") != room || n.find(nsModerate0, "moderated").attr("by") != room+"/alice" ||
				n.find(nsModerate1, "moderated").attr("by") != room+"/alice" || n.find("", "reason").Text != "spam & more" {
				t.Errorf("the notice is from %s: %s", n.attr("from"), n.Inner)
			}
			d.gone(text)
			found := false
			for _, r := range carol.archive(room, "") {
				if r.attr("id") == sid {
					found = r.find(nsRetract1, "retracted") != nil && r.find(nsModerate1, "moderated") != nil
				}
			}
			if !found {
				t.Error("the archive has no tombstone")
			}
			if condition, _ := alice.moderate(room, version, sid, ""); condition != "" {
				t.Errorf("once more: %q", condition)
			}
		})
	}
	d.run("a newcomer", func(t *testing.T) {
		sid, _ := bob.say(room, "in the memory of the room")
		bob.say(room, "stays in memory")
		d.settled("bob@localhost/" + bob.retract(room, "groupchat", "v1", sid))
		dave := d.connect("dave").present().join(room, "dave")
		dave.awaitText("stays in memory")
		if strings.Contains(dave.log(), "in the memory of the room") {
			t.Error("dave got the text")
		}
		dave.leave()
	})
	d.run("a stream that is resumed", func(t *testing.T) {
		erin := d.connect("erin").present().join(room, "erin").manage()
		erin.drop()
		sid, id := bob.say(room, "while erin is away")
		bob.say(room, "corrected, erin is away", replaces(id))
		d.settled("bob@localhost/" + bob.retract(room, "groupchat", "v1", sid))
		again := erin.resume()
		again.awaitRetraction(sid)
		if strings.Contains(again.log(), "erin is away") {
			t.Errorf("erin got the text:\n%s", again.log())
		}
		again.leave()
	})
	d.run("roles", func(t *testing.T) {
		sid, _ := bob.say(room, "who may recall it")
		condition, code := d.connect("dave").moderate(room, "v1", sid, "")
		if condition != "forbidden" || code != "forbidden" {
			t.Errorf("somebody who is not in the room: %q %q", condition, code)
		}
		dave := d.connect("dave").present()
		if condition, _, _ := dave.refused(dave.retract(room, "groupchat", "v1", sid)); condition != "not-acceptable" {
			t.Errorf("a retraction from outside: %q", condition)
		}
		set := func(what, jid, value string) {
			alice.iq("set", room, fmt.Sprintf(
				`<query xmlns="http://jabber.org/protocol/muc#admin"><item %s=%q %s/></query>`, what, value, jid))
		}
		set("affiliation", `jid="dave@localhost"`, "outcast")
		if condition, _ := dave.moderate(room, "v0", sid, ""); condition != "forbidden" {
			t.Errorf("an outcast: %q", condition)
		}
		set("affiliation", `jid="dave@localhost"`, "none")
		carol.wantRefused(room, "groupchat", "v1", sid, "forbidden")
		set("role", `nick="bob"`, "visitor")
		bob.wantRefused(room, "groupchat", "v1", sid, "forbidden") // may not speak
		set("role", `nick="bob"`, "participant")

		d.window("1ns")
		defer d.window("5m")
		bob.wantRefused(room, "groupchat", "v0", sid, "not-allowed")
		set("role", `nick="carol"`, "moderator")
		if condition, _ := carol.moderate(room, "v1", sid, ""); condition != "" {
			t.Errorf("a moderator: %q", condition)
		}
		set("role", `nick="carol"`, "participant")
		bob.awaitRetraction(sid)
		d.gone("who may recall it")
	})
	d.run("refusals", func(t *testing.T) {
		bob.wantRefused(room, "groupchat", "v1", "unknown", "item-not-found")
		bob.wantRefused(room, "groupchat", "v0", strings.Repeat("x", 5000), "item-not-found")
		for _, target := range []string{"unknown", ""} {
			if condition, _ := alice.moderate(room, "v1", target, ""); condition != "item-not-found" {
				t.Errorf("%q: %q", target, condition)
			}
		}
		sid, _ := bob.say(room, "a long reason")
		if condition, _ := alice.moderate(room, "v1", sid, strings.Repeat("r", 1025)); condition != "bad-request" {
			t.Errorf("a long reason: %q", condition)
		}
		if condition, _ := alice.moderate("nowhere@rooms.localhost", "v1", sid, ""); condition != "item-not-found" {
			t.Errorf("a room that is not there: %q", condition)
		}
		// The room keeps a marker in its archive; it is no message.
		id := bob.id()
		bob.messageWith(room, "groupchat", id, `<displayed xmlns="urn:xmpp:chat-markers:0" id="m"/>`)
		n := bob.await("marker", func(n node) bool { return n.attr("id") == id })
		marker := n.find("urn:xmpp:sid:0", "stanza-id").attr("id")
		if state := d.state(room + "/" + marker); state != "unknown" {
			t.Errorf("a marker is %s", state)
		}
		bob.wantRefused(room, "groupchat", "v1", marker, "item-not-found")
		// A rule that asks for a reason.
		if err := d.reasonRule(); err != nil {
			t.Fatal(err)
		}
		defer d.window("5m")
		condition, code := alice.moderate(room, "v1", sid, "")
		if condition != "not-acceptable" || code != "reason_required" {
			t.Errorf("without a reason: %q %q", condition, code)
		}
		if condition, _ := alice.moderate(room, "v1", sid, "because"); condition != "" {
			t.Errorf("with a reason: %q", condition)
		}
	})
	d.run("corrections", func(t *testing.T) {
		sid, id := bob.say(room, "first in the room")
		second, secondID := bob.say(room, "second in the room", replaces(id))
		bob.say(room, "third in the room", replaces(secondID))
		_, other := carol.say(room, "carol on it", replaces(id))
		if state := d.state(room + "/" + second); state != "unknown" {
			t.Errorf("a correction is indexed: %s", state)
		}
		bob.retract(room, "groupchat", "v1", second)
		carol.awaitRetraction(sid)
		for _, text := range []string{"first in the room", "second in the room", "third in the room"} {
			d.gone(text)
		}
		if !alice.archived(room, "", "carol on it") || other == "" {
			t.Error("the message of carol is gone")
		}
		for _, target := range []string{id, secondID} {
			late := bob.message(room, "groupchat", "late in the room", replaces(target))
			if condition, _, _ := bob.refused(late); condition != "conflict" {
				t.Errorf("a correction after the recall is answered %q", condition)
			}
		}
		d.gone("late in the room")
	})
	d.run("a nick that somebody else takes", func(t *testing.T) {
		bob := d.connect("bob").present().join(room, "nick")
		sid, id := bob.say(room, "by the first nick")
		bob.leave()
		dave := d.connect("dave").present().join(room, "nick")
		other, _ := dave.say(room, "by the second nick", replaces(id))
		if state := d.state(room + "/" + other); state != "live" {
			t.Errorf("the message of somebody else is %s", state)
		}
		dave.wantRefused(room, "groupchat", "v1", sid, "forbidden")
		dave.retract(room, "groupchat", "v1", other)
		dave.awaitRetraction(other)
		d.gone("by the second nick")
		if !alice.archived(room, "", "by the first nick") {
			t.Error("the message of bob is gone")
		}
		dave.leave()
	})
	d.run("the memory of a room on disk", func(t *testing.T) {
		sid, _ := bob.say(room, "last before the stop")
		d.restart("prosody")
		alice, bob := d.connect("alice").present(), d.connect("bob").present()
		bob.join(room, "bob")
		alice.join(room, "alice")
		d.settled("bob@localhost/" + bob.retract(room, "groupchat", "v1", sid))
		d.gone("last before the stop")
	})
	alice, bob = d.connect("alice").present(), d.connect("bob").present()
	bob.join(room, "bob")
	alice.join(room, "alice")
	d.run("what only a room says", func(t *testing.T) {
		sid, _ := alice.say(room, "said by alice")
		for i, forged := range []string{
			`<apply-to xmlns="` + nsFasten + `" id="` + sid + `"><moderated xmlns="` + nsModerate0 + `" by="` + room +
				`/alice"><retract xmlns="` + nsRetract0 + `"/></moderated></apply-to>`,
			`<moderated xmlns="` + nsModerate1 + `" by="` + room + `/alice"/>`,
			`<retracted xmlns="` + nsRetract1 + `" id="` + sid + `"/>`,
		} {
			text := fmt.Sprintf("forged in the room %d", i)
			own, _ := bob.say(room, text, forged)
			n := alice.awaitText(text)
			if strings.Contains(n.Inner, "moderated") || strings.Contains(n.Inner, "retracted xmlns") {
				t.Errorf("alice got %s", n.Inner)
			}
			if condition, _ := alice.moderate(room, "v1", own, ""); condition != "" {
				t.Errorf("it cannot be moderated: %s", condition)
			}
			d.gone(text)
		}
	})
	d.run("moderation of who took a nick", func(t *testing.T) {
		dave := d.connect("dave").present().join(room, "guest")
		first, id := dave.say(room, "dave as guest")
		kept, keptID := dave.say(room, "dave as guest, kept")
		dave.leave()
		erin := d.connect("erin").present().join(room, "guest")
		second, _ := erin.say(room, "erin as guest", replaces(id))
		third, _ := erin.say(room, "erin as guest, kept", replaces(keptID))
		for _, key := range []string{first, second, kept, third} {
			if state := d.state(room + "/" + key); state != "live" {
				t.Errorf("%s is %s", key, state)
			}
		}
		if condition, _ := alice.moderate(room, "v1", third, ""); condition != "" {
			t.Errorf("moderate erin: %s", condition)
		}
		alice.awaitRetraction(third)
		d.gone("erin as guest, kept")
		if condition, _ := alice.moderate(room, "v1", first, ""); condition != "" {
			t.Errorf("moderate dave: %s", condition)
		}
		alice.awaitRetraction(first)
		d.gone("dave as guest<")
		for _, text := range []string{"erin as guest", "dave as guest, kept"} {
			if !alice.archived(room, "", text) {
				t.Errorf("%q is gone", text)
			}
		}
		erin.leave()
	})
	d.run("corrections by the same person after a restart", func(t *testing.T) {
		sid, id := bob.say(room, "before the restart")
		d.restart("prosody")
		alice, bob := d.connect("alice").present(), d.connect("bob").present()
		bob.join(room, "bob")
		alice.join(room, "alice")
		own, _ := bob.say(room, "after the restart", replaces(id))
		if state := d.state(room + "/" + own); state != "unknown" {
			t.Errorf("the correction is %s", state)
		}
		d.settled("bob@localhost/" + bob.retract(room, "groupchat", "v1", sid))
		d.gone("before the restart")
		d.gone("after the restart")
	})
	alice, bob = d.connect("alice").present(), d.connect("bob").present()
	bob.join(room, "bob")
	alice.join(room, "alice")
	d.run("private messages", func(t *testing.T) {
		id := alice.message(room+"/bob", "chat", "in private")
		bob.awaitText("in private")
		alice.wantRefused(room+"/bob", "chat", "v1", id, "item-not-found")
	})
	d.run("features", func(t *testing.T) {
		info := alice.iq("get", room, `<query xmlns="http://jabber.org/protocol/disco#info"/>`)
		for _, feature := range []string{nsRetract0, nsRetract1, nsModerate0, nsModerate1} {
			if !strings.Contains(info.Inner, feature) {
				t.Errorf("the room has no feature %s", feature)
			}
		}
	})
}

func testUploads(t *testing.T, d *server) {
	alice, bob := d.connect("alice").present(), d.connect("bob").present()
	share := func(c *client, to, kind, url string, more ...string) string {
		return c.message(to, kind, url, `<x xmlns="jabber:x:oob"><url>`+url+`</url></x>`+strings.Join(more, ""))
	}
	d.run("an own file", func(t *testing.T) {
		url := alice.upload("own.txt", "content of the own file", "text/plain")
		id := share(alice, "bob@localhost", "chat", url)
		bob.awaitText(url)
		if got := bob.download(url); got != 200 {
			t.Fatalf("the file is answered %d", got)
		}
		if len(d.onDisk("content of the own file")) == 0 {
			t.Fatal("the file is not on disk")
		}
		// Bob passes the link on, and takes that back: the file is not his.
		forwarded := share(bob, "carol@localhost", "chat", url)
		bob.sync()
		r := bob.retract("carol@localhost", "chat", "v1", forwarded)
		if steps := d.settled("bob@localhost/" + r); steps["attachments"] != "nothing_to_do" {
			t.Errorf("the steps are %v", steps)
		}
		if got := bob.download(url); got != 200 {
			t.Fatalf("after the recall of a link the file is answered %d", got)
		}
		r = alice.retract("bob@localhost", "chat", "v1", id)
		if steps := d.settled("alice@localhost/" + r); steps["attachments"] != "done" {
			t.Errorf("the steps are %v", steps)
		}
		if got := bob.download(url); got != 404 && got != 410 {
			t.Errorf("the file is answered %d", got)
		}
		d.gone("content of the own file")
	})
	d.run("another spelling of its address", func(t *testing.T) {
		for _, spelling := range []string{"HTTP://127.0.0.1", "http://localhost", "https://LOCALHOST"} {
			url := alice.upload("spelling.txt", "content behind "+spelling, "text/plain")
			id := alice.message("bob@localhost", "chat", strings.Replace(url, "http://127.0.0.1", spelling, 1))
			r := alice.retract("bob@localhost", "chat", "v1", id)
			if steps := d.settled("alice@localhost/" + r); steps["attachments"] != "done" {
				t.Errorf("%s: the steps are %v", spelling, steps)
			}
			d.gone("content behind " + spelling)
		}
	})
	d.run("a file of a correction, in a room", func(t *testing.T) {
		room := alice.create("alice", nil)
		first := alice.upload("first.png", "first picture", "image/png")
		second := alice.upload("second.png", "second picture", "image/png")
		sid, id := alice.say(room, first)
		alice.say(room, second, replaces(id))
		d.settled("alice@localhost/" + alice.retract(room, "groupchat", "v1", sid))
		for _, url := range []string{first, second} {
			if got := alice.download(url); got != 404 && got != 410 {
				t.Errorf("%s is answered %d", url, got)
			}
		}
		d.gone("picture")
	})
	d.run("a file of a correction", func(t *testing.T) {
		url := alice.upload("late.txt", "came with a correction", "text/plain")
		id := alice.message("bob@localhost", "chat", "the file comes later")
		share(alice, "bob@localhost", "chat", url, replaces(id))
		bob.awaitText(url)
		d.settled("alice@localhost/" + alice.retract("bob@localhost", "chat", "v1", id))
		if got := alice.download(url); got != 404 && got != 410 {
			t.Errorf("the file is answered %d", got)
		}
		d.gone("came with a correction")
	})
}
