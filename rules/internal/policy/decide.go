package policy

import (
	"slices"
	"time"
)

// Decision is the answer of a policy to an [Input].
type Decision struct {
	Permit bool
	Code   string  // of the refusal; empty if permitted
	Rule   RuleRef // that decided; of a refusal the forbid, the permit closest to matching, or DefaultDeny
	// Texts is what the rule says to users about the refusal, by language tag; nil: nothing of its own. It belongs to the
	// policy: do not modify it.
	Texts map[string]string
	// Until is the last moment at which this policy would still permit the same request, without regard to limits. It is
	// zero if the permission does not end, or if the request is refused.
	Until time.Time
	// RetryAt is when the limit of a rate_limited request has free space again, unless others use it first. It is zero if
	// that is too late.
	RetryAt time.Time
	// FreeAt is when that limit has free space again, even if the request would be too late by then. A job waits for
	// it: it repeats a request with the same age of the message.
	FreeAt time.Time
	// OnRecall is what a permitted recall asks of the host; nil if refused. It belongs to the policy: do not modify it.
	OnRecall *OnRecall
	// Shadow is how the decision would differ if shadow rules decided too.
	Shadow Shadow
}

// Shadow is what shadow rules would change about a [Decision].
type Shadow struct {
	Differs bool    // shadow rules would change Permit or Code
	Permit  bool    // this and the following are set only if Differs
	Code    string  // of the refusal
	Rule    RuleRef // the shadow rule that would decide
}

// Decide decides about in without regard to limits. It is a pure function of the policy and in, and allocates nothing.
func (p *Policy) Decide(in *Input) Decision {
	d, _ := p.DecideWithin(in, nil)
	return d
}

// Limits reports whether a limit has free space for one more recall and, if not, when it will.
type Limits interface {
	// Free returns the time at which one more recall fits, and whether that is the time of in.
	Free(l *Limit, in *Input) (at time.Time, ok bool)
}

// DecideWithin is Decide, except that it skips permits whose limit is exhausted according to l. It also returns the
// limit of the permit that decides. A nil l means that no limit is exhausted.
func (p *Policy) DecideWithin(in *Input, l Limits) (d Decision, limit *Limit) {
	t, ok := SubjectOf(in)
	if !ok {
		return Decision{Code: CodeForbidden, Rule: RuleRef{Name: DefaultDeny}}, nil
	}
	age := in.Age()
	v := p.Live.Judge(&t, age, l)
	d = Decision{Permit: v.Code == "", Code: v.Code, Rule: v.ref(), RetryAt: v.retryAt, FreeAt: v.freeAt}
	if !d.Permit && v.Rule != nil {
		d.Texts = v.Rule.Texts
	}
	if d.Permit {
		d.Until = p.Live.until(&t, v.Rule)
		d.OnRecall, limit = v.Rule.OnRecall, v.Rule.Limit
	}
	if p.Trial != nil {
		// A difference comes from a shadow rule, unless a limit changed in between.
		if w := p.Trial.Judge(&t, age, l); w.Code != v.Code && w.Rule != nil && w.Rule.Shadow {
			d.Shadow = Shadow{Differs: true, Permit: w.Code == "", Code: w.Code, Rule: w.ref()}
		}
	}
	return d, limit
}

// Forbids reports whether a forbid matches in, whatever the permits say. Shadow rules do not count.
func (p *Policy) Forbids(in *Input) bool {
	t, ok := SubjectOf(in)
	if !ok {
		return true
	}
	age := in.Age()
	return slices.ContainsFunc(p.Live.forbids, func(r *Rule) bool { return r.Matches(&t, age) })
}

// RuleSet is the rules that take part in a decision, in the order in which it needs them.
type RuleSet struct {
	policy  *Policy
	forbids []*Rule // in file order, the built-in one last
	Permits []*Rule // in file order
	moving  []*Rule // the forbids that compare message.age or a field of the clock
	Ages    []time.Duration
	minutes []int // at which the results of fields of the clock can change; none: no rule asks for one
}

func newRuleSet(p *Policy, rules []*Rule) RuleSet {
	s := RuleSet{policy: p}
	for _, r := range rules {
		if r.Aging() {
			s.Ages = append(s.Ages, r.When.ages()...)
		}
		s.minutes = append(s.minutes, r.When.ClockMinutes()...)
		switch {
		case !r.Forbid:
			s.Permits = append(s.Permits, r)
		case r.Aging(), r.Clocked():
			s.moving = append(s.moving, r)
			fallthrough
		default:
			s.forbids = append(s.forbids, r)
		}
	}
	s.forbids = append(s.forbids, BuiltInForbid)
	slices.Sort(s.Ages)
	s.Ages = slices.Compact(s.Ages)
	slices.Sort(s.minutes)
	s.minutes = slices.Compact(s.minutes)
	return s
}

// Verdict is the rule that decides and the code of the refusal; the code is empty if the rule permits.
type Verdict struct {
	Rule    *Rule // nil: nothing permits
	Code    string
	retryAt time.Time
	freeAt  time.Time
}

func (v Verdict) ref() RuleRef {
	if v.Rule == nil {
		return RuleRef{Name: DefaultDeny}
	}
	return v.Rule.Ref
}

// Judge finds the rule that decides about t at an age. If no permit matches, the refusal names the permit that is
// easiest to satisfy: a reason can be given now, a limit recovers, a window does not reopen.
func (s *RuleSet) Judge(t *Subject, age time.Duration, l Limits) Verdict {
	for _, r := range s.forbids {
		if r.Matches(t, age) {
			return Verdict{Rule: r, Code: r.Code}
		}
	}
	var noReason, exhausted, late *Rule
	var retryAt, freeAt time.Time
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
				if freeAt.IsZero() || at.Before(freeAt) {
					freeAt = at
				}
				if (retryAt.IsZero() || at.Before(retryAt)) && s.permitsLater(r, t, at.Sub(t.In.SentAt)) {
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
		return Verdict{Rule: exhausted, Code: CodeRateLimited, retryAt: retryAt, freeAt: freeAt}
	case late != nil:
		return Verdict{Rule: late, Code: CodeWindowExpired}
	}
	return Verdict{Code: CodeForbidden}
}

// InTime reports whether the scope, condition and window of a permit hold at an age.
func (s *RuleSet) InTime(r *Rule, t *Subject, age time.Duration) bool {
	return r.Matches(t, age) && age <= s.policy.WindowOf(r, t)
}

// wasInTime reports whether they held when the message was younger, so that the request is only too late.
func (s *RuleSet) wasInTime(r *Rule, t *Subject, age time.Duration) bool {
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

// at returns t as it is at an age: a request that is made later. The clock shows another time then.
func (s *RuleSet) at(t *Subject, age time.Duration) *Subject {
	if len(s.minutes) == 0 {
		return t
	}
	later, in := *t, *t.In
	in.RequestedAt = in.SentAt.Add(age)
	later.In = &in
	return &later
}

// permitsLater reports whether a permit permits t at a later age, which is negative before the time of sending.
func (s *RuleSet) permitsLater(r *Rule, t *Subject, age time.Duration) bool {
	t, age = s.at(t, age), max(age, 0)
	return s.InTime(r, t, age) && !s.forbidsAt(t, age)
}

// weeks is how long the results of fields of the clock are followed while no age changes one: after that they repeat.
// It is more than two weeks, since in one of them the clocks can be changed past the time that a rule asks for.
const weeks = 15 * Day

// until returns the last moment at which some permit still permits t, which r permits. It steps through the ages at
// which a result can change.
func (s *RuleSet) until(t *Subject, r *Rule) time.Time {
	age := t.In.RequestedAt.Sub(t.In.SentAt) // negative if the request seems to be older: its clock counts from there
	since, change := age, age                // of the clock: where ages last changed results, and where they do next
	for {
		next := NoEnd
		if w := s.policy.WindowOf(r, t); w != NoEnd {
			next = w + 1
		}
		if r.Aging() || len(s.moving) > 0 {
			next = min(next, s.nextOfAges(age))
		}
		if len(s.minutes) > 0 {
			if age >= change {
				since, change = age, s.nextAge(t, age)
			}
			if age < since+weeks {
				next = min(next, nextMinute(t.In.SentAt.Add(age), s.policy.Zone, s.minutes).Sub(t.In.SentAt))
			} else {
				next = min(next, change)
			}
		}
		if next == NoEnd {
			return time.Time{}
		}
		if !s.holdsAt(s.at(t, next), max(next, 0), &r) {
			return t.In.SentAt.Add(next - 1)
		}
		age = next
	}
}

// nextOfAges returns the first age after one at which the result of a condition can change, NoEnd if there is none.
func (s *RuleSet) nextOfAges(age time.Duration) time.Duration {
	if i, _ := slices.BinarySearch(s.Ages, max(age, 0)+1); i < len(s.Ages) {
		return s.Ages[i]
	}
	return NoEnd
}

// nextAge returns the first age after one at which the result of a condition can change or a window ends, NoEnd if
// there is none. Between two of them only the clock changes results.
func (s *RuleSet) nextAge(t *Subject, age time.Duration) time.Duration {
	next := s.nextOfAges(age)
	for _, r := range s.Permits {
		if w := s.policy.WindowOf(r, t); w != NoEnd && w >= age {
			next = min(next, w+1)
		}
	}
	return next
}

// holdsAt reports whether t is permitted at an age later than one at which *r permits it, and sets *r to the permit
// that does.
func (s *RuleSet) holdsAt(t *Subject, age time.Duration, r **Rule) bool {
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

// forbidsAt reports whether a forbid matches t at an age later than one at which none does.
func (s *RuleSet) forbidsAt(t *Subject, age time.Duration) bool {
	for _, f := range s.moving {
		if f.Matches(t, age) {
			return true
		}
	}
	return false
}

// VerdictText returns "permitted", or "refused: " and the code.
func VerdictText(permit bool, code string) string {
	if permit {
		return "permitted"
	}
	return "refused: " + code
}
