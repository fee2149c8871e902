package chat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// spam sends messages of cleo and dan to the group, one of cleo's two hours ago.
func spam(t *testing.T, s *Server, count int) {
	t.Helper()
	send(t, s, "cleo", Outgoing{ID: "old", Conversation: groupRoom, Text: "said before",
		SentAt: time.Now().Add(-2 * time.Hour)})
	send(t, s, "dan", Outgoing{ID: "dan", Conversation: groupRoom, Text: "said by Dan"})
	for i := range count {
		send(t, s, "cleo", Outgoing{ID: fmt.Sprint("spam", i), Conversation: groupRoom, Text: fmt.Sprint("buy this ", i)})
	}
}

const team = `"conversation":{"type":"group","id":"team"}`

func TestSweep_ModeratorsOnly(t *testing.T) {
	w := newWeb(t)
	spam(t, w.server, 3)
	if status, answer := w.do("POST", "/sweep/start", "ben", `{`+team+`,"sender":"cleo","job_id":"j"}`); status != 200 {
		t.Fatalf("%d %v", status, answer)
	}
	for path, body := range map[string]string{
		"/sweep/preview": `{` + team + `,"sender":"ann"}`, "/sweep/start": `{` + team + `,"sender":"ann","job_id":"k"}`,
		"/sweep/status": `{"job_id":"j"}`, "/sweep/cancel": `{"job_id":"j"}`,
	} {
		for user, want := range map[string]int{"": http.StatusUnauthorized, "dan": http.StatusForbidden} {
			if status, answer := w.do("POST", path, user, body); status != want {
				t.Errorf("%s of %q: %d %v", path, user, status, answer)
			}
		}
	}
	for body, want := range map[string]int{
		`{` + team + `}`: http.StatusBadRequest,
		`{"conversation":{"type":"single","id":"ann-ben"},"sender":"ann"}`: http.StatusForbidden,
		`{"conversation":{"type":"group","id":"none"},"sender":"ann"}`:     http.StatusNotFound,
	} {
		if status, answer := w.do("POST", "/sweep/preview", "ben", body); status != want {
			t.Errorf("%s: %d %v", body, status, answer)
		}
	}
	if status, _ := w.do("POST", "/sweep/status", "ben", `{"job_id":"none"}`); status != http.StatusNotFound {
		t.Errorf("a job that is not there: %d", status)
	}
	if status, _ := w.do("POST", "/sweep/start", "ben", `{`+team+`,"sender":"cleo"}`); status != http.StatusBadRequest {
		t.Errorf("a start without an id: %d", status)
	}
}

func TestSweep_LastHourOfOneSender(t *testing.T) {
	w := newWeb(t)
	spam(t, w.server, 5)
	var preview struct {
		Counts shared.JobCounts
		From   time.Time
	}
	decode := func(answer map[string]any, into any) {
		t.Helper()
		if err := json.Unmarshal([]byte(answer["body"].(string)), into); err != nil {
			t.Fatalf("%v: %v", answer, err)
		}
	}
	_, answer := w.do("POST", "/sweep/preview", "ben", `{`+team+`,"sender":"cleo"}`)
	if decode(answer, &preview); preview.Counts.Recalled != 5 || preview.From.IsZero() {
		t.Fatalf("%v", answer)
	}
	start := fmt.Sprintf(`{%s,"sender":"cleo","job_id":"j","from":%q,"reason":"spam"}`, team,
		preview.From.Format(time.RFC3339Nano))
	for range 2 { // the answer to the first one was lost
		if status, answer := w.do("POST", "/sweep/start", "ben", start); status != http.StatusOK {
			t.Fatalf("%d %v", status, answer)
		}
	}
	var job sweepProgress
	for deadline := time.Now().Add(patience); job.State != shared.JobDone && time.Now().Before(deadline); {
		_, answer := w.do("POST", "/sweep/status", "ben", `{"job_id":"j"}`)
		decode(answer, &job)
	}
	if job.State != shared.JobDone || job.Counts.Recalled != 5 {
		t.Errorf("%+v", job)
	}
	settled(t, w.server, "j-1")
	for user := range map[string]bool{"cleo": true, "dan": true} {
		_, answer := w.do("GET", "/history?type=group&id=team", user, "")
		body := answer["body"].(string)
		if strings.Contains(body, "buy this") || !strings.Contains(body, "said before") ||
			!strings.Contains(body, "said by Dan") {
			t.Errorf("what %s sees: %s", user, body)
		}
	}
}

func TestSweep_Page(t *testing.T) {
	c := newChat(t)
	spam(t, c.Server, 40)
	ben, dan := c.user("ben", "group/team", desktop), c.user("dan", "group/team", desktop)
	last := ben.message("buy this 39")
	dan.menu(dan.message("buy this 39"))
	if eval[bool](dan, `Boolean(document.querySelector('#menu [data-item=sweep]'))`) {
		t.Error("a member is offered to remove what others sent")
	}
	ben.menuWith(ben.message("said by Dan"), "[data-item=sweep]")
	ben.click(`#menu [data-item=sweep]`)
	ben.shows("#sweep-title", "Everything that Dan sent here in the last hour")
	ben.shows("#sweep-words", "1 can be removed; 0 are recalled already.")
	ben.click("#sweep-close")
	ben.menuWith(last, "[data-item=sweep]")
	ben.click(`#menu [data-item=sweep]`)
	ben.shows("#sweep-words", "40 can be removed; 0 are recalled already.")
	ben.shows("#sweep-start", "Remove 40")
	ben.shot("sweep-preview")
	ben.click("#sweep-start")
	hosttest.Kill(t, c.plugin)
	ben.shows("#sweep-words", "40 removed.")
	ben.shot("sweep-done")
	ben.click("#sweep-close")
	for _, tb := range []*tab{ben, dan} {
		tb.wait(`!document.body.innerText.includes('buy this')`)
		tb.holdsNot("buy this")
		tb.shows("#list", "said by Dan")
	}
	dan.shows(".placeholder", "A message of Cleo was removed by an admin")
}

func TestSweep_PageStops(t *testing.T) {
	c, _ := chatWithRules(t, `
limit "few" {
  key  = actor.id
  rate = "2/1h"
}
permit "managers" {
  role   = ["owner", "admin"]
  window = "any"
  reason = "required"
  limit  = "few"
}
`)
	spam(t, c.Server, 5)
	ben := c.user("ben", "group/team", phone)
	ben.menuWith(ben.message("buy this 4"), "[data-item=sweep]")
	ben.click(`#menu [data-item=sweep]`)
	ben.shows("#sweep-words", "Nothing can be removed; 0 are recalled already.")
	ben.shows("#sweep-refused", "reason_required")
	ben.shows("#sweep-refused", "5 stay")
	ben.wait(`!document.querySelector('#sweep-reason').hidden && document.querySelector('#sweep-start').disabled`)
	ben.run(chromedp.SendKeys(chromedp.CSS("#sweep-reason"), "spam"+kb.Tab))
	ben.shows("#sweep-start", "Remove 5")
	ben.wait(`!document.querySelector('#sweep-start').disabled`)
	ben.click("#sweep-start")
	ben.shows("#sweep-words", "2 removed so far. A limit of the rules is reached")
	ben.fits()
	ben.shot("sweep-waits")
	ben.click("#sweep-stop")
	ben.shows("#sweep-words", "Stopped. 2 were removed, and stay so.")
	ben.click("#sweep-close")
	ben.wait(`document.querySelectorAll('.placeholder').length === 2`)
}
