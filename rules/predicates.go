package rules

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// predicates is everything that some policies and conditions look at in an input. Two inputs that agree on it are
// decided alike, which is what makes a proof over all inputs possible.
type predicates struct {
	words  map[*vocabulary][]set
	texts  map[*field]*textPredicates
	labels map[*field][]string
	ages   []time.Duration // the answer can change at each
	times  []time.Time
	sender bool
	reason bool // whether it is empty

	questions int // in all, a rule being questionsPerRule
}

// textPredicates is what is asked about one text.
type textPredicates struct {
	equals, prefixes, suffixes []string
}

func newPredicates() *predicates {
	return &predicates{
		words:  map[*vocabulary][]set{typeWords: {typeWords.bit("command")}}, // the built-in forbid
		texts:  map[*field]*textPredicates{},
		labels: map[*field][]string{},
	}
}

func (i *predicates) text(f *field) *textPredicates {
	if i.texts[f] == nil {
		i.texts[f] = &textPredicates{}
	}
	return i.texts[f]
}

// addPolicy takes in what p looks at, its shadow rules included.
func (i *predicates) addPolicy(p *Policy) {
	for _, w := range p.windows {
		i.addScope(&w.scope)
		i.ages = append(i.ages, w.within+1)
	}
	before, limits, aging := i.questions, map[*limit]bool{}, 0
	for _, r := range p.rules {
		i.questions += questionsPerRule
		i.addScope(&r.scope)
		i.addCondition(r.when)
		if r.aging() {
			aging += questionsPerRule + r.when.cost
		}
		if r.forbid {
			continue
		}
		i.reason = i.reason || r.reason
		if r.limit != nil {
			limits[r.limit] = true
		}
		switch r.window {
		case 0:
			i.ages = append(i.ages, p.window+1)
		case noEnd:
		default:
			i.ages = append(i.ages, r.window+1)
		}
	}
	i.questions += aging * len(p.live.ages)             // they are asked again for each age at which an answer can change
	i.questions += (i.questions - before) * len(limits) // they are asked again for when each has no room
}

func (i *predicates) addScope(s *scope) {
	for _, part := range []struct {
		vocabulary *vocabulary
		words      set
	}{{conversationWords, s.conversations}, {typeWords, s.types}, {roleWords, s.roles}} {
		if part.words != 0 {
			i.words[part.vocabulary] = append(i.words[part.vocabulary], part.words)
		}
	}
	i.sender = i.sender || s.sender != anybody
	if s.tenants != nil {
		t := i.text(tenantField)
		t.equals = append(t.equals, slices.Sorted(maps.Keys(s.tenants))...)
	}
}

func (i *predicates) addCondition(c *condition) {
	c.questions(func(q *question) {
		i.questions++
		switch q.field.kind {
		case flagKind:
			i.sender = true
		case durationKind:
			i.ages = append(i.ages, q.duration, q.duration+1)
		case timeKind:
			i.times = append(i.times, q.time, q.time.Add(1))
		case textsKind:
			i.labels[q.field] = append(i.labels[q.field], q.texts...)
		case wordKind:
			var s set
			for _, w := range q.texts {
				s |= q.field.words.bit(w)
			}
			i.words[q.field.words] = append(i.words[q.field.words], s)
		case textKind:
			t := i.text(q.field)
			switch q.operator {
			case startsWith:
				t.prefixes = append(t.prefixes, q.texts...)
			case endsWith:
				t.suffixes = append(t.suffixes, q.texts...)
			default:
				t.equals = append(t.equals, q.texts...)
			}
		}
	})
}

// classes splits the words of a vocabulary into those that no set of the predicates tells apart.
func (i *predicates) classes(v *vocabulary) []set {
	var out []set
	for n := range v.words {
		word := set(1 << n)
		at := slices.IndexFunc(out, func(class set) bool {
			for _, s := range i.words[v] {
				if (s&class != 0) != (s&word != 0) {
					return false
				}
			}
			return true
		})
		if at < 0 {
			out = append(out, word)
		} else {
			out[at] |= word
		}
	}
	return out
}

// tellsApart tells whether some set of the predicates has a part of these words only.
func (i *predicates) tellsApart(v *vocabulary, words ...string) bool {
	var all set
	for _, w := range words {
		all |= v.bit(w)
	}
	return slices.ContainsFunc(i.words[v], func(s set) bool { return s&all != 0 && s&all != all })
}

// answers is what the predicates learns of a text: a letter for each question.
func (t *textPredicates) answers(text string) string {
	var b strings.Builder
	put := func(yes bool) {
		if yes {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	for _, e := range t.equals {
		put(text == e)
	}
	for _, p := range t.prefixes {
		put(strings.HasPrefix(text, p))
	}
	for _, s := range t.suffixes {
		put(strings.HasSuffix(text, s))
	}
	return b.String()
}

// candidates are texts among which, for every possible set of answers, at least one gives it, and at least two where
// two texts can. Between each prefix and each suffix, or none, stands a letter that is in no text of the rules, so
// that no longer prefix or suffix and no equality holds.
func (t *textPredicates) candidates() []string {
	out := slices.Clone(t.equals)
	for _, filler := range t.fillers() {
		for _, p := range append([]string{""}, t.prefixes...) {
			for _, s := range append([]string{""}, t.suffixes...) {
				out = append(out, p+filler+s)
			}
		}
	}
	// A text that is no longer than what begins and ends it can overlap: "ab" begins with "ab" and ends with "b".
	// It gives the same answers as one of the above, unless it is an equality, and those are all there.
	slices.Sort(out)
	return slices.Compact(out)
}

// fillers are two letters that occur nowhere in what is asked.
func (t *textPredicates) fillers() []string {
	asked := strings.Join(t.equals, "") + strings.Join(t.prefixes, "") + strings.Join(t.suffixes, "")
	var out []string
	for r := 'a'; len(out) < 2; r++ {
		if !strings.ContainsRune(asked, r) && r != 0x7f {
			out = append(out, string(r))
		}
	}
	return out
}

// compact leaves out what is asked again, as many rules do of the same tenants.
func (t *textPredicates) compact() {
	for _, list := range []*[]string{&t.equals, &t.prefixes, &t.suffixes} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
}

func (t *textPredicates) joined(o *textPredicates) *textPredicates {
	return &textPredicates{
		equals:   slices.Concat(t.equals, o.equals),
		prefixes: slices.Concat(t.prefixes, o.prefixes),
		suffixes: slices.Concat(t.suffixes, o.suffixes),
	}
}
