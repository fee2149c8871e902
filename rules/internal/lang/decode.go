package lang

import (
	"path/filepath"
	"time"
	_ "time/tzdata" // a policy means the same on a machine without time zones

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// Decoder makes a policy from syntax trees.
type Decoder struct {
	*Reporter
	named        map[string]hcl.Range // positions, by "rule x" or "policy"
	locals       map[string]*local
	localOrder   []*local
	limits       map[string]*policy.Limit
	placeholders map[string]*policy.Placeholder
	used         map[string]bool // "limit x" or "placeholder x"
	anyOwn       bool            // own_window_limit = "any"
	zone         *time.Location  // of the policy
	asksClock    bool            // a condition asks for the time of the request
}

// NewDecoder returns a decoder that reports to r. zone is the time zone of conditions.
func NewDecoder(r *Reporter, zone *time.Location) *Decoder {
	return &Decoder{
		Reporter:     r,
		named:        map[string]hcl.Range{},
		locals:       map[string]*local{},
		limits:       map[string]*policy.Limit{},
		placeholders: map[string]*policy.Placeholder{},
		used:         map[string]bool{},
		zone:         zone,
	}
}

// policy decodes all files together. The result is valid only if no error was reported.
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
	// Blocks that define names are decoded before blocks that use them, in whichever file they are.
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
	p.Zone = d.zone
	if at, named := d.named["timezone"]; named && !d.asksClock {
		d.Warnf(at, "Remove it: only request.weekday and request.time need it.", "the time zone is not used")
	}
	switch {
	case len(p.Rules) == 0 && !d.HasErrors():
		d.Errorf(hcl.Range{Filename: d.Files[0].Name}, "A policy without rules denies everything. Write at least one permit.",
			"the policy has no permit and no forbid")
	case len(p.Rules) > MaxRules:
		d.Errorf(p.Rules[MaxRules].At, "Combine rules that differ in one attribute.", "more than %d rules", MaxRules)
	}
	if !d.HasErrors() {
		p.Arrange()
	}
	return p
}

// unique reports a name that is already defined, and where.
func (d *Decoder) unique(key, what string, at hcl.Range) bool {
	first, taken := d.named[key]
	if taken {
		d.Errorf(at, "", "%s is already defined at %s:%d", what, first.Filename, first.Start.Line)
		return false
	}
	d.named[key] = at
	return true
}

// name returns the label of a block, which must be unique among the blocks of its kind.
func (d *Decoder) name(b *hclsyntax.Block, kind string) string {
	if len(b.Labels) != 1 {
		return "" // checkLabels reported it
	}
	name := b.Labels[0]
	if !namePattern.MatchString(name) {
		d.Errorf(b.LabelRanges[0], "A name has at most 64 letters, digits, _, - and ., and starts with a letter.",
			"this is not a valid name of a %s", kind)
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
	if a := b.Body.Attributes["timezone"]; a != nil {
		d.timezone(a)
	}
	if a := b.Body.Attributes["own_window_limit"]; a != nil {
		d.anyOwn = d.only(a, "any")
		p.AnyOwn = d.anyOwn
	}
	if a := b.Body.Attributes["window"]; a != nil {
		p.Window = d.window(a)
	}
	if a := b.Body.Attributes["clock_skew"]; a != nil {
		p.ClockSkew, _ = d.duration(a, policy.MaxClockSkew)
	}
}

// timezone decodes the time zone of the policy.
func (d *Decoder) timezone(a *hclsyntax.Attribute) {
	d.named["timezone"] = a.SrcRange
	name, ok := d.Text(a)
	if !ok {
		return
	}
	zone, err := time.LoadLocation(name)
	// The time zone of a machine is not the policy's to rely on, and neither are files that only some machines have:
	// localtime, posix/… and right/…. All names of the database begin with a capital letter.
	if err != nil || name == "" || name == "Local" || name[0] < 'A' || name[0] > 'Z' {
		d.Errorf(a.Expr.Range(), "Write a name of the IANA time zone database, like \"Asia/Shanghai\" or \"UTC\".",
			"%q is not a time zone", name)
		return
	}
	d.zone = zone
}

// windowBlock decodes a window block.
func (d *Decoder) windowBlock(b *hclsyntax.Block) policy.NamedWindow {
	w := policy.NamedWindow{Name: d.name(b, windowBlock.Name), At: b.TypeRange}
	d.CheckBody(b.Body, windowBlock)
	d.scope(&w.Scope, b.Body)
	if a := b.Body.Attributes["within"]; a != nil {
		w.Within = d.window(a)
	}
	return w
}

// refOf returns the reference to a rule that is defined at a position.
func refOf(name string, at hcl.Range) policy.RuleRef {
	return policy.RuleRef{Name: name, File: filepath.ToSlash(at.Filename), Line: at.Start.Line}
}
