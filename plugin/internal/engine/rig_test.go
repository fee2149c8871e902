package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/plugin/internal/clock/clocktest"
	"github.com/chat-recall/recall/shared"
)

// rig is an engine over a real index in a folder of its own.
type rig struct {
	*Engine
	t     testing.TB
	clock *clocktest.Fake
	dir   string
	log   hclog.Logger // nil for nothing
}

// newStandby makes an engine that is prepared. ruleText is its rule file; empty: the built-in policy.
func newStandby(t testing.TB, ruleText string) *rig {
	t.Helper()
	return newLogging(t, ruleText, nil)
}

// newLogging is newStandby with a logger.
func newLogging(t testing.TB, ruleText string, log hclog.Logger) *rig {
	t.Helper()
	r := &rig{t: t, clock: clocktest.New(), dir: t.TempDir(), log: log}
	text := "index { path = \"index\" }\n"
	if ruleText != "" {
		text += "rules { paths = [\"rules.hcl\"] }\n"
		r.write("rules.hcl", ruleText)
	}
	r.write("plugin.hcl", text)
	r.start()
	return r
}

// newActive is newStandby for the steps notify, history and wipe, of which the last is the host's own.
func newActive(t testing.TB, ruleText string) *rig {
	t.Helper()
	r := newStandby(t, ruleText)
	r.activate()
	return r
}

// start is a new process over the same folder.
func (r *rig) start() {
	r.t.Helper()
	e := New(Options{Version: "v0", Clock: r.clock, Logger: r.log})
	r.Engine = e
	r.t.Cleanup(func() { _ = e.Quiesce(context.Background()) })
	if ds, err := r.Prepare(r.t.Context(), r.path("plugin.hcl")); err != nil || len(ds) > 0 {
		r.t.Fatalf("prepare: %v %v", ds, err)
	}
}

func (r *rig) activate() {
	r.t.Helper()
	if err := r.Activate(r.t.Context(), plan("notify", "history", "wipe")); err != nil {
		r.t.Fatal(err)
	}
}

// plan is that of a host whose steps wait for no other than notify.
func plan(names ...string) (steps []wire.StepPlan) {
	for _, name := range names {
		steps = append(steps, wire.StepPlan{Name: name})
	}
	return steps
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// message is a text of ann in group g, sent now.
func (r *rig) message(id string) shared.Message {
	return shared.Message{
		Tenant: "acme", ID: id, Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}, Sender: "ann",
		Type: shared.TypeText, SentAt: r.clock.Now(),
	}
}

func (r *rig) index(msgs ...shared.Message) {
	r.t.Helper()
	results, err := r.Index(r.t.Context(), msgs)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, x := range results {
		if x.Status != shared.IndexAdded {
			r.t.Fatalf("message %s is %s", x.MessageID, x.Status)
		}
	}
}

// targets are messages of group g.
func targets(ids ...string) []shared.Target {
	list := make([]shared.Target, len(ids))
	for i, id := range ids {
		list[i] = shared.Target{MessageID: id, Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g"}}
	}
	return list
}

// request is ann's for messages of acme in group g.
func request(recallID string, ids ...string) shared.RecallRequest {
	return shared.RecallRequest{Tenant: "acme", Targets: targets(ids...), Actor: shared.Actor{ID: "ann"},
		RecallID: recallID}
}

// as is a request of another actor, who has this role in the conversations of all targets.
func as(actor string, role shared.Role, req shared.RecallRequest) shared.RecallRequest {
	req.Actor, req.Targets = shared.Actor{ID: actor}, slices.Clone(req.Targets)
	for i := range req.Targets {
		req.Targets[i].Role = role
	}
	return req
}

// carrying is a request with the facts of its messages.
func carrying(req shared.RecallRequest, msgs ...shared.Message) shared.RecallRequest {
	req.Targets = slices.Clone(req.Targets)
	for i := range req.Targets {
		for _, m := range msgs {
			if m.ID == req.Targets[i].MessageID {
				req.Targets[i].Message = &m
			}
		}
	}
	return req
}

// settler settles one delivery.
type settler struct {
	*Engine
	shared.Delivery
}

func (s settler) settle(ctx context.Context, outcome shared.Outcome, cause error) error {
	return settleOne(ctx, s.Engine, wire.NewSettlement(&s.Delivery, outcome, cause))
}

func settleOne(ctx context.Context, e *Engine, x wire.Settlement) error {
	errs, err := e.Settle(ctx, []wire.Settlement{x})
	if err != nil {
		return err
	}
	return errs[0]
}

// settleStep settles the next attempt of a step.
func (r *rig) settleStep(ctx context.Context, sequence uint64, step string, outcome shared.Outcome,
	cause string) error {
	return settleOne(ctx, r.Engine, wire.Settlement{Sequence: sequence, Step: step, Outcome: outcome, Error: cause})
}

// deliver calls handle for each delivery, side by side, until ctx ends.
func (r *rig) deliver(ctx context.Context, handle func(settler)) error {
	var handlers sync.WaitGroup
	defer handlers.Wait()
	e := r.Engine
	return e.Deliver(ctx, func(due []shared.Delivery) {
		for _, d := range due {
			handlers.Go(func() { handle(settler{e, d}) })
		}
	})
}

// ledger is that of a recall of acme.
func (r *rig) ledger(recallID string) []shared.LedgerEntry {
	r.t.Helper()
	entries, err := shared.ReadLedger(context.Background(), r, "acme", recallID)
	if err != nil {
		r.t.Fatal(err)
	}
	return entries
}

func (r *rig) recall(req shared.RecallRequest) []shared.RecallResult {
	r.t.Helper()
	results, err := r.Recall(r.t.Context(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	return results
}

// metric is the sum of the time series of a name that have these pairs of label and value.
func (r *rig) metric(name string, labels ...string) (sum float64) {
	r.t.Helper()
	all, err := r.Metrics(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, m := range all {
		matches := m.Name == name
		for i := 0; i < len(labels); i += 2 {
			matches = matches && m.Labels[labels[i]] == labels[i+1]
		}
		if matches {
			sum += m.Value
		}
	}
	return sum
}

// field checks that err is about a field of the call.
func field(t testing.TB, what string, err error, want string) {
	t.Helper()
	var f *shared.FieldError
	if !errors.As(err, &f) || f.Field != want {
		t.Errorf("%s: got %v, want an error about %s", what, err, want)
	}
}

// within is a context that ends long after anything that is not stuck.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
