package lang

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/rules/internal/policy"
)

const (
	// maxLimitCount bounds how many recalls a Limiter remembers for one key, and maxLimitPeriod for how long.
	maxLimitCount  = 1000
	maxLimitPeriod = 7 * policy.Day
)

func (d *Decoder) limitBlock(b *hclsyntax.Block) {
	d.CheckBody(b.Body, limitBlock)
	l := &policy.Limit{Name: d.name(b, limitBlock.Name)}
	d.limits[l.Name] = l
	if a := b.Body.Attributes["key"]; a != nil {
		l.Key = d.limitKey(a)
	}
	if a := b.Body.Attributes["rate"]; a != nil {
		d.limitRate(l, a)
	}
}

// limitKey decodes a field or a list of fields.
func (d *Decoder) limitKey(a *hclsyntax.Attribute) []*policy.Field {
	exprs := []hclsyntax.Expression{unwrap(a.Expr)}
	if tuple, ok := exprs[0].(*hclsyntax.TupleConsExpr); ok {
		exprs = tuple.Exprs
	}
	if len(exprs) == 0 {
		d.Errorf(a.Expr.Range(), "Write key = actor.id.", "key names no field")
	}
	var key []*policy.Field
	for _, e := range exprs {
		t, ok := unwrap(e).(*hclsyntax.ScopeTraversalExpr)
		if !ok {
			d.Errorf(e.Range(), "Write key = actor.id, or a list of fields.", "key needs a field, not %s", describe(e))
			continue
		}
		f := d.field(t)
		switch {
		case f == nil:
		case f.Kind != policy.KindText && f.Kind != policy.KindWord || f.OfClock():
			d.Errorf(e.Range(), "Use a field that is a string or a word, such as actor.id.", "%s is %s and cannot be a key",
				f.Name, f.What())
		case slices.Contains(key, f):
			d.Errorf(e.Range(), "", "key contains %s twice", f.Name)
		default:
			key = append(key, f)
		}
	}
	return key
}

func (d *Decoder) limitRate(l *policy.Limit, a *hclsyntax.Attribute) {
	text, ok := d.Text(a)
	if !ok {
		return
	}
	count, per, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(count)
	period, perErr := policy.ParseDuration(per)
	switch {
	case err != nil || perErr != nil:
		d.Errorf(a.Expr.Range(), "Write a number, a slash and a duration, like \"20/1m\".", "%q is not a rate", text)
	case n < 1 || n > maxLimitCount:
		d.Errorf(a.Expr.Range(), "To permit nothing use a forbid.", "a rate allows 1 to %d recalls, not %d", maxLimitCount, n)
	case period < time.Second || period > maxLimitPeriod:
		d.Errorf(a.Expr.Range(), "", "the period of a rate must be 1s to %s, not %s", policy.FormatDuration(maxLimitPeriod),
			per)
	}
	l.Count, l.Per = n, period
}

// limitNamed returns the limit that a permit names.
func (d *Decoder) limitNamed(a *hclsyntax.Attribute) *policy.Limit {
	name, ok := d.Text(a)
	if !ok {
		return nil
	}
	d.use("limit", name)
	l := d.limits[name]
	if l == nil {
		d.Errorf(a.Expr.Range(), NameNear(d.Reporter, name, d.limits), "unknown limit %q", name)
	}
	return l
}

func (d *Decoder) use(kind, name string) {
	d.used[kind+" "+name] = true
}

// checkUses warns about limits and placeholders that are not used.
func (d *Decoder) checkUses() {
	warn := func(kind string, names []string) {
		for _, name := range names {
			if at, named := d.named[kind+" "+name]; named && !d.used[kind+" "+name] {
				d.Warnf(at, "Remove it, or write "+kind+" = \""+name+"\" where it should apply.", "%s %q is not used", kind, name)
			}
		}
	}
	warn("limit", slices.Sorted(maps.Keys(d.limits)))
	warn("placeholder", slices.Sorted(maps.Keys(d.placeholders)))
}
