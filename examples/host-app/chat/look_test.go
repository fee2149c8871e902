package chat

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/chat-recall/recall/host/adapter"
)

// picture writes an image file of gentle hills.
func picture(t *testing.T, name string) string {
	t.Helper()
	const w, h = 480, 320
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{uint8(250 - y/3), uint8(190 - y/6), uint8(120 + y/4), 255}
			switch {
			case (x-370)*(x-370)+(y-80)*(y-80) < 900:
				c = color.RGBA{255, 240, 190, 255}
			case y > 230+(x-160)*(x-160)/900:
				c = color.RGBA{30, 90, 80, 255}
			case y > 190+(x-380)*(x-380)/700:
				c = color.RGBA{60, 125, 110, 255}
			}
			img.Set(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// voice writes a short silent audio file.
func voice(t *testing.T, name string) string {
	t.Helper()
	const samples = 8000
	b := []byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00" +
		"\x40\x1f\x00\x00\x40\x1f\x00\x00\x01\x00\x08\x00data\x00\x00\x00\x00")
	size := func(at, n int) {
		for i := range 4 {
			b[at+i] = byte(n >> (8 * i))
		}
	}
	size(40, samples)
	size(4, len(b)-8+samples)
	b = append(b, bytes.Repeat([]byte{0x80}, samples)...)
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// aTeam is a server on which something was said.
func aTeam(t *testing.T) *chat {
	t.Helper()
	c := newChat(t)
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	for _, m := range []struct {
		user string
		out  Outgoing
	}{
		{"cleo", Outgoing{ID: "t1", Conversation: groupRoom, Text: "Morning! The venue for Thursday is booked.",
			SentAt: ago(50 * time.Minute)}},
		{"dan", Outgoing{ID: "t2", Conversation: groupRoom, Text: "Great, thanks.", SentAt: ago(49 * time.Minute)}},
		{"dan", Outgoing{ID: "t3", Conversation: groupRoom,
			Text:   "Do we need a projector? I can bring one, but I would have to know by tomorrow at noon.",
			SentAt: ago(48 * time.Minute)}},
		{"ann", Outgoing{ID: "t4", Conversation: groupRoom, Text: "Yes please", Quote: "t3", SentAt: ago(40 * time.Minute)}},
		{"cleo", Outgoing{ID: "t5", Conversation: groupRoom, Text: "The budget is 4,200 but keep that between us",
			SentAt: ago(35 * time.Minute)}},
		{"ben", Outgoing{ID: "t6", Conversation: groupRoom, Text: "谢谢，我会带上海报和一些样品。", SentAt: ago(30 * time.Minute)}},
		{"ben", Outgoing{ID: "d1", Conversation: singleRoom, Text: "Did you get home well?", SentAt: ago(20 * time.Minute)}},
		{"ann", Outgoing{ID: "d2", Conversation: singleRoom, Text: "Yes, thank you! That was a lovely evening.",
			SentAt: ago(18 * time.Minute)}},
		{"ben", Outgoing{ID: "d3", Conversation: singleRoom, Text: "Same time next week? My sister would like to come along.",
			SentAt: ago(17 * time.Minute)}},
		{"ann", Outgoing{ID: "l1", Conversation: lobby, Text: "Hello everyone", SentAt: ago(90 * time.Minute)}},
	} {
		send(t, c.Server, m.user, m.out)
	}
	return c
}

// Every page fits its window, in both sizes, both colors and both languages. The pictures are for people; three of
// them, side, operator and menu-390-dark, are in docs and the README.
func TestPage_FitsItsWindow(t *testing.T) {
	for name, l := range map[string]look{
		"1280-light": desktop, "1280-dark": {width: 1280, height: 800, dark: true, language: "en-US"},
		"390-light": phone, "390-dark": {width: 390, height: 844, dark: true, language: "en-US", touch: true},
		"1280-chinese": {width: 1280, height: 800, language: "zh-CN"},
		"390-chinese":  {width: 390, height: 844, language: "zh-CN", touch: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := aTeam(t)
			start := c.open("/", l)
			start.wait(`document.querySelectorAll('[data-user]').length === 4`)
			start.fits()
			start.shot("start-" + name)

			ann := c.user("ann", "", l)
			ann.wait(`document.querySelectorAll('.entry').length === 3`)
			send(t, c.Server, "ben", Outgoing{Conversation: singleRoom, Text: "Call me when you are there"})
			ann.wait(`document.querySelector('.badge')`)
			ann.fits()
			ann.shot("list-" + name)
			ann.click(`[data-room="group/team"]`)
			ann.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{picture(t, "hills.png")}))
			ann.wait(`document.querySelector('#context img')?.naturalWidth`)
			ann.shot("attach-" + name)
			ann.click("#send")
			ann.wait(`[...document.querySelectorAll('.attachment img')].some((i) => i.naturalWidth === 480)`)
			ann.say("I will take that back")
			takeBack(t, c.Server, "ben", adapter.Ask{MessageIDs: []string{"t5"}})
			ann.wait(`document.querySelector('.placeholder')`)
			ann.menu(ann.message("I will take that back"))
			ann.fits()
			ann.shot("menu-" + name)
			ann.click(`#menu [data-item=recall]`)
			ann.wait(`[...document.querySelectorAll('.placeholder button')].length`)
			ann.menuWith(ann.message("Do we need"), "[data-item=reply]")
			ann.click(`#menu [data-item=reply]`)
			ann.fits()
			ann.shot("room-" + name)
			ann.click(`#context button`)

			send(t, c.Server, "ann", Outgoing{Conversation: singleRoom, Text: "Did I leave my umbrella at your place?"})
			if l.touch {
				ann.click("#back")
			}
			ann.click(`[data-room="single/ann-ben"]`)
			ann.menuWith(ann.message("That was a lovely evening"), "[data-item=select]")
			ann.click(`#menu [data-item=select]`)
			ann.click(ann.message("my umbrella") + " .pick")
			ann.click("#selection-recall")
			ann.shows(".refusal", "")
			ann.fits()
			ann.shot("select-" + name)

			dan := c.user("dan", "group/team", l)
			dan.menu(dan.message("Morning!"))
			dan.click(`#menu [data-item=why]`)
			dan.click(`#refused-details summary`)
			dan.wait(`document.querySelector('#refused').open && document.querySelector('#refused-details').open`)
			dan.fits()
			dan.shot("refused-" + name)

			vera := c.open("/audit?user=vera", l)
			vera.wait(`document.querySelectorAll('#recalls > li').length`)
			vera.click("#recalls summary")
			vera.fits()
			vera.shot("audit-" + name)

			op := c.open("/operator", l)
			op.wait(`document.querySelectorAll('#rules li').length > 3 && document.querySelectorAll('#recalls li').length`)
			c.held.add(18 * time.Millisecond)
			op.wait(`document.querySelector('#chart-held rect:not([height="0"])')`)
			op.fits()
			op.shot("operator-top-" + name)
			op.click("#try button")
			op.wait(`document.querySelector('[data-verdict]')`)
			op.click("#recalls summary")
			op.fits()
			op.shot("operator-" + name)
			eval[any](op, `scrollTo(0, document.body.scrollHeight)`)
			op.shot("operator-end-" + name)
		})
	}
	c := aTeam(t)
	side := c.open("/side?left=ann&right=ben", look{width: 1100, height: 640, language: "en-US"})
	side.wait(`document.querySelectorAll('iframe').length === 2 && [...document.querySelectorAll('iframe')].every((f) =>
		f.contentDocument?.body?.dataset.online === 'yes' && f.contentDocument.querySelector('#list .message'))`)
	say := func(text string) {
		eval[any](side, `(() => {
			const d = document.querySelector('[data-side=left]').contentDocument;
			d.querySelector('#text').value = `+quoted(text)+`;
			d.querySelector('#text').dispatchEvent(new Event('input'));
			d.querySelector('#send').click();
		})()`)
		side.wait(`[...document.querySelectorAll('iframe')].every((f) =>
			[...f.contentDocument.querySelectorAll('.message:not(.pending)')].at(-1).innerText.includes(%s))`, quoted(text))
		eval[any](side, `[...document.querySelector('[data-side=left]').contentDocument
		.querySelectorAll('.more')].at(-1).click()`)
		side.wait(`document.querySelector('[data-side=left]').contentDocument
		.querySelector('#menu [data-item=recall]')`)
	}
	say("Your sister? Oh no.")
	eval[any](side, `document.querySelector('[data-side=left]').contentDocument
		.querySelector('#menu [data-item=recall]').click()`)
	side.wait(`[...document.querySelectorAll('iframe')].every((f) => f.contentDocument.querySelector('.placeholder'))`)
	say("Of course, the more the merrier!")
	side.shot("side")
	c.held.add(18 * time.Millisecond)
	op := c.open("/operator", look{width: 1100, height: 700, dark: true, language: "en-US"})
	op.wait(`document.querySelectorAll('#rules li').length === 4 && document.querySelectorAll('#recalls li').length &&
		document.querySelector('#chart-held rect:not([height="0"])')`)
	op.shot("operator")
}
