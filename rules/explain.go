package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Explanation is a decision with everything that led to it. Limits are taken to have room.
type Explanation struct {
	Case    Case        `json:"case"`
	Verdict string      `json:"verdict"` // "permitted", or "refused: " and the code
	Rule    RuleRef     `json:"rule"`
	Until   string      `json:"until,omitempty"`  // how long after sending it holds; empty if refused or without end
	Shadow  string      `json:"shadow,omitempty"` // the verdict if shadow rules decided, where it differs
	Rules   []Explained `json:"rules"`            // in file order
}

// Explained is one rule and what of it held.
type Explained struct {
	RuleRef
	Kind    string  `json:"kind"` // "permit" or "forbid"
	Shadow  bool    `json:"shadow,omitempty"`
	Holds   bool    `json:"holds"` // all parts do
	Decides bool    `json:"decides"`
	Parts   []Asked `json:"parts"`
}

// Asked is one thing that a rule asks for.
type Asked struct {
	Text  string `json:"text"` // as it is written
	Held  bool   `json:"held"`
	Value string `json:"value,omitempty"` // what it found
	Depth int    `json:"depth,omitempty"` // within how many other parts it stands
}

// Explain judges in as Decide does and tells of each rule what of it held and what did not.
func (p *Policy) Explain(in *Input) Explanation { return explain(p, in) }

func explain(p *Policy, in *Input) Explanation {
	d := p.Decide(in)
	e := Explanation{Case: caseOf(in), Verdict: verdictText(d.Permit, d.Code), Rule: d.Rule}
	if !d.Until.IsZero() {
		e.Until = FormatDuration(d.Until.Sub(in.SentAt))
	}
	if d.Shadow.Differs {
		e.Shadow = verdictText(d.Shadow.Permit, d.Shadow.Code) + " by " + d.Shadow.Rule.String()
	}
	t, ok := subjectOf(in)
	if !ok {
		return e
	}
	for _, r := range p.rules {
		x := Explained{RuleRef: r.ref, Kind: r.kind(), Shadow: r.shadow, Holds: true, Decides: r.ref == d.Rule}
		x.Parts = append(explainScope(r, &t), explainRest(p, r, &t)...)
		for _, part := range x.Parts {
			x.Holds = x.Holds && (part.Held || part.Depth > 0)
		}
		e.Rules = append(e.Rules, x)
	}
	return e
}

func explainScope(r *rule, t *subject) []Asked {
	var out []Asked
	s := &r.scope
	if s.tenants != nil {
		out = append(out, Asked{Text: "tenant = " + quotedList(slices.Sorted(maps.Keys(s.tenants))), Held: s.tenants[t.in.Tenant], Value: fmt.Sprintf("is %q", t.in.Tenant)})
	}
	words := func(name string, v *vocabulary, want, have set) {
		if want != 0 {
			out = append(out, Asked{Text: name + " = " + quotedList(v.describe(want)), Held: want&have != 0, Value: fmt.Sprintf("is %q", v.describe(have)[0])})
		}
	}
	words("conversation", conversationWords, s.conversations, t.conversation)
	words("type", typeWords, s.types, t.typ)
	if !s.defaultRoles || s.roles&t.role == 0 {
		words("role", roleWords, s.roles, t.role)
	}
	if s.sender != anybody {
		want := s.sender == senderOnly
		out = append(out, Asked{Text: fmt.Sprintf("sender = %t", want), Held: want == t.isSender, Value: fmt.Sprintf("is %t", t.isSender)})
	}
	return out
}

func explainRest(p *Policy, r *rule, t *subject) []Asked {
	out := explainCondition(r.when, t.in, 0)
	if r.forbid {
		return out
	}
	age := t.in.age()
	if w := p.windowOf(r, t); w == noEnd {
		out = append(out, Asked{Text: `window = "any"`, Held: true})
	} else {
		out = append(out, Asked{Text: fmt.Sprintf("window = %q", FormatDuration(w)), Held: age <= w, Value: "age is " + FormatDuration(age)})
	}
	if r.reason {
		out = append(out, Asked{Text: `reason = "required"`, Held: t.in.Reason != "", Value: fmt.Sprintf("is %q", t.in.Reason)})
	}
	if r.limit != nil {
		out = append(out, Asked{Text: fmt.Sprintf("limit = %q", r.limit.name), Held: true, Value: fmt.Sprintf("not counted here: %d in %s", r.limit.count, FormatDuration(r.limit.per))})
	}
	return out
}

// explainCondition tells the whole condition and below it each question in it.
func explainCondition(c *condition, in *Input, depth int) []Asked {
	if c == nil {
		return nil
	}
	age := in.age()
	one := Asked{Text: strings.Join(strings.Fields(string(c.written)), " "), Held: c.test(in, age), Depth: depth}
	if depth == 0 {
		one.Text = "when = " + one.Text
	}
	if c.ask != nil {
		one.Value = "is " + c.ask.field.show(in, age)
		return []Asked{one}
	}
	out := []Asked{one}
	for _, k := range c.kids {
		out = append(out, explainCondition(k, in, depth+1)...)
	}
	return out
}

// String renders the explanation for people.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  by %s\n", e.Verdict, e.Rule)
	if e.Until != "" {
		fmt.Fprintf(&b, "  until %s after sending\n", e.Until)
	}
	if e.Shadow != "" {
		fmt.Fprintf(&b, "  with shadow rules: %s\n", e.Shadow)
	}
	fmt.Fprintf(&b, "  of %s\n", e.Case)
	for _, r := range e.Rules {
		state := "does not hold"
		switch {
		case r.Decides && r.Holds:
			state = "decides"
		case r.Decides:
			state = "does not hold, and lacks the least"
		case r.Holds:
			state = "holds"
		}
		if r.Shadow {
			state += ", in shadow"
		}
		fmt.Fprintf(&b, "\n%s:%d: %s %q %s\n", r.File, r.Line, r.Kind, r.Name, state)
		for _, part := range r.Parts {
			mark := "yes"
			if !part.Held {
				mark = "no "
			}
			fmt.Fprintf(&b, "  %s %s%s", mark, strings.Repeat("  ", part.Depth), part.Text)
			if part.Value != "" {
				fmt.Fprintf(&b, "   (%s)", part.Value)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
