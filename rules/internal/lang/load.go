package lang

import (
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// MaxRules bounds the rules of one policy. A decision may have to look at all of them.
const MaxRules = 1000

// Load reads, checks and compiles the policy in the files and directories named by paths.
func Load(paths ...string) (*policy.Policy, hclfile.Diagnostics) {
	r := NewReporter()
	r.Files = ReadSources(paths, r)
	return r.Compile()
}

// Parse is [Load] for files whose texts are in memory.
func Parse(files []hclfile.File) (*policy.Policy, hclfile.Diagnostics) {
	return NewReporter(files...).Compile()
}

// Compile makes one policy of all files. If there is an error it returns no policy.
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
	p := NewDecoder(r, time.UTC).policy(bodies)
	if r.HasErrors() {
		return nil, r.Diagnostics()
	}
	p.Sources, p.Digest = r.Files, Digest(r.Files)
	return p, r.Diagnostics()
}
