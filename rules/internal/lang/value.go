package lang

import (
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// Item is one string of a list, and its position.
type item struct {
	Text string
	At   hcl.Range
}

// unwrap removes the parentheses around an expression.
func unwrap(e hclsyntax.Expression) hclsyntax.Expression {
	for {
		p, ok := e.(*hclsyntax.ParenthesesExpr)
		if !ok {
			return e
		}
		e = p.Expression
	}
}

// describe names the kind of an expression, as in "a list".
func describe(e hclsyntax.Expression) string {
	switch e := unwrap(e).(type) {
	case *hclsyntax.TemplateExpr:
		return "a string"
	case *hclsyntax.TupleConsExpr:
		return "a list"
	case *hclsyntax.ObjectConsExpr:
		return "a map"
	case *hclsyntax.LiteralValueExpr:
		switch {
		case e.Val.IsNull():
			return "null"
		case e.Val.Type() == cty.Number:
			return "a number"
		case e.Val.Type() == cty.Bool:
			return "true or false"
		}
	case *hclsyntax.ScopeTraversalExpr:
		if len(e.Traversal) == 1 {
			return "a bare word"
		}
		return "a field"
	case *hclsyntax.FunctionCallExpr:
		return "a function call"
	case *hclsyntax.BinaryOpExpr, *hclsyntax.UnaryOpExpr:
		return "a condition"
	}
	return "an expression"
}

// bareWord returns the advice to add quotes, if an expression is a bare word.
func bareWord(e hclsyntax.Expression) string {
	if t, ok := unwrap(e).(*hclsyntax.ScopeTraversalExpr); ok && len(t.Traversal) == 1 {
		return "Write it between quotes: \"" + t.Traversal.RootName() + "\"."
	}
	return ""
}

// Text decodes a string.
func (d *Decoder) Text(a *hclsyntax.Attribute) (string, bool) {
	return d.textOf(a.Expr, a.Name)
}

func (d *Decoder) textOf(e hclsyntax.Expression, what string) (string, bool) {
	v := d.resolve(e)
	if v == nil {
		return "", false
	}
	text, ok := hclfile.Text(v)
	if !ok {
		d.Errorf(e.Range(), bareWord(v), "%s must be a string, not %s", what, describe(v))
	}
	return text, ok
}

// List decodes a list of strings. It reports an empty list and duplicates.
func (d *Decoder) List(a *hclsyntax.Attribute) ([]item, bool) {
	return d.listOf(a.Expr, a.Expr.Range(), a.Name)
}

func (d *Decoder) listOf(e hclsyntax.Expression, at hcl.Range, what string) ([]item, bool) {
	v := d.resolve(e)
	if v == nil {
		return nil, false
	}
	tuple, ok := v.(*hclsyntax.TupleConsExpr)
	if !ok {
		advice := bareWord(v)
		if text, ok := hclfile.Text(v); ok {
			advice = "Put it in square brackets: [\"" + text + "\"]."
		}
		d.Errorf(at, advice, "%s must be a list of strings, not %s", what, describe(v))
		return nil, false
	}
	if len(tuple.Exprs) == 0 {
		d.Errorf(at, "To match everything leave it out.", "%s is an empty list, which matches nothing", what)
		return nil, false
	}
	items, seen := make([]item, 0, len(tuple.Exprs)), map[string]bool{}
	for _, e := range tuple.Exprs {
		text, fine := d.textOf(e, "an item of "+what)
		if fine && seen[text] {
			d.Errorf(e.Range(), "", "%s contains %q twice", what, text)
			fine = false
		}
		if ok = ok && fine; fine {
			items = append(items, item{text, e.Range()})
		}
		seen[text] = true
	}
	return items, ok
}

// words decodes a list of words of a vocabulary.
func (d *Decoder) words(a *hclsyntax.Attribute, v *policy.Vocabulary) policy.Set {
	items, _ := d.List(a)
	var s policy.Set
	for _, i := range items {
		bit := v.Bit(i.Text)
		if bit == 0 {
			d.Errorf(i.At, WordAdvice(v, i.Text), "unknown %s %q", v.Name, i.Text)
		}
		s |= bit
	}
	return s
}

// Flag decodes true or false.
func (d *Decoder) Flag(a *hclsyntax.Attribute) (value, ok bool) {
	v := d.resolve(a.Expr)
	if v == nil {
		return false, false
	}
	if value, ok := hclfile.Flag(v); ok {
		return value, true
	}
	advice := ""
	if text, is := hclfile.Text(v); is && (text == "true" || text == "false") {
		advice = "Write it without quotes."
	}
	d.Errorf(a.Expr.Range(), advice, "%s must be true or false, not %s", a.Name, describe(v))
	return false, false
}

// duration decodes a duration of at most limit.
func (d *Decoder) duration(a *hclsyntax.Attribute, limit time.Duration) (time.Duration, bool) {
	v := d.resolve(a.Expr)
	if v == nil {
		return 0, false
	}
	text, ok := hclfile.Text(v)
	if !ok {
		d.Errorf(a.Expr.Range(), "Write it between quotes and with its unit, like \"2m\".", "%s must be a duration, not %s",
			a.Name, describe(v))
		return 0, false
	}
	value, err := policy.ParseDuration(text)
	if err != nil {
		d.Errorf(a.Expr.Range(), "", "%s: %v", a.Name, err)
		return 0, false
	}
	if value > limit {
		advice := "No rule file can raise this limit."
		if limit == policy.MaxWindow {
			advice = "Let the policy say own_window_limit = \"any\", if senders may recall their own messages for longer."
		}
		d.Errorf(a.Expr.Range(), advice, "%s is %s, above the limit of %s", a.Name, text,
			policy.FormatDuration(limit))
		return 0, false
	}
	return value, true
}
