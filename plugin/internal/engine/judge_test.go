package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal"
	"github.com/chat-recall/recall/shared"
)

// Unknown comes before recalled, and recalled before the rules.
func TestRecall_OrderOfChecks(t *testing.T) {
	r := newActive(t, "")
	command := r.message("command")
	command.Type = shared.TypeCommand
	foreign := r.message("foreign")
	foreign.Tenant = "other"
	r.index(r.message("live"), r.message("gone"), command, foreign)
	r.recall(request("earlier", "gone"))
	late := 10 * time.Minute

	for _, c := range []struct {
		what   string
		id     string
		actor  string
		role   shared.Role
		recall string
		after  time.Duration
		status shared.RecallStatus
		code   shared.Code
		rule   string
	}{
		{"unknown", "nothing", "ann", "", "r", 0, shared.StatusNotFound, "", ""},
		{"of another tenant", "foreign", "ann", "", "r", 0, shared.StatusNotFound, "", ""},
		{"recalled, the same act", "gone", "ann", "", "earlier", 0, shared.StatusRecalled, "", ""},
		{"recalled, the same act, long after", "gone", "ann", "", "earlier", late, shared.StatusRecalled, "", ""},
		{"recalled, the same act in another role", "gone", "ann", shared.RoleOwner, "earlier", 0, shared.StatusRecalled, "",
			""},
		{"recalled, the same id by another", "gone", "bob", "", "earlier", 0, shared.StatusAlreadyRecalled, "", ""},
		{"recalled, another act", "gone", "ann", "", "r", 0, shared.StatusAlreadyRecalled, "", ""},
		{"recalled, another who may not", "gone", "bob", "", "r", late, shared.StatusAlreadyRecalled, "", ""},
		{"a command", "command", "ann", "", "r", 0, shared.StatusDenied, shared.CodeTypeNotRecallable, "command_messages"},
		{"not the sender", "live", "bob", "", "r", 0, shared.StatusDenied, shared.CodeForbidden, "default_deny"},
		{"too late", "live", "ann", "", "r", 2*time.Minute + time.Microsecond, shared.StatusDenied, shared.CodeWindowExpired,
			"sender_in_window"},
		{"at the last moment", "live", "ann", "", "r", 2 * time.Minute, shared.StatusRecalled, "", "sender_in_window"},
		{"an owner long after", "live", "bob", shared.RoleOwner, "r", late, shared.StatusRecalled, "", "managers_any_time"},
	} {
		r.clock.Advance(c.after)
		req := as(c.actor, c.role, request(c.recall, c.id))
		got, err := r.Check(t.Context(), req)
		r.clock.Advance(-c.after)
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if g := got[0]; g.Status != c.status || g.Code != c.code || g.Rule.Name != c.rule || g.MessageID != c.id {
			t.Errorf("%s: got %+v", c.what, g)
		}
	}
}

// The rules see the labels of the actor, and say what users are told.
func TestCheck_LabelsOfTheActorAndTexts(t *testing.T) {
	r := newActive(t, `
		forbid "guests" {
			when = contains(actor.labels, "guest")
			code = "guest"
			text = { en = "Guests cannot recall messages.", de = "Gäste können nichts zurückrufen." }
		}
		permit "own" {
			sender = true
			window = "1m"
			text   = { en = "Too late: ask a moderator." }
		}
		permit "reasoned" {
			role   = ["admin"]
			reason = "required"
		}`)
	r.index(r.message("m"))
	for _, c := range []struct {
		actor  string
		role   shared.Role
		labels []string
		after  time.Duration
		code   shared.Code
		text   string
	}{
		{"ann", "", []string{"staff", "guest"}, 0, "guest", "Guests cannot recall messages."},
		{"ann", "", []string{"staff"}, 0, "", ""},
		{"ann", "", nil, 2 * time.Minute, shared.CodeWindowExpired, "Too late: ask a moderator."},
		{"bob", "", nil, 0, shared.CodeForbidden, shared.Words(shared.StatusDenied, shared.CodeForbidden)["en"]},
		{"bob", shared.RoleAdmin, nil, 0, shared.CodeReasonRequired,
			shared.Words(shared.StatusDenied, shared.CodeReasonRequired)["en"]},
	} {
		r.clock.Advance(c.after)
		req := as(c.actor, c.role, request("r", "m"))
		req.Actor.Labels = c.labels
		got, err := r.Check(t.Context(), req)
		explained, err2 := r.Explain(t.Context(), req)
		r.clock.Advance(-c.after)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		for _, g := range []shared.RecallResult{got[0], explained[0].Result} {
			if g.Code != c.code || g.Text["en"] != c.text || c.code == "guest" && g.Text["zh-Hans"] != "" {
				t.Errorf("%s %s %q: got %+v", c.actor, c.role, c.labels, g)
			}
		}
	}
}

func TestCheck_AnswersAsRecall(t *testing.T) {
	r := newActive(t, "")
	old := r.message("old")
	old.SentAt = old.SentAt.Add(-time.Hour)
	r.index(r.message("a"), r.message("b"), old)
	r.recall(request("earlier", "b"))
	before := r.metric("recall_index_operations_total")
	req := request("r", "a", "nothing", "old", "b")
	checked, err := r.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if after := r.metric("recall_index_operations_total"); after != before {
		t.Errorf("Check wrote %v operations", after-before)
	}
	if want := r.clock.Now().Add(2 * time.Minute); !checked[0].Until.Equal(want) {
		t.Errorf("it holds until %v, want %v", checked[0].Until, want)
	}
	checked[0].Until = time.Time{}
	if got := r.recall(req); !reflect.DeepEqual(got, checked) {
		t.Errorf("Recall answered\n%+v\nCheck had\n%+v", got, checked)
	}
}

func TestRecall_RepeatedRequest(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"))
	req := request("r", "a")
	first := r.recall(req)[0]
	r.clock.Advance(time.Hour)
	again := r.recall(req)[0]
	first.Rule = shared.Rule{}
	if !reflect.DeepEqual(first, again) {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if n := r.metric("recall_index_sequence"); n != 1 {
		t.Errorf("%v events", n)
	}
}

func TestRecall_Concurrent(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"))
	const racers = 32
	results := make([]shared.RecallResult, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() { results[i] = r.recall(request(fmt.Sprintf("r%d", i), "a"))[0] })
	}
	wg.Wait()
	winner := ""
	for i, x := range results {
		if x.Status == shared.StatusRecalled {
			if winner != "" {
				t.Fatalf("recalls %s and r%d were both answered recalled", winner, i)
			}
			winner = fmt.Sprintf("r%d", i)
		}
	}
	for _, x := range results {
		if x.RecallID != winner || x.RecalledBy != "ann" {
			t.Errorf("recall %s succeeded first, but another request was answered %+v", winner, x)
		}
		if x.Status == shared.StatusAlreadyRecalled && x.Rule != (shared.Rule{}) {
			t.Errorf("a rule is named for a recall that was not made: %+v", x)
		}
	}
}

func TestRecall_MessageInTheRequest(t *testing.T) {
	r := newActive(t, "")
	m := r.message("old")
	m.Labels = []string{"b", "a"}
	r.clock.Advance(time.Minute)
	req := carrying(request("r", "old"), m)
	if got := r.recall(req)[0]; got.Status != shared.StatusRecalled {
		t.Fatalf("got %+v", got)
	}
	m.Labels = []string{"a", "b"} // in any order
	if got := r.recall(carrying(req, m))[0]; got.Status != shared.StatusRecalled {
		t.Errorf("the retry got %+v", got)
	}
}

func TestRecall_FactsOfAnIndexedMessageAreIgnored(t *testing.T) {
	r := newActive(t, "")
	m := r.message("m")
	m.Sender = "bob"
	r.index(m)
	if got := r.recall(carrying(request("r", "m"), r.message("m")))[0]; got.Code != shared.CodeForbidden {
		t.Errorf("ann was judged as its sender: %+v", got)
	}
}

// meddledLog does something between a judgement and its commit, or fails instead of it.
type meddledLog struct {
	journal.Log
	before func()
	fail   error
}

func (l *meddledLog) AppendThen(ops []index.Op, alone bool, then func([]index.Result, error)) {
	if l.fail != nil {
		then(nil, l.fail)
		return
	}
	if l.before != nil {
		l.before()
	}
	l.Log.AppendThen(ops, alone, then)
}

// meddle puts l between the engine and its log.
func (r *rig) meddle(l *meddledLog) {
	l.Log = r.active.log
	r.active.log = l
}

// countedRecalls checks how many results of recalls are counted, by status.
func (r *rig) countedRecalls(want map[shared.RecallStatus]float64) {
	r.t.Helper()
	for _, status := range []shared.RecallStatus{shared.StatusRecalled, shared.StatusAlreadyRecalled,
		shared.StatusDenied, shared.StatusNotFound, shared.StatusAborted} {
		if n := r.metric("recall_recalls_total", "status", string(status)); n != want[status] {
			r.t.Errorf("%v results are counted as %s, want %v", n, status, want[status])
		}
	}
}

// What is forgotten between the judgement and the commit does not come back, unless the request has the facts.
func TestRecall_ForgottenBeforeTheCommit(t *testing.T) {
	for name, c := range map[string]struct {
		carried bool
		want    shared.RecallStatus
	}{"of the index": {false, shared.StatusNotFound}, "of the request": {true, shared.StatusRecalled}} {
		t.Run(name, func(t *testing.T) {
			r := newActive(t, "")
			r.index(r.message("m"))
			log := &meddledLog{}
			log.before = func() {
				log.before = nil
				if got := r.forget(ofAnn); !got.Done || got.Live != 1 {
					t.Errorf("%+v", got)
				}
			}
			r.meddle(log)
			req := request("r", "m")
			if c.carried {
				req = carrying(req, r.message("m"))
			}
			got := r.recall(req)
			if got[0].Status != c.want || (r.state("m") == shared.MessageRecalled) != c.carried {
				t.Errorf("%+v, and the message is %s", got, r.state("m"))
			}
			r.countedRecalls(map[shared.RecallStatus]float64{c.want: 1})
		})
	}
}

func TestRecall_FactsThatChangeBeforeTheCommit(t *testing.T) {
	t.Run("are judged again", func(t *testing.T) {
		r := newActive(t, "")
		log := &meddledLog{}
		log.before = func() {
			log.before = nil
			m := r.message("m")
			m.Sender = "bob"
			r.index(m)
		}
		r.index(r.message("other"))
		r.meddle(log)
		got := r.recall(carrying(request("r", "other", "m"), r.message("m")))
		if got[0].Status != shared.StatusRecalled || got[1].Status != shared.StatusDenied ||
			got[1].Code != shared.CodeForbidden {
			t.Errorf("got %+v", got)
		}
		if l := r.ledger("r"); len(l) != 1 || l[0].Event.Message.ID != "other" {
			t.Errorf("the ledger has %+v", l)
		}
		r.countedRecalls(map[shared.RecallStatus]float64{shared.StatusRecalled: 1, shared.StatusDenied: 1})
	})
	t.Run("are judged again with all of an atomic request", func(t *testing.T) {
		r := newActive(t, "")
		log := &meddledLog{}
		r.index(r.message("other"))
		log.before = func() {
			log.before = nil
			m := r.message("m")
			m.Sender = "bob"
			r.index(m)
		}
		r.meddle(log)
		req := carrying(request("r", "other", "m"), r.message("m"))
		req.Atomic = true
		if got := r.recall(req); got[0].Status != shared.StatusAborted || got[1].Code != shared.CodeForbidden {
			t.Errorf("got %+v", got)
		}
		if l := r.ledger("r"); len(l) != 0 {
			t.Errorf("the ledger has %+v", l)
		}
		r.countedRecalls(map[shared.RecallStatus]float64{shared.StatusAborted: 1, shared.StatusDenied: 1})
	})
	t.Run("are judged by when the request was made", func(t *testing.T) {
		r := newActive(t, onePerHour)
		req := carrying(request("r", "m"), r.message("m"))
		r.clock.Advance(time.Minute)
		arrived := r.clock.Now()
		log := &meddledLog{}
		log.before = func() {
			log.before = nil
			m := r.message("m")
			m.SentAt, m.Ref = req.Targets[0].Message.SentAt, "row 7"
			r.index(m)
			r.clock.Advance(90 * time.Second) // by then the window of m is over
		}
		r.meddle(log)
		req.Held = 10 * time.Second
		asked := arrived.Add(-req.Held)
		if got := r.recall(req)[0]; got.Status != shared.StatusRecalled || !got.RecalledAt.Equal(asked) {
			t.Errorf("got %+v, want it at %s", got, asked)
		}
		r.clock.Advance(asked.Add(time.Hour).Sub(r.clock.Now()) - time.Second)
		r.index(r.message("next"))
		if got := r.recall(request("early", "next"))[0]; got.Code != shared.CodeRateLimited {
			t.Errorf("within the hour: %+v", got)
		}
		r.clock.Advance(time.Second)
		if got := r.recall(request("next", "next"))[0]; got.Status != shared.StatusRecalled {
			t.Errorf("an hour after the request: %+v", got)
		}
	})
	t.Run("again and again", func(t *testing.T) {
		r := newActive(t, "")
		r.index(r.message("m"))
		n := 0
		log := &meddledLog{before: func() {
			n++
			ref := fmt.Sprint(n)
			if got, err := r.active.log.Append(t.Context(), []index.Op{{Amend: &shared.Amendment{
				Tenant: "acme", MessageID: "m", Ref: &ref,
			}}}); err != nil || got[0].Put != shared.IndexAmended {
				t.Errorf("amend: %+v, %v", got, err)
			}
		}}
		r.meddle(log)
		if _, err := r.Recall(t.Context(), request("r", "m")); !errors.Is(err, shared.ErrOverloaded) || n != maxJudgements {
			t.Errorf("after %d changes: %v", n, err)
		}
		r.countedRecalls(nil)
	})
}

func TestRecall_TargetInAnotherConversation(t *testing.T) {
	r := newActive(t, "")
	m := r.message("m")
	m.Conversation.ID = "other"
	r.index(m)
	req := as("mod", shared.RoleOwner, request("r", "m")) // owner of group g
	if got := r.recall(req)[0]; got.Status != shared.StatusNotFound || got.Text["en"] == "" {
		t.Errorf("got %+v", got)
	}
	req.Targets[0].Conversation = m.Conversation
	if got := r.recall(req)[0]; got.Status != shared.StatusRecalled {
		t.Errorf("in its conversation: %+v", got)
	}
	req.Targets[0].Conversation.ID = "g"
	if got := r.recall(req)[0]; got.Status != shared.StatusNotFound {
		t.Errorf("once it is recalled: %+v", got)
	}
	field(t, "no conversation", func() error {
		_, err := r.Recall(t.Context(), shared.RecallRequest{
			Tenant: "acme", Targets: []shared.Target{{MessageID: "m", Role: shared.RoleOwner}}, RecallID: "r",
			Actor: shared.Actor{ID: "mod"},
		})
		return err
	}(), "targets[0].conversation")
}

func TestRecall_Atomic(t *testing.T) {
	r := newActive(t, "")
	theirs := r.message("theirs")
	theirs.Sender = "bob"
	r.index(r.message("a"), r.message("b"), theirs)
	req := request("r", "a", "theirs", "b")
	req.Atomic = true
	for name, call := range map[string]func(context.Context, shared.RecallRequest) ([]shared.RecallResult, error){
		"Check": r.Check, "Recall": r.Recall,
	} {
		got, err := call(t.Context(), req)
		if err != nil || got[0].Status != shared.StatusAborted || got[1].Status != shared.StatusDenied ||
			got[2].Status != shared.StatusAborted || got[0].Text["en"] == "" || got[0].RecallID != "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if l := r.ledger("r"); len(l) != 0 {
		t.Fatalf("recalled all the same: %+v", l)
	}
	r.recall(request("before", "b"))
	req = request("r", "a", "b")
	req.Atomic = true
	if got := r.recall(req); got[0].Status != shared.StatusRecalled || got[1].Status != shared.StatusAlreadyRecalled {
		t.Errorf("one is recalled already: %+v", got)
	}
}

// onePerHour lets senders recall one message an hour.
const onePerHour = `
limit "one" {
  key  = actor.id
  rate = "1/1h"
}
permit "own" {
  sender = true
  limit  = "one"
}
`

func TestCheck_AtomicGivesNothingBack(t *testing.T) {
	r := newActive(t, onePerHour)
	theirs := r.message("theirs")
	theirs.Sender = "bob"
	r.index(r.message("a"), r.message("b"), theirs)
	for _, atomic := range []bool{true, false} { // what is refused as a whole takes nothing of the limit
		req := request("r", "a", "theirs")
		req.Atomic = atomic
		want := shared.StatusRecalled
		if atomic {
			want = shared.StatusAborted
		}
		if got := r.recall(req)[0]; got.Status != want {
			t.Fatalf("atomic %v: %+v", atomic, got)
		}
	}
	req := request("check", "b", "theirs")
	req.Atomic = true
	if got, err := r.Check(t.Context(), req); err != nil || got[0].Code != shared.CodeRateLimited {
		t.Errorf("got %+v, %v", got, err)
	}
	if got := r.recall(request("s", "b"))[0]; got.Code != shared.CodeRateLimited {
		t.Errorf("after an atomic check the limit is free: %+v", got)
	}
}

func TestAmend(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("m"), r.message("gone"))
	r.recall(request("earlier", "gone"))
	ref, room := "row 7", shared.Conversation{Type: shared.ConversationGroup, ID: "renamed"}
	change := func(id string) shared.Amendment {
		return shared.Amendment{Tenant: "acme", MessageID: id, Conversation: &room, Ref: &ref, Labels: []string{"x"}}
	}
	got, err := r.Amend(t.Context(),
		[]shared.Amendment{change("m"), change("m"), change("gone"), change("unknown"), {MessageID: "m"}})
	var statuses []shared.IndexStatus
	for _, x := range got {
		statuses = append(statuses, x.Status)
	}
	want := []shared.IndexStatus{
		shared.IndexAmended, shared.IndexUnchanged, shared.IndexRecalled, shared.IndexNotFound, shared.IndexInvalid,
	}
	if err != nil || !slices.Equal(statuses, want) || got[4].Field != "tenant" {
		t.Fatalf("got %+v, %v", got, err)
	}
	status, err := r.Status(t.Context(), "acme", []string{"m", "gone", "unknown"})
	if err != nil || status[0].Message.Conversation != room || status[0].Message.Ref != ref || status[2].Message != nil {
		t.Errorf("got %+v, %v", status, err)
	}
	req := request("r", "m")
	req.Targets[0].Conversation = room
	if got := r.recall(req)[0]; got.Status != shared.StatusRecalled {
		t.Errorf("in its new conversation: %+v", got)
	}
	if e := r.ledger("r")[0].Event.Message; e.Ref != ref || !slices.Equal(e.Labels, []string{"x"}) {
		t.Errorf("the event has %+v", e)
	}
}

func TestExplain(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("m"))
	before := r.metric("recall_index_operations_total")
	got, err := r.Explain(t.Context(), as("bob", shared.RoleMember, request("r", "m", "unknown")))
	if err != nil || len(got) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if e := got[0]; e.MessageID != "m" || e.Result.Status != shared.StatusDenied || e.Result.Code != shared.CodeForbidden {
		t.Errorf("got %+v", e)
	}
	own := slices.IndexFunc(got[0].Rules, func(r shared.RuleTrace) bool { return r.Name == "sender_in_window" })
	if own < 0 || got[0].Rules[own].Matched || got[0].Rules[own].Kind != "permit" ||
		!slices.Contains(got[0].Rules[own].Conditions,
			shared.RuleCondition{Text: "sender = true", Field: "actor.is_sender", Value: "false"}) {
		t.Errorf("the rules are %+v", got[0].Rules)
	}
	if e := got[1]; e.Result.Status != shared.StatusNotFound || e.Rules != nil {
		t.Errorf("an unknown message: %+v", e)
	}
	if after := r.metric("recall_index_operations_total"); after != before {
		t.Error("an explanation was written")
	}
}

func TestRecall_RequestedAt(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"))
	r.clock.Advance(time.Minute)
	asked := r.clock.Now()
	r.clock.Advance(time.Hour)
	req := request("r", "a")
	req.RequestedAt = asked.Add(300 * time.Nanosecond)
	got := r.recall(req)[0]
	if got.Status != shared.StatusRecalled || !got.RecalledAt.Equal(asked) {
		t.Fatalf("got %+v", got)
	}
	if l := r.ledger("r"); len(l) != 1 || !l[0].Event.RecalledAt.Equal(asked) {
		t.Errorf("ledger %+v", l)
	}
}

func TestRecall_EmptyRole(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"))
	if got := r.recall(request("r", "a"))[0]; got.Role != shared.RoleMember {
		t.Errorf("got %+v", got)
	}
	ledger := r.ledger("r")
	if e := ledger[0].Event; e.Role != shared.RoleMember || e.PolicyDigest == "" || e.Rule.Name != "sender_in_window" {
		t.Errorf("event %+v", e)
	}
}

func TestLedger_OrderOfSteps(t *testing.T) {
	r := newActive(t, "")
	m := r.message("a")
	m.Attachments = []shared.Attachment{{Key: "file"}}
	r.index(m)
	r.recall(request("r", "a"))
	ledger := r.ledger("r")
	var got []string
	for _, s := range ledger[0].Steps {
		got = append(got, s.Step+" "+string(s.Outcome))
	}
	want := "notify ,history ,offline unsupported,roaming unsupported,attachments unsupported,search unsupported,push " +
		"unsupported,wipe "
	if strings.Join(got, ",") != want {
		t.Errorf("got %s", strings.Join(got, ","))
	}
}

func TestStatus_States(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("live"), r.message("gone"))
	r.recall(request("r", "gone"))
	got, err := r.Status(t.Context(), "acme", []string{"gone", "nothing", "live"})
	gone, live := r.message("gone"), r.message("live")
	want := []shared.MessageStatus{
		{MessageID: "gone", State: shared.MessageRecalled, Message: &gone, RecallID: "r", RecalledAt: r.clock.Now()},
		{MessageID: "nothing", State: shared.MessageUnknown},
		{MessageID: "live", State: shared.MessageLive, Message: &live},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if other, err := r.Status(t.Context(), "other", []string{"gone"}); err != nil ||
		other[0].State != shared.MessageUnknown {
		t.Errorf("another tenant got %+v, %v", other, err)
	}
}

func TestIndex_InvalidMessagesAnywhereInABatch(t *testing.T) {
	r := newActive(t, "")
	known, gone := r.message("known"), r.message("gone")
	r.index(known, gone)
	r.recall(request("r", "gone"))
	for invalid := range 8 { // one bit for each message
		msgs := []shared.Message{known, gone, r.message(fmt.Sprint("new", invalid))}
		want := []shared.IndexStatus{shared.IndexUnchanged, shared.IndexRecalled, shared.IndexAdded}
		for i := range msgs {
			if invalid&(1<<i) != 0 {
				msgs[i].Sender, want[i] = "", shared.IndexInvalid
			}
		}
		got, err := r.Index(t.Context(), msgs)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range msgs {
			if got[i].MessageID != m.ID || got[i].Status != want[i] {
				t.Errorf("invalid %03b: message %d got %+v, want %s", invalid, i, got[i], want[i])
			}
		}
	}
}

func TestCalls_InvalidInput(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"), r.message("b"))
	now := r.clock.Now()
	skew := 5 * time.Second
	long := strings.Repeat("x", shared.MaxIDBytes+1)
	many := make([]string, shared.MaxRecallTargets+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	recall := func(change func(*shared.RecallRequest)) func() error {
		return func() error {
			req := request("r", "a")
			change(&req)
			_, err := r.Recall(t.Context(), req)
			_, checkErr := r.Check(t.Context(), req)
			if fmt.Sprint(err) != fmt.Sprint(checkErr) {
				return fmt.Errorf("Recall says %v, Check %v", err, checkErr)
			}
			return err
		}
	}
	index := func(change func(*shared.Message)) func() error {
		return func() error {
			m := r.message("new")
			change(&m)
			got, err := r.Index(t.Context(), []shared.Message{r.message("a"), m, r.message("b")})
			if err != nil {
				return err
			}
			if got[0].Status != shared.IndexUnchanged || got[1].Status != shared.IndexInvalid ||
				got[2].Status != shared.IndexUnchanged {
				return fmt.Errorf("got %+v", got)
			}
			return &shared.FieldError{Field: got[1].Field, Problem: got[1].Problem}
		}
	}
	before := r.metric("recall_index_operations_total")
	for _, c := range []struct {
		what  string
		call  func() error
		field string
	}{
		{"no ids", recall(func(q *shared.RecallRequest) { q.Targets = nil }), "targets"},
		{"101 ids", recall(func(q *shared.RecallRequest) { q.Targets = targets(many...) }), "targets"},
		{"the same id twice", recall(func(q *shared.RecallRequest) { q.Targets = targets("a", "b", "a") }),
			"targets[2].message_id"},
		{"an empty id", recall(func(q *shared.RecallRequest) { q.Targets = targets("a", "") }), "targets[1].message_id"},
		{"a 64 KiB id", recall(func(q *shared.RecallRequest) { q.Targets = targets(strings.Repeat("x", 64<<10)) }),
			"targets[0].message_id"},
		{"a NUL", recall(func(q *shared.RecallRequest) { q.Targets = targets("a\x00b") }), "targets[0].message_id"},
		{"no UTF-8", recall(func(q *shared.RecallRequest) { q.Targets = targets("\xff") }), "targets[0].message_id"},
		{"no tenant", recall(func(q *shared.RecallRequest) { q.Tenant = "" }), "tenant"},
		{"no actor", recall(func(q *shared.RecallRequest) { q.Actor.ID = "" }), "actor.id"},
		{"an unknown role", recall(func(q *shared.RecallRequest) { q.Targets[0].Role = "emperor" }), "targets[0].role"},
		{"no recall id", recall(func(q *shared.RecallRequest) { q.RecallID = "" }), "recall_id"},
		{"a long recall id", recall(func(q *shared.RecallRequest) { q.RecallID = long }), "recall_id"},
		{"a large ext", recall(func(q *shared.RecallRequest) { q.Ext = strings.Repeat("x", shared.MaxExtBytes+1) }), "ext"},
		{"a large reason", recall(func(q *shared.RecallRequest) { q.Reason = strings.Repeat("x", shared.MaxReasonBytes+1) }),
			"reason"},
		{"asked in the future", recall(func(q *shared.RecallRequest) { q.RequestedAt = now.Add(skew + time.Microsecond) }),
			"requested_at"},
		{"asked before it was sent",
			recall(func(q *shared.RecallRequest) { q.RequestedAt = now.Add(-skew - time.Microsecond) }), "requested_at"},
		{"a carried message of another tenant", recall(func(q *shared.RecallRequest) {
			m := r.message("a")
			m.Tenant = "other"
			q.Targets[0].Message = &m
		}), "targets[0].message.tenant"},
		{"a carried message of another id", recall(func(q *shared.RecallRequest) {
			m := r.message("b")
			q.Targets[0].Message = &m
		}), "targets[0].message.id"},
		{"a carried message of another conversation", recall(func(q *shared.RecallRequest) {
			m := r.message("a")
			m.Conversation.ID = "other"
			q.Targets[0].Message = &m
		}), "targets[0].message.conversation"},
		{"a carried message from the future", recall(func(q *shared.RecallRequest) {
			m := r.message("new")
			m.SentAt = now.Add(skew + time.Microsecond)
			*q = carrying(request("r", "a", "new"), m)
		}), "targets[1].message.sent_at"},
		{"a message without id", index(func(m *shared.Message) { m.ID = "" }), "id"},
		{"a message from the future", index(func(m *shared.Message) { m.SentAt = now.Add(skew + time.Microsecond) }),
			"sent_at"},
		{"an unknown type", index(func(m *shared.Message) { m.Type = "hologram" }), "type"},
		{"an unknown conversation type", index(func(m *shared.Message) { m.Conversation.Type = "crowd" }),
			"conversation.type"},
		{"a batch over the limit", func() error {
			_, err := r.Index(t.Context(), make([]shared.Message, shared.MaxIndexBatch+1))
			return err
		}, "messages"},
		{"a status of nothing", func() error { _, err := r.Status(t.Context(), "acme", []string{""}); return err },
			"ids[0]"},
		{"a page over the limit", func() error {
			_, err := r.Since(t.Context(), shared.SinceRequest{Tenant: "acme", Limit: shared.MaxSinceLimit + 1})
			return err
		}, "limit"},
		{"a list over the limit", func() error {
			_, err := r.List(t.Context(), shared.ListRequest{Tenant: "acme", Limit: shared.MaxListLimit + 1})
			return err
		}, "limit"},
		{"a ledger of nothing", func() error {
			_, err := r.Ledger(t.Context(), shared.LedgerRequest{Tenant: "acme"})
			return err
		}, "recall_id"},
		{"an unknown outcome", func() error { return r.settleStep(t.Context(), 1, "notify", "perhaps", "") }, "outcome"},
		{"no outcome", func() error { return r.settleStep(t.Context(), 1, "notify", "", "") }, "outcome"},
		{"a step that is no name", func() error { return r.settleStep(t.Context(), 1, "No Step", shared.OutcomeDone, "") },
			"step"},
		{"a large cause", func() error {
			return r.settleStep(t.Context(), 1, "notify", shared.OutcomeFailed, strings.Repeat("x", shared.MaxStepErrorBytes+1))
		}, "error"},
	} {
		field(t, c.what, c.call(), c.field)
	}
	if after := r.metric("recall_index_operations_total"); after != before {
		t.Errorf("%v operations were applied", after-before)
	}
	// Both ends of what is allowed.
	m := r.message("ahead")
	m.SentAt = now.Add(skew)
	r.index(m)
	req := request("edge", "a", "ahead")
	if got := r.recall(req); got[0].Status != shared.StatusRecalled || got[1].Status != shared.StatusRecalled {
		t.Errorf("a message that is ahead by the clock skew: %+v", got)
	}
	m = r.message("before")
	r.index(m)
	req = request("clocks", "before")
	req.RequestedAt = now.Add(-skew)
	if got := r.recall(req); got[0].Status != shared.StatusRecalled {
		t.Errorf("a request whose clock is behind by the clock skew: %+v", got)
	}
	req = request("ids", "a/b", "né", "a b")
	if got := r.recall(req); got[0].Status != shared.StatusNotFound {
		t.Errorf("ids with odd characters: %+v", got)
	}
}

const limited = `
limit "per_actor" {
  key  = actor.id
  rate = "3/1m"
}

permit "own" {
  sender = true
  window = "1h"
  limit  = "per_actor"
}
`

// Only a recall that is committed spends one: no check, no retry, and none that another recall forestalled.
func TestRecall_RateLimitCountsCommits(t *testing.T) {
	r := newActive(t, limited)
	r.index(r.message("a"), r.message("b"), r.message("c"), r.message("d"))
	for range 5 {
		if got, err := r.Check(t.Context(), request("r", "d")); err != nil || got[0].Status != shared.StatusRecalled {
			t.Fatalf("check got %+v, %v", got, err)
		}
		if got := r.recall(request("r1", "a"))[0]; got.Status != shared.StatusRecalled { // the first one, and retries of it
			t.Fatalf("got %+v", got)
		}
	}
	var wg sync.WaitGroup
	for i := range 8 { // one of them wins
		wg.Go(func() { r.recall(request(fmt.Sprint("racer", i), "b")) })
	}
	wg.Wait()
	if st, err := r.Status(t.Context(), "acme", []string{"b"}); err != nil || st[0].State != shared.MessageRecalled {
		t.Fatalf("the racers did not recall it: %+v, %v", st, err)
	}
	if got := r.recall(request("r3", "c"))[0]; got.Status != shared.StatusRecalled {
		t.Fatalf("got %+v", got)
	}
	got := r.recall(request("r4", "d"))[0]
	if got.Status != shared.StatusDenied || got.Code != shared.CodeRateLimited ||
		!got.RetryAt.Equal(r.clock.Now().Add(time.Minute)) {
		t.Fatalf("got %+v", got)
	}
	if ds, err := r.Reload(t.Context()); err != nil || len(ds) > 0 { // and a reload forgets nothing
		t.Fatal(ds, err)
	}
	if got := r.recall(request("r4", "d"))[0]; got.Code != shared.CodeRateLimited {
		t.Errorf("after a reload: %+v", got)
	}
	r.clock.Advance(time.Minute)
	if got := r.recall(request("r4", "d"))[0]; got.Status != shared.StatusRecalled {
		t.Errorf("after a minute: %+v", got)
	}
}

func TestCheck_RateLimitWithinOneRequest(t *testing.T) {
	r := newActive(t, limited)
	r.index(r.message("a"), r.message("b"), r.message("c"), r.message("d"), r.message("e"))
	r.recall(request("r1", "a"))
	req := request("r2", "b", "c", "d", "e")
	checked, err := r.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for i := range checked {
		checked[i].Until = time.Time{}
	}
	if got := r.recall(req); !reflect.DeepEqual(got, checked) || got[1].Status != shared.StatusRecalled ||
		got[2].Status != shared.StatusDenied {
		t.Errorf("Recall answered\n%+v\nCheck had\n%+v", got, checked)
	}
}

func TestRecall_FailureUsesNoRateLimit(t *testing.T) {
	r := newActive(t, limited)
	r.index(r.message("a"))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	log := &meddledLog{}
	r.meddle(log)
	for _, c := range []struct {
		ctx  context.Context
		fail error
	}{{t.Context(), index.ErrDiskFull}, {t.Context(), shared.ErrUnavailable}, {gone, context.Canceled}} {
		log.fail = c.fail
		for range 3 {
			if _, err := r.Recall(c.ctx, request("r", "a")); !errors.Is(err, c.fail) {
				t.Fatalf("got %v, want %v", err, c.fail)
			}
		}
		if got, err := r.Check(t.Context(), request("r", "a")); err != nil || got[0].Status != shared.StatusRecalled {
			t.Errorf("after three times %v: %+v, %v", c.fail, got, err)
		}
	}
}

func TestRecall_RoleHoldsInItsConversation(t *testing.T) {
	r := newActive(t, "")
	a, b := r.message("a"), r.message("b")
	b.Conversation.ID = "other"
	r.index(a, b)
	for _, role := range []shared.Role{shared.RoleAdmin, shared.RoleOwner} {
		req := as("mod", role, request("check", "unknown", "a", "b"))
		req.Targets[2].Conversation, req.Targets[2].Role = b.Conversation, shared.RoleMember
		got, err := r.Check(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if got[1].Status != shared.StatusRecalled || got[2].Code != shared.CodeForbidden {
			t.Errorf("%s of the conversation of a: %+v", role, got)
		}
	}
	req := as("mod", shared.RoleSystem, request("r", "b", "a"))
	req.Targets[0].Conversation = shared.Conversation{} // the system need not know it
	if got := r.recall(req); got[0].Status != shared.StatusRecalled || got[1].Status != shared.StatusRecalled {
		t.Errorf("the system: %+v", got)
	}
}
