package proof

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// Comparison is what two policies decide differently.
type Comparison struct {
	Inputs      int          `json:"inputs"`      // that the two can tell apart; 0 if more than can be counted
	Proven      bool         `json:"proven"`      // they were all gone through; if not, nothing is said
	Complete    bool         `json:"complete"`    // every difference is in a class; if not, there were too many
	Differences []Difference `json:"differences"` // largest first
}

// Difference is a class of inputs that the new policy decides in one way, and the old one, at least for some, in another.
type Difference struct {
	Where  string   `json:"where"`  // what the inputs have in common
	Was    []string `json:"was"`    // what the old policy says where it differs, as in "refused: window_expired"
	Now    string   `json:"now"`    // what the new one says to all of them
	All    bool     `json:"all"`    // they all differ; if not, the rest is decided as now already
	Inputs int      `json:"inputs"` // how many of the distinguishable inputs differ
}

// Compare goes through every input that the two policies can tell apart and gathers those that they decide
// differently: permitted or refused, the code, the limit that counts it, and what is asked of the host. Which rule decides
// is no difference; which limit is, for rules share the room of one, and it is counted by its name. Moments in the future
// are no inputs: clock_skew is compared by itself.
func Compare(was, now *policy.Policy) Comparison {
	i := NewPredicates()
	i.AddPolicy(was)
	i.AddPolicy(now)
	s := NewDomain(i)
	c := Comparison{Differences: []Difference{}, Inputs: s.Countable(), Proven: s.Tractable()}
	if !c.Proven {
		return c
	}
	before, after := outcomesOf(was), outcomesOf(now)
	exact, complete := exactDifferences(s, before, after)
	c.Complete = complete
	if len(exact) > fewClasses {
		exact = shorter(exact, roughDifferences(s, before, after))
	}
	c.Differences = append(c.Differences, exact...)
	if was.ClockSkew != now.ClockSkew {
		c.Differences = append(c.Differences, Difference{
			Where: "the clock of the request is ahead", All: true,
			Was: []string{"taken up to " + policy.FormatDuration(was.ClockSkew)}, Now: "taken up to " + policy.FormatDuration(now.ClockSkew),
		})
	}
	sort.SliceStable(c.Differences, func(i, j int) bool { return c.Differences[i].Inputs > c.Differences[j].Inputs })
	return c
}

// fewClasses is how many classes are readable as they are.
const fewClasses = 2

// exactDifferences are classes in which every input differs in the same way.
func exactDifferences(s *domain, was, now outcomes) (out []Difference, complete bool) {
	labels := map[[2]string]string{}
	gathered, complete := Gather(s, func(in *policy.Input) string {
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
		out = append(out, Difference{Where: s.Describe(class), Was: []string{a}, Now: b, All: true, Inputs: s.Count(class)})
	}
	return out, complete
}

// roughDifferences are classes that the new policy decides alike and in which some inputs differ. A new forbid is one of
// them, whatever the old policy said to each of the inputs that it is about.
func roughDifferences(s *domain, was, now outcomes) []Difference {
	gathered, complete := Gather(s, now.of)
	if !complete || len(gathered)*s.size > maxLookups {
		return nil
	}
	found := make([]Difference, len(gathered))
	s.walk(func(in *policy.Input, at []int) bool {
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
			d.Where, d.Now, d.All = s.Describe(class), class.Label, d.Inputs == s.Count(class)
			out = append(out, d)
		}
	}
	return out
}

// maxLookups bounds the classes that inputs are looked up in, times the inputs.
const maxLookups = 10_000_000

// shorter takes for each new outcome the rough classes where they are fewer than the exact ones.
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

// outcomes says what a policy decides, in words, without which rule does.
type outcomes struct {
	policy  *policy.Policy
	permits map[*policy.Rule]string // made once
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
		return "refused: " + v.Code
	}
	return o.permits[v.Rule]
}

// exhausted are limits that have no room; the others have.
type exhausted []*policy.Limit

func (e exhausted) Free(l *policy.Limit, _ *policy.Input) (time.Time, bool) {
	return time.Time{}, !slices.Contains(e, l)
}

// describePermit says what a permit means for a recall.
func describePermit(r *policy.Rule) string {
	parts := []string{"permitted"}
	if l := r.Limit; l != nil {
		var key []string
		for _, f := range l.Key {
			key = append(key, f.Name)
		}
		parts = append(parts, fmt.Sprintf("at most %d in %s for each %s by limit %q", l.Count, policy.FormatDuration(l.Per), strings.Join(key, " and "), l.Name))
	}
	o := r.OnRecall
	if o.Steps != nil {
		parts = append(parts, "steps "+strings.Join(o.Steps, " "))
	}
	if o.Silent {
		parts = append(parts, "silent")
	}
	if o.Placeholder != nil {
		parts = append(parts, "placeholder "+describePlaceholder(o.Placeholder))
	}
	if o.Disposition == policy.DispositionArchive {
		parts = append(parts, "archived for "+policy.FormatDuration(o.Retention))
	}
	return strings.Join(parts, ", ")
}

func describePlaceholder(t *policy.Placeholder) string {
	var texts []string
	for _, language := range slices.Sorted(maps.Keys(t.Texts)) {
		texts = append(texts, fmt.Sprintf("%s %q", language, t.Texts[language]))
	}
	return strings.Join(texts, " ")
}
