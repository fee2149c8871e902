package chat

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/chat-recall/recall/host/adapter"
)

// contrastScript defines ratio(foreground, background), paint(element), which is the color behind an element's content,
// and ink(element, color), which is a color as it is seen there. Colors are [r, g, b] from 0 to 255.
const contrastScript = `
const pixel = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const rgba = (color) => {
	pixel.clearRect(0, 0, 1, 1);
	pixel.fillStyle = color;
	pixel.fillRect(0, 0, 1, 1);
	const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
	return [r, g, b, a / 255];
};
const over = ([r, g, b, a], below) => [r, g, b].map((v, i) => v * a + below[i] * (1 - a));
const luminance = (c) => c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
	.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)];
	return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
const faded = (e) => (e ? getComputedStyle(e).opacity * faded(e.parentElement) : 1);
const paint = (e) => {
	if (!e) return over(rgba('Canvas'), [255, 255, 255]);
	const [r, g, b, a] = rgba(getComputedStyle(e).backgroundColor);
	return over([r, g, b, a * getComputedStyle(e).opacity], paint(e.parentElement));
};
const ink = (e, color) => { const [r, g, b, a] = rgba(color); return over([r, g, b, a * faded(e)], paint(e)); };
const what = (e) => e.tagName + '.' + (e.className.baseVal ?? e.className) + '#' + e.id +
	' "' + (e.innerText ?? '').slice(0, 30) + '"';
const seen = (e) => e.checkVisibility() && !e.closest('.sr, option, :disabled, .pending') &&
	e.getBoundingClientRect().width > 1;
`

// contrast fails if a text, an icon or the edge of a field has too little contrast with what is behind it (WCAG 2.2:
// 4.5 to 1 for texts, 3 to 1 for what is large or no text).
func (tb *tab) contrast() {
	tb.t.Helper()
	for _, problem := range eval[[]string](tb, `(() => {`+contrastScript+`
		const found = [];
		const check = (e, kind, color, behind, least) =>
			{ const r = ratio(color, behind); if (r < least) found.push(kind + ' ' + r.toFixed(2) + ' to 1: ' + what(e)); };
		for (const e of document.querySelectorAll('body *')) {
			if (!seen(e) || e.closest('.avatar')) continue;
			const style = getComputedStyle(e);
			const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
			if ([...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) check(e, 'text', ink(e, style.color), paint(e),
				large ? 3 : 4.5);
			if (e.matches('.icon')) check(e, 'icon', ink(e, style.color), paint(e), 3);
			if (e.matches('input[type=text], textarea, select')) check(e, 'edge', ink(e.parentElement, style.borderTopColor),
				paint(e.parentElement), 3);
			if (e.matches('.track')) check(e, 'switch', ink(e, style.backgroundColor), paint(e.parentElement), 3);
			if (e.placeholder) check(e, 'placeholder', ink(e, getComputedStyle(e, '::placeholder').color), paint(e), 4.5);
		}
		return found;
	})()`) {
		tb.t.Error(problem)
	}
}

// rings fails if one of the controls shows the focus of the keyboard badly or not at all.
func (tb *tab) rings() {
	tb.t.Helper()
	tb.run(chromedp.KeyEvent(kb.Tab)) // so that the browser shows where the focus is
	for _, problem := range eval[[]string](tb, `(() => {`+contrastScript+`
		const found = [];
		const had = document.activeElement;
		for (const e of document.querySelectorAll('a, button, input, textarea, select, summary, [tabindex]')) {
			if (!seen(e)) continue;
			e.focus();
			if (document.activeElement !== e) continue;
			const shown = e.matches('.switch input') ? e.nextElementSibling : e;
			const style = getComputedStyle(shown);
			if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2) { found.push('no ring: ' + what(e));
				continue; }
			const r = ratio(ink(shown.parentElement, style.outlineColor),
				paint(parseFloat(style.outlineOffset) < 0 ? shown : shown.parentElement));
			if (r < 3) found.push('ring ' + r.toFixed(2) + ' to 1: ' + what(e));
		}
		had?.focus?.();
		return found;
	})()`) {
		tb.t.Error(problem)
	}
}

func TestPage_ContrastAndFocus(t *testing.T) {
	for name, l := range map[string]look{
		"light": desktop, "dark": {width: 1280, height: 800, dark: true, language: "en-US"},
		"phone, light": phone, "phone, dark": {width: 390, height: 844, dark: true, language: "en-US", touch: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := aTeam(t)
			takeBack(t, c.Server, "ben", adapter.Ask{MessageIDs: []string{"t5"}})
			start := c.open("/", l)
			start.wait(`document.querySelectorAll('[data-user]').length === 4`)
			start.contrast()
			start.rings()

			ann := c.user("ann", "", l)
			ann.wait(`document.querySelectorAll('.entry').length === 3`)
			ann.contrast()
			ann.rings()
			ann.click(`[data-room="group/team"]`)
			ann.wait(`document.querySelector('.placeholder')`)
			ann.contrast()
			ann.rings()
			ann.menu(ann.message("Great, thanks."))
			ann.contrast()
			ann.rings()
			ann.menu(ann.message("Great, thanks.")) // the Tab key has closed it
			ann.click(`#menu [data-item=select]`)
			ann.contrast()
			ann.rings()
			ann.run(chromedp.KeyEvent(kb.Escape))

			nobody := c.open("/chat?user=nobody", l)
			nobody.wait(`document.querySelector('#unknown').checkVisibility()`)
			nobody.contrast()
			nobody.rings()

			vera := c.open("/audit?user=vera", l)
			vera.wait(`document.querySelectorAll('#recalls > li').length`)
			vera.contrast()
			vera.rings()

			op := c.open("/operator", l)
			op.wait(`document.querySelectorAll('#rules li').length > 3 && document.querySelectorAll('#recalls li').length`)
			op.click("#try button")
			op.wait(`document.querySelector('[data-verdict]')`)
			op.contrast()
			op.rings()
		})
	}
}

// The menu of a message must be found without a mouse over it.
func TestMenuButton_Visible(t *testing.T) {
	for name, l := range map[string]look{
		"desktop": desktop, "desktop, dark": {width: 1280, height: 800, dark: true, language: "en-US"},
		"phone": phone, "phone, dark": {width: 390, height: 844, dark: true, language: "en-US", touch: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChat(t)
			send(t, c.Server, "ben", Outgoing{ID: "theirs", Conversation: singleRoom, Text: "hello"})
			send(t, c.Server, "ann", Outgoing{ID: "mine", Conversation: singleRoom, Text: "hello"})
			ann := c.user("ann", "single/ann-ben", l)
			for _, id := range []string{"theirs", "mine"} {
				ann.wait(`document.querySelector('[data-id=%s] .more')`, id)
				got := eval[map[string]float64](ann, `(() => {`+contrastScript+`
					const button = document.querySelector('[data-id=`+id+`] .more');
					const icon = button.querySelector('.icon');
					return { hover: Number(button.matches(':hover')),
						ratio: ratio(ink(icon, getComputedStyle(icon).color), paint(icon)),
						dot: parseFloat(getComputedStyle(icon).strokeWidth) * icon.getBoundingClientRect().width / 24,
							size: button.getBoundingClientRect().width };
				})()`)
				if got["hover"] != 0 || got["ratio"] < 4.5 || got["dot"] < 2.5 || got["size"] < 32 {
					t.Errorf("%s: %v", id, got)
				}
			}
		})
	}
}

func TestPage_UnknownUser(t *testing.T) {
	c := newChat(t)
	tb := c.open(`/chat?user=<b>zed</b>`, phone)
	tb.shows("#unknown-title", "There is no user “<b>zed</b>” on this server")
	tb.shows("#unknown", "choose one of the demo users")
	tb.wait(`!document.querySelector('#app').checkVisibility() && !document.body.innerText.includes('Connecting')`)
	tb.fits()
	tb.shot("unknown-390-light")
	tb.click("#unknown-link")
	tb.wait(`location.pathname === '/' && document.querySelectorAll('[data-user]').length === 4`)

	side := c.open("/side?left=ann&right=nobody", desktop)
	side.wait(`document.querySelector('[data-side=right]').contentDocument.querySelector('#unknown').checkVisibility()`)
	side.wait(`document.querySelector('[data-side=left]').contentDocument.body.dataset.online === 'yes'`)
}
