package lang

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/chat-recall/recall/rules/internal/twin"
)

func TestDecide_ConditionAndScope(t *testing.T) {
	p := mustParse(t, `
		locals {
			media    = ["image", "video"]
			on_hold  = contains(conversation.labels, "legal_hold")
			outsider = !startswith(actor.id, "staff-") && !endswith(actor.id, "@acme")
		}
		forbid "hold" {
			when = local.on_hold
			code = "legal_hold"
		}
		forbid "old_media" {
			when = contains(local.media, message.type) && "30s" < message.age
			code = "media_too_old"
		}
		forbid "before_2026" {
			when = message.sent_at < "2026-01-01T00:00:00+01:00"
		}
		permit "outsiders" {
			sender = true
			when   = (local.outsider)
			window = "1m"
		}
		permit "staff" {
			sender = true
			when   = actor.is_sender == true && actor.role != "system"
			window = "1h"
		}`)
	for _, test := range []struct {
		name string
		in   *policy.Input
		code string
		rule string
	}{
		{"outsider", twin.Request(time.Minute, nil), "", "outsiders"},
		{"staff", twin.Request(time.Minute, func(in *policy.Input) { in.ActorID, in.Sender = "staff-7", "staff-7" }), "",
			"staff"},
		{"at acme", twin.Request(time.Hour+1, func(in *policy.Input) { in.ActorID, in.Sender = "x@acme", "x@acme" }),
			"window_expired", "staff"},
		{"hold", twin.Request(0, func(in *policy.Input) { in.ConversationLabels = []string{"vip", "legal_hold"} }),
			"legal_hold", "hold"},
		{"new image", twin.Request(30*time.Second, func(in *policy.Input) { in.MessageType = "image" }), "", "outsiders"},
		{"old image", twin.Request(30*time.Second+1, func(in *policy.Input) { in.MessageType = "image" }), "media_too_old",
			"old_media"},
		{"last year", twin.Request(0, func(in *policy.Input) {
			in.SentAt = twin.Sent.AddDate(-1, 0, 0)
			in.RequestedAt = in.SentAt
		}), "forbidden", "before_2026"},
	} {
		if d := p.Decide(test.in); d.Code != test.code || d.Rule.Name != test.rule {
			t.Errorf("%s: decided %+v, want %q by %s", test.name, d, test.code, test.rule)
		}
	}
	if d := p.Decide(twin.Request(0,
		func(in *policy.Input) { in.MessageType = "image" })); !d.Until.Equal(twin.Sent.Add(30 * time.Second)) {
		t.Errorf("an image holds until %v, but the forbid begins to match 30s after sending", d.Until)
	}
}

func TestDecide_Until(t *testing.T) {
	for name, p := range map[string]*policy.Policy{
		"window":    mustParse(t, `permit "a" { sender = true }`),
		"condition": mustParse(t, `permit "a" { when = message.age < "90s" }`),
		"gap":       mustParse(t, `permit "a" { when = message.age < "20s" || message.age >= "40s" }`),
		"chain": mustParse(t,
			"permit \"a\" { when = message.age <= \"30s\" }\npermit \"b\" { when = message.age > \"30s\" }"),
		"forbid later": mustParse(t, "permit \"a\" { sender = true }\nforbid \"b\" { when = message.age == \"70s\" }"),
		"reason": mustParse(t,
			"permit \"a\" { window = \"1m\" }\npermit \"b\" {\n reason = \"required\"\n window = \"1h\"\n}"),
		"no end": mustParse(t,
			"permit \"a\" {\n sender = false\n window = \"any\"\n}\npermit \"b\" { sender = true }"),
		"forbid and any": mustParse(t,
			"permit \"a\" {\n role = [\"owner\"]\n window = \"any\"\n}\nforbid \"b\" { when = message.age > \"10m\" }"),
		"window by scope": mustParse(t,
			"window \"g\" {\n conversation = [\"group\"]\n within = \"45s\"\n}\npermit \"a\" { sender = true }"),
	} {
		for _, change := range []func(*policy.Input){
			nil,
			func(in *policy.Input) { in.ActorID = "bob" },
			func(in *policy.Input) { in.ActorRole = "owner" },
			func(in *policy.Input) { in.Reason = "wrong chat" },
			func(in *policy.Input) { in.ConversationType = "single" },
		} {
			for _, age := range []time.Duration{0, 10 * time.Second, 40 * time.Second, time.Minute} {
				in := twin.Request(age, change)
				d := p.Decide(in)
				if !d.Permit {
					continue
				}
				for later := age; later <= 2*time.Hour; later += 5 * time.Second {
					again := *in
					again.RequestedAt = twin.Sent.Add(later)
					if again.RequestedAt.After(d.Until) && !d.Until.IsZero() {
						break
					}
					if !p.Decide(&again).Permit {
						t.Errorf("%s: at %v said to hold until %v, but not at %v", name, age, d.Until, later)
						break
					}
				}
				if !d.Until.IsZero() {
					if in.RequestedAt = d.Until; !p.Decide(in).Permit {
						t.Errorf("%s: at %v the last moment %v is not permitted", name, age, d.Until)
					}
					if in.RequestedAt = d.Until.Add(1); p.Decide(in).Permit {
						t.Errorf("%s: at %v still permitted after the last moment %v", name, age, d.Until)
					}
				}
			}
		}
	}
}

func TestDecide_Codes(t *testing.T) {
	p := mustParse(t, `
		permit "own" {
			sender = true
			window = "1m"
		}
		permit "own_with_reason" {
			sender = true
			window = "5m"
			reason = "required"
		}
		permit "quick_admin" {
			role = ["admin"]
			when = message.age < "30s"
		}`)
	admin := func(in *policy.Input) { in.ActorID, in.ActorRole = "bob", "admin" }
	for _, test := range []struct {
		name       string
		in         *policy.Input
		code, rule string
	}{
		{"another's message", twin.Request(0, func(in *policy.Input) { in.ActorID = "bob" }), "forbidden", "default_deny"},
		{"a reason is missing", twin.Request(2*time.Minute, nil), "reason_required", "own_with_reason"},
		{"too late even with a reason", twin.Request(6*time.Minute, func(in *policy.Input) { in.Reason = "oops" }),
			"window_expired", "own"},
		{"too late for the condition", twin.Request(30*time.Second, admin), "window_expired", "quick_admin"},
	} {
		if d := p.Decide(test.in); d.Code != test.code || d.Rule.Name != test.rule {
			t.Errorf("%s: decided %+v, want %q by %s", test.name, d, test.code, test.rule)
		}
	}
}

func TestDecide_WindowBlock(t *testing.T) {
	p := mustParse(t, `
		policy { window = "10s" }
		window "acme_groups" {
			tenant       = ["acme"]
			conversation = ["group"]
			within       = "1h"
		}
		window "single" {
			conversation = ["single"]
			within       = "5m"
		}
		permit "own" { sender = true }
		permit "named" {
			sender = true
			type   = ["file"]
			window = "1m"
		}`)
	for _, test := range []struct {
		tenant, conversation string
		within               time.Duration
	}{{"acme", "group", time.Hour}, {"acme", "single", 5 * time.Minute}, {"acme", "chatroom", 10 * time.Second}, {"other",
		"group", 10 * time.Second}} {
		d := p.Decide(twin.Request(0, func(in *policy.Input) {
			in.Tenant, in.ConversationType = test.tenant,
				test.conversation
		}))
		if !d.Until.Equal(twin.Sent.Add(test.within)) {
			t.Errorf("%+v holds until %v", test, d.Until)
		}
	}
}

func TestDecide_ShadowRules(t *testing.T) {
	p := mustParse(t, `
		permit "own" { sender = true }
		permit "longer" {
			sender = true
			window = "1h"
			mode   = "shadow"
		}
		forbid "no_files" {
			type = ["file"]
			code = "files_stay"
			mode = "shadow"
		}`)
	if d := p.Decide(twin.Request(time.Minute, nil)); !d.Permit || d.Shadow.Differs ||
		!d.Until.Equal(twin.Sent.Add(2*time.Minute)) {
		t.Errorf("in time: %+v", d)
	}
	if d := p.Decide(twin.Request(time.Hour, nil)); d.Code != "window_expired" || !d.Shadow.Differs || !d.Shadow.Permit ||
		d.Shadow.Rule.Name != "longer" {
		t.Errorf("in the longer window: %+v", d)
	}
	if d := p.Decide(twin.Request(0, func(in *policy.Input) { in.MessageType = "file" })); !d.Permit || d.Shadow.Permit ||
		d.Shadow.Code != "files_stay" {
		t.Errorf("a file: %+v", d)
	}
}

func TestDecide_OnRecall(t *testing.T) {
	p := mustParse(t, `
		placeholder "plain" { text = { en = "{actor} recalled a message", "zh-Hans" = "{actor}撤回了一条消息" } }
		on_recall { placeholder = "plain" }
		permit "own" { sender = true }
		permit "system" {
			role   = ["system"]
			window = "any"
			on_recall {
				steps       = ["history", "search", "ledger_of_ours"]
				silent      = true
				disposition = "archive"
				retention   = "3650d"
			}
		}`)
	own := p.Decide(twin.Request(0, nil)).OnRecall
	if own.Placeholder == nil || own.Steps != nil || own.Silent || own.Disposition != "erase" {
		t.Errorf("own: %+v", own)
	}
	for language, want := range map[string]string{
		"en": "{actor} recalled a message", "en-GB": "{actor} recalled a message",
		"zh-Hans": "{actor}撤回了一条消息", "fr": "{actor} recalled a message",
	} {
		if got := own.Placeholder.Text(language); got != want {
			t.Errorf("%s is shown %q", language, got)
		}
	}
	system := p.Decide(twin.Request(0, func(in *policy.Input) { in.ActorID, in.ActorRole = "", "system" })).OnRecall
	if !system.Silent || system.Disposition != "archive" || system.Retention != 3650*policy.Day ||
		strings.Join(system.Steps, " ") != "history search ledger_of_ours" || system.Placeholder != nil {
		t.Errorf("system: %+v", system)
	}
	if d := p.Decide(twin.Request(time.Hour, nil)); d.OnRecall != nil {
		t.Errorf("a refusal has OnRecall %+v", d.OnRecall)
	}
	if d := builtIn(t).Decide(twin.Request(0, nil)); d.OnRecall == nil || d.OnRecall.Disposition != "erase" {
		t.Errorf("the built-in policy has OnRecall %+v", d.OnRecall)
	}
}

// Every recall stores what its permit asks of the host, so a file must not make that large.
func TestParse_OnRecallBounded(t *testing.T) {
	steps := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("%q", fmt.Sprint("own-", i)))
		}
		return "on_recall { steps = [" + strings.Join(list, ", ") + "] }\npermit \"own\" { sender = true }"
	}
	languages := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("\"en-%02d\" = \"gone\"", i))
		}
		return "placeholder \"t\" { text = { " + strings.Join(list, ", ") +
			" } }\non_recall { placeholder = \"t\" }\npermit \"own\" { sender = true }"
	}
	for name, c := range map[string]struct{ most, more string }{
		"steps":     {steps(maxSteps), steps(maxSteps + 1)},
		"languages": {languages(maxLanguages), languages(maxLanguages + 1)},
	} {
		if p, diags := parse("rules.hcl", []byte(c.most)); p == nil {
			t.Errorf("the most %s are refused: %s", name, diags)
		}
		if p, diags := parse("rules.hcl", []byte(c.more)); p != nil || !strings.Contains(diags.String(), "at most") {
			t.Errorf("too many %s: %s", name, diags)
		}
	}
}

func TestParse_ControlCharactersInDiagnostics(t *testing.T) {
	_, diags := parse("rules.hcl", []byte("permit \"a\" {\n\tmode = \"\x1b[2J\u202e\u0085é\" # \x1b]0;x\a\n}\n"))
	if len(diags) == 0 || diags[0].Source != "\tmode = \"?[2J??é\" # ?]0;x?" {
		t.Errorf("shown: %q", diags)
	}
}

func TestParse_StringEscapes(t *testing.T) {
	p := mustParse(t, `forbid "a" { when = tenant == "a$${b}\u00e9\"%%{" }
		permit "own" { sender = true }`)
	if d := p.Decide(twin.Request(0, func(in *policy.Input) { in.Tenant = "a${b}é\"%{" })); d.Permit {
		t.Error("the escapes are not those of HCL")
	}
}

func TestParse_Warnings(t *testing.T) {
	p, diags := parse("rules.hcl", []byte(`
		locals { unused = ["a"] }
		limit "unused" {
			key  = actor.id
			rate = "1/1s"
		}
		placeholder "unused" { text = { en = "gone" } }
		on_recall { steps = ["notfy"] }
		permit "own" { sender = true }`))
	if p == nil || len(diags) != 4 || diags.HasErrors() {
		t.Errorf("%d diagnostics:\n%s", len(diags), diags)
	}
}

func TestParse_MismatchAdvice(t *testing.T) {
	for condition, want := range map[string]string{
		`message.type == ["text"]`:      "Write contains([…], message.type).",
		`actor.id == ["ann", "bob"]`:    "Write contains([…], actor.id).",
		`actor.role == 5`:               `A role is one of "owner", "admin", "member", "system" or "none".`,
		`message.age == ["1m"]`:         `Write a duration between quotes, like "2m".`,
		`message.age == 60`:             `Write a duration between quotes, like "2m".`,
		`message.sent_at < ["2026"]`:    `Write a time between quotes, like "2026-01-31T08:00:00Z".`,
		`message.sent_at < 2026`:        `Write a time between quotes, like "2026-01-31T08:00:00Z".`,
		`actor.is_sender == ["true"]`:   "Write true or false without quotes, or only actor.is_sender.",
		`actor.is_sender == "true"`:     "Write true or false without quotes, or only actor.is_sender.",
		`actor.id == 5`:                 "",
		`message.labels == ["a"]`:       `Write contains(message.labels, "…").`,
		`message.sender == actor.id`:    "To ask whether the actor sent the message use actor.is_sender.",
		`message.type == actor.id`:      "",
		`actor.id == message.type`:      "",
		`message.age[0] == "1m"`:        "A field is written with dots, as in message.type; to search a list use contains.",
		`actor.id < "b"`:                "Use == or !=; only durations and times are ordered.",
		`contains("a", message.labels)`: "",
		`contains(actor.id, "a")`:       "The list comes first. To search a string use startswith or endswith.",
	} {
		_, diags := parse("rules.hcl", []byte("permit \"a\" { when = "+condition+" }"))
		if len(diags) != 1 || want == "" && diags[0].Detail != "" || !strings.Contains(diags[0].Detail, want) {
			t.Errorf("%s: got %s, want %q", condition, diags, want)
		}
	}
}

func TestParse_PlaceholderText(t *testing.T) {
	for text, want := range map[string]string{
		"gone": "", "{actor} {sender} {role} {type} {reason}": "", "{actor}{actor}": "", "撤回": "",
		"{actor} {actr}":          "a placeholder has no field {actr}", // not only the first is checked
		"{actor} {sender} {rule}": "a placeholder has no field {rule}",
		"{}":                      "a placeholder has no field {}",
		"{actor":                  "unbalanced curly bracket",
		"actor}":                  "unbalanced curly bracket",
		"{actor} }":               "unbalanced curly bracket",
		"{{actor}}":               "unbalanced curly bracket",
	} {
		p, diags := parse("rules.hcl", []byte("placeholder \"p\" { text = { en = \""+text+"\" } }\n"+
			"on_recall { placeholder = \"p\" }\npermit \"own\" { sender = true }"))
		if (p != nil) != (want == "") || len(diags) > 1 || !strings.Contains(diags.String(), want) {
			t.Errorf("%s: got %s, want %q", text, diags, want)
		}
	}
}

func TestParse_RefusalText(t *testing.T) {
	for text, want := range map[string]string{
		`{ en = "Ask a moderator.", "zh-Hans" = "请联系管理员。" }`: "",
		`{ en = "{actor} may not" }`:                         "the text of a refusal has no fields",
		`{ en = "" }`:                                        "must have 1 to 512 bytes, not 0",
		`{ en = "` + strings.Repeat("x", 513) + `" }`:        "must have 1 to 512 bytes, not 513",
		`{}`:                    "text must be a map with one string per language",
		`"Ask a moderator."`:    "text must be a map with one string per language",
		`{ english = "no" }`:    "this is not a language tag",
		`{ en = "a", en = "b"}`: `the language "en" is defined twice`,
	} {
		for _, rule := range []string{"permit", "forbid"} {
			p, diags := parse("rules.hcl", []byte(rule+" \"r\" {\n sender = true\n text = "+text+"\n}"))
			if (p != nil) != (want == "") || len(diags) > 1 || !strings.Contains(diags.String(), want) {
				t.Errorf("%s: got %s, want %q", text, diags, want)
			}
		}
	}
}

func TestParse_OwnWindowLimit(t *testing.T) {
	const own = "permit \"own\" {\n sender = true\n window = \"any\"\n}\n"
	const month = "window \"text\" {\n type = [\"text\"]\n within = \"30d\"\n}\npermit \"own\" { sender = true }\n"
	for text, want := range map[string]string{
		own: `window = "any" is not allowed for own messages`, month: "7d",
		own + "policy { own_window_limit = \"any\" }":   "", // whichever comes first
		month + "policy { own_window_limit = \"any\" }": "",
		own + "policy { own_window_limit = \"30d\" }":   `own_window_limit cannot be "30d"`,
	} {
		p, diags := parse("rules.hcl", []byte(text))
		if (p != nil) != (want == "") || !strings.Contains(diags.String(), want) {
			t.Errorf("%s: got %s, want %q", text, diags, want)
		}
		if p != nil && !p.AnyOwn {
			t.Error("the policy does not say so")
		}
	}
	if _, diags := parse("rules.hcl", []byte(own)); !strings.Contains(diags.String(), `own_window_limit = "any"`) {
		t.Errorf("the error does not say what would allow it: %s", diags)
	}
}

func TestParse_ValueAdvice(t *testing.T) {
	for attribute, want := range map[string]string{
		`sender = "true"`:           "Write it without quotes.",
		`sender = "false"`:          "Write it without quotes.",
		`sender = "yes"`:            "",
		`sender = 1`:                "",
		`sender = tru`:              "",
		`window = 5`:                `Write it between quotes and with its unit, like "2m".`,
		`window = "5 m"`:            "",
		`window = "8d"`:             `Let the policy say own_window_limit = "any"`,
		`role = "admin"`:            `Put it in square brackets: ["admin"].`,
		`role = admin`:              `Write it between quotes: "admin".`,
		`role = [admin]`:            `Write it between quotes: "admin".`,
		`role = [actor.role]`:       "",
		`role = []`:                 "To match everything leave it out.",
		`role = ["admin", "admin"]`: "",
		`role = ["admim"]`:          `Did you mean "admin"? A role is one of "owner", "admin", "member", "system" or "none".`,
		`role = ["xxxxxxxx"]`:       `A role is one of "owner", "admin", "member", "system" or "none".`,
		`reason = "maybe"`:          `Write reason = "required", or leave it out.`,
		`rol = ["admin"]`:           `Did you mean "role"?`,
	} {
		_, diags := parse("rules.hcl", []byte("permit \"a\" {\n  "+attribute+"\n}"))
		if len(diags) != 1 || want == "" && diags[0].Detail != "" || !strings.Contains(diags[0].Detail, want) {
			t.Errorf("%s: got %s, want %q", attribute, diags, want)
		}
	}
}
