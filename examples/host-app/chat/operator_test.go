package chat

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/host/hosttest"
)

func TestOperator_KillAndUpgrade(t *testing.T) {
	c := newChat(t)
	copyFile(t, hosttest.BuildPlugin(t), filepath.Join(c.dir, "recall-plugin-2"))
	ann, ben := c.user("ann", "single/ann-ben", desktop), c.user("ben", "single/ann-ben", desktop)
	op := c.open("/operator", desktop)
	op.shows("#phase", "running")
	op.shows("#nothing-lost", "loses nothing")
	ann.say("before")
	before := ann.message("before")
	ben.message("before")

	pid := c.plugin.State().PID
	op.click("#kill")
	ann.say("while it was away")
	ben.message("while it was away")
	op.shows("#said", "Killed process "+strconv.Itoa(pid)+".")
	op.shows("#said", "answers now.")
	op.wait(`[...document.querySelectorAll('#state dt')].find((d) =>
		d.textContent === 'Restarts').nextSibling.textContent === '1'`)
	if now := c.plugin.State().PID; now == pid || now == 0 {
		t.Errorf("process %d after process %d was killed", now, pid)
	}

	eval[any](op, `document.querySelector('#binary').value = 'recall-plugin-2'`)
	op.click("#upgrade button")
	ann.recall(before) // of the old process's time, by the new one
	ben.shows(".placeholder", "Ann recalled a message")
	op.shows("#said", "none was lost")
	op.wait(`[...document.querySelectorAll('#state dt')].find((d) =>
		d.textContent === 'Upgrades').nextSibling.textContent === '1'`)
	op.shows("#state", "recall-plugin-2")
	ben.message("while it was away")

	// The recall is in the list with its ledger.
	op.shows("#recalls li", "Ann (member) took back a message of Ann")
	op.shows("#recalls .pill", "settled")
	op.click("#recalls summary")
	op.wait(`[...document.querySelectorAll('#recalls tbody tr')].length === 7`)
	op.shows("#recalls tbody tr:first-child", "notify")
	op.shows("#recalls tbody", "not in this server") // search and push
	op.shows("#chart-recalls", "1 in the last 10 minutes")
	c.held.add(time.Hour) // longer than what was really held
	op.shows("#chart-held", "longest 3600000 ms")
	op.wait(`document.querySelectorAll('#chart-held rect:not([height="0"])').length > 0`)
	op.holdsNot("while it was away") // an operator sees facts and no texts
}

func TestOperator_UpgradeFromTheFolderOnly(t *testing.T) {
	c := newChat(t)
	elsewhere := filepath.Join(t.TempDir(), "evil")
	ran := filepath.Join(t.TempDir(), "ran")
	if err := os.WriteFile(elsewhere, []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(c.dir, "link")); err != nil {
		t.Fatal(err)
	}
	op := c.open("/operator", desktop)
	op.shows("#phase", "running")
	for _, path := range []string{elsewhere, "../" + filepath.Base(filepath.Dir(elsewhere)) + "/evil", "link", "nothing",
		"/bin/sh", "plugin.hcl"} {
		eval[any](op, `document.querySelector('#said').textContent = '';
			document.querySelector('#binary').value = `+quoted(path))
		op.click("#upgrade button")
		op.shows("#said", "Not upgraded")
		op.wait(`!document.querySelector('#upgrade button').disabled`)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program from elsewhere was run")
	}
	if st := c.plugin.State(); st.Upgrades != 0 || st.PID == 0 {
		t.Errorf("%+v", st)
	}
}

func TestOperator_BrokenRules(t *testing.T) {
	c, path := chatWithRules(t, ownWords)
	op := c.open("/operator", desktop)
	op.shows("#rules", "own")
	op.shows("#rules", "rules.hcl:8")
	op.shows("#last-reload", "in force, without a complaint")
	writeRules(t, path, "permit \"own\" {\n  sendr = true\n}\n")
	op.click("#reload")
	op.shows("#last-reload", "Refused")
	op.shows("#last-reload .diagnostics", "rules.hcl:2")
	op.shows("#last-reload .diagnostics code", "sendr = true")
	op.shows("#rules", "quietly") // the old ones stay in the list, and in force
	ann := c.user("ann", "single/ann-ben", desktop)
	ann.say("still under the old rules")
	ann.recall(ann.message("still under the old rules"))
	ann.focused("#reason-text")

	writeRules(t, path, "permit \"anyone\" {\n  sender = true\n  window = \"1m\"\n}\n")
	op.shows("#rules", "anyone") // by itself
	op.shows("#last-reload", "in force, without a complaint")
	op.wait(`document.querySelectorAll('#rules li').length === 1`)
}

func TestOperator_Explain(t *testing.T) {
	c := newChat(t)
	m := send(t, c.Server, "cleo", Outgoing{Conversation: groupRoom, Text: "a text that is nobody's business here"})
	op := c.open("/operator", desktop)
	op.shows("#phase", "running")
	op.shows("#rules", "system") // nothing moves any more
	op.wait(`document.querySelector('#try-message').value === %s`, quoted(m.ID))
	explain := func(actor string) {
		t.Helper()
		op.run(chromedp.SetValue(chromedp.CSS("#try-actor"), actor))
		op.click("#try button")
	}
	explain("cleo")
	op.shows("#explained .decides", "sender_in_window")
	op.shows("#explained", "permitted")
	explain("dan")
	op.shows("[data-verdict]", "forbidden")
	op.shows("#explained", "= false")
	explain("ben")
	op.shows("#explained .decides", "managers_any_time")
	op.shows("#explained .decides", "default.hcl:18")
	op.holdsNot("nobody's business")

	// Who is not in the conversation is refused by the server itself.
	send(t, c.Server, "ann", Outgoing{ID: "private", Conversation: singleRoom, Text: "x"})
	op.run(chromedp.Focus(chromedp.CSS("#try-message")))
	op.wait(`[...document.querySelector('#try-message').options].some((o) => o.value === 'private')`)
	op.run(chromedp.SetValue(chromedp.CSS("#try-message"), "private"))
	explain("dan")
	op.shows("#explained", "is not in the conversation")
	if states, err := c.states(testContext(t), []string{m.ID}); err != nil ||
		!strings.Contains(string(states[m.ID]), "live") {
		t.Errorf("an explanation changed something: %v %v", states, err)
	}
}

// What a page shows before the server has answered, while it does not, and while there is nothing to show.
func TestOperator_EmptyStates(t *testing.T) {
	const buttons = `[...document.querySelectorAll('#kill, #reload, #upgrade button')]`
	for name, l := range map[string]look{"1280-light": desktop,
		"390-dark": {width: 390, height: 844, dark: true, language: "en-US", touch: true}} {
		t.Run(name, func(t *testing.T) {
			c := newChat(t)
			op := openTab(t, "about:blank", l)
			command(op, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `
				const real = window.fetch;
				window.gate = new Promise((open) => { window.answer = open; });
				window.down = false;
				window.fetch = async (...args) => {
					await gate;
					if (down) throw new TypeError('no connection');
					return real(...args);
				};`})
			op.run(chromedp.Navigate(c.url + "/operator"))
			op.shows("#phase", "waiting…")
			for _, text := range []string{"version and restarts will be shown", "rules that decide will be listed",
				"Waiting for the first answer",
				"which parts of each rule hold, will be shown", "Recalls and their ledgers will be listed"} {
				op.shows(".card", text)
			}
			if !eval[bool](op, buttons+`.concat(document.querySelector('#explain'))
				.every((b) => b.disabled && b.checkVisibility())`) {
				t.Error("a button can be used before the first answer")
			}
			op.holes()
			op.fits()
			op.contrast()
			op.shot("operator-waiting-" + name)

			eval[any](op, `answer()`)
			op.wait(buttons + `.every((b) => !b.disabled) && document.querySelectorAll('#rules li').length === 4`)
			for _, text := range []string{"No recalls in the last 10 minutes.", "No call had to wait",
				"None yet. Take a message back in the chat."} {
				op.shows(".card", text)
			}
			op.wait(`document.querySelector('#explain').disabled &&
				document.querySelector('#try-message').innerText.includes('There is no message yet.')`)
			if eval[bool](op, `document.body.innerText.includes('Waiting') ||
				[...document.querySelectorAll('.empty')].some((e) => e.checkVisibility())`) {
				t.Error("the page still waits for the first answer")
			}
			op.holes()
			op.contrast()
			op.shot("operator-empty-" + name)

			send(t, c.Server, "ann", Outgoing{Conversation: singleRoom, Text: "the first message"})
			op.wait(`!document.querySelector('#explain').disabled`)
			op.click("#explain")
			op.wait(`document.querySelector('[data-verdict]')`)
			op.holes()
			op.shot("operator-explained-" + name)

			eval[any](op, `window.down = true`)
			op.wait(buttons + `.every((b) => b.disabled) && document.querySelector('#off').checkVisibility()`)
			eval[any](op, `window.down = false`)
			op.wait(buttons + `.every((b) => !b.disabled) && !document.querySelector('#off').checkVisibility()`)
		})
	}
}

// holes fails if a card says nothing below its heading, or if the cards leave a gap between them.
func (tb *tab) holes() {
	tb.t.Helper()
	for _, problem := range eval[[]string](tb, `(() => {
		const found = [];
		const cards = [...document.querySelectorAll('.card')];
		for (const card of cards) {
			const words = [...card.children].filter((e) => e.tagName !== 'HEADER').map((e) => e.innerText.trim()).join('');
			if (!words) found.push('nothing below ' + card.innerText);
			for (const chart of card.querySelectorAll('.chart')) if (!chart.innerText.trim())
				found.push('an empty chart in ' + card.innerText);
		}
		let end = cards[0].getBoundingClientRect().top;
		for (const card of cards) {
			const box = card.getBoundingClientRect();
			const row = cards.map((c) => c.getBoundingClientRect()).filter((r) => r.top === box.top);
			if (row.some((r) => r.bottom !== box.bottom)) found.push('cards of one row end apart: ' + 
				card.innerText.slice(0, 30));
			if (box.left === row[0].left) {
				if (box.top - end > 20) found.push('a gap above ' + card.innerText.slice(0, 30));
				end = box.bottom;
			}
		}
		return found;
	})()`) {
		tb.t.Error(problem)
	}
}

// What is a list for the page is one also when it has nothing in it.
func TestOperator_EmptyLists(t *testing.T) {
	c := newChat(t)
	send(t, c.Server, "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "x"})
	tb := c.open("/operator", desktop)
	tb.wait(`document.querySelector('#try-message').value === 'm'`)
	takeBack(t, c.Server, "ann", adapter.Ask{MessageIDs: []string{"m"}, RecallID: "r"})
	tb.click("#explain")
	tb.shows("#explained", "refused")
	got := eval[string](tb, `fetch('/operator/ledger?recall_id=none').then((r) => r.text())`)
	if !strings.Contains(got, `"entries":[]`) {
		t.Errorf("the ledger of nothing is %s", got)
	}
}
