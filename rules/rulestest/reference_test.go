package rulestest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
	"unicode/utf8"

	"github.com/chat-recall/recall/internal/golden"
	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/rules/internal/lang"
	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/chat-recall/recall/rules/internal/proof"
)

//go:generate go test -run TestReference_Current . -update

// TestReference_Current generates docs/rules.md from the tables that the decoder uses.
func TestReference_Current(t *testing.T) {
	page, err := template.New("reference.tmpl.md").Funcs(template.FuncMap{"wrap": wrap}).ParseFiles("reference.tmpl.md")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := page.Execute(&b, reference(t)); err != nil {
		t.Fatal(err)
	}
	os.MkdirAll("../../docs", 0o755)
	golden.Check(t, "../../docs/rules.md", b.String())
}

// wrap breaks a paragraph into lines of at most 120 characters.
func wrap(paragraph string) string {
	const most = 120
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(paragraph) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > most:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

type referenceBlock struct {
	Title, About string
	Attributes   []referenceAttribute
	Blocks       string
}

type referenceAttribute struct {
	Name, Value, About string
	Required           bool
}

func describeBlock(s *lang.BlockSpec) referenceBlock {
	out := referenceBlock{Title: s.Name, About: s.About}
	switch {
	case s.LabelOptional:
		out.Title += ` ["` + s.Label + `"]`
	case s.Label != "":
		out.Title += ` "` + s.Label + `"`
	}
	for _, a := range s.Attributes {
		out.Attributes = append(out.Attributes, referenceAttribute{
			a.Name, a.Value, a.About, slices.Contains(s.Required, a.Name),
		})
	}
	out.Blocks = codeNames(s.Blocks)
	return out
}

func codeNames(blocks []*lang.BlockSpec) string {
	var names []string
	for _, b := range blocks {
		names = append(names, "`"+b.Name+"`")
	}
	return strings.Join(names, ", ")
}

type referencePolicy struct {
	Name, Text string
	Invariants []string
}

func reference(t *testing.T) map[string]any {
	var vocabularies []map[string]string
	for _, v := range []*policy.Vocabulary{policy.ConversationTypes, policy.MessageTypes, policy.Roles} {
		vocabularies = append(vocabularies, map[string]string{"Name": v.Name, "Words": "`" + strings.Join(v.Words, "` `") +
			"`"})
	}
	var blocks, testBlocks []referenceBlock
	for _, b := range lang.RuleFile.Blocks {
		blocks = append(blocks, describeBlock(b))
	}
	for _, b := range testFile.Blocks {
		testBlocks = append(testBlocks, describeBlock(b))
	}
	var fieldRows, functionRows []map[string]string
	for _, f := range policy.Fields {
		fieldRows = append(fieldRows, map[string]string{"Name": f.Name, "Holds": f.What(), "About": f.About})
	}
	for _, f := range lang.Functions {
		functionRows = append(functionRows, map[string]string{"Usage": f.Usage, "About": f.About})
	}
	return map[string]any{
		"Default": text(t, "../default.hcl"), "MaxWindow": policy.FormatDuration(policy.MaxWindow),
		"Settle":     rules.SettleTime,
		"MaxFileKiB": lang.MaxFileBytes >> 10, "MaxTotalKiB": lang.MaxTotalBytes >> 10, "MaxFiles": lang.MaxFiles,
		"MaxRules": lang.MaxRules,
		"MaxDepth": hclfile.MaxDepth, "MaxOperators": hclfile.MaxOperators, "MaxCost": policy.MaxConditionCost,
		"MaxInputs":    proof.MaxInputs,
		"Vocabularies": vocabularies, "BlockNames": codeNames(lang.RuleFile.Blocks), "Blocks": blocks,
		"TestBlocks": testBlocks,
		"Fields":     fieldRows, "Functions": functionRows, "PlaceholderFields": policy.PlaceholderFields,
		"Cookbook": cookbook(t),
	}
}

// cookbook returns the policies of the cookbook, with the invariants that hold.
func cookbook(t *testing.T) []referencePolicy {
	report, diags := Run("../cookbook")
	if report == nil {
		t.Fatal(diags)
	}
	var out []referencePolicy
	for _, s := range report.Suites {
		p := referencePolicy{Name: filepath.Base(s.Path), Text: text(t, filepath.Join(s.Path, "rules.hcl"))}
		for _, r := range s.Results {
			if r.Kind == invariantBlock.Name && r.Passed {
				p.Invariants = append(p.Invariants, r.Title)
			}
		}
		out = append(out, p)
	}
	return out
}

// text returns the text of a file.
func text(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
