package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/chat-recall/recall/rules/internal/twin"
)

// benchCondition is false for the input of the benchmark, so that every rule is evaluated.
const benchCondition = `message.type == "text" && contains(conversation.labels, "vip") || actor.id == "nobody-%d"`

// benchPolicy has n rules with a condition each; the last one permits.
func benchPolicy(n int) string {
	var b strings.Builder
	for i := range n - 1 {
		fmt.Fprintf(&b, "forbid \"f%d\" {\n when = "+benchCondition+"\n}\n", i, i)
	}
	b.WriteString("permit \"own\" {\n sender = true\n when = message.type != \"file\"\n}\n")
	return b.String()
}

// BenchmarkDecide measures a decision of 1, 10 and 100 rules, with compiled conditions and with evaluation by HCL.
func BenchmarkDecide(b *testing.B) {
	in := twin.Request(time.Minute, func(in *Input) { in.ConversationLabels = []string{"team", "public"} })
	for _, n := range []int{1, 10, 100} {
		src := benchPolicy(n)
		b.Run(fmt.Sprintf("compiled/%d", n), func(b *testing.B) {
			p := mustParse(b, src)
			b.ReportAllocs()
			for b.Loop() {
				if !p.Decide(in).Permit {
					b.Fatal("refused")
				}
			}
		})
		b.Run(fmt.Sprintf("hcl/%d", n), func(b *testing.B) {
			file, diags := hclsyntax.ParseConfig([]byte(src), "rules.hcl", hcl.InitialPos)
			if diags.HasErrors() {
				b.Fatal(diags)
			}
			var conditions []hclsyntax.Expression
			for _, block := range file.Body.(*hclsyntax.Body).Blocks {
				conditions = append(conditions, block.Body.Attributes["when"].Expr)
			}
			b.ReportAllocs()
			for b.Loop() {
				ctx := twin.EvalContext(in)
				for i, c := range conditions {
					value, diags := c.Value(ctx)
					if diags.HasErrors() || value.True() != (i == n-1) {
						b.Fatal(diags, value)
					}
				}
			}
		})
	}
}

// BenchmarkDefaultPolicy measures a decision of the built-in policy.
func BenchmarkDefaultPolicy(b *testing.B) {
	p, in := Default(), twin.Request(time.Minute, nil)
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(in)
	}
}
