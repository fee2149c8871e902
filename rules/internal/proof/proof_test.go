package proof

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/golden"
	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/chat-recall/recall/rules/internal/twin"
)

func TestAnalyze_DeadRules(t *testing.T) {
	p := mustParse(t, `
		forbid "files" { type = ["file", "image"] }
		permit "own" { sender = true }
		permit "own_again" {
			sender = true
			type   = ["text"]
			window = "1m"
		}
		permit "own_longer" {
			sender = true
			window = "1h"
		}
		permit "files_by_system" {
			type   = ["file"]
			role   = ["system"]
			window = "any"
		}
		forbid "impossible" { when = actor.role == "owner" && actor.role == "admin" }
		permit "commands" { type = ["command"] }
		forbid "trial" {
			when = message.age < "10s" && message.age > "20s"
			mode = "shadow"
		}
		forbid "affixes" { when = startswith(tenant, "ab") && !startswith(tenant, "a") }`)
	a := Analyze(p)
	if !a.Proven {
		t.Fatalf("not proven over %d inputs", a.Inputs)
	}
	for _, want := range []string{
		`permit "own_again" (line 4) never decides: wherever it matches, permit "own" (line 3) does`,
		`permit "files_by_system" (line 13) never decides: wherever it matches, forbid "files" (line 2) does`,
		`forbid "impossible" (line 18) matches nothing`,
		`permit "commands" (line 19) never decides: wherever it matches, the engine does`,
		`forbid "trial" (line 20) matches nothing`,
		`forbid "affixes" (line 24) matches nothing`,
	} {
		if !strings.Contains(a.Findings.String(), want) {
			t.Errorf("not found: %s", want)
		}
	}
	if len(a.Findings) != 6 || a.Findings.HasErrors() {
		t.Errorf("%d findings:\n%s", len(a.Findings), a.Findings)
	}
	if a := Analyze(builtIn(t)); !a.Proven || len(a.Findings) > 0 {
		t.Errorf("the default policy: %+v", a)
	}
}

func TestAnalyze_UnusedWindow(t *testing.T) {
	p := mustParse(t, `
		window "groups" {
			conversation = ["group"]
			within       = "1m"
		}
		window "acme_groups" {
			tenant       = ["acme"]
			conversation = ["group"]
			within       = "1h"
		}
		permit "own" { sender = true }`)
	a := Analyze(p)
	if len(a.Findings) != 1 || !strings.Contains(a.Findings.String(), `window "acme_groups" is never used`) {
		t.Errorf("%s", a.Findings)
	}
}

func TestAnalyze_PermitAfterLimit(t *testing.T) {
	p := mustParse(t, limited+"\npermit \"rest\" {\n sender = true\n window = \"1m\"\n}")
	if a := Analyze(p); len(a.Findings) > 0 {
		t.Error(a.Findings)
	}
}

func TestAnalyze_PermitThatOnlyNamesCode(t *testing.T) {
	p := mustParse(t, `
		permit "with_reason" {
			sender = true
			when   = request.reason != ""
		}
		permit "asks_for_one" {
			sender = true
			reason = "required"
		}`)
	if a := Analyze(p); len(a.Findings) > 0 {
		t.Error(a.Findings)
	}
}

func TestAnalyze_PermitThatOnlyAsksForReason(t *testing.T) {
	p := mustParse(t, `
		permit "asks_for_one" {
			sender = true
			reason = "required"
			when   = request.reason == ""
		}`)
	if a := Analyze(p); !a.Proven || len(a.Findings) > 0 {
		t.Errorf("it refuses with reason_required: %+v", a)
	}
}

// In a single conversation an owner is a member, and the system is not.
func TestAnalyze_RoleInSingle(t *testing.T) {
	const members = `permit "members" { when = actor.role == "member" }`
	was, now := mustParse(t, members), mustParse(t, members+`
		permit "system" { when = conversation.type == "single" && actor.role != "member" && actor.role != "none" }`)
	if a := Analyze(now); !a.Proven || len(a.Findings) > 0 {
		t.Errorf("the system is forgotten: %+v", a)
	}
	c := Compare(was, now)
	if !c.Proven || len(c.Differences) == 0 {
		t.Errorf("the system is forgotten: %+v", c)
	}
	for _, d := range c.Differences {
		if !strings.Contains(d.Where, "actor.role is system") {
			t.Errorf("%+v", d)
		}
	}
}

func TestAnalyze_TooManyInputs(t *testing.T) {
	var labels, ids, many, questions, ages strings.Builder
	var parts []string
	ages.WriteString("locals {\n")
	for part := range 16 {
		fmt.Fprintf(&ages, " a%d = message.age != \"%ds\"", part, 50*part)
		for i := range 49 {
			fmt.Fprintf(&ages, " && message.age != \"%ds\"", 50*part+i+1)
		}
		ages.WriteString("\n")
		parts = append(parts, fmt.Sprintf("local.a%d", part))
	}
	fmt.Fprintf(&ages, "}\npermit \"p\" {\n sender = true\n window = \"1d\"\n when = %s\n}\n", strings.Join(parts, " && "))
	for i := range 40 {
		fmt.Fprintf(&labels, "forbid \"f%d\" { when = contains(message.labels, \"l%d\") }\n", i, i)
	}
	for i := range 700 {
		fmt.Fprintf(&ids, "forbid \"f%d\" { when = startswith(actor.id, \"a%d\") || endswith(actor.id, \"b%d\") }\n", i, i, i)
	}
	for i := range 20_000 {
		fmt.Fprintf(&many, "%q,", fmt.Sprint("u", i))
	}
	fmt.Fprintf(&questions, "locals {\n q = actor.is_sender%s\n}\n", strings.Repeat(" || actor.is_sender", 250))
	for i := range 14 {
		fmt.Fprintf(&questions,
			"forbid \"f%d\" { when = contains(message.labels, \"l%d\") && (local.q || local.q || local.q || local.q) }\n", i, i)
	}
	for name, src := range map[string]string{
		"ages": ages.String(), "questions": questions.String(),
		"labels": labels.String(), "ids": ids.String(), "list": "forbid \"f\" { when = contains([" + many.String() +
			"], actor.id) }",
	} {
		start := time.Now()
		if a := Analyze(mustParse(t, src)); a.Proven || len(a.Findings) > 0 {
			t.Errorf("%s: %+v", name, a)
		}
		if took := time.Since(start); took > slow {
			t.Errorf("%s: took %v to give up", name, took)
		}
	}
}

func TestAnalyze_ManyEqualRules(t *testing.T) {
	var b strings.Builder
	for i := range 700 {
		fmt.Fprintf(&b, "permit \"p%d\" { tenant = [\"a\", \"b\", \"c\"] }\n", i)
	}
	const inputs = 4 * 2 * 2 * 2 // tenants, a command or not, role none or not, in the window or not
	if a := Analyze(mustParse(t, b.String())); !a.Proven || a.Inputs != inputs {
		t.Errorf("proven %v, %d inputs, want %d", a.Proven, a.Inputs, inputs)
	}
}

func TestAnalyze_ManyInputs(t *testing.T) {
	var b strings.Builder
	for i := range 14 {
		fmt.Fprintf(&b, "forbid \"f%d\" { when = contains(message.labels, \"l%d\") && !contains(message.labels, \"l%d\") "+
			"}\n", i, i, (i+1)%14)
	}
	b.WriteString("permit \"own\" { sender = true }")
	p, start := mustParse(t, b.String()), time.Now()
	if a := Analyze(p); !a.Proven || len(a.Findings) > 0 {
		t.Errorf("%+v", a)
	}
	t.Log("analyzed in", time.Since(start))
	if c := Compare(p, builtIn(t)); !c.Proven || len(c.Differences) == 0 {
		t.Errorf("%+v", c)
	}
	if took := time.Since(start); took > slow {
		t.Errorf("took %v", took)
	}
}

// TestDomain_Complete decides about random inputs by random policies. Each must be decided like some input of the
// domain with the same results, or proofs would miss it.
func TestDomain_Complete(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		seed := make([]byte, 40)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		g := twin.New(seed)
		rule, _ := g.Condition()
		p := mustParse(t, "permit \"a\" {\n when = "+rule+"\n window = \"75s\"\n}\nforbid \"b\" { role = [\"admin\"] }")
		preds := NewPredicates()
		preds.AddPolicy(p)
		dom := NewDomain(preds)
		if !dom.Tractable() {
			continue
		}
		outcomes := map[string]bool{}
		dom.walk(func(in *policy.Input, _ []int) bool {
			outcomes[answersOf(p, in)] = true
			return true
		})
		for range 300 {
			for i := range seed {
				seed[i] = byte(random.Uint32())
			}
			in := twin.New(seed).Input()
			if !outcomes[answersOf(p, in)] {
				t.Fatalf("%s\n%+v answers as no input of the domain", rule, in)
			}
		}
	}
}

// answersOf returns the result of every question of a policy, and the outcome.
func answersOf(p *policy.Policy, in *policy.Input) string {
	var b strings.Builder
	for _, r := range p.Rules {
		r.When.Questions(func(q *policy.Question) { fmt.Fprint(&b, (policy.NewQuestion(q, nil).Test(in, in.Age())), " ") })
	}
	return b.String() + outcomesOf(p).of(in)
}

func TestCompare_LimitsAndClockSkew(t *testing.T) {
	shared := `
		limit "a" {
			key  = actor.id
			rate = "1/1m"
		}
		limit "b" {
			key  = actor.id
			rate = "1/1m"
		}
		permit "groups" {
			conversation = ["group"]
			limit        = "a"
		}
		permit "others" {
			conversation = ["single", "chatroom"]
			limit = "a"
		}`
	const one = `permitted, at most 1 in 1m for each actor.id by limit "a"`
	const other = `permitted, at most 1 in 1m for each actor.id by limit "b"`
	for name, c := range map[string]struct{ was, now, where, wasSaid, nowSaid string }{
		"limits apart": {shared, strings.Replace(shared, "limit = \"a\"", "limit = \"b\"", 1),
			"conversation.type is not group, message.type is not command, actor.role is not none, message.age is up to 2m",
			one, other},
		"a second limit": {shared, shared + "\npermit \"more\" { limit = \"b\" }",
			"message.type is not command, actor.role is not none, message.age is up to 2m", one, one + "; beyond that " + other},
		"no limit after one": {shared, shared + "\npermit \"all\" { window = \"2m\" }",
			"message.type is not command, actor.role is not none, message.age is up to 2m", one, one +
				"; beyond that permitted"},
		"clock_skew": {shared, "policy { clock_skew = \"1m\" }" + shared, "the clock of the request is ahead",
			"taken up to 5s", "taken up to 1m"},
	} {
		d := Compare(mustParse(t, c.was), mustParse(t, c.now)).Differences
		if len(d) != 1 || d[0].Where != c.where || d[0].Was[0] != c.wasSaid || d[0].Now != c.nowSaid || !d[0].All {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// What users are told is part of what a policy decides.
func TestCompare_RefusalText(t *testing.T) {
	const plain = `
		permit "own" { sender = true }
		forbid "guests" {
			when = contains(actor.labels, "guest")
		}`
	told := strings.Replace(plain, `"guest")`, `"guest")
			text = { en = "Guests cannot." }`, 1)
	d := Compare(mustParse(t, plain), mustParse(t, told)).Differences
	if len(d) != 1 || !strings.Contains(d[0].Where, `actor.labels with "guest"`) || d[0].Was[0] != "refused: forbidden" ||
		d[0].Now != `refused: forbidden, text en "Guests cannot."` {
		t.Errorf("%+v", d)
	}
}

func TestCompare_ReadableClasses(t *testing.T) {
	now := mustParse(t, `
		policy { window = "5m" }
		forbid "hold" {
			when = contains(conversation.labels, "legal_hold")
			code = "legal_hold"
		}
		permit "own" { sender = true }
		permit "managers" {
			conversation = ["group", "chatroom"]
			role         = ["owner", "admin"]
			window       = "any"
		}
		permit "system" {
			role   = ["system"]
			window = "any"
			on_recall {
				disposition = "archive"
				retention   = "365d"
			}
		}`)
	c := Compare(builtIn(t), now)
	if !c.Proven {
		t.Fatal("not proven")
	}
	var b strings.Builder
	for _, d := range c.Differences {
		fmt.Fprintf(&b, "%s\n  was %q, all %v\n  now %s\n", d.Where, d.Was, d.All, d.Now)
	}
	golden.Check(t, "testdata/compare.golden", b.String())
	if same := Compare(now, now); !same.Proven || len(same.Differences) > 0 {
		t.Errorf("a policy differs from itself: %+v", same)
	}
}
