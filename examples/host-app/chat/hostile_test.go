package chat

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// script is what must stay text wherever it is put.
const script = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>{name}`

func TestPage_ScriptStaysText(t *testing.T) {
	c := newChat(t)
	ctx := testContext(t)
	evil := shared.Conversation{Type: shared.ConversationGroup, ID: "evil/<svg onload=window.pwned=1>"}
	if err := c.store.AddUser(ctx, `"><svg onload=window.pwned=1>`, script, true); err != nil {
		t.Fatal(err)
	}
	if err := c.store.AddConversation(ctx, evil, script); err != nil {
		t.Fatal(err)
	}
	for user, role := range map[string]shared.Role{`"><svg onload=window.pwned=1>`: shared.RoleAdmin,
		"ann": shared.RoleMember, "ben": shared.RoleMember} {
		if err := c.store.SetRole(ctx, evil, user, role); err != nil {
			t.Fatal(err)
		}
	}
	ann := c.user("ann", roomKey(evil), desktop)
	ann.shows("#title", script)
	for i, text := range []string{script, "javascript:window.pwned=1", "\u202egnp.exe \u0000 \u2028 𝒕𝒆𝒙𝒕",
		"https://example.com/<b>"} {
		send(t, c.Server, `"><svg onload=window.pwned=1>`,
			Outgoing{ID: fmt.Sprintf(`x%d"]<img src=x onerror=window.pwned=1>`, i), Conversation: evil, Text: text,
				Quote: quoteOf(i)})
	}
	ann.shows(".bubble", script)
	ann.shows(".message .by", script)
	ann.shows(".preview", "https://example.com/<b>")
	name := `<img src=x onerror=window.pwned=1>.png`
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(`<svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=1"/>`),
		0o600); err != nil {
		t.Fatal(err)
	}
	ann.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
	ann.shows("#context", name)
	ann.click("#send")
	ann.shows(".attachment", "It could not be loaded") // it is not the picture that its name says
	page := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(page, []byte(`<script>window.pwned=1</script>`), 0o600); err != nil {
		t.Fatal(err)
	}
	ann.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{page}))
	ann.click("#send")
	ann.shows(".file", "page.html")
	takeBack(t, c.Server, `"><svg onload=window.pwned=1>`,
		adapter.Ask{MessageIDs: []string{`x0"]<img src=x onerror=window.pwned=1>`}})
	ann.shows(".placeholder", script+" recalled a message")
	ann.shows(".quote", "Message recalled")
	op := c.open("/operator", desktop)
	op.shows("#recalls", script)
	vera := c.open("/audit?user=vera", desktop)
	vera.shows("#recalls", script)
	for _, tb := range []*tab{ann, op, vera} {
		if eval[bool](tb, `Boolean(window.pwned ||
			document.querySelector('#list svg[onload], #list img[onerror], script:not([src])'))`) {
			t.Error("a text became markup")
		}
	}
}

func quoteOf(i int) string {
	if i == 3 {
		return `x0"]<img src=x onerror=window.pwned=1>`
	}
	return ""
}

func TestHTTP_OtherConversation(t *testing.T) {
	c := newChat(t)
	send(t, c.Server, "ann", Outgoing{ID: "p1", Conversation: singleRoom, Text: "between us two"})
	dan := c.user("dan", "single/ann-ben", desktop)
	dan.wait(`document.querySelectorAll('.entry').length === 2 && document.querySelector('#choose').checkVisibility()`)
	for path, want := range map[string]int{
		"/history?type=single&id=ann-ben": 404, "/messages": 405, "/attachments?key=p1": 404,
		"/static/..%2f..%2fmain.go": 404, "/static/": 404,
	} {
		if got := eval[int](dan, `fetch(`+quoted(path)+`, {headers: {'X-User': 'dan'}}).then((r) => r.status)`); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	answer := eval[string](dan, `fetch('/recall', {method: 'POST', headers: {'X-User': 'dan',
		'Content-Type': 'application/json'}, body: '{"message_ids":["p1"]}'}).then((r) => r.text())`)
	if !strings.Contains(answer, `"not_found"`) {
		t.Errorf("Dan learns of a message that is not his: %s", answer)
	}
	quote := `fetch('/messages', {method: 'POST', headers: {'X-User': 'dan', 'Content-Type': 'application/json'},
		body: JSON.stringify({conversation: {type: 'group', id: 'team'}, text: 'x', quote: 'p1'})}).then((r) => r.status)`
	if got := eval[int](dan, quote); got != 400 {
		t.Errorf("a message of another conversation can be quoted: %d", got)
	}
	dan.holdsNot("between us two")
}

func TestUpload_TooLarge(t *testing.T) {
	c := newChat(t)
	ann := c.user("ann", "single/ann-ben", desktop)
	large := filepath.Join(t.TempDir(), "film.mov")
	if err := os.WriteFile(large, make([]byte, maxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	ann.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{large}))
	ann.shows("#refused-words", "film.mov is too large")
	ann.click("#refused-close")
	// A page that does not look gets the same answer from the server.
	status := eval[int](ann, fmt.Sprintf(`fetch('/attachments?type=single&id=ann-ben&name=x',
		{method: 'POST', headers: {'X-User': 'ann', 'Content-Type': 'application/octet-stream'},
		body: new Uint8Array(%d)}).then((r) => r.status)`, maxFileBytes+1))
	if status != http.StatusRequestEntityTooLarge {
		t.Errorf("the server answers %d", status)
	}
	for _, name := range []string{"../x", `..\x`, "a/b", "a\x00b"} {
		status := eval[int](ann, `fetch('/attachments?' + new URLSearchParams({type: 'single', id: 'ann-ben',
			name: `+quoted(name)+`}), {method: 'POST',
			headers: {'X-User': 'ann', 'Content-Type': 'application/octet-stream'}, body: 'x'}).then((r) => r.status)`)
		if status != http.StatusBadRequest {
			t.Errorf("the name %q: %d", name, status)
		}
	}
	if left, err := os.ReadDir(c.files.dir); err != nil || len(left) > 0 {
		t.Errorf("refused uploads left %v, %v", left, err)
	}
}

// A page of another origin makes the browser send requests: from another port, and from another name of this machine.
func TestHTTP_ForeignOrigin(t *testing.T) {
	c := newChat(t)
	m := send(t, c.Server, "ann", Outgoing{ID: "safe", Conversation: singleRoom, Text: "not for others"})
	for _, origin := range []string{foreignPage(t, "<title>evil</title>"),
		strings.Replace(foreignPage(t, "<title>evil</title>"), "localhost", "127.0.0.1", 1)} {
		evil := openTab(t, origin, desktop)
		evil.wait(`document.title === 'evil'`)
		got := eval[map[string]any](evil, `(async () => {
			const base = `+quoted(c.url)+`;
			const text = (path, o) => fetch(base + path, o)
				.then((r) => r.type === 'opaque' ? 'opaque' : r.text(), () => 'failed');
			const loads = (tag, attribute, path) => new Promise((done) => {
				const e = document.createElement(tag);
				e.onload = () => done('loaded');
				e.onerror = () => done('failed');
				e[attribute] = base + path;
				document.body.append(e);
			});
			const form = async (enctype) => {
				const frame = document.createElement('iframe');
				frame.name = 'f' + Math.random();
				document.body.append(frame);
				const f = document.createElement('form');
				Object.assign(f, { method: 'post', action: base + '/recall?user=ann', target: frame.name, enctype });
				const i = document.createElement('input');
				Object.assign(i, { name: '{"message_ids":["safe"],"ext":"', value: '"}' });
				f.append(i);
				document.body.append(f);
				const loaded = new Promise((done) => { frame.onload = done; });
				f.submit();
				await loaded;
			};
			const out = {
				read: await text('/history?user=ann&type=single&id=ann-ben'),
				json: await text('/recall?user=ann',
					{ method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"message_ids":["safe"]}' }),
				plain: await text('/recall?user=ann',
					{ method: 'POST', mode: 'no-cors', headers: { 'Content-Type': 'text/plain' }, body: '{"message_ids":["safe"]}' }),
				kill: await text('/operator/kill', { method: 'POST', mode: 'no-cors', body: '{}' }),
				script: await loads('script', 'src', '/static/i18n.js'),
				image: await loads('img', 'src', '/static/icon.svg'),
				stream: await new Promise((done) => { const s = new EventSource(base + '/stream?user=ann');
					s.onopen = () => done('open'); s.onerror = () => { s.close(); done('failed'); }; }),
			};
			await form('text/plain');
			await form('application/x-www-form-urlencoded');
			const frame = document.createElement('iframe');
			const loaded = new Promise((done) => { frame.onload = done; });
			frame.src = base + '/chat?user=ann';
			document.body.append(frame);
			await loaded;
			try { out.frame = frame.contentDocument?.title ?? 'closed'; } catch { out.frame = 'closed'; }
			return out;
		})()`)
		for what, want := range map[string]string{"read": "failed", "json": "failed", "plain": "opaque", "kill": "opaque",
			"script": "failed", "image": "failed", "stream": "failed", "frame": "closed"} {
			if got[what] != want {
				t.Errorf("%s from %s: %v, want %s", what, origin, got[what], want)
			}
		}
		evil.mu.Lock()
		evil.trouble = nil // the browser complains of the foreign page, rightly
		evil.mu.Unlock()
	}
	if live, err := c.live(testContext(t), []string{m.ID}); err != nil || !live[m.ID] {
		t.Errorf("a foreign page took a message back: %v %v", live, err)
	}
	if st := c.plugin.State(); st.Restarts != 0 {
		t.Errorf("a foreign page killed the plugin: %+v", st)
	}
	if c.hub.Present("ann") {
		t.Error("a foreign page is connected as Ann")
	}
}

// A page that shows pages of this server in frames may do nothing else with them.
func TestGuard_FramedBy(t *testing.T) {
	answer := func(framedBy, method, site, dest string) int {
		a := &api{server: newStubServer(t, &index{}), limits: newLimits(192), framedBy: framedBy}
		r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:1/chat", nil)
		r.Header.Set("Sec-Fetch-Site", site)
		r.Header.Set("Sec-Fetch-Dest", dest)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		a.handler().ServeHTTP(w, r)
		allowed := framedBy != "" && strings.Contains(w.Header().Get("Content-Security-Policy"), framedBy)
		if w.Code == http.StatusOK && !allowed {
			t.Errorf("the content policy does not name the page that may frame it: %v", w.Header())
		}
		return w.Code
	}
	const page = "http://127.0.0.1:8090"
	for name, c := range map[string]struct {
		framedBy, method, site, dest string
		want                         int
	}{
		"a frame":                        {page, "GET", "same-site", "iframe", http.StatusOK},
		"a frame, of no page":            {"", "GET", "same-site", "iframe", http.StatusForbidden},
		"a frame of a page elsewhere":    {page, "GET", "cross-site", "iframe", http.StatusForbidden},
		"a script":                       {page, "GET", "same-site", "empty", http.StatusForbidden},
		"a form that is sent to a frame": {page, "POST", "same-site", "iframe", http.StatusForbidden},
	} {
		if got := answer(c.framedBy, c.method, c.site, c.dest); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}
