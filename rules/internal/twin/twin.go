// Package twin generates random policies, conditions and requests for tests of the rule language, and evaluates
// conditions like HCL.
package twin

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyfunction "github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// Generator generates from the bytes of a fuzzer. It writes conditions in two ways: in the rule language, and as HCL
// with durations and times as numbers of nanoseconds, which HCL can evaluate itself.
type Generator struct {
	bytes []byte
	depth int
}

func (g *Generator) pick(n int) int {
	if len(g.bytes) == 0 {
		return 0
	}
	b := int(g.bytes[0])
	g.bytes = g.bytes[1:]
	return b % n
}

var texts = []string{"", "a", "ann", "an", "staff-ann", "n", "x@acme", "acme"}

// Condition returns a condition in the rule language and in HCL.
func (g *Generator) Condition() (rule, plain string) {
	if g.depth++; g.depth > 40 {
		return "actor.is_sender", "actor.is_sender"
	}
	switch g.pick(10) {
	case 0, 1:
		a, b := g.Condition()
		c, d := g.Condition()
		return a + " && " + c, b + " && " + d
	case 2, 3:
		a, b := g.Condition()
		c, d := g.Condition()
		return "(" + a + " || " + c + ")", "(" + b + " || " + d + ")"
	case 4:
		a, b := g.Condition()
		return "!(" + a + ")", "!(" + b + ")"
	case 5:
		op := []string{"==", "!=", "<", "<=", ">", ">="}[g.pick(6)]
		age := time.Duration(g.pick(5)) * 30 * time.Second
		if g.pick(2) == 0 {
			return fmt.Sprintf("message.age %s %q", op, policy.FormatDuration(age)), fmt.Sprintf("message.age %s %d", op, age)
		}
		return fmt.Sprintf("%q %s message.age", policy.FormatDuration(age), op), fmt.Sprintf("%d %s message.age", age, op)
	case 6:
		op := []string{"==", "!=", "<", "<=", ">", ">="}[g.pick(6)]
		at := Sent.Add(time.Duration(g.pick(3)-1) * time.Hour)
		return fmt.Sprintf("message.sent_at %s %q", op, at.Format(time.RFC3339Nano)), fmt.Sprintf("message.sent_at %s %d",
			op, at.UnixNano())
	case 7:
		list := []string{"message.labels", "conversation.labels", "actor.labels"}[g.pick(3)]
		return twice(fmt.Sprintf("contains(%s, %q)", list, texts[g.pick(len(texts))]))
	case 8:
		text := []string{"tenant", "actor.id", "message.sender", "request.reason"}[g.pick(4)]
		switch g.pick(4) {
		case 0:
			return twice(fmt.Sprintf("startswith(%s, %q)", text, texts[1+g.pick(len(texts)-1)]))
		case 1:
			return twice(fmt.Sprintf("endswith(%s, %q)", text, texts[1+g.pick(len(texts)-1)]))
		case 2:
			return twice(fmt.Sprintf("contains([%q, %q], %s)", texts[g.pick(4)], texts[4+g.pick(4)], text))
		}
		op := []string{"==", "!="}[g.pick(2)]
		return twice(fmt.Sprintf("%s %s %q", text, op, texts[g.pick(len(texts))]))
	}
	switch g.pick(5) {
	case 3:
		return twice(fmt.Sprintf("request.weekday != %q", policy.Weekdays.Words[g.pick(2)]))
	case 4:
		op, minute := []string{"==", "!=", "<", "<=", ">", ">="}[g.pick(6)], 12*60+g.pick(4)
		return fmt.Sprintf("request.time %s %q", op, policy.FormatMinute(minute)),
			fmt.Sprintf("request.time %s %d", op, minute)
	case 0:
		return twice(fmt.Sprintf("actor.role == %q", policy.Roles.Words[g.pick(5)]))
	case 1:
		return twice(fmt.Sprintf("%q != message.type", policy.MessageTypes.Words[g.pick(9)]))
	}
	return twice(fmt.Sprintf("actor.is_sender == %t", g.pick(2) == 0))
}

func twice(s string) (string, string) { return s, s }

// Input returns a request made from the remaining bytes.
func (g *Generator) Input() *policy.Input {
	labels := func() []string { return texts[g.pick(4) : 4+g.pick(4)] }
	return Request(time.Duration(g.pick(6))*30*time.Second+time.Duration(g.pick(3)-1), func(in *policy.Input) {
		in.Tenant = texts[g.pick(len(texts))]
		in.ActorID = texts[g.pick(len(texts))]
		in.Reason = texts[g.pick(len(texts))]
		in.MessageLabels, in.ConversationLabels, in.ActorLabels = labels(), labels(), labels()
		in.ActorRole = policy.Roles.Words[g.pick(5)]
		in.MessageType = policy.MessageTypes.Words[g.pick(9)]
		in.ConversationType = policy.ConversationTypes.Words[g.pick(3)]
	})
}

// PlainRole returns the role that the actor has in the conversation.
func PlainRole(in *policy.Input) string {
	if in.ConversationType == "single" && (in.ActorRole == "owner" || in.ActorRole == "admin") {
		return "member"
	}
	return in.ActorRole
}

// EvalContext returns in as the context of an evaluation by HCL.
func EvalContext(in *policy.Input) *hcl.EvalContext {
	text := cty.StringVal
	list := func(texts []string) cty.Value {
		values := []cty.Value{text("\x00")} // never empty, which cty would want a type for; in no list that is asked for
		for _, t := range texts {
			values = append(values, text(t))
		}
		return cty.ListVal(values)
	}
	asked := in.RequestedAt.UTC()
	minute := asked.Sub(asked.Truncate(24*time.Hour)) / time.Minute
	affix := func(test func(s, part string) bool) ctyfunction.Function {
		return ctyfunction.New(&ctyfunction.Spec{
			Params: []ctyfunction.Parameter{{Name: "s", Type: cty.String}, {Name: "part", Type: cty.String}},
			Type:   ctyfunction.StaticReturnType(cty.Bool),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				return cty.BoolVal(test(args[0].AsString(), args[1].AsString())), nil
			},
		})
	}
	return &hcl.EvalContext{
		Variables: map[string]cty.Value{
			"tenant": text(in.Tenant),
			"message": cty.ObjectVal(map[string]cty.Value{
				"id": text(in.MessageID), "type": text(in.MessageType), "sender": text(in.Sender), "labels": list(in.MessageLabels),
				"age": cty.NumberIntVal(int64(in.Age())), "sent_at": cty.NumberIntVal(in.SentAt.UnixNano()),
			}),
			"conversation": cty.ObjectVal(map[string]cty.Value{
				"id": text(in.ConversationID), "type": text(in.ConversationType), "labels": list(in.ConversationLabels),
			}),
			"actor": cty.ObjectVal(map[string]cty.Value{
				"id": text(in.ActorID), "role": text(PlainRole(in)), "is_sender": cty.BoolVal(in.IsSender()),
				"labels": list(in.ActorLabels),
			}),
			"request": cty.ObjectVal(map[string]cty.Value{
				"reason": text(in.Reason), "ext": text(in.Ext),
				"weekday": text(strings.ToLower(asked.Weekday().String())), "time": cty.NumberIntVal(int64(minute)),
			}),
		},
		Functions: map[string]ctyfunction.Function{
			"contains": stdlib.ContainsFunc, "startswith": affix(strings.HasPrefix), "endswith": affix(strings.HasSuffix),
		},
	}
}

// Policy returns a policy of a few rules.
func (g *Generator) Policy() string {
	var b strings.Builder
	windows := []string{"", "window = \"30s\"", "window = \"90s\"", "window = \"2m30s\""}
	senders := []string{"", "sender = true", "sender = false"}
	roles := []string{"", "", "role = [\"member\"]", "role = [\"owner\", \"admin\"]", "role = [\"admin\", \"system\"]",
		"role = [\"none\", \"member\"]"}
	for i := range 2 + g.pick(5) {
		condition, _ := g.Condition()
		if g.pick(3) == 0 {
			fmt.Fprintf(&b, "forbid \"r%d\" {\n %s\n %s\n when = (%s) && message.age > \"1m\"\n code = \"c%d\"\n}\n", i,
				senders[g.pick(3)], roles[g.pick(6)], condition, i)
			continue
		}
		reason := []string{"", "", "reason = \"required\""}[g.pick(3)]
		fmt.Fprintf(&b, "permit \"r%d\" {\n %s\n %s\n %s\n %s\n when = %s\n}\n", i, senders[g.pick(3)], roles[g.pick(6)],
			windows[g.pick(4)], reason, condition)
	}
	return b.String()
}

// Sent is the time of sending in requests.
var Sent = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Request returns the request of ann to recall an own text message in a group at an age, modified by change.
func Request(age time.Duration, change func(*policy.Input)) *policy.Input {
	in := &policy.Input{
		Tenant: "acme", MessageID: "m1", MessageType: "text", Sender: "ann", SentAt: Sent,
		ConversationID: "c1", ConversationType: "group", ActorID: "ann", RequestedAt: Sent.Add(age),
	}
	if change != nil {
		change(in)
	}
	return in
}

// New returns a Generator that takes its choices from bytes.
func New(bytes []byte) *Generator { return &Generator{bytes: bytes} }
