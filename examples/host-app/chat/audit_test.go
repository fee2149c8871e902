package chat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// someRecalls are recalls of two users in two conversations, m0 the oldest, and of each the recall id r-<message>.
func someRecalls(t *testing.T, s *Server) {
	t.Helper()
	for i, of := range []struct {
		sender, actor string
		room          shared.Conversation
	}{
		{"ann", "ann", singleRoom}, {"cleo", "ben", groupRoom}, {"ben", "ben", singleRoom}, {"cleo", "cleo", groupRoom},
	} {
		id := fmt.Sprint("m", i)
		send(t, s, of.sender, Outgoing{ID: id, Conversation: of.room, Text: "a private text"})
		r := takeBack(t, s, of.actor, adapter.Ask{MessageIDs: []string{id}, RecallID: "r-" + id, Reason: "<b>why " + id})
		if r.Status != shared.StatusRecalled {
			t.Fatalf("%+v", r)
		}
		settled(t, s, r.RecallID)
	}
}

// breakRoaming makes the step roaming fail until mend is called.
func breakRoaming(t *testing.T, s *Server) (mend func()) {
	t.Helper()
	rename := func(from, to string) {
		t.Helper()
		if err := s.store.apply(testContext(t), func(tx *writeTx) error {
			return tx.exec("ALTER TABLE " + from + " RENAME TO " + to)
		}); err != nil {
			t.Fatal(err)
		}
	}
	rename("roaming", "away")
	return func() { rename("away", "roaming") }
}

func TestAudit_ComplianceOnly(t *testing.T) {
	w := newWeb(t)
	someRecalls(t, w.server)
	for _, path := range []string{"/audit/choices", "/audit/recalls", "/audit/export"} {
		for _, user := range []string{"", "ann", "ben", "eve"} {
			if status, answer := w.do("GET", path, user, ""); status != http.StatusForbidden ||
				strings.Contains(answer["body"].(string), "recall_id") {
				t.Errorf("%s of %q: %d %v", path, user, status, answer)
			}
		}
		if status, answer := w.do("GET", path, "vera", ""); status != http.StatusOK {
			t.Errorf("%s: %d %v", path, status, answer)
		}
	}
	for _, path := range []string{"/conversations", "/history?type=group&id=team", "/stream"} {
		if status, _ := w.do("GET", path, "vera", ""); status != http.StatusUnauthorized {
			t.Errorf("compliance is a user of the chat: %s %d", path, status)
		}
	}
}

func TestAudit_Filters(t *testing.T) {
	w := newWeb(t)
	someRecalls(t, w.server)
	later := url.QueryEscape(time.Now().Add(time.Minute).Format(time.RFC3339))
	for query, want := range map[string]string{
		"": "m3 m2 m1 m0", "actor=ben": "m2 m1", "sender=cleo": "m3 m1", "type=single&id=ann-ben": "m2 m0",
		"rule=managers_any_time": "m1", "from=" + later: "", "before=" + later: "m3 m2 m1 m0", "steps=open": "",
		"job_id=j":             "",
		"actor=ben&sender=ben": "m2",
	} {
		status, answer := w.do("GET", "/audit/recalls?"+query, "vera", "")
		var page struct{ Entries []shared.LedgerEntry }
		if err := json.Unmarshal([]byte(answer["body"].(string)), &page); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %v", query, status, answer)
		}
		var got []string
		for _, e := range page.Entries {
			got = append(got, e.Event.Message.ID)
			if len(e.Steps) != 7 || e.Steps[0].Step != shared.StepNotify || e.Steps[0].Outcome != shared.OutcomeDone {
				t.Errorf("%s: the steps of %s are %+v", query, e.Event.Message.ID, e.Steps)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
		if strings.Contains(answer["body"].(string), "private text") {
			t.Error("the audit view has a text")
		}
		_, answer = w.do("GET", "/audit/export?"+query, "vera", "")
		got = nil
		for lines := bufio.NewScanner(strings.NewReader(answer["body"].(string))); lines.Scan(); {
			var e shared.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatalf("%s: %v", lines.Text(), err)
			}
			got = append(got, e.Message.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("the export of %s: %v, want %s", query, got, want)
		}
	}
	for query, field := range map[string]string{
		"from=yesterday": "from", "steps=done": "steps", "type=crowd&id=x": "conversation.type", "after=x": "after",
	} {
		for _, path := range []string{"/audit/recalls?", "/audit/export?"} {
			status, answer := w.do("GET", path+query, "vera", "")
			if errs, ok := answer["errors"].([]any); status != http.StatusBadRequest || !ok ||
				errs[0].(map[string]any)["field"] != field {
				t.Errorf("%s%s: %d %v", path, query, status, answer)
			}
		}
	}
}

// Messages that were recalled under one id have their own steps.
func TestAudit_ManyOfOneRecall(t *testing.T) {
	w := newWeb(t)
	var ids []string
	for i := range auditPage + 10 {
		ids = append(ids, fmt.Sprint("m", i))
		send(t, w.server, "cleo", Outgoing{ID: ids[i], Conversation: groupRoom, Text: "x"})
	}
	takeBack(t, w.server, "ben", adapter.Ask{MessageIDs: ids, RecallID: "r"})
	settled(t, w.server, "r")
	var page struct {
		Entries []shared.LedgerEntry
		Next    string
		More    bool
	}
	seen := 0
	for after, more := "", true; more; {
		_, answer := w.do("GET", "/audit/recalls?after="+after, "vera", "")
		if err := json.Unmarshal([]byte(answer["body"].(string)), &page); err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			if len(e.Steps) != 7 {
				t.Errorf("%s has %d steps", e.Event.Message.ID, len(e.Steps))
			}
		}
		seen += len(page.Entries)
		after, more = page.Next, page.More
	}
	if seen != len(ids) {
		t.Errorf("%d of %d recalls", seen, len(ids))
	}
}

// brokenList answers the first page of one recall, and no other.
type brokenList struct{ pluginAPI }

func (b brokenList) List(ctx context.Context, req shared.ListRequest) (shared.EventPage, error) {
	if req.After != "" {
		return shared.EventPage{}, errors.New("broken")
	}
	req.Limit = 1
	return b.pluginAPI.List(ctx, req)
}

func TestAudit_ExportBreaksOff(t *testing.T) {
	w := newWeb(t)
	someRecalls(t, w.server)
	w.server.recall = brokenList{w.server.recall}
	answer, err := w.client.Get(w.url + "/audit/export?user=vera")
	if err != nil {
		return // broken off before the header was read
	}
	defer answer.Body.Close()
	if _, err := bufio.NewReader(answer.Body).WriteTo(discard{}); err == nil {
		t.Error("an incomplete export ends as if it were complete")
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// choose sets a filter as a person does.
func choose(tb *tab, name, value string) {
	tb.t.Helper()
	eval[any](tb, `(() => {
		const field = document.querySelector('#filters [name=`+name+`]');
		field.value = `+quoted(value)+`;
		field.dispatchEvent(new Event('input', { bubbles: true }));
	})()`)
}

func TestAudit_Page(t *testing.T) {
	c := newChat(t)
	someRecalls(t, c.Server)
	start := c.open("/", desktop)
	start.wait(`document.querySelector('[href="/audit?user=vera"]')`)
	vera := c.open("/audit?user=vera", desktop)
	messages := func(want string) {
		t.Helper()
		vera.wait(`[...document.querySelectorAll('#recalls > li')].map((li) => li.dataset.message).join(' ') === %s`,
			quoted(want))
	}
	filter := func(name, value string) {
		t.Helper()
		choose(vera, name, value)
		vera.click("#filters [type=submit]")
	}
	messages("m3 m2 m1 m0")
	vera.shows("#count", "4 listed")
	vera.shows("#recalls li:nth-child(3)", "Ben (admin) took back a message of Cleo")
	vera.shows("#recalls .pill", "settled")
	vera.click("#recalls summary")
	vera.shows("#recalls", "<b>why m3")
	vera.wait(`document.querySelectorAll('#recalls li:first-child tbody tr').length === 7`)
	vera.shows("#recalls tbody tr:first-child", "notify")
	vera.holdsNot("private text")

	filter("actor", "ben")
	messages("m2 m1")
	filter("sender", "cleo")
	messages("m1")
	vera.shows("#count", "1 listed")
	filter("rule", "nothing")
	messages("")
	vera.shows("#none", "No recall matches.")
	for _, name := range []string{"actor", "sender", "rule"} {
		filter(name, "")
	}
	filter("conversation", "single/ann-ben")
	messages("m2 m0")
	filter("conversation", "")
	filter("before", "2026-01-01T00:00:00")
	messages("")
	filter("before", "")

	send(t, c.Server, "ann", Outgoing{ID: "m4", Conversation: singleRoom, Text: "a private text"})
	mend := breakRoaming(t, c.Server)
	takeBack(t, c.Server, "ann", adapter.Ask{MessageIDs: []string{"m4"}})
	for eval[int](vera, `fetch('/audit/recalls?user=vera&steps=failed').then((r) => r.json())
		.then((p) => p.entries.length)`) == 0 {
		select {
		case <-time.After(10 * time.Millisecond): // polling, bounded by the context
		case <-testContext(t).Done():
			t.Fatal("no step has failed")
		}
	}
	filter("steps", "failed")
	messages("m4")
	vera.shows("#recalls .pill", "failed")
	vera.click("#recalls summary")
	vera.shows("#recalls tbody", "failed, tried again: ")
	mend()
	vera.click("#language")
	vera.shows("#h-filters", "筛选")
	vera.shows("#recalls .pill", "失败")

	ann := c.open("/audit?user=ann", desktop)
	ann.shows("#off", "only compliance may see this")
	ann.wait(`document.querySelectorAll('#recalls > li').length === 0`)
}

func TestAudit_PageDownloads(t *testing.T) {
	c := newChat(t)
	someRecalls(t, c.Server)
	vera := c.open("/audit?user=vera", desktop)
	folder := t.TempDir()
	command(vera, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: folder,
		BrowserContextID: chromedp.FromContext(vera.ctx).BrowserContextID,
	})
	vera.wait(`document.querySelectorAll('#recalls > li').length === 4`)
	choose(vera, "actor", "ben")
	vera.click("#export")
	path := filepath.Join(folder, "recalls.jsonl")
	for ctx := testContext(t); ; {
		if text, err := os.ReadFile(path); err == nil {
			if n := strings.Count(string(text), "\n"); n != 2 {
				t.Errorf("%d lines: %s", n, text)
			}
			return
		}
		select {
		case <-time.After(10 * time.Millisecond): // polling, bounded by ctx
		case <-ctx.Done():
			t.Fatal("no download")
		}
	}
}

// More than a page is listed page by page.
func TestAudit_PageMore(t *testing.T) {
	c := newChat(t)
	var ids []string
	for i := range 2*auditPage - 3 {
		ids = append(ids, fmt.Sprint("m", i))
		send(t, c.Server, "cleo", Outgoing{ID: ids[i], Conversation: groupRoom, Text: "x"})
	}
	takeBack(t, c.Server, "ben", adapter.Ask{MessageIDs: ids, RecallID: "r"})
	vera := c.open("/audit?user=vera", desktop)
	vera.shows("#count", fmt.Sprint(auditPage, " listed, and more"))
	vera.click("#more")
	vera.shows("#count", fmt.Sprint(len(ids), " listed"))
	vera.wait(`document.querySelector('#more').hidden`)
	n := eval[int](vera,
		`new Set([...document.querySelectorAll('#recalls > li')].map((li) => li.dataset.message)).size`)
	if n != len(ids) {
		t.Errorf("%d different recalls of %d", n, len(ids))
	}
}
