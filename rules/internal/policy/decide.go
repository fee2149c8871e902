package policy

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
	d, _ := p.DecideWithin(in, nil)
	return d
}

// Limits tells whether a limit has free space for one more recall, and if not, when it will.
type Limits interface {
	Free(l *Limit, in *Input) (at time.Time, ok bool)
}

// DecideWithin decides about in and returns the limit of the permit that decides. Permits whose limit is exhausted are
// skipped; without limits none is.
func (p *Policy) DecideWithin(in *Input, l Limits) (d Decision, limit *Limit) {
	t, ok := SubjectOf(in)
	if !ok {
		return Decision{Code: CodeForbidden, Rule: RuleRef{Name: DefaultDeny}}, nil
	}
	age := in.Age()
	v := p.Live.Judge(&t, age, l)
	d = Decision{Permit: v.Code == "", Code: v.Code, Rule: v.ref(), RetryAt: v.retryAt}
	if d.Permit {
		d.Until = p.Live.until(&t, age, v.Rule)
		d.OnRecall, limit = v.Rule.OnRecall, v.Rule.Limit
	}
	if p.Trial != nil {
		// What differs comes from a shadow rule, unless a limit changed in between.
		if w := p.Trial.Judge(&t, age, l); w.Code != v.Code && w.Rule != nil && w.Rule.Shadow {
			d.Shadow = Shadow{Differs: true, Permit: w.Code == "", Code: w.Code, Rule: w.ref()}
		}
	}
	return d, limit
}

// ruleSet is the rules that take part in a decision, arranged for it.
type ruleSet struct {
	policy  *Policy
	forbids []*Rule // in file order, the built-in one last
	Permits []*Rule // in file order
	aging   []*Rule // the forbids that ask about the age
	Ages    []time.Duration
}

func newRuleSet(p *Policy, rules []*Rule) ruleSet {
	s := ruleSet{policy: p}
	for _, r := range rules {
		if r.Aging() {
			s.Ages = append(s.Ages, r.When.ages()...)
		}
		switch {
		case !r.Forbid:
			s.Permits = append(s.Permits, r)
		case r.Aging():
			s.aging = append(s.aging, r)
			fallthrough
		default:
			s.forbids = append(s.forbids, r)
		}
	}
	s.forbids = append(s.forbids, BuiltInForbid)
	slices.Sort(s.Ages)
	s.Ages = slices.Compact(s.Ages)
	return s
}

// Verdict is the rule that decides and the code of the refusal, which is empty if it permits.
type Verdict struct {
	Rule    *Rule // nil: nothing permits
	Code    string
	retryAt time.Time
}

func (v Verdict) ref() RuleRef {
	if v.Rule == nil {
		return RuleRef{Name: DefaultDeny}
	}
	return v.Rule.Ref
}

// Judge finds the rule that decides t at an age. If nothing permits, the code is that of the permit which lacks what
// is easiest to mend: a reason can be given now, room comes back, time does not.
func (s *ruleSet) Judge(t *Subject, age time.Duration, l Limits) Verdict {
	for _, r := range s.forbids {
		if r.Matches(t, age) {
			return Verdict{Rule: r, Code: r.Code}
		}
	}
	var noReason, exhausted, late *Rule
	var retryAt time.Time
	for _, r := range s.Permits {
		if !s.InTime(r, t, age) {
			if late == nil && s.wasInTime(r, t, age) {
				late = r
			}
			continue
		}
		if r.Reason && t.In.Reason == "" {
			if noReason == nil {
				noReason = r
			}
			continue
		}
		if l != nil && r.Limit != nil {
			if at, ok := l.Free(r.Limit, t.In); !ok {
				at = t.In.RequestedAt.Add(at.Sub(t.In.LimitTime()))
				if exhausted == nil {
					exhausted = r
				}
				later := max(at.Sub(t.In.SentAt), 0)
				if (retryAt.IsZero() || at.Before(retryAt)) && s.InTime(r, t, later) && !s.forbidsAt(t, later) {
					exhausted, retryAt = r, at
				}
				continue
			}
		}
		return Verdict{Rule: r}
	}
	switch {
	case noReason != nil:
		return Verdict{Rule: noReason, Code: CodeReasonRequired}
	case exhausted != nil:
		return Verdict{Rule: exhausted, Code: CodeRateLimited, retryAt: retryAt}
	case late != nil:
		return Verdict{Rule: late, Code: CodeWindowExpired}
	}
	return Verdict{Code: CodeForbidden}
}

// InTime tells whether scope, condition and window of a permit hold at an age.
func (s *ruleSet) InTime(r *Rule, t *Subject, age time.Duration) bool {
	return r.Matches(t, age) && age <= s.policy.WindowOf(r, t)
}

// wasInTime tells whether they held when the message was younger, so that lateness is the permit's only fault.
func (s *ruleSet) wasInTime(r *Rule, t *Subject, age time.Duration) bool {
	if s.InTime(r, t, 0) {
		return true
	}
	if !r.Aging() {
		return false
	}
	for _, younger := range s.Ages {
		if younger >= age {
			return false
		}
		if s.InTime(r, t, younger) {
			return true
		}
	}
	return false
}

// until finds the last moment at which t, which r permits at an age, is still permitted by some permit. It goes from
// one age at which something can change to the next.
func (s *ruleSet) until(t *Subject, age time.Duration, r *Rule) time.Time {
	for {
		next := NoEnd
		if w := s.policy.WindowOf(r, t); w != NoEnd {
			next = w + 1
		}
		if r.Aging() || len(s.aging) > 0 {
			if i, _ := slices.BinarySearch(s.Ages, age+1); i < len(s.Ages) {
				next = min(next, s.Ages[i])
			}
		}
		if next == NoEnd {
			return time.Time{}
		}
		if !s.holdsAt(t, next, &r) {
			return t.In.SentAt.Add(next - 1)
		}
		age = next
	}
}

// holdsAt tells whether t is permitted at an age later than one at which *r permits it, and by which permit.
func (s *ruleSet) holdsAt(t *Subject, age time.Duration, r **Rule) bool {
	if s.forbidsAt(t, age) {
		return false
	}
	if s.InTime(*r, t, age) {
		return true
	}
	for _, other := range s.Permits {
		if s.InTime(other, t, age) && (!other.Reason || t.In.Reason != "") {
			*r = other
			return true
		}
	}
	return false
}

// forbidsAt tells whether a forbid matches t at an age later than one at which none does.
func (s *ruleSet) forbidsAt(t *Subject, age time.Duration) bool {
	for _, f := range s.aging {
		if f.Matches(t, age) {
			return true
		}
	}
	return false
}

func VerdictText(permit bool, code string) string {
	if permit {
		return "permitted"
	}
	return "refused: " + code
}
