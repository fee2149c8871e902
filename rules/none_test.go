package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/rules/internal/twin"
)

// outsider makes the actor somebody who is not in the conversation.
func outsider(in *Input) { in.ActorRole = "none" }

func TestDecide_RoleNone(t *testing.T) {
	other := func(in *Input) { in.ActorRole, in.ActorID = "none", "bob" }
	single := func(in *Input) { in.ActorRole, in.ConversationType = "none", "single" }
	for name, c := range map[string]struct {
		rules string
		in    *Input
		code  string
		rule  string
	}{
		"an own message under the built-in policy": {string(defaultPolicy), twin.Request(0, outsider), "forbidden",
			DefaultDeny},
		"another's message": {string(defaultPolicy), twin.Request(0, other), "forbidden",
			DefaultDeny},
		"in a single conversation": {string(defaultPolicy), twin.Request(0, single), "forbidden",
			DefaultDeny},
		"a permit without roles": {`permit "a" {}`, twin.Request(0, outsider), "forbidden", DefaultDeny},
		"a permit whose window is over": {`permit "a" { sender = true }`, twin.Request(time.Hour, outsider),
			"forbidden", DefaultDeny},
		"a permit that names it": {`permit "a" { role = ["none"] }`, twin.Request(0, outsider), "", "a"},
		"a permit that names others": {`permit "a" { role = ["member", "owner"] }`,
			twin.Request(0, outsider), "forbidden", DefaultDeny},
		"a condition that names it": {`permit "a" { when = actor.role == "none" }`,
			twin.Request(0, outsider), "", "a"},
		"a condition that names it in a list": {`permit "a" { when = contains(["member", "none"], actor.role) }`,
			twin.Request(0, outsider), "", "a"},
		"a condition that names it in a local": {"locals { left = actor.role == \"none\" }\npermit \"a\" { when = " +
			"local.left }",
			twin.Request(0, outsider), "", "a"},
		"a condition that excludes it": {`permit "a" { when = actor.role != "none" }`, twin.Request(0, outsider),
			"forbidden", DefaultDeny},
		"a condition that names others": {`permit "a" { when = actor.role != "owner" }`, twin.Request(0, outsider),
			"forbidden", DefaultDeny},
		"a condition that names it, with other roles": {
			"permit \"a\" {\n role = [\"member\"]\n when = actor.role == \"none\"\n}",
			twin.Request(0, outsider), "forbidden", DefaultDeny},
		"a forbid without roles": {"permit \"a\" { role = [\"none\"] }\nforbid \"b\" {\n code = \"closed\"\n}",
			twin.Request(0, outsider), "closed", "b"},
		"a forbid that names it": {"permit \"a\" {}\nforbid \"b\" {\n role = [\"none\"]\n code = \"not_a_member\"\n}",
			twin.Request(0, outsider), "not_a_member", "b"},
		"a member, with a forbid that names it": {"permit \"a\" {}\nforbid \"b\" { role = [\"none\"] }",
			twin.Request(0, nil), "", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustParse(t, c.rules)
			if d := p.Decide(c.in); d.Code != c.code || d.Permit != (c.code == "") || d.Rule.Name != c.rule {
				t.Errorf("got %+v, want %q by %s", d, c.code, c.rule)
			}
		})
	}
}

func TestParse_EndlessWindowForRoleNone(t *testing.T) {
	for rules, refused := range map[string]bool{
		"permit \"a\" {\n role = [\"none\"]\n window = \"any\"\n}":                      true,
		"permit \"a\" {\n when = actor.role == \"none\"\n window = \"any\"\n}":          true,
		"permit \"a\" {\n role = [\"none\"]\n sender = false\n window = \"any\"\n}":     false,
		"permit \"a\" {\n role = [\"owner\", \"system\"]\n window = \"any\"\n}":         false,
		"permit \"a\" {\n role = [\"owner\", \"none\"]\n window = \"any\"\n}":           true,
		"permit \"a\" {\n role = [\"none\"]\n sender = true\n window = \"168h\"\n}":     false,
		"permit \"a\" {\n role = [\"none\"]\n sender = true\n window = \"168h0m1s\"\n}": true,
	} {
		if p, diags := Parse("rules.hcl", []byte(rules)); (p == nil) != refused {
			t.Errorf("%s\n%s", rules, diags)
		}
	}
}

func TestAnalyze_RoleNone(t *testing.T) {
	t.Run("finds a rule that needs two roles", func(t *testing.T) {
		a := mustParse(t, "permit \"own\" { sender = true }\npermit \"a\" {\n role = [\"member\"]\n when = actor.role == "+
			"\"none\"\n}").Analyze()
		if len(a.Findings) != 1 || !strings.Contains(a.Findings[0].Summary, `permit "a" (line 2) matches nothing`) {
			t.Errorf("got %s", a.Findings)
		}
	})
	t.Run("keeps a permit that only covers it", func(t *testing.T) {
		a := mustParse(t, "permit \"own\" { sender = true }\npermit \"left\" {\n sender = true\n role = [\"none\"]\n}").
			Analyze()
		if !a.Proven || len(a.Findings) > 0 {
			t.Errorf("got %+v", a)
		}
	})
}

func TestCompare_RoleNone(t *testing.T) {
	was := mustParse(t, "permit \"own\" { sender = true }")
	now := mustParse(t, "permit \"own\" {\n sender = true\n role = [\"owner\", \"admin\", \"member\", \"system\", "+
		"\"none\"]\n}")
	d := Compare(was, now).Differences
	if len(d) != 2 || d[0].Where != "message.type is not command, actor.role is none, actor is the sender, message.age "+
		"is up to 2m" ||
		d[0].Was[0] != "refused: forbidden" || d[0].Now != "permitted" || d[1].Now != "refused: window_expired" {
		t.Errorf("got %+v", d)
	}
}

func TestExplain_RoleNone(t *testing.T) {
	p := mustParse(t, "permit \"own\" { sender = true }")
	e := p.Explain(twin.Request(0, outsider))
	if r := e.Rules[0]; r.Matched || r.Parts[0].Held ||
		r.Parts[0].Text != `role = ["owner", "admin", "member", "system"]` || r.Parts[0].Value != `"none"` ||
		*r.WhyNot != r.Parts[0] {
		t.Errorf("got %+v", r)
	}
	if r := p.Explain(twin.Request(0, nil)).Rules[0]; !r.Matched || r.Parts[0].Text != "sender = true" {
		t.Errorf("a default part is shown although it holds: %+v", r)
	}
}
