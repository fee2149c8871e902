package rules

import (
	"os"
	"testing"
)

func mustParse(t testing.TB, src string) *Policy {
	t.Helper()
	p, diags := Parse("rules.hcl", []byte(src))
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
