package index

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// opWriter writes an operation in a format, and keeps the first error.
type opWriter struct {
	b      []byte
	format int
	err    error
}

// since refuses a format that is older than what is written.
func (w *opWriter) since(format int) {
	if w.err == nil && w.format < format {
		w.err = ErrOlderNodes
	}
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
func (w *opWriter) record(m *shared.Message) {
	if len(m.Relations) > 0 {
		w.since(3)
	}
	w.bytes(encodeNew(m))
}

func (w *opWriter) waited(list []Waited) {
	w.number(uint64(len(list)))
	for i := range list {
		w.text(list[i].RecallID)
		w.number(uint64(list[i].RequestedAt))
		w.flags(list[i].Recall != nil)
		if list[i].Recall != nil {
			w.recall(list[i].Recall)
		} else {
			w.endWait(list[i].End)
		}
	}
}

func (w *opWriter) late(l *Late) {
	w.flags(l != nil)
	if l != nil {
		w.number(l.UpTo, l.Originals, uint64(len(l.Stays)))
		w.number(l.Stays...)
	}
}

func (w *opWriter) endWait(e *EndWait) {
	w.text(e.Tenant, e.MessageID, e.RecallID)
	w.number(uint64(waitStates.number[e.State]))
	w.text(string(e.Code), e.Rule.Name, e.Rule.File)
	w.number(uint64(e.Rule.Line), uint64(e.At))
}

func (w *opWriter) with(list []With) {
	w.number(uint64(len(list)))
	for i := range list {
		m := normal(list[i].Message)
		w.number(uint64(relationKinds.number[list[i].Kind]))
		w.text(list[i].To, m.ID)
		w.flags(list[i].Stays)
		w.number(list[i].Originals)
		w.record(&m)
	}
}

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
	if event.JobID != "" {
		w.since(3)
	}
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
	// As long as a node has an older version, no message has a relation, and what would be recalled with it is none.
	relates := w.format >= 3 && r.Cascade != 0
	if len(r.With) > 0 || r.Originals > 0 {
		w.since(3)
		relates = true
	}
	known := w.format >= 3 && r.Known // as long as a node has an older version, nothing is erased
	w.flags(r.Atomic, spend != nil, relates, known)
	w.record(&m)
	w.message(entry)
	if spend != nil {
		w.bytes(spend.Limit[:], nil)
		w.number(uint64(encodeTime(spend.At)), uint64(spend.Waited.Microseconds()), uint64(spend.Kept.Microseconds()))
	}
	if relates {
		w.number(uint64(r.Cascade), r.Originals)
		w.with(r.With)
	}
}

func (w *opWriter) forget(f *Forget) {
	w.text(f.What.Tenant, f.What.Sender, f.What.Conversation.ID)
	w.number(uint64(conversationTypes.number[f.What.Conversation.Type]), uint64(encodeTime(f.What.Before)))
	w.flags(f.Expire, f.EndPass)
	w.bytes(f.Key, nil)
	w.number(f.Position)
	w.texts(f.Messages)
	w.texts(f.Replace)
	w.number(f.Pass, f.Next.Position, uint64(f.Next.Offset), uint64(f.Waits))
	w.text(f.After)
}
