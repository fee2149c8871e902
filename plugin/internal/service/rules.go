package service

import (
	"context"
	"errors"

	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// follow puts the policy in paths in force and keeps it following them, in place of what was followed before. Where
// there are errors nothing is followed. It is called by whoever has the turn.
func (s *Service) follow(paths []string) shared.Diagnostics {
	s.unfollow()
	watcher, found := rules.Watch(paths, s.rulesChanged)
	if watcher != nil {
		s.counts.add("rules_reloaded_total", 0) // shown from the start, for who watches it grow
		s.counts.add("rules_refused_total", 0)
		s.mu.Lock()
		s.rules = watcher
		s.mu.Unlock()
	}
	return diagnostics(found)
}

// unfollow ends what follow began. Where a file system hangs it waits with it.
func (s *Service) unfollow() {
	if watcher := s.followed(); watcher != nil {
		watcher.Close()
	}
	s.mu.Lock()
	s.rules = nil
	s.mu.Unlock()
}

// followed is the rules of the last good Prepare, nil before it.
func (s *Service) followed() *rules.Watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rules
}

// rulesChanged takes note of what became of a change of the rules.
func (s *Service) rulesChanged(policy *rules.Policy, found rules.Diagnostics) {
	if policy == nil {
		s.counts.add("rules_refused_total", 1)
		s.logger.Error("the rules were refused, those in force stay", "diagnostics", len(found))
	} else {
		s.counts.add("rules_reloaded_total", 1)
		s.logger.Info("rules in force", "policy", policy.Digest())
	}
	for _, d := range diagnostics(found) {
		if d.Severity == shared.SeverityError {
			s.logger.Error("rules", "diagnostic", d.String())
		} else {
			s.logger.Warn("rules", "diagnostic", d.String())
		}
	}
}

// rulesState tells what is in force.
func (s *Service) rulesState() shared.RulesState {
	watcher := s.followed()
	if watcher == nil {
		return shared.RulesState{}
	}
	st := watcher.State()
	return shared.RulesState{
		Digest: st.Digest, Paths: st.Paths, LoadedAt: micros(st.Loaded),
		Warnings: diagnostics(st.Warnings), Refused: diagnostics(st.Refused),
	}
}

// Reload is shared.Lifecycle.
func (s *Service) Reload(ctx context.Context) (shared.Diagnostics, error) {
	a, leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	leave() // Quiesce does not wait for files to be read
	found, err := a.rules.Reload(ctx)
	if errors.Is(err, rules.ErrClosed) {
		return nil, s.unavailable()
	}
	return diagnostics(found), err
}

// diagnostics are those of package rules in the words of the contract.
func diagnostics(found rules.Diagnostics) shared.Diagnostics {
	var ds shared.Diagnostics
	for _, d := range found {
		ds = append(ds, shared.Diagnostic{
			Severity: shared.Severity(d.Severity), Summary: d.Summary, Detail: d.Detail,
			File: d.File, Line: d.Line, Column: d.Column, Source: d.Source,
		})
	}
	return ds
}

// reportShadow tells what a shadow rule would have changed about a decision. It never tells of content.
func (s *Service) reportShadow(req *shared.RecallRequest, result *shared.RecallResult, shadow *rules.Shadow) {
	would := string(shared.Recalled)
	counter := "permitted"
	if !shadow.Permit {
		would, counter = string(shared.Denied), "denied"
	}
	s.counts.add("rules_shadow_"+shadow.Rule.Name+"_"+counter+"_total", 1)
	s.logger.Info("a shadow rule would have decided otherwise", "rule", shadow.Rule.Name, "file", shadow.Rule.File,
		"line", shadow.Rule.Line, "would_be", would, "would_be_code", shadow.Code, "is", result.Status, "is_code", result.Code,
		"tenant", req.Tenant, "recall_id", req.RecallID, "message_id", result.MessageID)
}
