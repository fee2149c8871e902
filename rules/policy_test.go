package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/rules/internal/twin"
)

func TestDefault_Decide(t *testing.T) {
	other := func(role string) func(*Input) {
		return func(in *Input) { in.ActorID, in.ActorRole = "bob", role }
	}
	single := func(role string) func(*Input) {
		return func(in *Input) { in.ActorID, in.ActorRole, in.ConversationType = "bob", role, "single" }
	}
	window := twin.Sent.Add(2 * time.Minute)
	for _, test := range []struct {
		name  string
		in    *Input
		code  string
		rule  string
		until time.Time
	}{
		{"sender at once", twin.Request(0, nil), "", "sender_in_window", window},
		{"sender at the last moment", twin.Request(2*time.Minute, nil), "", "sender_in_window", window},
		{"sender a moment late", twin.Request(2*time.Minute+1, nil), "window_expired", "sender_in_window", time.Time{}},
		{"sender before the message", twin.Request(-time.Hour, nil), "", "sender_in_window", window},
		{"somebody else", twin.Request(0, other("")), "forbidden", "default_deny", time.Time{}},
		{"member by name", twin.Request(0, other("member")), "forbidden", "default_deny", time.Time{}},
		{"owner later", twin.Request(1000*time.Hour, other("owner")), "", "managers_any_time", time.Time{}},
		{"admin later", twin.Request(1000*time.Hour, other("admin")), "", "managers_any_time", time.Time{}},
		{"owner of a single conversation", twin.Request(0, single("owner")), "forbidden", "default_deny", time.Time{}},
		{"system in a single conversation", twin.Request(1000*time.Hour, single("system")), "", "system", time.Time{}},
		{"sender who is owner", twin.Request(0, func(in *Input) { in.ActorRole = "owner" }), "", "sender_in_window",
			time.Time{}},
		{"command", twin.Request(0, func(in *Input) { in.MessageType = "command" }), "type_not_recallable",
			"command_messages", time.Time{}},
		{"command by the system", twin.Request(0, func(in *Input) { in.MessageType, in.ActorRole = "command", "system" }),
			"type_not_recallable", "command_messages", time.Time{}},
		{"unknown role", twin.Request(0, func(in *Input) { in.ActorRole = "root" }), "forbidden", "default_deny",
			time.Time{}},
		{"unknown type", twin.Request(0, func(in *Input) { in.MessageType = "Text" }), "forbidden", "default_deny",
			time.Time{}},
		{"unknown conversation type", twin.Request(0, func(in *Input) { in.ConversationType = "" }), "forbidden",
			"default_deny", time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := Default().Decide(test.in)
			if d.Permit != (test.code == "") || d.Code != test.code || d.Rule.Name != test.rule {
				t.Errorf("decided %+v, want code %q by %s", d, test.code, test.rule)
			}
			if !d.Until.Equal(test.until) {
				t.Errorf("holds until %v, want %v", d.Until, test.until)
			}
		})
	}
}

func TestDecide_RuleRef(t *testing.T) {
	d := Default().Decide(twin.Request(0, nil))
	if want := (RuleRef{Name: "sender_in_window", File: "default.hcl", Line: 14}); d.Rule != want {
		t.Errorf("the rule is at %+v, want %+v", d.Rule, want)
	}
}

func TestPolicy_ClockSkew(t *testing.T) {
	if skew := Default().ClockSkew(); skew != 5*time.Second {
		t.Errorf("by default it is %v", skew)
	}
	if skew := mustParse(t,
		"policy { clock_skew = \"1m\" }\npermit \"own\" { sender = true }").ClockSkew(); skew != time.Minute {
		t.Errorf("it is %v", skew)
	}
}

func TestDecide_CommandMessages(t *testing.T) {
	p := mustParse(t, `permit "everything" {
		role = ["system"]
		type = ["command"]
		window = "any"
	}`)
	d := p.Decide(twin.Request(0, func(in *Input) { in.MessageType, in.ActorRole = "command", "system" }))
	if d.Permit || d.Code != "type_not_recallable" {
		t.Errorf("decided %+v", d)
	}
}

func TestDecide_ManagerOfSingleConversation(t *testing.T) {
	p := mustParse(t, `
		forbid "members" {
			role = ["member"]
			when = request.ext == "forbidden to members"
			code = "members"
		}
		permit "roles" {
			role   = ["owner", "admin"]
			window = "any"
		}
		permit "condition" {
			when = actor.role == "owner" || actor.role == "admin"
		}`)
	for _, role := range []string{"owner", "admin"} {
		in := twin.Request(0, func(in *Input) { in.ConversationType, in.ActorRole = "single", role })
		if d := p.Decide(in); d.Permit || d.Rule.Name != DefaultDeny {
			t.Errorf("%s: %+v", role, d)
		}
		in.Ext = "forbidden to members"
		if d, e := p.Decide(in), p.Explain(in); d.Code != "members" || fact(e, "actor.role") != `"member"` ||
			!e.Rules[0].Matched || e.Rules[1].Matched {
			t.Errorf("%s: decided %+v, explained %+v", role, d, e)
		}
		in.ConversationType = "group"
		if d := p.Decide(in); d.Rule.Name != "roles" {
			t.Errorf("%s of a group: %+v", role, d)
		}
	}
	if a := mustParse(t, `permit "a" {
		conversation = ["single"]
		role         = ["owner", "admin"]
	}`).Analyze(); len(a.Findings) != 1 || !strings.Contains(a.Findings.String(), "matches nothing") {
		t.Errorf("check finds %v", a.Findings)
	}
}

func TestDecide_ForbidBeforePermit(t *testing.T) {
	p := mustParse(t, `
		permit "sender" { sender = true }
		forbid "no_files" {
			tenant = ["bank", "acme"]
			type   = ["file", "image"]
			code   = "files_stay"
		}`)
	if d := p.Decide(twin.Request(0, nil)); !d.Permit {
		t.Errorf("a text was refused: %+v", d)
	}
	file := func(in *Input) { in.MessageType = "file" }
	if d := p.Decide(twin.Request(0, file)); d.Permit || d.Code != "files_stay" || d.Rule.Line != 3 {
		t.Errorf("a file: %+v", d)
	}
	elsewhere := func(in *Input) { in.MessageType, in.Tenant = "file", "other" }
	if d := p.Decide(twin.Request(0, elsewhere)); !d.Permit {
		t.Errorf("another tenant: %+v", d)
	}
}

func TestDecide_FirstPermit(t *testing.T) {
	p := mustParse(t, `
		permit "short" { sender = true }
		permit "long" {
			sender = true
			window = "1h"
		}`)
	d := p.Decide(twin.Request(time.Minute, nil))
	if d.Rule.Name != "short" || !d.Until.Equal(twin.Sent.Add(time.Hour)) {
		t.Errorf("decided %+v", d)
	}
	if d := p.Decide(twin.Request(time.Hour+1, nil)); d.Rule.Name != "short" || d.Code != "window_expired" {
		t.Errorf("late: %+v", d)
	}
}

func TestDecide_Allocations(t *testing.T) {
	rich := mustParse(t, `
		locals { media = ["image", "video"] }
		window "acme" {
			tenant = ["acme"]
			within = "30s"
		}
		forbid "old" { when = message.age > "1h" || message.sent_at < "2020-01-01T00:00:00Z" }
		forbid "media" { when = contains(local.media, message.type) && !contains(conversation.labels, "fun") }
		permit "own" { sender = true }
		permit "trial" {
			window = "1h"
			mode   = "shadow"
		}`)
	labels := func(in *Input) { in.ConversationLabels = []string{"fun"} }
	for name, p := range map[string]*Policy{"default": Default(), "rich": rich} {
		for _, in := range []*Input{twin.Request(0, labels), twin.Request(time.Minute, labels),
			twin.Request(2*time.Hour, labels)} {
			if n := testing.AllocsPerRun(100, func() { p.Decide(in) }); n != 0 {
				t.Errorf("%s: %v allocations per decision", name, n)
			}
		}
	}
}

// fact returns the value of a field in an explanation.
func fact(e Explanation, field string) string {
	for _, f := range e.Facts {
		if f.Field == field {
			return f.Value
		}
	}
	return ""
}
