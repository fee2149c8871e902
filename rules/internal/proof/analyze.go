package proof

import (
	"math"
	"slices"
	"strings"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// Analysis is the result of going through every input that a policy can tell apart.
type Analysis struct {
	Inputs   int                 `json:"inputs"` // number of inputs; 0 if there are too many to count
	Proven   bool                `json:"proven"` // Findings is complete: all inputs were gone through
	Findings hclfile.Diagnostics `json:"findings"`
}

// Analyze finds dead rules: rules that match nothing, rules that never decide because others always do, and windows
// that no permit uses. It goes through every distinguishable input, up to [MaxInputs], which takes a few seconds at
// most. It never samples.
func Analyze(p *policy.Policy) Analysis {
	preds := NewPredicates()
	preds.AddPolicy(p)
	dom := NewDomain(preds)
	a := Analysis{Findings: hclfile.Diagnostics{}, Inputs: dom.Countable(), Proven: dom.Tractable()}
	if !a.Proven {
		return a
	}
	u := newUses(p)
	dom.walk(func(in *policy.Input, _ []int) bool {
		u.look(in)
		return true
	})
	r := &hclfile.Reporter{Files: p.Sources}
	u.report(r)
	a.Findings = append(a.Findings, r.Diagnostics()...)
	return a
}

// Countable returns the number of inputs in the domain, 0 if it is too large to count.
func (dom *Domain) Countable() int {
	if dom.size == math.MaxInt {
		return 0
	}
	return dom.size
}

// uses counts how often each rule matched and decided.
type uses struct {
	policy  *policy.Policy
	rules   map[*policy.Rule]*use
	windows map[*policy.NamedWindow]bool // that a permit used
	lost    []*policy.Rule               // scratch: rules that matched the input and did not decide
}

type use struct {
	matched, decided int
	instead          []*policy.Rule // that decided where this one matched
}

func newUses(p *policy.Policy) *uses {
	u := &uses{policy: p, rules: make(map[*policy.Rule]*use, len(p.Rules)), windows: map[*policy.NamedWindow]bool{}}
	for _, r := range p.Rules {
		u.rules[r] = &use{}
	}
	return u
}

// look evaluates all rules in the order of a decision, without stopping at the one that decides.
func (u *uses) look(in *policy.Input) {
	t, _ := policy.SubjectOf(in)
	age := in.Age()
	var decided *policy.Rule
	u.lost = u.lost[:0]
	visit := func(r *policy.Rule, holds bool) {
		use := u.rules[r]
		if !holds {
			return
		}
		if use != nil { // the built-in forbid has none
			use.matched++
		}
		switch {
		case r.Shadow:
		case decided != nil:
			u.lost = append(u.lost, r)
		default:
			if use != nil {
				use.decided++
			}
			if r.Limit == nil { // a limit may be exhausted, and then a later permit decides
				decided = r
			}
		}
	}
	for _, r := range u.policy.Rules {
		switch {
		case r.Forbid:
			visit(r, r.Matches(&t, age))
		case r.Window == 0 && len(u.policy.Windows) > 0 && r.Matches(&t, age):
			u.windows[u.policy.NamedWindowOf(&t)] = true
		}
	}
	visit(policy.BuiltInForbid, policy.BuiltInForbid.Matches(&t, age))
	for _, r := range u.policy.Live.Permits {
		visit(r, u.policy.Live.InTime(r, &t, age) && (!r.Reason || in.Reason != ""))
	}
	if u.policy.Trial != nil {
		for _, r := range u.policy.Trial.Permits {
			if r.Shadow {
				visit(r, u.policy.Trial.InTime(r, &t, age))
			}
		}
	}
	if decided == nil { // the refusal has the code of the permit closest to matching
		if v := u.policy.Live.Judge(&t, age, nil); v.Rule != nil {
			u.rules[v.Rule].decided++
		}
	}
	for _, r := range u.lost {
		if use := u.rules[r]; use != nil && len(use.instead) < 4 && !slices.Contains(use.instead, decided) {
			use.instead = append(use.instead, decided)
		}
	}
}

func (u *uses) report(r *hclfile.Reporter) {
	for i := range u.policy.Windows {
		if w := &u.policy.Windows[i]; !u.windows[w] {
			r.Warnf(w.At, "An earlier window block applies to the same messages, or every permit that applies to them names a "+
				"window.",
				"window %q is never used", w.Name)
		}
	}
	for _, rule := range u.policy.Rules {
		use := u.rules[rule]
		switch {
		case use.matched == 0 && use.decided == 0: // a permit that matches nothing can still ask for a reason
			r.Warnf(rule.At, "No request can meet its scope and condition. Remove it, or correct them.",
				"%s matches nothing", rule)
		case use.decided == 0 && !rule.Shadow:
			var names []string
			for _, other := range use.instead {
				if other != policy.BuiltInForbid || len(use.instead) == 1 {
					names = append(names, other.String())
				}
			}
			if len(names) > 3 {
				names = append(names[:3], "others")
			}
			r.Warnf(rule.At, "Remove it, move it up, or make its scope and condition wider or narrower.",
				"%s never decides: wherever it matches, %s does", rule, strings.Join(names, " or "))
		}
	}
}
