package proof

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/lang"
	"github.com/chat-recall/recall/rules/internal/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// slow is the time that only an exponential blow-up takes. It is no measure of speed, since tests share their machine.
const slow = time.Minute

// golden compares got with the file, or writes it under -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew)\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

func mustParse(t testing.TB, src string) *policy.Policy {
	t.Helper()
	p, diags := lang.Parse([]hclfile.File{{Name: "rules.hcl", Text: []byte(src)}})
	if p == nil {
		t.Fatalf("does not load:\n%s", diags)
	}
	return p
}

// builtIn is the built-in policy.
func builtIn(t testing.TB) *policy.Policy {
	t.Helper()
	text, err := os.ReadFile("../../default.hcl")
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, string(text))
}

const limited = `
	limit "per_actor" {
		key  = actor.id
		rate = "3/1m"
	}
	permit "own" {
		sender = true
		window = "1h"
		limit  = "per_actor"
	}`
