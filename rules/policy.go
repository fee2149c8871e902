package rules

import "time"

// Codes of a refusal that the engine itself gives. A forbid may name others.
const (
	CodeForbidden          = "forbidden"
	CodeWindowExpired      = "window_expired"
	CodeTypeNotRecallable  = "type_not_recallable"
	CodeReasonRequired     = "reason_required"
	CodeRateLimited        = "rate_limited"
	DefaultDeny            = "default_deny" // name of the RuleRef where no rule decided
	builtInCommandMessages = "built_in.command_messages"
)

// Input is one case to be judged. Strings are the words of the contract ("single", "text", "owner", …); a type,
// conversation type or role that is none of them is denied.
type Input struct {
	Tenant             string
	MessageID          string
	MessageType        string
	Sender             string
	MessageLabels      []string
	SentAt             time.Time
	ConversationID     string
	ConversationType   string
	ConversationLabels []string // the host's word at the moment of the request
	ActorID            string
	ActorRole          string // empty: member
	RequestedAt        time.Time
	Reason             string
	Ext                string
}

// age is how old the message was when the request was made. A request from before the message, by the skew of two
// clocks, finds it new.
func (in *Input) age() time.Duration {
	return max(in.RequestedAt.Sub(in.SentAt), 0)
}

// RuleRef is a rule's place in the files.
type RuleRef struct {
	Name string `json:"name"`
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// Decision is what a policy says to an Input.
type Decision struct {
	Permit bool
	Code   string  // of the refusal; empty if permitted
	Rule   RuleRef // what decided: the forbid, the permit, the permit whose only fault was lateness, or DefaultDeny
	// Until is the last moment, inclusive, at which the same request would still be permitted by this policy. Zero:
	// there is no such moment, or nothing is permitted.
	Until time.Time
}

// Policy is a set of rules, checked and compiled. It never changes, and any number of goroutines may use it.
type Policy struct {
	digest    string
	window    time.Duration
	clockSkew time.Duration
	rules     []*rule // in file order
	forbids   []*rule // of them, and the built-in one last
	permits   []*rule
}

// builtInForbid holds whatever the files say. It comes last among the forbids, so that a rule of the files that says
// the same is the one that is named.
var builtInForbid = &rule{
	ref:    RuleRef{Name: builtInCommandMessages},
	forbid: true,
	scope:  scope{types: typeWords.bit("command")},
	code:   CodeTypeNotRecallable,
}

// arrange derives what deciding needs once all rules are there.
func (p *Policy) arrange() {
	for _, r := range p.rules {
		switch {
		case r.forbid:
			p.forbids = append(p.forbids, r)
		default:
			if r.window == 0 {
				r.window = p.window
			}
			p.permits = append(p.permits, r)
		}
	}
	p.forbids = append(p.forbids, builtInForbid)
}

// ClockSkew is how far ahead of the plugin's clock a request may say that it was made.
func (p *Policy) ClockSkew() time.Duration { return p.clockSkew }

// Digest is the SHA-256 of the sources in hex; it names the policy in ledgers and logs.
func (p *Policy) Digest() string { return p.digest }

// Decide judges in. It is a pure function of the policy and in, and allocates nothing.
func (p *Policy) Decide(in *Input) Decision {
	s := subject{
		in:           in,
		conversation: conversationWords.bit(in.ConversationType),
		typ:          typeWords.bit(in.MessageType),
		role:         roleWords.bit(in.ActorRole),
		isSender:     in.ActorID == in.Sender,
	}
	if in.ActorRole == "" {
		s.role = roleWords.bit("member")
	}
	if s.conversation == 0 || s.typ == 0 || s.role == 0 {
		return Decision{Code: CodeForbidden, Rule: RuleRef{Name: DefaultDeny}}
	}
	age := in.age()
	for _, r := range p.forbids {
		if r.scope.holds(&s) {
			return Decision{Code: r.code, Rule: r.ref}
		}
	}
	var late *rule
	for _, r := range p.permits {
		if !r.scope.holds(&s) {
			continue
		}
		if age <= r.window {
			return Decision{Permit: true, Rule: r.ref, Until: p.until(&s)}
		}
		if late == nil {
			late = r
		}
	}
	if late != nil {
		return Decision{Code: CodeWindowExpired, Rule: late.ref}
	}
	return Decision{Code: CodeForbidden, Rule: RuleRef{Name: DefaultDeny}}
}

// until is the end of the longest window of the permits about s.
func (p *Policy) until(s *subject) time.Time {
	var longest time.Duration
	for _, r := range p.permits {
		if r.window > longest && r.scope.holds(s) {
			longest = r.window
		}
	}
	if longest == noEnd {
		return time.Time{}
	}
	return s.in.SentAt.Add(longest)
}
