package rulestest

import (
	"os"
	"testing"

	"github.com/chat-recall/recall/rules"
)

func mustParse(t testing.TB, src string) *rules.Policy {
	t.Helper()
	p, diags := rules.Parse("rules.hcl", []byte(src))
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

const shortRules = "policy { window = \"1m\" }\npermit \"own\" { sender = true }\n"
