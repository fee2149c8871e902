package wire

import (
	"fmt"
	"math"
	"time"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// A decoder turns wire values into domain values and keeps the first thing it could not read.
type decoder struct{ err error }

// decodeEnum reads an enum that may not be left out.
func decodeEnum[W ~int32, D ~string](d *decoder, e enum[W, D], field string, w W) D {
	word, ok := e.word[w]
	if !ok && d.err == nil {
		if w == 0 {
			d.err = shared.Invalidf(field, "is not set; one of %s", e.words())
		} else {
			d.err = shared.Invalidf(field, "value %d is not known to this version; one of %s", w, e.words())
		}
	}
	return word
}

// decodeOptional reads an enum whose zero has a meaning of its own: the empty word.
func decodeOptional[W ~int32, D ~string](d *decoder, e enum[W, D], field string, w W) D {
	if w == 0 {
		return ""
	}
	return decodeEnum(d, e, field, w)
}

func encodeTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func decodeTime(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// maxHeldMicros is more than any request is held, and far from what a duration cannot hold.
const maxHeldMicros = int64(24 * time.Hour / time.Microsecond)

// decodeHeld reads how long a request was held. It is the SDK's word and not its caller's, so it is clamped and not
// refused.
func decodeHeld(us int64) time.Duration {
	return time.Duration(min(max(us, 0), maxHeldMicros)) * time.Microsecond
}

// decodeDuration reads a duration, clamped to what one can hold. It keeps the sign, for the caller to check.
func decodeDuration(us int64) time.Duration {
	const most = int64(math.MaxInt64 / time.Microsecond)
	return time.Duration(min(max(us, -most), most)) * time.Microsecond
}

func mapSlice[A, B any](in []A, f func(A) B) []B {
	if len(in) == 0 {
		return nil
	}
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}

func encodeConversation(c shared.Conversation) *recallv1.Conversation {
	return &recallv1.Conversation{Type: conversationTypes.number[c.Type], Id: c.ID}
}

// conversation reads one; typeField is the name of its type.
func (d *decoder) conversation(typeField string, c *recallv1.Conversation) shared.Conversation {
	return shared.Conversation{Type: decodeEnum(d, conversationTypes, typeField, c.GetType()), ID: c.GetId()}
}

func encodeAttachment(a shared.Attachment) *recallv1.Attachment {
	return &recallv1.Attachment{Key: a.Key, Owner: a.Owner}
}

func decodeAttachment(a *recallv1.Attachment) shared.Attachment {
	return shared.Attachment{Key: a.GetKey(), Owner: a.GetOwner()}
}

func encodeMessage(m shared.Message) *recallv1.Message {
	return &recallv1.Message{
		Tenant: m.Tenant, Id: m.ID, Conversation: encodeConversation(m.Conversation), Sender: m.Sender,
		Type: messageTypes.number[m.Type], SentAt: encodeTime(m.SentAt),
		Attachments: mapSlice(m.Attachments, encodeAttachment), Labels: m.Labels, Ref: m.Ref,
		Relations: mapSlice(m.Relations, encodeRelation),
	}
}

func encodeRelation(r shared.Relation) *recallv1.Relation {
	return &recallv1.Relation{Kind: relationKinds.number[r.Kind], MessageId: r.MessageID}
}

func (d *decoder) relation(r *recallv1.Relation) shared.Relation {
	return shared.Relation{
		Kind: decodeEnum(d, relationKinds, "relations.kind", r.GetKind()), MessageID: r.GetMessageId(),
	}
}

func encodeRelated(r shared.Related) *recallv1.Related {
	return &recallv1.Related{
		Kind: relationKinds.number[r.Kind], MessageId: r.MessageID, Conversation: encodeConversation(r.Conversation),
		Ref: r.Ref,
	}
}

func (d *decoder) related(r *recallv1.Related) shared.Related {
	return shared.Related{
		Kind:         decodeEnum(d, relationKinds, "related.kind", r.GetKind()),
		MessageID:    d.text("related.message_id", r.GetMessageId(), shared.MaxIDBytes),
		Conversation: d.conversation("related.conversation.type", r.GetConversation()),
		Ref:          d.text("related.ref", r.GetRef(), shared.MaxRefBytes),
	}
}

func (d *decoder) message(m *recallv1.Message) shared.Message {
	return shared.Message{
		Tenant: m.GetTenant(), ID: m.GetId(), Conversation: d.conversation("conversation.type", m.GetConversation()),
		Sender: m.GetSender(), Type: decodeEnum(d, messageTypes, "type", m.GetType()),
		SentAt: decodeTime(m.GetSentAt()), Attachments: mapSlice(m.GetAttachments(), decodeAttachment),
		Labels: m.GetLabels(), Ref: m.GetRef(), Relations: mapSlice(m.GetRelations(), d.relation),
	}
}

// optionalMessage reads a message that may be missing.
func (d *decoder) optionalMessage(field string, m *recallv1.Message) *shared.Message {
	if m == nil {
		return nil
	}
	inner := decoder{}
	message := inner.message(m)
	if inner.err != nil {
		d.fail(under(field+".", inner.err))
	}
	return &message
}

func encodeOptionalMessage(m *shared.Message) *recallv1.Message {
	if m == nil {
		return nil
	}
	return encodeMessage(*m)
}

func encodeAmendment(a shared.Amendment) *recallv1.Amendment {
	w := &recallv1.Amendment{Tenant: a.Tenant, MessageId: a.MessageID, Ref: a.Ref}
	if a.Conversation != nil {
		w.Conversation = encodeConversation(*a.Conversation)
	}
	if a.Attachments != nil {
		w.Attachments = &recallv1.AttachmentList{Attachments: mapSlice(a.Attachments, encodeAttachment)}
	}
	if a.Labels != nil {
		w.Labels = &recallv1.LabelList{Labels: a.Labels}
	}
	return w
}

// decodeAmendment reads an amendment. An invalid enum is left empty: it is refused when the amendment is validated.
func decodeAmendment(w *recallv1.Amendment) shared.Amendment {
	a := shared.Amendment{Tenant: w.GetTenant(), MessageID: w.GetMessageId(), Ref: w.Ref}
	if w.Conversation != nil {
		c := (&decoder{}).conversation("", w.Conversation)
		a.Conversation = &c
	}
	if w.Attachments != nil {
		a.Attachments = append([]shared.Attachment{}, mapSlice(w.Attachments.GetAttachments(), decodeAttachment)...)
	}
	if w.Labels != nil {
		a.Labels = append([]string{}, w.Labels.GetLabels()...)
	}
	return a
}

func encodeActor(a shared.Actor) *recallv1.Actor {
	return &recallv1.Actor{Id: a.ID, Labels: a.Labels}
}

func decodeActor(a *recallv1.Actor) shared.Actor {
	return shared.Actor{ID: a.GetId(), Labels: a.GetLabels()}
}

func encodeRule(r shared.Rule) *recallv1.Rule {
	if r == (shared.Rule{}) {
		return nil
	}
	return &recallv1.Rule{Name: r.Name, File: r.File, Line: int32(r.Line)}
}

func (d *decoder) rule(r *recallv1.Rule) shared.Rule {
	return shared.Rule{
		Name: d.text("rule.name", r.GetName(), maxAnswerTextBytes), File: d.text("rule.file", r.GetFile(),
			maxAnswerTextBytes),
		Line: int(r.GetLine()),
	}
}

func encodeIndexResult(r shared.IndexResult) *recallv1.IndexResult {
	return &recallv1.IndexResult{
		MessageId: r.MessageID, Status: indexStatuses.number[r.Status], Field: r.Field, Problem: r.Problem,
		Related: mapSlice(r.Related, encodeRelated),
	}
}

func (d *decoder) indexResult(r *recallv1.IndexResult) shared.IndexResult {
	d.atMost("results.related", len(r.GetRelated()), shared.MaxRelations)
	return shared.IndexResult{
		MessageID: r.GetMessageId(), Status: decodeEnum(d, indexStatuses, "results.status", r.GetStatus()),
		Field:   d.text("results.field", r.GetField(), maxAnswerTextBytes),
		Problem: d.text("results.problem", r.GetProblem(), maxAnswerTextBytes),
		Related: mapSlice(r.GetRelated(), d.related),
	}
}

func encodeMessageStatus(s shared.MessageStatus) *recallv1.MessageStatus {
	return &recallv1.MessageStatus{
		MessageId: s.MessageID, State: messageStates.number[s.State], Message: encodeOptionalMessage(s.Message),
		RecallId: s.RecallID, RecalledAt: encodeTime(s.RecalledAt),
	}
}

func (d *decoder) messageStatus(s *recallv1.MessageStatus) shared.MessageStatus {
	return shared.MessageStatus{
		MessageID: s.GetMessageId(), State: decodeEnum(d, messageStates, "statuses.state", s.GetState()),
		Message:    d.optionalMessage("statuses.message", s.GetMessage()),
		RecallID:   d.text("statuses.recall_id", s.GetRecallId(), shared.MaxIDBytes),
		RecalledAt: d.time("statuses.recalled_at", s.GetRecalledAt()),
	}
}

func encodeWaiting(x shared.Waiting) *recallv1.Waiting {
	w := &recallv1.Waiting{
		Tenant: x.Tenant, MessageId: x.MessageID, RecallId: x.RecallID, Actor: encodeActor(x.Actor),
		Role: roles.number[x.Role], Labels: x.Labels, Ext: x.Ext, Reason: x.Reason, RequestedAt: encodeTime(x.RequestedAt),
		Until: encodeTime(x.Until), State: waitStates.number[x.State], Code: string(x.Code), Rule: encodeRule(x.Rule),
		EndedAt: encodeTime(x.EndedAt),
	}
	if x.Conversation != (shared.Conversation{}) {
		w.Conversation = encodeConversation(x.Conversation)
	}
	return w
}

func (d *decoder) waiting(w *recallv1.Waiting) shared.Waiting {
	d.atMost("waits.labels", len(w.GetLabels()), shared.MaxLabels)
	x := shared.Waiting{
		Tenant:      d.text("waits.tenant", w.GetTenant(), shared.MaxIDBytes),
		MessageID:   d.text("waits.message_id", w.GetMessageId(), shared.MaxIDBytes),
		RecallID:    d.text("waits.recall_id", w.GetRecallId(), shared.MaxIDBytes),
		Actor:       decodeActor(w.GetActor()),
		Role:        decodeOptional(d, roles, "waits.role", w.GetRole()),
		Labels:      w.GetLabels(),
		Ext:         d.text("waits.ext", w.GetExt(), shared.MaxExtBytes),
		Reason:      d.text("waits.reason", w.GetReason(), shared.MaxReasonBytes),
		RequestedAt: d.time("waits.requested_at", w.GetRequestedAt()),
		Until:       d.time("waits.until", w.GetUntil()),
		State:       decodeEnum(d, waitStates, "waits.state", w.GetState()),
		Code:        shared.Code(d.text("waits.code", w.GetCode(), maxAnswerTextBytes)),
		Rule:        d.rule(w.GetRule()),
		EndedAt:     d.time("waits.ended_at", w.GetEndedAt()),
	}
	if w.Conversation != nil {
		x.Conversation = d.conversation("waits.conversation.type", w.Conversation)
	}
	return x
}

func encodeSinceRequest(r shared.SinceRequest) *recallv1.SinceRequest {
	return &recallv1.SinceRequest{
		Tenant: r.Tenant, Conversations: mapSlice(r.Conversations, encodeConversation), After: r.After,
		Limit: int32(r.Limit),
	}
}

func (d *decoder) sinceRequest(r *recallv1.SinceRequest) shared.SinceRequest {
	req := shared.SinceRequest{Tenant: r.GetTenant(), After: r.GetAfter(), Limit: int(r.GetLimit())}
	for i, c := range r.GetConversations() {
		req.Conversations = append(req.Conversations, d.conversation(fmt.Sprintf("conversations[%d].type", i), c))
	}
	return req
}

func encodeListRequest(r shared.ListRequest) *recallv1.ListRequest {
	w := &recallv1.ListRequest{
		Tenant: r.Tenant, From: encodeTime(r.From), Before: encodeTime(r.Before), Actor: r.Actor, Sender: r.Sender,
		Rule: r.Rule, JobId: r.JobID, Steps: stepsFilters.number[r.Steps], After: r.After, Limit: int32(r.Limit),
	}
	if r.Conversation != (shared.Conversation{}) {
		w.Conversation = encodeConversation(r.Conversation)
	}
	return w
}

func (d *decoder) listRequest(w *recallv1.ListRequest) shared.ListRequest {
	r := shared.ListRequest{
		Tenant: w.GetTenant(), From: decodeTime(w.GetFrom()), Before: decodeTime(w.GetBefore()), Actor: w.GetActor(),
		Sender: w.GetSender(), Rule: w.GetRule(), JobID: w.GetJobId(),
		Steps: decodeOptional(d, stepsFilters, "steps", w.GetSteps()), After: w.GetAfter(), Limit: int(w.GetLimit()),
	}
	if w.Conversation != nil {
		r.Conversation = d.conversation("conversation.type", w.Conversation)
	}
	return r
}

func encodeForgetRequest(r shared.ForgetRequest) *recallv1.ForgetRequest {
	w := &recallv1.ForgetRequest{Tenant: r.Tenant, Sender: r.Sender, Before: encodeTime(r.Before)}
	if r.Conversation != (shared.Conversation{}) {
		w.Conversation = encodeConversation(r.Conversation)
	}
	return w
}

func (d *decoder) forgetRequest(w *recallv1.ForgetRequest) shared.ForgetRequest {
	r := shared.ForgetRequest{Tenant: w.GetTenant(), Sender: w.GetSender(), Before: decodeTime(w.GetBefore())}
	if w.Conversation != nil {
		r.Conversation = d.conversation("conversation.type", w.Conversation)
	}
	return r
}
