package rules

import (
	"fmt"
	"slices"
	"time"

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
	// builtInCommandMessages is the name of the RuleRef where the engine itself kept a command message.
	builtInCommandMessages = "built_in.command_messages"
)

const (
	// MaxWindow is the longest that a sender may recall an own message, whatever a rule file says: the maximum of
	// the servers this takes after.
	MaxWindow = 7 * day
	// DefaultWindow holds where neither the permit nor the policy names a window.
	DefaultWindow = 2 * time.Minute
	// defaultClockSkew and maxClockSkew bound how far in the future a request may lie.
	defaultClockSkew = 5 * time.Second
	maxClockSkew     = 5 * time.Minute
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

// age is how old the message was when the request was made. A request from before the message, by the skew of two
// clocks, finds it new.
func (in *Input) age() time.Duration {
	return max(in.RequestedAt.Sub(in.SentAt), 0)
}

func (in *Input) countedAt() time.Time {
	if in.CountedAt.IsZero() {
		return in.RequestedAt
	}
	return in.CountedAt
}

// origin is when the messages of proofs and tests are sent, where nothing else is said.
var origin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

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
	sources   []File // for diagnostics about the whole
	digest    string
	window    time.Duration
	windows   []namedWindow // in file order
	clockSkew time.Duration
	onRecall  *OnRecall
	rules     []*rule  // in file order
	live      ruleSet  // the rules that decide
	trial     *ruleSet // these and the shadow ones; nil if there is no shadow rule
}

// namedWindow is a window for the messages that its scope is about.
type namedWindow struct {
	name   string
	at     hcl.Range
	scope  scope
	within time.Duration
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
	var live []*rule
	for _, r := range p.rules {
		if !r.forbid {
			if r.onRecall == nil {
				r.onRecall = p.onRecall
			}
		}
		if !r.shadow {
			live = append(live, r)
		}
	}
	p.live = newRuleSet(p, live)
	if len(live) < len(p.rules) {
		trial := newRuleSet(p, p.rules)
		p.trial = &trial
	}
}

// windowOf is how long after sending the permit r holds for t.
func (p *Policy) windowOf(r *rule, t *subject) time.Duration {
	if r.window != 0 {
		return r.window
	}
	if w := p.namedWindowOf(t); w != nil {
		return w.within
	}
	return p.window
}

// namedWindowOf is the window block about t, nil if there is none.
func (p *Policy) namedWindowOf(t *subject) *namedWindow {
	for i := range p.windows {
		if p.windows[i].scope.holds(t) {
			return &p.windows[i]
		}
	}
	return nil
}

// ClockSkew is how far ahead of the plugin's clock a request may say that it was made.
func (p *Policy) ClockSkew() time.Duration { return p.clockSkew }

// Files are the files that the policy was made of, in their order: ParseFiles makes the same policy of them.
func (p *Policy) Files() []File { return slices.Clone(p.sources) }

// Digest is the SHA-256 of the sources in hex; it names the policy in ledgers and logs.
func (p *Policy) Digest() string { return p.digest }

// Rules names the rules in file order.
func (p *Policy) Rules() []RuleRef {
	refs := make([]RuleRef, len(p.rules))
	for i, r := range p.rules {
		refs[i] = r.ref
	}
	return refs
}
