package service

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/plugin/internal/index"
	"github.com/chat-recall/recall/shared"
)

// Unknown comes before recalled, and recalled before the rules.
func TestOrderOfJudgement(t *testing.T) {
	r := newActive(t, "")
	command := r.message("command")
	command.Type = shared.Command
	foreign := r.message("foreign")
	foreign.Tenant = "other"
	r.index(r.message("live"), r.message("gone"), command, foreign)
	r.recall(request("earlier", "gone"))
	late := 10 * time.Minute

	for _, c := range []struct {
		what   string
		id     string
		actor  shared.Actor
		recall string
		after  time.Duration
		status shared.RecallStatus
		code   shared.Code
		rule   string
	}{
		{"unknown", "nothing", shared.Actor{ID: "ann"}, "r", 0, shared.NotFound, "", ""},
		{"of another tenant", "foreign", shared.Actor{ID: "ann"}, "r", 0, shared.NotFound, "", ""},
		{"recalled, the same act", "gone", shared.Actor{ID: "ann"}, "earlier", 0, shared.Recalled, "", ""},
		{"recalled, the same act, long after", "gone", shared.Actor{ID: "ann"}, "earlier", late, shared.Recalled, "", ""},
		{"recalled, the same act in another role", "gone", shared.Actor{ID: "ann", Role: shared.Owner}, "earlier", 0, shared.Recalled, "", ""},
		{"recalled, the same id by another", "gone", shared.Actor{ID: "bob"}, "earlier", 0, shared.AlreadyRecalled, "", ""},
		{"recalled, another act", "gone", shared.Actor{ID: "ann"}, "r", 0, shared.AlreadyRecalled, "", ""},
		{"recalled, another who may not", "gone", shared.Actor{ID: "bob"}, "r", late, shared.AlreadyRecalled, "", ""},
		{"a command", "command", shared.Actor{ID: "ann"}, "r", 0, shared.Denied, shared.CodeTypeNotRecallable, "command_messages"},
		{"not the sender", "live", shared.Actor{ID: "bob"}, "r", 0, shared.Denied, shared.CodeForbidden, "default_deny"},
		{"too late", "live", shared.Actor{ID: "ann"}, "r", 2*time.Minute + time.Microsecond, shared.Denied, shared.CodeWindowExpired, "sender_in_window"},
		{"at the last moment", "live", shared.Actor{ID: "ann"}, "r", 2 * time.Minute, shared.Recalled, "", "sender_in_window"},
		{"an owner long after", "live", shared.Actor{ID: "bob", Role: shared.Owner}, "r", late, shared.Recalled, "", "managers_any_time"},
	} {
		r.clock.advance(c.after)
		req := request(c.recall, c.id)
		req.Actor = c.actor
		got, err := r.Check(t.Context(), req)
		r.clock.advance(-c.after)
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if g := got[0]; g.Status != c.status || g.Code != c.code || g.Rule.Name != c.rule || g.MessageID != c.id {
			t.Errorf("%s: got %+v", c.what, g)
		}
	}
}

func TestCheckAnswersAsRecallWouldAndChangesNothing(t *testing.T) {
	r := newActive(t, "")
	old := r.message("old")
	old.SentAt = old.SentAt.Add(-time.Hour)
	r.index(r.message("a"), r.message("b"), old)
	r.recall(request("earlier", "b"))
	before := r.metric("index_operations_total")
	req := request("r", "a", "nothing", "old", "b")
	checked, err := r.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if after := r.metric("index_operations_total"); after != before {
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

func TestARetryIsTheSameActAndMakesNoSecondEvent(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"))
	req := request("r", "a")
	first := r.recall(req)[0]
	r.clock.advance(time.Hour)
	again := r.recall(req)[0]
	first.Rule = shared.Rule{}
	if !reflect.DeepEqual(first, again) {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if n := r.metric("index_sequence"); n != 1 {
		t.Errorf("%v events", n)
	}
}

func TestOfRacingRecallsOneWinsAndTheOthersNameIt(t *testing.T) {
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
		if x.Status == shared.Recalled {
			if winner != "" {
				t.Fatalf("%s and r%d won", winner, i)
			}
			winner = fmt.Sprintf("r%d", i)
		}
	}
	for _, x := range results {
		if x.RecallID != winner || x.RecalledBy.ID != "ann" {
			t.Errorf("%s won, and one was told %+v", winner, x)
		}
		if x.Status == shared.AlreadyRecalled && x.Rule != (shared.Rule{}) {
			t.Errorf("a rule is named for a recall that was not made: %+v", x)
		}
	}
}

func TestACarriedMessageIsIndexedAndRecalledTogether(t *testing.T) {
	r := newActive(t, "")
	m := r.message("old")
	m.Labels = []string{"b", "a"}
	r.clock.advance(time.Minute)
	req := request("r", "old")
	req.Messages = []shared.Message{m}
	if got := r.recall(req)[0]; got.Status != shared.Recalled {
		t.Fatalf("got %+v", got)
	}
	m.Labels = []string{"a", "b"} // in any order
	req.Messages = []shared.Message{m}
	if got := r.recall(req)[0]; got.Status != shared.Recalled {
		t.Errorf("the retry got %+v", got)
	}
	m.Sender = "bob"
	req.Messages = []shared.Message{m}
	_, err := r.Recall(t.Context(), req)
	field(t, "other facts", err, "messages[0]")
}

// meddledLog does something between a judgement and its commit, or fails instead of it.
type meddledLog struct {
	index.Log
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

// meddle puts l between the service and its log.
func (r *rig) meddle(l *meddledLog) {
	l.Log = r.active.log
	r.active.log = l
}

func TestACarriedMessageThatIsIndexedMeanwhileWithOtherFactsIsRefused(t *testing.T) {
	r := newActive(t, "")
	m := r.message("m")
	req := request("r")
	for i := range 40 { // more than one transaction before it
		other := r.message(fmt.Sprint("other", i))
		for k := range 90 {
			other.Attachments = append(other.Attachments, fmt.Sprint(i, "/", k, "/", strings.Repeat("x", 1900)))
		}
		r.index(other)
		req.MessageIDs = append(req.MessageIDs, other.ID)
	}
	req.MessageIDs = append(req.MessageIDs, "m")
	req.Messages = []shared.Message{m}
	m.Sender = "bob"
	log := &meddledLog{}
	log.before = func() {
		log.before = nil
		r.index(m)
	}
	r.meddle(log)
	_, err := r.Recall(t.Context(), req)
	field(t, "other facts", err, "messages")
	if l, err := r.Ledger(t.Context(), "acme", "r"); err != nil || len(l.Entries) > 0 {
		t.Errorf("recalled all the same: %+v, %v", l, err)
	}
}

func TestAWaitingRequestIsJudgedByWhenItWasMade(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"))
	r.clock.advance(time.Minute)
	asked := r.clock.Now()
	r.clock.advance(time.Hour)
	req := request("r", "a")
	req.RequestedAt = asked.Add(300 * time.Nanosecond)
	got := r.recall(req)[0]
	if got.Status != shared.Recalled || !got.RecalledAt.Equal(asked) {
		t.Fatalf("got %+v", got)
	}
	ledger, err := r.Ledger(t.Context(), "acme", "r")
	if err != nil || len(ledger.Entries) != 1 || !ledger.Entries[0].Event.RecalledAt.Equal(asked) {
		t.Errorf("ledger %+v, %v", ledger, err)
	}
}

func TestNoRoleIsMemberAlsoInTheEvent(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"))
	if got := r.recall(request("r", "a"))[0]; got.RecalledBy.Role != shared.Member {
		t.Errorf("got %+v", got)
	}
	ledger, err := r.Ledger(t.Context(), "acme", "r")
	if err != nil {
		t.Fatal(err)
	}
	if e := ledger.Entries[0].Event; e.Actor.Role != shared.Member || e.PolicyDigest == "" || e.Rule.Name != "sender_in_window" {
		t.Errorf("event %+v", e)
	}
}

func TestTheLedgerListsStandardStepsThenTheHostsOwn(t *testing.T) {
	r := newActive(t, "")
	m := r.message("a")
	m.Attachments = []string{"file"}
	r.index(m)
	r.recall(request("r", "a"))
	ledger, err := r.Ledger(t.Context(), "acme", "r")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range ledger.Entries[0].Steps {
		got = append(got, s.Step+" "+string(s.Outcome))
	}
	want := "notify ,history ,offline unsupported,roaming unsupported,attachments unsupported,search unsupported,push unsupported,wipe "
	if strings.Join(got, ",") != want {
		t.Errorf("got %s", strings.Join(got, ","))
	}
}

func TestStatusTellsUnknownLiveAndRecalledApart(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("live"), r.message("gone"))
	r.recall(request("r", "gone"))
	got, err := r.Status(t.Context(), "acme", []string{"gone", "nothing", "live"})
	want := []shared.MessageStatus{
		{MessageID: "gone", State: shared.MessageRecalled, RecallID: "r", RecalledAt: r.clock.Now()},
		{MessageID: "nothing", State: shared.MessageUnknown},
		{MessageID: "live", State: shared.MessageLive},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if other, err := r.Status(t.Context(), "other", []string{"gone"}); err != nil || other[0].State != shared.MessageUnknown {
		t.Errorf("another tenant got %+v, %v", other, err)
	}
}

func TestBadInputIsRefusedByItsFieldAndNothingOfItIsDone(t *testing.T) {
	r := newActive(t, "")
	r.index(r.message("a"), r.message("b"))
	now := r.clock.Now()
	skew := 5 * time.Second
	long := strings.Repeat("x", shared.MaxIDBytes+1)
	many := make([]string, shared.MaxRecallIDs+1)
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
			_, err := r.Index(t.Context(), []shared.Message{r.message("good"), m})
			return err
		}
	}
	before := r.metric("index_operations_total")
	for _, c := range []struct {
		what  string
		call  func() error
		field string
	}{
		{"no ids", recall(func(q *shared.RecallRequest) { q.MessageIDs = nil }), "message_ids"},
		{"101 ids", recall(func(q *shared.RecallRequest) { q.MessageIDs = many }), "message_ids"},
		{"the same id twice", recall(func(q *shared.RecallRequest) { q.MessageIDs = []string{"a", "b", "a"} }), "message_ids[2]"},
		{"an empty id", recall(func(q *shared.RecallRequest) { q.MessageIDs = []string{"a", ""} }), "message_ids[1]"},
		{"a 64 KiB id", recall(func(q *shared.RecallRequest) { q.MessageIDs = []string{strings.Repeat("x", 64<<10)} }), "message_ids[0]"},
		{"a NUL", recall(func(q *shared.RecallRequest) { q.MessageIDs = []string{"a\x00b"} }), "message_ids[0]"},
		{"no UTF-8", recall(func(q *shared.RecallRequest) { q.MessageIDs = []string{"\xff"} }), "message_ids[0]"},
		{"no tenant", recall(func(q *shared.RecallRequest) { q.Tenant = "" }), "tenant"},
		{"no actor", recall(func(q *shared.RecallRequest) { q.Actor.ID = "" }), "actor.id"},
		{"an unknown role", recall(func(q *shared.RecallRequest) { q.Actor.Role = "emperor" }), "actor.role"},
		{"no recall id", recall(func(q *shared.RecallRequest) { q.RecallID = "" }), "recall_id"},
		{"a long recall id", recall(func(q *shared.RecallRequest) { q.RecallID = long }), "recall_id"},
		{"a large ext", recall(func(q *shared.RecallRequest) { q.Ext = strings.Repeat("x", shared.MaxExtBytes+1) }), "ext"},
		{"a large reason", recall(func(q *shared.RecallRequest) { q.Reason = strings.Repeat("x", shared.MaxReasonBytes+1) }), "reason"},
		{"asked in the future", recall(func(q *shared.RecallRequest) { q.RequestedAt = now.Add(skew + time.Microsecond) }), "requested_at"},
		{"asked before it was sent", recall(func(q *shared.RecallRequest) { q.RequestedAt = now.Add(-skew - time.Microsecond) }), "requested_at"},
		{"a carried message of another tenant", recall(func(q *shared.RecallRequest) {
			m := r.message("a")
			m.Tenant = "other"
			q.Messages = []shared.Message{m}
		}), "messages[0].tenant"},
		{"a carried message with other facts", recall(func(q *shared.RecallRequest) {
			m := r.message("a")
			m.Type = shared.Image
			q.Messages = []shared.Message{m}
		}), "messages[0]"},
		{"a carried message from the future", recall(func(q *shared.RecallRequest) {
			m := r.message("new")
			m.SentAt = now.Add(skew + time.Microsecond)
			q.MessageIDs, q.Messages = []string{"a", "new"}, []shared.Message{m}
		}), "messages[0].sent_at"},
		{"a message without id", index(func(m *shared.Message) { m.ID = "" }), "messages[1].id"},
		{"a message from the future", index(func(m *shared.Message) { m.SentAt = now.Add(skew + time.Microsecond) }), "messages[1].sent_at"},
		{"an unknown type", index(func(m *shared.Message) { m.Type = "hologram" }), "messages[1].type"},
		{"an unknown conversation type", index(func(m *shared.Message) { m.Conversation.Type = "crowd" }), "messages[1].conversation.type"},
		{"a batch over the limit", func() error {
			_, err := r.Index(t.Context(), make([]shared.Message, shared.MaxIndexBatch+1))
			return err
		}, "messages"},
		{"a status of nothing", func() error { _, err := r.Status(t.Context(), "acme", []string{""}); return err }, "message_ids[0]"},
		{"a page over the limit", func() error {
			_, err := r.Since(t.Context(), shared.SinceRequest{Tenant: "acme", Limit: shared.MaxSinceLimit + 1})
			return err
		}, "limit"},
		{"a ledger of nothing", func() error { _, err := r.Ledger(t.Context(), "acme", ""); return err }, "recall_id"},
		{"an unknown outcome", func() error { return r.Settle(t.Context(), 1, "notify", "perhaps", "") }, "outcome"},
		{"no outcome", func() error { return r.Settle(t.Context(), 1, "notify", "", "") }, "outcome"},
		{"a step that is no name", func() error { return r.Settle(t.Context(), 1, "No Step", shared.OutcomeDone, "") }, "step"},
		{"a large cause", func() error {
			return r.Settle(t.Context(), 1, "notify", shared.OutcomeFailed, strings.Repeat("x", shared.MaxStepErrorBytes+1))
		}, "error"},
	} {
		field(t, c.what, c.call(), c.field)
	}
	if after := r.metric("index_operations_total"); after != before {
		t.Errorf("%v operations were applied", after-before)
	}
	// Both ends of what is allowed.
	m := r.message("ahead")
	m.SentAt = now.Add(skew)
	r.index(m)
	req := request("edge", "a", "ahead")
	if got := r.recall(req); got[0].Status != shared.Recalled || got[1].Status != shared.Recalled {
		t.Errorf("a message that is ahead by the clock skew: %+v", got)
	}
	m = r.message("before")
	r.index(m)
	req = request("clocks", "before")
	req.RequestedAt = now.Add(-skew)
	if got := r.recall(req); got[0].Status != shared.Recalled {
		t.Errorf("a request whose clock is behind by the clock skew: %+v", got)
	}
	req = request("ids", "a/b", "né", "a b")
	if got := r.recall(req); got[0].Status != shared.NotFound {
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
func TestOnlyACommittedRecallSpendsOfALimit(t *testing.T) {
	r := newActive(t, limited)
	r.index(r.message("a"), r.message("b"), r.message("c"), r.message("d"))
	for range 5 {
		if got, err := r.Check(t.Context(), request("r", "d")); err != nil || got[0].Status != shared.Recalled {
			t.Fatalf("check got %+v, %v", got, err)
		}
		if got := r.recall(request("r1", "a"))[0]; got.Status != shared.Recalled { // the first one, and retries of it
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
	if got := r.recall(request("r3", "c"))[0]; got.Status != shared.Recalled {
		t.Fatalf("got %+v", got)
	}
	got := r.recall(request("r4", "d"))[0]
	if got.Status != shared.Denied || got.Code != shared.CodeRateLimited || !got.RetryAt.Equal(r.clock.Now().Add(time.Minute)) {
		t.Fatalf("got %+v", got)
	}
	if ds, err := r.Reload(t.Context()); err != nil || len(ds) > 0 { // and a reload forgets nothing
		t.Fatal(ds, err)
	}
	if got := r.recall(request("r4", "d"))[0]; got.Code != shared.CodeRateLimited {
		t.Errorf("after a reload: %+v", got)
	}
	r.clock.advance(time.Minute)
	if got := r.recall(request("r4", "d"))[0]; got.Status != shared.Recalled {
		t.Errorf("after a minute: %+v", got)
	}
}

func TestACheckOfMoreThanALimitHasRoomForAnswersAsTheRecallDoes(t *testing.T) {
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
	if got := r.recall(req); !reflect.DeepEqual(got, checked) || got[1].Status != shared.Recalled || got[2].Status != shared.Denied {
		t.Errorf("Recall answered\n%+v\nCheck had\n%+v", got, checked)
	}
}

func TestARecallThatFailedSpendsNothingOfALimit(t *testing.T) {
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
		if got, err := r.Check(t.Context(), request("r", "a")); err != nil || got[0].Status != shared.Recalled {
			t.Errorf("after three times %v: %+v, %v", c.fail, got, err)
		}
	}
}

func TestRecall_RoleHoldsInOneConversation(t *testing.T) {
	r := newActive(t, "")
	a, b, own := r.message("a"), r.message("b"), r.message("own")
	b.Conversation.ID, own.Conversation.ID = "other", "other"
	own.Sender = "mod"
	r.index(a, b, own)
	for _, role := range []shared.Role{shared.Admin, shared.Owner} {
		req := request("check", "unknown", "a", "b", "own")
		req.Actor = shared.Actor{ID: "mod", Role: role}
		got, err := r.Check(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if got[1].Status != shared.Recalled || got[2].Status != shared.Denied || got[2].Code != shared.CodeForbidden ||
			got[3].Status != shared.Recalled {
			t.Errorf("%s of the conversation of a: %+v", role, got)
		}
	}
	req := request("r", "b", "a")
	req.Actor = shared.Actor{ID: "mod", Role: shared.System}
	if got := r.recall(req); got[0].Status != shared.Recalled || got[1].Status != shared.Recalled {
		t.Errorf("the system: %+v", got)
	}
}
