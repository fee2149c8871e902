package rulestest

import (
	"flag"
	"os"
	"testing"

	"github.com/chat-recall/recall/rules"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with the file, or writes it under -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		write(t, file, got)
	}
	if want := text(t, file); got != want {
		t.Errorf("%s differs (go test -update writes it anew)\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

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
