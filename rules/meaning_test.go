package rules

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// randomPolicy writes a few rules from the bytes of g.
func (g *twin) randomPolicy() string {
	var b strings.Builder
	windows := []string{"", "window = \"30s\"", "window = \"90s\"", "window = \"2m30s\""}
	senders := []string{"", "sender = true", "sender = false"}
	roles := []string{"", "", "role = [\"member\"]", "role = [\"owner\", \"admin\"]", "role = [\"admin\", \"system\"]", "role = [\"none\", \"member\"]"}
	for i := range 2 + g.pick(5) {
		condition, _ := g.condition()
		if g.pick(3) == 0 {
			fmt.Fprintf(&b, "forbid \"r%d\" {\n %s\n %s\n when = (%s) && message.age > \"1m\"\n code = \"c%d\"\n}\n", i, senders[g.pick(3)], roles[g.pick(6)], condition, i)
			continue
		}
		reason := []string{"", "", "reason = \"required\""}[g.pick(3)]
		fmt.Fprintf(&b, "permit \"r%d\" {\n %s\n %s\n %s\n %s\n when = %s\n}\n", i, senders[g.pick(3)], roles[g.pick(6)], windows[g.pick(4)], reason, condition)
	}
	return b.String()
}

// decidePlainly is the meaning of a policy, said as plainly as possible: no arrangement, no shortcuts.
func decidePlainly(p *Policy, in *Input) (permit bool, name string) {
	if in.MessageType == "command" {
		return false, ""
	}
	about := func(r *rule) bool {
		if in.ActorRole == "none" && !r.forbid && r.scope.defaultRoles && !strings.Contains(string(r.when.written), `"none"`) {
			return false
		}
		return (r.scope.sender == anybody || (r.scope.sender == senderOnly) == (in.ActorID == in.Sender)) &&
			(r.scope.roles == 0 || r.scope.defaultRoles || slices.Contains(roleWords.describe(r.scope.roles), plainRole(in)))
	}
	age := max(in.RequestedAt.Sub(in.SentAt), 0)
	for _, r := range p.rules {
		if r.forbid && about(r) && r.when.test(in, age) {
			return false, r.ref.Name
		}
	}
	for _, r := range p.rules {
		window := r.window
		if window == 0 {
			window = p.window
		}
		if !r.forbid && about(r) && r.when.test(in, age) && age <= window && (!r.reason || in.Reason != "") {
			return true, r.ref.Name
		}
	}
	return false, ""
}

// TestExplanationAgreesWithTheDecision explains random cases: a rule is said to hold exactly if every part that it asks
// for does, and the rule that is said to decide is the one that does.
func TestExplanationAgreesWithTheDecision(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		seed := make([]byte, 200)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		g := &twin{bytes: seed}
		src := g.randomPolicy()
		p := mustParse(t, src)
		for range 5 {
			for i := range seed {
				seed[i] = byte(random.Uint32())
			}
			in := (&twin{bytes: seed}).input()
			d, e := p.Decide(in), p.Explain(in)
			if e.Verdict != verdictText(d.Permit, d.Code) || e.Rule != d.Rule || len(e.Rules) != len(p.rules) {
				t.Fatalf("explained %+v, decided %+v", e, d)
			}
			subject, _ := subjectOf(in)
			for i, x := range e.Rules {
				r := p.rules[i]
				holds := r.matches(&subject, in.age())
				if !r.forbid {
					holds = p.live.inTime(r, &subject, in.age()) && (!r.reason || in.Reason != "")
				}
				if x.Holds != holds || x.Decides != (r.ref == d.Rule) {
					t.Fatalf("explained %+v, holds %v, decided %+v\n%s", x, holds, d, src)
				}
			}
			if text := e.String(); !strings.HasPrefix(text, e.Verdict) {
				t.Fatal(text)
			}
		}
	}
}

// TestDecisionIsWhatThePlainMeaningSays compares random policies with their plain meaning, and the moment until which a
// permission holds with trying every moment at which something can change.
func TestDecisionIsWhatThePlainMeaningSays(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	permitted, ended := 0, 0
	for range 400 {
		seed := make([]byte, 200)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		src := (&twin{bytes: seed}).randomPolicy()
		p, diags := Parse("rules.hcl", []byte(src))
		if p == nil {
			t.Fatal(diags)
		}
		i := newPredicates()
		i.addPolicy(p)
		slices.Sort(i.ages)
		for range 30 {
			for i := range seed {
				seed[i] = byte(random.Uint32())
			}
			in := (&twin{bytes: seed}).input()
			d := p.Decide(in)
			permit, name := decidePlainly(p, in)
			if d.Permit != permit || (permit || name != "") && d.Rule.Name != name {
				t.Fatalf("decided %+v, plainly %v by %q\n%+v\n%s", d, permit, name, in, src)
			}
			if !permit {
				continue
			}
			permitted++
			var until time.Time
			for _, age := range i.ages {
				later := *in
				later.RequestedAt = in.SentAt.Add(age)
				if ok, _ := decidePlainly(p, &later); age > in.age() && !ok {
					until = in.SentAt.Add(age - 1)
					ended++
					break
				}
			}
			if !d.Until.Equal(until) {
				t.Fatalf("holds until %v, by trying until %v\n%+v\n%s", d.Until.Sub(in.SentAt), until.Sub(in.SentAt), in, src)
			}
		}
	}
	if permitted < 1000 || ended < 500 {
		t.Errorf("only %d were permitted, of which %d end: the policies are too strict to tell anything", permitted, ended)
	}
}
