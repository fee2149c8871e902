package rules

import "github.com/hashicorp/hcl/v2/hclsyntax"

// maxRules bounds the rules of one policy; a decision may look at each.
const maxRules = 1000

// loadPolicy reads, checks and compiles the policy in the files and directories named by paths.
func loadPolicy(paths ...string) (*Policy, Diagnostics) {
	r := reporterOf()
	r.Files = readSources(paths, r)
	return r.compile()
}

// parsePolicy is loadPolicy for files whose texts are at hand.
func parsePolicy(files []File) (*Policy, Diagnostics) { return reporterOf(files...).compile() }

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
