package lang

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// own is a policy to which blocks can be added.
const own = "permit \"own\" { sender = true }\n"

func TestParse_Bounds(t *testing.T) {
	rate := func(rate string) string {
		return "limit \"l\" {\n  key = actor.id\n  rate = \"" + rate +
			"\"\n}\npermit \"own\" {\n  sender = true\n  limit = \"l\"\n}\n"
	}
	placeholder := func(n int) string {
		return "placeholder \"p\" { text = { en = \"" + strings.Repeat("x", n) +
			"\" } }\non_recall { placeholder = \"p\" }\n" + own
	}
	permits := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "permit \"p%d\" { sender = true }\n", i)
		}
		return b.String()
	}
	locals := func(n int) string {
		var b strings.Builder
		b.WriteString(own + "locals {\n")
		for i := range n {
			fmt.Fprintf(&b, "  l%d = true\n", i)
		}
		return b.String() + "}\n"
	}
	// A condition that costs n: questions and one ! more.
	cost := func(n int) string {
		list := strings.TrimSuffix(strings.Repeat("actor.is_sender || ", 32), " || ")
		parts := strings.TrimSuffix(strings.Repeat("local.a || ", n/32), " || ")
		return "locals { a = " + list + " }\npermit \"p\" { when = " + strings.Repeat("!", n%32) + "(" + parts + ") }\n"
	}
	for name, c := range map[string]struct{ most, more, want string }{
		"rules":  {permits(MaxRules), permits(MaxRules + 1), "more than 1000 rules"},
		"locals": {locals(maxLocals), locals(maxLocals + 1), "more than 1000 locals"},
		"cost":   {cost(1024), cost(1025), "more than 1024 comparisons and !"},
		"window": {"policy { window = \"7d\" }\n" + own, "policy { window = \"7d1ns\" }\n" + own,
			"above the limit of 7d"},
		"empty window": {"policy { window = \"1ns\" }\n" + own, "policy { window = \"0s\" }\n" + own,
			"allows no recall"},
		"clock skew": {"policy { clock_skew = \"5m\" }\n" + own, "policy { clock_skew = \"5m1ns\" }\n" + own,
			"above the limit of 5m"},
		"count":             {rate("1000/1m"), rate("1001/1m"), "allows 1 to 1000 recalls, not 1001"},
		"empty count":       {rate("1/1m"), rate("0/1m"), "allows 1 to 1000 recalls, not 0"},
		"period":            {rate("1/7d"), rate("1/7d1ns"), "must be 1s to 7d, not 7d1ns"},
		"short period":      {rate("1/1s"), rate("1/999ms"), "must be 1s to 7d, not 999ms"},
		"placeholder":       {placeholder(512), placeholder(513), "1 to 512 bytes, not 513"},
		"empty placeholder": {placeholder(1), placeholder(0), "1 to 512 bytes, not 0"},
		"length of names": {strings.Replace(own, "own", strings.Repeat("a", 64), 1),
			strings.Replace(own, "own", strings.Repeat("a", 65), 1), "not a valid name"},
		"length of codes": {own + "forbid \"f\" { code = \"" + strings.Repeat("a", 64) + "\" }", own +
			"forbid \"f\" { code = \"" + strings.Repeat("a", 65) + "\" }", "not a valid code"},
		"arguments": {"permit \"p\" { when = contains(message.labels, \"a\") }",
			"permit \"p\" { when = contains(message.labels, \"a\", \"b\") }", "takes two arguments, not 3"},
		"on_recall blocks": {own + "on_recall { silent = true }", own +
			"on_recall { silent = true }\non_recall { silent = true }", "is already defined at"},
		"blocks of a permit": {"permit \"p\" {\n  on_recall { silent = true }\n}",
			"permit \"p\" {\n  on_recall { silent = true }\n  on_recall { silent = true }\n}", "two on_recall blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			if p, diags := parse("rules.hcl", []byte(c.most)); p == nil {
				t.Errorf("the most is refused: %.400s", diags)
			}
			if p, diags := parse("rules.hcl", []byte(c.more)); p != nil || !strings.Contains(diags.String(), c.want) {
				t.Errorf("more: got %.400s, want %q", diags, c.want)
			}
		})
	}
}

func TestLoad_Bounds(t *testing.T) {
	t.Run("number of files", func(t *testing.T) {
		dir := t.TempDir()
		add := func(i int) {
			write(t, filepath.Join(dir, fmt.Sprintf("%d.hcl", i)), fmt.Sprintf("permit \"p%d\" { sender = true }\n", i))
		}
		for i := range MaxFiles {
			add(i)
		}
		if p, diags := Load(dir); p == nil {
			t.Errorf("the most are refused: %s", diags)
		}
		add(MaxFiles)
		if p, diags := Load(dir); p != nil || !strings.Contains(diags.String(),
			"257 rule files, but a policy has at most 256") {
			t.Errorf("got %s", diags)
		}
	})
	t.Run("total size", func(t *testing.T) {
		dir := t.TempDir()
		left := MaxTotalBytes
		for i := 0; left > 0; i++ {
			text := fmt.Sprintf("permit \"p%d\" { sender = true }\n#", i)
			size := min(left, MaxFileBytes)
			write(t, filepath.Join(dir, fmt.Sprintf("%d.hcl", i)), text+strings.Repeat("x", size-len(text)))
			left -= size
		}
		if p, diags := Load(dir); p == nil {
			t.Errorf("the most is refused: %s", diags)
		}
		write(t, filepath.Join(dir, "z.hcl"), "#")
		if p, diags := Load(dir); p != nil || !strings.Contains(diags.String(),
			"z.hcl: error: the rule files exceed 1024 KiB in total") {
			t.Errorf("got %s", diags)
		}
		if err := os.Remove(filepath.Join(dir, "z.hcl")); err != nil {
			t.Fatal(err)
		}
	})
}
