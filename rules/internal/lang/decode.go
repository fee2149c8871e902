package lang

import (
	"path/filepath"

	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Decoder makes a policy of syntax trees that parsed.
type Decoder struct {
	*Reporter
	named        map[string]hcl.Range // "rule x" or "policy", to where it is written
	locals       map[string]*local
	localOrder   []*local
	limits       map[string]*policy.Limit
	placeholders map[string]*policy.Placeholder
	used         map[string]bool // "limit x" or "placeholder x"
}

func NewDecoder(r *Reporter) *Decoder {
	return &Decoder{
		Reporter:     r,
		named:        map[string]hcl.Range{},
		locals:       map[string]*local{},
		limits:       map[string]*policy.Limit{},
		placeholders: map[string]*policy.Placeholder{},
		used:         map[string]bool{},
	}
}

// policy decodes the files together. What it returns is used only if nothing was reported.
func (d *Decoder) policy(bodies []*hclsyntax.Body) *policy.Policy {
	p := &policy.Policy{Window: policy.DefaultWindow, ClockSkew: policy.DefaultClockSkew, OnRecall: policy.EraseEverywhere}
	each := func(spec *BlockSpec, decode func(b *hclsyntax.Block)) {
		for _, body := range bodies {
			for _, b := range body.Blocks {
				if b.Type == spec.Name {
					decode(b)
				}
			}
		}
	}
	for _, body := range bodies {
		d.CheckBody(body, RuleFile)
	}
	// What has a name comes before what uses it, whichever file each is in.
	each(localsBlock, func(b *hclsyntax.Block) { d.collectLocals(b.Body) })
	each(policyBlock, func(b *hclsyntax.Block) { d.policyBlock(p, b) })
	each(windowBlock, func(b *hclsyntax.Block) { p.Windows = append(p.Windows, d.windowBlock(b)) })
	each(limitBlock, func(b *hclsyntax.Block) { d.limitBlock(b) })
	each(placeholderBlock, func(b *hclsyntax.Block) { d.placeholderBlock(b) })
	each(onRecallBlock, func(b *hclsyntax.Block) {
		if d.unique("on_recall", "the on_recall block of the policy", b.TypeRange) {
			p.OnRecall = d.onRecall(b.Body)
		}
	})
	for _, body := range bodies {
		for _, b := range body.Blocks {
			if b.Type == permitBlock.Name || b.Type == forbidBlock.Name {
				p.Rules = append(p.Rules, d.rule(b))
			}
		}
	}
	d.checkLocals()
	d.checkUses()
	switch {
	case len(p.Rules) == 0 && !d.HasErrors():
		d.Errorf(hcl.Range{Filename: d.Files[0].Name}, "A policy without a rule denies everything; write at least one.",
			"there is no permit and no forbid")
	case len(p.Rules) > MaxRules:
		d.Errorf(p.Rules[MaxRules].At, "Join rules that differ in one scope.", "more than %d rules", MaxRules)
	}
	if !d.HasErrors() {
		p.Arrange()
	}
	return p
}

// unique reports a name that is taken, and where.
func (d *Decoder) unique(key, what string, at hcl.Range) bool {
	first, taken := d.named[key]
	if taken {
		d.Errorf(at, "", "%s is already at %s:%d", what, first.Filename, first.Start.Line)
		return false
	}
	d.named[key] = at
	return true
}

// name takes the label of a block as a name that no other block of its kind has.
func (d *Decoder) name(b *hclsyntax.Block, kind string) string {
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

func (d *Decoder) policyBlock(p *policy.Policy, b *hclsyntax.Block) {
	if !d.unique("policy", "the policy block", b.TypeRange) {
		return
	}
	d.CheckBody(b.Body, policyBlock)
	if a := b.Body.Attributes["window"]; a != nil {
		p.Window = d.window(a)
	}
	if a := b.Body.Attributes["clock_skew"]; a != nil {
		p.ClockSkew, _ = d.duration(a, policy.MaxClockSkew)
	}
}

// windowBlock decodes a window for the permits that name none.
func (d *Decoder) windowBlock(b *hclsyntax.Block) policy.NamedWindow {
	w := policy.NamedWindow{Name: d.name(b, windowBlock.Name), At: b.TypeRange}
	d.CheckBody(b.Body, windowBlock)
	d.scope(&w.Scope, b.Body)
	if a := b.Body.Attributes["within"]; a != nil {
		w.Within = d.window(a)
	}
	return w
}

// refOf is how decisions name the rule that is written at at.
func refOf(name string, at hcl.Range) policy.RuleRef {
	return policy.RuleRef{Name: name, File: filepath.ToSlash(at.Filename), Line: at.Start.Line}
}
