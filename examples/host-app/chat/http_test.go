package chat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// web is the HTTP API of a demo server.
type web struct {
	t      *testing.T
	url    string
	client *http.Client
	server *Server
}

// newWeb starts a server; more is appended to its plugin.hcl.
func newWeb(t *testing.T, more ...string) *web {
	t.Helper()
	s, plugin := newTestServer(t, more...)
	return serveWeb(t, &api{server: s, plugin: plugin, held: new(heldCalls), limits: newLimits(192)})
}

// newStubWeb is the HTTP API of a server whose plugin is played by the test.
func newStubWeb(t *testing.T, i *index) *web {
	t.Helper()
	return serveWeb(t, &api{server: newStubServer(t, i), held: new(heldCalls), limits: newLimits(192)})
}

func serveWeb(t *testing.T, a *api) *web {
	t.Helper()
	s := a.server
	h := httptest.NewServer(a.handler())
	t.Cleanup(func() {
		s.hub.KickAll()
		h.Close()
	})
	return &web{t: t, url: h.URL, client: h.Client(), server: s}
}

// do makes a request; header is name, value, name, value.
func (w *web) do(method, path, user, body string, header ...string) (int, map[string]any) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(testContext(w.t), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if user != "" {
		r.Header.Set("X-User", user)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := w.client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	fields := map[string]any{"body": string(text)}
	_ = json.Unmarshal(text, &fields) // a list or a file stays text
	return answer.StatusCode, fields
}

func (w *web) upload(user, query, body string) (int, map[string]any) {
	w.t.Helper()
	return w.do("POST", "/attachments?"+query, user, body, "Content-Type", "application/octet-stream")
}

func TestHTTP_InvalidRequests(t *testing.T) {
	w := newWeb(t)
	group := `"conversation":{"type":"group","id":"team"}`
	long := strings.Repeat("x", shared.MaxIDBytes+1)
	many := `"` + strings.Join(strings.Split(strings.Repeat("x", 101), ""), `","`) + `"`
	for name, c := range map[string]struct {
		method, path, user, body string
		header                   []string
		status                   int
		field                    string
	}{
		"no user":              {"GET", "/conversations", "", "", nil, 401, "user"},
		"unknown user":         {"GET", "/conversations", "eve", "", nil, 401, "user"},
		"unknown user, stream": {"GET", "/stream", "eve", "", nil, 401, "user"},
		"not JSON":             {"POST", "/messages", "dan", "hello", nil, 400, "body"},
		"two values":           {"POST", "/messages", "dan", "{} {}", nil, 400, "body"},
		"unknown field":        {"POST", "/messages", "dan", `{"role":"owner"}`, nil, 400, "role"},
		"text is a number":     {"POST", "/messages", "dan", `{"text":5}`, nil, 400, "text"},
		"unknown type":         {"POST", "/messages", "dan", `{` + group + `,"type":"poem"}`, nil, 400, "type"},
		"id too long":          {"POST", "/messages", "dan", `{` + group + `,"id":"` + long + `"}`, nil, 400, "id"},
		"id that is no UTF-8":  {"POST", "/messages", "dan", `{` + group + `,"id":"a` + "\xff" + `b"}`, nil, 400, "body"},
		"half a character":     {"POST", "/messages", "dan", `{` + group + `,"id":"a\ud800b"}`, nil, 400, "body"},
		"id with NUL":          {"POST", "/messages", "dan", `{` + group + `,"id":"a\u0000b"}`, nil, 400, "id"},
		"text too long": {"POST", "/messages", "dan",
			`{` + group + `,"text":"` + strings.Repeat("x", maxTextBytes+1) + `"}`, nil, 400, "text"},
		"body too long": {"POST", "/messages", "dan", `{"text":"` + strings.Repeat("x", maxBodyBytes) + `"}`, nil,
			413, "body"},
		"unknown attachment": {"POST", "/messages", "dan", `{` + group + `,"attachments":["../../etc/passwd"]}`, nil, 400,
			"attachments[0]"},
		"not a member": {"POST", "/messages", "dan", `{"conversation":{"type":"single","id":"ann-ben"},"text":"x"}`,
			nil, 404, ""},
		"unknown conversation": {"POST", "/messages", "dan", `{"conversation":{"type":"group","id":"ann-ben"},"text":"x"}`,
			nil, 404, ""},
		"history of others":    {"GET", "/history?type=single&id=ann-ben", "dan", "", nil, 404, ""},
		"history, bad limit":   {"GET", "/history?type=group&id=team&limit=101", "dan", "", nil, 400, "limit"},
		"history, bad page":    {"GET", "/history?type=group&id=team&before=-1", "dan", "", nil, 400, "before"},
		"sync, bad cursor":     {"GET", "/sync?after=x", "dan", "", nil, 400, "after"},
		"sync, bad recalls":    {"GET", "/sync?recalls_after=1.5", "dan", "", nil, 400, "recalls_after"},
		"recall of nothing":    {"POST", "/recall", "dan", `{"message_ids":[]}`, nil, 400, "message_ids"},
		"recall of 101":        {"POST", "/recall", "dan", `{"message_ids":[` + many + `]}`, nil, 400, "message_ids"},
		"recall of one twice":  {"POST", "/recall", "dan", `{"message_ids":["a","a"]}`, nil, 400, "message_ids[1]"},
		"recall, role claimed": {"POST", "/recall", "dan", `{"message_ids":["a"],"role":"owner"}`, nil, 400, "role"},
		"recall, time claimed": {"POST", "/recall", "dan", `{"message_ids":["a"],"requested_at":"2020-01-01T00:00:00Z"}`,
			nil, 400, "requested_at"},
		"recall, ext too long": {"POST", "/recall", "dan",
			`{"message_ids":["a"],"ext":"` + strings.Repeat("x", shared.MaxExtBytes+1) + `"}`, nil, 400, "ext"},
		"check of an empty id": {"POST", "/check", "dan", `{"message_ids":[""]}`, nil, 400, "message_ids[0]"},
		"ledger of nothing":    {"GET", "/ledger", "dan", "", nil, 400, "recall_id"},
		"attachment unknown":   {"GET", "/attachments?key=../chat.db", "dan", "", nil, 404, ""},
		"form from a page":     {"POST", "/recall", "dan", "x", []string{"Content-Type", "text/plain"}, 415, ""},
		"upload as a form": {"POST", "/attachments?name=a", "dan", "x", []string{"Content-Type", "multipart/form-data"},
			415, ""},
		"foreign origin":         {"GET", "/conversations", "dan", "", []string{"Origin", "https://evil.example"}, 403, ""},
		"no origin of its own":   {"POST", "/recall", "dan", "{}", []string{"Origin", "null"}, 403, ""},
		"cross-site by metadata": {"GET", "/conversations", "dan", "", []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
		"rebound name":           {"GET", "/conversations", "dan", "", []string{"Host", "evil.example:8080"}, 403, ""},
		"unknown path":           {"GET", "/nothing", "dan", "", nil, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := w.do(c.method, c.path, c.user, c.body, c.header...)
			field, _ := fieldOf(answer).(string)
			if status != c.status || field != c.field {
				t.Errorf("%d %.200v; want %d about %q", status, answer, c.status, c.field)
			}
		})
	}
}

// fieldOf is the field that an error is about.
func fieldOf(answer map[string]any) any {
	if list, ok := answer["errors"].([]any); ok {
		return list[0].(map[string]any)["field"]
	}
	return nil
}

func TestAttachments_Readers(t *testing.T) {
	w := newWeb(t)
	for _, name := range []string{"", "../a", "a/b", `a\b`, "..", ".", "a\nb", "a\x00b",
		strings.Repeat("x", maxNameBytes+1), "\xff"} {
		if status, answer := w.upload("ann", "type=single&id=ann-ben&name="+url.QueryEscape(name), "x"); status != 400 ||
			fieldOf(answer) != "name" {
			t.Errorf("the name %.20q: %d %v", name, status, answer)
		}
	}
	if status, _ := w.upload("dan", "type=single&id=ann-ben&name=a", "x"); status != 404 {
		t.Errorf("an upload into another's conversation: %d", status)
	}
	if status, answer := w.upload("ann", "type=single&id=ann-ben&name=a",
		strings.Repeat("x", maxFileBytes+1)); status < 400 || fieldOf(answer) != "body" {
		t.Errorf("too large: %d %v", status, answer)
	}
	if left, err := os.ReadDir(w.server.files.dir); err != nil || len(left) > 0 {
		t.Errorf("refused uploads left %v, %v", left, err)
	}
	status, answer := w.upload("ann", "type=single&id=ann-ben&name=plan.txt", "the plan")
	key, _ := answer["key"].(string)
	if status != 200 || key == "" {
		t.Fatalf("upload: %d %v", status, answer)
	}
	get := func(user string, want int) {
		t.Helper()
		if status, answer := w.do("GET", "/attachments?key="+key, user, ""); status != want || want == 200 &&
			answer["body"] != "the plan" {
			t.Errorf("%s reads it: %d %v; want %d", user, status, answer, want)
		}
	}
	get("ann", 200)
	get("ben", 404) // not sent yet
	if status, answer := w.do("POST", "/messages", "dan",
		`{"conversation":{"type":"group","id":"team"},"attachments":["`+key+`"]}`); status != 400 {
		t.Errorf("another's file is sent on by who cannot read it: %d %v", status, answer)
	}
	if status, answer := w.do("POST", "/messages", "ann",
		`{"id":"a1","type":"file","conversation":{"type":"single","id":"ann-ben"},"attachments":["`+key+
			`"]}`); status != 200 {
		t.Fatalf("send: %d %v", status, answer)
	}
	get("ben", 200)
	get("dan", 404)
	w.server.files.mu.Lock() // the file stays while the other steps are done
	if status, answer := w.do("POST", "/recall", "ann", `{"message_ids":["a1"],"recall_id":"r"}`); status != 200 {
		w.server.files.mu.Unlock()
		t.Fatalf("recall: %d %v", status, answer)
	}
	get("ben", 410)
	for found := true; found && !t.Failed(); {
		var err error
		if _, found, err = w.server.store.Message(testContext(t), "a1"); err != nil {
			t.Error(err)
		}
	}
	get("ann", 410)
	get("ben", 410)
	get("dan", 404)
	w.server.files.mu.Unlock()
	settled(t, w.server, "r")
	get("ann", 410)
	get("ben", 410)
	get("dan", 404)
}

func TestAttachments_GoneAfterARecall(t *testing.T) {
	w := newWeb(t)
	for room, c := range map[string]struct {
		uploaded string
		told     map[string]int
	}{
		`"type":"single","id":"ann-ben"`: {"type=chatroom&id=lobby", map[string]int{"ann": 410, "ben": 410, "cleo": 404}},
		`"type":"group","id":"team"`:     {"type=single&id=ann-ben", map[string]int{"ann": 410, "cleo": 410}},
	} {
		_, answer := w.upload("ann", c.uploaded+"&name=a", "the plan")
		key := answer["key"].(string)
		_, m := w.do("POST", "/messages", "ann", `{"type":"file","conversation":{`+room+`},"attachments":["`+key+`"]}`)
		id := m["id"].(string)
		takeBack(t, w.server, "ann", adapter.Ask{MessageIDs: []string{id}, RecallID: "r" + id})
		settled(t, w.server, "r"+id)
		for user, want := range c.told {
			if status, answer := w.do("GET", "/attachments?key="+key, user, ""); status != want {
				t.Errorf("file uploaded for %s, message sent to %s: %s gets status %d (%v), want %d",
					c.uploaded, room, user, status, answer["detail"], want)
			}
		}
	}
}

// The plugin does not know a message that could not be indexed yet, and nobody has recalled it.
func TestAttachments_NotIndexedYet(t *testing.T) {
	var up atomic.Bool
	w := newStubWeb(t, &index{onIndex: func(shared.Message) (shared.IndexStatus, error) {
		if up.Load() {
			return shared.IndexAdded, nil
		}
		return "", shared.ErrOverloaded
	}, onStatus: func(string) shared.MessageState {
		if up.Load() {
			return shared.MessageLive
		}
		return shared.MessageUnknown
	}})
	_, answer := w.upload("ann", "type=single&id=ann-ben&name=a", "the plan")
	key := answer["key"].(string)
	message := `{"id":"m","type":"file","conversation":{"type":"single","id":"ann-ben"},"attachments":["` + key + `"]}`
	for range 2 { // she is asked to send it again
		if status, answer := w.do("POST", "/messages", "ann", message); status != 429 {
			t.Errorf("%d %v", status, answer)
		}
	}
	for user, want := range map[string]int{"ann": 200, "ben": 404} {
		if status, answer := w.do("GET", "/attachments?key="+key, user, ""); status != want {
			t.Errorf("%s: %d %v, want %d", user, status, answer, want)
		}
	}
	up.Store(true)
	if status, answer := w.do("POST", "/messages", "ann", message); status != 200 {
		t.Errorf("sent again: %d %v", status, answer)
	}
	if status, answer := w.do("GET", "/attachments?key="+key, "ben", ""); status != 200 {
		t.Errorf("ben: %d %v", status, answer)
	}
}

// A recall marks the file as gone after the download was allowed, and has not deleted it yet.
func TestAttachments_DownloadName(t *testing.T) {
	var w *web
	w = newStubWeb(t, &index{onStatus: func(string) shared.MessageState {
		err := w.server.store.apply(testContext(t),
			func(tx *writeTx) error { return tx.exec("UPDATE files SET gone = 1, name = ''") })
		if err != nil {
			t.Error(err)
		}
		return shared.MessageLive
	}})
	_, answer := w.upload("ann", "type=single&id=ann-ben&name=plan.txt", "the plan")
	key := answer["key"].(string)
	send(t, w.server, "ann", Outgoing{ID: "m", Conversation: singleRoom, Type: shared.TypeFile,
		Attachments: []string{key}})
	file, err := w.client.Get(w.url + "/attachments?user=ben&key=" + key)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Body.Close()
	if name := file.Header.Get("Content-Disposition"); file.StatusCode == 200 && name != "attachment; filename=plan.txt" {
		t.Errorf("%q", name)
	}
}

// What the README shows, over HTTP.
func TestStream_MessageAndRecall(t *testing.T) {
	w := newWeb(t)
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	r, err := http.NewRequestWithContext(ctx, "GET", w.url+"/stream?user=ben", nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	next := func(event string) map[string]any {
		t.Helper()
		for lines.Scan() {
			if lines.Text() == "event: "+event {
				lines.Scan()
				var data map[string]any
				if err := json.Unmarshal([]byte(strings.TrimPrefix(lines.Text(), "data: ")), &data); err != nil {
					t.Fatal(err)
				}
				return data
			}
		}
		t.Fatalf("the stream ended before %s: %v", event, lines.Err())
		return nil
	}
	next("hello")
	message := `{"id":"h/1","conversation":{"type":"group","id":"team"},"text":"oops & <sorry>"}`
	for range 2 { // the answer to the first may have been lost
		if status, answer := w.do("POST", "/messages", "dan", message); status != 200 || answer["sender"] != "dan" {
			t.Fatalf("send: %d %v", status, answer)
		}
	}
	if status, _ := w.do("POST", "/messages", "dan", strings.Replace(message, "oops", "other", 1)); status != 409 {
		t.Errorf("other words under the same id: %d", status)
	}
	if m := next("message"); m["text"] != "oops & <sorry>" {
		t.Errorf("%v", m)
	}
	if _, answer := w.do("POST", "/recall", "cleo", `{"message_ids":["h/1"]}`); !strings.Contains(answer["body"].(string),
		`"code":"forbidden"`) {
		t.Errorf("a member recalls another's: %v", answer)
	}
	if _, answer := w.do("POST", "/recall", "dan",
		`{"message_ids":["h/1","h/2"],"ext":"typo","recall_id":"r"}`); !strings.Contains(answer["body"].(string),
		`"status":"recalled"`) ||
		!strings.Contains(answer["body"].(string), `"status":"not_found"`) {
		t.Errorf("recall: %v", answer)
	}
	if n := next("notice"); n["message_id"] != "h/1" || n["ext"] != "typo" || n["message"] == nil ||
		strings.Contains(string(encode(n)), "oops") {
		t.Errorf("notice: %v", n)
	}
	for _, path := range []string{"/history?type=group&id=team", "/sync"} {
		if _, answer := w.do("GET", path, "ann", ""); strings.Contains(answer["body"].(string), "oops") {
			t.Errorf("%s still shows it: %v", path, answer)
		}
	}
	if status, answer := w.do("GET", "/sync", "ann", ""); status != 200 || len(answer["recalls"].([]any)) != 1 {
		t.Errorf("sync: %d %v", status, answer)
	}
	settled(t, w.server, "r")
	if status, _ := w.do("POST", "/messages", "dan", message); status != 410 {
		t.Errorf("sent again after its recall: %d", status)
	}
	if _, answer := w.do("GET", "/ledger?recall_id=r", "ann", ""); !strings.Contains(answer["body"].(string),
		`"step":"history","outcome":"done"`) {
		t.Errorf("ledger: %v", answer)
	}
	if _, answer := w.do("GET", "/plugin", "ann", ""); answer["phase"] != "running" {
		t.Errorf("plugin: %v", answer)
	}
	if status, _ := w.do("POST", "/offline", "ben", "{}"); status != 200 {
		t.Error("offline")
	}
	next("resync")
}

func TestLedger_Readers(t *testing.T) {
	w := newWeb(t)
	w.do("POST", "/messages", "cleo", `{"id":"m","conversation":{"type":"group","id":"team"},"text":"x"}`)
	w.do("POST", "/recall", "cleo", `{"message_ids":["m"],"recall_id":"r"}`)
	for user, whole := range map[string]bool{"cleo": true, "dan": false} {
		_, answer := w.do("GET", "/ledger?recall_id=r", user, "")
		body := answer["body"].(string)
		if !strings.Contains(body, `"id":"m"`) || strings.Contains(body, `"sent_at":"2`) != whole {
			t.Errorf("%s is shown %s", user, body)
		}
	}
	_, answer := w.do("GET", "/ledger?recall_id=r", "dan", "")
	if strings.Contains(answer["body"].(string), `"sender":"cleo"`) {
		t.Errorf("dan is shown the sender: %v", answer)
	}
}

func TestLedger_ReasonReaders(t *testing.T) {
	w := newWeb(t)
	w.do("POST", "/messages", "cleo", `{"id":"m","conversation":{"type":"group","id":"team"},"text":"x"}`)
	w.do("POST", "/recall", "ben", `{"message_ids":["m"],"recall_id":"r","reason":"cleo is being investigated"}`)
	for user, shown := range map[string]bool{"ben": true, "cleo": false, "dan": false} {
		_, answer := w.do("GET", "/ledger?recall_id=r", user, "")
		if body := answer["body"].(string); !strings.Contains(body, `"id":"m"`) ||
			strings.Contains(body, "investigated") != shown {
			t.Errorf("%s is shown %s", user, body)
		}
	}
}

// A device that was away reads the same words in the place of a message as one that was there.
func TestSync_SameWordsAsStream(t *testing.T) {
	_, block := rulesFile(t, ownWords)
	w := newWeb(t, block)
	ben := connect(t, w.server, "ben")
	send(t, w.server, "ann", Outgoing{ID: "m", Conversation: singleRoom, Text: "x"})
	takeBack(t, w.server, "ann", adapter.Ask{MessageIDs: []string{"m"}, RecallID: "r", Reason: "wrong room"})
	streamed := ben.notice(t, "m").Placeholder["en"]
	_, answer := w.do("GET", "/sync", "ben", "")
	synced := answer["recalls"].([]any)[0].(map[string]any)["placeholder"].(map[string]any)["en"]
	if synced != streamed || !strings.Contains(streamed, "wrong room") {
		t.Errorf("by the stream: %q; by the sync: %q", streamed, synced)
	}
}

// The plugin has a message that the store does not have: data that was lost, or two servers on one index.
func TestSend_RefusedMessageRoom(t *testing.T) {
	s, _ := newTestServer(t)
	ctx := testContext(t)
	m, err := s.accept("cleo", Outgoing{ID: "m", Conversation: lobby, Text: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.recall.Index(ctx, []shared.Message{m.Message}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Send(ctx, "ann", Outgoing{ID: "m", Conversation: groupRoom, Text: "y"}); !errors.Is(err, ErrConflict) {
		t.Errorf("the id is taken twice: %v", err)
	}
	if r := takeBack(t, s, "ann", adapter.Ask{MessageIDs: []string{"m"}}); r.Status == shared.StatusRecalled {
		t.Errorf("a mere member of the lobby takes another's message back as the owner of the team: %+v", r)
	}
}

func TestSend_RefusedMessageFile(t *testing.T) {
	w := newStubWeb(t, &index{onIndex: func(shared.Message) (shared.IndexStatus, error) {
		return shared.IndexConflict,
			nil
	}})
	_, answer := w.upload("ann", "type=single&id=ann-ben&name=a", "the plan")
	key := answer["key"].(string)
	if status, answer := w.do("POST", "/messages", "ann",
		`{"id":"m","type":"file","conversation":{"type":"single","id":"ann-ben"},"attachments":["`+key+`"]}`); status != 409 {
		t.Errorf("an id that the plugin knows as another's: %d %v", status, answer)
	}
	for user, want := range map[string]int{"ann": 200, "ben": 404} {
		if status, answer := w.do("GET", "/attachments?key="+key, user, ""); status != want {
			t.Errorf("%s: %d %v, want %d", user, status, answer, want)
		}
	}
}

func TestSync_OtherConversation(t *testing.T) {
	w := newWeb(t)
	w.do("POST", "/messages", "ann", `{"id":"m","conversation":{"type":"single","id":"ann-ben"},"text":"x"}`)
	probe := func() (answers []any) {
		for _, ask := range [][2]string{
			{"/messages", `{"id":"m","conversation":{"type":"group","id":"team"},"text":"y"}`},
			{"/check", `{"message_ids":["m"]}`},
			{"/recall", `{"message_ids":["m"]}`},
		} {
			status, answer := w.do("POST", ask[0], "dan", ask[1])
			answers = append(answers, status, answer["results"], answer["detail"])
		}
		_, answer := w.do("GET", "/ledger?recall_id=r", "dan", "")
		return append(answers, answer["entries"])
	}
	before := probe()
	w.do("POST", "/recall", "ann", `{"message_ids":["m"],"recall_id":"r"}`)
	settled(t, w.server, "r")
	if diff := cmp.Diff(before, probe()); diff != "" {
		t.Errorf("what dan is answered changes (-before +after):\n%s", diff)
	}
}

func TestOpen_SecondServer(t *testing.T) {
	dir := t.TempDir()
	first, err := openStore(Data{Folder: dir})
	if err != nil {
		t.Fatal(err)
	}
	if second, err := openStore(Data{Folder: dir}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("opened twice: %v, %v", second, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := openStore(Data{Folder: dir})
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestServe_LoopbackOnly(t *testing.T) {
	for addr, ok := range map[string]bool{"127.0.0.1:0": true, "[::1]:80": true, "localhost:80": true,
		":8080": false, "0.0.0.0:8080": false, "192.168.1.2:80": false, "example.com:80": false, "8080": false} {
		if err := CheckLoopback(addr); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
