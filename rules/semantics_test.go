package rules

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
	"github.com/chat-recall/recall/rules/internal/twin"
)

// decidePlainly is the reference implementation of a decision, as simple as possible.
func decidePlainly(p *Policy, in *Input) (permit bool, name string) {
	if in.MessageType == "command" {
		return false, ""
	}
	about := func(r *policy.Rule) bool {
		if in.ActorRole == "none" && !r.Forbid && r.Scope.DefaultRoles &&
			!strings.Contains(string(r.When.Written), `"none"`) {
			return false
		}
		return (r.Scope.Sender == policy.SenderAnybody ||
			(r.Scope.Sender == policy.SenderOnly) == (in.ActorID == in.Sender)) &&
			(r.Scope.Roles == 0 || r.Scope.DefaultRoles ||
				slices.Contains(policy.Roles.Describe(r.Scope.Roles), twin.PlainRole(in)))
	}
	age := max(in.RequestedAt.Sub(in.SentAt), 0)
	for _, r := range p.compiled.Rules {
		if r.Forbid && about(r) && r.When.Test(in, age) {
			return false, r.Ref.Name
		}
	}
	for _, r := range p.compiled.Rules {
		window := r.Window
		if window == 0 {
			window = p.compiled.Window
		}
		if !r.Forbid && about(r) && r.When.Test(in, age) && age <= window && (!r.Reason || in.Reason != "") {
			return true, r.Ref.Name
		}
	}
	return false, ""
}

// agesOf returns the ages at which a decision of a policy can change, in ascending order.
func agesOf(p *policy.Policy) []time.Duration {
	ages := []time.Duration{p.Window + 1}
	for _, r := range p.Rules {
		ages = append(ages, r.Window+1)
		r.When.Questions(func(q *policy.Question) {
			if q.Field == policy.AgeField {
				ages = append(ages, q.Duration, q.Duration+1)
			}
			if q.Field.OfClock() { // requests of the generator are for messages that are sent as a minute begins
				for minute := range 11 {
					ages = append(ages, time.Duration(minute)*time.Minute)
				}
			}
		})
	}
	slices.Sort(ages)
	return ages
}

// TestExplain_AgreesWithDecide explains random requests. A rule must be explained as matched exactly if it matches, and
// as deciding exactly if it decides.
func TestExplain_AgreesWithDecide(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		seed := make([]byte, 200)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		g := twin.New(seed)
		src := g.Policy()
		p := mustParse(t, src)
		for range 5 {
			for i := range seed {
				seed[i] = byte(random.Uint32())
			}
			in := twin.New(seed).Input()
			d, e := p.Decide(in), p.Explain(in)
			if e.Outcome != (Outcome{d.Permit, d.Code, d.Rule}) || len(e.Rules) != len(p.compiled.Rules) {
				t.Fatalf("explained %+v, decided %+v", e, d)
			}
			subject, _ := policy.SubjectOf(in)
			for i, x := range e.Rules {
				r := p.compiled.Rules[i]
				holds := r.Matches(&subject, in.Age())
				if !r.Forbid {
					holds = p.compiled.Live.InTime(r, &subject, in.Age()) && (!r.Reason || in.Reason != "")
				}
				if x.Matched != holds || x.Decides != (r.Ref == d.Rule) {
					t.Fatalf("explained %+v, holds %v, decided %+v\n%s", x, holds, d, src)
				}
			}
			if text := e.String(); !strings.HasPrefix(text, e.Outcome.String()) {
				t.Fatal(text)
			}
		}
	}
}

// TestDecide_AgreesWithReference compares decisions of random policies with the reference implementation, and Until
// with the result of trying every age at which a decision can change.
func TestDecide_AgreesWithReference(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	permitted, ended := 0, 0
	for range 400 {
		seed := make([]byte, 200)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		src := twin.New(seed).Policy()
		p, diags := Parse("rules.hcl", []byte(src))
		if p == nil {
			t.Fatal(diags)
		}
		ages := agesOf(p.compiled)
		for range 30 {
			for i := range seed {
				seed[i] = byte(random.Uint32())
			}
			in := twin.New(seed).Input()
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
			for _, age := range ages {
				later := *in
				later.RequestedAt = in.SentAt.Add(age)
				if ok, _ := decidePlainly(p, &later); later.RequestedAt.After(in.RequestedAt) && !ok {
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
		t.Errorf("only %d were permitted, of which %d end: the policies are too strict for the test", permitted, ended)
	}
}
