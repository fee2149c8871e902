package policy

import (
	"slices"
	"strings"
	"time"
)

// MaxConditionCost bounds the comparisons and ! in one condition. A local counts wherever it is used; otherwise locals
// that use locals could make a condition grow without limit.
const MaxConditionCost = 1024

// test is a compiled condition. The age is a parameter of its own so that the same input can be tested at another age.
type test func(in *Input, age time.Duration) bool

// Condition is a checked and compiled condition: a tree of comparisons.
type Condition struct {
	Join    Join // JoinNone: Ask is set
	Kids    []*Condition
	Ask     *Question
	Test    test
	Written []byte // a slice of the file, not a copy: copies of nested parts would be many times its size
	Cost    int
	aging   bool // compares message.age
	clocked bool // compares a field of the clock
}

// Join is how the kids of a [Condition] are combined.
type Join uint8

// Joins.
const (
	JoinNone Join = iota // a single question
	JoinAll              // kids joined by &&
	JoinAny              // kids joined by ||
	JoinNot              // ! before its one kid
)

// Operator is how a [Question] compares its field.
type Operator string

// Operators.
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
	OpIs         Operator = "is"         // a field that is true or false
)

// Question is the comparison of one field with literals. Since no question compares two fields, the inputs that a
// policy can tell apart are finite and known.
type Question struct {
	Field    *Field
	Operator Operator
	Texts    []string // of a text or word: the literals, exactly one unless OpOneOf
	Duration time.Duration
	Time     time.Time
	Minute   int            // of the day, for request.time
	Zone     *time.Location // of the policy, for fields of the clock
}

// compile returns the test of a question.
func (q *Question) compile() test {
	switch q.Field.Kind {
	case KindFlag:
		flag := q.Field.flag
		return func(in *Input, _ time.Duration) bool { return flag(in) }
	case KindDuration:
		return compileDuration(q.Operator, q.Duration)
	case KindTime:
		return compileTime(q.Operator, q.Field.time, q.Time)
	case KindMinute:
		return compileMinute(q.Operator, q.Zone, q.Minute)
	case KindTexts:
		texts, want := q.Field.texts, q.Texts[0]
		return func(in *Input, _ time.Duration) bool { return slices.Contains(*texts(in), want) }
	}
	text, want := q.Field.Text, q.Texts[0]
	if zone := q.Zone; q.Field == WeekdayField {
		text = func(in *Input) string { return weekdayOf(in.RequestedAt.In(zone)) }
	}
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

// NewQuestion returns a condition that is one comparison.
func NewQuestion(q *Question, written []byte) *Condition {
	return &Condition{Join: JoinNone, Ask: q, Test: q.compile(), Written: written, Cost: 1, aging: q.Field == AgeField,
		clocked: q.Field.OfClock()}
}

// NewJoin combines conditions. It returns nil if one of them is nil, which means that it was reported.
func NewJoin(how Join, written []byte, kids ...*Condition) *Condition {
	c := &Condition{Join: how, Kids: kids, Written: written}
	for _, k := range kids {
		if k == nil {
			return nil
		}
		c.Cost += k.Cost
		c.aging, c.clocked = c.aging || k.aging, c.clocked || k.clocked
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

// Questions calls visit for every question of c; for those of a local as often as the local is used.
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

// Names reports whether c compares a field with a text, in any comparison.
func (c *Condition) Names(f *Field, text string) bool {
	found := false
	c.Questions(func(q *Question) { found = found || q.Field == f && slices.Contains(q.Texts, text) })
	return found
}

// ages returns the ages at which the result of c can change: each literal, and one nanosecond more.
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
