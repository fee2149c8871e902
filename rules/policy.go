package rules

import (
	"slices"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/chat-recall/recall/rules/internal/proof"
)

// Policy is a set of rules, checked and compiled. It never changes and is safe for concurrent use.
type Policy struct {
	compiled *policy.Policy
}

// wrap returns p as the public type; nil stays nil.
func wrap(p *policy.Policy, diags Diagnostics) (*Policy, Diagnostics) {
	if p == nil {
		return nil, diags
	}
	return &Policy{p}, diags
}

// Decide decides about in without regard to limits; [Limiter.Reserve] counts those. It is a pure function of the policy
// and in, and allocates nothing.
func (p *Policy) Decide(in *Input) Decision { return p.compiled.Decide(in) }

// Forbids reports whether a forbid matches in, whatever the permits say. Shadow rules do not count. A message that
// would be recalled because it relates to a recalled one stays if a forbid matches it.
func (p *Policy) Forbids(in *Input) bool { return p.compiled.Forbids(in) }

// Analyze finds dead rules: rules that match nothing, rules that never decide because others always do, and windows
// that no permit uses. It goes through every distinguishable input, up to 2,000,000, which takes a few seconds at most.
// It never samples.
func (p *Policy) Analyze() Analysis { return proof.Analyze(p.compiled) }

// Compare goes through every input that the two policies can tell apart and groups those that they decide differently:
// permitted or refused, the code, the limit that counts it, and what the host is asked to do. A different rule is no
// difference, a different limit is. Times in the future are no inputs; clock_skew is compared separately.
func Compare(was, now *Policy) Comparison { return proof.Compare(was.compiled, now.compiled) }

// ClockSkew returns how far ahead of the plugin's clock the time of a request may be.
func (p *Policy) ClockSkew() time.Duration { return p.compiled.ClockSkew }

// Notes says what of the policy is allowed, and yet worth knowing.
func (p *Policy) Notes() []string {
	notes := []string{}
	if p.compiled.AnyOwn {
		notes = append(notes, `own_window_limit = "any": rules may let senders recall their own messages for more than `+
			policy.FormatDuration(MaxWindow))
	}
	return notes
}

// Files returns the files that the policy was made of, in their order. [ParseFiles] makes the same policy of them.
func (p *Policy) Files() []File { return slices.Clone(p.compiled.Sources) }

// Digest returns the SHA-256 of the files in hex. It names the policy in ledgers and logs.
func (p *Policy) Digest() string { return p.compiled.Digest }

// Rules returns the name and place of each rule, in file order.
func (p *Policy) Rules() []RuleRef {
	refs := make([]RuleRef, len(p.compiled.Rules))
	for i, r := range p.compiled.Rules {
		refs[i] = r.Ref
	}
	return refs
}

// The types that a policy reads and returns.
type (
	// Input is one request to decide about: one message and one actor.
	Input = policy.Input
	// Decision is the answer of a policy to an [Input].
	Decision = policy.Decision
	// Shadow is what shadow rules would change about a [Decision].
	Shadow = policy.Shadow
	// RuleRef is the name, file and line of a rule.
	RuleRef = policy.RuleRef
	// OnRecall is what a permitted recall asks of the host.
	OnRecall = policy.OnRecall
	// Placeholder is the text that clients show instead of a recalled message, by language.
	Placeholder = policy.Placeholder
	// Analysis is the result of [Policy.Analyze].
	Analysis = proof.Analysis
	// Comparison is the result of [Compare].
	Comparison = proof.Comparison
	// Difference is a class of inputs that two policies decide differently.
	Difference = proof.Difference
)

// Codes of refusals that the engine gives. A forbid may name others.
const (
	CodeForbidden         = policy.CodeForbidden
	CodeWindowExpired     = policy.CodeWindowExpired
	CodeTypeNotRecallable = policy.CodeTypeNotRecallable
	CodeReasonRequired    = policy.CodeReasonRequired
	CodeRateLimited       = policy.CodeRateLimited
)

const (
	// DefaultDeny is the name in the [RuleRef] of a refusal that no rule gave.
	DefaultDeny = policy.DefaultDeny
	// MaxWindow is the longest time after sending that a sender with the role member or none may recall an own message,
	// unless the policy says own_window_limit = "any".
	MaxWindow = policy.MaxWindow
	// DefaultWindow is the window of a permit if neither the permit nor the policy names one.
	DefaultWindow = policy.DefaultWindow
)
