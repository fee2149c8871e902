package lang

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
)

// The subset of HCL in rule files and in test files. Test files may contain strings that check warns about in rules.
var (
	ruleLanguage = language(true)
	TestLanguage = language(false)
)

func language(suspect bool) *hclfile.Language {
	return &hclfile.Language{
		Name: "the rule language", Advice: instead, Smaller: "Move parts of it to a locals block.", Suspect: suspect,
		Ended: "To compare use ==, to search a list use contains.",
	}
}

// instead is the advice for parts of HCL that the rule language does not have.
var instead = map[hclsyntax.TokenType]string{
	hclsyntax.TokenQuestion:        "Write the condition with && and ||.",
	hclsyntax.TokenColon:           "There is no ?: and no for. Attributes and map entries are written key = value.",
	hclsyntax.TokenTemplateInterp:  "Strings are literal. Write $${ for the characters ${.",
	hclsyntax.TokenTemplateControl: "Strings are literal. Write %%{ for the characters %{.",
	hclsyntax.TokenOHeredoc:        "Write the string between quotes.",
	hclsyntax.TokenStar:            "There is no arithmetic.",
	hclsyntax.TokenSlash:           "There is no arithmetic.",
	hclsyntax.TokenPlus:            "There is no arithmetic.",
	hclsyntax.TokenMinus:           "There is no arithmetic, and durations are never negative.",
	hclsyntax.TokenPercent:         "There is no arithmetic.",
	hclsyntax.TokenBitwiseAnd:      "Write && for \"and\".",
	hclsyntax.TokenBitwiseOr:       "Write || for \"or\".",
	hclsyntax.TokenBitwiseNot:      "Write ! for \"not\".",
	hclsyntax.TokenApostrophe:      "Write strings between double quotes.",
	hclsyntax.TokenBacktick:        "Write strings between double quotes.",
	hclsyntax.TokenSemicolon:       "An attribute ends at the end of the line.",
}

// Reporter collects the diagnostics of one load.
type Reporter struct{ hclfile.Reporter }

// NewReporter returns a reporter for files.
func NewReporter(files ...hclfile.File) *Reporter {
	return &Reporter{hclfile.Reporter{Files: files}}
}

// NameNear is [DidYouMean] for the keys of m. It returns "" when no more diagnostics are shown: comparing a thousand
// unknown names with a thousand known ones would take seconds.
func NameNear[V any](r *Reporter, name string, m map[string]V) string {
	if r.Full() {
		return ""
	}
	return DidYouMean(name, slices.Sorted(maps.Keys(m)))
}
