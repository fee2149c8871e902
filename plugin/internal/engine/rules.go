package engine

import (
	"context"
	"errors"
	"io/fs"

	hclconfig "github.com/chat-recall/recall/internal/config"
	"github.com/chat-recall/recall/plugin/internal/config"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// follow loads the policy that the configuration names and keeps it following its files, in place of what was followed
// before. If the files are broken, the last policy that was in force takes their place and the diagnostics are
// warnings; if there is none, or the configuration says so, nothing is followed. It is called by whoever has the turn.
func (e *Engine) follow(cfg *config.Config) shared.Diagnostics {
	e.unfollow()
	watcher, found := rules.Watch(cfg.RulePaths, e.rulesChanged)
	ds := diagnostics(found)
	if watcher == nil && !cfg.RefuseBrokenRules {
		watcher, ds = e.fallBack(cfg, ds)
	}
	if watcher != nil {
		e.mu.Lock()
		e.rules = watcher
		e.mu.Unlock()
	}
	return ds
}

// fallBack follows the rule files, which are refused, with the last policy that was in force until they are mended.
// Without such a policy it returns no watcher, and what to say.
func (e *Engine) fallBack(cfg *config.Config, refused shared.Diagnostics) (*rules.Watcher, shared.Diagnostics) {
	file := keptPath(cfg.IndexPath)
	last, err := readKept(file)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			refused = append(refused, shared.Diagnostic{
				Severity: shared.SeverityError, Summary: "the last policy that was in force cannot be used instead: " + err.Error(),
				Detail: "mend the rule files", File: file,
			})
		}
		return nil, refused
	}
	watcher, found := rules.WatchOr(last, cfg.RulePaths, e.rulesChanged)
	ds := diagnostics(found)
	if watcher == nil || !watcher.State().Fallback { // they were mended meanwhile
		return watcher, ds
	}
	e.logger.Error("the rule files are refused: the last policy that was in force decides until they are mended",
		"policy", last.Digest(), "kept_in", file)
	e.logRules(found)
	for i := range ds {
		ds[i].Severity = shared.SeverityWarning
	}
	return watcher, append(shared.Diagnostics{{
		Severity: shared.SeverityWarning, File: file,
		Summary: "the rule files are refused: the last policy that was in force, " + last.Digest() +
			", decides until they are mended",
		Detail: `to fail a start instead, write rules { on_error = "refuse" }`,
	}}, ds...)
}

// fallBackAgain is for a standby whose rule files were broken when it was prepared: the process that had the index
// until now may have put another policy in force since.
func (e *Engine) fallBackAgain() {
	if w := e.followed(); !w.State().Fallback {
		return
	} else if last, err := readKept(keptPath(e.config.IndexPath)); err != nil || last.Digest() == w.Policy().Digest() {
		return
	}
	if watcher, _ := e.fallBack(e.config, nil); watcher != nil {
		e.unfollow()
		e.mu.Lock()
		e.rules = watcher
		e.mu.Unlock()
	}
}

// unfollow ends what follow began. Where a file system hangs it waits with it.
func (e *Engine) unfollow() {
	if watcher := e.followed(); watcher != nil {
		watcher.Close()
	}
	e.mu.Lock()
	e.rules = nil
	e.mu.Unlock()
}

// followed is the rules of the last good Prepare, nil before it.
func (e *Engine) followed() *rules.Watcher {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rules
}

// rulesChanged counts and logs the result of a change of the rules, and keeps a new policy.
func (e *Engine) rulesChanged(policy *rules.Policy, found rules.Diagnostics) {
	if policy == nil {
		e.counts.reloads.WithLabelValues("refused").Inc()
		e.logger.Error("the rules were refused, those in force stay", "diagnostics", len(found))
	} else {
		e.counts.reloads.WithLabelValues("loaded").Inc()
		e.logger.Info("rules in force", "policy", policy.Digest())
		e.keep()
	}
	e.logRules(found)
}

func (e *Engine) logRules(found rules.Diagnostics) {
	for _, d := range diagnostics(found) {
		if d.Severity == shared.SeverityError {
			e.logger.Error("rules", "diagnostic", d.String())
		} else {
			e.logger.Warn("rules", "diagnostic", d.String())
		}
	}
}

// rulesState tells what is in force.
func (e *Engine) rulesState() shared.RulesState {
	watcher := e.followed()
	if watcher == nil {
		return shared.RulesState{}
	}
	st := watcher.State()
	state := shared.RulesState{
		Digest: st.Digest, Paths: st.Paths, LoadedAt: micros(st.Loaded),
		Warnings: diagnostics(st.Warnings), Refused: diagnostics(st.Refused), Fallback: st.Fallback,
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keepErr != nil {
		state.Warnings = append(state.Warnings, shared.Diagnostic{
			Severity: shared.SeverityWarning, Summary: "the policy in force cannot be kept beside the index: " +
				e.keepErr.Error(),
			Detail: "a start with broken rule files would use an older policy or fail; " +
				"let the plugin write to the folder that holds index.path",
		})
	}
	return state
}

// Reload is wire.Lifecycle.
func (e *Engine) Reload(ctx context.Context) (shared.Diagnostics, error) {
	a, leave, err := e.enter()
	if err != nil {
		return nil, err
	}
	leave() // Quiesce does not wait for files to be read
	found, err := a.rules.Reload(ctx)
	if errors.Is(err, rules.ErrClosed) {
		return nil, e.unavailable()
	}
	return diagnostics(found), err
}

// diagnostics are those of package rules in the words of the contract.
func diagnostics(found rules.Diagnostics) shared.Diagnostics { return hclconfig.Diagnostics(found) }

// reportShadow tells what a shadow rule would have changed about a decision. It never tells of content.
func (e *Engine) reportShadow(req *shared.RecallRequest, result *shared.RecallResult, shadow *rules.Shadow) {
	would := string(shared.StatusRecalled)
	verdict := "permitted"
	if !shadow.Permit {
		would, verdict = string(shared.StatusDenied), "denied"
	}
	e.counts.shadow.WithLabelValues(shadow.Rule.Name, verdict).Inc()
	e.logger.Info("a shadow rule would have decided otherwise", "rule", shadow.Rule.Name, "file", shadow.Rule.File,
		"line", shadow.Rule.Line, "would_be", would, "would_be_code", shadow.Code, "is", result.Status, "is_code",
		result.Code,
		"tenant", req.Tenant, "recall_id", req.RecallID, "message_id", result.MessageID)
}
