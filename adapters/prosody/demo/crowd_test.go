package main

import (
	"bytes"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What the users of the crowd write.
const (
	recalledTexts = `crowd-\w+-\d+-recalled\.`
	keptTexts     = `crowd-\w+-\d+-kept\.`
)

// testCrowd: users write and take back at the same time, while every process is killed.
func testCrowd(t *testing.T, d *server) {
	const messages, users = 500, 5
	names := []string{"alice", "bob", "carol", "dave", "erin"}
	room := d.connect("alice").present().create("owner", map[string]string{"persistentroom": "1"})
	var done atomic.Int64
	var crowd sync.WaitGroup
	for u := range users {
		crowd.Go(func() {
			w := &writer{t: t, d: d, user: names[u], peer: names[(u+1)%users], room: room}
			for i := range messages / users {
				if err := w.one(i, i%2 == 0, i%3 == 0); err != nil {
					t.Errorf("message %d of %s: %v", i, w.user, err)
				}
				done.Add(1)
			}
		})
	}
	targets := []string{
		"prosody", "recall-sidecar", "recall-plugin", "prosody", "recall-plugin", "recall-sidecar", "prosody",
	}
	for i, target := range targets {
		at := int64(i+1)*messages/int64(len(targets)+1) + rand.Int64N(20)
		for written := done.Load(); written < at; written = done.Load() { // as long as it gets on
			d.eventually(fmt.Sprintf("more than %d messages are written", written), func() bool { return done.Load() > written })
		}
		d.kill(target)
	}
	crowd.Wait()
	// With the storage internal, each recall parses whole archives, and the machine may be busy.
	deadline := time.Now().Add(8 * patience)
	leaks := d.leaks(recalledTexts)
	for len(leaks) > 0 && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
		leaks = d.leaks(recalledTexts)
	}
	if len(leaks) > 0 {
		t.Fatalf("%d recalled texts are in files: %v", len(leaks), leaks)
	}
	if kept := d.leaks(keptTexts); len(kept) != messages/2 {
		t.Errorf("%d of %d other messages are in the files", len(kept), messages/2)
	}
}

// leaks lists what matches in the files of Prosody, and where.
func (d *server) leaks(pattern string) map[string]string {
	found := map[string]string{}
	re := regexp.MustCompile(pattern)
	_ = filepath.WalkDir(filepath.Join(d.dir, "prosody"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			text, _ := os.ReadFile(path)
			for _, match := range re.FindAll(bytes.Clone(text), -1) {
				found[string(match)] = path
			}
		}
		return nil
	})
	return found
}

// writer is a user of the crowd. It connects again whenever its stream ends.
type writer struct {
	t                testing.TB
	d                *server
	user, peer, room string
	c                *client // nil: not connected
}

// connect returns once the user is in the room.
func (w *writer) connect() error {
	if w.c != nil && !w.c.ended() {
		return nil
	}
	deadline := time.Now().Add(patience)
	for {
		c, err := w.d.dial(w.user)
		if err == nil {
			_ = c.conn.SetDeadline(time.Time{})
			go c.listen()
			w.c = c
			bind := `<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/>`
			if err = w.ask("set", "", bind); err == nil {
				c.send(`<presence/><presence to="` + w.room + `/` + w.user + `">
					<x xmlns="http://jabber.org/protocol/muc"/></presence>`)
				err = w.sync()
			}
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

var errEnded = errors.New("the stream ended")

// ask makes a request.
func (w *writer) ask(kind, to, payload string) error {
	id := w.c.id()
	if to != "" {
		to = " to='" + to + "'"
	}
	w.c.send(fmt.Sprintf(`<iq type=%q id=%q%s>%s</iq>`, kind, id, to, payload))
	if _, ok := w.c.awaitOr(func(n node) bool { return n.XMLName.Local == "iq" && n.attr("id") == id }); !ok {
		return errEnded
	}
	return nil
}

func (w *writer) sync() error { return w.ask("get", "localhost", `<ping xmlns="urn:xmpp:ping"/>`) }

// one sends a message, to the peer or the room, and takes it back.
func (w *writer) one(i int, recall, inRoom bool) error {
	what := "kept"
	if recall {
		what = "recalled"
	}
	text := fmt.Sprintf("crowd-%s-%d-%s.", w.user, i, what)
	id := fmt.Sprintf("crowd-%s-%d-%s", w.user, i, crand.Text())
	to, kind := w.peer+"@localhost", "chat"
	if inRoom {
		to, kind = w.room, "groupchat"
	}
	// A message whose stream ended before the server had handled it may have been accepted or not. It is sent again, with
	// the same id. In a room that may be a second message, with an id of its own.
	for {
		if err := w.connect(); err != nil {
			return err
		}
		w.c.messageWith(to, kind, id, "<body>"+text+"</body>")
		if w.sync() == nil {
			break
		}
	}
	if !recall {
		return nil
	}
	if !inRoom {
		return w.recall(to, kind, id, chatKey(w.user, w.peer, id))
	}
	sids, err := w.inRoom(text)
	if err != nil {
		return err
	}
	for _, sid := range sids {
		if err := w.recall(to, kind, sid, w.room+"/"+sid); err != nil {
			return err
		}
	}
	return nil
}

// inRoom returns the ids of the messages of the room with a text, from its archive.
func (w *writer) inRoom(text string) ([]string, error) {
	for {
		if err := w.connect(); err != nil {
			return nil, err
		}
		w.c.forget()
		query := `<query xmlns="` + nsMAM + `">
			<set xmlns="http://jabber.org/protocol/rsm"><max>50</max><before/></set></query>`
		if w.ask("set", w.room, query) != nil {
			continue
		}
		var sids []string
		w.c.mu.Lock()
		for _, n := range w.c.got {
			if r := n.find(nsMAM, "result"); r != nil && strings.Contains(r.Inner, text) {
				sids = append(sids, r.attr("id"))
			}
		}
		w.c.mu.Unlock()
		if len(sids) == 0 {
			return nil, fmt.Errorf("%s is not in the archive", text)
		}
		return sids, nil
	}
}

// recall asks again and again, since its stream may end, and the sidecar may be away.
func (w *writer) recall(to, kind, target, key string) error {
	for deadline := time.Now().Add(4 * patience); time.Now().Before(deadline); {
		before := w.c
		if err := w.connect(); err != nil {
			return err
		}
		if w.c != before { // Prosody was killed in between
			deadline = time.Now().Add(4 * patience)
		}
		w.c.retract(to, kind, []string{"v0", "v1"}[rand.IntN(2)], target)
		for range 50 {
			var answer struct{ Results []struct{ State string } }
			err := w.d.call("status", dict{"tenant": "prosody", "ids": []string{key}}, &answer)
			if err == nil && answer.Results[0].State == "recalled" {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return fmt.Errorf("%s is not recalled:\n%s", key, w.c.log())
}
