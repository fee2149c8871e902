package lang

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// local is a named value or condition.
type local struct {
	name      string
	at        hcl.Range
	expr      hclsyntax.Expression
	used      bool
	resolved  bool
	resolving bool
	value     hclsyntax.Expression // nil if an error was reported
	compiled  bool
	compiling bool
	condition *policy.Condition
}

// maxLocals bounds the locals of a policy. Resolving one may lead through all others.
const maxLocals = 1000

// collectLocals collects the names of a locals block.
func (d *Decoder) collectLocals(body *hclsyntax.Body) {
	for _, b := range body.Blocks {
		d.Errorf(b.TypeRange, "To define a local write "+b.Type+" = …", "locals has no block %q", b.Type)
	}
	for _, a := range sortedAttributes(body) {
		if len(d.locals) == maxLocals {
			d.Errorf(a.NameRange, "", "more than %d locals", maxLocals)
			return
		}
		if d.unique("local "+a.Name, "a local named \""+a.Name+"\"", a.NameRange) {
			l := &local{name: a.Name, at: a.NameRange, expr: a.Expr}
			d.locals[a.Name] = l
			d.localOrder = append(d.localOrder, l)
		}
	}
}

// checkLocals checks all conditions, used or not, and warns about locals that are not used.
func (d *Decoder) checkLocals() {
	for _, l := range d.localOrder {
		used := l.used
		if v := d.resolve(l.expr); v != nil && !isValue(v) {
			d.localCondition(l, l.at)
		}
		if !used {
			d.Warnf(l.at, "Remove it, or write local."+l.name+" where it should apply.", "local %q is not used", l.name)
		}
	}
}

// localOf reports whether an expression is local.NAME and returns that local, or nil if it does not exist, which it
// reports.
func (d *Decoder) localOf(e *hclsyntax.ScopeTraversalExpr) (*local, bool) {
	if e.Traversal.RootName() != "local" {
		return nil, false
	}
	name, ok := dotted(e.Traversal)
	if ok && len(e.Traversal) == 2 {
		name = e.Traversal[1].(hcl.TraverseAttr).Name
		if l := d.locals[name]; l != nil {
			l.used = true
			return l, true
		}
	}
	d.Errorf(e.Range(), NameNear(d.Reporter, name, d.locals), "unknown local %q", name)
	return nil, true
}

// localCondition returns the condition of a local. It compiles each local only once.
func (d *Decoder) localCondition(l *local, at hcl.Range) *policy.Condition {
	if l.compiling {
		d.Errorf(at, "", "local %q refers to itself", l.name)
		return nil
	}
	if !l.compiled {
		l.compiling = true
		l.condition = d.Condition(l.expr)
		l.compiling, l.compiled = false, true
		l.condition = d.When(l.at, l.condition)
	}
	return l.condition
}

// resolve follows parentheses and locals to the value of an expression. It returns nil if it reported an error.
func (d *Decoder) resolve(e hclsyntax.Expression) hclsyntax.Expression {
	e = unwrap(e)
	t, ok := e.(*hclsyntax.ScopeTraversalExpr)
	if !ok {
		return e
	}
	l, is := d.localOf(t)
	switch {
	case !is:
		return e
	case l == nil:
		return nil
	case l.resolving:
		d.Errorf(e.Range(), "", "the locals refer to each other in a circle")
		return nil
	case !l.resolved:
		l.resolving = true
		l.value = d.resolve(l.expr)
		l.resolving, l.resolved = false, true
	}
	return l.value
}
