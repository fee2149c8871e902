package proof

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/chat-recall/recall/rules/internal/policy"
)

const (
	// MaxInputs bounds the inputs of a proof. Above it the result is "not proven".
	MaxInputs = 2_000_000
	// maxProofWork bounds the inputs times the work for each of them, and so the time: a few seconds at most.
	maxProofWork = 100_000_000
	// questionsPerRule is the work for a rule without questions, in questions.
	questionsPerRule = 4
	// maxCandidates bounds the strings that are tried for one field.
	maxCandidates = 2000
	// maxPeople bounds the IDs that are tried, in all pairs, as actor and sender.
	maxPeople = 300
)

// Domain is every input that predicates can tell apart, as the product of its axes.
type Domain struct {
	axes      []axis
	size      int // math.MaxInt if there are more inputs than can be counted or tried
	questions int // for each input; a rule without questions counts as questionsPerRule
	in        policy.Input
	age       time.Duration
	labels    map[*policy.Field][]string // the labels that are set in in

	zone    *time.Location // of the fields of the clock; nil: they are not asked
	weekday string         // the values of these fields in in
	minute  int
}

// axis is one property of inputs, with all values that can be told apart.
type axis struct {
	name    string
	ordered bool // values ascend; neighbors are described as a range
	values  []value
}

// value is one value of an axis. put sets it in the input of the domain.
type value struct {
	put  func(dom *Domain)
	text string // description
	from string // of an ordered value: its lower bound, "" for none
	to   string // of an ordered value: the upper bound of the value before it
	is   bool   // the actor is the sender
}

// NewDomain returns the domain of predicates.
func NewDomain(preds *Predicates) *Domain {
	for _, t := range preds.texts {
		t.compact()
	}
	if preds.tellsApart(policy.Roles, "owner", "admin", "member") {
		// An owner or admin has the role member in a single conversation, and no other role changes there.
		preds.words[policy.ConversationTypes] = append(preds.words[policy.ConversationTypes],
			policy.ConversationTypes.Bit("single"))
		preds.words[policy.Roles] = append(preds.words[policy.Roles], policy.Roles.Bit("owner")|policy.Roles.Bit("admin"))
	}
	dom := &Domain{size: 1, questions: preds.questions, labels: map[*policy.Field][]string{}}
	dom.in = policy.Input{
		Tenant: "any", MessageID: "m1", MessageType: "text", ConversationID: "c1", ConversationType: "group",
		ActorID: "ann", Sender: "ann", SentAt: policy.Origin, RequestedAt: policy.Origin,
	}
	dom.addText(preds, policy.FieldNamed("tenant"), func(in *policy.Input, v string) { in.Tenant = v })
	dom.addWords(preds, policy.ConversationTypes, "conversation.type",
		func(in *policy.Input, v string) { in.ConversationType = v })
	dom.addWords(preds, policy.MessageTypes, "message.type", func(in *policy.Input, v string) { in.MessageType = v })
	dom.addWords(preds, policy.Roles, "actor.role", func(in *policy.Input, v string) { in.ActorRole = v })
	dom.addPeople(preds)
	for _, f := range policy.Fields {
		if f.Kind == policy.KindTexts {
			dom.addLabels(f, preds.labels[f])
		}
	}
	dom.addText(preds, policy.FieldNamed("message.id"), func(in *policy.Input, v string) { in.MessageID = v })
	dom.addText(preds, policy.FieldNamed("conversation.id"), func(in *policy.Input, v string) { in.ConversationID = v })
	if preds.reason {
		reason := preds.text(policy.ReasonField)
		reason.equals = append(reason.equals, "")
	}
	dom.addText(preds, policy.ReasonField, func(in *policy.Input, v string) { in.Reason = v })
	dom.addText(preds, policy.FieldNamed("request.ext"), func(in *policy.Input, v string) { in.Ext = v })
	dom.addClock(preds)
	dom.addTimes(preds.times)
	dom.addAges(preds.ages) // last, since the time of the request is that of sending plus the age
	return dom
}

func (dom *Domain) add(x axis) {
	if len(x.values) < 2 {
		for _, v := range x.values {
			v.put(dom)
		}
		return
	}
	if dom.size > math.MaxInt/len(x.values) {
		dom.size = math.MaxInt
	} else {
		dom.size *= len(x.values)
	}
	dom.axes = append(dom.axes, x)
}

func (dom *Domain) addWords(preds *Predicates, v *policy.Vocabulary, name string, set func(*policy.Input, string)) {
	x := axis{name: name}
	for _, class := range preds.classes(v) {
		words := v.Describe(class)
		x.values = append(x.values, value{text: strings.Join(words, " or "),
			put: func(dom *Domain) { set(&dom.in, words[0]) }})
	}
	dom.add(x)
}

// addText adds an axis with the strings of a field that can be told apart.
func (dom *Domain) addText(preds *Predicates, f *policy.Field, set func(*policy.Input, string)) {
	t := preds.texts[f]
	if t == nil {
		return
	}
	x, seen := axis{name: f.Name}, map[string]bool{}
	for _, text := range dom.candidates(t) {
		if answers := t.answers(text); !seen[answers] {
			seen[answers] = true
			x.values = append(x.values, value{text: t.describe(text), put: func(dom *Domain) { set(&dom.in, text) }})
		}
	}
	dom.add(x)
}

// candidates returns those of t, or none if there are too many.
func (dom *Domain) candidates(t *textPredicates) []string {
	if (len(t.prefixes)+1)*(len(t.suffixes)+1)*2+len(t.equals) > maxCandidates {
		dom.size = math.MaxInt
		return nil
	}
	return t.candidates()
}

// describe describes the strings that cannot be told apart from text.
func (t *textPredicates) describe(text string) string {
	if slices.Contains(t.equals, text) {
		return fmt.Sprintf("%q", text)
	}
	var parts []string
	if p := longest(t.prefixes, func(p string) bool { return strings.HasPrefix(text, p) }); p != "" {
		parts = append(parts, fmt.Sprintf("%q…", p))
	}
	if p := longest(t.suffixes, func(p string) bool { return strings.HasSuffix(text, p) }); p != "" {
		parts = append(parts, fmt.Sprintf("…%q", p))
	}
	if parts == nil {
		return otherText
	}
	return strings.Join(parts, " and ")
}

func longest(parts []string, fits func(string) bool) string {
	out := ""
	for _, p := range parts {
		if len(p) > len(out) && fits(p) {
			out = p
		}
	}
	return out
}

// addPeople adds one axis for the actor and the sender, since whether they are the same depends on who they are.
func (dom *Domain) addPeople(preds *Predicates) {
	actor, sender := preds.texts[policy.ActorField], preds.texts[policy.SenderField]
	if actor == nil && sender == nil {
		if preds.sender {
			dom.add(axis{name: "actor", values: []value{
				{text: "the sender", is: true, put: func(dom *Domain) { dom.in.ActorID = "ann" }},
				{text: "somebody else", put: func(dom *Domain) { dom.in.ActorID = "bob" }},
			}})
		}
		return
	}
	if actor == nil {
		actor = &textPredicates{}
	}
	if sender == nil {
		sender = &textPredicates{}
	}
	type answers struct {
		actor, sender string
		same          bool
	}
	x, seen := axis{name: "actor"}, map[answers]bool{}
	ids := dom.candidates(actor.joined(sender))
	if len(ids) > maxPeople {
		dom.size = math.MaxInt
		return
	}
	asActor, asSender := map[string]string{}, map[string]string{}
	for _, id := range ids {
		asActor[id], asSender[id] = actor.answers(id), sender.answers(id)
	}
	for _, a := range ids {
		for _, b := range ids {
			key := answers{asActor[a], asSender[b], a == b}
			if seen[key] {
				continue
			}
			seen[key] = true
			text := "the sender " + actor.describe(a)
			if a != b {
				text = actor.describe(a) + ", the sender " + sender.describe(b)
			}
			x.values = append(x.values, value{text: text, is: a == b,
				put: func(dom *Domain) { dom.in.ActorID, dom.in.Sender = a, b }})
		}
	}
	dom.add(x)
}

// addLabels adds an axis for each label that a condition names: present or absent.
func (dom *Domain) addLabels(f *policy.Field, labels []string) {
	slices.Sort(labels)
	for _, label := range slices.Compact(labels) {
		dom.add(axis{name: f.Name, values: []value{
			{text: fmt.Sprintf("without %q", label), put: func(dom *Domain) { dom.label(f, label, false) }},
			{text: fmt.Sprintf("with %q", label), put: func(dom *Domain) { dom.label(f, label, true) }},
		}})
	}
}

func (dom *Domain) label(f *policy.Field, label string, present bool) {
	have := dom.labels[f]
	at := slices.Index(have, label)
	switch {
	case present && at < 0:
		have = append(have, label)
	case !present && at >= 0:
		have = slices.Delete(have, at, at+1)
	}
	dom.labels[f] = have
	f.SetTexts(&dom.in, have)
}

// addClock adds the axes of the day and the time of the request.
func (dom *Domain) addClock(preds *Predicates) {
	if len(preds.zones) == 0 {
		return
	}
	dom.zone, dom.weekday = preds.zones[0], policy.Weekdays.Words[0]
	// The time of a request is also that of sending and the age, and has one day in one zone and another in the next: such
	// inputs are no product of axes.
	elsewhere := func(z *time.Location) bool { return z.String() != dom.zone.String() }
	if len(preds.times) > 0 || slices.ContainsFunc(preds.zones, elsewhere) {
		dom.size = math.MaxInt
		return
	}
	days := axis{name: "request.weekday"}
	for _, class := range preds.classes(policy.Weekdays) {
		words := policy.Weekdays.Describe(class)
		days.values = append(days.values, value{text: strings.Join(words, " or "),
			put: func(dom *Domain) { dom.weekday = words[0] }})
	}
	dom.add(days)
	minutes := append([]int{0}, preds.clocks...)
	slices.Sort(minutes)
	x := axis{name: "request.time", ordered: true}
	for _, minute := range slices.Compact(minutes) {
		v := value{put: func(dom *Domain) { dom.minute = minute }}
		if minute > 0 {
			v.from, v.to = "from "+policy.FormatMinute(minute), "before "+policy.FormatMinute(minute)
		}
		x.values = append(x.values, v)
	}
	dom.add(x)
}

// settle sets what depends on several axes: the time of the request.
func (dom *Domain) settle() {
	if dom.zone == nil {
		return
	}
	day := slices.Index(policy.Weekdays.Words, dom.weekday)
	for week := 0; week < 52; week++ { // in one of them no clock is changed at that time
		at := time.Date(2026, 1, 5+day+7*week, 0, dom.minute, 0, 0, dom.zone) // the 5th is a Monday
		if at.Hour()*60+at.Minute() == dom.minute {
			dom.in.RequestedAt, dom.in.SentAt = at, at.Add(-dom.age)
			return
		}
	}
}

func (dom *Domain) addTimes(times []time.Time) {
	slices.SortFunc(times, time.Time.Compare)
	times = slices.CompactFunc(times, time.Time.Equal)
	if len(times) == 0 {
		return
	}
	x := axis{name: "message.sent_at", ordered: true}
	x.values = append(x.values, value{put: func(dom *Domain) { dom.in.SentAt = times[0].Add(-time.Hour) }})
	for _, t := range times {
		v := value{put: func(dom *Domain) { dom.in.SentAt = t }}
		// Each time that a rule names is followed by the next nanosecond.
		if base := t.Add(-1); slices.ContainsFunc(times, base.Equal) {
			v.from, v.to = "after "+base.Format(time.RFC3339Nano), "up to "+base.Format(time.RFC3339Nano)
		} else {
			v.from, v.to = "from "+t.Format(time.RFC3339Nano), "before "+t.Format(time.RFC3339Nano)
		}
		x.values = append(x.values, v)
	}
	dom.add(x)
}

func (dom *Domain) addAges(ages []time.Duration) {
	ages = append([]time.Duration{0}, ages...)
	slices.Sort(ages)
	ages = slices.Compact(ages)
	x := axis{name: "message.age", ordered: true}
	for _, age := range ages {
		v := value{put: func(dom *Domain) {
			dom.age = age
			dom.in.RequestedAt = dom.in.SentAt.Add(age)
		}}
		switch {
		case age == 0:
		case (age-1)%time.Millisecond == 0: // one nanosecond after an age that a rule names
			v.from, v.to = "over "+policy.FormatDuration(age-1), "up to "+policy.FormatDuration(age-1)
		default:
			v.from, v.to = "from "+policy.FormatDuration(age), "under "+policy.FormatDuration(age)
		}
		x.values = append(x.values, v)
	}
	dom.add(x)
}

// Tractable reports whether a proof over the domain takes a few seconds at most.
func (dom *Domain) Tractable() bool {
	return dom.size <= MaxInputs && dom.size <= maxProofWork/(dom.questions/questionsPerRule+1)
}

// walk calls visit for every input of the domain until it returns false. It modifies and passes the same input each
// time.
func (dom *Domain) walk(visit func(in *policy.Input, at []int) bool) {
	at := make([]int, len(dom.axes))
	for i := range dom.axes {
		dom.axes[i].values[0].put(dom)
	}
	for {
		if dom.settle(); !visit(&dom.in, at) {
			return
		}
		i := len(at) - 1
		for ; i >= 0; i-- {
			if at[i]++; at[i] < len(dom.axes[i].values) {
				break
			}
			at[i] = 0
		}
		if i < 0 {
			return
		}
		for ; i < len(at); i++ {
			dom.axes[i].values[at[i]].put(dom)
		}
	}
}

// describe describes some values of an axis, in terms of the rule language.
func (x *axis) describe(values []int) string {
	if x.ordered {
		return x.describeRanges(values)
	}
	all := func(is bool) bool {
		n := 0
		for i, v := range x.values {
			if v.is != is && slices.Contains(values, i) {
				return false
			}
			if v.is == is {
				n++
			}
		}
		return n == len(values)
	}
	if x.name == "actor" {
		switch {
		case all(true):
			return "actor is the sender"
		case all(false):
			return "actor is not the sender"
		}
	}
	var in, out []string
	for i, v := range x.values {
		if slices.Contains(values, i) {
			in = append(in, v.text)
		} else {
			out = append(out, v.text)
		}
	}
	is, isNot := joinSome(in), joinSome(out)
	switch {
	case strings.HasSuffix(x.name, ".labels"):
		return x.name + " " + is
	case len(isNot) < len(is) && x.name != "actor" && !slices.Contains(out, otherText):
		return x.name + " is not " + isNot
	}
	return x.name + " is " + is
}

// otherText describes the strings that no rule names.
const otherText = "any other"

func joinSome(texts []string) string {
	const shown = 6
	if len(texts) > shown {
		texts = append(texts[:shown:shown], fmt.Sprintf("%d more", len(texts)-shown))
	}
	return strings.Join(texts, " or ")
}

func (x *axis) describeRanges(values []int) string {
	var ranges []string
	for i := 0; i < len(values); {
		j := i
		for j+1 < len(values) && values[j+1] == values[j]+1 {
			j++
		}
		var ends []string
		if from := x.values[values[i]].from; from != "" {
			ends = append(ends, from)
		}
		if next := values[j] + 1; next < len(x.values) {
			ends = append(ends, x.values[next].to)
		}
		if len(ends) == 2 && strings.TrimPrefix(ends[0], "from ") == strings.TrimPrefix(ends[1], "up to ") {
			ends = []string{"exactly " + strings.TrimPrefix(ends[0], "from ")}
		}
		ranges = append(ranges, strings.Join(ends, " and "))
		i = j + 1
	}
	return x.name + " is " + strings.Join(ranges, ", or ")
}
