package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// restart ends a process of the demo with SIGTERM, and waits until another one has taken its place.
func (d *server) restart(name string) { d.t.Helper(); d.replace(name, syscall.SIGTERM) }

// restartHard does so with SIGKILL.
func (d *server) restartHard(name string) { d.t.Helper(); d.replace(name, syscall.SIGKILL) }

func (d *server) replace(name string, sig syscall.Signal) {
	d.t.Helper()
	old := d.signal(name, sig)
	d.eventually("another "+name+" runs", func() bool {
		pid := d.pids()[name]
		return pid != 0 && pid != old && d.accepts()
	})
}

// configure restarts Prosody with other settings for mod_recall.
func (d *server) configure(settings string) {
	d.t.Helper()
	path := filepath.Join(d.dir, "prosody.cfg.lua")
	text, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	const mark = "\n-- settings of the test\n"
	head, rest, _ := strings.Cut(string(text), "VirtualHost")
	head, _, _ = strings.Cut(head, mark)
	if err := os.WriteFile(path, []byte(head+mark+settings+"VirtualHost"+rest), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.restartHard("prosody")
}

// reasonRule puts rules in force that ask managers for a reason.
func (d *server) reasonRule() error {
	window := `window       = "any"`
	text := strings.Replace(string(rulesText("5m")), window, window+"\n  reason       = \"required\"", 1)
	if err := os.WriteFile(filepath.Join(d.dir, "rules.hcl"), []byte(text), 0o600); err != nil {
		return err
	}
	return d.call("admin/reload", dict{}, nil)
}

func testAway(t *testing.T, d *server) {
	spool := filepath.Join(d.dir, "prosody", "recall.spool")
	alice, bob := d.connect("alice").present(), d.connect("bob").present()
	room := alice.create("alice", map[string]string{"persistentroom": "1"})
	bob.join(room, "bob")
	sent := map[string]string{} // id by text
	send := func(text string) {
		sent[text] = alice.message("bob@localhost", "chat", text)
		bob.awaitText(text)
	}
	complaints := func() int {
		text, err := os.ReadFile(filepath.Join(d.dir, "prosody.log"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "recall-sidecar does not answer")
	}
	frozen := false
	freeze := func() {
		d.signal("recall-sidecar", syscall.SIGSTOP)
		frozen = true
	}
	thaw := func() {
		if frozen {
			d.signal("recall-sidecar", syscall.SIGCONT)
			frozen = false
		}
	}
	defer thaw()
	nothingWaits := func() {
		d.t.Helper()
		d.eventually("the spool is gone", func() bool { _, err := os.Stat(spool); return os.IsNotExist(err) })
	}
	// inTime fails the test if each of three sends takes long. Before another one, again is called.
	inTime := func(text string, again func()) {
		d.t.Helper()
		const atMost = 3 * time.Second // with the one for which it waits for the sidecar
		var took [3]time.Duration
		for i := range took {
			if i > 0 {
				again()
			}
			start := time.Now()
			send(fmt.Sprintf("%s %d.", text, i))
			if took[i] = time.Since(start); took[i] <= atMost {
				return
			}
		}
		d.t.Errorf("%s: the messages took %s", text, took)
	}

	d.run("a frozen sidecar delays one send by a second", func(t *testing.T) {
		complained := 0
		begin := func() {
			thaw()
			send(fmt.Sprintf("before the freeze, after %d complaints.", complaints()))
			nothingWaits() // the sidecar is asked again
			complained = complaints()
			freeze()
		}
		begin()
		inTime("asks the frozen sidecar", begin)
		// Prosody handles the stanzas of a stream in order. If each asked, and took a second, bob would not await the last.
		const more = int(2 * patience / time.Second)
		for i := range more {
			text := fmt.Sprintf("in the freeze %d.", i)
			if id := alice.message("bob@localhost", "chat", text); i%5 == 0 {
				sent[text] = id
			}
		}
		bob.awaitText(fmt.Sprintf("in the freeze %d.", more-1))
		if n := complaints() - complained; n != 1 {
			t.Errorf("the log says so %d times", n)
		}
	})
	d.run("a retraction is answered", func(t *testing.T) {
		for text, id := range sent {
			condition, kind, _ := alice.refused(alice.retract("bob@localhost", "chat", "v1", id))
			if condition != "remote-server-timeout" || kind != "wait" {
				t.Errorf("%s: the answer is %s %s", text, condition, kind)
			}
		}
		if strings.Contains(bob.log(), nsRetract1) {
			t.Errorf("bob got a retraction:\n%s", bob.log())
		}
	})
	var sid string
	d.run("a restart of Prosody keeps what waits", func(t *testing.T) {
		sid, _ = bob.say(room, "room in the freeze")
		d.restartHard("prosody")
		file, err := os.OpenFile(spool, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(`{"path":"index","item":{"tenant":"pro`); err != nil { // a torn line
			t.Fatal(err)
		}
		d.restartHard("prosody")
		alice, bob = d.connect("alice").present(), d.connect("bob").present()
		inTime("after the restart", func() {})
	})
	d.run("what waited is indexed and can be recalled", func(t *testing.T) {
		thaw()
		for text, id := range sent {
			d.eventually(text+" is indexed", func() bool { return d.state(chatKey("alice", "bob", id)) == "live" })
		}
		d.eventually("the message of the room is indexed", func() bool { return d.state(room+"/"+sid) == "live" })
		nothingWaits()
		for text, id := range sent {
			alice.retract("bob@localhost", "chat", "v1", id)
			bob.awaitRetraction(id)
			d.gone(text)
		}
		alice.join(room, "alice")
		if condition, _ := alice.moderate(room, "v1", sid, ""); condition != "" {
			t.Errorf("the message of the room: %q", condition)
		}
		d.gone("room in the freeze")
	})
	d.run("a message that was never indexed", func(t *testing.T) {
		freeze()
		send("makes the sidecar be away") // it may read this when it goes on
		send("older than the installation")
		alice.join(room, "alice")
		bob.join(room, "bob")
		older, _ := bob.say(room, "older, in the room")
		d.restartHard("prosody")
		if err := os.Remove(spool); err != nil {
			t.Fatal(err)
		}
		d.restartHard("prosody")
		thaw()
		id := sent["older than the installation"]
		if state := d.state(chatKey("alice", "bob", id)); state != "unknown" {
			t.Fatalf("the message is %s", state)
		}
		alice, bob = d.connect("alice").present(), d.connect("bob").present()
		bob.wantRefused("alice@localhost", "chat", "v1", id, "forbidden")
		alice.retract("bob@localhost", "chat", "v1", id)
		bob.awaitRetraction(id)
		d.gone("older than the installation")
		alice.join(room, "alice")
		alice.wantRefused("nowhere@rooms.localhost", "groupchat", "v1", older, "item-not-found")
		carol := d.connect("carol").present().join(room, "carol")
		if state := d.state(room + "/" + older); state != "unknown" {
			t.Fatalf("the message of the room is %s", state)
		}
		carol.wantRefused(room, "groupchat", "v1", older, "item-not-found") // nobody knows who wrote it
		bob.join(room, "another nick")
		carol.wantRefused(room, "groupchat", "v1", older, "forbidden")
		bob.retract(room, "groupchat", "v1", older)
		carol.awaitRetraction(older)
		carol.leave()
		d.gone("older, in the room")
	})
	d.run("what waits for a user is not delivered while its recall is open", func(t *testing.T) {
		id := alice.message("carol@localhost", "chat", "carol was away")
		keep := alice.message("carol@localhost", "chat", "carol gets this")
		alice.sync()
		// The recall is decided while there is no Prosody, and its steps are taken by somebody else, who does nothing.
		if err := syscall.Kill(d.cmd.Process.Pid, syscall.SIGSTOP); err != nil { // it would start Prosody again
			t.Fatal(err)
		}
		d.signal("prosody", syscall.SIGKILL)
		d.must("recall", dict{"tenant": "prosody", "recall_id": "by-an-operator", "actor": dict{"id": "operator"},
			"targets": []dict{{"message_id": chatKey("alice", "carol", id), "role": "system"}}}, nil)
		taken, open := map[string]bool{}, []dict{}
		d.eventually("all steps are taken", func() bool {
			var answer struct{ Deliveries []struct{ ID, Step string } }
			d.must("steps/take", dict{"wait": "1s", "max": 100}, &answer)
			for _, one := range answer.Deliveries {
				taken[one.Step] = true
				if one.Step == "notify" { // the others wait for it
					d.must("steps/settle", dict{"settle": []dict{{"id": one.ID, "outcome": "nothing_to_do"}}}, nil)
				} else {
					open = append(open, dict{"id": one.ID, "outcome": "failed", "error": "it was the test"})
				}
			}
			return taken["history"] && taken["offline"] && taken["roaming"]
		})
		if err := syscall.Kill(d.cmd.Process.Pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		d.eventually("Prosody runs again", d.accepts)
		carol := d.connect("carol").present()
		if got := carol.awaitText("carol gets this").attr("id"); got != keep {
			t.Errorf("another message: %s", got)
		}
		if strings.Contains(carol.log(), "carol was away") {
			t.Error("carol got the text")
		}
		d.must("steps/settle", dict{"settle": open}, nil)
		d.gone("carol was away")
		alice, bob = d.connect("alice").present(), d.connect("bob").present()
	})
	d.run("a value that is none", func(t *testing.T) {
		d.configure("recall_when_down = \"later\"\n")
		d.eventually("the log says so", func() bool {
			return strings.Contains(d.tail("prosody.log"), `recall_when_down is "later"; it can be "queue" or "refuse"`)
		})
	})
	d.run("refuse", func(t *testing.T) {
		d.configure("recall_when_down = \"refuse\"\n")
		defer d.configure("")
		alice, bob = d.connect("alice").present(), d.connect("bob").present()
		bob.join(room, "bob")
		freeze()
		for range 2 {
			condition, kind, _ := alice.refused(alice.message("bob@localhost", "chat", "refused text"))
			if condition != "service-unavailable" || kind != "wait" {
				t.Errorf("the answer is %s %s", condition, kind)
			}
		}
		condition, _, _ := bob.refused(bob.message(room, "groupchat", "refused text"))
		if condition != "service-unavailable" {
			t.Errorf("the room answers %s", condition)
		}
		alice.join(room, "alice")
		d.gone("refused text")
		thaw()
		d.eventually("messages go on", func() bool {
			id := alice.message("bob@localhost", "chat", "goes on")
			alice.sync()
			bob.sync()
			return strings.Contains(bob.log(), id)
		})
		if strings.Contains(bob.log(), "refused text") {
			t.Error("the text was delivered")
		}
	})
}
