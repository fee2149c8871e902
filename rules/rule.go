package rules

import (
	"fmt"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// rule is one permit or forbid, compiled.
type rule struct {
	ref    RuleRef
	at     hcl.Range // the name in the file
	forbid bool
	shadow bool
	scope  scope
	when   *condition // nil: always
	code   string     // of a forbid

	// Of a permit:
	window   time.Duration // 0: the policy's, noEnd: it holds for ever
	reason   bool          // is required
	limit    *limit
	onRecall *OnRecall // nil until arranged: the policy's
}

// matches tells whether the scope and the condition hold at an age.
func (r *rule) matches(t *subject, age time.Duration) bool {
	return r.scope.holds(t) && (r.when == nil || r.when.test(t.in, age))
}

// aging tells whether the condition asks about the age.
func (r *rule) aging() bool { return r.when != nil && r.when.aging }

// noEnd is the window of a permit that says "any". No age is above it.
const noEnd = time.Duration(1<<63 - 1)

// kind is the name of the rule's block.
func (r *rule) kind() string {
	if r.forbid {
		return "forbid"
	}
	return "permit"
}

// String names a rule in messages.
func (r *rule) String() string {
	kind := "permit"
	if r.forbid {
		kind = "forbid"
	}
	if r == builtInForbid {
		return "the engine itself"
	}
	return fmt.Sprintf("%s %q (line %d)", kind, r.ref.Name, r.ref.Line)
}
