package rules

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/chat-recall/recall/internal/hclfile"
)

//go:generate go test -run TestReferenceForOperatorsIsCurrent . -update

// TestReferenceForOperatorsIsCurrent makes docs/rules.md from the tables that the loader itself goes by.
func TestReferenceForOperatorsIsCurrent(t *testing.T) {
	page, err := template.ParseFiles("reference.tmpl.md")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := page.Execute(&b, reference(t)); err != nil {
		t.Fatal(err)
	}
	os.MkdirAll("../docs", 0o755)
	golden(t, "../docs/rules.md", b.String())
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

func describeBlock(s *blockSpec) referenceBlock {
	out := referenceBlock{Title: s.name, About: s.about}
	switch {
	case s.labelOptional:
		out.Title += ` ["` + s.label + `"]`
	case s.label != "":
		out.Title += ` "` + s.label + `"`
	}
	for _, a := range s.attributes {
		out.Attributes = append(out.Attributes, referenceAttribute{a.name, a.value, a.about, slices.Contains(s.required, a.name)})
	}
	out.Blocks = codeNames(s.blocks)
	return out
}

func codeNames(blocks []*blockSpec) string {
	var names []string
	for _, b := range blocks {
		names = append(names, "`"+b.name+"`")
	}
	return strings.Join(names, ", ")
}

type referencePolicy struct {
	Name, Text string
	Invariants []string
}

func reference(t *testing.T) map[string]any {
	var vocabularies []map[string]string
	for _, v := range []*vocabulary{conversationWords, typeWords, roleWords} {
		vocabularies = append(vocabularies, map[string]string{"Name": v.name, "Words": "`" + strings.Join(v.words, "` `") + "`"})
	}
	var blocks, testBlocks []referenceBlock
	for _, b := range ruleFile.blocks {
		blocks = append(blocks, describeBlock(b))
	}
	for _, b := range testFile.blocks {
		testBlocks = append(testBlocks, describeBlock(b))
	}
	var fieldRows, functionRows []map[string]string
	for _, f := range fields {
		fieldRows = append(fieldRows, map[string]string{"Name": f.name, "Holds": f.what(), "About": f.about})
	}
	for _, f := range functions {
		functionRows = append(functionRows, map[string]string{"Usage": f.usage, "About": f.about})
	}
	return map[string]any{
		"Default": string(defaultPolicy), "MaxWindow": FormatDuration(MaxWindow), "Settle": settleTime,
		"MaxFileKiB": maxFileBytes >> 10, "MaxTotalKiB": maxTotalBytes >> 10, "MaxFiles": maxFiles, "MaxRules": maxRules,
		"MaxDepth": hclfile.MaxDepth, "MaxOperators": hclfile.MaxOperators, "MaxCost": maxConditionCost,
		"MaxInputs":    maxInputs,
		"Vocabularies": vocabularies, "BlockNames": codeNames(ruleFile.blocks), "Blocks": blocks, "TestBlocks": testBlocks,
		"Fields": fieldRows, "Functions": functionRows, "PlaceholderFields": PlaceholderFields, "Cookbook": cookbook(t),
	}
}

// cookbook is the policies of the cookbook with what is proven of each.
func cookbook(t *testing.T) []referencePolicy {
	report, diags := RunTests("cookbook")
	if report == nil {
		t.Fatal(diags)
	}
	var out []referencePolicy
	for _, s := range report.Suites {
		text, err := os.ReadFile(filepath.Join(s.Path, "rules.hcl"))
		if err != nil {
			t.Fatal(err)
		}
		p := referencePolicy{Name: filepath.Base(s.Path), Text: string(text)}
		for _, r := range s.Results {
			if r.Kind == invariantBlock.name && r.Passed {
				p.Invariants = append(p.Invariants, r.Title)
			}
		}
		out = append(out, p)
	}
	return out
}
