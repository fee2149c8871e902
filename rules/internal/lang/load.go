package lang

import (
	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// MaxRules bounds the rules of one policy; a decision may look at each.
const MaxRules = 1000

// Load reads, checks and compiles the policy in the files and directories named by paths.
func Load(paths ...string) (*policy.Policy, hclfile.Diagnostics) {
	r := NewReporter()
	r.Files = ReadSources(paths, r)
	return r.Compile()
}

// Parse is loadPolicy for files whose texts are at hand.
func Parse(files []hclfile.File) (*policy.Policy, hclfile.Diagnostics) {
	return NewReporter(files...).Compile()
}

// Compile makes the policy of the sources, all of them or nothing.
func (r *Reporter) Compile() (*policy.Policy, hclfile.Diagnostics) {
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
	p := NewDecoder(r).policy(bodies)
	if r.HasErrors() {
		return nil, r.Diagnostics()
	}
	p.Sources, p.Digest = r.Files, Digest(r.Files)
	return p, r.Diagnostics()
}
