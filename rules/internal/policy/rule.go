package policy

import (
	"fmt"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Rule is a compiled permit or forbid.
type Rule struct {
	Ref    RuleRef
	At     hcl.Range // the position of the name
	Forbid bool
	Shadow bool
	Scope  Scope
	When   *Condition        // nil: always
	Code   string            // of a forbid
	Texts  map[string]string // what users are told about a refusal of this rule, by language tag; nil: the standard words

	// Of a permit:
	Window   time.Duration // 0: that of the policy; NoEnd: "any"
	Reason   bool          // is required
	Limit    *Limit
	OnRecall *OnRecall // nil until arranged: that of the policy
}

// Matches reports whether the scope and the condition hold at an age.
func (r *Rule) Matches(t *Subject, age time.Duration) bool {
	return r.Scope.Holds(t) && (r.When == nil || r.When.Test(t.In, age))
}

// Aging reports whether the condition compares message.age.
func (r *Rule) Aging() bool { return r.When != nil && r.When.aging }

// Clocked reports whether the condition compares a field of the clock.
func (r *Rule) Clocked() bool { return r.When != nil && r.When.clocked }

// NoEnd is the window "any". No age is above it.
const NoEnd = time.Duration(1<<63 - 1)

// Kind returns "permit" or "forbid".
func (r *Rule) Kind() string {
	if r.Forbid {
		return "forbid"
	}
	return "permit"
}

// String names the rule in diagnostics.
func (r *Rule) String() string {
	kind := "permit"
	if r.Forbid {
		kind = "forbid"
	}
	if r == BuiltInForbid {
		return "the engine"
	}
	return fmt.Sprintf("%s %q (line %d)", kind, r.Ref.Name, r.Ref.Line)
}
