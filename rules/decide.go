package rules

import (
	"slices"
	"time"
)

// Decision is what a policy says to an Input.
type Decision struct {
	Permit bool
	Code   string  // of the refusal; empty if permitted
	Rule   RuleRef // what decided: the forbid, the permit, the permit that lacked least, or DefaultDeny
	// Until is the last moment, inclusive, at which the same request would still be permitted by this policy, its
	// limits aside. Zero: there is no such moment, or nothing is permitted.
	Until time.Time
	// RetryAt is when a rate_limited request will find room again, if nobody else takes it. Zero: not before it is too late.
	RetryAt time.Time
	// OnRecall is what a permitted recall asks of the host; nil if refused. It belongs to the policy.
	OnRecall *OnRecall
	// Shadow is what the policy would say if its shadow rules decided too.
	Shadow Shadow
}

// Shadow tells what shadow rules would change.
type Shadow struct {
	Differs bool    // the shadow rules would permit what is refused, or the other way round, or for another code
	Permit  bool    // this and the rest are set only if it differs
	Code    string  // of the refusal
	Rule    RuleRef // the shadow rule that would decide
}

// Decide judges in without regard to limits. It is a pure function of the policy and in, and allocates nothing.
func (p *Policy) Decide(in *Input) Decision {
	d, _ := p.decide(in, nil)
	return d
}

// limits tells whether a limit has free space for one more recall, and if not, when it will.
type limits interface {
	free(l *limit, in *Input) (at time.Time, ok bool)
}

// decide decides about in and returns the limit of the permit that decides. Permits whose limit is exhausted are
// skipped; without limits none is.
func (p *Policy) decide(in *Input, l limits) (d Decision, limit *limit) {
	t, ok := subjectOf(in)
	if !ok {
		return Decision{Code: CodeForbidden, Rule: RuleRef{Name: DefaultDeny}}, nil
	}
	age := in.age()
	v := p.live.judge(&t, age, l)
	d = Decision{Permit: v.code == "", Code: v.code, Rule: v.ref(), RetryAt: v.retryAt}
	if d.Permit {
		d.Until = p.live.until(&t, age, v.rule)
		d.OnRecall, limit = v.rule.onRecall, v.rule.limit
	}
	if p.trial != nil {
		// What differs comes from a shadow rule, unless a limit changed in between.
		if w := p.trial.judge(&t, age, l); w.code != v.code && w.rule != nil && w.rule.shadow {
			d.Shadow = Shadow{Differs: true, Permit: w.code == "", Code: w.code, Rule: w.ref()}
		}
	}
	return d, limit
}

// ruleSet is the rules that take part in a decision, arranged for it.
type ruleSet struct {
	policy  *Policy
	forbids []*rule // in file order, the built-in one last
	permits []*rule // in file order
	aging   []*rule // the forbids that ask about the age
	ages    []time.Duration
}

func newRuleSet(p *Policy, rules []*rule) ruleSet {
	s := ruleSet{policy: p}
	for _, r := range rules {
		if r.aging() {
			s.ages = append(s.ages, r.when.ages()...)
		}
		switch {
		case !r.forbid:
			s.permits = append(s.permits, r)
		case r.aging():
			s.aging = append(s.aging, r)
			fallthrough
		default:
			s.forbids = append(s.forbids, r)
		}
	}
	s.forbids = append(s.forbids, builtInForbid)
	slices.Sort(s.ages)
	s.ages = slices.Compact(s.ages)
	return s
}

// verdict is the rule that decides and the code of the refusal, which is empty if it permits.
type verdict struct {
	rule    *rule // nil: nothing permits
	code    string
	retryAt time.Time
}

func (v verdict) ref() RuleRef {
	if v.rule == nil {
		return RuleRef{Name: DefaultDeny}
	}
	return v.rule.ref
}

// judge finds the rule that decides t at an age. If nothing permits, the code is that of the permit which lacks what
// is easiest to mend: a reason can be given now, room comes back, time does not.
func (s *ruleSet) judge(t *subject, age time.Duration, l limits) verdict {
	for _, r := range s.forbids {
		if r.matches(t, age) {
			return verdict{rule: r, code: r.code}
		}
	}
	var noReason, exhausted, late *rule
	var retryAt time.Time
	for _, r := range s.permits {
		if !s.inTime(r, t, age) {
			if late == nil && s.wasInTime(r, t, age) {
				late = r
			}
			continue
		}
		if r.reason && t.in.Reason == "" {
			if noReason == nil {
				noReason = r
			}
			continue
		}
		if l != nil && r.limit != nil {
			if at, ok := l.free(r.limit, t.in); !ok {
				at = t.in.RequestedAt.Add(at.Sub(t.in.countedAt()))
				if exhausted == nil {
					exhausted = r
				}
				later := max(at.Sub(t.in.SentAt), 0)
				if (retryAt.IsZero() || at.Before(retryAt)) && s.inTime(r, t, later) && !s.forbidsAt(t, later) {
					exhausted, retryAt = r, at
				}
				continue
			}
		}
		return verdict{rule: r}
	}
	switch {
	case noReason != nil:
		return verdict{rule: noReason, code: CodeReasonRequired}
	case exhausted != nil:
		return verdict{rule: exhausted, code: CodeRateLimited, retryAt: retryAt}
	case late != nil:
		return verdict{rule: late, code: CodeWindowExpired}
	}
	return verdict{code: CodeForbidden}
}

// inTime tells whether scope, condition and window of a permit hold at an age.
func (s *ruleSet) inTime(r *rule, t *subject, age time.Duration) bool {
	return r.matches(t, age) && age <= s.policy.windowOf(r, t)
}

// wasInTime tells whether they held when the message was younger, so that lateness is the permit's only fault.
func (s *ruleSet) wasInTime(r *rule, t *subject, age time.Duration) bool {
	if s.inTime(r, t, 0) {
		return true
	}
	if !r.aging() {
		return false
	}
	for _, younger := range s.ages {
		if younger >= age {
			return false
		}
		if s.inTime(r, t, younger) {
			return true
		}
	}
	return false
}

// until finds the last moment at which t, which r permits at an age, is still permitted by some permit. It goes from
// one age at which something can change to the next.
func (s *ruleSet) until(t *subject, age time.Duration, r *rule) time.Time {
	for {
		next := noEnd
		if w := s.policy.windowOf(r, t); w != noEnd {
			next = w + 1
		}
		if r.aging() || len(s.aging) > 0 {
			if i, _ := slices.BinarySearch(s.ages, age+1); i < len(s.ages) {
				next = min(next, s.ages[i])
			}
		}
		if next == noEnd {
			return time.Time{}
		}
		if !s.holdsAt(t, next, &r) {
			return t.in.SentAt.Add(next - 1)
		}
		age = next
	}
}

// holdsAt tells whether t is permitted at an age later than one at which *r permits it, and by which permit.
func (s *ruleSet) holdsAt(t *subject, age time.Duration, r **rule) bool {
	if s.forbidsAt(t, age) {
		return false
	}
	if s.inTime(*r, t, age) {
		return true
	}
	for _, other := range s.permits {
		if s.inTime(other, t, age) && (!other.reason || t.in.Reason != "") {
			*r = other
			return true
		}
	}
	return false
}

// forbidsAt tells whether a forbid matches t at an age later than one at which none does.
func (s *ruleSet) forbidsAt(t *subject, age time.Duration) bool {
	for _, f := range s.aging {
		if f.matches(t, age) {
			return true
		}
	}
	return false
}

func verdictText(permit bool, code string) string {
	if permit {
		return "permitted"
	}
	return "refused: " + code
}
