package proof

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
)

// Predicates is every predicate that some policies and conditions evaluate on an input. Inputs with the same results
// are decided alike; that makes a proof over all inputs possible.
type Predicates struct {
	words  map[*policy.Vocabulary][]policy.Set
	texts  map[*policy.Field]*textPredicates
	labels map[*policy.Field][]string
	ages   []time.Duration // at which a result can change
	times  []time.Time
	clocks []int            // minutes of the day at which a result can change; none: no predicate asks the clock
	zones  []*time.Location // in which they are asked
	sender bool
	reason bool // whether the reason is empty

	questions int // of all rules, each counting as questionsPerRule more
}

// textPredicates is the predicates on one string.
type textPredicates struct {
	equals, prefixes, suffixes []string
}

// NewPredicates returns the predicates that every policy has.
func NewPredicates() *Predicates {
	return &Predicates{
		words:  map[*policy.Vocabulary][]policy.Set{policy.MessageTypes: {policy.BuiltInForbid.Scope.Types}},
		texts:  map[*policy.Field]*textPredicates{},
		labels: map[*policy.Field][]string{},
	}
}

func (preds *Predicates) text(f *policy.Field) *textPredicates {
	if preds.texts[f] == nil {
		preds.texts[f] = &textPredicates{}
	}
	return preds.texts[f]
}

// AddPolicy adds the predicates of p, including those of its shadow rules.
func (preds *Predicates) AddPolicy(p *policy.Policy) {
	for _, w := range p.Windows {
		preds.addScope(&w.Scope)
		preds.ages = append(preds.ages, w.Within+1)
	}
	before, limits, aging := preds.questions, map[*policy.Limit]bool{}, 0
	for _, r := range p.Rules {
		preds.questions += questionsPerRule
		preds.addScope(&r.Scope)
		preds.AddCondition(r.When)
		if r.Aging() {
			aging += questionsPerRule + r.When.Cost
		}
		if r.Forbid {
			continue
		}
		preds.reason = preds.reason || r.Reason
		if r.Limit != nil {
			limits[r.Limit] = true
		}
		switch r.Window {
		case 0:
			preds.ages = append(preds.ages, p.Window+1)
		case policy.NoEnd:
		default:
			preds.ages = append(preds.ages, r.Window+1)
		}
	}
	// evaluated again for each age at which a result can change
	preds.questions += aging * len(p.Live.Ages)
	preds.questions += (preds.questions - before) * len(limits) // evaluated again for each exhausted limit
}

func (preds *Predicates) addScope(s *policy.Scope) {
	for _, part := range []struct {
		vocabulary *policy.Vocabulary
		words      policy.Set
	}{{policy.ConversationTypes, s.Conversations}, {policy.MessageTypes, s.Types}, {policy.Roles, s.Roles}} {
		if part.words != 0 {
			preds.words[part.vocabulary] = append(preds.words[part.vocabulary], part.words)
		}
	}
	preds.sender = preds.sender || s.Sender != policy.SenderAnybody
	if s.Tenants != nil {
		t := preds.text(policy.TenantField)
		t.equals = append(t.equals, slices.Sorted(maps.Keys(s.Tenants))...)
	}
}

// AddCondition adds the predicates of a condition, which may be nil.
func (preds *Predicates) AddCondition(c *policy.Condition) {
	preds.clocks = append(preds.clocks, c.ClockMinutes()...)
	c.Questions(func(q *policy.Question) {
		preds.questions++
		if q.Field.OfClock() {
			preds.zones = append(preds.zones, q.Zone)
		}
		switch q.Field.Kind {
		case policy.KindFlag:
			preds.sender = true
		case policy.KindDuration:
			preds.ages = append(preds.ages, q.Duration, q.Duration+1)
		case policy.KindTime:
			preds.times = append(preds.times, q.Time, q.Time.Add(1))
		case policy.KindMinute:
		case policy.KindTexts:
			preds.labels[q.Field] = append(preds.labels[q.Field], q.Texts...)
		case policy.KindWord:
			var s policy.Set
			for _, w := range q.Texts {
				s |= q.Field.Words.Bit(w)
			}
			preds.words[q.Field.Words] = append(preds.words[q.Field.Words], s)
		case policy.KindText:
			t := preds.text(q.Field)
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

// classes partitions the words of a vocabulary into sets of words that cannot be told apart.
func (preds *Predicates) classes(v *policy.Vocabulary) []policy.Set {
	var out []policy.Set
	for n := range v.Words {
		word := policy.Set(1 << n)
		at := slices.IndexFunc(out, func(class policy.Set) bool {
			for _, s := range preds.words[v] {
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

// tellsApart reports whether some set of words contains some of these words but not all.
func (preds *Predicates) tellsApart(v *policy.Vocabulary, words ...string) bool {
	var all policy.Set
	for _, w := range words {
		all |= v.Bit(w)
	}
	return slices.ContainsFunc(preds.words[v], func(s policy.Set) bool { return s&all != 0 && s&all != all })
}

// answers returns the results of all predicates on a string, one character each.
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

// candidates returns strings that cover every possible combination of results, with two strings wherever two can have
// the same results. Between each prefix and each suffix it puts a letter that occurs in no string of the rules, so that
// no longer prefix or suffix and no equality is met.
func (t *textPredicates) candidates() []string {
	out := slices.Clone(t.equals)
	for _, padding := range t.padding() {
		for _, p := range append([]string{""}, t.prefixes...) {
			for _, s := range append([]string{""}, t.suffixes...) {
				out = append(out, p+padding+s)
			}
		}
	}
	// In a short string a prefix and a suffix can overlap: "ab" starts with "ab" and ends with "b". Such a string gives
	// the same results as one of the above, unless it is in an equality, and all of those are included.
	slices.Sort(out)
	return slices.Compact(out)
}

// padding returns two letters that occur in no predicate.
func (t *textPredicates) padding() []string {
	asked := strings.Join(t.equals, "") + strings.Join(t.prefixes, "") + strings.Join(t.suffixes, "")
	var out []string
	for r := 'a'; len(out) < 2; r++ {
		if !strings.ContainsRune(asked, r) && r != 0x7f {
			out = append(out, string(r))
		}
	}
	return out
}

// compact removes duplicates, such as the same tenants in many rules.
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
