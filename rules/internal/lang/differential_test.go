package lang

import (
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/rules/internal/twin"
)

// FuzzCondition_AgreesWithHCL compares compiled conditions with the evaluation by HCL, where both are defined.
func FuzzCondition_AgreesWithHCL(f *testing.F) {
	for i := range 300 {
		seed := make([]byte, 120)
		state := uint32(i)*2654435761 + 1
		for j := range seed {
			state = state*1664525 + 1013904223
			seed[j] = byte(state >> 24)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		g := twin.New(bytes)
		rule, plain := g.Condition()
		p, diags := parse("rules.hcl", []byte("permit \"a\" {\n when = "+rule+"\n}"))
		if p == nil {
			t.Fatalf("%s\n%s", rule, diags)
		}
		expr, hclDiags := hclsyntax.ParseExpression([]byte(plain), "plain", hcl.InitialPos)
		if hclDiags.HasErrors() {
			t.Fatalf("%s\n%s", plain, hclDiags)
		}
		for range 8 {
			in := g.Input()
			value, hclDiags := expr.Value(twin.EvalContext(in))
			if hclDiags.HasErrors() {
				t.Fatalf("%s\n%s", plain, hclDiags)
			}
			if got := p.Rules[0].When.Test(in, in.Age()); got != value.True() {
				t.Fatalf("%s\nis %s compiled and %s in HCL for %+v", rule, strconv.FormatBool(got),
					strconv.FormatBool(value.True()), in)
			}
		}
	})
}

// FuzzParse checks that any text is either a policy or a list of errors.
func FuzzParse(f *testing.F) {
	f.Add(builtInText(f))
	f.Add("limit \"a\" {\n key = actor.id\n rate = \"3/1m\"\n}\npermit \"own\" {\n sender = true\n window = \"1h\"\n " +
		"limit = \"a\"\n}")
	f.Add("permit \"a\" {\n when = contains(local.x, message.type) || !(message.age < \"2m\")\n}\nlocals { x = " +
		"[\"text\"] }")
	f.Add("placeholder \"a\" { text = { en = \"{actor}\" } }\non_recall {\n steps = [\"x\"]\n}")
	f.Fuzz(func(t *testing.T, text string) {
		p, diags := parse("rules.hcl", []byte(text))
		_ = diags.String()
		if (p == nil) != diags.HasErrors() {
			t.Fatalf("policy %v with %q", p, diags)
		}
		if p != nil {
			p.Decide(twin.Request(time.Minute, nil))
		}
	})
}
