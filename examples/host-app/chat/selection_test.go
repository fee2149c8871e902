package chat

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/chat-recall/recall/host/adapter"
)

// watchRecalls counts the recall requests of a page from now on, by the messages that they name.
func (tb *tab) watchRecalls() {
	tb.t.Helper()
	eval[any](tb, `(() => {
		const real = window.fetch;
		window.recalls = [];
		window.fetch = (path, o) =>
			{ if (path === '/recall') recalls.push(JSON.parse(o.body).message_ids.length); return real(path, o); };
	})()`)
}

func TestSelection_Recall(t *testing.T) {
	// Ann may take back her own of the last two minutes: two of these four.
	messages := []struct {
		id, sender, text string
		age              time.Duration
	}{
		{"late", "ann", "too old to take back", time.Hour},
		{"theirs", "ben", "a message by Ben", 0},
		{"one", "ann", "the first mistake", 0},
		{"two", "ann", "the second mistake", 0},
		{"kept", "ann", "this one is fine", 0},
	}
	begin := func(t *testing.T, l look) *tab {
		t.Helper()
		c := newChat(t)
		for _, m := range messages {
			send(t, c.Server, m.sender,
				Outgoing{ID: m.id, Conversation: singleRoom, Text: m.text, SentAt: time.Now().Add(-m.age)})
		}
		ann := c.user("ann", "single/ann-ben", l)
		ann.message("this one is fine")
		ann.watchRecalls()
		return ann
	}
	recalled := func(t *testing.T, ann *tab, requests string) {
		t.Helper()
		for _, id := range []string{"one", "two"} {
			ann.shows(`[data-id="`+id+`"].placeholder`, "You recalled a message")
		}
		if got := eval[string](ann, `JSON.stringify(recalls)`); got != requests {
			t.Errorf("requests with so many messages: %s, want %s", got, requests)
		}
		ann.message("this one is fine")
		ann.holdsNot("mistake")
	}

	t.Run("with the mouse", func(t *testing.T) {
		ann := begin(t, desktop)
		ann.menu(ann.message("the first mistake"))
		ann.click(`#menu [data-item=select]`)
		ann.wait(`document.querySelector('[data-id=one] .pick').checked &&
			!document.querySelector('#composer').checkVisibility()`)
		ann.click(`[data-id=two] .body`) // anywhere on the message
		ann.click(`[data-id=kept] .pick`)
		ann.shows("#selected", "3 selected")
		ann.click(`[data-id=kept] .pick`)
		ann.shows("#selected", "2 selected")
		ann.click("#selection-recall")
		recalled(t, ann, "[2]")
		ann.wait(`!document.querySelector('#selection').checkVisibility() &&
			document.querySelector('#composer').checkVisibility()`)
		ann.focused("#text")
	})

	t.Run("with the keyboard", func(t *testing.T) {
		ann := begin(t, desktop)
		ann.focused("#text")
		ann.keys(kb.ArrowUp, kb.ArrowUp)
		ann.focused(`[data-id=two] .more`)
		ann.keys(kb.Enter, kb.ArrowDown, kb.ArrowDown, kb.ArrowDown)
		ann.focused(`#menu [data-item=select]`)
		ann.keys(kb.Enter)
		ann.focused(`[data-id=two] .pick`)
		ann.keys(kb.ArrowUp, " ")
		ann.shows("#selected", "2 selected")
		ann.keys(kb.Escape)
		ann.wait(`!document.querySelector('#selection').checkVisibility() && !document.querySelector('.pick:checked')`)
		ann.focused(`[data-id=one] .more`)
		ann.keys(kb.Enter, kb.ArrowDown, kb.ArrowDown, kb.ArrowDown, kb.Enter)
		ann.focused(`[data-id=one] .pick`)
		ann.keys(kb.ArrowDown, " ", kb.Tab, kb.Tab)
		ann.focused("#selection-recall")
		ann.keys(kb.Enter)
		recalled(t, ann, "[2]")
	})

	t.Run("by touch, and some are refused", func(t *testing.T) {
		ann := begin(t, phone)
		ann.menu(ann.message("the first mistake"))
		ann.click(`#menu [data-item=select]`)
		for _, id := range []string{"two", "late", "theirs"} {
			ann.click(`[data-id=` + id + `] .body`)
		}
		ann.shows("#selected", "4 selected")
		ann.fits()
		ann.click("#selection-recall")
		recalled(t, ann, "[4]")
		ann.shows("#selected", "2 recalled, 2 refused")
		ann.shows("[data-id=late] .refusal", "This message is too old to recall.")
		ann.shows("[data-id=theirs] .refusal", "You can't recall this message.")
		ann.wait(`document.querySelectorAll('.refusal').length === 2 && document.querySelector('#selection-recall').disabled`)
		ann.fits()
		ann.click("#selection-cancel")
		ann.wait(`document.querySelector('#composer').checkVisibility()`)
	})

	t.Run("of a message that somebody else recalls meanwhile", func(t *testing.T) {
		c := newChat(t)
		send(t, c.Server, "cleo", Outgoing{ID: "m", Conversation: groupRoom, Text: "said too much"})
		cleo := c.user("cleo", "group/team", desktop)
		cleo.menu(cleo.message("said too much"))
		cleo.click(`#menu [data-item=select]`)
		cleo.shows("#selected", "1 selected")
		takeBack(t, c.Server, "ben", adapter.Ask{MessageIDs: []string{"m"}})
		cleo.shows("#selected", "Select the messages to recall")
		cleo.wait(`document.querySelector('#selection-recall').disabled`)
	})

	t.Run("with a reason for all", func(t *testing.T) {
		c, _ := chatWithRules(t, ownWords)
		ann := c.user("ann", "single/ann-ben", desktop)
		ann.say("the first mistake")
		ann.say("the second mistake")
		first := ann.message("the first mistake")
		ann.message("the second mistake")
		ann.watchRecalls()
		ann.menu(first)
		ann.click(`#menu [data-item=select]`)
		ann.click(ann.message("the second mistake") + " .pick")
		ann.click("#selection-recall")
		ann.focused("#reason-text")
		ann.keys(kb.Escape) // the dialog closes, the selection stays
		ann.wait(`!document.querySelector('#reason').open`)
		ann.shows("#selected", "2 selected")
		ann.click("#selection-recall")
		ann.focused("#reason-text")
		ann.run(chromedp.SendKeys(chromedp.CSS("#reason-text"), "wrong room"))
		ann.click("#reason-ok")
		ann.wait(`document.querySelectorAll('#list .placeholder').length === 2`)
		ann.shows(".placeholder", "wrong room")
		if got := eval[string](ann, `JSON.stringify(recalls)`); got != "[2]" {
			t.Errorf("requests with so many messages: %s", got)
		}
	})
}
