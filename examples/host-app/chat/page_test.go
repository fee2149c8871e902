package chat

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// keys presses keys on whatever has the focus.
func (tb *tab) keys(keys ...string) {
	tb.t.Helper()
	for _, k := range keys {
		tb.run(chromedp.KeyEvent(k))
	}
}

// focused waits until what has the focus matches a selector.
func (tb *tab) focused(selector string) {
	tb.t.Helper()
	tb.wait(`document.activeElement?.matches(%s)`, quoted(selector))
}

func TestPage_FirstRecall(t *testing.T) {
	c := newChat(t)
	for range 2 { // at every start of the server, but only once in the chat
		if err := greet(testContext(t), c.Server); err != nil {
			t.Fatal(err)
		}
	}
	var guide strings.Builder
	printGuide(&guide, "127.0.0.1:8080")
	if !strings.HasPrefix(guide.String(), "Open http://127.0.0.1:8080 ") {
		t.Errorf("the first thing to read is %.60q", guide.String())
	}
	tb := c.open("/", desktop)
	tb.wait(`document.querySelector('[data-user=ann]')`)
	tb.click(`[data-user=ann]`)
	tb.wait(`document.body.dataset.online === 'yes'`)
	tb.click(`[data-room="single/ann-ben"]`)
	tb.message("take it back")
	tb.wait(`document.querySelectorAll('#list .message').length === 2`)
	tb.say("my first words")
	tb.recall(tb.message("my first words"))
	tb.shows(".placeholder", "You recalled a message")
	tb.holdsNot("my first words")
}

func TestPage_RecallOnBothScreens(t *testing.T) {
	c := newChat(t)
	ann, ben := c.user("ann", "single/ann-ben", desktop), c.user("ben", "single/ann-ben", desktop)
	ann.say("the secret plan")
	secret := ben.message("the secret plan")
	ben.wait(`document.querySelector('#live').textContent.includes('the secret plan')`) // read out
	ben.shows(".preview", "the secret plan")

	// Ben quotes it, and begins another answer.
	ben.menu(secret)
	ben.click(`#menu [data-item=reply]`)
	ben.say("are you sure?")
	ann.shows(".quote", "the secret plan")
	ben.menu(secret)
	ben.click(`#menu [data-item=reply]`)
	ben.shows("#context", "the secret plan")

	mine := ann.message("the secret plan")
	ann.menu(mine)
	ann.wait(`/^Recall · [12]:\d\d left$/.test(
		document.querySelector('#menu [data-item=recall]').getAttribute('aria-label'))`)
	ann.click(`#menu [data-item=recall]`)
	ann.shows(mine, "You recalled a message")
	ben.shows(secret, "Ann recalled a message")
	for _, tb := range []*tab{ann, ben} {
		tb.shows(".quote", "Message recalled")
		tb.holdsNot("the secret plan")
	}
	ben.wait(`document.querySelector('#context').children.length === 0`)

	// The text comes back for its sender, here and nowhere else.
	ann.click(mine + " button")
	ann.focused("#text")
	if got := eval[string](ann, `document.querySelector('#text').value`); got != "the secret plan" {
		t.Errorf("Re-edit gives %q", got)
	}
	ann.keys(kb.Enter)
	ben.message("the secret plan")

	ann.run(chromedp.Reload())
	ann.shows(mine, "You recalled a message")
	if eval[bool](ann, `document.querySelector(`+quoted(mine+" button")+`) !== null`) {
		t.Error("after a reload the page can still edit a recalled text again")
	}
}

// The text of a message goes with it from its edits, from quotes, and from what others forwarded.
func TestPage_EditQuoteForward(t *testing.T) {
	c := newChat(t)
	ann, ben := c.user("ann", "group/team", desktop), c.user("ben", "group/team", desktop)
	lobby := c.user("cleo", "chatroom/lobby", desktop)
	ann.say("the plan")
	mine, theirs := ann.message("the plan"), ben.message("the plan")
	ann.menu(mine)
	ann.click(`#menu [data-item=edit]`)
	ann.shows("#context", "Editing your message")
	ann.wait(`document.querySelector('#text').value === 'the plan'`)
	ann.run(chromedp.SendKeys(chromedp.CSS("#text"), " is swordfish"+kb.Enter))
	for _, tb := range []*tab{ann, ben} {
		tb.shows(theirs+" .bubble", "the plan is swordfish")
		tb.shows(theirs+" .edited", "edited")
	}

	ben.menu(theirs)
	ben.click(`#menu [data-item=reply]`)
	ben.say("really?")
	ann.shows(".quote", "the plan is swordfish")
	ben.menu(theirs)
	ben.click(`#menu [data-item=forward]`)
	ben.click(`[data-to="chatroom/lobby"]`)
	lobby.shows(".message", "the plan is swordfish")
	lobby.shows(".forwarded", "Forwarded")
	ben.run(chromedp.Reload())
	ben.shows(theirs+" .edited", "edited")

	ann.recall(mine)
	for _, tb := range []*tab{ann, ben} {
		tb.shows(mine, "recalled a message")
		tb.shows(".quote", "Message recalled")
	}
	lobby.shows(".placeholder", "removed by")
	for _, tb := range []*tab{ann, ben, lobby} {
		tb.holdsNot("swordfish")
	}
	ben.run(chromedp.Reload())
	ben.shows(".quote", "Message recalled")
	ben.holdsNot("swordfish")
}

// A recall may overtake its message: what is still being sent is never delivered.
// An edit that is recalled alone goes from the pages that show it, which show the text before: also of a message that
// is older than the newest page, for whoever edits it, and for whoever was away.
func TestPage_EditAlone(t *testing.T) {
	c := newChat(t)
	sendEdited(t, c.Server)
	for i := range 60 {
		send(t, c.Server, "dan", Outgoing{Conversation: groupRoom, Text: fmt.Sprint("chatter ", i)})
	}
	ben, cleo, away := c.user("ben", "group/team", desktop), c.user("cleo", "group/team", desktop),
		c.user("dan", "group/team", desktop)
	ann := c.user("ann", "group/team", desktop) // has not loaded the message
	for _, tb := range []*tab{ben, cleo, away} {
		tb.click("#earlier")
		tb.shows(`[data-id="m"] .bubble`, secret)
	}
	ben.menu(`[data-id="m"]`)
	ben.click(`#menu [data-item=reply]`)
	ben.say("really?")
	ann.shows(".quote", secret)
	ben.menu(`[data-id="m"]`)
	ben.click(`#menu [data-item=reply]`)
	ben.shows("#context", secret)
	cleo.menu(`[data-id="m"]`)
	cleo.click(`#menu [data-item=edit]`)
	cleo.wait(`document.querySelector('#text').value === %s`, quoted(secret))
	away.click("#online")
	away.wait(`document.body.dataset.online === 'no'`)

	job, err := c.plugin.StartJob(testContext(t), shared.JobRequest{Tenant: Tenant, JobID: "j",
		Actor: shared.Actor{ID: "ben"}, Role: shared.RoleAdmin,
		Filter: shared.JobFilter{Sender: "cleo", Conversation: &groupRoom, From: time.Now().Add(-sweepBack)}})
	if err != nil {
		t.Fatalf("%+v %v", job, err)
	}
	for _, tb := range []*tab{ben, cleo} {
		tb.shows(`[data-id="m"] .bubble`, "the text before")
		tb.shows(`[data-id="m"] .edited`, "edited")
	}
	ben.shows("#context", "the text before")
	cleo.wait(`document.querySelector('#text').value === ''`)
	ann.shows(".quote", "Message not loaded")
	away.click("#online")
	away.shows(`[data-id="m"] .bubble`, "the text before")
	for _, tb := range []*tab{ben, cleo, ann, away} {
		tb.holdsNot("swordfish")
		if eval[int](tb, `document.querySelectorAll('.placeholder').length`) != 0 {
			t.Error("the edit has left a placeholder")
		}
		tb.wait(`document.querySelector('#earlier').hidden === %t`, tb != ann) // all is loaded, or there is more
	}
}

// Whatever the order in which a page learns of a message, its edits and the recall of one of them, the outcome is the
// same once it has read what it asks to read again.
func TestPage_EditAloneInAnyOrder(t *testing.T) {
	c := newChat(t)
	tb := c.open("/", desktop)
	got := eval[string](tb, `(async () => {
		const { Model } = await import('/static/model.js');
		const conversation = { type: 'group', id: 'team' };
		const base = { id: 'm', seq: 1, conversation, sender: 'cleo', type: 'text' };
		const notice = { message_id: 'e2', conversation, recalled_at: '2026-01-01T00:00:00Z' };
		const edit = (id, seq, text) => ({ id, seq, conversation, sender: 'cleo', type: 'text', edit: 'm', text });
		const learn = {
			message: (model) => model.add({ ...base, text: 'zero' }),
			first: (model) => model.edit(edit('e1', 2, 'one')),
			second: (model) => model.edit(edit('e2', 3, 'two')),
			history: (model) => model.add({ ...base, text: 'two', edited: 3, version: 'e2' }),
			quote: (model) => model.add({ ...base, id: 'q', seq: 4, quote: 'm', quoted: 'two', quoted_edit: 'e2' }),
			notice: (model) => model.recall(notice),
		};
		const after = (x, rest) => orders(rest).map((order) => [x, ...order]);
		const orders = (list) => (list.length < 2 ? [list] : list.flatMap((x, i) => after(x, list.toSpliced(i, 1))));
		const wrong = [];
		for (const order of orders([...Object.keys(learn), 'notice'])) {
			const model = new Model('ben');
			model.setRooms([{ conversation, title: 'Team', members: [] }]);
			const room = model.rooms.get('group/team');
			let gone = false;
			for (const what of order) {
				learn[what](model);
				gone ||= what === 'notice';
				const kept = JSON.stringify([[...model.messages.values()], [...model.early.values()]]);
				if (gone && kept.includes('"two"')) wrong.push([what, ...order]);
			}
			if (model.stale(room).length) model.add({ ...base, text: 'one', edited: 2, version: 'e1' });
			const m = model.messages.get('m');
			if (m.text !== 'one' || m.edited !== 2 || m.version !== 'e1') wrong.push([m.text, ...order]);
		}
		return JSON.stringify(wrong.slice(0, 5));
	})()`)
	if got != "[]" {
		t.Errorf("wrong are %s", got)
	}
}

func TestPage_RecallBeforeTheMessage(t *testing.T) {
	c := newChat(t)
	ann, ben := c.user("ann", "group/team", desktop), c.user("ben", "group/team", desktop)
	eval[any](ann, `(() => {
		const { fetch } = window;
		window.held = new Promise((release) => { window.release = release; });
		window.fetch = async (path, ...rest) => {
			if (!String(path).endsWith('/messages')) return fetch(path, ...rest);
			await window.held;
			const answer = await fetch(path, ...rest);
			window.status = answer.status;
			return answer;
		};
	})()`)
	ann.say("sent too soon")
	ann.wait(`getComputedStyle(document.querySelector('.pending .cancel')).visibility === 'visible'`)
	ann.click(".pending .cancel")
	ann.shows(".placeholder", "You recalled a message")
	eval[any](ann, `window.release()`)
	ann.wait(`window.status === '410'`)
	ann.say("afterwards")
	ben.message("afterwards")
	for _, tb := range []*tab{ann, ben} {
		tb.holdsNot("sent too soon")
	}
}

func TestPage_PreviewAndNotification(t *testing.T) {
	c := newChat(t)
	ben := c.user("ben", "", desktop)
	// Notifications as the browser would show them.
	eval[any](ben, `(() => {
		window.shown = [];
		window.Notification = class { static permission = 'granted'; constructor(title, o) { this.text = title + ' ' + o.body;
			shown.push(this); } close() { shown.splice(shown.indexOf(this), 1); } };
	})()`)
	send(t, c.Server, "ann", Outgoing{ID: "u1", Conversation: singleRoom, Text: "one to keep"})
	send(t, c.Server, "ann", Outgoing{ID: "u2", Conversation: singleRoom, Text: "one to regret"})
	ben.shows(`[data-room="single/ann-ben"] .badge`, "2")
	ben.shows(`[data-room="single/ann-ben"] .preview`, "one to regret")
	ben.wait(`document.title.startsWith('(2)') && shown.length === 2 && shown[1].text === 'Ann one to regret'`)
	takeBack(t, c.Server, "ann", adapter.Ask{MessageIDs: []string{"u2"}})
	ben.shows(`[data-room="single/ann-ben"] .badge`, "1")
	ben.shows(`[data-room="single/ann-ben"] .preview`, "Ann recalled a message")
	ben.wait(`document.title.startsWith('(1)') && shown.length === 1 && shown[0].text === 'Ann one to keep'`)
	ben.holdsNot("one to regret")
	ben.run(chromedp.Reload()) // what is unread stays so
	ben.shows(`[data-room="single/ann-ben"] .badge`, "1")
	ben.click(`[data-room="single/ann-ben"]`)
	ben.wait(`!document.querySelector('.badge') && !document.title.startsWith('(')`)
}

func TestPage_RecalledAttachment(t *testing.T) {
	c := newChat(t)
	ann, ben := c.user("ann", "single/ann-ben", desktop), c.user("ben", "single/ann-ben", desktop)
	plain := filepath.Join(t.TempDir(), "notes & plans.txt")
	if err := os.WriteFile(plain, []byte("the plan"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ path, shown string }{
		{picture(t, "beach.png"), `[...document.querySelectorAll('img')].some((i) => i.naturalWidth === 480 &&
			i.alt.includes('beach.png'))`},
		{voice(t, "note.wav"), `document.querySelector('audio')?.duration === 1`},
		{plain, `document.querySelector('.file .name')?.textContent === 'notes & plans.txt'`},
	} {
		ann.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{f.path}))
		ann.shows("#context", filepath.Base(f.path))
		ann.click("#send")
		ben.wait(f.shown)
		ann.wait(f.shown + ` && !document.querySelector('.pending')`)
		id := eval[string](ann, `document.querySelector('#list .message:last-child').dataset.id`)
		m, found, err := c.store.Message(testContext(t), id)
		if err != nil || !found || len(m.Attachments) != 1 {
			t.Fatalf("%+v %v %v", m, found, err)
		}
		status := `fetch('/attachments?user=ben&key=` + m.Attachments[0].Key + `').then((r) => r.status)`
		if got := eval[int](ben, status); got != 200 {
			t.Errorf("%s: %d before the recall", f.path, got)
		}
		ann.recall(`[data-id="` + id + `"]`)
		ben.wait(`!(` + f.shown + `) && !document.querySelector('.attachment')`)
		if got := eval[int](ben, status); got != 410 {
			t.Errorf("%s: %d after the recall", f.path, got)
		}
		ben.holdsNot(filepath.Base(f.path))
	}
}

func TestPage_MenuUntil(t *testing.T) {
	c := newChat(t)
	ann := c.user("ann", "single/ann-ben", desktop)
	send(t, c.Server, "ann", Outgoing{ID: "late", Conversation: singleRoom, Text: "sent long ago",
		SentAt: time.Now().Add(-3 * time.Minute)})
	ann.menu(ann.message("sent long ago"))
	if eval[bool](ann, `document.querySelector('#menu [data-item=recall]') !== null`) {
		t.Error("a recall is offered that will be refused")
	}
	ann.click(`#menu [data-item=why]`)
	ann.shows("#refused-words", "This message is too old to recall.")
	if eval[bool](ann, `document.querySelector('#refused-rule').checkVisibility()`) {
		t.Error("the rule is shown without being asked for")
	}
	ann.click("#refused summary")
	ann.shows("#refused-rule", "sender_in_window")
	ann.shows("#refused-rule", "default.hcl:14")
	ann.keys(kb.Escape)
	ann.wait(`!document.querySelector('#refused').open`)

	for left := 4 * time.Second; ; left += left / 2 {
		text := "almost late, by " + left.String()
		send(t, c.Server, "ann", Outgoing{Conversation: singleRoom, Text: text,
			SentAt: time.Now().Add(-2*time.Minute + left)})
		ann.menu(ann.message(text))
		clock := eval[string](ann, `document.querySelector('#menu .clock')?.textContent ?? ''`)
		if parsed, err := time.Parse("4:05", clock); err == nil && parsed.Minute() == 0 && parsed.Second() > 0 {
			break
		}
		if left > patience/2 {
			t.Fatalf("the menu does not count down: %q", clock)
		}
		ann.keys(kb.Escape) // the window ended before the menu was there
	}
	ann.wait(`!document.querySelector('#menu [data-item=recall]') && document.querySelector('#menu [data-item=why]')`)
	ann.keys(kb.Escape)

	// Another's message in a single conversation: never.
	send(t, c.Server, "ben", Outgoing{ID: "bens", Conversation: singleRoom, Text: "from Ben"})
	ann.menu(ann.message("from Ben"))
	ann.click(`#menu [data-item=why]`)
	ann.shows("#refused-words", "You can't recall this message.")
	ann.click("#refused summary")
	ann.shows("#refused-rule", "default_deny")
	ann.keys(kb.Escape)

	// The text comes with the refusal, in each language.
	ann.click("#language")
	ann.menu(ann.message("from Ben"))
	ann.click(`#menu [data-item=why]`)
	ann.shows("#refused-words", shared.Words(shared.StatusDenied, shared.CodeForbidden)["zh-Hans"])
}

func TestPage_AdminRecalls(t *testing.T) {
	c := newChat(t)
	ben, cleo, dan := c.user("ben", "group/team", desktop), c.user("cleo", "group/team", desktop),
		c.user("dan", "group/team", desktop)
	send(t, c.Server, "cleo", Outgoing{ID: "old", Conversation: groupRoom, Text: "said too much",
		SentAt: time.Now().Add(-time.Hour)})
	dan.message("said too much")
	cleo.message("said too much")
	ben.recall(ben.message("said too much"))
	ben.shows(".placeholder", "You removed a message of Cleo")
	cleo.shows(".placeholder", "A message of yours was removed by an admin")
	dan.shows(".placeholder", "A message of Cleo was removed by an admin")
	for _, tb := range []*tab{ben, cleo, dan} {
		tb.holdsNot("said too much")
	}
}

func TestPage_AwayDuringRecall(t *testing.T) {
	c := newChat(t)
	ann, ben := c.user("ann", "single/ann-ben", desktop), c.user("ben", "single/ann-ben", desktop)
	ann.say("seen before")
	ben.message("seen before")
	send(t, c.Server, "ann", Outgoing{ID: "room1", Conversation: lobby, Text: "seen in the lobby"})
	ben.shows(`[data-room="chatroom/lobby"] .preview`, "seen in the lobby")

	ben.click(".switch")
	ben.wait(`document.body.dataset.online === 'no' && document.querySelector('#send').disabled &&
		document.querySelector('#offline').checkVisibility()`)
	for c.hub.Present("ben") { // the server learns of it when the connection ends
		select {
		case <-time.After(5 * time.Millisecond): // polling, bounded by the context
		case <-testContext(t).Done():
			t.Fatal("Ben is still connected")
		}
	}
	ann.say("never to be seen")
	ann.say("to be seen later")
	ann.recall(ann.message("never to be seen"))
	ann.recall(ann.message("seen before"))
	ann.wait(`document.querySelectorAll('.placeholder').length === 2`)
	takeBack(t, c.Server, "ann", adapter.Ask{MessageIDs: []string{"room1"}})
	if got := eval[int](ben, `document.querySelectorAll('.placeholder').length`); got != 0 {
		t.Errorf("a page that is offline learned of %d recalls", got)
	}

	ben.click(".switch")
	ben.message("to be seen later")
	ben.wait(`document.querySelectorAll('#list .placeholder').length === 2`)
	ben.shows(".placeholder", "Ann recalled a message")
	ben.shows(`[data-room="chatroom/lobby"] .preview`, "Ann recalled a message")
	for _, text := range []string{"seen before", "never to be seen", "seen in the lobby"} {
		ben.holdsNot(text)
	}
}

// chatWithRules puts a rule file beside plugin.hcl and has it followed.
func chatWithRules(t *testing.T, rules string) (*chat, string) {
	t.Helper()
	path, block := rulesFile(t, rules)
	return newChat(t, block), path
}

// rulesFile writes rules, and the block of plugin.hcl that names their file.
func rulesFile(t *testing.T, rules string) (path, block string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "rules.hcl")
	writeRules(t, path, rules)
	return path, fmt.Sprintf("rules {\n  paths = [%q]\n}\n", path)
}

// writeRules puts new rules in the place of the old at once, as an editor does.
func writeRules(t *testing.T, path, rules string) {
	t.Helper()
	err := os.WriteFile(path+".new", []byte(rules), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const ownWords = `
placeholder "why" {
  text = {
    en        = "{actor} took a {type} of {sender} ({role}) back: {reason} <img src=x onerror=window.pwned=1>"
    "zh-Hans" = "{actor}收回了{type}：{reason}"
  }
}
permit "own" {
  sender = true
  reason = "required"
  on_recall {
    placeholder = "why"
  }
}
permit "quietly" {
  conversation = ["group"]
  role         = ["owner"]
  sender       = false
  window       = "any"
  on_recall {
    silent = true
  }
}
`

func TestPage_ReasonAndPlaceholder(t *testing.T) {
	c, _ := chatWithRules(t, ownWords)
	ann, ben := c.user("ann", "single/ann-ben", desktop),
		c.user("ben", "single/ann-ben", look{width: 1280, height: 800, language: "zh-CN"})
	ann.say("a slip")
	mine := ann.message("a slip")
	ann.menu(mine)
	// a window that a reason opens is known too
	ann.wait(`/^1:\d\d$/.test(document.querySelector('#menu .clock').textContent)`)
	ann.click(`#menu [data-item=recall]`)
	ann.focused("#reason-text")
	ann.keys(kb.Enter) // nothing written: nothing happens
	ann.wait(`document.querySelector('#reason').open`)
	ann.keys(kb.Escape)
	ann.wait(`!document.querySelector('#reason').open`)
	ann.message("a slip")
	ann.recall(mine)
	ann.focused("#reason-text")
	ann.run(chromedp.SendKeys(chromedp.CSS("#reason-text"), "wrong {actor} <b>window</b>"))
	ann.click("#reason-ok")
	ann.shows(mine, "You took a text of You (member) back: wrong (actor) <b>window</b> <img src=x onerror=window.pwned=1>")
	ben.shows(".placeholder", "Ann收回了文字：wrong (actor) <b>window</b>")
	for _, tb := range []*tab{ann, ben} {
		if eval[bool](tb, `Boolean(window.pwned || document.querySelector('.placeholder img, .placeholder b'))`) {
			t.Error("a placeholder became markup")
		}
	}

	// A silent recall leaves nothing.
	ann.click(`[data-room="group/team"]`)
	send(t, c.Server, "cleo", Outgoing{ID: "q1", Conversation: groupRoom, Text: "an advert"})
	advert := ann.message("an advert")
	ann.recall(advert)
	ann.wait(`!document.querySelector(%s) && document.querySelectorAll('#list .placeholder').length === 0`, quoted(advert))
	ann.focused("#text") // the focus does not fall into nowhere
	ann.holdsNot("an advert")
}

// A quote repeats a message that is older than what the page has loaded.
func TestPage_SilentRecallOfQuoted(t *testing.T) {
	c, _ := chatWithRules(t, ownWords)
	send(t, c.Server, "cleo", Outgoing{ID: "old", Conversation: groupRoom, Text: "an old advert"})
	for i := range 60 {
		send(t, c.Server, "dan", Outgoing{Conversation: groupRoom, Text: fmt.Sprint("chatter ", i)})
	}
	send(t, c.Server, "dan", Outgoing{Conversation: groupRoom, Text: "really?", Quote: "old"})
	ben := c.user("ben", "group/team", desktop)
	ben.shows(".quote", "an old advert")
	r := takeBack(t, c.Server, "ann", adapter.Ask{MessageIDs: []string{"old"}})
	if r.Status != shared.StatusRecalled {
		t.Fatalf("%+v", r)
	}
	ben.shows(".quote", "Message recalled")
	ben.holdsNot("an old advert")
}

func TestPage_Keyboard(t *testing.T) {
	c := newChat(t)
	ann := c.user("ann", "", desktop)
	ann.wait(`document.querySelectorAll('.entry').length === 3`)
	eval[any](ann, `document.querySelector('[data-room="group/team"]').focus()`)
	ann.keys(kb.Enter)
	ann.focused("#text")
	ann.say("first")
	ann.message("first")
	ann.say("second")
	ann.message("second")
	ann.focused("#text")
	ann.keys(kb.ArrowUp)
	ann.focused(ann.message("second") + " .more")
	ann.keys(kb.ArrowUp)
	ann.focused(ann.message("first") + " .more")
	ann.keys(kb.Enter)
	ann.focused("#menu [data-item=reply]")
	ann.wait(`document.querySelector('#menu [data-item=recall]')`)
	ann.keys(kb.Escape)
	ann.focused(ann.message("first") + " .more")
	ann.keys(kb.Enter)
	ann.wait(`document.querySelector('#menu [data-item=recall]')`)
	ann.keys(kb.ArrowUp) // round to the last one
	ann.focused("#menu [data-item=recall]")
	if !eval[bool](ann, `getComputedStyle(document.activeElement).outlineStyle !== 'none' &&
		document.activeElement.matches(':focus-visible')`) {
		t.Error("the focus cannot be seen")
	}
	ann.keys(kb.Enter)
	ann.shows(".placeholder", "You recalled a message")
	ann.wait(`document.activeElement !== document.body`)
	ann.wait(`document.querySelector('#live').textContent === 'You recalled a message'`)

	// Everything that can be used has a name that is read out.
	for _, tb := range []*tab{ann, c.open("/operator", desktop), c.open("/audit?user=vera", desktop)} {
		tb.wait(`document.readyState === 'complete' && document.querySelector('#language').textContent`)
		for _, nameless := range eval[[]string](tb,
			`[...document.querySelectorAll('button, a, input, textarea, select')].filter((e) => e.checkVisibility() &&
			!(e.getAttribute('aria-label') || e.innerText?.trim() || e.labels?.[0]?.innerText.trim()))
				.map((e) => e.outerHTML)`) {
			t.Errorf("no name: %s", nameless)
		}
	}
}

func TestPage_Phone(t *testing.T) {
	c := newChat(t)
	send(t, c.Server, "ben", Outgoing{Conversation: singleRoom, Text: strings.Repeat("longwordwithoutanyspace", 40)})
	ann := c.user("ann", "", phone)
	ann.wait(`document.querySelectorAll('.entry').length === 3`)
	ann.wait(`document.querySelector('.side').checkVisibility() && !document.querySelector('.pane').checkVisibility()`)
	ann.fits()
	ann.click(`[data-room="single/ann-ben"]`)
	ann.wait(`!document.querySelector('.side').checkVisibility() && document.querySelector('#room').checkVisibility()`)
	ann.say("from my phone")
	m := ann.message("from my phone")
	ann.fits()
	ann.menu(m)
	ann.fits()
	ann.click(`#menu [data-item=recall]`)
	ann.shows(m, "You recalled a message")
	ann.fits()
	ann.click("#back")
	ann.wait(`document.querySelector('.side').checkVisibility()`)
}

func TestPage_Language(t *testing.T) {
	c := newChat(t)
	ann := c.user("ann", "single/ann-ben", look{width: 1280, height: 800, language: "zh-CN"})
	ann.say("您好")
	ann.recall(ann.message("您好"))
	ann.shows(".placeholder", "你撤回了一条消息")
	ann.wait(`document.documentElement.lang === 'zh-Hans'`)
	ann.click("#language")
	ann.shows(".placeholder", "You recalled a message")
	ann.wait(`document.documentElement.lang === 'en'`)
	ann.run(chromedp.Reload())
	ann.shows(".placeholder", "You recalled a message")
	// Every text of the one language is in the other.
	missing := eval[[]string](ann, `import('/static/i18n.js').then((m) => m.missing())`)
	if len(missing) > 0 {
		t.Errorf("texts without a translation: %v", missing)
	}
}

func TestPage_AnswerLost(t *testing.T) {
	for when, wait := range map[string]string{
		"before the stream brings it": ``,
		"after the stream brought it": `while (!document.querySelector('#list .message:not(.pending)'))
			await new Promise(requestAnimationFrame);`,
	} {
		t.Run(when, func(t *testing.T) {
			c := newChat(t)
			// The first answer to POST /messages is lost on its way.
			tb := openTab(t, "about:blank", desktop)
			command(tb, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `
				const real = window.fetch;
				window.lost = false;
				window.fetch = async (path, o) => {
					const answer = await real(path, o);
					if (path === '/messages' && !window.lost) { ` + wait + ` window.lost = true; throw new TypeError('network error');
						}
					return answer;
				};`})
			tb.run(chromedp.Navigate(c.url + "/chat?user=ann#single%2Fann-ben"))
			tb.say("only once")
			tb.wait(`window.lost`)
			tb.message("only once")
			stored, _, err := c.store.History(testContext(t), singleRoom, 0, 10)
			if err != nil || len(stored) != 1 {
				t.Fatalf("%d messages, %v", len(stored), err)
			}
			if got := eval[int](tb, `document.querySelectorAll('#list .message').length`); got != 1 {
				t.Errorf("it is shown %d times", got)
			}
		})
	}
}
