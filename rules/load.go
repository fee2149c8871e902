package rules

import (
	_ "embed"
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
	return loadPolicy(paths...)
}

// Parse is Load for one file whose text is at hand. The name is what decisions and diagnostics call it.
func Parse(name string, src []byte) (*Policy, Diagnostics) {
	return ParseFiles([]File{{Name: name, Text: src}})
}

// ParseFiles is Load for files whose texts are at hand, in this order.
func ParseFiles(files []File) (*Policy, Diagnostics) {
	return parsePolicy(files)
}
