package rules

import (
	_ "embed"
	"path/filepath"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

const (
	// MaxWindow is the longest that a sender may recall an own message, whatever a rule file says: the maximum of
	// the servers this takes after.
	MaxWindow = 7 * day
	// DefaultWindow holds where neither the permit nor the policy names a window.
	DefaultWindow = 2 * time.Minute
	// defaultClockSkew and maxClockSkew bound how far in the future a request may lie.
	defaultClockSkew = 5 * time.Second
	maxClockSkew     = 5 * time.Minute
	// maxRules bounds the rules of one policy; a decision may look at each.
	maxRules = 1000
)

//go:embed default.hcl
var defaultPolicy []byte

// Default is the built-in policy, default.hcl.
func Default() *Policy {
	p, diags := Parse("default.hcl", defaultPolicy)
	if p == nil {
		panic("rules: the embedded default.hcl does not load:\n" + diags.String())
	}
	return p
}

// Load reads, checks and compiles the policy in the files and directories named by paths: of a directory each *.hcl
// that is not *.test.hcl, in name order. On any error there is no policy, never a part of one; warnings come with it.
func Load(paths ...string) (*Policy, Diagnostics) {
	r := &reporter{}
	r.sources = readSources(paths, r)
	return r.compile()
}

// Parse is Load for one file whose text is at hand. The name is what decisions and diagnostics call it.
func Parse(name string, src []byte) (*Policy, Diagnostics) {
	r := &reporter{sources: []source{{name, src}}}
	if len(src) > maxFileBytes {
		r.errorf(hcl.Range{Filename: name}, "", "has more than %d KiB, the limit of a rule file", maxFileBytes>>10)
	}
	return r.compile()
}

// compile makes the policy of the sources, all of them or nothing.
func (r *reporter) compile() (*Policy, Diagnostics) {
	if r.hasErrors() {
		return nil, r.diagnostics()
	}
	var bodies []*hclsyntax.Body
	for _, s := range r.sources {
		if body := r.parse(s); body != nil {
			bodies = append(bodies, body)
		}
	}
	if r.hasErrors() {
		return nil, r.diagnostics()
	}
	d := &decoder{reporter: r, named: map[string]hcl.Range{}}
	p := d.policy(bodies)
	if r.hasErrors() {
		return nil, r.diagnostics()
	}
	p.digest = digest(r.sources)
	return p, r.diagnostics()
}

// decoder makes a policy of syntax trees that parsed.
type decoder struct {
	*reporter
	named map[string]hcl.Range // "rule x" or "policy", to where it is written
}

func (d *decoder) policy(bodies []*hclsyntax.Body) *Policy {
	p := &Policy{window: DefaultWindow, clockSkew: defaultClockSkew}
	for _, body := range bodies {
		d.checkBody(body, ruleFile)
		for _, b := range body.Blocks {
			if b.Type == policyBlock.name && d.unique("policy", "the policy block", b.TypeRange) {
				d.policyBlock(p, b.Body)
			}
		}
	}
	for _, body := range bodies {
		for _, b := range body.Blocks {
			if b.Type == permitBlock.name || b.Type == forbidBlock.name {
				p.rules = append(p.rules, d.rule(b))
			}
		}
	}
	switch {
	case len(p.rules) == 0 && !d.hasErrors():
		d.errorf(hcl.Range{Filename: d.sources[0].name}, "A policy without a rule denies everything; write at least one.", "there is no permit and no forbid")
	case len(p.rules) > maxRules:
		d.errorf(p.rules[maxRules].at, "Join rules that differ in one scope.", "more than %d rules", maxRules)
	}
	if !d.hasErrors() {
		p.arrange()
	}
	return p
}

// unique reports a name that is taken, and where.
func (d *decoder) unique(key, what string, at hcl.Range) bool {
	first, taken := d.named[key]
	if taken {
		d.errorf(at, "", "%s is already at %s:%d", what, first.Filename, first.Start.Line)
		return false
	}
	d.named[key] = at
	return true
}

func (d *decoder) policyBlock(p *Policy, body *hclsyntax.Body) {
	d.checkBody(body, policyBlock)
	if a := body.Attributes["window"]; a != nil {
		p.window = d.window(a)
	}
	if a := body.Attributes["clock_skew"]; a != nil {
		p.clockSkew, _ = d.duration(a, maxClockSkew)
	}
}

// resolve returns the value that an expression stands for.
func (d *decoder) resolve(e hclsyntax.Expression) hclsyntax.Expression {
	return unwrap(e)
}

// refOf is how decisions name the rule that is written at at.
func refOf(name string, at hcl.Range) RuleRef {
	return RuleRef{Name: name, File: filepath.ToSlash(at.Filename), Line: at.Start.Line}
}
