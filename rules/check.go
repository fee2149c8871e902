package rules

import (
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
)

// condition checks an expression on every node, whichever side of && or || it is on, and compiles it. It returns nil
// if it reported something.
func (d *decoder) condition(e hclsyntax.Expression) *condition {
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return d.condition(e.Expression)
	case *hclsyntax.BinaryOpExpr:
		switch e.Op {
		case hclsyntax.OpLogicalAnd:
			return newJoin(all, d.written(e), d.condition(e.LHS), d.condition(e.RHS))
		case hclsyntax.OpLogicalOr:
			return newJoin(either, d.written(e), d.condition(e.LHS), d.condition(e.RHS))
		}
		return d.comparison(e)
	case *hclsyntax.UnaryOpExpr:
		return newJoin(not, d.written(e), d.condition(e.Val))
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
		if f.kind != flagKind {
			d.Errorf(e.Range(), "Compare it with a value.", "%s is %s, not a condition", f.name, f.what())
			return nil
		}
		return newQuestion(&question{field: f, operator: is}, d.written(e))
	}
	d.Errorf(e.Range(), "A condition asks about a field, as in message.type == \"file\".", "%s is not a condition",
		describe(e))
	return nil
}

// written is an expression in its file.
func (d *decoder) written(e hclsyntax.Expression) []byte {
	src, _ := d.Source(e.Range().Filename)
	return e.Range().SliceBytes(src)
}

// field looks up the field that an expression names, and reports one that does not exist.
func (d *decoder) field(e *hclsyntax.ScopeTraversalExpr) *field {
	name, ok := dotted(e.Traversal)
	f := fieldNamed(name)
	if ok && f != nil {
		return f
	}
	advice := fieldAdvice(name)
	if !ok {
		advice = "A field is written with dots, as in message.type; what a list has is asked with contains."
	}
	d.Errorf(e.Range(), advice, "unknown field %s", name)
	return nil
}

// dotted is a.b.c of a traversal, and whether it has no index in it.
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

// operand is one side of a comparison: a field, or a value as it is written.
type operand struct {
	field *field
	value hclsyntax.Expression
	at    hcl.Range
}

// operand reads one side of a comparison or one argument of a function. It reports what can be neither.
func (d *decoder) operand(e hclsyntax.Expression) (operand, bool) {
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
		d.Errorf(e.Range(), "Use it without comparing it.", "local.%s is %s and cannot be compared", l.name, describe(value))
		return operand{}, false
	case *hclsyntax.TemplateExpr, *hclsyntax.LiteralValueExpr, *hclsyntax.TupleConsExpr, *hclsyntax.ObjectConsExpr:
		return operand{value: v, at: e.Range()}, true
	case *hclsyntax.BinaryOpExpr, *hclsyntax.UnaryOpExpr, *hclsyntax.FunctionCallExpr:
		d.condition(v) // what is wrong inside is reported with it
		d.Errorf(e.Range(), "Join conditions with && and ||, or put ! before one.", "a condition cannot be compared")
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

var operators = map[*hclsyntax.Operation]operator{
	hclsyntax.OpEqual:              equal,
	hclsyntax.OpNotEqual:           unequal,
	hclsyntax.OpLessThan:           less,
	hclsyntax.OpLessThanOrEqual:    atMost,
	hclsyntax.OpGreaterThan:        more,
	hclsyntax.OpGreaterThanOrEqual: atLeast,
}

// mirrored is the operator when the sides change places.
var mirrored = map[operator]operator{equal: equal, unequal: unequal, less: more, atMost: atLeast, more: less, atLeast: atMost}

func (d *decoder) comparison(e *hclsyntax.BinaryOpExpr) *condition {
	op := operators[e.Op]
	left, leftOK := d.operand(e.LHS)
	right, rightOK := d.operand(e.RHS)
	if !leftOK || !rightOK {
		return nil
	}
	switch {
	case left.field == nil && right.field == nil:
		d.Errorf(e.Range(), "Compare a field with a value, as in actor.role == \"admin\".",
			"the comparison has no field in it")
		return nil
	case left.field != nil && right.field != nil:
		d.Errorf(e.Range(), twoFieldsAdvice(left.field, right.field),
			"%s is %s and %s is %s: a field is compared with a value, not with another field",
			left.field.name, left.field.what(), right.field.name, right.field.what())
		return nil
	case left.field == nil:
		left, right, op = right, left, mirrored[op]
	}
	return d.compare(e, left.field, op, right)
}

func twoFieldsAdvice(a, b *field) string {
	if a.kind == textKind && b.kind == textKind {
		return "Whether the actor sent the message is actor.is_sender."
	}
	return ""
}

// compare makes the question of field op value.
func (d *decoder) compare(e hclsyntax.Expression, f *field, op operator, value operand) *condition {
	q := &question{field: f, operator: op}
	ordered := f.kind == durationKind || f.kind == timeKind
	switch {
	case f.kind == textsKind:
		d.Errorf(e.Range(), "Write contains("+f.name+", \"…\").", "%s is a list and cannot be compared", f.name)
		return nil
	case !ordered && op != equal && op != unequal:
		d.Errorf(e.Range(), "Use == or !=; only durations and times have an order.",
			"%s is %s and cannot be compared with %s", f.name, f.what(), op)
		return nil
	case f.kind == flagKind:
		want, ok := hclfile.Flag(value.value)
		if !ok {
			d.mismatch(f, value)
			return nil
		}
		q.operator = is
		c := newQuestion(q, d.written(e))
		if want == (op == unequal) {
			c = newJoin(not, d.written(e), c)
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
	return newQuestion(q, d.written(e))
}

// literal puts the text that a field is compared with into q, as what the field is.
func (d *decoder) literal(q *question, text string, at hcl.Range) bool {
	f := q.field
	switch f.kind {
	case wordKind:
		if f.words.bit(text) == 0 {
			d.Errorf(at, wordAdvice(f.words, text), "unknown %s %q", f.words.name, text)
			return false
		}
	case durationKind:
		value, err := ParseDuration(text)
		if err != nil {
			d.Errorf(at, "", "%s: %v", f.name, err)
			return false
		}
		q.duration = value
		return true
	case timeKind:
		value, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			d.Errorf(at, "", "%s: %q is not a time: write it like \"2026-01-31T08:00:00Z\"", f.name, text)
			return false
		}
		q.time = value
		return true
	}
	q.texts = append(q.texts, text)
	return true
}

func (d *decoder) mismatch(f *field, value operand) {
	advice := ""
	switch {
	case f.words != nil:
		advice = "A " + f.words.name + " is one of " + quoteAll(f.words.words) + "."
	case f.kind == durationKind:
		advice = "Write a duration between quotes, like \"2m\"."
	case f.kind == timeKind:
		advice = "Write a time between quotes, like \"2026-01-31T08:00:00Z\"."
	case f.kind == flagKind:
		advice = "Write true or false without quotes, or just " + f.name + "."
	}
	if _, list := value.value.(*hclsyntax.TupleConsExpr); list && (f.kind == textKind || f.kind == wordKind) {
		advice = "Write contains([…], " + f.name + ")."
	}
	d.Errorf(value.at, advice, "%s is %s and cannot be compared with %s", f.name, f.what(), describe(value.value))
}

// when reads the condition of a rule.
func (d *decoder) when(at hcl.Range, c *condition) *condition {
	if c != nil && c.cost > maxConditionCost {
		d.Errorf(at, "Use contains with a list, or split the rule.",
			"the condition has more than %d questions and !, its locals counted", maxConditionCost)
		return nil
	}
	return c
}
