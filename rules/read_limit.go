package rules

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

const (
	// maxLimitCount bounds the recalls that a Limiter has to remember for one key, and maxLimitPeriod for how long.
	maxLimitCount  = 1000
	maxLimitPeriod = 7 * day
)

func (d *decoder) limitBlock(b *hclsyntax.Block) {
	d.checkBody(b.Body, limitBlock)
	l := &limit{name: d.name(b, limitBlock.name)}
	d.limits[l.name] = l
	if a := b.Body.Attributes["key"]; a != nil {
		l.key = d.limitKey(a)
	}
	if a := b.Body.Attributes["rate"]; a != nil {
		d.limitRate(l, a)
	}
}

// limitKey reads a field or a list of fields.
func (d *decoder) limitKey(a *hclsyntax.Attribute) []*field {
	exprs := []hclsyntax.Expression{unwrap(a.Expr)}
	if tuple, ok := exprs[0].(*hclsyntax.TupleConsExpr); ok {
		exprs = tuple.Exprs
	}
	if len(exprs) == 0 {
		d.Errorf(a.Expr.Range(), "Write key = actor.id.", "key names no field")
	}
	var key []*field
	for _, e := range exprs {
		t, ok := unwrap(e).(*hclsyntax.ScopeTraversalExpr)
		if !ok {
			d.Errorf(e.Range(), "Write key = actor.id, or a list of fields.", "key needs a field, not %s", describe(e))
			continue
		}
		f := d.field(t)
		switch {
		case f == nil:
		case f.kind != textKind && f.kind != wordKind:
			d.Errorf(e.Range(), "Count by a text or a word, as in actor.id.", "%s is %s and cannot be a key", f.name, f.what())
		case slices.Contains(key, f):
			d.Errorf(e.Range(), "", "key names %s twice", f.name)
		default:
			key = append(key, f)
		}
	}
	return key
}

func (d *decoder) limitRate(l *limit, a *hclsyntax.Attribute) {
	text, ok := d.text(a)
	if !ok {
		return
	}
	count, per, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(count)
	period, perErr := ParseDuration(per)
	switch {
	case err != nil || perErr != nil:
		d.Errorf(a.Expr.Range(), "Write a number, a slash and a duration, like \"20/1m\".", "%q is not a rate", text)
	case n < 1 || n > maxLimitCount:
		d.Errorf(a.Expr.Range(), "To permit nothing write a forbid.", "a rate has 1 to %d recalls, not %d", maxLimitCount, n)
	case period < time.Second || period > maxLimitPeriod:
		d.Errorf(a.Expr.Range(), "", "the period of a rate is 1s to %s, not %s", FormatDuration(maxLimitPeriod), per)
	}
	l.count, l.per = n, period
}

// limitNamed reads the name of a limit in a permit.
func (d *decoder) limitNamed(a *hclsyntax.Attribute) *limit {
	name, ok := d.text(a)
	if !ok {
		return nil
	}
	d.use("limit", name)
	l := d.limits[name]
	if l == nil {
		d.Errorf(a.Expr.Range(), nameNear(d.reporter, name, d.limits), "there is no limit %q", name)
	}
	return l
}

func (d *decoder) use(kind, name string) {
	d.used[kind+" "+name] = true
}

// checkUses warns of limits and placeholders that nothing uses.
func (d *decoder) checkUses() {
	warn := func(kind string, names []string) {
		for _, name := range names {
			if at, named := d.named[kind+" "+name]; named && !d.used[kind+" "+name] {
				d.Warnf(at, "Remove it, or write "+kind+" = \""+name+"\" where it is meant.", "%s %q is not used", kind, name)
			}
		}
	}
	warn("limit", slices.Sorted(maps.Keys(d.limits)))
	warn("placeholder", slices.Sorted(maps.Keys(d.placeholders)))
}
