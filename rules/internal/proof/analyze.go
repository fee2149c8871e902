package proof

import (
	"math"
	"slices"
	"strings"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// Analysis is what going through every input that a policy can tell apart found.
type Analysis struct {
	Inputs   int                 `json:"inputs"` // how many there are; 0 if more than can be counted
	Proven   bool                `json:"proven"` // they were all gone through; if not, there may be more to find
	Findings hclfile.Diagnostics `json:"findings"`
}

// Analyze looks for what is dead: rules that match nothing or in whose place another always decides, and windows that
// no permit goes by. It goes through every distinguishable input, up to 2,000,000, which takes a few seconds at most;
// it does not guess.
func Analyze(p *policy.Policy) Analysis {
	i := NewPredicates()
	i.AddPolicy(p)
	s := NewDomain(i)
	a := Analysis{Findings: hclfile.Diagnostics{}, Inputs: s.Countable(), Proven: s.Tractable()}
	if !a.Proven {
		return a
	}
	u := newUses(p)
	s.walk(func(in *policy.Input, _ []int) bool {
		u.look(in)
		return true
	})
	r := &hclfile.Reporter{Files: p.Sources}
	u.report(r)
	a.Findings = append(a.Findings, r.Diagnostics()...)
	return a
}

// Countable is the size of the domain, 0 if it was too large to count.
func (s *domain) Countable() int {
	if s.size == math.MaxInt {
		return 0
	}
	return s.size
}

// uses counts what became of each rule.
type uses struct {
	policy  *policy.Policy
	rules   map[*policy.Rule]*use
	windows map[*policy.NamedWindow]bool // that a permit went by
	lost    []*policy.Rule               // scratch: the rules that matched the input and did not decide
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

// look goes through the rules as a decision does, but does not stop where it would.
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
			if r.Limit == nil { // one with a limit may have no room and leave the decision to the next
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
	if decided == nil { // a permit that lacks something gives the refusal its code
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
			r.Warnf(w.At, "Another window block is about the same messages before it, or every permit about them names a window.",
				"window %q is never used", w.Name)
		}
	}
	for _, rule := range u.policy.Rules {
		use := u.rules[rule]
		switch {
		case use.matched == 0:
			r.Warnf(rule.At, "No request can meet what it asks for; remove it or mend its scope and condition.",
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
			r.Warnf(rule.At, "Remove it, or let it come first or ask for less.",
				"%s never decides: wherever it matches, %s does", rule, strings.Join(names, " or "))
		}
	}
}
