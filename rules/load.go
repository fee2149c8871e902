package rules

import (
	_ "embed"
	"time"

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
	r := reporterOf()
	r.Files = readSources(paths, r)
	return r.compile()
}

// Parse is Load for one file whose text is at hand. The name is what decisions and diagnostics call it.
func Parse(name string, src []byte) (*Policy, Diagnostics) {
	return ParseFiles([]File{{Name: name, Text: src}})
}

// ParseFiles is Load for files whose texts are at hand, in this order.
func ParseFiles(files []File) (*Policy, Diagnostics) {
	return reporterOf(files...).compile()
}

// compile makes the policy of the sources, all of them or nothing.
func (r *reporter) compile() (*Policy, Diagnostics) {
	if r.HasErrors() {
		return nil, r.Diagnostics()
	}
	var bodies []*hclsyntax.Body
	for _, s := range r.Files {
		if body := r.Parse(s, ruleLanguage); body != nil {
			bodies = append(bodies, body)
		}
	}
	if r.HasErrors() {
		return nil, r.Diagnostics()
	}
	p := newDecoder(r).policy(bodies)
	if r.HasErrors() {
		return nil, r.Diagnostics()
	}
	p.sources, p.digest = r.Files, digest(r.Files)
	return p, r.Diagnostics()
}
