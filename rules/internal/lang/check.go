package lang

import (
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// Condition checks every node of an expression, on both sides of && and ||, and compiles it. It returns nil if it
// reported an error.
func (d *Decoder) Condition(e hclsyntax.Expression) *policy.Condition {
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return d.Condition(e.Expression)
	case *hclsyntax.BinaryOpExpr:
		switch e.Op {
		case hclsyntax.OpLogicalAnd:
			return policy.NewJoin(policy.JoinAll, d.written(e), d.Condition(e.LHS), d.Condition(e.RHS))
		case hclsyntax.OpLogicalOr:
			return policy.NewJoin(policy.JoinAny, d.written(e), d.Condition(e.LHS), d.Condition(e.RHS))
		}
		return d.comparison(e)
	case *hclsyntax.UnaryOpExpr:
		return policy.NewJoin(policy.JoinNot, d.written(e), d.Condition(e.Val))
	case *hclsyntax.FunctionCallExpr:
		return d.call(e)
	case *hclsyntax.ScopeTraversalExpr:
		if l, is := d.localOf(e); is {
			if l == nil {
				return nil
			}
			return d.localCondition(l, e.Range())
		}
		f := d.field(e)
		if f == nil {
			return nil
		}
		if f.Kind != policy.KindFlag {
			d.Errorf(e.Range(), "Compare it with a value.", "%s is %s, not a condition", f.Name, f.What())
			return nil
		}
		return policy.NewQuestion(&policy.Question{Field: f, Operator: policy.OpIs}, d.written(e))
	}
	d.Errorf(e.Range(), "A condition compares a field, as in message.type == \"file\".", "%s is not a condition",
		describe(e))
	return nil
}

// written returns an expression as it is written in its file.
func (d *Decoder) written(e hclsyntax.Expression) []byte {
	src, _ := d.Source(e.Range().Filename)
	return e.Range().SliceBytes(src)
}

// field returns the field that an expression names. It reports an unknown field and returns nil.
func (d *Decoder) field(e *hclsyntax.ScopeTraversalExpr) *policy.Field {
	name, ok := dotted(e.Traversal)
	f := policy.FieldNamed(name)
	if ok && f != nil {
		return f
	}
	advice := fieldAdvice(name)
	if !ok {
		advice = "A field is written with dots, as in message.type; to search a list use contains."
	}
	d.Errorf(e.Range(), advice, "unknown field %s", name)
	return nil
}

// dotted returns the name a.b.c of a traversal, and false if the traversal contains an index.
func dotted(t hcl.Traversal) (string, bool) {
	name := t.RootName()
	for _, step := range t[1:] {
		attribute, ok := step.(hcl.TraverseAttr)
		if !ok {
			return name + "[…]", false
		}
		name += "." + attribute.Name
	}
	return name, true
}

// operand is one side of a comparison: a field or a literal.
type operand struct {
	field *policy.Field
	value hclsyntax.Expression
	at    hcl.Range
}

// operand reads one side of a comparison or one argument of a function. It reports anything but a field or a literal.
func (d *Decoder) operand(e hclsyntax.Expression) (operand, bool) {
	switch v := unwrap(e).(type) {
	case *hclsyntax.ScopeTraversalExpr:
		l, is := d.localOf(v)
		if !is {
			f := d.field(v)
			return operand{field: f, at: e.Range()}, f != nil
		}
		if l == nil {
			return operand{}, false
		}
		value := d.resolve(v)
		if value == nil {
			return operand{}, false
		}
		if isValue(value) {
			return operand{value: value, at: e.Range()}, true
		}
		d.Errorf(e.Range(), "Use it without a comparison.", "local.%s is %s and cannot be compared", l.name,
			describe(value))
		return operand{}, false
	case *hclsyntax.TemplateExpr, *hclsyntax.LiteralValueExpr, *hclsyntax.TupleConsExpr, *hclsyntax.ObjectConsExpr:
		return operand{value: v, at: e.Range()}, true
	case *hclsyntax.BinaryOpExpr, *hclsyntax.UnaryOpExpr, *hclsyntax.FunctionCallExpr:
		d.Condition(v) // reports the errors inside it too
		d.Errorf(e.Range(), "Combine conditions with && and ||, or negate one with !.", "a condition cannot be compared")
		return operand{}, false
	}
	d.Errorf(e.Range(), "", "%s is not part of the rule language", describe(e))
	return operand{}, false
}

func isValue(e hclsyntax.Expression) bool {
	switch e.(type) {
	case *hclsyntax.TemplateExpr, *hclsyntax.LiteralValueExpr, *hclsyntax.TupleConsExpr, *hclsyntax.ObjectConsExpr:
		return true
	}
	return false
}

var operators = map[*hclsyntax.Operation]policy.Operator{
	hclsyntax.OpEqual:              policy.OpEqual,
	hclsyntax.OpNotEqual:           policy.OpNotEqual,
	hclsyntax.OpLessThan:           policy.OpLess,
	hclsyntax.OpLessThanOrEqual:    policy.OpAtMost,
	hclsyntax.OpGreaterThan:        policy.OpMore,
	hclsyntax.OpGreaterThanOrEqual: policy.OpAtLeast,
}

// mirrored is the operator to use when the sides are swapped.
var mirrored = map[policy.Operator]policy.Operator{
	policy.OpEqual:    policy.OpEqual,
	policy.OpNotEqual: policy.OpNotEqual,
	policy.OpLess:     policy.OpMore,
	policy.OpAtMost:   policy.OpAtLeast,
	policy.OpMore:     policy.OpLess,
	policy.OpAtLeast:  policy.OpAtMost,
}

func (d *Decoder) comparison(e *hclsyntax.BinaryOpExpr) *policy.Condition {
	op := operators[e.Op]
	left, leftOK := d.operand(e.LHS)
	right, rightOK := d.operand(e.RHS)
	if !leftOK || !rightOK {
		return nil
	}
	switch {
	case left.field == nil && right.field == nil:
		d.Errorf(e.Range(), "Compare a field with a value, as in actor.role == \"admin\".",
			"the comparison has no field")
		return nil
	case left.field != nil && right.field != nil:
		d.Errorf(e.Range(), twoFieldsAdvice(left.field, right.field),
			"%s is %s and %s is %s: a field is compared with a value, not with another field",
			left.field.Name, left.field.What(), right.field.Name, right.field.What())
		return nil
	case left.field == nil:
		left, right, op = right, left, mirrored[op]
	}
	return d.compare(e, left.field, op, right)
}

func twoFieldsAdvice(a, b *policy.Field) string {
	if a.Kind == policy.KindText && b.Kind == policy.KindText {
		return "To ask whether the actor sent the message use actor.is_sender."
	}
	return ""
}

// question returns a question about a field without its literals.
func (d *Decoder) question(f *policy.Field, op policy.Operator) *policy.Question {
	if f.OfClock() {
		d.asksClock = true
	}
	return &policy.Question{Field: f, Operator: op, Zone: d.zone}
}

// compare returns the condition `field op value`.
func (d *Decoder) compare(e hclsyntax.Expression, f *policy.Field, op policy.Operator,
	value operand) *policy.Condition {
	q := d.question(f, op)
	ordered := f.Kind == policy.KindDuration || f.Kind == policy.KindTime || f.Kind == policy.KindMinute
	switch {
	case f.Kind == policy.KindTexts:
		d.Errorf(e.Range(), "Write contains("+f.Name+", \"…\").", "%s is a list and cannot be compared", f.Name)
		return nil
	case !ordered && op != policy.OpEqual && op != policy.OpNotEqual:
		d.Errorf(e.Range(), "Use == or !=; only durations and times are ordered.",
			"%s is %s and cannot be compared with %s", f.Name, f.What(), op)
		return nil
	case f.Kind == policy.KindFlag:
		want, ok := hclfile.Flag(value.value)
		if !ok {
			d.mismatch(f, value)
			return nil
		}
		q.Operator = policy.OpIs
		c := policy.NewQuestion(q, d.written(e))
		if want == (op == policy.OpNotEqual) {
			c = policy.NewJoin(policy.JoinNot, d.written(e), c)
		}
		return c
	}
	text, ok := hclfile.Text(value.value)
	if !ok {
		d.mismatch(f, value)
		return nil
	}
	if !d.literal(q, text, value.at) {
		return nil
	}
	return policy.NewQuestion(q, d.written(e))
}

// literal sets the literal that q compares its field with, converted to the kind of the field.
func (d *Decoder) literal(q *policy.Question, text string, at hcl.Range) bool {
	f := q.Field
	switch f.Kind {
	case policy.KindWord:
		if f.Words.Bit(text) == 0 {
			d.Errorf(at, WordAdvice(f.Words, text), "unknown %s %q", f.Words.Name, text)
			return false
		}
	case policy.KindDuration:
		value, err := policy.ParseDuration(text)
		if err != nil {
			d.Errorf(at, "", "%s: %v", f.Name, err)
			return false
		}
		q.Duration = value
		return true
	case policy.KindTime:
		value, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			d.Errorf(at, "", "%s: %q is not a time; write it like \"2026-01-31T08:00:00Z\"", f.Name, text)
			return false
		}
		q.Time = value
		return true
	case policy.KindMinute:
		value, err := policy.ParseMinute(text)
		if err != nil {
			d.Errorf(at, "", "%s: %v", f.Name, err)
			return false
		}
		q.Minute = value
		return true
	}
	q.Texts = append(q.Texts, text)
	return true
}

func (d *Decoder) mismatch(f *policy.Field, value operand) {
	advice := ""
	switch {
	case f.Words != nil:
		advice = "A " + f.Words.Name + " is one of " + quoteAll(f.Words.Words) + "."
	case f.Kind == policy.KindDuration:
		advice = "Write a duration between quotes, like \"2m\"."
	case f.Kind == policy.KindTime:
		advice = "Write a time between quotes, like \"2026-01-31T08:00:00Z\"."
	case f.Kind == policy.KindMinute:
		advice = "Write a time of day between quotes, like \"09:30\"."
	case f.Kind == policy.KindFlag:
		advice = "Write true or false without quotes, or only " + f.Name + "."
	}
	if _, list := value.value.(*hclsyntax.TupleConsExpr); list &&
		(f.Kind == policy.KindText || f.Kind == policy.KindWord) {
		advice = "Write contains([…], " + f.Name + ")."
	}
	d.Errorf(value.at, advice, "%s is %s and cannot be compared with %s", f.Name, f.What(), describe(value.value))
}

// When returns the condition of a rule, or reports that it is too large and returns nil.
func (d *Decoder) When(at hcl.Range, c *policy.Condition) *policy.Condition {
	if c != nil && c.Cost > policy.MaxConditionCost {
		d.Errorf(at, "Use contains with a list, or split the rule.",
			"the condition has more than %d comparisons and !, including those of its locals", policy.MaxConditionCost)
		return nil
	}
	return c
}
