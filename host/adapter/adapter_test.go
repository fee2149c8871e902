package adapter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

var (
	team  = shared.Conversation{Type: shared.ConversationGroup, ID: "team"}
	other = shared.Conversation{Type: shared.ConversationGroup, ID: "other"}
)

// platform has messages and members.
type platform struct {
	mu       sync.Mutex
	messages map[string]shared.Message
	asked    []string // ids that Facts was asked for
	roles    map[shared.Conversation]map[string]shared.Role
	fail     error
}

func newPlatform() *platform {
	return &platform{messages: map[string]shared.Message{}, roles: map[shared.Conversation]map[string]shared.Role{
		team:  {"ann": shared.RoleMember, "ben": shared.RoleMember, "olga": shared.RoleOwner},
		other: {"zoe": shared.RoleOwner},
	}}
}

func (p *platform) Facts(_ context.Context, ids []string) (map[string]shared.Message, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, ids...)
	found := maps.Clone(p.messages)
	maps.DeleteFunc(found, func(id string, _ shared.Message) bool { return !slices.Contains(ids, id) })
	return found, p.fail
}

func (p *platform) Role(_ context.Context, user string, c shared.Conversation) (shared.Role, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	role, reads := p.roles[c][user]
	return role, reads, p.fail
}

// post puts a message on the platform.
func (p *platform) post(id, sender string, c shared.Conversation, age time.Duration) shared.Message {
	m := shared.Message{ID: id, Conversation: c, Sender: sender, Type: shared.TypeText, SentAt: time.Now().Add(-age)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages[id] = m
	return m
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// open starts a plugin for an adapter.
func open(t *testing.T, p *platform) (*adapter.Adapter, *host.Host) {
	t.Helper()
	a := adapter.New(adapter.Config{Tenant: "acme", Platform: p})
	h := hosttest.Open(t, host.Config{Steps: map[string]host.Step{}})
	a.Attach(h)
	return a, h
}

func answers(t *testing.T, results []shared.RecallResult, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, r := range results {
		word := string(r.Status)
		if r.Code != "" {
			word += ":" + string(r.Code)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestRecall_FactsAndRolesOfThePlatform(t *testing.T) {
	p := newPlatform()
	a, h := open(t, p)
	ctx := within(t)
	for _, m := range []shared.Message{
		p.post("own", "ann", team, 0), p.post("late", "ann", team, time.Hour), p.post("away", "zoe", other, 0),
	} {
		m.Tenant = "acme"
		if r, err := h.Index(ctx, []shared.Message{m}); err != nil || r[0].Status != shared.IndexAdded {
			t.Fatal(r, err)
		}
	}
	p.post("old", "ann", team, 400*24*time.Hour) // before the plugin
	p.post("new", "ann", team, 0)                // not indexed yet
	for _, c := range []struct{ user, id, want string }{
		{"ben", "own", "denied:forbidden"},
		{"zoe", "own", "not_found"}, // in another conversation
		{"ann", "away", "not_found"},
		{"ann", "none", "not_found"},
		{"ann", "late", "denied:window_expired"},
		{"ann", "old", "denied:window_expired"},
		{"ann", "new", "recalled"},
		{"ann", "own", "recalled"},
		{"ben", "own", "already_recalled"},
		{"olga", "late", "recalled"},
		{"olga", "old", "recalled"},
	} {
		ask := adapter.Ask{MessageIDs: []string{c.id}}
		checked, err := a.Check(ctx, c.user, ask)
		if got := answers(t, checked, err); got != c.want {
			t.Errorf("%s checks %s: %s, want %s", c.user, c.id, got, c.want)
		}
		results, err := a.Recall(ctx, c.user, ask)
		if got := answers(t, results, err); got != c.want || results[0].Text["en"] == "" || results[0].Text["zh-Hans"] == "" {
			t.Errorf("%s recalls %s: %s %v, want %s", c.user, c.id, got, results[0].Text, c.want)
		}
	}
	for _, id := range p.asked {
		if !slices.Contains([]string{"none", "old", "new"}, id) {
			t.Errorf("the platform is asked for %q, which the plugin knows", id)
		}
	}
}

// To a user who may not read a message it does not exist: they get the answer of one that was never sent, whatever is
// done with it.
func TestRecall_NotVisible(t *testing.T) {
	p := newPlatform()
	a, h := open(t, p)
	ctx := within(t)
	ask := adapter.Ask{MessageIDs: []string{"m"}, RecallID: "r"}
	no := adapter.Ask{MessageIDs: []string{"none"}, RecallID: "r"}
	same := func(when string) {
		t.Helper()
		results, err := a.Recall(ctx, "zoe", ask)
		none, err2 := a.Recall(ctx, "zoe", no)
		checked, err3 := a.Check(ctx, "zoe", ask)
		noCheck, err4 := a.Check(ctx, "zoe", no)
		explained, err5 := a.Explain(ctx, "zoe", ask)
		noExplain, err6 := a.Explain(ctx, "zoe", no)
		if err := errors.Join(err, err2, err3, err4, err5, err6); err != nil {
			t.Fatal(err)
		}
		none[0].MessageID, noCheck[0].MessageID = "m", "m"
		noExplain[0].MessageID, noExplain[0].Result.MessageID = "m", "m"
		ledger, err := a.Ledger(ctx, "zoe", shared.LedgerRequest{RecallID: "r"})
		if err != nil || len(ledger.Entries) != 0 || ledger.Entries == nil || ledger.Next != "" || ledger.More {
			t.Errorf("%s: the ledger is %+v, %v", when, ledger, err)
		}
		got, want := fmt.Sprint(results, checked, explained), fmt.Sprint(none, noCheck, noExplain)
		if got != want {
			t.Errorf("%s: %s, and of one that was never sent %s", when, got, want)
		}
	}
	same("never sent")
	m := p.post("m", "ann", team, 0)
	same("sent")
	m.Tenant = "acme"
	if _, err := h.Index(ctx, []shared.Message{m}); err != nil {
		t.Fatal(err)
	}
	same("indexed")
	if got, err := a.Recall(ctx, "ann", ask); answers(t, got, err) != "recalled" {
		t.Error(got)
	}
	same("recalled")
}

func TestRecall_ElsewhereThanExpected(t *testing.T) {
	p := newPlatform()
	a, _ := open(t, p)
	p.post("m", "ann", team, 0)
	for _, c := range []struct {
		in   shared.Conversation
		want string
	}{{other, "not_found"}, {shared.Conversation{}, "recalled"}, {team, "already_recalled"}} {
		got, err := a.Recall(within(t), "ann",
			adapter.Ask{MessageIDs: []string{"m"}, Conversations: []shared.Conversation{c.in}})
		if got := answers(t, got, err); got != c.want {
			t.Errorf("in %v: %s, want %s", c.in, got, c.want)
		}
	}
}

func TestRecall_Recalled(t *testing.T) {
	p := newPlatform()
	var gone []string
	a := adapter.New(adapter.Config{Tenant: "acme", Platform: p,
		Recalled: func(ids []string) { gone = append(gone, ids...) }})
	a.Attach(hosttest.Open(t, host.Config{}))
	original, edit := p.post("a", "ann", team, 0), p.post("e", "ann", team, 0)
	p.post("b", "ben", team, 0)
	edit.Relations = []shared.Relation{{Kind: shared.RelationEdit, MessageID: "a"}}
	if err := a.Index(nil, nil)(within(t), []shared.Message{original, edit}); err != nil {
		t.Fatal(err)
	}
	ask := adapter.Ask{MessageIDs: []string{"a", "b", "none"}}
	if got, err := a.Recall(within(t), "ann", ask); answers(t, got, err) != "recalled denied:forbidden not_found" {
		t.Error(got)
	}
	if got, err := a.Recall(within(t), "olga", ask); answers(t, got, err) != "already_recalled recalled not_found" {
		t.Error(got)
	}
	if want := []string{"a", "e", "a", "b"}; !slices.Equal(gone, want) {
		t.Errorf("%q are gone, want %q", gone, want)
	}
}

// Calls wait for a plugin that is being opened, and say so when they can wait no longer.
func TestAttach_CallsWait(t *testing.T) {
	p := newPlatform()
	p.post("m", "ann", team, 0)
	a := adapter.New(adapter.Config{Tenant: "acme", Platform: p})
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := a.Recall(short, "ann", adapter.Ask{MessageIDs: []string{"m"}}); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("without a plugin: %v", err)
	}
	answered := make(chan string)
	go func() {
		got, err := a.Recall(within(t), "ann", adapter.Ask{MessageIDs: []string{"m"}})
		answered <- fmt.Sprint(len(got), err)
	}()
	a.Attach(hosttest.Open(t, host.Config{}))
	if got := <-answered; got != "1 <nil>" {
		t.Error(got)
	}
}

type caller func(method, path, user, body string, header ...string) (status int, answer map[string]any)

// web serves the handler of an adapter; the header User names the user.
func web(t *testing.T, a *adapter.Adapter) caller {
	t.Helper()
	handler := a.Handler(adapter.HTTP{Log: hclog.NewNullLogger(), User: func(r *http.Request) (string, error) {
		switch user := r.Header.Get("User"); user {
		case "":
			return "", adapter.ErrNoSession
		case "broken":
			return "", errors.New("the password of the database is hunter2")
		default:
			return user, nil
		}
	}})
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return func(method, path, user, body string, header ...string) (int, map[string]any) {
		t.Helper()
		r, err := http.NewRequestWithContext(within(t), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User", user)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		answer := map[string]any{"body": string(text)}
		_ = json.Unmarshal(text, &answer)
		return res.StatusCode, answer
	}
}

func result(answer map[string]any) map[string]any {
	list, _ := answer["results"].([]any)
	if len(list) != 1 {
		return map[string]any{}
	}
	return list[0].(map[string]any)
}

func TestHandler(t *testing.T) {
	p := newPlatform()
	a, _ := open(t, p)
	do := web(t, a)
	p.post("m", "ann", team, 0)
	p.post("n", "ann", team, 0)

	status, answer := do("POST", "/check", "ann", `{"targets":[{"message_id":"m"}]}`)
	if r := result(answer); status != 200 || r["status"] != "recalled" || r["until"] == nil || answer["now"] == nil {
		t.Errorf("check: %d %v", status, answer["body"])
	}
	status, answer = do("POST", "/recall", "ann", `{"targets":[{"message_id":"m"}],"reason":"typo","ext":"e"}`,
		"Idempotency-Key", "r")
	if r := result(answer); status != 200 || r["status"] != "recalled" || r["recall_id"] != "r" ||
		r["recalled_by"] != "ann" {
		t.Errorf("recall: %d %v", status, answer["body"])
	}
	if _, answer = do("POST", "/recall", "ben", `{"message_ids":["n"]}`); result(answer)["code"] != "forbidden" {
		t.Errorf("recall of another's: %v", answer["body"])
	}
	for user, told := range map[string]bool{"ann": true, "ben": false, "olga": false} {
		for _, path := range []string{"/since?type=group&id=team", "/ledger?recall_id=r"} {
			status, answer := do("GET", path, user, "")
			body := answer["body"].(string)
			if status != 200 || !strings.Contains(body, `"id":"m"`) || !strings.Contains(body, `"next":`) {
				t.Errorf("%s, %s: %d %s", user, path, status, body)
			}
			if strings.Contains(body, "typo") != told || strings.Contains(body, `"sender":"ann"`) != told {
				t.Errorf("%s is told by %s: %s", user, path, body)
			}
		}
	}
	if _, answer = do("GET", "/ledger?recall_id=r", "zoe", ""); len(answer["entries"].([]any)) != 0 {
		t.Errorf("zoe reads %v", answer["body"])
	}
}

// A wait is written as in /v1.
func TestHandler_Wait(t *testing.T) {
	a, _ := open(t, newPlatform())
	do := web(t, a)
	body := func(wait string) string {
		return `{"targets":[{"message_id":"x","conversation":{"type":"group","id":"team"}}],"wait":` + wait + `}`
	}
	for wait, want := range map[string]time.Duration{
		`"3600s"`: time.Hour, `"604800s"`: shared.MaxWait, `"0.500000001s"`: time.Second / 2, `"0s"`: 0, `null`: 0,
	} {
		began := time.Now()
		status, answer := do("POST", "/check", "ann", body(wait))
		r := result(answer)
		if want == 0 {
			if status != 200 || r["status"] != "not_found" {
				t.Errorf("%s: %d %v", wait, status, answer["body"])
			}
			continue
		}
		text, _ := r["until"].(string)
		until, err := time.Parse(time.RFC3339Nano, text)
		if status != 200 || r["status"] != "waiting" || err != nil || until.Before(began.Add(want-time.Microsecond)) ||
			until.After(time.Now().Add(want+time.Microsecond)) {
			t.Errorf("%s: %d %v", wait, status, answer["body"])
		}
	}
	_, answer := do("POST", "/check", "ann", body("3600"))
	if detail := fmt.Sprint(answer["detail"]); !strings.Contains(detail, `wait: is 3600; want text such as "30s"`) ||
		!strings.Contains(detail, `at most "604800s"`) {
		t.Errorf("a number: %s", detail)
	}
}

func TestHandler_Refused(t *testing.T) {
	p := newPlatform()
	a, _ := open(t, p)
	do := web(t, a)
	long := strings.Repeat("x", 1<<20)
	many := `{"message_ids":["` + strings.Repeat(`","`, 100) + `"]}`
	reason := `{"message_ids":["m"],"reason":"` + long[:2000] + `"}`
	past := `{"message_ids":["m"],"requested_at":"2020-01-01T00:00:00Z"}`
	waits := func(wait string) string { return fmt.Sprintf(`{"targets":[{"message_id":"x"}],"wait":%s}`, wait) }
	both := `{"message_ids":["m"],"targets":[{"message_id":"m"}]}`
	for name, c := range map[string]struct {
		method, path, user, body string
		status                   int
		field                    string
	}{
		"no such path":      {"POST", "/recal", "ann", `{}`, 404, ""},
		"another method":    {"GET", "/recall", "ann", ``, 405, ""},
		"a broken platform": {"POST", "/recall", "broken", `{}`, 500, ""},
		"nobody":            {"POST", "/recall", "", `{}`, 401, ""},
		"no message":        {"POST", "/recall", "ann", `{}`, 400, "message_ids"},
		"an empty id":       {"POST", "/recall", "ann", `{"message_ids":[""]}`, 400, "message_ids[0]"},
		"a long id":         {"POST", "/recall", "ann", `{"message_ids":["` + long[:300] + `"]}`, 400, "message_ids[0]"},
		"twice":             {"POST", "/recall", "ann", `{"message_ids":["m","m"]}`, 400, "message_ids[1]"},
		"too many":          {"POST", "/recall", "ann", many, 400, "message_ids"},
		"a long reason":     {"POST", "/recall", "ann", reason, 400, "reason"},
		"a role":            {"POST", "/recall", "ann", `{"targets":[{"message_id":"m","role":"owner"}]}`, 400, "role"},
		"an actor":          {"POST", "/check", "ann", `{"message_ids":["m"],"actor":{"id":"ben"}}`, 400, "actor"},
		"a time":            {"POST", "/check", "ann", past, 400, "requested_at"},
		"both":              {"POST", "/recall", "ann", both, 400, "message_ids"},
		"a wrong type":      {"POST", "/recall", "ann", `{"message_ids":7}`, 400, "message_ids"},
		"a wait, a number":  {"POST", "/recall", "ann", waits(`3600`), 400, "wait"},
		"a wait of hours":   {"POST", "/recall", "ann", waits(`"1h"`), 400, "wait"},
		"a negative wait":   {"POST", "/recall", "ann", waits(`"-1s"`), 400, "wait"},
		"a long wait":       {"POST", "/check", "ann", waits(`"604801s"`), 400, "wait"},
		"a huge wait":       {"POST", "/check", "ann", waits(`"99999999999999999999s"`), 400, "wait"},
		"a wait alone":      {"POST", "/check", "ann", `{"message_ids":["x"],"wait":"9s"}`, 400, "targets[0].conversation"},
		"no JSON":           {"POST", "/recall", "ann", `m`, 400, "body"},
		"two values":        {"POST", "/recall", "ann", `{}{}`, 400, "body"},
		"half a character":  {"POST", "/recall", "ann", `{"message_ids":["\ud800"]}`, 400, "body"},
		"too large":         {"POST", "/recall", "ann", `{"ext":"` + long + `"}`, 413, "body"},
		"another's room":    {"GET", "/since?type=group&id=other", "ann", "", 404, ""},
		"no conversation":   {"GET", "/since", "ann", "", 400, "id"},
		"one of two rooms":  {"GET", "/since?type=group&id=team&id=other", "ann", "", 404, ""},
		"a ledger's cursor": {"GET", "/ledger?recall_id=r&after=x", "ann", "", 400, "after"},
		"a limit":           {"GET", "/since?type=group&id=team&limit=1001", "ann", "", 400, "limit"},
		"a limit, negative": {"GET", "/ledger?recall_id=r&limit=-1", "ann", "", 400, "limit"},
		"a cursor":          {"GET", "/since?type=group&id=team&after=x", "ann", "", 400, "after"},
		"no recall id":      {"GET", "/ledger", "ann", "", 400, "recall_id"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := do(c.method, c.path, c.user, c.body)
			field := ""
			if list, ok := answer["errors"].([]any); ok {
				field, _ = list[0].(map[string]any)["field"].(string)
			}
			if status != c.status || field != c.field || answer["detail"] == "" || answer["code"] == "" ||
				answer["code"] == nil || strings.Contains(answer["body"].(string), "hunter2") {
				t.Errorf("%d %v, want %d of %q", status, answer, c.status, c.field)
			}
		})
	}
	p.fail = errors.New("database password is hunter2")
	if status, answer := do("POST", "/recall", "ann", `{"message_ids":["m"]}`); status != 500 ||
		strings.Contains(answer["body"].(string), "hunter2") {
		t.Errorf("a platform that fails: %d %v", status, answer)
	}
}

func TestIn(t *testing.T) {
	texts := adapter.Texts{"en": "e", "zh-Hans": "z", "zh-Hant": "t", "de": "d", "pt-BR": "p"}
	for tag, want := range map[string]string{
		"": "e", "en-GB": "e", "zh": "z", "zh-CN": "z", "zh_CN": "z", "zh-TW": "t",
		"zh-Hant-HK": "t", "de": "d", "de-AT": "d", "fr": "e", "pt-br": "p", "no tag at all": "e", "fr-CH, de;q=0.5": "d",
	} {
		if got := adapter.In(tag, texts); got != want {
			t.Errorf("%s: %s, want %s", tag, got, want)
		}
	}
	if got := adapter.In("fr", adapter.Texts{"es": "s", "de": "d"}); got != "d" {
		t.Errorf("without English: %s", got)
	}
}
