package engine

import (
	"context"

	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// Explain is [shared.Recall]. Limits are taken to have room.
func (e *Engine) Explain(_ context.Context, req shared.RecallRequest) ([]shared.Explanation, error) {
	a, leave, err := e.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	traces := map[string][]shared.RuleTrace{}
	v, err := a.judge(&req, e.moment(), func(p *rules.Policy, in *rules.Input) (rules.Decision, rules.Reservation) {
		traces[in.MessageID] = traceOf(p.Explain(in))
		return p.Decide(in), rules.Reservation{}
	}, noCancel)
	if err != nil {
		return nil, err
	}
	out := make([]shared.Explanation, len(v.results))
	for i, r := range v.results {
		out[i] = shared.Explanation{MessageID: r.MessageID, Result: r, Rules: traces[r.MessageID]}
	}
	for _, x := range v.shadows {
		out[x.at].Shadow = &shared.ShadowVerdict{Permit: x.Permit, Code: shared.Code(x.Code), Rule: ruleOf(x.Rule)}
	}
	return out, nil
}

func traceOf(e rules.Explanation) []shared.RuleTrace {
	traces := make([]shared.RuleTrace, len(e.Rules))
	for i, r := range e.Rules {
		traces[i] = shared.RuleTrace{
			Rule: ruleOf(r.RuleRef), Kind: r.Kind, Shadow: r.Shadow, Matched: r.Matched, Decides: r.Decides,
			Conditions: make([]shared.RuleCondition, len(r.Parts)),
		}
		for k, c := range r.Parts {
			traces[i].Conditions[k] = shared.RuleCondition{
				Text: c.Text, Holds: c.Held, Field: c.Field, Value: c.Value, Depth: c.Depth,
			}
		}
	}
	return traces
}

func ruleOf(r rules.RuleRef) shared.Rule {
	return shared.Rule{Name: r.Name, File: r.File, Line: r.Line}
}
