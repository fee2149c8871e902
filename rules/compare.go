package rules

import (
	"fmt"
	"sort"
	"strings"
)

// Comparison is what two policies decide differently.
type Comparison struct {
	Inputs      int          `json:"inputs"`      // that the two can tell apart; 0 if more than can be counted
	Proven      bool         `json:"proven"`      // they were all gone through; if not, nothing is said
	Complete    bool         `json:"complete"`    // every difference is in a class; if not, there were too many
	Differences []Difference `json:"differences"` // largest first
}

// Difference is a class of inputs that the new policy decides in another way than the old one.
type Difference struct {
	Where  string `json:"where"`  // what the inputs have in common
	Was    string `json:"was"`    // what the old policy says, as in "refused: window_expired"
	Now    string `json:"now"`    // what the new one says
	Inputs int    `json:"inputs"` // how many of the distinguishable inputs
}

// Compare goes through every input that the two policies can tell apart and gathers those that they decide
// differently: permitted or refused, the code, and what is asked of the host. Which rule decides is no difference.
func Compare(was, now *Policy) Comparison {
	i := newInterest()
	i.addPolicy(was)
	i.addPolicy(now)
	s := newSpace(i)
	c := Comparison{Differences: []Difference{}, Inputs: s.countable(), Proven: s.tractable(len(was.rules) + len(now.rules))}
	if !c.Proven {
		return c
	}
	labels := map[[2]string]string{}
	gathered, complete := gather(s, func(in *Input) string {
		a, b := was.outcome(in), now.outcome(in)
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
	c.Complete = complete
	for _, class := range gathered {
		a, b, _ := strings.Cut(class.label, "\x00")
		c.Differences = append(c.Differences, Difference{Where: s.describe(class), Was: a, Now: b, Inputs: s.count(class)})
	}
	sort.SliceStable(c.Differences, func(i, j int) bool { return c.Differences[i].Inputs > c.Differences[j].Inputs })
	return c
}

// outcome is what becomes of an input, in words, without which rule says so.
func (p *Policy) outcome(in *Input) string {
	t, ok := subjectOf(in)
	if !ok {
		return "refused: " + CodeForbidden
	}
	v := p.live.judge(&t, in.age(), nil)
	if v.code != "" {
		return "refused: " + v.code
	}
	return v.rule.outcome
}

// describeOutcome is outcome of a permit, made once.
func (r *rule) describeOutcome() string {
	parts := []string{"permitted"}
	if l := r.limit; l != nil {
		var key []string
		for _, f := range l.key {
			key = append(key, f.name)
		}
		parts = append(parts, fmt.Sprintf("at most %d in %s for each %s", l.count, FormatDuration(l.per), strings.Join(key, " and ")))
	}
	o := r.onRecall
	if o.Steps != nil {
		parts = append(parts, "steps "+strings.Join(o.Steps, " "))
	}
	if o.Silent {
		parts = append(parts, "silent")
	}
	if o.Tombstone != nil {
		parts = append(parts, "tombstone "+o.Tombstone.describe())
	}
	if o.Disposition == DispositionArchive {
		parts = append(parts, "archived for "+FormatDuration(o.Retention))
	}
	return strings.Join(parts, ", ")
}

func (t *Tombstone) describe() string {
	var texts []string
	for _, language := range sortedKeys(t.Texts) {
		texts = append(texts, fmt.Sprintf("%s %q", language, t.Texts[language]))
	}
	return strings.Join(texts, " ")
}
