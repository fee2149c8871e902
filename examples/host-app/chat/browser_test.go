package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
)

// patience bounds every wait for a browser.
const patience = time.Minute

// theBrowser is one headless Chromium for all tests of this process. Each tab has storage and connections of its own.
var theBrowser struct {
	once  sync.Once
	ctx   context.Context
	close func()
	err   error
}

// errNoBrowser says that there is no Chromium here.
var errNoBrowser = errors.New("the browser Chromium; on Debian: apt-get install chromium")

func startBrowser() {
	b := &theBrowser
	b.close = func() {}
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		b.err = errNoBrowser
		return
	}
	profile, err := os.MkdirTemp("", "recall-browser")
	if err != nil {
		b.err = err
		return
	}
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path),
		chromedp.UserDataDir(profile),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-renderer-backgrounding", true), chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("mute-audio", true))
	ctx, endBrowser := chromedp.NewContext(allocator)
	b.ctx, b.err = ctx, chromedp.Do(ctx)
	b.close = func() {
		_ = chromedp.Cancel(ctx) // asks it to end and waits
		endBrowser()
		endAllocator()
		_ = os.RemoveAll(profile)
	}
}

// browserTests runs the tests and then ends the browser, before goroutines are counted.
type browserTests struct{ m *testing.M }

func (b browserTests) Run() int {
	code := b.m.Run()
	if theBrowser.close != nil {
		theBrowser.close()
	}
	return code
}

// chat is a demo server that a browser can reach.
type chat struct {
	*Server
	t      *testing.T
	plugin *host.Host
	url    string
	dir    string // of plugin.hcl
	held   *heldCalls
}

// newChat starts a server; more is appended to its plugin.hcl.
func newChat(t *testing.T, more ...string) *chat {
	t.Helper()
	dir := hosttest.RunDir(t) // a short path, as it is shown
	binary := filepath.Join(dir, "recall-plugin")
	if err := os.Link(hosttest.BuildPlugin(t), binary); err != nil {
		copyFile(t, hosttest.BuildPlugin(t), binary)
	}
	file := hosttest.WriteConfig(t, binary, dir, more...)
	held := new(heldCalls)
	s, plugin, err := Open(testContext(t), Data{Folder: t.TempDir()},
		host.Config{File: file, RunDir: hosttest.RunDir(t), OnHeld: held.add}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := addDemo(testContext(t), s); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer((&api{server: s, plugin: plugin, held: held, limits: newLimits(192)}).handler())
	t.Cleanup(func() {
		s.hub.KickAll()
		h.CloseClientConnections()
		h.Close()
	})
	return &chat{Server: s, t: t, plugin: plugin, url: h.URL, dir: dir, held: held}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// look is how a tab looks at a page.
type look struct {
	width, height int64
	dark          bool
	language      string
	touch         bool
}

var (
	desktop = look{width: 1280, height: 800, language: "en-US"}
	phone   = look{width: 390, height: 844, language: "en-US", touch: true}
)

// tab is one page in the browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	trouble []string // what the page did wrong: exceptions, and what the content policy had to stop
}

// open opens a page in a tab of its own, as another browser would. What the page throws fails the test.
func (c *chat) open(address string, l look) *tab {
	c.t.Helper()
	return openTab(c.t, c.url+address, l)
}

func (c *chat) user(user, room string, l look) *tab {
	c.t.Helper()
	tb := c.open("/chat?user="+user+"#"+url.PathEscape(room), l)
	tb.wait(`document.body.dataset.online === 'yes'`)
	return tb
}

func openTab(t *testing.T, address string, l look) *tab {
	t.Helper()
	theBrowser.once.Do(startBrowser)
	if err := theBrowser.err; err != nil {
		if errors.Is(err, errNoBrowser) {
			hosttest.Missing(t, err.Error())
		}
		t.Fatal(err)
	}
	tb := &tab{t: t}
	ctx, end := chromedp.NewContext(theBrowser.ctx, chromedp.WithNewBrowserContext(),
		chromedp.WithListener(func(event any) {
			switch e := event.(type) {
			case *runtime.EventExceptionThrown:
				tb.note(fmt.Sprintf("exception: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
			case *cdplog.EventEntryAdded:
				if e.Entry.Source == cdplog.EntrySourceSecurity || strings.Contains(e.Entry.Text, "Content Security Policy") {
					tb.note(e.Entry.Text)
				}
			}
		}))
	tb.ctx = ctx
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme},
		{Name: "prefers-reduced-motion", Value: "reduce"}}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		end()
		tb.mu.Lock()
		defer tb.mu.Unlock()
		for _, problem := range tb.trouble {
			t.Errorf("%s: %s", address, problem)
		}
	})
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context of its first use
		t.Fatal(err)
	}
	command(tb, cdplog.Enable, cdp.Empty{})
	command(tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
	// as the tab in front
	command(tb, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	command(tb, emulation.SetUserAgentOverride,
		emulation.SetUserAgentOverrideParams{UserAgent: "Mozilla/5.0 (X11; Linux x86_64) Chrome", AcceptLanguage: l.language})
	viewport := []chromedp.EmulateViewportOption{}
	if l.touch {
		viewport = append(viewport, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	}
	tb.run(chromedp.EmulateViewport(l.width, l.height, viewport...), chromedp.Navigate(address))
	return tb
}

func (tb *tab) note(problem string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.trouble = append(tb.trouble, problem)
}

// command is one command of the DevTools protocol.
func command[P, R any](tb *tab, c cdp.Command[P, R], params P) R {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	answer, err := chromedp.Call(ctx, c, params)
	if err != nil {
		tb.t.Fatalf("the browser: %s: %v", c.Method, err)
	}
	return answer
}

// run does actions. It begins again if the page has drawn an element anew between a look at it and the act.
func (tb *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	err := chromedp.Do(ctx, actions...)
	for err != nil && strings.Contains(err.Error(), "Could not find node with given id") && ctx.Err() == nil {
		err = chromedp.Do(ctx, actions...)
	}
	if err != nil {
		tb.shot("failed-" + strings.ReplaceAll(tb.t.Name(), "/", "-"))
		tb.t.Fatalf("the browser: %v\nthe page shows: %.2000s\n%q", err, tb.text("body"), tb.trouble)
	}
}

// eval is a value of JavaScript; a promise is waited for.
func eval[T any](tb *tab, script string) T {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		tb.shot("failed-" + strings.ReplaceAll(tb.t.Name(), "/", "-"))
		tb.t.Fatalf("%s: %v", script, err)
	}
	return v
}

// holds evaluates a condition. It does not hold while the page is being replaced by another one.
func (tb *tab) holds(script string) bool {
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script))
	return err == nil && holds
}

// wait polls until a condition in JavaScript holds.
func (tb *tab) wait(condition string, args ...any) {
	tb.t.Helper()
	condition = fmt.Sprintf(condition, args...)
	deadline := time.Now().Add(patience)
	script := "(() => { try { return Boolean(" + condition + "); } catch { return false; } })()" // null is not there yet
	for !tb.holds(script) {
		if time.Now().After(deadline) {
			tb.shot("failed-" + strings.ReplaceAll(tb.t.Name(), "/", "-"))
			tb.t.Fatalf("never came true: %s\nthe page shows: %.3000s", condition, tb.text("body"))
		}
		select {
		case <-time.After(20 * time.Millisecond): // polling, bounded by the deadline
		case <-tb.ctx.Done():
			tb.t.Fatal(tb.ctx.Err())
		}
	}
}

// text is what stands on the page in an element.
func (tb *tab) text(selector string) string {
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	text, _ := chromedp.Run(ctx,
		chromedp.Evaluate[string](`document.querySelector(`+quoted(selector)+`)?.innerText ?? ''`))
	return text
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// shows waits until an element has a text in it.
func (tb *tab) shows(selector, text string) {
	tb.t.Helper()
	tb.wait(`[...document.querySelectorAll(%s)].some((e) => e.innerText.includes(%s))`, quoted(selector), quoted(text))
}

// holdsNot fails if the page holds a text anywhere: in the document, in its fields, in what it stores.
func (tb *tab) holdsNot(text string) {
	tb.t.Helper()
	where := eval[[]string](tb, `Object.entries({document: document.documentElement.outerHTML, title: document.title,
		session: JSON.stringify(sessionStorage),
		local: JSON.stringify(localStorage),
			fields: [...document.querySelectorAll('input,textarea')].map((f) => f.value).join('\n')})
		.filter(([, held]) => held.includes(`+quoted(text)+`)).map(([place]) => place)`)
	if len(where) > 0 {
		tb.t.Errorf("the page still holds %q: in %v", text, where)
	}
}

// click clicks an element. As a person would, it clicks again if the element moved away under the mouse or was disabled
// at first.
func (tb *tab) click(selector string) {
	tb.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		eval[bool](tb, `(() => {
			document.removeEventListener('click', window.clicked, true);
			window.missed = true;
			window.clicked = (e) => { if (e.target.closest(`+quoted(selector)+`)) window.missed = false; };
			document.addEventListener('click', window.clicked, true);
			return true;
		})()`)
		tb.run(chromedp.Click(chromedp.CSS(selector)))
		if !tb.holds(`window.missed === true`) { // or the click has led to another page
			return
		}
		if time.Now().After(deadline) {
			tb.t.Fatalf("no click reaches %s", selector)
		}
	}
}

// say writes a text and sends it with the Enter key.
func (tb *tab) say(text string) {
	tb.t.Helper()
	tb.wait(`!document.querySelector('#attach').disabled`)
	tb.run(chromedp.Focus(chromedp.CSS("#text")), chromedp.SendKeys(chromedp.CSS("#text"), text+kb.Enter))
}

// message is the selector of a message by its text, once it is there and sent.
func (tb *tab) message(text string) string {
	tb.t.Helper()
	find := `[...document.querySelectorAll('#list .message:not(.pending)')].findLast((m) =>
		m.querySelector('.bubble > .said')?.innerText.includes(` + quoted(text) + `))`
	tb.wait("%s", find)
	return `[data-id="` + eval[string](tb, find+`.dataset.id`) + `"]`
}

// menu opens the menu of a message and waits until it says whether it may be recalled.
func (tb *tab) menu(message string) {
	tb.t.Helper()
	tb.menuWith(message, "[data-slot]")
}

// menuWith opens the menu of a message and waits until there is something in it. As a person would, it opens the menu
// again if it went away, because the list moved under it.
func (tb *tab) menuWith(message, item string) {
	tb.t.Helper()
	tb.wait(`[...document.querySelectorAll('#list img')].every((i) => i.naturalWidth)`) // then little moves any more
	for deadline := time.Now().Add(patience); ; {
		tb.click(message + " .more")
		tb.wait(`document.querySelector('#menu').hidden || document.querySelector(%s)`, quoted("#menu "+item))
		if !eval[bool](tb, `document.querySelector('#menu').hidden`) {
			return
		}
		if time.Now().After(deadline) {
			tb.t.Fatal("the menu does not stay open")
		}
	}
}

func (tb *tab) recall(message string) {
	tb.t.Helper()
	tb.menu(message)
	tb.click(`#menu [data-item=recall]`)
}

// shot takes a picture for people, into a folder that is no part of the project.
func (tb *tab) shot(name string) {
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	dir := filepath.Join("..", "..", "..", "screenshots")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		tb.t.Logf("no picture %s: %v", name, err)
	}
}

// fits fails if something of the page is outside of the window sideways, or a control's words are cut off.
func (tb *tab) fits() {
	tb.t.Helper()
	for _, problem := range eval[[]string](tb, `[...document.querySelectorAll('body *')].filter((e) =>
		e.checkVisibility() && !e.closest('.sr, svg, .scroll, option')).flatMap((e) => {
		const r = e.getBoundingClientRect();
		const what = e.tagName + '.' + e.className + '#' + e.id + ' "' + e.innerText?.slice(0, 30) + '"';
		if (r.width && (r.right > innerWidth + 1 || r.left < -1)) return ['outside of the window: ' + what];
		if (e.matches('button, a, label, .pill, h1, h2') && !e.matches('.entry') && e.scrollWidth > e.clientWidth + 1 &&
			e.clientWidth) return ['cut off: ' + what];
		return [];
	})`) {
		tb.t.Error(problem)
	}
}

// freeAddress is a page of somebody else, on another port.
func foreignPage(t *testing.T, html string) string {
	t.Helper()
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, html)
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.Listener.Close()
	h.Listener = l
	h.Start()
	t.Cleanup(h.Close)
	return strings.Replace(h.URL, "127.0.0.1", "localhost", 1)
}
