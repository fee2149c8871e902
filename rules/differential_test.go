package rules

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyfunction "github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// twin writes a condition from the bytes of a fuzzer twice: as a rule, and as plain HCL in which durations and times
// are numbers of nanoseconds, which is the part of the language that HCL can evaluate itself.
type twin struct {
	bytes []byte
	depth int
}

func (g *twin) pick(n int) int {
	if len(g.bytes) == 0 {
		return 0
	}
	b := int(g.bytes[0])
	g.bytes = g.bytes[1:]
	return b % n
}

var twinTexts = []string{"", "a", "ann", "an", "staff-ann", "n", "x@acme", "acme"}

func (g *twin) condition() (rule, plain string) {
	if g.depth++; g.depth > 40 {
		return "actor.is_sender", "actor.is_sender"
	}
	switch g.pick(10) {
	case 0, 1:
		a, b := g.condition()
		c, d := g.condition()
		return a + " && " + c, b + " && " + d
	case 2, 3:
		a, b := g.condition()
		c, d := g.condition()
		return "(" + a + " || " + c + ")", "(" + b + " || " + d + ")"
	case 4:
		a, b := g.condition()
		return "!(" + a + ")", "!(" + b + ")"
	case 5:
		op := []string{"==", "!=", "<", "<=", ">", ">="}[g.pick(6)]
		age := time.Duration(g.pick(5)) * 30 * time.Second
		if g.pick(2) == 0 {
			return fmt.Sprintf("message.age %s %q", op, FormatDuration(age)), fmt.Sprintf("message.age %s %d", op, age)
		}
		return fmt.Sprintf("%q %s message.age", FormatDuration(age), op), fmt.Sprintf("%d %s message.age", age, op)
	case 6:
		op := []string{"==", "!=", "<", "<=", ">", ">="}[g.pick(6)]
		at := sent.Add(time.Duration(g.pick(3)-1) * time.Hour)
		return fmt.Sprintf("message.sent_at %s %q", op, at.Format(time.RFC3339Nano)), fmt.Sprintf("message.sent_at %s %d", op, at.UnixNano())
	case 7:
		list := []string{"message.labels", "conversation.labels"}[g.pick(2)]
		return twice(fmt.Sprintf("contains(%s, %q)", list, twinTexts[g.pick(len(twinTexts))]))
	case 8:
		text := []string{"tenant", "actor.id", "message.sender", "request.reason"}[g.pick(4)]
		switch g.pick(4) {
		case 0:
			return twice(fmt.Sprintf("startswith(%s, %q)", text, twinTexts[1+g.pick(len(twinTexts)-1)]))
		case 1:
			return twice(fmt.Sprintf("endswith(%s, %q)", text, twinTexts[1+g.pick(len(twinTexts)-1)]))
		case 2:
			return twice(fmt.Sprintf("contains([%q, %q], %s)", twinTexts[g.pick(4)], twinTexts[4+g.pick(4)], text))
		}
		op := []string{"==", "!="}[g.pick(2)]
		return twice(fmt.Sprintf("%s %s %q", text, op, twinTexts[g.pick(len(twinTexts))]))
	}
	switch g.pick(3) {
	case 0:
		return twice(fmt.Sprintf("actor.role == %q", roleWords.words[g.pick(5)]))
	case 1:
		return twice(fmt.Sprintf("%q != message.type", typeWords.words[g.pick(9)]))
	}
	return twice(fmt.Sprintf("actor.is_sender == %t", g.pick(2) == 0))
}

func twice(s string) (string, string) { return s, s }

// input makes a case from what is left of the bytes.
func (g *twin) input() *Input {
	labels := func() []string { return twinTexts[g.pick(4) : 4+g.pick(4)] }
	return input(time.Duration(g.pick(6))*30*time.Second+time.Duration(g.pick(3)-1), func(in *Input) {
		in.Tenant = twinTexts[g.pick(len(twinTexts))]
		in.ActorID = twinTexts[g.pick(len(twinTexts))]
		in.Reason = twinTexts[g.pick(len(twinTexts))]
		in.MessageLabels, in.ConversationLabels = labels(), labels()
		in.ActorRole = roleWords.words[g.pick(5)]
		in.MessageType = typeWords.words[g.pick(9)]
		in.ConversationType = conversationWords.words[g.pick(3)]
	})
}

// plainRole is the role that the actor has in the conversation.
func plainRole(in *Input) string {
	if in.ConversationType == "single" && (in.ActorRole == "owner" || in.ActorRole == "admin") {
		return "member"
	}
	return in.ActorRole
}

// evalContext is the same case for HCL's own evaluation.
func evalContext(in *Input) *hcl.EvalContext {
	text := cty.StringVal
	list := func(texts []string) cty.Value {
		values := []cty.Value{text("\x00")} // never empty, which cty would want a type for; in no list that is asked for
		for _, t := range texts {
			values = append(values, text(t))
		}
		return cty.ListVal(values)
	}
	affix := func(test func(s, part string) bool) ctyfunction.Function {
		return ctyfunction.New(&ctyfunction.Spec{
			Params: []ctyfunction.Parameter{{Name: "s", Type: cty.String}, {Name: "part", Type: cty.String}},
			Type:   ctyfunction.StaticReturnType(cty.Bool),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				return cty.BoolVal(test(args[0].AsString(), args[1].AsString())), nil
			},
		})
	}
	return &hcl.EvalContext{
		Variables: map[string]cty.Value{
			"tenant": text(in.Tenant),
			"message": cty.ObjectVal(map[string]cty.Value{
				"id": text(in.MessageID), "type": text(in.MessageType), "sender": text(in.Sender), "labels": list(in.MessageLabels),
				"age": cty.NumberIntVal(int64(in.age())), "sent_at": cty.NumberIntVal(in.SentAt.UnixNano()),
			}),
			"conversation": cty.ObjectVal(map[string]cty.Value{
				"id": text(in.ConversationID), "type": text(in.ConversationType), "labels": list(in.ConversationLabels),
			}),
			"actor":   cty.ObjectVal(map[string]cty.Value{"id": text(in.ActorID), "role": text(plainRole(in)), "is_sender": cty.BoolVal(in.isSender())}),
			"request": cty.ObjectVal(map[string]cty.Value{"reason": text(in.Reason), "ext": text(in.Ext)}),
		},
		Functions: map[string]ctyfunction.Function{
			"contains": stdlib.ContainsFunc, "startswith": affix(strings.HasPrefix), "endswith": affix(strings.HasSuffix),
		},
	}
}

// FuzzCompiledConditionAnswersAsHCLDoes holds the compiler equal to HCL's own evaluation where both are defined.
func FuzzCompiledConditionAnswersAsHCLDoes(f *testing.F) {
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
		g := &twin{bytes: bytes}
		rule, plain := g.condition()
		p, diags := Parse("rules.hcl", []byte("permit \"a\" {\n when = "+rule+"\n}"))
		if p == nil {
			t.Fatalf("%s\n%s", rule, diags)
		}
		expr, hclDiags := hclsyntax.ParseExpression([]byte(plain), "plain", hcl.InitialPos)
		if hclDiags.HasErrors() {
			t.Fatalf("%s\n%s", plain, hclDiags)
		}
		for range 8 {
			in := g.input()
			value, hclDiags := expr.Value(evalContext(in))
			if hclDiags.HasErrors() {
				t.Fatalf("%s\n%s", plain, hclDiags)
			}
			if got := p.rules[0].when.test(in, in.age()); got != value.True() {
				t.Fatalf("%s\nis %s compiled and %s in HCL for %+v", rule, strconv.FormatBool(got), strconv.FormatBool(value.True()), in)
			}
		}
	})
}

// FuzzLoadingNeverPanics holds that any text is a policy or a list of errors that can be shown.
func FuzzLoadingNeverPanics(f *testing.F) {
	f.Add(string(defaultPolicy))
	f.Add(limited)
	f.Add("permit \"a\" {\n when = contains(local.x, message.type) || !(message.age < \"2m\")\n}\nlocals { x = [\"text\"] }")
	f.Add("placeholder \"a\" { text = { en = \"{actor}\" } }\non_recall {\n steps = [\"x\"]\n}")
	f.Fuzz(func(t *testing.T, text string) {
		p, diags := Parse("rules.hcl", []byte(text))
		_ = diags.String()
		if (p == nil) != diags.HasErrors() {
			t.Fatalf("policy %v with %q", p, diags)
		}
		if p != nil {
			p.Decide(input(time.Minute, nil))
		}
	})
}
