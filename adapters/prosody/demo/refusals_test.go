package main

import (
	"bytes"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rule puts the rules of the demo in force, with another one before them.
func (d *server) rule(text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, "rules.hcl"), append(rulesText("5m"), text...), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.must("admin/reload", dict{}, nil)
}

func testRefusals(t *testing.T, d *server) {
	alice, bob := d.connect("alice").present(), d.connect("bob").present()
	defer d.window("5m")

	id := alice.message("bob@localhost", "chat", "to be refused")
	bob.awaitText("to be refused")
	check := func(name, rule string, version, condition, kind, code, text string) {
		d.run(name, func(t *testing.T) {
			d.rule(rule)
			r := alice.retract("bob@localhost", "chat", version, id)
			gotCondition, gotKind, gotCode := alice.refused(r)
			if gotCondition != condition || gotKind != kind || gotCode != code {
				t.Errorf("the answer is %s %s %s; want %s %s %s", gotCondition, gotKind, gotCode, condition, kind, code)
			}
			if !strings.Contains(html.UnescapeString(alice.log()), text) {
				t.Errorf("there is no sentence %q", text)
			}
		})
	}
	forbid := func(code string) string { return "\nforbid \"test\" {\n  code = \"" + code + "\"\n}\n" }
	check("forbidden", forbid("forbidden"), "v0", "forbidden", "auth", "forbidden", "You can't recall this message.")
	check("a kind that is never recalled", forbid("type_not_recallable"), "v1",
		"not-acceptable", "cancel", "type_not_recallable", "Messages of this kind can't be recalled.")
	check("a code of a rule", forbid("legal_hold"), "v1",
		"policy-violation", "cancel", "legal_hold", "You can't recall this message.")

	d.run("too late", func(t *testing.T) {
		d.window("1ns")
		condition, kind, code := alice.refused(alice.retract("bob@localhost", "chat", "v1", id))
		if condition != "not-allowed" || kind != "cancel" || code != "window_expired" {
			t.Errorf("the answer is %s %s %s", condition, kind, code)
		}
	})
	d.run("a language", func(t *testing.T) {
		r := alice.id()
		alice.send(fmt.Sprintf(`<message to="bob@localhost" type="chat" id=%q xml:lang="zh-CN">`, r) +
			fmt.Sprintf(retractions["v1"], id) + `</message>`)
		n := alice.await("error", func(n node) bool { return n.attr("id") == r && n.attr("type") == "error" })
		if text := n.find("", "text"); text == nil || text.Text != "这条消息已超过可撤回的时间。" {
			t.Errorf("the answer is %s", n.Inner)
		}
	})
	d.run("a limit", func(t *testing.T) {
		rate := strings.Replace(string(rulesText("5m")), "sender = true", "sender = true\n  limit = \"slow\"", 1) +
			"\nlimit \"slow\" {\n  key = actor.id\n  rate = \"1/1m\"\n}\n"
		if err := os.WriteFile(filepath.Join(d.dir, "rules.hcl"), []byte(rate), 0o600); err != nil {
			t.Fatal(err)
		}
		d.must("admin/reload", dict{}, nil)
		carol := d.connect("carol").present()
		first := carol.message("bob@localhost", "chat", "limit one")
		second := carol.message("bob@localhost", "chat", "limit two")
		bob.awaitText("limit two")
		carol.retract("bob@localhost", "chat", "v1", first)
		bob.awaitRetraction(first)
		r := carol.retract("bob@localhost", "chat", "v1", second)
		condition, kind, code := carol.refused(r)
		if condition != "resource-constraint" || kind != "wait" || code != "rate_limited" ||
			!strings.Contains(carol.log(), "retry-at") {
			t.Errorf("the answer is %s %s %s:\n%s", condition, kind, code, carol.log())
		}
	})
	d.window("5m")
	d.run("unknown", func(t *testing.T) {
		alice.wantRefused("bob@localhost", "chat", "v0", "unknown", "item-not-found")
		alice.wantRefused("bob@localhost", "chat", "v1", "", "item-not-found")
		if _, kind, code := alice.refused(alice.retract("bob@localhost", "chat", "v1", "x")); kind+code != "cancelnot_found" {
			t.Errorf("the answer has type and code %s", kind+code)
		}
		alice.wantRefused("carol@localhost", "chat", "v1", id, "item-not-found") // a message to bob
	})
	d.run("without a body", func(t *testing.T) {
		for _, content := range []string{
			`<composing xmlns="http://jabber.org/protocol/chatstates"/>`,
			`<received xmlns="urn:xmpp:receipts" id="m"/><store xmlns="urn:xmpp:hints"/>`,
			`<displayed xmlns="urn:xmpp:chat-markers:0" id="m"/>`,
			`<subject>no body</subject>`,
		} {
			bodiless := alice.id()
			alice.messageWith("bob@localhost", "chat", bodiless, content)
			alice.sync()
			if state := d.state(chatKey("alice", "bob", bodiless)); state != "unknown" {
				t.Errorf("%s is %s", content, state)
			}
			alice.wantRefused("bob@localhost", "chat", "v1", bodiless, "item-not-found")
		}
	})
	d.run("of somebody else", func(t *testing.T) {
		bob.wantRefused("alice@localhost", "chat", "v0", id, "forbidden")
		bob.wantRefused("alice@localhost", "chat", "v1", id, "forbidden")
		if !bob.archived("", "alice@localhost", "to be refused") {
			t.Error("the message is gone")
		}
	})
}

// testLookups comes last: erin has used up her share.
func testLookups(t *testing.T, d *server) {
	bob := d.connect("bob").present()
	d.run("too many unknown ones", func(t *testing.T) {
		archive := filepath.Join(d.dir, "prosody", "localhost", "archive", "erin.list")
		erin := d.connect("erin").present()
		for i := range 30 {
			erin.message("zoe@elsewhere.example", "chat", fmt.Sprintf("in a large archive %d", i))
		}
		erin.sync()
		small, err := os.ReadFile(archive)
		if os.IsNotExist(err) {
			return // of sql: it has no file for an archive
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(archive, bytes.Repeat(small, 200), 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.WriteFile(archive, small, 0o600)
		refused := 0
		began := time.Now()
		for range 60 {
			r := erin.retract("zoe@elsewhere.example", "chat", "v1", "unknown")
			condition, kind, code := erin.refused(r)
			switch condition + " " + kind + " " + code {
			case "item-not-found cancel not_found":
			case "resource-constraint wait rate_limited":
				refused++
			default:
				t.Errorf("the answer is %s %s %s", condition, kind, code)
			}
		}
		if refused == 0 {
			t.Errorf("60 archives were read in %s", time.Since(began))
		}
		// A message that Recall knows needs no archive.
		own := erin.message("bob@localhost", "chat", "of a busy user")
		bob.awaitText("of a busy user")
		erin.retract("bob@localhost", "chat", "v1", own)
		bob.awaitRetraction(own)
	})
}
