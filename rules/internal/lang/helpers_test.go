package lang

import (
	"os"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// slow is the time that only a hang or an exponential blow-up takes. Hostile input takes well under a second on an idle
// machine. It is no measure of speed, since tests share their machine.
const slow = time.Minute

func parse(name string, src []byte) (*policy.Policy, hclfile.Diagnostics) {
	return Parse([]hclfile.File{{Name: name, Text: src}})
}

func mustParse(t testing.TB, src string) *policy.Policy {
	t.Helper()
	p, diags := parse("rules.hcl", []byte(src))
	if p == nil {
		t.Fatalf("does not load:\n%s", diags)
	}
	return p
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// builtIn is the built-in policy.
func builtIn(t testing.TB) *policy.Policy { return mustParse(t, builtInText(t)) }

func builtInText(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../../default.hcl")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
