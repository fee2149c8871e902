package rules

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// testFile is the whole of a test file.
var testFile = &blockSpec{name: "a test file", blocks: []*blockSpec{givenBlock, testBlock, invariantBlock}}

var givenBlock = &blockSpec{
	name:          "given",
	label:         "name",
	labelOptional: true,
	about:         "What cases start from. Without a name it is for every test of the file, with one for the tests that name it.",
	attributes:    caseAttributes(),
}

var testBlock = &blockSpec{
	name:  "test",
	label: "title",
	about: "One case and what must be decided. What it says of the case comes over what is given.",
	attributes: append(caseAttributes(),
		attributeSpec{"given", "list of texts", "The names of `given` blocks, later ones over earlier ones."},
		attributeSpec{"expect", "text", "`permit`, `deny` (for whatever code), or the code of the refusal."},
		attributeSpec{"rule", "text", "The rule that must decide, or `default_deny`. Without it any."},
		attributeSpec{"until", "text", "How long after sending it must hold to the moment, as a duration, or `any` for no end. Without it any time."},
		attributeSpec{"shadow", "text", "What must be decided if shadow rules decide too, like `expect`. Without it anything."},
	),
	required: []string{"expect"},
}

var invariantBlock = &blockSpec{
	name:  "invariant",
	label: "title",
	about: "What must be decided for every input that meets a condition. It is checked over all inputs that the rules and the condition can tell apart.",
	attributes: []attributeSpec{
		{"when", "condition", "The inputs it is about. Default: all."},
		{"expect", "text", "`permit`, `deny` (for whatever code), or the code of the refusal."},
		{"rule", "text", "The rule that must decide, or `default_deny`. Without it any."},
	},
	required: []string{"expect"},
}

func caseAttributes() []attributeSpec {
	var out []attributeSpec
	for _, f := range CaseFields {
		value := "text"
		switch {
		case f.List != nil:
			value = "list of texts"
		case f.Flag != nil:
			value = "bool"
		}
		out = append(out, attributeSpec{f.Name, value, f.About})
	}
	return out
}

// expectation is what must be decided.
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
	in    *Input
	want  expectation
}

// invariant is one invariant block.
type invariant struct {
	title string
	at    hcl.Range
	when  *condition // nil: all inputs
	want  expectation
}

// testDecoder reads test files for a policy, whose rules and codes they name.
type testDecoder struct {
	*decoder
	policy *Policy
	givens map[string]*hclsyntax.Body // given blocks by name
	all    *hclsyntax.Body            // the given block without a name
}

func (d *testDecoder) file(body *hclsyntax.Body) (tests []testCase, invariants []invariant) {
	d.givens, d.all = map[string]*hclsyntax.Body{}, nil
	d.checkBody(body, testFile)
	for _, b := range body.Blocks {
		if b.Type == givenBlock.name {
			d.given(b)
		}
	}
	for _, b := range body.Blocks {
		if len(b.Labels) != 1 {
			continue // a given block, or checkBody reported it
		}
		switch b.Type {
		case testBlock.name:
			tests = append(tests, d.test(b))
		case invariantBlock.name:
			d.checkBody(b.Body, invariantBlock)
			one := invariant{title: b.Labels[0], at: b.LabelRanges[0], want: d.expectation(b.Body)}
			if a := b.Body.Attributes["when"]; a != nil {
				one.when = d.when(a.Expr.Range(), d.condition(a.Expr))
			}
			invariants = append(invariants, one)
		}
	}
	return tests, invariants
}

func (d *testDecoder) given(b *hclsyntax.Block) {
	d.checkBody(b.Body, givenBlock)
	switch {
	case len(b.Labels) > 0 && d.givens[b.Labels[0]] != nil, len(b.Labels) == 0 && d.all != nil:
		d.Errorf(b.TypeRange, "Join them.", "there is such a given block already")
	case len(b.Labels) > 0:
		d.givens[b.Labels[0]] = b.Body
	default:
		d.all = b.Body
	}
	d.caseOf(&Case{}, b.Body)
}

func (d *testDecoder) test(b *hclsyntax.Block) testCase {
	d.checkBody(b.Body, testBlock)
	one := testCase{title: b.Labels[0], at: b.LabelRanges[0], want: d.expectation(b.Body)}
	bodies := []*hclsyntax.Body{d.all}
	if a := b.Body.Attributes["given"]; a != nil {
		items, _ := d.list(a)
		for _, i := range items {
			if d.givens[i.text] == nil {
				d.Errorf(i.at, nameNear(d.reporter, i.text, d.givens), "there is no given block %q", i.text)
			}
			bodies = append(bodies, d.givens[i.text])
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

// caseOf puts what body says of a case into c.
func (d *testDecoder) caseOf(c *Case, body *hclsyntax.Body) {
	for _, f := range CaseFields {
		a := body.Attributes[f.Name]
		switch {
		case a == nil:
		case f.Text != nil:
			*f.Text(c), _ = d.text(a)
		case f.Flag != nil:
			value, _ := d.flag(a)
			*f.Flag(c) = &value
		default:
			*f.List(c) = nil
			items, _ := d.list(a)
			for _, i := range items {
				*f.List(c) = append(*f.List(c), i.text)
			}
		}
	}
}

func (d *testDecoder) expectation(body *hclsyntax.Body) expectation {
	var want expectation
	codes := []string{expectPermit, expectDeny, CodeForbidden, CodeWindowExpired, CodeReasonRequired, CodeTypeNotRecallable}
	names := []string{DefaultDeny, builtInCommandMessages}
	for _, r := range d.policy.rules {
		names = append(names, r.ref.Name)
		if r.forbid {
			codes = append(codes, r.code)
		}
	}
	read := func(name string, into *string, known []string, what string) {
		a := body.Attributes[name]
		if a == nil {
			return
		}
		text, ok := d.text(a)
		if ok && known != nil && !slices.Contains(known, text) {
			d.Errorf(a.Expr.Range(), didYouMean(text, known), "the rules have no %s %q", what, text)
		}
		*into = text
	}
	read("expect", &want.expect, codes, "code")
	read("shadow", &want.shadow, codes, "code")
	read("rule", &want.rule, names, "rule")
	read("until", &want.until, nil, "")
	if want.until != "" && want.until != "any" {
		if _, err := ParseDuration(want.until); err != nil {
			d.Errorf(body.Attributes["until"].Expr.Range(), "", "until: %v", err)
		}
	}
	return want
}

// met says what of the expectation a decision does not meet; "" if it meets all.
func (w expectation) met(d Decision, in *Input) string {
	switch {
	case !meets(w.expect, d.Permit, d.Code):
		return fmt.Sprintf("expected %s, got %s by %s", w.expect, verdictText(d.Permit, d.Code), d.Rule)
	case w.rule != "" && w.rule != d.Rule.Name:
		return fmt.Sprintf("expected rule %s to decide, but %s did", w.rule, d.Rule)
	}
	if w.until != "" {
		until := "any"
		if !d.Until.IsZero() {
			until = FormatDuration(d.Until.Sub(in.SentAt))
		}
		want, err := ParseDuration(w.until)
		if w.until != until && (err != nil || FormatDuration(want) != until) {
			return fmt.Sprintf("expected it to hold until %s, but it holds until %s", w.until, until)
		}
	}
	if w.shadow != "" {
		shadow := Shadow{Permit: d.Permit, Code: d.Code, Rule: d.Rule}
		if d.Shadow.Differs {
			shadow = d.Shadow
		}
		if !meets(w.shadow, shadow.Permit, shadow.Code) {
			return fmt.Sprintf("expected %s with shadow rules, got %s by %s", w.shadow, verdictText(shadow.Permit, shadow.Code), shadow.Rule)
		}
	}
	return ""
}

func meets(expect string, permit bool, code string) bool {
	switch expect {
	case expectPermit:
		return permit
	case expectDeny:
		return !permit
	}
	return expect == code
}
