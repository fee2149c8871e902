package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// The formats of operations in a log that this package reads and writes. Anything added to an operation is a new
// format, because a node must not apply half of one. Format 2 added what a recall spends of a limit, and when a node
// was found to be gone. Format 1 leaves them out.
const (
	OldestOpFormat = 1
	OpFormat       = 2
)

// ErrNewer says that a log has something that this version does not know.
var ErrNewer = errors.New("written by a newer version")

// errCut says that an operation ends within a field.
var errCut = fmt.Errorf("%w: an operation of the log ends within a field", ErrCorrupt)

// The first byte of an operation in a log.
const (
	codePut byte = iota + 1
	codeAmend
	codeRecall
	codeSettle
	codeUngate
	codeJoin
	codeLeave
)

// AppendOp appends an operation that passed [CheckOps] in one of the formats of a log. A Settle without an attempt has
// none there either.
func AppendOp(b []byte, op *Op, format int) ([]byte, error) {
	w := opWriter{b: b, format: format}
	switch {
	case op.Put != nil:
		m := normal(*op.Put)
		w.code(codePut)
		w.text(m.Tenant, m.ID)
		w.record(&m)
	case op.Amend != nil:
		w.amend(op.Amend)
	case op.Recall != nil:
		w.recall(op.Recall)
	case op.Settle != nil:
		s := op.Settle
		w.code(codeSettle)
		w.number(s.Sequence, uint64(s.Attempt), uint64(outcomes.number[s.Outcome]), uint64(encodeTime(s.At)))
		w.text(s.Step, s.Node, s.Error)
	case op.Ungate != nil:
		w.code(codeUngate)
		w.number(op.Ungate.Sequence)
	case op.Join != nil:
		w.code(codeJoin)
		m := &op.Join.Member
		w.text(m.Node)
		w.message(encodeMember(&Member{
			Instance: m.Instance, Steps: m.Steps, EachNode: m.EachNode, Format: m.Format, Version: m.Version,
		}))
		w.number(op.Join.After)
	case op.Leave != nil:
		w.code(codeLeave)
		w.text(op.Leave.Node)
		w.number(op.Leave.Epoch)
		at := op.Leave.At
		if format < 2 {
			at = time.Time{}
		}
		w.flags(op.Leave.Forget, !at.IsZero())
		if !at.IsZero() {
			w.number(uint64(encodeTime(at)))
		}
	}
	return w.b, w.err
}

// ReadOp reads an operation that AppendOp wrote in a format, and returns what follows it. It fails with [ErrNewer] or
// [ErrCorrupt]: what a format does not have is newer in every version, or one would apply it and another one not. The
// operation is still to be checked with [CheckOps]. The texts of a Put are parts of s.
func ReadOp(s string, format int) (op Op, rest string, err error) {
	r := opReader{s: s, format: format}
	code := r.byte()
	r.copies = code != codePut
	switch code {
	case codePut:
		tenant, id := r.text(), r.text()
		op.record = r.bytes()
		m := r.record(op.record, tenant, id)
		op.Put = &m
	case codeAmend:
		op.Amend = r.amend()
	case codeRecall:
		op.Recall = r.recall()
	case codeSettle:
		s := &Settle{Sequence: r.number(), Attempt: int(r.limited(math.MaxInt32))}
		s.Outcome = outcomes.word[indexpb.Outcome(r.limited(math.MaxInt32))]
		if s.Outcome == "" {
			r.fail(ErrNewer)
		}
		s.At = decodeTime(int64(r.number()))
		s.Step, s.Node, s.Error = r.text(), r.text(), r.text()
		op.Settle = s
	case codeUngate:
		op.Ungate = &Ungate{Sequence: r.number()}
	case codeJoin:
		node := r.text()
		var pb indexpb.Member
		r.message(&pb)
		op.Join = &Join{Member: *decodeMember(node, &pb), After: r.number()}
	case codeLeave:
		op.Leave = &Leave{Node: r.text(), Epoch: r.number()}
		flags := r.flags(1, 1)
		op.Leave.Forget = flags&1 != 0
		if flags&2 != 0 {
			op.Leave.At = decodeTime(int64(r.number()))
		}
	default:
		r.fail(ErrNewer)
	}
	return op, r.s, r.err
}

// opWriter writes an operation in a format, and keeps the first error.
type opWriter struct {
	b      []byte
	format int
	err    error
}

func (w *opWriter) code(c byte) { w.b = append(w.b, c) }

func (w *opWriter) number(all ...uint64) {
	for _, n := range all {
		w.b = binary.AppendUvarint(w.b, n)
	}
}

func (w *opWriter) text(all ...string) {
	for _, s := range all {
		if w.err == nil && !utf8.ValidString(s) { // no node could write it into its index
			w.err = shared.Invalidf("operation", "has a text that is not UTF-8: %.40q", s)
		}
		w.b = append(binary.AppendUvarint(w.b, uint64(len(s))), s...)
	}
}

func (w *opWriter) texts(list []string) {
	w.number(uint64(len(list)))
	w.text(list...)
}

// flags writes a byte of at most eight flags.
func (w *opWriter) flags(set ...bool) {
	b := byte(0)
	for i, is := range set {
		if is {
			b |= 1 << i
		}
	}
	w.b = append(w.b, b)
}

func (w *opWriter) bytes(b []byte, err error) {
	if w.err == nil {
		w.err = err
	}
	w.b = append(binary.AppendUvarint(w.b, uint64(len(b))), b...)
}

func (w *opWriter) message(m proto.Message) { w.bytes(encode(m)) }

// record writes the facts of a message as its record has them.
func (w *opWriter) record(m *shared.Message) { w.bytes(encodeNew(m)) }

func (w *opWriter) attachments(list []shared.Attachment) {
	w.number(uint64(len(list)))
	for _, a := range list {
		w.text(a.Key, a.Owner)
	}
}

func (w *opWriter) amend(a *shared.Amendment) {
	w.code(codeAmend)
	w.text(a.Tenant, a.MessageID)
	w.flags(a.Conversation != nil, a.Attachments != nil, a.Labels != nil, a.Ref != nil)
	if c := a.Conversation; c != nil {
		w.number(uint64(conversationTypes.number[c.Type]))
		w.text(c.ID)
	}
	if a.Attachments != nil {
		w.attachments(a.Attachments)
	}
	if a.Labels != nil {
		w.texts(a.Labels)
	}
	if a.Ref != nil {
		w.text(*a.Ref)
	}
}

func (w *opWriter) recall(r *Recall) {
	m := normal(r.Event.Message)
	event := r.Event
	event.Sequence, event.Attachments = 0, nil // set when it is applied
	entry := encodeEntry(&event)
	for _, step := range r.Steps {
		s := &indexpb.Step{Name: step, After: r.After[step]}
		if slices.Contains(r.Unsupported, step) {
			s.Outcome = indexpb.Outcome_OUTCOME_UNSUPPORTED
		}
		entry.Steps = append(entry.Steps, s)
	}
	w.code(codeRecall)
	w.text(m.Tenant, m.ID, event.RecallID)
	spend := r.Spend
	if w.format < 2 {
		spend = nil
	}
	w.flags(r.Atomic, spend != nil)
	w.record(&m)
	w.message(entry)
	if spend != nil {
		w.bytes(spend.Limit[:], nil)
		w.number(uint64(encodeTime(spend.At)), uint64(spend.Waited.Microseconds()), uint64(spend.Kept.Microseconds()))
	}
}

// opReader reads an operation, and keeps the first error. After an error it reads nothing more.
type opReader struct {
	s      string
	format int
	copies bool // texts are copied: they may be kept for longer than the entry
	err    error
}

func (r *opReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.s = ""
}

func (r *opReader) byte() byte {
	if r.s == "" {
		r.fail(errCut)
		return 0
	}
	c := r.s[0]
	r.s = r.s[1:]
	return c
}

func (r *opReader) number() uint64 {
	n, size := Uvarint(r.s)
	if size <= 0 {
		r.fail(errCut)
		return 0
	}
	r.s = r.s[size:]
	return n
}

// Uvarint is binary.Uvarint of a text.
func Uvarint(s string) (n uint64, size int) {
	for i := range min(len(s), binary.MaxVarintLen64) {
		if c := s[i]; c < 0x80 {
			if i == binary.MaxVarintLen64-1 && c > 1 {
				break
			}
			return n | uint64(c)<<(7*i), i + 1
		}
		n |= uint64(s[i]&0x7f) << (7 * i)
	}
	return 0, 0
}

// limited reads a number that is at most most.
func (r *opReader) limited(most uint64) uint64 {
	n := r.number()
	if n > most {
		r.fail(ErrNewer)
		return 0
	}
	return n
}

// flags reads as many flags as each format has added up to the one that is read; what has more of them is newer.
func (r *opReader) flags(added ...int) byte {
	b, count := r.byte(), 0
	for _, n := range added[:min(r.format, len(added))] {
		count += n
	}
	if b>>count != 0 {
		r.fail(ErrNewer)
	}
	return b
}

func (r *opReader) bytes() string {
	size := r.number()
	if size > uint64(len(r.s)) {
		r.fail(errCut)
		return ""
	}
	s := r.s[:size]
	r.s = r.s[size:]
	return s
}

func (r *opReader) text() string {
	s := r.bytes()
	if !utf8.ValidString(s) {
		r.fail(fmt.Errorf("%w: an operation of the log has a text that is not UTF-8", ErrCorrupt))
	}
	if r.copies {
		s = strings.Clone(s)
	}
	return s
}

// count reads how many elements follow, each of at least one byte.
func (r *opReader) count() int {
	n := r.number()
	if n > uint64(len(r.s)) {
		r.fail(errCut)
		return 0
	}
	return int(n)
}

func (r *opReader) texts() []string {
	list := make([]string, r.count())
	for i := range list {
		list[i] = r.text()
	}
	return list
}

func (r *opReader) attachments() []shared.Attachment {
	list := make([]shared.Attachment, r.count())
	for i := range list {
		list[i] = shared.Attachment{Key: r.text(), Owner: r.text()}
	}
	return list
}

// message reads a message that must not have anything that this version does not know.
func (r *opReader) message(into proto.Message) {
	data := r.bytes()
	if r.err != nil {
		return
	}
	if err := proto.Unmarshal([]byte(data), into); err != nil {
		r.fail(fmt.Errorf("%w: an operation of the log: %w", ErrCorrupt, err))
	} else if hasUnknown(into.ProtoReflect()) {
		r.fail(ErrNewer)
	}
}

// hasUnknown reports whether a message has a field or a value of an enum that this version does not know.
func hasUnknown(m protoreflect.Message) bool {
	found := len(m.GetUnknown()) > 0
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap(): // of texts
		case f.Enum() != nil && !f.IsList():
			found = found || f.Enum().Values().ByNumber(v.Enum()) == nil
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				found = found || hasUnknown(v.List().Get(i).Message())
			}
		default:
			found = found || hasUnknown(v.Message())
		}
		return !found
	})
	return found
}

// record reads the facts of a message from its record. It does what message does, by hand: it is done for every
// message.
func (r *opReader) record(data, tenant, id string) shared.Message {
	m := shared.Message{Tenant: tenant, ID: id}
	var keys, owners []string
	f := opReader{s: data, copies: r.copies}
	for f.s != "" {
		switch tag := f.number(); tag {
		case 1<<3 | varintField:
			m.Conversation.Type = conversationTypes.word[indexpb.ConversationType(f.limited(math.MaxInt32))]
		case 2<<3 | textField:
			m.Conversation.ID = f.text()
		case 3<<3 | textField:
			m.Sender = f.text()
		case 4<<3 | varintField:
			m.Type = messageTypes.word[indexpb.MessageType(f.limited(math.MaxInt32))]
		case 5<<3 | varintField:
			m.SentAt = decodeTime(int64(f.number()))
		case 6<<3 | textField:
			keys = append(keys, f.text())
		case 7<<3 | textField:
			m.Labels = append(m.Labels, f.text())
		case 9<<3 | textField:
			m.Ref = f.text()
		case 10<<3 | textField:
			owners = append(owners, f.text())
		default: // a tombstone has no place in a message
			f.fail(ErrNewer)
		}
	}
	if f.err == nil && (m.Conversation.Type == "" || m.Type == "") {
		f.err = ErrNewer
	}
	if f.err != nil && r.err == nil {
		r.fail(f.err)
	}
	m.Attachments = joinAttachments(keys, owners)
	return m
}

// The types of fields in protobuf's wire format.
const (
	varintField = 0
	textField   = 2
)

func (r *opReader) amend() *shared.Amendment {
	a := &shared.Amendment{Tenant: r.text(), MessageID: r.text()}
	has := r.flags(4)
	if has&1 != 0 {
		c := &shared.Conversation{}
		c.Type = conversationTypes.word[indexpb.ConversationType(r.limited(math.MaxInt32))]
		if c.Type == "" {
			r.fail(ErrNewer)
		}
		c.ID = r.text()
		a.Conversation = c
	}
	if has&2 != 0 {
		a.Attachments = r.attachments()
	}
	if has&4 != 0 {
		a.Labels = r.texts()
	}
	if has&8 != 0 {
		ref := r.text()
		a.Ref = &ref
	}
	return a
}

func (r *opReader) recall() *Recall {
	tenant, id, recallID := r.text(), r.text(), r.text()
	flags := r.flags(1, 1)
	out := &Recall{Atomic: flags&1 != 0}
	m := r.record(r.bytes(), tenant, id)
	var entry indexpb.Entry
	r.message(&entry)
	if flags&2 != 0 {
		out.Spend = r.spend()
	}
	out.Event = decodeEvent(recallID, m, &entry)
	for _, s := range entry.Steps {
		out.Steps = append(out.Steps, s.Name)
		if len(s.After) > 0 {
			if out.After == nil {
				out.After = map[string][]string{}
			}
			out.After[s.Name] = s.After
		}
		switch s.Outcome {
		case indexpb.Outcome_OUTCOME_UNSPECIFIED:
		case indexpb.Outcome_OUTCOME_UNSUPPORTED:
			out.Unsupported = append(out.Unsupported, s.Name)
		default:
			r.fail(ErrNewer)
		}
	}
	return out
}

func (r *opReader) spend() *Spend {
	limit, s := r.bytes(), &Spend{}
	if copy(s.Limit[:], limit) != len(s.Limit) || len(limit) > len(s.Limit) {
		r.fail(fmt.Errorf("%w: an operation of the log has a limit of %d bytes", ErrCorrupt, len(limit)))
	}
	s.At = decodeTime(int64(r.number()))
	s.Waited, s.Kept = r.duration(), r.duration()
	return s
}

// duration reads microseconds.
func (r *opReader) duration() time.Duration {
	return time.Duration(r.limited(math.MaxInt64/uint64(time.Microsecond))) * time.Microsecond
}
