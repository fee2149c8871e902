package rulestest

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/rules/internal/lang"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// testFile describes a test file.
var testFile = &lang.BlockSpec{Name: "a test file", Blocks: []*lang.BlockSpec{givenBlock, testBlock, invariantBlock}}

var givenBlock = &lang.BlockSpec{
	Name:          "given",
	Label:         "name",
	LabelOptional: true,
	About: "Defaults of cases. Without a name it applies to every test of the file, with a name to the tests that refer " +
		"to it.",
	Attributes: caseAttributes(),
}

var testBlock = &lang.BlockSpec{
	Name:  "test",
	Label: "title",
	About: "One case and the expected decision. Its attributes override those of given blocks.",
	Attributes: append(caseAttributes(),
		lang.AttributeSpec{Name: "given", Value: "list of strings",
			About: "Names of `given` blocks. Later ones override earlier ones."},
		lang.AttributeSpec{Name: "expect", Value: "string", About: aboutExpect},
		lang.AttributeSpec{Name: "rule", Value: "string", About: aboutRule},
		lang.AttributeSpec{Name: "until", Value: "string",
			About: "How long after sending the permission ends, exactly, as a " +
				"duration, or `any` if it does not end. Default: any time."},
		lang.AttributeSpec{Name: "shadow", Value: "string",
			About: "The decision if shadow rules decided too, like `expect`. Default: any decision."},
	),
	Required: []string{"expect"},
}

var invariantBlock = &lang.BlockSpec{
	Name:  "invariant",
	Label: "title",
	About: "The expected decision for every input that meets a condition. It is proven for all inputs that the rules " +
		"and the " +
		"condition can tell apart.",
	Attributes: []lang.AttributeSpec{
		{Name: "when", Value: "condition", About: "The inputs that it applies to. Default: all."},
		{Name: "expect", Value: "string", About: aboutExpect},
		{Name: "rule", Value: "string", About: aboutRule},
	},
	Required: []string{"expect"},
}

const (
	aboutExpect = "`permit`, `deny` for a refusal with any code, or the code of the refusal."
	aboutRule   = "The rule that must decide, or `default_deny`. Default: any rule."
)

func caseAttributes() []lang.AttributeSpec {
	var out []lang.AttributeSpec
	for _, f := range CaseFields {
		value := "string"
		switch {
		case f.List != nil:
			value = "list of strings"
		case f.Flag != nil:
			value = "bool"
		}
		out = append(out, lang.AttributeSpec{Name: f.Name, Value: value, About: f.About})
	}
	return out
}

// expectation is the decision that a test expects.
type expectation struct {
	expect string // "permit", "deny" or a code
	rule   string // "": any
	until  string // "": any
	shadow string // "": anything
}

// testCase is one test block.
type testCase struct {
	title string
	at    hcl.Range
	in    *policy.Input
	want  expectation
}

// invariant is one invariant block.
type invariant struct {
	title string
	at    hcl.Range
	when  *policy.Condition // nil: all inputs
	want  expectation
}

// testDecoder decodes the test files of a policy, whose rules and codes they name.
type testDecoder struct {
	*lang.Decoder
	policy *policy.Policy
	givens map[string]*hclsyntax.Body // given blocks by name
	all    *hclsyntax.Body            // the given block without a name
}

func (d *testDecoder) file(body *hclsyntax.Body) (tests []testCase, invariants []invariant) {
	d.givens, d.all = map[string]*hclsyntax.Body{}, nil
	d.CheckBody(body, testFile)
	for _, b := range body.Blocks {
		if b.Type == givenBlock.Name {
			d.given(b)
		}
	}
	for _, b := range body.Blocks {
		if len(b.Labels) != 1 {
			continue // a given block, or one that CheckBody reported
		}
		switch b.Type {
		case testBlock.Name:
			tests = append(tests, d.test(b))
		case invariantBlock.Name:
			d.CheckBody(b.Body, invariantBlock)
			one := invariant{title: b.Labels[0], at: b.LabelRanges[0], want: d.expectation(b.Body)}
			if a := b.Body.Attributes["when"]; a != nil {
				one.when = d.When(a.Expr.Range(), d.Condition(a.Expr))
			}
			invariants = append(invariants, one)
		}
	}
	return tests, invariants
}

func (d *testDecoder) given(b *hclsyntax.Block) {
	d.CheckBody(b.Body, givenBlock)
	switch {
	case len(b.Labels) > 0 && d.givens[b.Labels[0]] != nil, len(b.Labels) == 0 && d.all != nil:
		d.Errorf(b.TypeRange, "Merge them.", "this given block is already defined")
	case len(b.Labels) > 0:
		d.givens[b.Labels[0]] = b.Body
	default:
		d.all = b.Body
	}
	d.caseOf(&Case{}, b.Body)
}

func (d *testDecoder) test(b *hclsyntax.Block) testCase {
	d.CheckBody(b.Body, testBlock)
	one := testCase{title: b.Labels[0], at: b.LabelRanges[0], want: d.expectation(b.Body)}
	bodies := []*hclsyntax.Body{d.all}
	if a := b.Body.Attributes["given"]; a != nil {
		items, _ := d.List(a)
		for _, i := range items {
			if d.givens[i.Text] == nil {
				d.Errorf(i.At, lang.NameNear(d.Reporter, i.Text, d.givens), "unknown given block %q", i.Text)
			}
			bodies = append(bodies, d.givens[i.Text])
		}
	}
	var c Case
	for _, body := range append(bodies, b.Body) {
		if body != nil {
			d.caseOf(&c, body)
		}
	}
	in, err := c.Input()
	if err != nil {
		d.Errorf(one.at, "", "%v", err)
	}
	one.in = in
	return one
}

// caseOf sets the fields of c that body has.
func (d *testDecoder) caseOf(c *Case, body *hclsyntax.Body) {
	for _, f := range CaseFields {
		a := body.Attributes[f.Name]
		switch {
		case a == nil:
		case f.Text != nil:
			*f.Text(c), _ = d.Text(a)
		case f.Flag != nil:
			value, _ := d.Flag(a)
			*f.Flag(c) = &value
		default:
			*f.List(c) = nil
			items, _ := d.List(a)
			for _, i := range items {
				*f.List(c) = append(*f.List(c), i.Text)
			}
		}
	}
}

func (d *testDecoder) expectation(body *hclsyntax.Body) expectation {
	var want expectation
	codes := []string{lang.ExpectPermit, lang.ExpectDeny, policy.CodeForbidden, policy.CodeWindowExpired,
		policy.CodeReasonRequired, policy.CodeTypeNotRecallable}
	names := []string{policy.DefaultDeny, policy.BuiltInCommandMessages}
	for _, r := range d.policy.Rules {
		names = append(names, r.Ref.Name)
		if r.Forbid {
			codes = append(codes, r.Code)
		}
	}
	read := func(name string, into *string, known []string, what string) {
		a := body.Attributes[name]
		if a == nil {
			return
		}
		text, ok := d.Text(a)
		if ok && known != nil && !slices.Contains(known, text) {
			d.Errorf(a.Expr.Range(), lang.DidYouMean(text, known), "the rules have no %s %q", what, text)
		}
		*into = text
	}
	read("expect", &want.expect, codes, "code")
	read("shadow", &want.shadow, codes, "code")
	read("rule", &want.rule, names, "rule")
	read("until", &want.until, nil, "")
	if want.until != "" && want.until != "any" {
		if _, err := policy.ParseDuration(want.until); err != nil {
			d.Errorf(body.Attributes["until"].Expr.Range(), "", "until: %v", err)
		}
	}
	return want
}

// met returns how a decision differs from the expectation, "" if it does not.
func (w expectation) met(d policy.Decision, in *policy.Input) string {
	switch {
	case !meets(w.expect, d.Permit, d.Code):
		return fmt.Sprintf("expected %s, got %s by %s", w.expect, policy.VerdictText(d.Permit, d.Code), d.Rule)
	case w.rule != "" && w.rule != d.Rule.Name:
		return fmt.Sprintf("expected rule %s to decide, but %s did", w.rule, d.Rule)
	}
	if w.until != "" {
		until := "any"
		if !d.Until.IsZero() {
			until = policy.FormatDuration(d.Until.Sub(in.SentAt))
		}
		want, err := policy.ParseDuration(w.until)
		if w.until != until && (err != nil || policy.FormatDuration(want) != until) {
			return fmt.Sprintf("expected until %s, got until %s", w.until, until)
		}
	}
	if w.shadow != "" {
		shadow := policy.Shadow{Permit: d.Permit, Code: d.Code, Rule: d.Rule}
		if d.Shadow.Differs {
			shadow = d.Shadow
		}
		if !meets(w.shadow, shadow.Permit, shadow.Code) {
			return fmt.Sprintf("expected %s with shadow rules, got %s by %s", w.shadow,
				policy.VerdictText(shadow.Permit, shadow.Code), shadow.Rule)
		}
	}
	return ""
}

func meets(expect string, permit bool, code string) bool {
	switch expect {
	case lang.ExpectPermit:
		return permit
	case lang.ExpectDeny:
		return !permit
	}
	return expect == code
}
