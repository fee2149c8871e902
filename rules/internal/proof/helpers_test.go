package proof

import (
	"os"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/hclfile"
	"github.com/chat-recall/recall/rules/internal/lang"
	"github.com/chat-recall/recall/rules/internal/policy"
)

// slow is the time that only an exponential blow-up takes. It is no measure of speed, since tests share their machine.
const slow = time.Minute

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
