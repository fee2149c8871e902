package index

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

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

// since refuses what an older format does not have.
func (r *opReader) since(format int) {
	if r.format < format {
		r.fail(ErrNewer)
	}
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
		case f.Enum() != nil && f.IsList():
			for i := range v.List().Len() {
				found = found || f.Enum().Values().ByNumber(v.List().Get(i).Enum()) == nil
			}
		case f.Enum() != nil:
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
		case 11<<3 | textField:
			r.since(3)
			m.Relations = append(m.Relations, f.relation())
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

// relation reads a relation of a record.
func (r *opReader) relation() (out shared.Relation) {
	f := opReader{s: r.bytes(), copies: r.copies}
	for f.s != "" {
		switch tag := f.number(); tag {
		case 1<<3 | varintField:
			out.Kind = relationKinds.word[indexpb.RelationKind(f.limited(math.MaxInt32))]
		case 2<<3 | textField:
			out.MessageID = f.text()
		default:
			f.fail(ErrNewer)
		}
	}
	if f.err == nil && out.Kind == "" {
		f.err = ErrNewer
	}
	if f.err != nil {
		r.fail(f.err)
	}
	return out
}

func (r *opReader) waited() []Waited {
	n := r.count()
	if n == 0 {
		return nil
	}
	list := make([]Waited, n)
	for i := range list {
		list[i].RecallID, list[i].RequestedAt = r.text(), int64(r.number())
		if r.flags(0, 0, 1)&1 == 0 {
			list[i].End = r.endWait()
		} else if r.byte() == codeRecall {
			list[i].Recall = r.recall()
		} else {
			r.fail(ErrNewer)
		}
		if r.err != nil {
			return nil
		}
	}
	return list
}

func (r *opReader) late() *Late {
	if r.flags(0, 0, 1) == 0 {
		return nil
	}
	l := &Late{UpTo: r.number(), Originals: r.number()}
	for range r.count() {
		l.Stays = append(l.Stays, r.number())
	}
	return l
}

func (r *opReader) endWait() *EndWait {
	e := &EndWait{Tenant: r.text(), MessageID: r.text(), RecallID: r.text()}
	state := indexpb.WaitState(r.limited(math.MaxInt32))
	if e.State = waitStates.word[state]; e.State == "" && state != 0 {
		r.fail(ErrNewer)
	}
	e.Code, e.Rule.Name, e.Rule.File = shared.Code(r.text()), r.text(), r.text()
	e.Rule.Line, e.At = int(r.limited(math.MaxInt32)), int64(r.number())
	return e
}

// with reads related messages of a tenant.
func (r *opReader) with(tenant string) []With {
	n := r.count()
	if n > shared.MaxRelated { // before they take memory: a With takes more than a hundred times its least size here
		r.fail(ErrNewer)
	}
	if n == 0 || r.err != nil {
		return nil
	}
	list := make([]With, n)
	for i := range list {
		w := &list[i]
		if w.Kind = relationKinds.word[indexpb.RelationKind(r.limited(math.MaxInt32))]; w.Kind == "" {
			r.fail(ErrNewer)
			return nil
		}
		var id string
		w.To, id = r.text(), r.text()
		w.Stays = r.flags(0, 0, 1)&1 != 0
		w.Originals = r.number()
		w.Message = r.record(r.bytes(), tenant, id)
	}
	return list
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
	flags := r.flags(1, 1, 2)
	out := &Recall{Atomic: flags&1 != 0, Known: flags&8 != 0}
	m := r.record(r.bytes(), tenant, id)
	var entry indexpb.Entry
	r.message(&entry)
	if flags&2 != 0 {
		out.Spend = r.spend()
	}
	if flags&4 != 0 {
		out.Cascade = Kinds(r.limited(math.MaxUint8))
		if out.Cascade>>len(relationKinds.word) > 1 {
			r.fail(ErrNewer)
		}
		out.Originals = r.number()
		out.With = r.with(tenant)
	}
	out.Event = decodeEvent(recallID, m, &entry)
	if out.Event.JobID != "" {
		r.since(3)
	}
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

func (r *opReader) forget() *Forget {
	f := &Forget{What: shared.ForgetRequest{Tenant: r.text(), Sender: r.text()}}
	conversation := r.text()
	kind := indexpb.ConversationType(r.limited(math.MaxInt32))
	if f.What.Conversation = (shared.Conversation{Type: conversationTypes.word[kind], ID: conversation}); kind != 0 &&
		f.What.Conversation.Type == "" {
		r.fail(ErrNewer)
	}
	f.What.Before = decodeTime(int64(r.number()))
	flags := r.flags(0, 0, 2)
	f.Expire, f.EndPass = flags&1 != 0, flags&2 != 0
	if key := r.bytes(); key != "" {
		f.Key = []byte(key)
	}
	f.Position = r.number()
	f.Messages, f.Replace = r.some(), r.some()
	f.Pass, f.Next.Position, f.Next.Offset = r.number(), r.number(), int(r.limited(math.MaxInt32))
	f.Waits = int(r.limited(math.MaxInt32))
	f.After = r.text()
	return f
}

// some reads texts; none are nil.
func (r *opReader) some() []string {
	if list := r.texts(); len(list) > 0 {
		return list
	}
	return nil
}
