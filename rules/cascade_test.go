package rules

import (
	"slices"
	"strings"
	"testing"
)

func TestCascade(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                  {"forward"},
		"on_recall {\n silent = true\n}":    {"forward"},
		"on_recall {\n cascade = []\n}":     nil,
		`on_recall { cascade = ["quote"] }`: {"quote"},
		`on_recall { cascade = ["thread", "forward", "reply"] }`: {"forward", "reply", "thread"},
	} {
		p := mustParse(t, "permit \"own\" { sender = true }\n"+text)
		d := p.Decide(&Input{
			Tenant: "acme", MessageID: "m", MessageType: "text", Sender: "ann", ActorID: "ann", ConversationType: "group",
			ConversationID: "g",
		})
		if !d.Permit || !slices.Equal(d.OnRecall.Cascade, want) {
			t.Errorf("%q: %+v, want %q", text, d.OnRecall, want)
		}
	}
	compared := Compare(mustParse(t, `permit "own" { sender = true }`),
		mustParse(t, "permit \"own\" { sender = true }\non_recall {\n cascade = []\n}"))
	if len(compared.Differences) == 0 || !strings.Contains(compared.Differences[0].Now, "edits only") {
		t.Errorf("%+v", compared)
	}
}

func TestForbids(t *testing.T) {
	p := mustParse(t, `
permit "own" { sender = true }
forbid "hold" { when = contains(message.labels, "hold") }
forbid "trial" {
  type = ["image"]
  mode = "shadow"
}`)
	for _, c := range []struct {
		kind  string
		label string
		want  bool
	}{{"text", "", false}, {"text", "hold", true}, {"command", "", true}, {"image", "", false}, {"unknown", "", true}} {
		in := &Input{MessageType: c.kind, ConversationType: "group", MessageLabels: []string{c.label}}
		if got := p.Forbids(in); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
