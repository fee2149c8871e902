package policy

import (
	"slices"
	"strings"
	"time"
)

// MaxConditionCost bounds the questions that one condition may ask and the ! in it, what its locals have counted
// wherever they are used: locals that name locals could otherwise grow a condition without end.
const MaxConditionCost = 1024

// test is a compiled condition. The age is handed in beside the input, so that the same input can be judged at
// another age.
type test func(in *Input, age time.Duration) bool

// Condition is the checked form of a when: a tree of questions, each compiled.
type Condition struct {
	Join    Join // how kids are joined; of a question none
	Kids    []*Condition
	Ask     *Question
	Test    test
	Written []byte // in the file: a copy for each part of a part would be many times the file
	Cost    int
	aging   bool // asks about message.age
}

// Join says how the kids of a condition are joined.
type Join uint8

const (
	JoinNone Join = iota // a single question
	JoinAll              // every kid
	JoinAny              // any kid
	JoinNot              // not its one kid
)

// Operator is how a question compares its field.
type Operator string

const (
	OpEqual      Operator = "=="
	OpNotEqual   Operator = "!="
	OpLess       Operator = "<"
	OpAtMost     Operator = "<="
	OpMore       Operator = ">"
	OpAtLeast    Operator = ">="
	OpOneOf      Operator = "contains"   // contains(["a", "b"], field)
	OpStartsWith Operator = "startswith" // startswith(field, "a")
	OpEndsWith   Operator = "endswith"   // endswith(field, "a")
	OpHas        Operator = "has"        // contains(field, "a")
	OpIs         Operator = "is"         // field, of true or false
)

// Question is one comparison of one field with what is written in the file. That no question compares two fields is
// what makes the inputs that a policy can tell apart finite, and known.
type Question struct {
	Field    *Field
	Operator Operator
	Texts    []string // of texts and words: what the field is compared with, one unless oneOf
	Duration time.Duration
	Time     time.Time
}

// compile makes the test of a question.
func (q *Question) compile() test {
	switch q.Field.Kind {
	case KindFlag:
		flag := q.Field.flag
		return func(in *Input, _ time.Duration) bool { return flag(in) }
	case KindDuration:
		return compileDuration(q.Operator, q.Duration)
	case KindTime:
		return compileTime(q.Operator, q.Field.time, q.Time)
	case KindTexts:
		texts, want := q.Field.texts, q.Texts[0]
		return func(in *Input, _ time.Duration) bool { return slices.Contains(texts(in), want) }
	}
	text, want := q.Field.Text, q.Texts[0]
	switch q.Operator {
	case OpNotEqual:
		return func(in *Input, _ time.Duration) bool { return text(in) != want }
	case OpStartsWith:
		return func(in *Input, _ time.Duration) bool { return strings.HasPrefix(text(in), want) }
	case OpEndsWith:
		return func(in *Input, _ time.Duration) bool { return strings.HasSuffix(text(in), want) }
	case OpOneOf:
		wanted := make(map[string]bool, len(q.Texts))
		for _, w := range q.Texts {
			wanted[w] = true
		}
		return func(in *Input, _ time.Duration) bool { return wanted[text(in)] }
	}
	return func(in *Input, _ time.Duration) bool { return text(in) == want }
}

func compileDuration(op Operator, want time.Duration) test {
	switch op {
	case OpNotEqual:
		return func(_ *Input, age time.Duration) bool { return age != want }
	case OpLess:
		return func(_ *Input, age time.Duration) bool { return age < want }
	case OpAtMost:
		return func(_ *Input, age time.Duration) bool { return age <= want }
	case OpMore:
		return func(_ *Input, age time.Duration) bool { return age > want }
	case OpAtLeast:
		return func(_ *Input, age time.Duration) bool { return age >= want }
	}
	return func(_ *Input, age time.Duration) bool { return age == want }
}

func compileTime(op Operator, get func(*Input) time.Time, want time.Time) test {
	switch op {
	case OpNotEqual:
		return func(in *Input, _ time.Duration) bool { return !get(in).Equal(want) }
	case OpLess:
		return func(in *Input, _ time.Duration) bool { return get(in).Before(want) }
	case OpAtMost:
		return func(in *Input, _ time.Duration) bool { return !get(in).After(want) }
	case OpMore:
		return func(in *Input, _ time.Duration) bool { return get(in).After(want) }
	case OpAtLeast:
		return func(in *Input, _ time.Duration) bool { return !get(in).Before(want) }
	}
	return func(in *Input, _ time.Duration) bool { return get(in).Equal(want) }
}

func NewQuestion(q *Question, written []byte) *Condition {
	return &Condition{Join: JoinNone, Ask: q, Test: q.compile(), Written: written, Cost: 1, aging: q.Field == AgeField}
}

// NewJoin joins conditions, nil ones left out: they were reported.
func NewJoin(how Join, written []byte, kids ...*Condition) *Condition {
	c := &Condition{Join: how, Kids: kids, Written: written}
	for _, k := range kids {
		if k == nil {
			return nil
		}
		c.Cost += k.Cost
		c.aging = c.aging || k.aging
	}
	if how == JoinNot {
		c.Cost++
	}
	c.Cost = min(c.Cost, MaxConditionCost+1)
	a := kids[0].Test
	if how == JoinNot {
		c.Test = func(in *Input, age time.Duration) bool { return !a(in, age) }
		return c
	}
	b := kids[1].Test
	if how == JoinAll {
		c.Test = func(in *Input, age time.Duration) bool { return a(in, age) && b(in, age) }
	} else {
		c.Test = func(in *Input, age time.Duration) bool { return a(in, age) || b(in, age) }
	}
	return c
}

// Questions calls visit for every question of c, the shared ones of locals as often as they are used.
func (c *Condition) Questions(visit func(*Question)) {
	if c == nil {
		return
	}
	if c.Ask != nil {
		visit(c.Ask)
	}
	for _, k := range c.Kids {
		k.Questions(visit)
	}
}

// Names tells whether c compares a field with a text, whatever the comparison.
func (c *Condition) Names(f *Field, text string) bool {
	found := false
	c.Questions(func(q *Question) { found = found || q.Field == f && slices.Contains(q.Texts, text) })
	return found
}

// ages are the ages at which the answer of c can change: each that it asks about, and the moment after it.
func (c *Condition) ages() []time.Duration {
	var out []time.Duration
	c.Questions(func(q *Question) {
		if q.Field == AgeField {
			out = append(out, q.Duration, q.Duration+1)
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}
