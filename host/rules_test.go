package host_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

const (
	nobody = "forbid \"nobody\" {\n  code = \"closed\"\n}\n"
	anyone = "permit \"anyone\" {\n  sender = true\n  window = \"1h\"\n}\n"
)

// policy is a host whose plugin follows a folder of rules.
type policy struct {
	*host.Host
	t      *testing.T
	folder string
	states chan host.State
}

// openWithRules opens a host on a folder of rules; more is written into the block rules of plugin.hcl.
func openWithRules(t *testing.T, rules string, steps map[string]host.Step, more ...string) *policy {
	t.Helper()
	p := &policy{t: t, states: make(chan host.State, 1000)}
	dir := t.TempDir()
	p.folder = filepath.Join(dir, "rules.d")
	p.makeFolder()
	p.put(rules)
	file := hosttest.WriteConfig(t, hosttest.BuildPlugin(t), dir,
		"rules {\n  paths = [\"rules.d\"]\n  "+strings.Join(more, "\n")+"\n}\n")
	p.Host = hosttest.Open(t, host.Config{File: file, Steps: steps, OnState: func(s host.State) { p.states <- s }})
	return p
}

func (p *policy) makeFolder() {
	p.t.Helper()
	if err := os.Mkdir(p.folder, 0o700); err != nil {
		p.t.Fatal(err)
	}
}

// put replaces the rule file by renaming another one over it, as editors do.
func (p *policy) put(text string) {
	p.t.Helper()
	next, file := filepath.Join(p.folder, ".next"), filepath.Join(p.folder, "rules.hcl")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		p.t.Fatal(err)
	}
}

// checked is what a check of the message says now: the status and the code.
func (p *policy) checked(id string) string {
	p.t.Helper()
	got, err := p.Check(within(p.t), recallOf(id))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(string(got[0].Status) + " " + string(got[0].Code))
}

// soon checks that a change from now comes into force. Two seconds are promised, by how often the files are looked at;
// what a test can hold on a machine that it shares is that nobody has to ask for it.
func (p *policy) soon(what, id, want string) {
	p.t.Helper()
	start := time.Now()
	got := p.checked(id)
	for ; got != want; got = p.checked(id) {
		if time.Since(start) > 30*time.Second {
			p.t.Fatalf("%s: after half a minute a check still says %s, want %s", what, got, want)
		}
		time.Sleep(5 * time.Millisecond) // asks again
	}
}

// told waits until OnState tells of rules for which it is true, and checks that State says the same.
func (p *policy) told(what string, is func(shared.RulesState) bool) shared.RulesState {
	p.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case s := <-p.states:
			if !is(s.Rules) {
				continue
			}
			if !is(p.State().Rules) {
				p.t.Fatalf("%s: State says %+v", what, p.State().Rules)
			}
			return s.Rules
		case <-limit:
			p.t.Fatalf("%s: State still says %+v", what, p.State().Rules)
		}
	}
}

func TestRules_FileChanged(t *testing.T) {
	p := openWithRules(t, nobody, nil)
	index(t, p.Host, "m1")
	opened := p.State().Rules
	if len(opened.Digest) != 64 || len(opened.Paths) != 1 || opened.Paths[0] != p.folder || opened.LoadedAt.IsZero() {
		t.Errorf("after Open State says %+v", opened)
	}
	if got := p.checked("m1"); got != "denied closed" {
		t.Fatalf("check says %s", got)
	}

	p.put(anyone)
	p.soon("edited", "m1", "recalled")
	edited := p.told("edited", func(r shared.RulesState) bool { return r.Digest != opened.Digest })

	p.put("\npermit \"anyone\" { windw = \"1h\" }")
	refused := p.told("broken", func(r shared.RulesState) bool { return r.Refused.HasErrors() })
	first := refused.Refused[0]
	if refused.Digest != edited.Digest || first.File != filepath.Join(p.folder, "rules.hcl") || first.Line != 2 ||
		first.Column != 19 ||
		!strings.Contains(first.String(), `"window"`) {
		t.Errorf("broken: State says %+v", refused)
	}
	if got := p.checked("m1"); got != "recalled" {
		t.Errorf("a broken file changed the decision to %s", got)
	}

	p.put(nobody)
	p.soon("mended", "m1", "denied closed")
	p.told("mended", func(r shared.RulesState) bool { return r.Refused == nil && r.Digest == opened.Digest })

	if err := os.RemoveAll(p.folder); err != nil {
		t.Fatal(err)
	}
	p.told("removed", func(r shared.RulesState) bool { return r.Refused.HasErrors() && r.Digest == opened.Digest })
	if got := p.checked("m1"); got != "denied closed" {
		t.Errorf("a removed folder changed the decision to %s", got)
	}
	p.makeFolder()
	p.put(anyone)
	p.soon("made again", "m1", "recalled")
	p.put(nobody)
	p.soon("edited in the new folder", "m1", "denied closed")
	p.told("in the end", func(r shared.RulesState) bool { return r.Refused == nil && r.Digest == opened.Digest })
}

func TestReload_Diagnostics(t *testing.T) {
	p := openWithRules(t, nobody, nil)
	index(t, p.Host, "m1")
	p.put(anyone)
	if ds, err := p.Reload(within(t)); err != nil || len(ds) > 0 {
		t.Fatalf("reload: %v, %v", ds, err)
	}
	if got := p.checked("m1"); got != "recalled" {
		t.Errorf("after Reload a check says %s", got)
	}
	p.put("permit {")
	ds, err := p.Reload(within(t))
	if err != nil || !ds.HasErrors() || ds[0].Line != 1 || ds[0].Source != "permit {" {
		t.Errorf("reload of a broken file: %v, %v", ds, err)
	}
	if got := p.checked("m1"); got != "recalled" {
		t.Errorf("after a refused Reload a check says %s", got)
	}
	metrics, err := p.Metrics(within(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]float64{}
	for _, m := range metrics {
		seen[m.Name+m.Labels["result"]] = m.Value
	}
	now := float64(time.Now().Unix())
	if seen["recall_rules_reloads_totalloaded"] < 1 || seen["recall_rules_reloads_totalrefused"] < 1 ||
		seen["recall_rules_last_reload_successful"] != 0 || seen["recall_rules_loaded_timestamp_seconds"] < now-600 ||
		seen["recall_rules_loaded_timestamp_seconds"] > now+1 {
		t.Errorf("metrics %v", seen)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Reload(within(t)); err == nil {
		t.Error("a closed host reloaded rules")
	}
}

func TestRecall_ReasonAndRateLimit(t *testing.T) {
	p := openWithRules(t, `
limit "few" {
  key  = actor.id
  rate = "2/1h"
}
permit "own" {
  sender = true
  window = "2h"
  reason = "required"
  limit  = "few"
}
`, nil)
	for i := range 3 {
		index(t, p.Host, fmt.Sprint("m", i))
	}
	recall := func(id, reason string) shared.RecallResult {
		t.Helper()
		req := recallOf(id)
		req.Reason = reason
		got, err := p.Recall(within(t), req)
		if err != nil {
			t.Fatal(err)
		}
		return got[0]
	}
	if got := recall("m0", ""); got.Status != shared.StatusDenied || got.Code != shared.CodeReasonRequired ||
		got.Rule.Name != "own" || got.Rule.Line != 6 {
		t.Errorf("without a reason: %+v", got)
	}
	first := recall("m0", "typo")
	if second := recall("m1", "typo"); first.Status != shared.StatusRecalled || second.Status != shared.StatusRecalled {
		t.Fatalf("with a reason: %+v, %+v", first, second)
	}
	got, again := recall("m2", "typo"), first.RecalledAt.Add(time.Hour)
	if got.Code != shared.CodeRateLimited || got.RetryAt.Sub(again).Abs() > time.Second { // limits count by another clock
		t.Errorf("the third of two: %+v; the first was at %s", got, first.RecalledAt)
	}
	hosttest.Kill(t, p.Host)
	if got := recall("m2", "typo"); got.Code != shared.CodeRateLimited {
		t.Errorf("after the plugin was killed: %+v", got)
	}
	if _, err := p.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err != nil {
		t.Fatal(err)
	}
	if got := recall("m2", "typo"); got.Code != shared.CodeRateLimited {
		t.Errorf("after an upgrade: %+v", got)
	}
	ledger, err := shared.ReadLedger(within(t), p, "acme", first.RecallID)
	if err != nil || ledger[0].Event.Reason != "typo" {
		t.Errorf("the ledger says %+v, %v", ledger, err)
	}
}

func TestCheck_Until(t *testing.T) {
	p := openWithRules(t, `
window "rooms" {
  conversation = ["group"]
  within       = "10m"
}
permit "own" { sender = true }
permit "server" {
  role   = ["system"]
  window = "any"
}
`, nil)
	m := message("m1")
	if _, err := p.Index(within(t), []shared.Message{m}); err != nil {
		t.Fatal(err)
	}
	got, err := p.Check(within(t), recallOf("m1"))
	if want := m.SentAt.UTC().Truncate(time.Microsecond).Add(10 * time.Minute); err != nil || !got[0].Until.Equal(want) {
		t.Errorf("got %+v, %v; want until %s", got, err, want)
	}
	server := recallOf("m1")
	server.Actor.ID, server.Targets[0].Role = "server", shared.RoleSystem
	if got, err := p.Check(within(t), server); err != nil || got[0].Status != shared.StatusRecalled ||
		!got[0].Until.IsZero() {
		t.Errorf("what has no end has one: %+v, %v", got, err)
	}
	late := recallOf("m1")
	late.Actor.ID = "bob"
	if got, err := p.Check(within(t), late); err != nil || got[0].Status != shared.StatusDenied || !got[0].Until.IsZero() {
		t.Errorf("a refusal holds until something: %+v, %v", got, err)
	}
}

func TestStep_OnRecall(t *testing.T) {
	events := make(chan shared.Delivery, 10)
	keep := func(_ context.Context, e shared.Delivery) (shared.Outcome, error) {
		events <- e
		return shared.OutcomeDone, nil
	}
	p := openWithRules(t, `
placeholder "plain" {
  text = { en = "{actor} took back a message" }
}
permit "own" {
  sender = true
  on_recall {
    steps       = ["history", "search"]
    placeholder   = "plain"
    disposition = "archive"
    retention   = "30d"
  }
}
`, map[string]host.Step{shared.StepNotify: {Run: keep}, shared.StepHistory: {Run: keep}})
	index(t, p.Host, "m1")
	done := settled(t, p.Host, takeBack(t, p.Host, "m1").RecallID)
	if len(done) != 2 || done[shared.StepHistory] != shared.OutcomeDone ||
		done[shared.StepSearch] != shared.OutcomeUnsupported {
		t.Errorf("steps %v", done)
	}
	e := <-events
	if e.Step != shared.StepHistory || e.Disposition != shared.DispositionArchive || e.Retention != 30*24*time.Hour ||
		e.Silent || e.Notice(true).Placeholder["en"] != "{actor} took back a message" {
		t.Errorf("the step got %+v", e)
	}
	if len(events) > 0 {
		t.Errorf("a step that was not asked for got %+v", <-events)
	}
}

func TestBrokenRules_LastPolicyStaysInForce(t *testing.T) {
	dir, binary := t.TempDir(), hosttest.BuildPlugin(t)
	if err := os.Mkdir(filepath.Join(dir, "rules.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := hosttest.WriteConfig(t, binary, dir, "rules {\n  paths = [\"rules.d\"]\n}\n")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	open := func(t *testing.T) *policy {
		p := &policy{t: t, folder: filepath.Join(dir, "rules.d"), states: make(chan host.State, 1000)}
		p.Host = hosttest.Open(t, host.Config{
			File: file, OnState: func(s host.State) { p.states <- s },
			Logger: hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Error}),
		})
		return p
	}
	writer := &policy{t: t, folder: filepath.Join(dir, "rules.d")}
	writer.put(nobody)
	p := open(t)
	index(t, p.Host, "m1")
	inForce := p.State().Rules.Digest
	check := func(t *testing.T, p *policy) {
		t.Helper()
		st := p.State().Rules
		if !st.Fallback || st.Digest != inForce || !st.Refused.HasErrors() || st.Refused[0].Line != 1 {
			t.Errorf("State says %+v", st)
		}
		if got := p.checked("m1"); got != "denied closed" {
			t.Errorf("a check says %s", got)
		}
		metrics, err := p.Metrics(within(t))
		if err != nil || !hasMetric(metrics,
			shared.Metric{Name: "recall_rules_fallback", Kind: shared.MetricGauge, Value: 1}) {
			t.Errorf("metrics %v, %v", metrics, err)
		}
	}
	p.put("permit {")
	p.told("broken", func(r shared.RulesState) bool { return r.Refused.HasErrors() })

	t.Run("after a kill", func(t *testing.T) {
		hosttest.Kill(t, p.Host)
		p.checked("m1") // held until the plugin is back
		check(t, p)
		if st := p.State(); st.Restarts != 1 {
			t.Errorf("%d restarts", st.Restarts)
		}
		text, err := os.ReadFile(log.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"last policy that was in force decides", inForce,
			filepath.Join(p.folder, "rules.hcl") + ":1:"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("the errors in the log lack %q:\n%s", want, text)
			}
		}
	})
	t.Run("after an upgrade", func(t *testing.T) {
		if _, err := p.Upgrade(within(t), host.Binary{Path: binary}); err != nil {
			t.Fatal(err)
		}
		check(t, p)
	})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("after a start of the server", func(t *testing.T) {
		p := open(t)
		check(t, p)
		p.put(anyone)
		p.soon("mended", "m1", "recalled")
		p.told("mended", func(r shared.RulesState) bool { return !r.Fallback && r.Refused == nil && r.Digest != inForce })
		p.put("permit {")
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("not if the configuration refuses broken rules", func(t *testing.T) {
		replaceIn(t, file, "rules {", "rules {\n  on_error = \"refuse\"")
		_, err := host.Open(within(t), host.Config{File: file, RunDir: hosttest.RunDir(t)})
		if where := filepath.Join(writer.folder, "rules.hcl") + ":1:"; err == nil || !strings.Contains(err.Error(), where) {
			t.Errorf("Open says %v, want an error at %s", err, where)
		}
	})
	t.Run("not if nothing is kept", func(t *testing.T) {
		replaceIn(t, file, "on_error = \"refuse\"", "on_error = \"last_good\"")
		if err := os.Remove(filepath.Join(dir, "index.policy")); err != nil {
			t.Fatal(err)
		}
		if _, err := host.Open(within(t), host.Config{File: file, RunDir: hosttest.RunDir(t)}); err == nil ||
			!strings.Contains(err.Error(), "rules.hcl:1:") {
			t.Errorf("Open says %v", err)
		}
	})
}

// With on_error = "refuse" a plugin that starts needs good rules: an upgrade is refused without them, and a crash
// waits.
func TestBrokenRules_Refused(t *testing.T) {
	p := openWithRules(t, anyone, nil, "on_error = \"refuse\"")
	index(t, p.Host, "m1")
	p.put("permit {")
	where := filepath.Join(p.folder, "rules.hcl") + ":1:"
	if _, err := p.Upgrade(within(t), host.Binary{Path: hosttest.BuildPlugin(t)}); err == nil ||
		!strings.Contains(err.Error(), where) {
		t.Errorf("an upgrade with broken rules: %v", err)
	}
	if got := p.checked("m1"); got != "recalled" {
		t.Errorf("after the refused upgrade a check says %s", got)
	}
	hosttest.Kill(t, p.Host)
	for s := range p.states { // until a start is refused; the last lines of the killed plugin name the file too
		if s.Phase == host.PhaseRestarting && strings.Contains(s.Error, where) && !strings.Contains(s.Error, "SIGKILL") {
			break
		}
	}
	p.put(anyone)
	if got := p.checked("m1"); got != "recalled" { // held until the plugin is back
		t.Errorf("mended, a check says %s", got)
	}
	for s := range p.states { // calls go on a moment before the state says so
		if s.Phase == host.PhaseRunning {
			break
		}
	}
	if st := p.State(); st.Restarts != 1 || st.Rules.Refused != nil {
		t.Errorf("state %+v", st)
	}
}

func TestRules_FileNameNotUTF8(t *testing.T) {
	p := openWithRules(t, anyone, nil)
	index(t, p.Host, "m1")
	pid := p.State().PID
	if err := os.WriteFile(filepath.Join(p.folder, "caf\xe9.hcl"), []byte(nobody), 0o600); err != nil {
		hosttest.Missing(t, "a file system that takes any name: "+err.Error())
	}
	diags, err := p.Reload(within(t))
	if err != nil || !strings.Contains(fmt.Sprint(diags), "not valid UTF-8") {
		t.Errorf("Reload says %v, %v", diags, err)
	}
	p.told("not taken", func(r shared.RulesState) bool { return len(r.Refused) > 0 })
	if got := p.checked("m1"); got != "recalled" || p.State().PID != pid {
		t.Errorf("a check says %s; the plugin was %d, and State says %+v", got, pid, p.State())
	}
}

func TestRules_ManyLongDiagnostics(t *testing.T) {
	p := openWithRules(t, anyone, nil)
	index(t, p.Host, "m1")
	pid := p.State().PID
	var b strings.Builder
	fmt.Fprintf(&b, "locals {\n  x = \"%s\"\n}\n", strings.Repeat("\x01", 200_000))
	for i := range 60 {
		fmt.Fprintf(&b, "permit \"p%d\" {\n  type = [local.x]\n}\n", i)
	}
	p.put(b.String())
	p.told("not taken", func(r shared.RulesState) bool { return len(r.Refused) > 0 })
	if got := p.checked("m1"); got != "recalled" || p.State().PID != pid {
		t.Errorf("a check says %s; the plugin was %d, and State says %+v", got, pid, p.State())
	}
}

func hasMetric(list []shared.Metric, want shared.Metric) bool {
	return slices.ContainsFunc(list, func(m shared.Metric) bool { return reflect.DeepEqual(m, want) })
}
