package engine

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

// asking is a policy under which members only hide, and the server archives.
const asking = `
placeholder "plain" {
	text = { en = "{actor} took back a message", zh = "{actor}撤回了一条消息" }
}
permit "own" {
	sender = true
	on_recall {
		steps     = ["wipe", "ledger-of-ours", "history", "search"]
		placeholder = "plain"
	}
}
permit "system" {
	role   = ["system"]
	window = "any"
	on_recall {
		silent      = true
		disposition = "archive"
		retention   = "36h"
	}
}
`

// events receives n deliveries; each has this outcome, if any.
func (r *rig) events(n int, outcome shared.Outcome) []shared.Delivery {
	r.t.Helper()
	ctx := within(r.t, time.Minute)
	got := make(chan shared.Delivery, 100)
	ended := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		ended <- r.deliver(ctx, func(s settler) {
			select {
			case got <- s.Delivery:
			case <-stop:
				return
			}
			if outcome != "" {
				_ = s.settle(ctx, outcome, nil)
			}
		})
	}()
	var out []shared.Delivery
	for range n {
		select {
		case e := <-got:
			out = append(out, e)
		case err := <-ended:
			r.t.Fatalf("after %d of %d events: %v", len(out), n, err)
		}
	}
	close(stop)
	return out
}

func ledgerSteps(l []shared.LedgerEntry) string {
	var steps []string
	for _, s := range l[0].Steps {
		steps = append(steps, strings.TrimSpace(s.Step+" "+string(s.Outcome)))
	}
	return strings.Join(steps, ", ")
}

func TestRecall_StepsOfTheRule(t *testing.T) {
	r := newActive(t, asking)
	r.index(r.message("a"), r.message("b"))
	r.recall(request("own", "a"))
	system := request("system", "b")
	system = as("server", shared.RoleSystem, system)
	r.recall(system)
	for id, want := range map[string]string{
		"own": "history, search unsupported, ledger-of-ours unsupported, wipe",
		"system": "notify, history, offline unsupported, roaming unsupported, attachments unsupported, " +
			"search unsupported, push unsupported, wipe",
	} {
		l := r.ledger(id)
		if got := ledgerSteps(l); got != want {
			t.Errorf("%s has the steps %s\nwant %s", id, got, want)
		}
	}
	// Without notify nothing waits for it, and what is not asked for is not delivered.
	seen := map[string]bool{}
	for _, e := range r.events(3, "") {
		seen[e.RecallID+" "+e.Step] = true
	}
	want := map[string]bool{"own history": true, "own wipe": true, "system notify": true}
	if !reflect.DeepEqual(seen, want) {
		t.Errorf("delivered %v", seen)
	}
}

func TestRecall_OnRecallInEventsAndPages(t *testing.T) {
	r := newActive(t, asking)
	r.index(r.message("a"), r.message("b"))
	r.recall(request("own", "a"))
	system := request("system", "b")
	system = as("server", shared.RoleSystem, system)
	r.recall(system)
	check := func(where string, e shared.Event) {
		t.Helper()
		want := shared.Event{Disposition: shared.DispositionArchive, Retention: 36 * time.Hour, Silent: true}
		if e.RecallID == "own" {
			want = shared.Event{Disposition: shared.DispositionErase, Placeholder: map[string]string{
				"en": "{actor} took back a message", "zh": "{actor}撤回了一条消息",
			}}
		}
		got := shared.Event{Disposition: e.Disposition, Retention: e.Retention, Silent: e.Silent, Placeholder: e.Placeholder}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s, recall %s: %+v", where, e.RecallID, got)
		}
	}
	for _, e := range r.events(3, "") {
		check("the first delivery", e.Event)
	}
	r.write("rules.hcl", anyone) // other rules change nothing about what is committed
	if ds, err := r.Reload(t.Context()); err != nil || len(ds) > 0 {
		t.Fatal(ds, err)
	}
	if err := r.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.activate()
	for _, e := range r.events(3, shared.OutcomeDone) {
		check("after a restart", e.Event)
	}
	page, err := r.Since(t.Context(),
		shared.SinceRequest{Tenant: "acme", Conversations: []shared.Conversation{r.message("a").Conversation}})
	if err != nil || len(page.Events) != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
	for _, e := range page.Events {
		check("a page", e)
	}
}

const trial = `
permit "own" { sender = true }
permit "longer" {
	sender = true
	window = "1h"
	mode   = "shadow"
}
forbid "no_files" {
	type = ["file"]
	mode = "shadow"
	code = "files_stay"
}
`

func TestRecall_ShadowRules(t *testing.T) {
	r := newStandby(t, trial)
	var log hosttest.LogBuffer
	r.logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})
	r.activate()
	file := r.message("file")
	file.Type = shared.TypeFile
	r.index(file, r.message("late"), r.message("plain"))
	check := func(id string) {
		t.Helper()
		if _, err := r.Check(t.Context(), request("c", id)); err != nil {
			t.Fatal(err)
		}
	}
	counts := func() string {
		return fmt.Sprint(r.metric("recall_rules_shadow_total", "rule", "no_files", "verdict", "denied"),
			r.metric("recall_rules_shadow_total", "rule", "longer", "verdict", "permitted"))
	}
	check("file")
	if counts() != "0 0" {
		t.Errorf("a check was counted: %s", counts())
	}
	if got := r.recall(request("r1", "file", "plain"))[0]; got.Status != shared.StatusRecalled || got.Rule.Name != "own" {
		t.Errorf("a shadow forbid decided: %+v", got)
	}
	r.recall(request("r1", "file")) // a retry is no second decision
	r.clock.Advance(10 * time.Minute)
	late := request("r2", "late")
	late.Ext, late.Reason = "secret-ext", "secret-reason"
	if got := r.recall(late)[0]; got.Code != shared.CodeWindowExpired || got.Rule.Name != "own" {
		t.Errorf("a shadow permit decided: %+v", got)
	}
	if counts() != "1 1" {
		t.Errorf("counted %s", counts())
	}
	text := log.String()
	for _, want := range []string{
		"rule=no_files", "would_be=denied would_be_code=files_stay is=recalled", "recall_id=r1 message_id=file",
		"tenant=acme",
		"rule=longer", "would_be=recalled", "is=denied is_code=window_expired", "recall_id=r2 message_id=late",
		"file=" + r.path("rules.hcl"), "line=3", "line=8",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "message_id=plain") ||
		strings.Count(text, "shadow") != 2 {
		t.Errorf("the log tells too much:\n%s", text)
	}
}

// changed waits until health tells of rules for which it is true.
func (r *rig) changed(is func(shared.RulesState) bool) shared.RulesState {
	r.t.Helper()
	ctx := within(r.t, time.Minute)
	for {
		h, err := r.Health(ctx)
		if err != nil {
			r.t.Fatal(err)
		}
		if is(h.Rules) {
			return h.Rules
		}
		time.Sleep(time.Millisecond) // asks again; ctx bounds it
	}
}

func TestHealth_RefusedRules(t *testing.T) {
	r := newStandby(t, nobody)
	first := r.changed(func(s shared.RulesState) bool { return s.Digest != "" })
	if len(first.Paths) != 1 || first.Paths[0] != r.path("rules.hcl") || first.LoadedAt.IsZero() || first.Refused != nil {
		t.Errorf("prepared: %+v", first)
	}
	r.write("rules.hcl", "permit {")
	r.changed(func(s shared.RulesState) bool { return s.Refused.HasErrors() && s.Digest == first.Digest })
	r.activate() // what was prepared holds
	r.index(r.message("a"))
	if got := r.recall(request("r", "a"))[0]; got.Code != "closed" {
		t.Errorf("with a broken file: %+v", got)
	}
	if n := r.metric("recall_rules_last_reload_successful"); n != 0 {
		t.Errorf("a broken file counts as %v", n)
	}
	r.write("rules.hcl", anyone)
	second := r.changed(func(s shared.RulesState) bool { return s.Digest != first.Digest })
	if second.Refused != nil || !second.LoadedAt.After(first.LoadedAt) {
		t.Errorf("mended: %+v", second)
	}
	if got := r.recall(request("r", "a"))[0]; got.Status != shared.StatusRecalled {
		t.Errorf("mended: %+v", got)
	}
	if l := r.ledger("r"); l[0].Event.PolicyDigest != second.Digest {
		t.Errorf("the ledger names %+v", l)
	}
	loaded := r.metric("recall_rules_loaded_timestamp_seconds")
	if r.metric("recall_rules_last_reload_successful") != 1 ||
		r.metric("recall_rules_reloads_total", "result", "loaded") < 1 ||
		r.metric("recall_rules_reloads_total", "result", "refused") < 1 ||
		loaded < float64(second.LoadedAt.Unix()) || loaded > float64(second.LoadedAt.Unix()+1) {
		t.Errorf("metrics do not tell what happened; loaded at %v", loaded)
	}
	r.write("rules.hcl", anyone+"\nlimit \"idle\" {\n key = actor.id\n rate = \"1/1s\"\n}")
	r.changed(func(s shared.RulesState) bool { return len(s.Warnings) == 1 && s.Warnings[0].Line == 2 })
}

func TestPrepare_Repeated(t *testing.T) {
	r := newStandby(t, anyone)
	r.write("rules.hcl", "permit {")
	if ds, err := r.Prepare(t.Context(), r.path("plugin.hcl")); err != nil || !ds.HasErrors() {
		t.Fatalf("prepare: %v %v", ds, err)
	}
	if h, err := r.Health(t.Context()); err != nil || !reflect.DeepEqual(h.Rules, shared.RulesState{}) {
		t.Errorf("after a refused Prepare health tells of rules: %+v, %v", h, err)
	}
	if err := os.Remove(r.path("plugin.hcl")); err != nil {
		t.Fatal(err)
	}
	if ds, err := r.Prepare(t.Context(), r.path("plugin.hcl")); err != nil || !ds.HasErrors() {
		t.Fatalf("prepare: %v %v", ds, err)
	}
	// TestMain looks for what was left, after the standby was quiesced.
}
