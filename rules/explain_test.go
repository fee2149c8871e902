package rules

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/rules/internal/twin"
)

func TestExplain_WhyNot(t *testing.T) {
	for name, c := range map[string]struct {
		rule string
		in   func(*Input)
		want *Part
	}{
		"nothing where it matched": {`permit "a" { sender = true }`, nil, nil},
		"the tenant": {`permit "a" { tenant = ["other", "bank"] }`, nil,
			&Part{Text: `tenant = ["bank", "other"]`, Field: "tenant", Value: `"acme"`}},
		"the conversation": {`permit "a" { conversation = ["single"] }`, nil,
			&Part{Text: `conversation = ["single"]`, Field: "conversation.type", Value: `"group"`}},
		"the sender": {`permit "a" { sender = false }`, nil,
			&Part{Text: `sender = false`, Field: "actor.is_sender", Value: `true`}},
		"the window": {`permit "a" { window = "30s" }`, nil,
			&Part{Text: `window = "30s"`, Field: "message.age", Value: `1m`}},
		"the reason": {`permit "a" { reason = "required" }`, nil,
			&Part{Text: `reason = "required"`, Field: "request.reason", Value: `""`}},
		"the first requirement of several": {"permit \"a\" {\n type = [\"file\"]\n when = message.age < \"1s\"\n window = " +
			"\"1s\"\n}", nil,
			&Part{Text: `type = ["file"]`, Field: "message.type", Value: `"text"`}},
		"the whole condition": {`forbid "a" { when = message.age < "1s" }`, nil,
			&Part{Text: `when = message.age < "1s"`, Field: "message.age", Value: "1m"}},
		"a negation": {`forbid "a" { when = !contains(message.labels, "x") }`,
			func(in *Input) { in.MessageLabels = []string{"x", "y"} },
			&Part{Text: `when = !contains(message.labels, "x")`, Field: "message.labels", Value: `["x", "y"]`}},
		"the false side of &&": {`forbid "a" { when = message.type == "text" && (message.age > "1s" && actor.id == "bob") }`,
			nil,
			&Part{Text: `actor.id == "bob"`, Field: "actor.id", Value: `"ann"`, Depth: 2}},
		"no side of ||": {`forbid "a" { when = message.type == "text" && (message.age > "1h" || actor.id == "bob") }`, nil,
			&Part{Text: `message.age > "1h" || actor.id == "bob"`, Depth: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := mustParse(t, c.rule).Explain(twin.Request(time.Minute, c.in)).Rules[0]
			if !reflect.DeepEqual(r.WhyNot, c.want) || r.Matched != (c.want == nil) {
				t.Errorf("got %+v, want %+v", r.WhyNot, c.want)
			}
		})
	}
}

func TestExplain_Data(t *testing.T) {
	p := mustParse(t, "permit \"own\" { sender = true }\npermit \"longer\" {\n  window = \"1h\"\n  mode = \"shadow\"\n}\n"+
		"limit \"few\" {\n  key = actor.id\n  rate = \"3/1m\"\n}\npermit \"few\" {\n  role = [\"admin\"]\n  limit = "+
		"\"few\"\n}\n")
	for name, c := range map[string]struct {
		age   time.Duration
		wants []string
	}{
		"of what is permitted": {time.Minute, []string{
			`{"permit":true,"rule":{"name":"own","file":"rules.hcl","line":1},"until":"2026-11-23T12:02:00Z","until_age":"2m",`,
			`{"name":"own","file":"rules.hcl","line":1,"kind":"permit","matched":true,"decides":true,"parts":[`,
			`{"name":"longer","file":"rules.hcl","line":2,"kind":"permit","shadow":true,"matched":true,"decides":false,`,
			`{"text":"limit = \"few\"","held":true,"value":"3/1m"}`,
			`{"field":"message.age","value":"1m"}`, `{"field":"actor.role","value":"\"member\""}`}},
		"of what is refused": {time.Hour, []string{
			`{"permit":false,"code":"window_expired","rule":{"name":"own",`,
			`"shadow":{"permit":true,"rule":{"name":"longer","file":"rules.hcl","line":2}}`,
			`"matched":false,"decides":true,"why_not":{"text":"window = \"2m\"","held":false,"field":"message.age",`}},
	} {
		t.Run(name, func(t *testing.T) {
			e := p.Explain(twin.Request(c.age, nil))
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.wants {
				if !strings.Contains(string(text), want) {
					t.Errorf("%s\nlacks %s", text, want)
				}
			}
			var back Explanation
			if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, e) {
				t.Errorf("read back it is %+v (%v), want %+v", back, err, e)
			}
		})
	}
	t.Run("of words that the engine does not know", func(t *testing.T) {
		e := p.Explain(twin.Request(0, func(in *Input) { in.ActorRole = "root" }))
		if e.Permit || e.Code != CodeForbidden || e.Rule.Name != DefaultDeny || len(e.Rules) != 0 ||
			fact(e, "actor.role") != `"root"` {
			t.Errorf("got %+v", e)
		}
	})
}
