package proof

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// predicates is everything that some policies and conditions look at in an input. Two inputs that agree on it are
// decided alike, which is what makes a proof over all inputs possible.
type predicates struct {
	words  map[*policy.Vocabulary][]policy.Set
	texts  map[*policy.Field]*textPredicates
	labels map[*policy.Field][]string
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

func NewPredicates() *predicates {
	return &predicates{
		words:  map[*policy.Vocabulary][]policy.Set{policy.MessageTypes: {policy.MessageTypes.Bit("command")}}, // the built-in forbid
		texts:  map[*policy.Field]*textPredicates{},
		labels: map[*policy.Field][]string{},
	}
}

func (i *predicates) text(f *policy.Field) *textPredicates {
	if i.texts[f] == nil {
		i.texts[f] = &textPredicates{}
	}
	return i.texts[f]
}

// AddPolicy takes in what p looks at, its shadow rules included.
func (i *predicates) AddPolicy(p *policy.Policy) {
	for _, w := range p.Windows {
		i.addScope(&w.Scope)
		i.ages = append(i.ages, w.Within+1)
	}
	before, limits, aging := i.questions, map[*policy.Limit]bool{}, 0
	for _, r := range p.Rules {
		i.questions += questionsPerRule
		i.addScope(&r.Scope)
		i.AddCondition(r.When)
		if r.Aging() {
			aging += questionsPerRule + r.When.Cost
		}
		if r.Forbid {
			continue
		}
		i.reason = i.reason || r.Reason
		if r.Limit != nil {
			limits[r.Limit] = true
		}
		switch r.Window {
		case 0:
			i.ages = append(i.ages, p.Window+1)
		case policy.NoEnd:
		default:
			i.ages = append(i.ages, r.Window+1)
		}
	}
	i.questions += aging * len(p.Live.Ages)             // they are asked again for each age at which an answer can change
	i.questions += (i.questions - before) * len(limits) // they are asked again for when each has no room
}

func (i *predicates) addScope(s *policy.Scope) {
	for _, part := range []struct {
		vocabulary *policy.Vocabulary
		words      policy.Set
	}{{policy.ConversationTypes, s.Conversations}, {policy.MessageTypes, s.Types}, {policy.Roles, s.Roles}} {
		if part.words != 0 {
			i.words[part.vocabulary] = append(i.words[part.vocabulary], part.words)
		}
	}
	i.sender = i.sender || s.Sender != policy.SenderAnybody
	if s.Tenants != nil {
		t := i.text(policy.TenantField)
		t.equals = append(t.equals, slices.Sorted(maps.Keys(s.Tenants))...)
	}
}

func (i *predicates) AddCondition(c *policy.Condition) {
	c.Questions(func(q *policy.Question) {
		i.questions++
		switch q.Field.Kind {
		case policy.KindFlag:
			i.sender = true
		case policy.KindDuration:
			i.ages = append(i.ages, q.Duration, q.Duration+1)
		case policy.KindTime:
			i.times = append(i.times, q.Time, q.Time.Add(1))
		case policy.KindTexts:
			i.labels[q.Field] = append(i.labels[q.Field], q.Texts...)
		case policy.KindWord:
			var s policy.Set
			for _, w := range q.Texts {
				s |= q.Field.Words.Bit(w)
			}
			i.words[q.Field.Words] = append(i.words[q.Field.Words], s)
		case policy.KindText:
			t := i.text(q.Field)
			switch q.Operator {
			case policy.OpStartsWith:
				t.prefixes = append(t.prefixes, q.Texts...)
			case policy.OpEndsWith:
				t.suffixes = append(t.suffixes, q.Texts...)
			default:
				t.equals = append(t.equals, q.Texts...)
			}
		}
	})
}

// classes splits the words of a vocabulary into those that no set of the predicates tells apart.
func (i *predicates) classes(v *policy.Vocabulary) []policy.Set {
	var out []policy.Set
	for n := range v.Words {
		word := policy.Set(1 << n)
		at := slices.IndexFunc(out, func(class policy.Set) bool {
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
func (i *predicates) tellsApart(v *policy.Vocabulary, words ...string) bool {
	var all policy.Set
	for _, w := range words {
		all |= v.Bit(w)
	}
	return slices.ContainsFunc(i.words[v], func(s policy.Set) bool { return s&all != 0 && s&all != all })
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
