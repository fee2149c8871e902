package rules

import (
	"slices"
	"strings"
	"time"
)

// maxConditionCost bounds the questions that one condition may ask and the ! in it, what its locals have counted
// wherever they are used: locals that name locals could otherwise grow a condition without end.
const maxConditionCost = 1024

// test is a compiled condition. The age is handed in beside the input, so that the same input can be judged at
// another age.
type test func(in *Input, age time.Duration) bool

// condition is the checked form of a when: a tree of questions, each compiled.
type condition struct {
	join    join // how kids are joined; of a question none
	kids    []*condition
	ask     *question
	test    test
	written []byte // in the file: a copy for each part of a part would be many times the file
	cost    int
	aging   bool // asks about message.age
}

type join uint8

const (
	single join = iota // a single question
	all                // every kid
	either             // any kid
	not                // not its one kid
)

// operator is how a question compares its field.
type operator string

const (
	equal      operator = "=="
	unequal    operator = "!="
	less       operator = "<"
	atMost     operator = "<="
	more       operator = ">"
	atLeast    operator = ">="
	oneOf      operator = "contains"   // contains(["a", "b"], field)
	startsWith operator = "startswith" // startswith(field, "a")
	endsWith   operator = "endswith"   // endswith(field, "a")
	has        operator = "has"        // contains(field, "a")
	is         operator = "is"         // field, of true or false
)

// question is one comparison of one field with what is written in the file. That no question compares two fields is
// what makes the inputs that a policy can tell apart finite, and known.
type question struct {
	field    *field
	operator operator
	texts    []string // of texts and words: what the field is compared with, one unless oneOf
	duration time.Duration
	time     time.Time
}

// compile makes the test of a question.
func (q *question) compile() test {
	switch q.field.kind {
	case flagKind:
		flag := q.field.flag
		return func(in *Input, _ time.Duration) bool { return flag(in) }
	case durationKind:
		return compileDuration(q.operator, q.duration)
	case timeKind:
		return compileTime(q.operator, q.field.time, q.time)
	case textsKind:
		texts, want := q.field.texts, q.texts[0]
		return func(in *Input, _ time.Duration) bool { return slices.Contains(texts(in), want) }
	}
	text, want := q.field.text, q.texts[0]
	switch q.operator {
	case unequal:
		return func(in *Input, _ time.Duration) bool { return text(in) != want }
	case startsWith:
		return func(in *Input, _ time.Duration) bool { return strings.HasPrefix(text(in), want) }
	case endsWith:
		return func(in *Input, _ time.Duration) bool { return strings.HasSuffix(text(in), want) }
	case oneOf:
		wanted := make(map[string]bool, len(q.texts))
		for _, w := range q.texts {
			wanted[w] = true
		}
		return func(in *Input, _ time.Duration) bool { return wanted[text(in)] }
	}
	return func(in *Input, _ time.Duration) bool { return text(in) == want }
}

func compileDuration(op operator, want time.Duration) test {
	switch op {
	case unequal:
		return func(_ *Input, age time.Duration) bool { return age != want }
	case less:
		return func(_ *Input, age time.Duration) bool { return age < want }
	case atMost:
		return func(_ *Input, age time.Duration) bool { return age <= want }
	case more:
		return func(_ *Input, age time.Duration) bool { return age > want }
	case atLeast:
		return func(_ *Input, age time.Duration) bool { return age >= want }
	}
	return func(_ *Input, age time.Duration) bool { return age == want }
}

func compileTime(op operator, get func(*Input) time.Time, want time.Time) test {
	switch op {
	case unequal:
		return func(in *Input, _ time.Duration) bool { return !get(in).Equal(want) }
	case less:
		return func(in *Input, _ time.Duration) bool { return get(in).Before(want) }
	case atMost:
		return func(in *Input, _ time.Duration) bool { return !get(in).After(want) }
	case more:
		return func(in *Input, _ time.Duration) bool { return get(in).After(want) }
	case atLeast:
		return func(in *Input, _ time.Duration) bool { return !get(in).Before(want) }
	}
	return func(in *Input, _ time.Duration) bool { return get(in).Equal(want) }
}

func newQuestion(q *question, written []byte) *condition {
	return &condition{join: single, ask: q, test: q.compile(), written: written, cost: 1, aging: q.field == ageField}
}

// newJoin joins conditions, nil ones left out: they were reported.
func newJoin(how join, written []byte, kids ...*condition) *condition {
	c := &condition{join: how, kids: kids, written: written}
	for _, k := range kids {
		if k == nil {
			return nil
		}
		c.cost += k.cost
		c.aging = c.aging || k.aging
	}
	if how == not {
		c.cost++
	}
	c.cost = min(c.cost, maxConditionCost+1)
	a := kids[0].test
	if how == not {
		c.test = func(in *Input, age time.Duration) bool { return !a(in, age) }
		return c
	}
	b := kids[1].test
	if how == all {
		c.test = func(in *Input, age time.Duration) bool { return a(in, age) && b(in, age) }
	} else {
		c.test = func(in *Input, age time.Duration) bool { return a(in, age) || b(in, age) }
	}
	return c
}

// questions calls visit for every question of c, the shared ones of locals as often as they are used.
func (c *condition) questions(visit func(*question)) {
	if c == nil {
		return
	}
	if c.ask != nil {
		visit(c.ask)
	}
	for _, k := range c.kids {
		k.questions(visit)
	}
}

// names tells whether c compares a field with a text, whatever the comparison.
func (c *condition) names(f *field, text string) bool {
	found := false
	c.questions(func(q *question) { found = found || q.field == f && slices.Contains(q.texts, text) })
	return found
}

// ages are the ages at which the answer of c can change: each that it asks about, and the moment after it.
func (c *condition) ages() []time.Duration {
	var out []time.Duration
	c.questions(func(q *question) {
		if q.field == ageField {
			out = append(out, q.duration, q.duration+1)
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}
