package policy

import (
	"fmt"
	"time"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/hashicorp/hcl/v2"
)

// Codes of a refusal that the engine itself gives. A forbid may name others.
const (
	CodeForbidden         = "forbidden"
	CodeWindowExpired     = "window_expired"
	CodeTypeNotRecallable = "type_not_recallable"
	CodeReasonRequired    = "reason_required"
	CodeRateLimited       = "rate_limited"
)

const (
	// DefaultDeny is the name of the RuleRef of a refusal that no rule gave.
	DefaultDeny = "default_deny"
	// BuiltInCommandMessages is the name of the RuleRef where the engine itself kept a command message.
	BuiltInCommandMessages = "built_in.command_messages"
)

const (
	// MaxWindow is the longest that a sender may recall an own message, whatever a rule file says: the maximum of
	// the servers this takes after.
	MaxWindow = 7 * Day
	// DefaultWindow holds where neither the permit nor the policy names a window.
	DefaultWindow = 2 * time.Minute
	// DefaultClockSkew and maxClockSkew bound how far in the future a request may lie.
	DefaultClockSkew = 5 * time.Second
	MaxClockSkew     = 5 * time.Minute
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
	ActorRole          string // empty: member, and so is an owner or admin in a single conversation
	RequestedAt        time.Time
	CountedAt          time.Time // the moment by which limits count, of a clock that nobody sets; zero: RequestedAt
	Reason             string
	Ext                string
}

// Age is how old the message was when the request was made. A request from before the message, by the skew of two
// clocks, finds it new.
func (in *Input) Age() time.Duration {
	return max(in.RequestedAt.Sub(in.SentAt), 0)
}

func (in *Input) LimitTime() time.Time {
	if in.CountedAt.IsZero() {
		return in.RequestedAt
	}
	return in.CountedAt
}

// Origin is when the messages of proofs and tests are sent, where nothing else is said.
var Origin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// RuleRef is a rule's place in the files.
type RuleRef struct {
	Name string `json:"name"`
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// String is the rule's name and place.
func (r RuleRef) String() string {
	if r.File == "" {
		return r.Name
	}
	return fmt.Sprintf("%s (%s:%d)", r.Name, r.File, r.Line)
}

// Policy is a set of rules, checked and compiled. It never changes, and any number of goroutines may use it.
type Policy struct {
	Sources   []hclfile.File // for diagnostics about the whole
	Digest    string
	Window    time.Duration
	Windows   []NamedWindow // in file order
	ClockSkew time.Duration
	OnRecall  *OnRecall
	Rules     []*Rule  // in file order
	Live      ruleSet  // the rules that decide
	Trial     *ruleSet // these and the shadow ones; nil if there is no shadow rule
}

// NamedWindow is a window for the messages that its scope is about.
type NamedWindow struct {
	Name   string
	At     hcl.Range
	Scope  Scope
	Within time.Duration
}

// BuiltInForbid holds whatever the files say. It comes last among the forbids, so that a rule of the files that says
// the same is the one that is named.
var BuiltInForbid = &Rule{
	Ref:    RuleRef{Name: BuiltInCommandMessages},
	Forbid: true,
	Scope:  Scope{Types: MessageTypes.Bit("command")},
	Code:   CodeTypeNotRecallable,
}

// Arrange derives what deciding needs once all rules are there.
func (p *Policy) Arrange() {
	var live []*Rule
	for _, r := range p.Rules {
		if !r.Forbid {
			if r.OnRecall == nil {
				r.OnRecall = p.OnRecall
			}
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

// WindowOf is how long after sending the permit r holds for t.
func (p *Policy) WindowOf(r *Rule, t *Subject) time.Duration {
	if r.Window != 0 {
		return r.Window
	}
	if w := p.NamedWindowOf(t); w != nil {
		return w.Within
	}
	return p.Window
}

// NamedWindowOf is the window block about t, nil if there is none.
func (p *Policy) NamedWindowOf(t *Subject) *NamedWindow {
	for i := range p.Windows {
		if p.Windows[i].Scope.holds(t) {
			return &p.Windows[i]
		}
	}
	return nil
}
