package host_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// What recall does beyond one message, through the plugin as a process: what relates to a message, and what comes
// before it.

var room = shared.Conversation{Type: shared.ConversationGroup, ID: "room"}

// depth is a host whose plugin cascades quotes and forwards, and holds what is labeled so.
type depth struct {
	*host.Host
	t   *testing.T
	ctx context.Context
	now time.Time
}

func openDepth(t *testing.T) *depth {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.hcl")
	rules := `
permit "own" {
  sender = true
  window = "2m"
  on_recall { cascade = ["quote", "forward"] }
}
permit "moderators" {
  role   = ["admin", "owner"]
  sender = false
  window = "any"
}
forbid "hold" {
  when = contains(message.labels, "hold")
  code = "held"
}
`
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	h := hosttest.Open(t, host.Config{Rules: host.RulesConfig{Paths: []string{file}}})
	return &depth{Host: h, t: t, ctx: within(t), now: time.Now()}
}

// sent is a message of ann that was sent a while ago.
func (d *depth) sent(id string, ago time.Duration, relations ...shared.Relation) shared.Message {
	return shared.Message{
		Tenant: "acme", ID: id, Conversation: room, Sender: "ann", Type: shared.TypeText, SentAt: d.now.Add(-ago),
		Relations: relations,
	}
}

func (d *depth) index(msgs ...shared.Message) []shared.IndexResult {
	d.t.Helper()
	results, err := d.Index(d.ctx, msgs)
	if err != nil {
		d.t.Fatal(err)
	}
	return results
}

func (d *depth) request(actor, recallID string, ids ...string) shared.RecallRequest {
	req := shared.RecallRequest{Tenant: "acme", Actor: shared.Actor{ID: actor}, RecallID: recallID}
	for _, id := range ids {
		req.Targets = append(req.Targets, shared.Target{MessageID: id, Conversation: room, Role: shared.RoleMember})
	}
	return req
}

func (d *depth) recall(req shared.RecallRequest) []shared.RecallResult {
	d.t.Helper()
	results, err := d.Recall(d.ctx, req)
	if err != nil {
		d.t.Fatal(err)
	}
	return results
}

func (d *depth) wantState(id string, want shared.MessageState) {
	d.t.Helper()
	got, err := d.Status(d.ctx, "acme", []string{id})
	if err != nil || got[0].State != want {
		d.t.Errorf("%s is %+v, %v; want %s", id, got, err, want)
	}
}

// ids lists the messages of a ledger.
func (d *depth) ids(recallID string) (ids []string) {
	d.t.Helper()
	entries, err := shared.ReadLedger(d.ctx, d, "acme", recallID)
	if err != nil {
		d.t.Fatal(err)
	}
	for i := range entries {
		ids = append(ids, entries[i].Event.Message.ID)
	}
	return ids
}

func relation(kind shared.RelationKind, id string) shared.Relation {
	return shared.Relation{Kind: kind, MessageID: id}
}

func TestDepth_Relations(t *testing.T) {
	d := openDepth(t)
	t.Run("an edit does not reopen the window", func(t *testing.T) {
		d.index(d.sent("old", 10*time.Minute), d.sent("edit of old", time.Second, relation(shared.RelationEdit, "old")))
		for _, id := range []string{"old", "edit of old"} {
			if r := d.recall(d.request("ann", "late", id)); r[0].Code != shared.CodeWindowExpired {
				t.Errorf("%s: %+v", id, r[0])
			}
		}
	})
	t.Run("edits, quotes and forwards go, replies stay", func(t *testing.T) {
		quote := d.sent("quote", time.Second, relation(shared.RelationQuote, "m"))
		quote.Sender, quote.Conversation.ID = "bob", "elsewhere"
		reply := d.sent("reply", time.Second, relation(shared.RelationReply, "m"))
		reply.Ref = "row 7"
		d.index(d.sent("m", time.Minute), d.sent("e1", time.Second, relation(shared.RelationEdit, "m")), quote, reply,
			d.sent("e2", time.Second, relation(shared.RelationEdit, "e1")),
			d.sent("forward of the quote", time.Second, relation(shared.RelationForward, "quote")))
		r := d.recall(d.request("ann", "r1", "m"))
		if with := []string{"e1", "quote", "e2", "forward of the quote"}; r[0].Status != shared.StatusRecalled ||
			!slices.Equal(r[0].With, with) {
			t.Fatalf("%+v", r)
		}
		if got := d.ids("r1"); !slices.Equal(got, []string{"m", "e1", "quote", "e2", "forward of the quote"}) {
			t.Errorf("recalled are %q", got)
		}
		entries, err := shared.ReadLedger(d.ctx, d, "acme", "r1")
		if err != nil {
			t.Fatal(err)
		}
		want := []shared.Related{{Kind: shared.RelationReply, MessageID: "reply", Conversation: room, Ref: "row 7"}}
		if e := entries[0].Event; !slices.Equal(e.Related, want) || e.MoreRelated || e.Cause != nil {
			t.Errorf("the event of the original: %+v", e)
		}
		if e := entries[2].Event; e.Actor.ID != "ann" || *e.Cause != relation(shared.RelationQuote, "m") {
			t.Errorf("the event of the quote: %+v", e)
		}
		page, err := d.Since(
			d.ctx,
			shared.SinceRequest{Tenant: "acme", Conversations: []shared.Conversation{quote.Conversation}},
		)
		if err != nil || len(page.Events) != 1 || page.Events[0].Message.ID != "quote" {
			t.Errorf("the other conversation: %+v, %v", page, err)
		}
	})
	t.Run("what arrives later", func(t *testing.T) {
		got := d.index(d.sent("late edit", 0, relation(shared.RelationEdit, "m")),
			d.sent("late quote", 0, relation(shared.RelationQuote, "e2")),
			d.sent("late reply", 0, relation(shared.RelationReply, "m")))
		if got[0].Status != shared.IndexRecalled || got[1].Status != shared.IndexRecalled ||
			got[2].Status != shared.IndexAdded || len(got[2].Related) != 1 || got[2].Related[0].MessageID != "m" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("without a cascade they stay", func(t *testing.T) {
		d.index(d.sent("n", time.Minute), d.sent("edit of n", 0, relation(shared.RelationEdit, "n")),
			d.sent("quote of n", 0, relation(shared.RelationQuote, "n")))
		req := d.request("mod", "r2", "n")
		req.Targets[0].Role = shared.RoleAdmin
		if r := d.recall(req); r[0].Status != shared.StatusRecalled {
			t.Fatalf("%+v", r)
		}
		if got := d.ids("r2"); !slices.Equal(got, []string{"n", "edit of n"}) {
			t.Errorf("recalled are %q", got)
		}
		page, err := d.Related(d.ctx, shared.RelatedRequest{Tenant: "acme", MessageID: "n"})
		if err != nil || len(page.Related) != 1 || page.Related[0].MessageID != "quote of n" {
			t.Errorf("%+v, %v", page, err)
		}
	})
	t.Run("a hold", func(t *testing.T) {
		held := d.sent("held edit", 0, relation(shared.RelationEdit, "p"))
		held.Labels = []string{"hold"}
		d.index(d.sent("p", 0), held)
		if r := d.recall(d.request("ann", "r3", "p")); r[0].Code != "held" {
			t.Errorf("of an edit does not hold the original: %+v", r[0])
		}
		quote := d.sent("held quote", 0, relation(shared.RelationQuote, "q"))
		quote.Labels = []string{"hold"}
		d.index(d.sent("q", 0), quote)
		d.recall(d.request("ann", "r4", "q"))
		if got := d.ids("r4"); !slices.Equal(got, []string{"q"}) {
			t.Errorf("recalled are %q", got)
		}
		d.wantState("held quote", shared.MessageLive)
	})
	t.Run("a target that goes with another one of its request", func(t *testing.T) {
		theirs := d.sent("their edit", 0, relation(shared.RelationEdit, "mine"))
		theirs.Sender = "bob"
		d.index(d.sent("mine", 0), theirs)
		if r := d.recall(d.request("ann", "r6", "their edit", "mine")); r[0].Status != shared.StatusRecalled ||
			r[0].MessageID != "their edit" || r[1].Status != shared.StatusRecalled {
			t.Errorf("%+v", r)
		}
	})
	t.Run("one atomic request for messages that relate to each other", func(t *testing.T) {
		d.index(d.sent("a", 0), d.sent("b", 0, relation(shared.RelationQuote, "a")))
		req := d.request("ann", "r5", "b", "a")
		req.Atomic = true
		if r := d.recall(req); r[0].Status != shared.StatusRecalled || r[1].Status != shared.StatusRecalled {
			t.Errorf("%+v", r)
		}
	})
}

// A message with more edits than one commit holds loses all of them, also if the plugin is killed between the commits.
func TestDepth_ManyRelationsAndKills(t *testing.T) {
	d := openDepth(t)
	const n = 1500
	msgs := []shared.Message{d.sent("m", 0)}
	for i := range n {
		msgs = append(msgs, d.sent(fmt.Sprint("e", i), 0, relation(shared.RelationEdit, "m")))
	}
	for batch := range slices.Chunk(msgs, 500) {
		d.index(batch...)
	}
	if r := d.recall(d.request("ann", "many", "m")); r[0].Status != shared.StatusRecalled {
		t.Fatalf("%+v", r)
	}
	hosttest.Kill(t, d.Host)
	eventually(t, "all edits are recalled", func() bool { return len(d.ids("many")) == n+1 })
	got := d.ids("many")
	slices.Sort(got)
	if len(slices.Compact(got)) != n+1 {
		t.Errorf("some are recalled twice")
	}
}

func (d *depth) waits() (list []string) {
	d.t.Helper()
	page, err := d.Waits(d.ctx, shared.WaitsRequest{Tenant: "acme"})
	if err != nil {
		d.t.Fatal(err)
	}
	for _, w := range page.Waits {
		list = append(list, strings.TrimSpace(fmt.Sprint(w.MessageID, " ", w.State, " ", w.Code)))
	}
	return list
}

func TestDepth_Waits(t *testing.T) {
	d := openDepth(t)
	wait := func(actor, recallID, id string) shared.RecallRequest {
		req := d.request(actor, recallID, id)
		req.Wait = time.Hour
		return req
	}
	t.Run("without Wait nothing waits", func(t *testing.T) {
		if r := d.recall(d.request("ann", "r0", "m")); r[0].Status != shared.StatusNotFound {
			t.Errorf("%+v", r)
		}
	})
	t.Run("recalled when it comes, also after a kill", func(t *testing.T) {
		r := d.recall(wait("ann", "r1", "m"))
		if r[0].Status != shared.StatusWaiting || time.Until(r[0].Until) > time.Hour ||
			time.Until(r[0].Until) < 59*time.Minute {
			t.Fatalf("%+v", r)
		}
		if again := d.recall(wait("ann", "r1", "m")); again[0].Status != shared.StatusWaiting {
			t.Errorf("a retry: %+v", again)
		}
		if got, err := d.Check(d.ctx, wait("ann", "r1", "m")); err != nil || got[0].Status != shared.StatusWaiting {
			t.Errorf("check: %+v, %v", got, err)
		}
		hosttest.Kill(t, d.Host)
		if got := d.waits(); !slices.Equal(got, []string{"m waiting"}) {
			t.Errorf("waits %q", got)
		}
		if got := d.index(d.sent("m", 0)); got[0].Status != shared.IndexRecalled {
			t.Errorf("%+v", got)
		}
		if got := d.index(d.sent("m", 0)); got[0].Status != shared.IndexRecalled {
			t.Errorf("again: %+v", got)
		}
		if got := d.ids("r1"); !slices.Equal(got, []string{"m"}) || d.waits() != nil {
			t.Errorf("recalled are %q, waits %q", got, d.waits())
		}
		if again := d.recall(wait("ann", "r1", "m")); again[0].Status != shared.StatusRecalled {
			t.Errorf("a retry after it: %+v", again)
		}
	})
	t.Run("bound to the sender by the rules", func(t *testing.T) {
		d.recall(wait("eve", "r2", "n"))
		if got := d.index(d.sent("n", 0)); got[0].Status != shared.IndexAdded {
			t.Errorf("%+v", got)
		}
		d.wantState("n", shared.MessageLive)
		if got := d.waits(); !slices.Equal(got, []string{"n refused forbidden"}) {
			t.Errorf("waits %q", got)
		}
	})
	t.Run("in another conversation", func(t *testing.T) {
		d.recall(wait("ann", "r3", "o"))
		m := d.sent("o", 0)
		m.Conversation.ID = "elsewhere"
		if got := d.index(m); got[0].Status != shared.IndexAdded {
			t.Errorf("%+v", got)
		}
		for _, recallID := range []string{"r3", "r3 again"} { // as if there were no message
			if got := d.recall(wait("ann", recallID, "o")); got[0].Status != shared.StatusWaiting {
				t.Errorf("%+v", got)
			}
		}
		if got := d.waits(); !slices.Equal(got, []string{"n refused forbidden", "o waiting", "o waiting"}) {
			t.Errorf("waits %q", got)
		}
		d.wantState("o", shared.MessageLive)
	})
	t.Run("its window counts", func(t *testing.T) {
		d.recall(wait("ann", "r4", "late"))
		if got := d.index(d.sent("late", 10*time.Minute)); got[0].Status != shared.IndexAdded {
			t.Errorf("a message that was sent long before the request: %+v", got)
		}
	})
	t.Run("expired", func(t *testing.T) {
		req := wait("ann", "r5", "p")
		req.Wait = time.Millisecond
		until := d.recall(req)[0].Until
		eventually(t, "the wait is over", func() bool { return time.Now().After(until.Add(time.Millisecond)) })
		if got := d.index(d.sent("p", 0)); got[0].Status != shared.IndexAdded {
			t.Errorf("%+v", got)
		}
		if got := d.waits(); !slices.Contains(got, "p expired") {
			t.Errorf("waits %q", got)
		}
	})
	t.Run("limits", func(t *testing.T) {
		req := wait("ann", "r6", "x")
		req.Wait = shared.MaxWait + 1
		wantField(t, d, req, "wait")
		req = wait("ann", "r6", "x")
		req.Atomic = true
		wantField(t, d, req, "wait")
		for i := range shared.MaxIDWaits {
			d.recall(wait(fmt.Sprint("user", i), fmt.Sprint("r7-", i), "y"))
		}
		if r := d.recall(wait("ann", "r8", "y")); r[0].Code != shared.CodeRateLimited {
			t.Errorf("%+v", r)
		}
	})
}

// Pages that end at the longest ids can be continued.
func TestDepth_LongestCursors(t *testing.T) {
	d := openDepth(t)
	longest := func(prefix string) string { return prefix + strings.Repeat("x", shared.MaxIDBytes-len(prefix)) }
	target, ids := longest("target"), []string{longest("a"), longest("b"), longest("c")}
	t.Run("Related", func(t *testing.T) {
		d.index(d.sent(target, 0))
		for _, id := range ids {
			d.index(d.sent(id, 0, relation(shared.RelationReply, target)))
		}
		var got []string
		req := shared.RelatedRequest{Tenant: "acme", MessageID: target, Limit: 1}
		for more := true; more; {
			page, err := d.Related(d.ctx, req)
			if err != nil {
				t.Fatalf("after %d: %v", len(got), err)
			}
			for _, r := range page.Related {
				got = append(got, r.MessageID)
			}
			req.After, more = page.Next, page.More
		}
		if !slices.Equal(got, ids) {
			t.Errorf("%d of %d", len(got), len(ids))
		}
	})
	t.Run("Waits", func(t *testing.T) {
		var want, got []string
		for _, id := range []string{longest("wa"), longest("wb"), longest("wc")} {
			req := d.request("ann", longest("r"), id)
			req.Wait = time.Hour
			d.recall(req)
			want = append(want, id)
		}
		req := shared.WaitsRequest{Tenant: "acme", Limit: 1}
		for more := true; more; {
			page, err := d.Waits(d.ctx, req)
			if err != nil {
				t.Fatalf("after %d: %v", len(got), err)
			}
			for _, w := range page.Waits {
				got = append(got, w.MessageID)
			}
			req.After, more = page.Next, page.More
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d of %d", len(got), len(want))
		}
	})
}

func wantField(t *testing.T, d *depth, req shared.RecallRequest, field string) {
	t.Helper()
	_, err := d.Recall(d.ctx, req)
	wrong, ok := err.(*shared.FieldError)
	if !ok || wrong.Field != field {
		t.Errorf("got %v, want an error of the field %s", err, field)
	}
}

// Many callers race with recalls and messages. A message that Index did not answer as recalled was recalled by a call
// that said so: no recall is left waiting for a message that was delivered.
func TestDepth_WaitsRace(t *testing.T) {
	d := openDepth(t)
	const callers, each = 8, 60
	type outcome struct {
		indexed  shared.IndexStatus
		recalled shared.RecallStatus
	}
	outcomes := make([]outcome, callers*each)
	var wg sync.WaitGroup
	for c := range callers {
		for _, indexes := range []bool{true, false} {
			wg.Go(func() {
				for i := range each {
					n := c*each + i
					id := fmt.Sprint("m", n)
					if indexes {
						got, err := d.Index(d.ctx, []shared.Message{d.sent(id, 0)})
						if err != nil {
							t.Error(err)
							return
						}
						outcomes[n].indexed = got[0].Status
						continue
					}
					req := d.request("ann", "race-"+id, id)
					req.Wait = time.Hour
					got, err := d.Recall(d.ctx, req)
					if err != nil {
						t.Error(err)
						return
					}
					outcomes[n].recalled = got[0].Status
				}
			})
		}
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	counts := map[outcome]int{}
	for n, o := range outcomes {
		counts[o]++
		good := o == outcome{shared.IndexRecalled, shared.StatusWaiting} ||
			o == outcome{shared.IndexAdded, shared.StatusRecalled}
		if !good {
			t.Errorf("message %d: indexed as %s, recalled as %s", n, o.indexed, o.recalled)
		}
		d.wantState(fmt.Sprint("m", n), shared.MessageRecalled)
	}
	if got := d.waits(); got != nil {
		t.Errorf("waits %q", got)
	}
	t.Logf("outcomes: %v", counts)
}
