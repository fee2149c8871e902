package main

import (
	"crypto/sha1"
	"encoding/xml"
	"fmt"
	"net"
	"strings"
	"testing"
)

func chatKey(sender, peer, id string) string {
	return sender + "@localhost/" + peer + "@localhost/" + id
}

func testChats(t *testing.T, d *server) {
	alice, bob := d.connect("alice").present(), d.connect("bob").present()
	phone, tablet := d.connect("alice").present(), d.connect("bob").present()

	for _, version := range []string{"v0", "v1"} {
		d.run(version, func(t *testing.T) {
			text := "secret of " + version
			id := alice.message("bob@localhost", "chat", text)
			for _, c := range []*client{bob, tablet, phone} {
				c.awaitText(text)
			}
			if len(d.onDisk(text)) == 0 {
				t.Fatal("the message is not in the files")
			}
			r := alice.retract("bob@localhost", "chat", version, id)
			for _, c := range []*client{bob, tablet, phone} { // by the route of any message, or as carbon copies
				c.awaitRetraction(id)
			}
			steps := d.settled("alice@localhost/" + r)
			for step, want := range map[string]string{"notify": "done", "history": "done", "offline": "nothing_to_do",
				"roaming": "nothing_to_do", "attachments": "nothing_to_do", "push": "unsupported", "search": "unsupported"} {
				if steps[step] != want {
					t.Errorf("step %s is %q; want %q", step, steps[step], want)
				}
			}
			for _, c := range []*client{alice, bob} {
				with := map[*client]string{alice: "bob@localhost", bob: "alice@localhost"}[c]
				tombstone := false
				for _, r := range c.archive("", with) {
					if strings.Contains(r.Inner, text) {
						t.Errorf("the archive of %s has the text", c.user)
					}
					if m := r.find("jabber:client", "message"); m != nil && m.attr("id") == id {
						tombstone = m.find(nsRetract0, "retracted") != nil && m.find(nsRetract1, "retracted") != nil
					}
				}
				if !tombstone {
					t.Errorf("the archive of %s has no tombstone", c.user)
				}
			}
			d.gone(text)
			// Once more changes nothing, and is no error.
			again := alice.retract("bob@localhost", "chat", version, id)
			alice.sync()
			alice.message("bob@localhost", "chat", "after "+version)
			bob.awaitText("after " + version)
			if strings.Contains(alice.log(), again) {
				t.Errorf("the second retraction is answered: %s", alice.log())
			}
		})
	}
	d.run("an origin id", func(t *testing.T) {
		origin := alice.id()
		id := alice.message("bob@localhost", "", "has an origin id", `<origin-id xmlns="urn:xmpp:sid:0" id="`+origin+`"/>`)
		bob.awaitText("has an origin id")
		alice.retract("bob@localhost", "", "v1", id) // a client may take the other id
		bob.awaitRetraction(origin)
		d.gone("has an origin id")
	})
	d.run("a message without an id", func(t *testing.T) {
		alice.send(`<message to="bob@localhost" type="chat"><body>has no id</body></message>`)
		id := bob.awaitText("has no id").attr("id")
		alice.retract("bob@localhost", "chat", "v1", id)
		bob.awaitRetraction(id)
		d.gone("has no id")
	})
	d.run("the recipient is offline", func(t *testing.T) {
		id := alice.message("carol@localhost", "chat", "carol never sees it")
		keep := alice.message("carol@localhost", "chat", "carol sees it")
		alice.sync()
		r := alice.retract("carol@localhost", "chat", "v1", id)
		if steps := d.settled("alice@localhost/" + r); steps["offline"] != "done" {
			t.Errorf("the steps are %v", steps)
		}
		d.gone("carol never sees it")
		carol := d.connect("carol").present()
		if carol.awaitText("carol sees it").attr("id") != keep {
			t.Error("another message")
		}
		carol.awaitRetraction(id)
		if strings.Contains(carol.log(), "never sees") {
			t.Error("carol got the text")
		}
	})
	d.run("a stream that is resumed", func(t *testing.T) {
		dave := d.connect("dave").present().manage()
		dave.mu.Lock()
		dave.acked = false
		dave.mu.Unlock()
		before := alice.message("dave@localhost", "chat", "not acknowledged")
		dave.awaitText("not acknowledged")
		dave.mu.Lock()
		dave.handled = 0
		dave.mu.Unlock()
		dave.drop()
		id := alice.message("dave@localhost", "chat", "while dave is away")
		corrected := alice.message("dave@localhost", "chat", "corrected away",
			`<replace xmlns="urn:xmpp:message-correct:0" id="`+id+`"/>`)
		alice.sync()
		for _, target := range []string{before, id} {
			r := alice.retract("dave@localhost", "chat", "v1", target)
			if steps := d.settled("alice@localhost/" + r); steps["roaming"] != "done" {
				t.Errorf("the steps are %v", steps)
			}
		}
		again := dave.resume()
		again.awaitRetraction(before)
		again.awaitRetraction(id)
		for _, text := range []string{"not acknowledged", "while dave is away", "corrected away", corrected + "x"} {
			if strings.Contains(again.log(), text) {
				t.Errorf("dave got %q:\n%s", text, again.log())
			}
		}
		again.leave()
	})
	d.run("the same id to two users", func(t *testing.T) {
		erin := d.connect("erin").present().manage()
		erin.drop()
		id := alice.id()
		alice.messageWith("bob@localhost", "chat", id, "<body>the one to bob</body>")
		alice.messageWith("erin@localhost", "chat", id, "<body>the one to erin</body>")
		bob.awaitText("the one to bob")
		d.settled("alice@localhost/" + alice.retract("bob@localhost", "chat", "v1", id))
		d.gone("the one to bob")
		again := erin.resume()
		again.awaitText("the one to erin")
		if !again.archived("", "alice@localhost", "the one to erin") {
			t.Error("the archive of erin lost another message")
		}
		again.leave()
	})
	d.run("a result of an archive that is not acknowledged", func(t *testing.T) {
		id := alice.message("erin@localhost", "chat", "read from the archive")
		alice.sync()
		erin := d.connect("erin").manage()
		erin.acked = false
		erin.archive("", "alice@localhost")
		erin.drop()
		erin.handled = 0
		d.settled("alice@localhost/" + alice.retract("erin@localhost", "chat", "v1", id))
		again := erin.resume()
		if strings.Contains(again.log(), "read from the archive") {
			t.Errorf("erin got the text:\n%s", again.log())
		}
		again.leave()
	})
	d.run("a note to oneself", func(t *testing.T) {
		for _, to := range []string{"", "alice@localhost", phone.jid} {
			text := "note to " + strings.SplitN(to+"nobody", "/", 2)[0] + fmt.Sprint(len(to))
			id := alice.message(to, "chat", text)
			phone.awaitText(text)
			alice.retract(to, "chat", "v1", id)
			phone.awaitRetraction(id)
			d.gone(text)
		}
	})
	d.run("a user of another server", func(t *testing.T) {
		id := alice.message("zoe@elsewhere.example", "chat", "for another server")
		alice.refused(id) // the demo speaks with no other server
		r := alice.retract("zoe@elsewhere.example", "chat", "v1", id)
		steps := d.settled("alice@localhost/" + r)
		if steps["history"] != "done" || steps["offline"] != "unsupported" {
			t.Errorf("the steps are %v", steps)
		}
		d.gone("for another server")
	})
	d.run("the same id again", func(t *testing.T) {
		id := alice.id()
		alice.messageWith("bob@localhost", "chat", id, "<body>once</body>")
		alice.messageWith("bob@localhost", "chat", id, "<body>sent twice</body>") // after a lost connection
		bob.awaitText("sent twice")
		alice.retract("bob@localhost", "chat", "v1", id)
		bob.awaitRetraction(id)
		d.gone("sent twice")
		alice.messageWith("bob@localhost", "chat", id, "<body>thrice</body>")
		if condition, _, _ := alice.refused(id); condition != "conflict" {
			t.Errorf("the answer is %q", condition)
		}
		d.gone("thrice")
	})
	d.run("the sender has blocked the recipient", func(t *testing.T) {
		id := alice.message("dave@localhost", "chat", "before the block")
		block := func(order string) {
			alice.iq("set", "", `<`+order+` xmlns="urn:xmpp:blocking"><item jid="dave@localhost"/></`+order+`>`)
		}
		block("block")
		defer block("unblock")
		d.settled("alice@localhost/" + alice.retract("dave@localhost", "chat", "v1", id))
		d.gone("before the block")
	})
	d.run("a burst", func(t *testing.T) {
		for burst := range 5 {
			for i := range 60 { // more than LuaSocket reads at a time
				alice.message("bob@localhost", "chat", fmt.Sprintf("burst %d.%d:", burst, i)+strings.Repeat(" more", 60))
			}
			alice.sync() // nothing follows that would make Prosody read on
			bob.awaitText(fmt.Sprintf("burst %d.59:", burst))
		}
	})
	d.run("features", func(t *testing.T) {
		info := alice.iq("get", "localhost", `<query xmlns="http://jabber.org/protocol/disco#info"/>`)
		for _, feature := range []string{nsRetract0, nsRetract1} {
			if !strings.Contains(info.Inner, feature) {
				t.Errorf("localhost has no feature %s", feature)
			}
		}
	})
}

// replaces is what makes a message a correction.
func replaces(id string) string {
	return `<replace xmlns="urn:xmpp:message-correct:0" id="` + id + `"/>`
}

func testCorrections(t *testing.T, d *server) {
	alice, bob := d.connect("alice").present(), d.connect("bob").present()

	d.run("go with their message", func(t *testing.T) {
		id := alice.message("bob@localhost", "chat", "first wording")
		second := alice.message("bob@localhost", "chat", "second wording", replaces(id))
		alice.message("bob@localhost", "chat", "third wording", replaces(second)) // some clients chain them
		alice.message("bob@localhost", "chat", "fourth wording", replaces(id))
		bob.awaitText("fourth wording")
		alice.retract("bob@localhost", "chat", "v1", id)
		bob.awaitRetraction(id)
		for _, text := range []string{"first wording", "second wording", "third wording", "fourth wording"} {
			d.gone(text)
		}
		late := alice.message("bob@localhost", "chat", "fifth wording", replaces(id))
		if condition, _, _ := alice.refused(late); condition != "conflict" {
			t.Errorf("a correction after the recall is answered %q", condition)
		}
		late = alice.message("bob@localhost", "chat", "sixth wording", replaces(second))
		if condition, _, _ := alice.refused(late); condition != "conflict" {
			t.Errorf("a correction of a correction after the recall is answered %q", condition)
		}
		alice.message("bob@localhost", "chat", "another message")
		bob.awaitText("another message")
		if log := bob.log(); strings.Contains(log, "fifth wording") || strings.Contains(log, "sixth wording") {
			t.Errorf("bob got it:\n%s", log)
		}
		d.gone("fifth wording")
	})
	d.run("are recalled by their own id", func(t *testing.T) {
		id := alice.message("bob@localhost", "chat", "by the id of a correction")
		second := alice.message("bob@localhost", "chat", "corrected, by its id", replaces(id))
		bob.awaitText("corrected, by its id")
		alice.retract("bob@localhost", "chat", "v0", second)
		bob.awaitRetraction(id)
		d.gone("by the id of a correction")
		d.gone("corrected, by its id")
	})
	d.run("do not reopen a window", func(t *testing.T) {
		id := alice.message("bob@localhost", "chat", "an old message")
		bob.awaitText("an old message")
		d.window("1ns")
		defer d.window("5m")
		second := alice.message("bob@localhost", "chat", "a new wording", replaces(id))
		bob.awaitText("a new wording")
		alice.wantRefused("bob@localhost", "chat", "v1", second, "not-allowed")
	})
	d.run("of an unknown message are messages", func(t *testing.T) {
		id := alice.message("bob@localhost", "chat", "corrects nothing", replaces("nothing"))
		bob.awaitText("corrects nothing")
		alice.retract("bob@localhost", "chat", "v1", id)
		bob.awaitRetraction(id)
		d.gone("corrects nothing")
	})
	d.run("by somebody else are messages", func(t *testing.T) {
		id := alice.message("bob@localhost", "chat", "the words of alice")
		bob.awaitText("the words of alice")
		bob.message("alice@localhost", "chat", "bob on them", replaces(id))
		alice.awaitText("bob on them")
		alice.retract("bob@localhost", "chat", "v1", id)
		bob.awaitRetraction(id)
		d.gone("the words of alice")
		if !alice.archived("", "bob@localhost", "bob on them") {
			t.Error("the message of bob is gone")
		}
	})
	d.run("overtake their message", func(t *testing.T) {
		id := alice.id()
		alice.message("bob@localhost", "chat", "the wording that overtook", replaces(id))
		alice.messageWith("bob@localhost", "chat", id, "<body>the wording that was overtaken</body>")
		bob.awaitText("that was overtaken")
		alice.retract("bob@localhost", "chat", "v1", id)
		bob.awaitRetraction(id)
		d.gone("that was overtaken")
		d.gone("that overtook")
	})
	d.run("wait for the offline recipient", func(t *testing.T) {
		id := alice.message("dave@localhost", "chat", "first for dave")
		alice.message("dave@localhost", "chat", "second for dave", replaces(id))
		alice.sync()
		d.settled("alice@localhost/" + alice.retract("dave@localhost", "chat", "v1", id))
		dave := d.connect("dave").present()
		dave.awaitRetraction(id)
		if log := dave.log(); strings.Contains(log, "for dave") {
			t.Errorf("dave got it:\n%s", log)
		}
		dave.leave()
	})
}

// component is a program that speaks for a domain of its own, such as a gateway (XEP-0114).
func (d *server) component(domain, secret string) *client {
	d.t.Helper()
	var conn net.Conn
	d.eventually("Prosody listens for components", func() (ok bool) {
		var err error
		conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", portComponent+d.offset))
		return err == nil
	})
	d.part.Cleanup(func() { conn.Close() })
	c := &client{d: d, user: domain, jid: domain, conn: conn, dec: xml.NewDecoder(conn), arrived: make(chan struct{})}
	c.send(`<stream:stream xmlns="jabber:component:accept" xmlns:stream="http://etherx.jabber.org/streams" to="` +
		domain + `">`)
	var id string
	for id == "" {
		tok, err := c.dec.Token()
		if err != nil {
			d.t.Fatal(err)
		}
		if el, ok := tok.(xml.StartElement); ok {
			id = node{Attrs: el.Attr}.attr("id")
		}
	}
	c.send(fmt.Sprintf(`<handshake>%x</handshake>`, sha1.Sum([]byte(id+secret))))
	if n, err := c.read(); err != nil || n.XMLName.Local != "handshake" {
		d.t.Fatalf("the component is answered %v, %v", n, err)
	}
	go c.listen()
	return c
}

// portComponent is where the test has Prosody listen for components, before the offset.
const portComponent = 15347

func testOutside(t *testing.T, d *server) {
	d.configure(fmt.Sprintf("component_ports = { %d }\ncomponent_interfaces = { \"127.0.0.1\" }\n"+
		"Component \"gateway.localhost\"\n\tcomponent_secret = \"secret\"\n", portComponent+d.offset))
	defer d.configure("")
	gateway, bob := d.component("gateway.localhost", "secret"), d.connect("bob").present()
	say := func(text string) string {
		id := gateway.id()
		gateway.send(fmt.Sprintf(`<message from="zoe@gateway.localhost/x" to="bob@localhost" type="chat" id=%q>`, id) +
			`<body>` + text + `</body></message>`)
		bob.awaitText(text)
		return id
	}
	retract := func(from, id string) string {
		r := gateway.id()
		gateway.send(fmt.Sprintf(`<message from=%q to="bob@localhost" type="chat" id=%q>`, from, r) +
			fmt.Sprintf(retractions["v1"], id) + `</message>`)
		return r
	}
	d.run("a user outside recalls", func(t *testing.T) {
		id := say("from outside")
		if condition, _, _ := gateway.refused(retract("yan@gateway.localhost/y", id)); condition != "item-not-found" {
			t.Errorf("somebody else: %q", condition)
		}
		r := retract("zoe@gateway.localhost/x", id)
		bob.awaitRetraction(id)
		d.gone("from outside")
		steps := d.settled("zoe@gateway.localhost/" + r)
		if steps["history"] != "done" || steps["offline"] != "unsupported" {
			t.Errorf("the steps are %v", steps)
		}
	})
	d.run("a user here recalls", func(t *testing.T) {
		id := bob.message("zoe@gateway.localhost", "chat", "to outside")
		gateway.awaitText("to outside")
		bob.retract("zoe@gateway.localhost", "chat", "v0", id)
		gateway.awaitRetraction(id)
		d.gone("to outside")
	})
	d.run("nobody outside recalls what others wrote", func(t *testing.T) {
		id := bob.message("zoe@gateway.localhost", "chat", "by bob")
		gateway.awaitText("by bob")
		if condition, _, _ := gateway.refused(retract("zoe@gateway.localhost/x", id)); condition != "forbidden" {
			t.Errorf("the answer is %q", condition)
		}
	})
}
