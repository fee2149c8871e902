package proof

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// Comparison is the result of [Compare].
type Comparison struct {
	Inputs      int          `json:"inputs"`      // number that the two can tell apart; 0 if there are too many to count
	Proven      bool         `json:"proven"`      // all inputs were gone through; if not, there are no Differences
	Complete    bool         `json:"complete"`    // Differences is complete; if not, there were too many
	Differences []Difference `json:"differences"` // largest first
}

// Difference is a class of inputs that the new policy decides alike, and the old policy differently, at least for some
// of them.
type Difference struct {
	Where  string   `json:"where"`  // what the inputs have in common
	Was    []string `json:"was"`    // outcomes by the old policy, as in "refused: window_expired"
	Now    string   `json:"now"`    // outcome by the new policy
	All    bool     `json:"all"`    // all inputs differ; if not, the old policy decides some like the new
	Inputs int      `json:"inputs"` // number of distinguishable inputs that differ
}

// Compare goes through every input that the two policies can tell apart and groups those that they decide differently:
// permitted or refused, the code, the limit that counts it, and what the host is asked to do. A different rule is no
// difference, but a different limit is, since limits are counted by name. Times in the future are no inputs; clock_skew
// is compared separately.
func Compare(was, now *policy.Policy) Comparison {
	preds := NewPredicates()
	preds.AddPolicy(was)
	preds.AddPolicy(now)
	dom := NewDomain(preds)
	c := Comparison{Differences: []Difference{}, Inputs: dom.Countable(), Proven: dom.Tractable()}
	if !c.Proven {
		return c
	}
	before, after := outcomesOf(was), outcomesOf(now)
	exact, complete := exactDifferences(dom, before, after)
	c.Complete = complete
	if len(exact) > fewClasses {
		exact = shorter(exact, roughDifferences(dom, before, after))
	}
	c.Differences = append(c.Differences, exact...)
	if was.ClockSkew != now.ClockSkew {
		c.Differences = append(c.Differences, Difference{
			Where: "the clock of the request is ahead", All: true,
			Was: []string{"taken up to " + policy.FormatDuration(was.ClockSkew)}, Now: "taken up to " +
				policy.FormatDuration(now.ClockSkew),
		})
	}
	sort.SliceStable(c.Differences, func(i, j int) bool { return c.Differences[i].Inputs > c.Differences[j].Inputs })
	return c
}

// fewClasses is the number of exact classes that need no shorter description.
const fewClasses = 2

// exactDifferences returns classes in which every input differs in the same way.
func exactDifferences(dom *Domain, was, now outcomes) (out []Difference, complete bool) {
	labels := map[[2]string]string{}
	gathered, complete := Gather(dom, func(in *policy.Input) string {
		a, b := was.of(in), now.of(in)
		if a == b {
			return ""
		}
		label, known := labels[[2]string{a, b}]
		if !known {
			label = a + "\x00" + b
			labels[[2]string{a, b}] = label
		}
		return label
	})
	for _, class := range gathered {
		a, b, _ := strings.Cut(class.Label, "\x00")
		out = append(out, Difference{Where: dom.Describe(class), Was: []string{a}, Now: b, All: true,
			Inputs: dom.Count(class)})
	}
	return out, complete
}

// roughDifferences returns classes that the new policy decides alike and in which some inputs differ. A new forbid is
// one such class, whatever the old policy decided about its inputs.
func roughDifferences(dom *Domain, was, now outcomes) []Difference {
	gathered, complete := Gather(dom, now.of)
	if !complete || len(gathered)*dom.size > maxLookups {
		return nil
	}
	found := make([]Difference, len(gathered))
	dom.walk(func(in *policy.Input, at []int) bool {
		a, b := was.of(in), now.of(in)
		if a == b {
			return true
		}
		for i, class := range gathered {
			if class.Label == b && class.has(at) {
				d := &found[i]
				d.Inputs++
				if !slices.Contains(d.Was, a) {
					d.Was = append(d.Was, a)
				}
				break
			}
		}
		return true
	})
	var out []Difference
	for i, class := range gathered {
		if d := found[i]; d.Inputs > 0 {
			d.Where, d.Now, d.All = dom.Describe(class), class.Label, d.Inputs == dom.Count(class)
			out = append(out, d)
		}
	}
	return out
}

// maxLookups bounds the number of classes times the number of inputs that are looked up in them.
const maxLookups = 10_000_000

// shorter replaces, for each new outcome, the exact classes by the rough ones where those are fewer.
func shorter(exact, rough []Difference) []Difference {
	number := func(of []Difference) map[string]int {
		n := map[string]int{}
		for _, d := range of {
			n[d.Now]++
		}
		return n
	}
	exactly, roughly := number(exact), number(rough)
	var out []Difference
	for _, d := range exact {
		if n := roughly[d.Now]; n == 0 || n >= exactly[d.Now] {
			out = append(out, d)
		}
	}
	for _, d := range rough {
		if roughly[d.Now] < exactly[d.Now] {
			out = append(out, d)
		}
	}
	return out
}

// outcomes describes the decisions of a policy, without the rule that decides.
type outcomes struct {
	policy  *policy.Policy
	permits map[*policy.Rule]string // descriptions, made once
}

func outcomesOf(p *policy.Policy) outcomes {
	o := outcomes{policy: p, permits: map[*policy.Rule]string{}}
	for _, r := range p.Rules {
		if !r.Forbid {
			o.permits[r] = describePermit(r)
		}
	}
	return o
}

// of returns the outcome for an input. If a limit decides, it includes what follows when the limit is exhausted.
func (o outcomes) of(in *policy.Input) string {
	t, ok := policy.SubjectOf(in)
	if !ok {
		return "refused: " + policy.CodeForbidden
	}
	age := in.Age()
	v := o.policy.Live.Judge(&t, age, nil)
	out := o.describe(v)
	for full := (exhausted{}); v.Code == "" && v.Rule.Limit != nil; {
		full = append(full, v.Rule.Limit)
		if v = o.policy.Live.Judge(&t, age, full); v.Code != policy.CodeRateLimited {
			out += "; beyond that " + o.describe(v)
		}
	}
	return out
}

func (o outcomes) describe(v policy.Verdict) string {
	if v.Code != "" {
		refused := "refused: " + v.Code
		if v.Rule != nil && v.Rule.Texts != nil {
			refused += ", text " + describeTexts(v.Rule.Texts)
		}
		return refused
	}
	return o.permits[v.Rule]
}

// exhausted are limits without free space. All others have free space.
type exhausted []*policy.Limit

// Free implements [policy.Limits].
func (e exhausted) Free(l *policy.Limit, _ *policy.Input) (time.Time, bool) {
	return time.Time{}, !slices.Contains(e, l)
}

// describePermit describes what follows from a permit.
func describePermit(r *policy.Rule) string {
	parts := []string{"permitted"}
	if l := r.Limit; l != nil {
		var key []string
		for _, f := range l.Key {
			key = append(key, f.Name)
		}
		parts = append(parts, fmt.Sprintf("at most %d in %s for each %s by limit %q",
			l.Count, policy.FormatDuration(l.Per), strings.Join(key, " and "), l.Name))
	}
	o := r.OnRecall
	if o.Steps != nil {
		parts = append(parts, "steps "+strings.Join(o.Steps, " "))
	}
	if o.Silent {
		parts = append(parts, "silent")
	}
	if o.Placeholder != nil {
		parts = append(parts, "placeholder "+describeTexts(o.Placeholder.Texts))
	}
	if !slices.Equal(o.Cascade, policy.DefaultCascade) {
		parts = append(parts, "recalls with it "+cmp.Or(strings.Join(o.Cascade, ", "), "edits only"))
	}
	if o.Disposition == policy.DispositionArchive {
		parts = append(parts, "archived for "+policy.FormatDuration(o.Retention))
	}
	return strings.Join(parts, ", ")
}

func describeTexts(texts map[string]string) string {
	var all []string
	for _, language := range slices.Sorted(maps.Keys(texts)) {
		all = append(all, fmt.Sprintf("%s %q", language, texts[language]))
	}
	return strings.Join(all, " ")
}
