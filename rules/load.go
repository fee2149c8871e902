package rules

import (
	_ "embed"

	"github.com/chat-recall/recall/rules/internal/lang"
)

//go:embed default.hcl
var defaultPolicy []byte

// Default returns the built-in policy, default.hcl.
func Default() *Policy {
	p, diags := Parse("default.hcl", defaultPolicy)
	if p == nil {
		panic("rules: the embedded default.hcl does not load:\n" + diags.String())
	}
	return p
}

// Load reads, checks and compiles the policy in the files and directories named by paths. Of a directory it reads each
// *.hcl that is not *.test.hcl, in name order. If there is any error it returns no policy, never a part of one;
// warnings come with the policy.
func Load(paths ...string) (*Policy, Diagnostics) { return wrap(lang.Load(paths...)) }

// Parse is Load for one file whose text is in memory. Decisions and diagnostics use name as the name of the file.
func Parse(name string, src []byte) (*Policy, Diagnostics) {
	return ParseFiles([]File{{Name: name, Text: src}})
}

// ParseFiles is Load for files whose texts are in memory, in this order.
func ParseFiles(files []File) (*Policy, Diagnostics) { return wrap(lang.Parse(files)) }

// Format returns a rule or test file in its canonical form: aligned, indented by two spaces, lines ended by \n, with
// one \n at the end. It changes no meaning and refuses a file that does not parse.
func Format(name string, src []byte) ([]byte, Diagnostics) { return lang.Format(name, src) }

// FormatFile formats a file on disk. It returns the text of the file and the canonical text, and writes nothing.
func FormatFile(name string) (was, now []byte, diags Diagnostics) { return lang.FormatFile(name) }

// Files returns the rule and test files that paths name, of a directory every *.hcl in name order.
func Files(paths ...string) ([]string, Diagnostics) { return lang.Files(paths...) }
