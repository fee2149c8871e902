package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/rules/internal/twin"
)

// TestDecide_DenialOrder tries all pairs and triples of permits with different unmet requirements. The refusal must
// name the permit that is easiest to satisfy, whatever the order of the permits.
func TestDecide_DenialOrder(t *testing.T) {
	const limit = "limit \"full\" {\n  key = actor.id\n  rate = \"1/1h\"\n}\n"
	// An unmet requirement of a permit and the code of its refusal, in the order of docs/rules.md.
	permits := []struct{ lacks, body, code string }{
		{"nothing", "", ""},
		{"a reason", "reason = \"required\"", CodeReasonRequired},
		{"a reason and free space", "reason = \"required\"\n  limit = \"full\"", CodeReasonRequired},
		{"free space", "limit = \"full\"", CodeRateLimited},
		{"time", "window = \"1m\"", CodeWindowExpired},
		{"time and a reason", "window = \"1m\"\n  reason = \"required\"", CodeWindowExpired},
		{"time and free space", "window = \"1m\"\n  limit = \"full\"", CodeWindowExpired},
		{"time, by its condition", "when = message.age < \"1m\"", CodeWindowExpired},
		{"the role", "role = [\"admin\"]", CodeForbidden},
	}
	order := []string{"", CodeReasonRequired, CodeRateLimited, CodeWindowExpired, CodeForbidden}
	rank := func(code string) int {
		for i, c := range order {
			if c == code {
				return i
			}
		}
		t.Fatalf("no code %q", code)
		return 0
	}
	full := NewLimiter()
	first := mustParse(t, limit+"permit \"first\" {\n  limit = \"full\"\n}")
	if d, _ := full.Reserve(first, twin.Request(0, nil)); !d.Permit {
		t.Fatal("the limit was full before")
	}
	in := twin.Request(5*time.Minute, nil)
	check := func(indices ...int) {
		t.Helper()
		best, rule := CodeForbidden, DefaultDeny
		text := "policy {\n  window = \"1h\"\n}\n" + limit
		var names []string
		for place, i := range indices {
			name := fmt.Sprintf("p%d", place)
			text += fmt.Sprintf("permit %q {\n  %s\n}\n", name, permits[i].body)
			names = append(names, permits[i].lacks)
			if rank(permits[i].code) < rank(best) {
				best, rule = permits[i].code, name
			}
		}
		what := strings.Join(names, " | ")
		p := mustParse(t, text)
		if d, _ := full.Trial().Reserve(p, in); d.Permit != (best == "") || d.Code != best || d.Rule.Name != rule {
			t.Errorf("permits that lack %s: got %q by %s, want %q by %s", what, d.Code, d.Rule, best, rule)
		}
		held := mustParse(t, text+"forbid \"held\" {\n  code = \"held\"\n}\n")
		if d, _ := full.Trial().Reserve(held, in); d.Code != "held" {
			t.Errorf("permits that lack %s and a forbid: got %q", what, d.Code)
		}
	}
	for i := range permits {
		for j := range permits {
			check(i, j)
			for k := range permits {
				check(i, j, k)
			}
		}
	}
}
