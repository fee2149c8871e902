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
}

// axis is one property of inputs, with all values that can be told apart.
type axis struct {
	name    string
	ordered bool // values ascend; neighbours are described as a range
	values  []value
}

// value is one value of an axis. put sets it in the input of the domain.
type value struct {
	put  func(s *Domain)
	text string // description
	from string // of an ordered value: its lower bound, "" for none
	to   string // of an ordered value: the upper bound of the value before it
	is   bool   // the actor is the sender
}

// NewDomain returns the domain of predicates.
func NewDomain(i *Predicates) *Domain {
	for _, t := range i.texts {
		t.compact()
	}
	if i.tellsApart(policy.Roles, "owner", "admin", "member") {
		// An owner or admin has the role member in a single conversation.
		i.words[policy.ConversationTypes] = append(i.words[policy.ConversationTypes], policy.ConversationTypes.Bit("single"))
	}
	s := &Domain{size: 1, questions: i.questions, labels: map[*policy.Field][]string{}}
	s.in = policy.Input{Tenant: "any", MessageID: "m1", MessageType: "text", ConversationID: "c1",
		ConversationType: "group",
		ActorID:          "ann", Sender: "ann", SentAt: policy.Origin, RequestedAt: policy.Origin}
	s.addText(i, policy.FieldNamed("tenant"), func(in *policy.Input, v string) { in.Tenant = v })
	s.addWords(i, policy.ConversationTypes, "conversation.type",
		func(in *policy.Input, v string) { in.ConversationType = v })
	s.addWords(i, policy.MessageTypes, "message.type", func(in *policy.Input, v string) { in.MessageType = v })
	s.addWords(i, policy.Roles, "actor.role", func(in *policy.Input, v string) { in.ActorRole = v })
	s.addPeople(i)
	for _, f := range policy.Fields {
		if f.Kind == policy.KindTexts {
			s.addLabels(f, i.labels[f])
		}
	}
	s.addText(i, policy.FieldNamed("message.id"), func(in *policy.Input, v string) { in.MessageID = v })
	s.addText(i, policy.FieldNamed("conversation.id"), func(in *policy.Input, v string) { in.ConversationID = v })
	if i.reason {
		reason := i.text(policy.ReasonField)
		reason.equals = append(reason.equals, "")
	}
	s.addText(i, policy.ReasonField, func(in *policy.Input, v string) { in.Reason = v })
	s.addText(i, policy.FieldNamed("request.ext"), func(in *policy.Input, v string) { in.Ext = v })
	s.addTimes(i.times)
	s.addAges(i.ages) // last, since the time of the request is that of sending plus the age
	return s
}

func (s *Domain) add(d axis) {
	if len(d.values) < 2 {
		for _, v := range d.values {
			v.put(s)
		}
		return
	}
	if s.size > math.MaxInt/len(d.values) {
		s.size = math.MaxInt
	} else {
		s.size *= len(d.values)
	}
	s.axes = append(s.axes, d)
}

func (s *Domain) addWords(i *Predicates, v *policy.Vocabulary, name string, set func(*policy.Input, string)) {
	d := axis{name: name}
	for _, class := range i.classes(v) {
		words := v.Describe(class)
		d.values = append(d.values, value{text: strings.Join(words, " or "), put: func(s *Domain) { set(&s.in, words[0]) }})
	}
	s.add(d)
}

// addText adds an axis with the strings of a field that can be told apart.
func (s *Domain) addText(i *Predicates, f *policy.Field, set func(*policy.Input, string)) {
	t := i.texts[f]
	if t == nil {
		return
	}
	d, seen := axis{name: f.Name}, map[string]bool{}
	for _, text := range s.candidates(t) {
		if answers := t.answers(text); !seen[answers] {
			seen[answers] = true
			d.values = append(d.values, value{text: t.describe(text), put: func(s *Domain) { set(&s.in, text) }})
		}
	}
	s.add(d)
}

// candidates returns those of t, or none if there are too many.
func (s *Domain) candidates(t *textPredicates) []string {
	if (len(t.prefixes)+1)*(len(t.suffixes)+1)*2+len(t.equals) > maxCandidates {
		s.size = math.MaxInt
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
func (s *Domain) addPeople(i *Predicates) {
	actor, sender := i.texts[policy.ActorField], i.texts[policy.SenderField]
	if actor == nil && sender == nil {
		if i.sender {
			s.add(axis{name: "actor", values: []value{
				{text: "the sender", is: true, put: func(s *Domain) { s.in.ActorID = "ann" }},
				{text: "somebody else", put: func(s *Domain) { s.in.ActorID = "bob" }},
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
	d, seen := axis{name: "actor"}, map[answers]bool{}
	ids := s.candidates(actor.joined(sender))
	if len(ids) > maxPeople {
		s.size = math.MaxInt
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
			d.values = append(d.values, value{text: text, is: a == b, put: func(s *Domain) { s.in.ActorID, s.in.Sender = a, b }})
		}
	}
	s.add(d)
}

// addLabels adds an axis for each label that a condition names: present or absent.
func (s *Domain) addLabels(f *policy.Field, labels []string) {
	slices.Sort(labels)
	for _, label := range slices.Compact(labels) {
		s.add(axis{name: f.Name, values: []value{
			{text: fmt.Sprintf("without %q", label), put: func(s *Domain) { s.label(f, label, false) }},
			{text: fmt.Sprintf("with %q", label), put: func(s *Domain) { s.label(f, label, true) }},
		}})
	}
}

func (s *Domain) label(f *policy.Field, label string, present bool) {
	have := s.labels[f]
	at := slices.Index(have, label)
	switch {
	case present && at < 0:
		have = append(have, label)
	case !present && at >= 0:
		have = slices.Delete(have, at, at+1)
	}
	s.labels[f] = have
	if f.Name == "message.labels" {
		s.in.MessageLabels = have
	} else {
		s.in.ConversationLabels = have
	}
}

func (s *Domain) addTimes(times []time.Time) {
	slices.SortFunc(times, time.Time.Compare)
	times = slices.CompactFunc(times, time.Time.Equal)
	if len(times) == 0 {
		return
	}
	d := axis{name: "message.sent_at", ordered: true}
	d.values = append(d.values, value{put: func(s *Domain) { s.in.SentAt = times[0].Add(-time.Hour) }})
	for _, t := range times {
		v := value{put: func(s *Domain) { s.in.SentAt = t }}
		// Each time that a rule names is followed by the next nanosecond.
		if base := t.Add(-1); slices.ContainsFunc(times, base.Equal) {
			v.from, v.to = "after "+base.Format(time.RFC3339Nano), "up to "+base.Format(time.RFC3339Nano)
		} else {
			v.from, v.to = "from "+t.Format(time.RFC3339Nano), "before "+t.Format(time.RFC3339Nano)
		}
		d.values = append(d.values, v)
	}
	s.add(d)
}

func (s *Domain) addAges(ages []time.Duration) {
	ages = append([]time.Duration{0}, ages...)
	slices.Sort(ages)
	ages = slices.Compact(ages)
	d := axis{name: "message.age", ordered: true}
	for _, age := range ages {
		v := value{put: func(s *Domain) {
			s.age = age
			s.in.RequestedAt = s.in.SentAt.Add(age)
		}}
		switch {
		case age == 0:
		case (age-1)%time.Millisecond == 0: // one nanosecond after an age that a rule names
			v.from, v.to = "over "+policy.FormatDuration(age-1), "up to "+policy.FormatDuration(age-1)
		default:
			v.from, v.to = "from "+policy.FormatDuration(age), "under "+policy.FormatDuration(age)
		}
		d.values = append(d.values, v)
	}
	s.add(d)
}

// Tractable reports whether a proof over the domain takes a few seconds at most.
func (s *Domain) Tractable() bool {
	return s.size <= MaxInputs && s.size <= maxProofWork/(s.questions/questionsPerRule+1)
}

// walk calls visit for every input of the domain until it returns false. It modifies and passes the same input each
// time.
func (s *Domain) walk(visit func(in *policy.Input, at []int) bool) {
	at := make([]int, len(s.axes))
	for i := range s.axes {
		s.axes[i].values[0].put(s)
	}
	for visit(&s.in, at) {
		i := len(at) - 1
		for ; i >= 0; i-- {
			if at[i]++; at[i] < len(s.axes[i].values) {
				break
			}
			at[i] = 0
		}
		if i < 0 {
			return
		}
		for ; i < len(at); i++ {
			s.axes[i].values[at[i]].put(s)
		}
	}
}

// describe describes some values of an axis, in terms of the rule language.
func (d *axis) describe(values []int) string {
	if d.ordered {
		return d.describeRanges(values)
	}
	all := func(is bool) bool {
		n := 0
		for i, v := range d.values {
			if v.is != is && slices.Contains(values, i) {
				return false
			}
			if v.is == is {
				n++
			}
		}
		return n == len(values)
	}
	if d.name == "actor" {
		switch {
		case all(true):
			return "actor is the sender"
		case all(false):
			return "actor is not the sender"
		}
	}
	var in, out []string
	for i, v := range d.values {
		if slices.Contains(values, i) {
			in = append(in, v.text)
		} else {
			out = append(out, v.text)
		}
	}
	is, isNot := joinSome(in), joinSome(out)
	switch {
	case strings.HasSuffix(d.name, ".labels"):
		return d.name + " " + is
	case len(isNot) < len(is) && d.name != "actor" && !slices.Contains(out, otherText):
		return d.name + " is not " + isNot
	}
	return d.name + " is " + is
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

func (d *axis) describeRanges(values []int) string {
	var ranges []string
	for i := 0; i < len(values); {
		j := i
		for j+1 < len(values) && values[j+1] == values[j]+1 {
			j++
		}
		var ends []string
		if from := d.values[values[i]].from; from != "" {
			ends = append(ends, from)
		}
		if next := values[j] + 1; next < len(d.values) {
			ends = append(ends, d.values[next].to)
		}
		if len(ends) == 2 && strings.TrimPrefix(ends[0], "from ") == strings.TrimPrefix(ends[1], "up to ") {
			ends = []string{"exactly " + strings.TrimPrefix(ends[0], "from ")}
		}
		ranges = append(ranges, strings.Join(ends, " and "))
		i = j + 1
	}
	return d.name + " is " + strings.Join(ranges, ", or ")
}
