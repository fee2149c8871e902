package lang

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/internal/hclfile"
)

// ruleLanguage is HCL as rule files have it; testLanguage, as test files do: these may hold what rules are to refuse.
var (
	ruleLanguage = language(true)
	TestLanguage = language(false)
)

func language(suspect bool) *hclfile.Language {
	return &hclfile.Language{
		Name: "the rule language", Advice: instead, Smaller: "Give parts of it names in a locals block.", Suspect: suspect,
		Ended: "To compare write ==; whether a list has a value is asked with contains.",
	}
}

// instead says what to write in place of the parts of HCL that rules do not have.
var instead = map[hclsyntax.TokenType]string{
	hclsyntax.TokenQuestion:        "Write the condition with && and ||.",
	hclsyntax.TokenColon:           "There is no ?: and no for; what has a key is written key = value.",
	hclsyntax.TokenTemplateInterp:  "A text is taken as it is; write $${ for the characters ${.",
	hclsyntax.TokenTemplateControl: "A text is taken as it is; write %%{ for the characters %{.",
	hclsyntax.TokenOHeredoc:        "Write the text between quotes.",
	hclsyntax.TokenStar:            "Rules do not calculate.",
	hclsyntax.TokenSlash:           "Rules do not calculate.",
	hclsyntax.TokenPlus:            "Rules do not calculate.",
	hclsyntax.TokenMinus:           "Rules do not calculate, and no duration is negative.",
	hclsyntax.TokenPercent:         "Rules do not calculate.",
	hclsyntax.TokenBitwiseAnd:      "Write && for \"and\".",
	hclsyntax.TokenBitwiseOr:       "Write || for \"or\".",
	hclsyntax.TokenBitwiseNot:      "Write ! for \"not\".",
	hclsyntax.TokenApostrophe:      "Write texts between double quotes.",
	hclsyntax.TokenBacktick:        "Write texts between double quotes.",
	hclsyntax.TokenSemicolon:       "A new line ends an attribute.",
}

// Reporter gathers the diagnostics of one load.
type Reporter struct{ hclfile.Reporter }

func NewReporter(files ...hclfile.File) *Reporter {
	return &Reporter{hclfile.Reporter{Files: files}}
}

// NameNear is didYouMean over the names of m, unless nobody would see it: a thousand names looked up a thousand times
// would take seconds.
func NameNear[V any](r *Reporter, name string, m map[string]V) string {
	if r.Full() {
		return ""
	}
	return DidYouMean(name, slices.Sorted(maps.Keys(m)))
}
