package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// Explanation is a decision and why each rule matched or did not. It is plain data, the same in Go, as JSON and on the
// wire. Limits are not counted: a permit with a limit is explained as if the limit had free space.
type Explanation struct {
	Outcome
	// Text is what the rule says to users about the refusal, by language tag; nil: the standard words of the code.
	Text map[string]string `json:"text,omitempty"`
	// Until is the last moment at which the same request would still be permitted, and UntilAge the age of the message
	// then, as in "2m". Both are empty if the request is refused or the permission does not end.
	Until    time.Time       `json:"until,omitzero"`
	UntilAge string          `json:"until_age,omitempty"`
	Shadow   *Outcome        `json:"shadow,omitempty"` // the outcome if shadow rules decided too, where it differs
	Rules    []ExplainedRule `json:"rules"`            // in file order
	Facts    []Fact          `json:"facts"`            // what was decided about, in the order of docs/rules.md
}

// Outcome is what was decided and by which rule.
type Outcome struct {
	Permit bool    `json:"permit"`
	Code   string  `json:"code,omitempty"` // of the refusal
	Rule   RuleRef `json:"rule"`
}

// ExplainedRule is one rule, and whether it matched.
type ExplainedRule struct {
	RuleRef
	Kind    string `json:"kind"`             // "permit" or "forbid"
	Shadow  bool   `json:"shadow,omitempty"` // it never decides
	Matched bool   `json:"matched"`          // every requirement held
	Decides bool   `json:"decides"`          // it gave the outcome, though it may not have matched: see [Decision.Rule]
	// WhyNot is the part because of which the rule did not match: the first requirement that did not hold or, if that is
	// the condition, the smallest part of the condition that is to blame. It is nil if the rule matched.
	WhyNot *Part  `json:"why_not,omitempty"`
	Parts  []Part `json:"parts"`
}

// Part is one requirement of a rule, or one node of its condition.
type Part struct {
	Text  string `json:"text"` // in the rule language, as in `window = "2m"`
	Held  bool   `json:"held"`
	Field string `json:"field,omitempty"` // the field that it compares, as in message.age; empty: none, or several
	Value string `json:"value,omitempty"` // of the field, in the rule language; of a limit, its rate
	Depth int    `json:"depth,omitempty"` // 0: a requirement of the rule; n: a node n levels inside the condition
}

// Fact is the value of one field of the [Input].
type Fact struct {
	Field string `json:"field"`
	Value string `json:"value"` // in the rule language
}

// Explain decides about in like [Policy.Decide] and explains, rule by rule, why.
func (p *Policy) Explain(in *Input) Explanation {
	d := p.Decide(in)
	e := Explanation{Outcome: Outcome{d.Permit, d.Code, d.Rule}, Text: d.Texts, Until: d.Until, Rules: []ExplainedRule{}}
	for _, f := range policy.Fields {
		e.Facts = append(e.Facts, Fact{f.Name, f.Show(in, in.Age(), p.compiled.Zone)})
	}
	if !d.Until.IsZero() {
		e.UntilAge = policy.FormatDuration(d.Until.Sub(in.SentAt))
	}
	if s := d.Shadow; s.Differs {
		e.Shadow = &Outcome{s.Permit, s.Code, s.Rule}
	}
	t, ok := policy.SubjectOf(in)
	if !ok {
		return e
	}
	for _, r := range p.compiled.Rules {
		x := ExplainedRule{RuleRef: r.Ref, Kind: r.Kind(), Shadow: r.Shadow, Decides: r.Ref == d.Rule}
		scope, condition, permit := explainScope(r, &t), explainCondition(r.When, in, 0), explainPermit(p.compiled, r, &t)
		x.Parts = slices.Concat(scope, condition, permit)
		x.WhyNot = cmp.Or(firstUnmet(scope), conditionUnmet(r.When, in), firstUnmet(permit))
		x.Matched = x.WhyNot == nil
		e.Rules = append(e.Rules, x)
	}
	return e
}

// explainScope explains the attributes that limit a rule to some requests.
func explainScope(r *policy.Rule, t *policy.Subject) []Part {
	var out []Part
	add := func(field *policy.Field, held bool, format string, args ...any) {
		value := field.Show(t.In, 0, time.UTC) // none is of the clock
		out = append(out, Part{Text: fmt.Sprintf(format, args...), Held: held, Field: field.Name, Value: value})
	}
	words := func(field *policy.Field, attribute string, want, have policy.Set) {
		if want != 0 {
			add(field, want&have != 0, "%s = %s", attribute, policy.QuotedList(field.Words.Describe(want)))
		}
	}
	s := &r.Scope
	if s.Tenants != nil {
		add(policy.TenantField, s.Tenants[t.In.Tenant], "tenant = %s", policy.QuotedList(slices.Sorted(maps.Keys(s.Tenants))))
	}
	words(policy.ConversationTypeField, "conversation", s.Conversations, t.Conversation)
	words(policy.MessageTypeField, "type", s.Types, t.Type)
	if !s.DefaultRoles || s.Roles&t.Role == 0 { // the default is worth showing only where it is to blame
		words(policy.RoleField, "role", s.Roles, t.Role)
	}
	if s.Sender != policy.SenderAnybody {
		want := s.Sender == policy.SenderOnly
		add(policy.IsSenderField, want == t.IsSender, "sender = %t", want)
	}
	return out
}

// explainPermit explains what only permits require.
func explainPermit(p *policy.Policy, r *policy.Rule, t *policy.Subject) []Part {
	if r.Forbid {
		return nil
	}
	age := t.In.Age()
	window := Part{Text: `window = "any"`, Held: true, Field: policy.AgeField.Name,
		Value: policy.AgeField.Show(t.In, age, p.Zone)}
	if w := p.WindowOf(r, t); w != policy.NoEnd {
		window.Text, window.Held = fmt.Sprintf("window = %q", policy.FormatDuration(w)), age <= w
	}
	out := []Part{window}
	if r.Reason {
		out = append(out, Part{Text: `reason = "required"`, Held: t.In.Reason != "",
			Field: policy.ReasonField.Name, Value: policy.ReasonField.Show(t.In, age, p.Zone)})
	}
	if l := r.Limit; l != nil {
		out = append(out, Part{Text: fmt.Sprintf("limit = %q", l.Name), Held: true,
			Value: fmt.Sprintf("%d/%s", l.Count, policy.FormatDuration(l.Per))})
	}
	return out
}

// explainCondition explains a condition and below it each node in it.
func explainCondition(c *policy.Condition, in *Input, depth int) []Part {
	if c == nil {
		return nil
	}
	out := []Part{partOf(c, in, depth)}
	for _, k := range c.Kids {
		out = append(out, explainCondition(k, in, depth+1)...)
	}
	return out
}

func partOf(c *policy.Condition, in *Input, depth int) Part {
	age := in.Age()
	part := Part{Text: strings.Join(strings.Fields(string(c.Written)), " "), Held: c.Test(in, age), Depth: depth}
	if depth == 0 {
		part.Text = "when = " + part.Text
	}
	asked := c
	for asked.Join == policy.JoinNot {
		asked = asked.Kids[0]
	}
	if asked.Ask != nil {
		part.Field, part.Value = asked.Ask.Field.Name, asked.Ask.Field.Show(in, age, asked.Ask.Zone)
	}
	return part
}

// firstUnmet returns the first part that did not hold.
func firstUnmet(parts []Part) *Part {
	if i := slices.IndexFunc(parts, func(p Part) bool { return !p.Held }); i >= 0 {
		return &parts[i]
	}
	return nil
}

// conditionUnmet returns the smallest part of a condition because of which it did not hold. Of a false && that is its
// first false side; a false || has no side that is alone to blame.
func conditionUnmet(c *policy.Condition, in *Input) *Part {
	unmet := func(c *policy.Condition) bool { return !c.Test(in, in.Age()) }
	if c == nil || !unmet(c) {
		return nil
	}
	depth := 0
	for ; c.Join == policy.JoinAll; depth++ {
		c = c.Kids[slices.IndexFunc(c.Kids, unmet)]
	}
	part := partOf(c, in, depth)
	return &part
}

// String renders the outcome, as in `refused: window_expired by own (rules.hcl:3)`.
func (o Outcome) String() string {
	return policy.VerdictText(o.Permit, o.Code) + " by " + o.Rule.String()
}

// String renders the explanation as text.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", e.Outcome)
	for _, language := range slices.Sorted(maps.Keys(e.Text)) {
		fmt.Fprintf(&b, "text for users (%s): %s\n", language, e.Text[language])
	}
	if e.UntilAge != "" {
		fmt.Fprintf(&b, "until %s after sending\n", e.UntilAge)
	}
	if e.Shadow != nil {
		fmt.Fprintf(&b, "with shadow rules: %s\n", e.Shadow)
	}
	for _, r := range e.Rules {
		fmt.Fprintf(&b, "\n%s:%d: %s %q %s\n", r.File, r.Line, r.Kind, r.Name, r.state())
		for _, part := range r.Parts {
			mark := "yes"
			if !part.Held {
				mark = "no "
			}
			fmt.Fprintf(&b, "  %s %s%s%s\n", mark, strings.Repeat("  ", part.Depth), part.Text, part.found())
		}
	}
	b.WriteString("\nfacts\n")
	for _, f := range e.Facts {
		fmt.Fprintf(&b, "  %-19s %s\n", f.Field, f.Value)
	}
	return b.String()
}

// found renders what a part found, with a space in front.
func (p Part) found() string {
	switch {
	case p.Value == "":
		return ""
	case p.Field == "":
		return fmt.Sprintf("   (%s, not counted)", p.Value)
	}
	return fmt.Sprintf("   (%s is %s)", p.Field, p.Value)
}

func (r ExplainedRule) state() string {
	state := "does not match"
	switch {
	case r.Decides && r.Matched:
		state = "decides"
	case r.Decides:
		state = "does not match, but is the closest to it"
	case r.Matched:
		state = "matches"
	}
	if r.Shadow {
		state += " (shadow)"
	}
	return state
}
