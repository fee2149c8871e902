package index

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/chat-recall/recall/shared"
)

// maxOpBytes bounds the writes of one operation, which must fit one transaction. It is above what the limits of
// package shared allow: two messages that are recalled together, each with 100 attachments of 2 KiB in keys with a
// tenant and an id too, and in a ledger entry.
const maxOpBytes = 2 << 20

// maxRecordBytes is about what the record of one message takes at most.
const maxRecordBytes = shared.MaxAttachments*(shared.MaxAttachmentBytes+shared.MaxIDBytes) +
	shared.MaxLabels*shared.MaxLabelBytes + 8*shared.MaxIDBytes + shared.MaxRefBytes +
	shared.MaxRelations*shared.MaxIDBytes

// maxWaitBytes is about what a waiting recall takes at most.
const maxWaitBytes = shared.MaxExtBytes + shared.MaxReasonBytes + 2*shared.MaxLabels*shared.MaxLabelBytes +
	8*shared.MaxIDBytes

// lateBytes stands for the recall of a message that relates to one that is recalled already. Most do not. If all of an
// entry of 256 KiB do, they write at most 128 KiB each, which fits in one transaction of 2.4 MB.
const lateBytes = 16 << 10

// Bytes is about what an operation writes.
func (op *Op) Bytes() int {
	switch {
	case op.Put != nil:
		n := messageBytes(op.Put)
		if len(op.Put.Relations) > 0 {
			n += lateBytes
		}
		for _, x := range op.waited() {
			if r := x.Recall; r != nil { // it writes the message, too
				n = max(n, (&Op{Recall: r}).Bytes())
			}
			n += maxWaitBytes // it is written again if it was refused
		}
		return n
	case op.Amend != nil:
		a := op.Amend
		m := shared.Message{Tenant: a.Tenant, ID: a.MessageID, Attachments: a.Attachments, Labels: a.Labels}
		return messageBytes(&m) + maxRecordBytes // the facts that stay are written again
	case op.Recall != nil:
		e := &op.Recall.Event
		n := messageBytes(&e.Message) + len(e.RecallID)*5 + len(e.Actor.ID)*3 + len(e.Tenant)*4 + len(e.Message.ID)*3 +
			len(e.Ext) + len(e.Reason) + len(e.Rule.Name) + len(e.Rule.File) + len(e.PolicyDigest) + 512
		for _, a := range e.Message.Attachments {
			n += len(a.Key) // again, in the ledger
		}
		for _, l := range e.Actor.Labels {
			n += len(l) + 2
		}
		for language, text := range e.Placeholder {
			n += len(language) + len(text) + 8
		}
		for _, s := range op.Recall.Steps {
			n += 2*len(s) + 64
			for _, a := range op.Recall.After[s] {
				n += len(a) + 2
			}
		}
		for i := range e.Related {
			n += relatedBytes(&e.Related[i])
		}
		own := n - messageBytes(&e.Message)
		for i := range op.Recall.With {
			n += op.Recall.With[i].bytes(own)
		}
		return n
	case op.Cascade != nil:
		return maxOpBytes // it is bounded by maxWithBytes, see With.bytes
	case op.Settle != nil:
		return 512 + len(op.Settle.Error)
	case op.Ungate != nil:
		return 512
	case op.Wait != nil:
		w := op.Wait
		n := 512 + 2*len(w.Tenant) + 2*len(w.MessageID) + len(w.RecallID) + len(w.Actor.ID) + len(w.Conversation.ID) +
			len(w.Ext) + len(w.Reason)
		for _, l := range slices.Concat(w.Labels, w.Actor.Labels) {
			n += len(l) + 2
		}
		return n
	case op.EndWait != nil:
		return maxWaitBytes
	case op.Join != nil, op.Leave != nil, op.Forget != nil:
		return maxOpBytes // of a part of its steps or messages
	case op.Job != nil:
		return op.Job.bytes()
	}
	return 0
}

// eventBytes is about what the event of a recall writes besides its message.
func (r *Recall) eventBytes() int {
	alone := *r
	alone.With = nil
	return (&Op{Recall: &alone}).Bytes() - messageBytes(&r.Event.Message)
}

// bytes is about what a related message writes if the event of a recall takes so much besides its message. One that
// stays writes less than that, but its facts are in the operation, too.
func (w *With) bytes(event int) int {
	n := messageBytes(&w.Message) + len(w.To)
	if w.Stays {
		related := shared.Related{MessageID: w.Message.ID, Conversation: w.Message.Conversation, Ref: w.Message.Ref}
		return n + relatedBytes(&related)
	}
	return n + event
}

// Events is how many events an operation may make.
func (op *Op) Events() (n int) {
	var with []With
	switch {
	case op.Put != nil:
		if len(op.Put.Relations) > 0 {
			n = 1
		}
		for _, x := range op.waited() {
			if r := x.Recall; r != nil {
				n, with = 1, r.With
			}
		}
	case op.Recall != nil:
		n, with = 1, op.Recall.With
	case op.Cascade != nil:
		with = op.Cascade.With
	}
	for i := range with {
		if !with[i].Stays {
			n++
		}
	}
	return n
}

func relatedBytes(r *shared.Related) int {
	return len(r.MessageID) + len(r.Conversation.ID) + len(r.Ref) + 16
}

// EventBytes is about what an event takes in memory.
func EventBytes(e *shared.Event) int { return (&Op{Recall: &Recall{Event: *e}}).Bytes() }

func messageBytes(m *shared.Message) int {
	n := 3*(len(m.Tenant)+len(m.ID)) + 2*len(m.Sender) + 2*len(m.Conversation.ID) + len(m.Ref) + 96
	for _, a := range m.Attachments {
		n += 2*len(a.Key) + len(a.Owner) + len(m.Tenant) + len(m.ID) + 24
	}
	for _, l := range m.Labels {
		n += len(l) + 2
	}
	for _, r := range m.Relations {
		n += 2*len(r.MessageID) + len(m.Tenant) + len(m.ID) + 24
	}
	return n
}

// CheckOps refuses, with a [shared.ErrInvalid], operations that have no place in the index.
func CheckOps(ops []Op) error {
	for i := range ops {
		if err := ops[i].check(); err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
	}
	if hasJob(ops) {
		return checkSlice(ops)
	}
	if err := checkNoSlice(ops); err != nil {
		return err
	}
	switch {
	case isAtomic(ops):
		return checkAtomic(ops)
	case len(ops) > 1 && slices.ContainsFunc(ops, func(op Op) bool { return op.isMembership() || op.Forget != nil }):
		return shared.Invalidf("operation", "a join, leave or forget is not alone in its call")
	}
	return nil
}

// checkAtomic refuses an atomic call that is not one request to recall different messages: what makes one of its
// recalls fail must make all of them fail.
func checkAtomic(ops []Op) error {
	for i := range ops {
		if r := ops[i].Recall; r == nil || !r.Atomic {
			return fmt.Errorf("operation %d: %w", i, shared.Invalidf("recall.atomic",
				"is not set, and is in another operation of the call"))
		}
	}
	return checkTogether(ops)
}

// checkTogether refuses recalls that are not all by one actor under one recall id, of different messages.
func checkTogether(ops []Op) error {
	seen := make(map[string]bool, len(ops))
	for i := range ops {
		e, first := &ops[i].Recall.Event, &ops[0].Recall.Event
		switch {
		case e.Tenant != first.Tenant || e.RecallID != first.RecallID || e.Actor.ID != first.Actor.ID:
			return fmt.Errorf("operation %d: %w", i, shared.Invalidf("recall.event",
				"is of another tenant, recall id or actor than the first of the call"))
		case seen[e.Message.ID]:
			return fmt.Errorf("operation %d: %w", i, shared.Invalidf("recall.event.message.id",
				"is %.80q for the second time in the call", e.Message.ID))
		}
		seen[e.Message.ID] = true
	}
	return nil
}

// check refuses what has no place in the index. Callers have checked the limits of package shared; this keeps keys and
// values whole whoever calls.
func (op *Op) check() error {
	var err error
	set := 0
	if op.Put != nil {
		if set, err = set+1, checkMessage("put", op.Put); err == nil {
			err = cmp.Or(checkWaited(op.waited(), op.Put), op.late().check(op.Put))
		}
	}
	if op.Wait != nil {
		set, err = set+1, checkWaiting(op.Wait)
	}
	if op.EndWait != nil {
		set, err = set+1, op.EndWait.check()
	}
	if op.Amend != nil {
		set, err = set+1, checkAmendment(op.Amend)
	}
	if op.Recall != nil {
		set, err = set+1, op.Recall.check()
	}
	if op.Settle != nil {
		set, err = set+1, op.Settle.check()
	}
	if op.Ungate != nil {
		set++
	}
	if op.Join != nil {
		set, err = set+1, op.Join.check()
	}
	if op.Leave != nil {
		set, err = set+1, CheckNode("leave.node", op.Leave.Node)
	}
	if op.Cascade != nil {
		set, err = set+1, checkWith("cascade", op.Cascade.With)
	}
	if op.Forget != nil {
		set, err = set+1, op.Forget.check()
	}
	if op.Job != nil {
		set, err = set+1, op.Job.check()
	}
	if set != 1 {
		return shared.Invalidf("operation", "%d of put, amend, recall, settle, ungate, cascade, wait, end_wait, join, "+
			"leave, forget and job are set; exactly one must be", set)
	}
	if err == nil && op.Bytes() > maxOpBytes {
		err = shared.Invalidf("operation", "writes about %d bytes; at most %d", op.Bytes(), maxOpBytes)
	}
	return err
}

func checkMessage(field string, m *shared.Message) error {
	err := checkTexts(field, "tenant", m.Tenant, "id", m.ID, "conversation.id", m.Conversation.ID, "sender", m.Sender)
	if err != nil {
		return err
	}
	if _, ok := conversationTypes.number[m.Conversation.Type]; !ok {
		return shared.Invalidf(field+".conversation.type", "unknown conversation type %q", m.Conversation.Type)
	}
	if _, ok := messageTypes.number[m.Type]; !ok {
		return shared.Invalidf(field+".type", "unknown message type %q", m.Type)
	}
	if m.SentAt.UnixMicro() <= 0 {
		return shared.Invalidf(field+".sent_at", "is not set or before 1970")
	}
	for i, r := range m.Relations {
		if err := checkTexts(field, fmt.Sprintf("relations[%d].message_id", i), r.MessageID); err != nil {
			return err
		}
		if _, ok := relationKinds.number[r.Kind]; !ok {
			return shared.Invalidf(fmt.Sprintf("%s.relations[%d].kind", field, i), "unknown kind of relation %q", r.Kind)
		}
	}
	return checkAttachments(field, m.Attachments)
}

// checkWith refuses related messages that are none of the index, or too many.
func checkWith(field string, list []With) error {
	if len(list) > shared.MaxRelated {
		return shared.Invalidf(field+".with", "has %d messages; at most %d", len(list), shared.MaxRelated)
	}
	for i := range list {
		at := fmt.Sprintf("%s.with[%d]", field, i)
		if err := checkMessage(at, &list[i].Message); err != nil {
			return err
		}
		if _, ok := relationKinds.number[list[i].Kind]; !ok {
			return shared.Invalidf(at+".kind", "unknown kind of relation %q", list[i].Kind)
		}
		if err := checkTexts(at, "to", list[i].To); err != nil {
			return err
		}
	}
	return nil
}

func checkAttachments(field string, list []shared.Attachment) error {
	for i, a := range list {
		if err := checkTexts(field, fmt.Sprintf("attachments[%d].key", i), a.Key); err != nil {
			return err
		}
	}
	return nil
}

func checkAmendment(a *shared.Amendment) error {
	if err := checkTexts("amend", "tenant", a.Tenant, "message_id", a.MessageID); err != nil {
		return err
	}
	if c := a.Conversation; c != nil {
		if err := checkTexts("amend", "conversation.id", c.ID); err != nil {
			return err
		}
		if _, ok := conversationTypes.number[c.Type]; !ok {
			return shared.Invalidf("amend.conversation.type", "unknown conversation type %q", c.Type)
		}
	}
	return checkAttachments("amend", a.Attachments)
}

func (r *Recall) check() error {
	e := &r.Event
	if err := checkMessage("recall.message", &e.Message); err != nil {
		return err
	}
	if e.Tenant != e.Message.Tenant {
		return shared.Invalidf("recall.tenant", "is %q for a message of tenant %q", e.Tenant, e.Message.Tenant)
	}
	if err := checkTexts("recall", "recall_id", e.RecallID); err != nil {
		return err
	}
	if _, ok := roles.number[e.Role]; !ok {
		return shared.Invalidf("recall.role", "unknown role %q", e.Role)
	}
	if _, ok := dispositions.number[e.Disposition]; !ok {
		return shared.Invalidf("recall.disposition", "unknown disposition %q", e.Disposition)
	}
	if err := checkWith("recall", r.With); err != nil {
		return err
	}
	if r.Spend != nil {
		if err := r.Spend.check(); err != nil {
			return err
		}
	}
	seen := make(map[string]bool, len(r.Steps))
	for i, s := range r.Steps {
		field := fmt.Sprintf("recall.steps[%d]", i)
		if err := shared.ValidateStep(field, s); err != nil {
			return err
		}
		if seen[s] {
			return shared.Invalidf(field, "%s is there twice", s)
		}
		seen[s] = true
	}
	return r.checkOrder()
}

// checkOrder refuses steps that would wait for ever: After must be a strict partial order, in which notify comes first.
func (r *Recall) checkOrder() error {
	for _, step := range r.Steps {
		before, field := r.After[step], "recall.after."+step
		if step == shared.StepNotify && len(before) > 0 {
			return shared.Invalidf(field, "%s waits for no other step", step)
		}
		for _, b := range before {
			if b == step {
				return shared.Invalidf(field, "%s waits for itself", step)
			}
			for _, first := range r.After[b] {
				if !slices.Contains(before, first) {
					return shared.Invalidf(field, "has %s, and not %s, for which that waits", b, first)
				}
			}
		}
	}
	return nil
}

func (s *Settle) check() error {
	if err := shared.ValidateStep("settle.step", s.Step); err != nil {
		return err
	}
	if len(s.Error) > shared.MaxStepErrorBytes {
		return shared.Invalidf("settle.error", "is %d bytes long; at most %d", len(s.Error), shared.MaxStepErrorBytes)
	}
	if !s.Outcome.Settles() && s.Outcome != shared.OutcomeFailed {
		return shared.Invalidf("settle.outcome", "unknown outcome %q", s.Outcome)
	}
	if s.Node != "" {
		if err := CheckNode("settle.node", s.Node); err != nil {
			return err
		}
	}
	if s.Attempt > math.MaxInt32 {
		return shared.Invalidf("settle.attempt", "is %d; at most %d", s.Attempt, math.MaxInt32)
	}
	if s.Attempt < 0 || s.Attempt == 0 && s.Outcome == shared.OutcomeFailed {
		return shared.Invalidf("settle.attempt", "is %d; a failure is that of an attempt from 1 on", s.Attempt)
	}
	return nil
}

// checkTexts checks pairs of a field's name and its text, which goes into a key.
func checkTexts(field string, pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if text := pairs[i+1]; text == "" {
			return shared.Invalidf(field+"."+pairs[i], "is empty")
		} else if strings.IndexByte(text, 0) >= 0 {
			return shared.Invalidf(field+"."+pairs[i], "holds a NUL")
		}
	}
	return nil
}
