package adapter_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// What a recall tells others than its actor and the sender must not tell what the message was, nor what is the
// server's.
func TestForUser(t *testing.T) {
	e := shared.Event{
		Actor: shared.Actor{ID: "olga", Labels: []string{"staff"}}, Reason: "an {insult}", Ext: "e",
		Message: shared.Message{ID: "m", Conversation: team, Sender: "ann", Type: shared.TypeImage,
			Labels: []string{"reported"}, Ref: "row 7", Attachments: []shared.Attachment{{Key: "k"}},
			Relations: []shared.Relation{{Kind: shared.RelationForward, MessageID: "elsewhere"}}},
		Related:     []shared.Related{{Kind: shared.RelationQuote, MessageID: "elsewhere", Conversation: other}},
		MoreRelated: true,
		Cause:       &shared.Relation{Kind: shared.RelationForward, MessageID: "elsewhere"},
		Attachments: []shared.Attachment{{Key: "k"}}, Rule: shared.Rule{Name: "managers", File: "/etc/rules.hcl", Line: 3},
		PolicyDigest: "abc", Placeholder: map[string]string{"en": "removed: {reason} by {actor}"},
	}
	secrets := []string{`"ann"`, "image", `"k"`, "staff", `"reason"`, "reported", "row 7", "/etc", "abc", "elsewhere",
		"more_related"}
	for user, want := range map[string][]string{
		"ann": {`"ann"`, "image", `"k"`}, "olga": {`"ann"`, "image", `"k"`, "staff", `"reason"`}, "ben": {},
	} {
		text, err := json.Marshal(adapter.ForUser(e, user))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if told := slices.Contains(want, secret); strings.Contains(string(text), secret) != told {
				t.Errorf("%s, %s: %s", user, secret, text)
			}
		}
		if !strings.Contains(string(text), "removed: an (insult) by {actor}") {
			t.Errorf("%s: %s", user, text)
		}
	}
	if e.Placeholder["en"] != "removed: {reason} by {actor}" {
		t.Error("the event itself is changed")
	}
}

// A recall of messages in two rooms: who reads one of them gets pages as if there were no other.
func TestLedger_PartlyVisible(t *testing.T) {
	p := newPlatform()
	p.roles[other]["olga"] = shared.RoleOwner
	a, _ := open(t, p)
	ctx := within(t)
	ask := adapter.Ask{RecallID: "r"}
	for i := range 9 {
		id, room := fmt.Sprint("m", i), team
		if i%3 > 0 {
			room = other
		}
		p.post(id, "olga", room, 0)
		ask.MessageIDs = append(ask.MessageIDs, id)
	}
	if got, err := a.Recall(ctx, "olga", ask); err != nil || strings.Contains(answers(t, got, err), "denied") {
		t.Fatal(got, err)
	}
	var ids []string
	req := shared.LedgerRequest{RecallID: "r", Limit: 1}
	for pages := 1; ; pages++ {
		page, err := a.Ledger(ctx, "ann", req)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			ids = append(ids, e.Event.Message.ID)
		}
		if len(page.Entries) != 1 || page.Next == req.After || page.More != (pages < 3) {
			t.Errorf("page %d: %d entries, next %s, more %t", pages, len(page.Entries), page.Next, page.More)
		}
		if req.After = page.Next; !page.More || pages > 3 {
			break
		}
	}
	if want := []string{"m0", "m3", "m6"}; !slices.Equal(ids, want) {
		t.Errorf("%q, want %q", ids, want)
	}
	for _, req := range []shared.LedgerRequest{{}, {After: req.After}} { // a recall of others is like none
		req.RecallID = "r"
		got, err := a.Ledger(ctx, "eve", req)
		req.RecallID = "none"
		none, err2 := a.Ledger(ctx, "eve", req)
		if err != nil || err2 != nil || !reflect.DeepEqual(got, none) {
			t.Errorf("%+v, %v; of none %+v, %v", got, err, none, err2)
		}
	}
	epoch, _, _ := strings.Cut(req.After, "-")
	void := strings.Repeat("0", len(epoch)) + req.After[len(epoch):]
	page, err := a.Ledger(ctx, "ann", shared.LedgerRequest{RecallID: "r", After: void})
	if err != nil || !page.Reset || page.Entries == nil || len(page.Entries) > 0 || page.More {
		t.Errorf("a cursor of another index: %+v, %v", page, err)
	}
}

// ledgers is a plugin with the ledger of one recall, of messages that are in team or in other.
type ledgers struct {
	plugin
	inTeam  func(i int) bool
	entries int
	calls   int
	read    int // entries
}

func (l *ledgers) Ledger(_ context.Context, req shared.LedgerRequest) (shared.LedgerPage, error) {
	from, _ := strconv.Atoi(req.After)
	req.Limit = cmp.Or(req.Limit, shared.MaxLedgerLimit)
	page := shared.LedgerPage{Next: req.After}
	for i := from; i < l.entries; i++ {
		if len(page.Entries) == req.Limit {
			page.More = true
			break
		}
		e := shared.LedgerEntry{Event: shared.Event{Message: shared.Message{ID: fmt.Sprint(i), Conversation: other}}}
		if l.inTeam(i) {
			e.Event.Message.Conversation = team
		}
		page.Entries, page.Next = append(page.Entries, e), fmt.Sprint(i+1)
	}
	l.calls, l.read = l.calls+1, l.read+len(page.Entries)
	return page, nil
}

// A call examines no more of a ledger than it needs, and a bounded part of it, and the pages have each entry once.
func TestLedger_BoundedReads(t *testing.T) {
	a := adapter.New(adapter.Config{Tenant: "acme", Platform: newPlatform()})
	for name, c := range map[string]struct {
		entries, limit int
		inTeam         func(i int) bool
		calls, read    int // of one request, at most
		short          bool
	}{
		"all visible, one at a time": {300, 1, func(int) bool { return true }, 2, 101, false},
		"all visible":                {250_000, 1000, func(int) bool { return true }, 3, 3000, false},
		"some visible":               {5000, 7, func(i int) bool { return i%9 == 4 }, 2, 200, false},
		"few visible":                {40_000, 5, func(i int) bool { return i%3333 == 1 }, 16, 12_000, true},
		"none visible for long":      {35_000, 0, func(i int) bool { return i == 20 || i > 34_990 }, 10, 10_000, true},
		"none visible":               {9_999, 0, func(int) bool { return false }, 10, 9_999, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := &ledgers{inTeam: c.inTeam, entries: c.entries}
			a.Attach(l)
			var want, got []string
			for i := range c.entries {
				if c.inTeam(i) {
					want = append(want, fmt.Sprint(i))
				}
			}
			req := shared.LedgerRequest{RecallID: "r", Limit: c.limit}
			for {
				l.calls, l.read = 0, 0
				page, err := a.Ledger(t.Context(), "ann", req)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.Entries {
					got = append(got, e.Event.Message.ID)
				}
				if l.calls > c.calls || l.read > c.read {
					t.Fatalf("after %s it made %d calls for %d entries", req.After, l.calls, l.read)
				}
				if page.More && len(page.Entries) < c.limit && !c.short {
					t.Errorf("after %s: %d entries and more", req.After, len(page.Entries))
				}
				if page.More && (page.Next == req.After || len(got) == len(want) && !c.short) {
					t.Fatalf("after %s: next %s, and no more", req.After, page.Next)
				}
				if req.After = page.Next; !page.More {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d entries, want %d", len(got), len(want))
			}
		})
	}
}

// Facts that the platform has wrong are not the fault of the user, and cost their message alone.
func TestRecall_WrongFacts(t *testing.T) {
	p := newPlatform()
	a, _ := open(t, p)
	p.post("good", "ann", team, 0)
	p.post("no sender", "", team, 0)
	p.post("future", "ann", team, -time.Hour)
	got, err := a.Recall(within(t), "olga", adapter.Ask{MessageIDs: []string{"future", "good", "no sender"}})
	if answers(t, got, err) != "not_found recalled not_found" {
		t.Error(got)
	}
}

func TestRecall_RoleForgotten(t *testing.T) {
	p := newPlatform()
	p.roles[team]["ann"] = ""
	a, _ := open(t, p)
	p.post("m", "ann", team, 0)
	if got, err := a.Recall(within(t), "ann", adapter.Ask{MessageIDs: []string{"m"}}); err == nil {
		t.Errorf("a user without a role is answered %v", got)
	}
}

type plugin = shared.Recall

// slowStatus is a plugin that is being restarted when a request comes.
type slowStatus struct {
	plugin
	wait time.Duration
}

func (s slowStatus) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	time.Sleep(s.wait)
	return s.plugin.Status(ctx, tenant, ids)
}

// A window does not run out while a request waits.
func TestRecall_HeldBeforeTheCall(t *testing.T) {
	p := newPlatform()
	a, h := open(t, p)
	a.Attach(slowStatus{h, 6 * time.Second})
	m := p.post("m", "ann", team, 2*time.Minute-5*time.Second)
	m.Tenant = "acme"
	if _, err := h.Index(within(t), []shared.Message{m}); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Recall(within(t), "ann", adapter.Ask{MessageIDs: []string{"m"}}); answers(t, got, err) != "recalled" {
		t.Error(got)
	}
}
