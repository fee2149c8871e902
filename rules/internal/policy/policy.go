package policy

import (
	"fmt"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/chat-recall/recall/internal/hclfile"
)

// Codes of refusals that the engine gives. A forbid may name others.
const (
	CodeForbidden         = "forbidden"
	CodeWindowExpired     = "window_expired"
	CodeTypeNotRecallable = "type_not_recallable"
	CodeReasonRequired    = "reason_required"
	CodeRateLimited       = "rate_limited"
)

const (
	// DefaultDeny is the name in the [RuleRef] of a refusal that no rule gave.
	DefaultDeny = "default_deny"
	// BuiltInCommandMessages is the name in the [RuleRef] if [BuiltInForbid] decided.
	BuiltInCommandMessages = "built_in.command_messages"
)

const (
	// MaxWindow is the longest time after sending that a sender with the role member or none may recall an own message,
	// unless the policy says own_window_limit = "any". It is the maximum of comparable chat servers.
	MaxWindow = 7 * Day
	// DefaultWindow is the window of a permit if neither the permit nor the policy names one.
	DefaultWindow = 2 * time.Minute
	// DefaultClockSkew is how far in the future the time of a request may be if the policy does not say it.
	DefaultClockSkew = 5 * time.Second
	// MaxClockSkew is the most that a policy may say.
	MaxClockSkew = 5 * time.Minute
)

// Input is one request to decide about: one message and one actor. MessageType, ConversationType and ActorRole are
// words of the contract, such as "text", "single" and "owner"; any other word is refused with [CodeForbidden].
type Input struct {
	Tenant             string
	MessageID          string
	MessageType        string
	Sender             string
	MessageLabels      []string
	SentAt             time.Time
	ConversationID     string
	ConversationType   string
	ConversationLabels []string // as the host knows them at the time of the request
	ActorID            string
	ActorRole          string   // empty means member
	ActorLabels        []string // as the host knows them at the time of the request
	RequestedAt        time.Time
	CountedAt          time.Time // when limits count it, by a clock that is never set; zero means RequestedAt
	Reason             string
	Ext                string
}

// Age returns how old the message was when the request was made. It is 0 if the request seems to be older than the
// message because two clocks differ.
func (in *Input) Age() time.Duration {
	return max(in.RequestedAt.Sub(in.SentAt), 0)
}

// LimitTime returns the time at which limits count the request.
func (in *Input) LimitTime() time.Time {
	if in.CountedAt.IsZero() {
		return in.RequestedAt
	}
	return in.CountedAt
}

// Origin is the default time of sending in proofs and tests.
var Origin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// RuleRef is the name, file and line of a rule.
type RuleRef struct {
	Name string `json:"name"`
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// String returns the name and place, as in "own (rules.hcl:3)".
func (r RuleRef) String() string {
	if r.File == "" {
		return r.Name
	}
	return fmt.Sprintf("%s (%s:%d)", r.Name, r.File, r.Line)
}

// Policy is a set of rules, checked and compiled. It never changes after [Policy.Arrange] and is safe for concurrent
// use.
type Policy struct {
	Sources   []hclfile.File // whose lines diagnostics show
	Digest    string
	Window    time.Duration
	Windows   []NamedWindow // in file order
	ClockSkew time.Duration
	Zone      *time.Location // of request.weekday and request.time
	AnyOwn    bool           // own_window_limit = "any": [MaxWindow] does not apply
	OnRecall  *OnRecall
	Rules     []*Rule  // in file order
	Live      RuleSet  // the rules that decide
	Trial     *RuleSet // these and the shadow rules; nil if there are none
}

// NamedWindow is a window block: the window of the messages in its scope.
type NamedWindow struct {
	Name   string
	At     hcl.Range
	Scope  Scope
	Within time.Duration
}

// BuiltInForbid applies whatever the files say. It is the last forbid, so that decisions name a rule of the files that
// forbids the same.
var BuiltInForbid = &Rule{
	Ref:    RuleRef{Name: BuiltInCommandMessages},
	Forbid: true,
	Scope:  Scope{Types: MessageTypes.Bit("command")},
	Code:   CodeTypeNotRecallable,
}

// Arrange prepares the policy for decisions. Call it once, after all rules are set.
func (p *Policy) Arrange() {
	var live []*Rule
	for _, r := range p.Rules {
		if !r.Forbid && r.OnRecall == nil {
			r.OnRecall = p.OnRecall
		}
		if !r.Shadow {
			live = append(live, r)
		}
	}
	p.Live = newRuleSet(p, live)
	if len(live) < len(p.Rules) {
		trial := newRuleSet(p, p.Rules)
		p.Trial = &trial
	}
}

// WindowOf returns the window of the permit r for t.
func (p *Policy) WindowOf(r *Rule, t *Subject) time.Duration {
	if r.Window != 0 {
		return r.Window
	}
	if w := p.NamedWindowOf(t); w != nil {
		return w.Within
	}
	return p.Window
}

// NamedWindowOf returns the first window block whose scope contains t, nil if there is none.
func (p *Policy) NamedWindowOf(t *Subject) *NamedWindow {
	for i := range p.Windows {
		if p.Windows[i].Scope.Holds(t) {
			return &p.Windows[i]
		}
	}
	return nil
}
