package api

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// render appends the JSON of the protobuf of a response, as toJSON writes it. That takes a quarter of the time. ok is
// false if the response has a field of a kind that render does not know, or is not encoded as this process encodes;
// toJSON then writes it.
func render(text, data []byte, response protoreflect.MessageDescriptor) (_ []byte, ok bool) {
	l := layoutOf(response)
	if !l.known {
		return nil, false
	}
	return l.render(text, data)
}

// maxSlots bounds the fields of a message that render knows, and their numbers.
const maxSlots = 48

// A layout is what render knows about a message.
type layout struct {
	known bool // all of its fields, however deep
	slots []slot
	by    [maxSlots]uint8 // the slot of each field number, from 1; 0: none
}

// A slot is a field in the order of the file.
type slot struct {
	name     string // with quotes and colon
	kind     slotKind
	list     bool
	optional bool // left out if it is not set, as messages are
	message  *layout
}

type slotKind uint8

const (
	slotText slotKind = iota
	slotFlag
	slotNumber
	slotMessage
	slotTime
	slotDuration
	slotTexts // map<string, string>
)

var layouts sync.Map // of *layout by protoreflect.FullName

func layoutOf(m protoreflect.MessageDescriptor) *layout {
	if l, ok := layouts.Load(m.FullName()); ok {
		return l.(*layout)
	}
	l, _ := layouts.LoadOrStore(m.FullName(), newLayout(m, map[protoreflect.FullName]bool{}))
	return l.(*layout)
}

// newLayout builds the layout of a message that is in none of those above it.
func newLayout(m protoreflect.MessageDescriptor, above map[protoreflect.FullName]bool) *layout {
	l := &layout{known: m.Fields().Len() < maxSlots && !above[m.FullName()]}
	if !l.known {
		return l
	}
	above[m.FullName()] = true
	defer delete(above, m.FullName())
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		s := slot{name: strconv.Quote(string(f.Name())) + ":", list: f.IsList(), optional: f.HasPresence()}
		known := f.Number() < maxSlots && (f.ContainingOneof() == nil || f.ContainingOneof().IsSynthetic())
		switch {
		case f.IsMap():
			s.kind = slotTexts
			known = known && f.MapKey().Kind() == protoreflect.StringKind && f.MapValue().Kind() == protoreflect.StringKind
		case f.Kind() == protoreflect.StringKind:
			s.kind = slotText
		case f.Kind() == protoreflect.BoolKind:
			s.kind = slotFlag
			known = known && !s.list
		case f.Kind() == protoreflect.Int32Kind:
			s.kind = slotNumber
			known = known && !s.list
		case f.Message() != nil && f.Message().FullName() == "google.protobuf.Timestamp":
			s.kind = slotTime
		case f.Message() != nil && f.Message().FullName() == "google.protobuf.Duration":
			s.kind = slotDuration
		case f.Message() != nil && f.Message().ParentFile().Package() != "google.protobuf":
			s.kind, s.message = slotMessage, newLayout(f.Message(), above)
			known = known && s.message.known
		default:
			known = false
		}
		if !known {
			l.known = false
			return l
		}
		l.slots = append(l.slots, s)
		l.by[f.Number()] = uint8(len(l.slots))
	}
	return l
}

// render appends a JSON object.
func (l *layout) render(text, data []byte) (_ []byte, ok bool) {
	var from, to [maxSlots]int // of the entries of each slot in data, which are side by side
	for at, last := 0, uint8(0); at < len(data); {
		number, kind, n := protowire.ConsumeTag(data[at:])
		if n < 0 || number >= maxSlots || l.by[number] == 0 {
			return nil, false
		}
		size := protowire.ConsumeFieldValue(number, kind, data[at+n:])
		i := l.by[number]
		if size < 0 || to[i-1] != 0 && (last != i || !l.slots[i-1].list && l.slots[i-1].kind != slotTexts) {
			return nil, false
		}
		if to[i-1] == 0 {
			from[i-1] = at
		}
		at += n + size
		to[i-1], last = at, i
	}
	text = append(text, '{')
	first := true
	for i := range l.slots {
		s := &l.slots[i]
		entries := data[from[i]:to[i]]
		if s.optional && len(entries) == 0 {
			continue
		}
		if !first {
			text = append(text, ',')
		}
		first = false
		text = append(text, s.name...)
		switch {
		case s.kind == slotTexts:
			text, ok = renderTexts(text, entries), true
		case s.list:
			text, ok = s.renderList(text, entries)
		default:
			text, ok = s.renderValue(text, value(entries))
		}
		if !ok {
			return nil, false
		}
	}
	return append(text, '}'), true
}

// value is the value of the first entry: without its tag, and of bytes without their length.
func value(entries []byte) []byte {
	if len(entries) == 0 {
		return nil
	}
	_, kind, n := protowire.ConsumeTag(entries)
	entries = entries[n:]
	if kind == protowire.BytesType {
		v, _ := protowire.ConsumeBytes(entries)
		return v
	}
	return entries
}

func (s *slot) renderList(text, entries []byte) (_ []byte, ok bool) {
	text = append(text, '[')
	for first := true; len(entries) > 0; first = false {
		if !first {
			text = append(text, ',')
		}
		if text, ok = s.renderValue(text, value(entries)); !ok {
			return nil, false
		}
		_, _, n := protowire.ConsumeField(entries)
		entries = entries[n:]
	}
	return append(text, ']'), true
}

func (s *slot) renderValue(text, v []byte) (_ []byte, ok bool) {
	switch s.kind {
	case slotFlag:
		n, _ := protowire.ConsumeVarint(v)
		return strconv.AppendBool(text, n != 0), true
	case slotNumber:
		n, _ := protowire.ConsumeVarint(v)
		return strconv.AppendInt(text, int64(int32(n)), 10), true
	case slotMessage:
		return s.message.render(text, v)
	case slotTime, slotDuration:
		seconds, nanos, ok := secondsAndNanos(v)
		if !ok {
			return nil, false
		}
		if s.kind == slotTime {
			return renderTime(text, seconds, nanos)
		}
		return renderDuration(text, seconds, nanos)
	default:
		return renderText(text, v), true
	}
}

// renderTexts appends a map in the order of its keys.
func renderTexts(text, entries []byte) []byte {
	type pair struct{ key, value []byte }
	var pairs []pair
	for len(entries) > 0 {
		var p pair
		for entry := value(entries); len(entry) > 0; {
			number, _, n := protowire.ConsumeField(entry)
			if number == 1 {
				p.key = value(entry)
			} else {
				p.value = value(entry)
			}
			entry = entry[n:]
		}
		pairs = append(pairs, p)
		_, _, n := protowire.ConsumeField(entries)
		entries = entries[n:]
	}
	slices.SortFunc(pairs, func(a, b pair) int { return slices.Compare(a.key, b.key) })
	text = append(text, '{')
	for i, p := range pairs {
		if i > 0 {
			text = append(text, ',')
		}
		text = renderText(text, p.key)
		text = renderText(append(text, ':'), p.value)
	}
	return append(text, '}')
}

// renderText appends a string with the escapes of protojson. The encoder has refused what is not UTF-8.
func renderText(text, v []byte) []byte {
	text = append(text, '"')
	start := 0
	for i, c := range v {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		text = append(text, v[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			text = append(text, '\\', c)
		case '\b':
			text = append(text, `\b`...)
		case '\f':
			text = append(text, `\f`...)
		case '\n':
			text = append(text, `\n`...)
		case '\r':
			text = append(text, `\r`...)
		case '\t':
			text = append(text, `\t`...)
		default:
			const digits = "0123456789abcdef"
			text = append(text, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(append(text, v[start:]...), '"')
}

// secondsAndNanos reads a Timestamp or a Duration.
func secondsAndNanos(v []byte) (seconds int64, nanos int32, ok bool) {
	for len(v) > 0 {
		number, kind, n := protowire.ConsumeTag(v)
		if n < 0 || kind != protowire.VarintType {
			return 0, 0, false
		}
		value, size := protowire.ConsumeVarint(v[n:])
		if size < 0 {
			return 0, 0, false
		}
		if number == 1 {
			seconds = int64(value)
		} else {
			nanos = int32(value)
		}
		v = v[n+size:]
	}
	return seconds, nanos, true
}

func renderTime(text []byte, seconds int64, nanos int32) (_ []byte, ok bool) {
	const first, last = -62135596800, 253402300799 // of the years 1 and 9999
	if seconds < first || seconds > last || nanos < 0 || nanos > 999999999 {
		return nil, false
	}
	text = time.Unix(seconds, 0).UTC().AppendFormat(append(text, '"'), "2006-01-02T15:04:05")
	return append(renderFraction(text, nanos), 'Z', '"'), true
}

func renderDuration(text []byte, seconds int64, nanos int32) (_ []byte, ok bool) {
	const most = 315576000000 // as Duration says
	if seconds < -most || seconds > most || nanos < -999999999 || nanos > 999999999 ||
		seconds > 0 && nanos < 0 || seconds < 0 && nanos > 0 {
		return nil, false
	}
	text = append(text, '"')
	if seconds < 0 || nanos < 0 {
		text, seconds, nanos = append(text, '-'), -seconds, -nanos
	}
	text = strconv.AppendInt(text, seconds, 10)
	return append(renderFraction(text, nanos), 's', '"'), true
}

// renderFraction appends no digits, three, six or nine.
func renderFraction(text []byte, nanos int32) []byte {
	if nanos == 0 {
		return text
	}
	digits := strconv.AppendInt(make([]byte, 0, 10), int64(nanos)+1_000_000_000, 10)[1:]
	for len(digits) > 3 && string(digits[len(digits)-3:]) == "000" {
		digits = digits[:len(digits)-3]
	}
	return append(append(text, '.'), digits...)
}
