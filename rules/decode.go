package rules

import (
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// decoder makes a policy of syntax trees that parsed.
type decoder struct {
	*reporter
	named        map[string]hcl.Range // "rule x" or "policy", to where it is written
	locals       map[string]*local
	localOrder   []*local
	limits       map[string]*limit
	placeholders map[string]*Placeholder
	used         map[string]bool // "limit x" or "placeholder x"
}

func newDecoder(r *reporter) *decoder {
	return &decoder{
		reporter:     r,
		named:        map[string]hcl.Range{},
		locals:       map[string]*local{},
		limits:       map[string]*limit{},
		placeholders: map[string]*Placeholder{},
		used:         map[string]bool{},
	}
}

// policy decodes the files together. What it returns is used only if nothing was reported.
func (d *decoder) policy(bodies []*hclsyntax.Body) *Policy {
	p := &Policy{window: DefaultWindow, clockSkew: defaultClockSkew, onRecall: eraseEverywhere}
	each := func(spec *blockSpec, decode func(b *hclsyntax.Block)) {
		for _, body := range bodies {
			for _, b := range body.Blocks {
				if b.Type == spec.name {
					decode(b)
				}
			}
		}
	}
	for _, body := range bodies {
		d.checkBody(body, ruleFile)
	}
	// What has a name comes before what uses it, whichever file each is in.
	each(localsBlock, func(b *hclsyntax.Block) { d.collectLocals(b.Body) })
	each(policyBlock, func(b *hclsyntax.Block) { d.policyBlock(p, b) })
	each(windowBlock, func(b *hclsyntax.Block) { p.windows = append(p.windows, d.windowBlock(b)) })
	each(limitBlock, func(b *hclsyntax.Block) { d.limitBlock(b) })
	each(placeholderBlock, func(b *hclsyntax.Block) { d.placeholderBlock(b) })
	each(onRecallBlock, func(b *hclsyntax.Block) {
		if d.unique("on_recall", "the on_recall block of the policy", b.TypeRange) {
			p.onRecall = d.onRecall(b.Body)
		}
	})
	for _, body := range bodies {
		for _, b := range body.Blocks {
			if b.Type == permitBlock.name || b.Type == forbidBlock.name {
				p.rules = append(p.rules, d.rule(b))
			}
		}
	}
	d.checkLocals()
	d.checkUses()
	switch {
	case len(p.rules) == 0 && !d.HasErrors():
		d.Errorf(hcl.Range{Filename: d.Files[0].Name}, "A policy without a rule denies everything; write at least one.",
			"there is no permit and no forbid")
	case len(p.rules) > maxRules:
		d.Errorf(p.rules[maxRules].at, "Join rules that differ in one scope.", "more than %d rules", maxRules)
	}
	if !d.HasErrors() {
		p.arrange()
	}
	return p
}

// unique reports a name that is taken, and where.
func (d *decoder) unique(key, what string, at hcl.Range) bool {
	first, taken := d.named[key]
	if taken {
		d.Errorf(at, "", "%s is already at %s:%d", what, first.Filename, first.Start.Line)
		return false
	}
	d.named[key] = at
	return true
}

// name takes the label of a block as a name that no other block of its kind has.
func (d *decoder) name(b *hclsyntax.Block, kind string) string {
	if len(b.Labels) != 1 {
		return "" // checkLabels reported it
	}
	name := b.Labels[0]
	if !namePattern.MatchString(name) {
		d.Errorf(b.LabelRanges[0], "A name is up to 64 letters, digits, _, - and ., and starts with a letter.",
			"this is not a name for a %s", kind)
		return ""
	}
	d.unique(kind+" "+name, "a "+kind+" named \""+name+"\"", b.LabelRanges[0])
	return name
}

func (d *decoder) policyBlock(p *Policy, b *hclsyntax.Block) {
	if !d.unique("policy", "the policy block", b.TypeRange) {
		return
	}
	d.checkBody(b.Body, policyBlock)
	if a := b.Body.Attributes["window"]; a != nil {
		p.window = d.window(a)
	}
	if a := b.Body.Attributes["clock_skew"]; a != nil {
		p.clockSkew, _ = d.duration(a, maxClockSkew)
	}
}

// windowBlock decodes a window for the permits that name none.
func (d *decoder) windowBlock(b *hclsyntax.Block) namedWindow {
	w := namedWindow{name: d.name(b, windowBlock.name), at: b.TypeRange}
	d.checkBody(b.Body, windowBlock)
	d.scope(&w.scope, b.Body)
	if a := b.Body.Attributes["within"]; a != nil {
		w.within = d.window(a)
	}
	return w
}

// refOf is how decisions name the rule that is written at at.
func refOf(name string, at hcl.Range) RuleRef {
	return RuleRef{Name: name, File: filepath.ToSlash(at.Filename), Line: at.Start.Line}
}
