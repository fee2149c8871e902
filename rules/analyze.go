package rules

import (
	"math"
	"slices"
	"strings"

	"github.com/chat-recall/recall/internal/hclfile"
)

// Analysis is what going through every input that a policy can tell apart found.
type Analysis struct {
	Inputs   int         `json:"inputs"` // how many there are; 0 if more than can be counted
	Proven   bool        `json:"proven"` // they were all gone through; if not, there may be more to find
	Findings Diagnostics `json:"findings"`
}

// analyze looks for what is dead: rules that match nothing or in whose place another always decides, and windows that
// no permit goes by. It goes through every distinguishable input, up to 2,000,000, which takes a few seconds at most;
// it does not guess.
func analyze(p *Policy) Analysis {
	i := newPredicates()
	i.addPolicy(p)
	s := newDomain(i)
	a := Analysis{Findings: Diagnostics{}, Inputs: s.countable(), Proven: s.tractable()}
	if !a.Proven {
		return a
	}
	u := newUses(p)
	s.walk(func(in *Input, _ []int) bool {
		u.look(in)
		return true
	})
	r := &hclfile.Reporter{Files: p.sources}
	u.report(r)
	a.Findings = append(a.Findings, r.Diagnostics()...)
	return a
}

// countable is the size of the domain, 0 if it was too large to count.
func (s *domain) countable() int {
	if s.size == math.MaxInt {
		return 0
	}
	return s.size
}

// uses counts what became of each rule.
type uses struct {
	policy  *Policy
	rules   map[*rule]*use
	windows map[*namedWindow]bool // that a permit went by
	lost    []*rule               // scratch: the rules that matched the input and did not decide
}

type use struct {
	matched, decided int
	instead          []*rule // that decided where this one matched
}

func newUses(p *Policy) *uses {
	u := &uses{policy: p, rules: make(map[*rule]*use, len(p.rules)), windows: map[*namedWindow]bool{}}
	for _, r := range p.rules {
		u.rules[r] = &use{}
	}
	return u
}

// look goes through the rules as a decision does, but does not stop where it would.
func (u *uses) look(in *Input) {
	t, _ := subjectOf(in)
	age := in.age()
	var decided *rule
	u.lost = u.lost[:0]
	visit := func(r *rule, holds bool) {
		use := u.rules[r]
		if !holds {
			return
		}
		if use != nil { // the built-in forbid has none
			use.matched++
		}
		switch {
		case r.shadow:
		case decided != nil:
			u.lost = append(u.lost, r)
		default:
			if use != nil {
				use.decided++
			}
			if r.limit == nil { // one with a limit may have no room and leave the decision to the next
				decided = r
			}
		}
	}
	for _, r := range u.policy.rules {
		switch {
		case r.forbid:
			visit(r, r.matches(&t, age))
		case r.window == 0 && len(u.policy.windows) > 0 && r.matches(&t, age):
			u.windows[u.policy.namedWindowOf(&t)] = true
		}
	}
	visit(builtInForbid, builtInForbid.matches(&t, age))
	for _, r := range u.policy.live.permits {
		visit(r, u.policy.live.inTime(r, &t, age) && (!r.reason || in.Reason != ""))
	}
	if u.policy.trial != nil {
		for _, r := range u.policy.trial.permits {
			if r.shadow {
				visit(r, u.policy.trial.inTime(r, &t, age))
			}
		}
	}
	if decided == nil { // a permit that lacks something gives the refusal its code
		if v := u.policy.live.judge(&t, age, nil); v.rule != nil {
			u.rules[v.rule].decided++
		}
	}
	for _, r := range u.lost {
		if use := u.rules[r]; use != nil && len(use.instead) < 4 && !slices.Contains(use.instead, decided) {
			use.instead = append(use.instead, decided)
		}
	}
}

func (u *uses) report(r *hclfile.Reporter) {
	for i := range u.policy.windows {
		if w := &u.policy.windows[i]; !u.windows[w] {
			r.Warnf(w.at, "Another window block is about the same messages before it, or every permit about them names a window.",
				"window %q is never used", w.name)
		}
	}
	for _, rule := range u.policy.rules {
		use := u.rules[rule]
		switch {
		case use.matched == 0:
			r.Warnf(rule.at, "No request can meet what it asks for; remove it or mend its scope and condition.",
				"%s matches nothing", rule)
		case use.decided == 0 && !rule.shadow:
			var names []string
			for _, other := range use.instead {
				if other != builtInForbid || len(use.instead) == 1 {
					names = append(names, other.String())
				}
			}
			if len(names) > 3 {
				names = append(names[:3], "others")
			}
			r.Warnf(rule.at, "Remove it, or let it come first or ask for less.",
				"%s never decides: wherever it matches, %s does", rule, strings.Join(names, " or "))
		}
	}
}
