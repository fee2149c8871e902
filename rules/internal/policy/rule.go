package policy

import (
	"fmt"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Rule is one permit or forbid, compiled.
type Rule struct {
	Ref    RuleRef
	At     hcl.Range // the name in the file
	Forbid bool
	Shadow bool
	Scope  Scope
	When   *Condition // nil: always
	Code   string     // of a forbid

	// Of a permit:
	Window   time.Duration // 0: the policy's, noEnd: it holds for ever
	Reason   bool          // is required
	Limit    *Limit
	OnRecall *OnRecall // nil until arranged: the policy's
}

// Matches tells whether the scope and the condition hold at an age.
func (r *Rule) Matches(t *Subject, age time.Duration) bool {
	return r.Scope.holds(t) && (r.When == nil || r.When.Test(t.In, age))
}

// Aging tells whether the condition asks about the age.
func (r *Rule) Aging() bool { return r.When != nil && r.When.aging }

// NoEnd is the window of a permit that says "any". No age is above it.
const NoEnd = time.Duration(1<<63 - 1)

// Kind is the name of the rule's block.
func (r *Rule) Kind() string {
	if r.Forbid {
		return "forbid"
	}
	return "permit"
}

// String names a rule in messages.
func (r *Rule) String() string {
	kind := "permit"
	if r.Forbid {
		kind = "forbid"
	}
	if r == BuiltInForbid {
		return "the engine itself"
	}
	return fmt.Sprintf("%s %q (line %d)", kind, r.Ref.Name, r.Ref.Line)
}
