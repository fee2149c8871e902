package wire

import (
	"fmt"
	"math"
	"slices"
	"strings"
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

func encodeTarget(t shared.Target) *recallv1.Target {
	w := &recallv1.Target{
		MessageId: t.MessageID, Role: roles.number[t.Role], Labels: t.Labels, Message: encodeOptionalMessage(t.Message),
	}
	if t.Conversation != (shared.Conversation{}) {
		w.Conversation = encodeConversation(t.Conversation)
	}
	return w
}

func (d *decoder) target(field string, w *recallv1.Target) shared.Target {
	t := shared.Target{
		MessageID: w.GetMessageId(), Role: decodeOptional(d, roles, field+".role", w.GetRole()), Labels: w.GetLabels(),
		Message: d.optionalMessage(field+".message", w.GetMessage()),
	}
	if w.Conversation != nil {
		t.Conversation = d.conversation(field+".conversation.type", w.Conversation)
	}
	return t
}

func encodeRecallRequest(r shared.RecallRequest) *recallv1.RecallRequest {
	return &recallv1.RecallRequest{
		Tenant: r.Tenant, Targets: mapSlice(r.Targets, encodeTarget), Actor: encodeActor(r.Actor), Ext: r.Ext,
		Reason: r.Reason, RecallId: r.RecallID, RequestedAt: encodeTime(r.RequestedAt),
		Held: max(r.Held, 0).Microseconds(), Atomic: r.Atomic, Wait: r.Wait.Microseconds(),
	}
}

func (d *decoder) recallRequest(r *recallv1.RecallRequest) shared.RecallRequest {
	req := shared.RecallRequest{
		Tenant: r.GetTenant(), Actor: decodeActor(r.GetActor()), Ext: r.GetExt(), Reason: r.GetReason(),
		RecallID: r.GetRecallId(), RequestedAt: decodeTime(r.GetRequestedAt()), Held: decodeHeld(r.GetHeld()),
		Atomic: r.GetAtomic(), Wait: decodeDuration(r.GetWait()),
	}
	req.Targets = slices.Grow(req.Targets, len(r.GetTargets()))
	for i, t := range r.GetTargets() {
		req.Targets = append(req.Targets, d.target(fmt.Sprintf("targets[%d]", i), t))
	}
	return req
}

func encodeRecallResult(r shared.RecallResult) *recallv1.RecallResult {
	return &recallv1.RecallResult{
		MessageId: r.MessageID, Status: recallStatuses.number[r.Status], Code: string(r.Code), Rule: encodeRule(r.Rule),
		Text: r.Text, RecallId: r.RecallID, RecalledBy: r.RecalledBy, Role: roles.number[r.Role],
		RecalledAt: encodeTime(r.RecalledAt), Until: encodeTime(r.Until), RetryAt: encodeTime(r.RetryAt),
		With: r.With,
	}
}

func (d *decoder) recallResult(r *recallv1.RecallResult) shared.RecallResult {
	if err := validList("results.with", r.GetWith(), shared.MaxRelated, shared.MaxIDBytes); err != nil {
		d.fail(err)
	}
	return shared.RecallResult{
		MessageID: r.GetMessageId(), Status: decodeEnum(d, recallStatuses, "results.status", r.GetStatus()),
		Code: shared.Code(d.text("results.code", r.GetCode(), maxAnswerTextBytes)), Rule: d.rule(r.GetRule()),
		Text:       d.texts("results.text", r.GetText()),
		RecallID:   d.text("results.recall_id", r.GetRecallId(), shared.MaxIDBytes),
		RecalledBy: d.text("results.recalled_by", r.GetRecalledBy(), shared.MaxIDBytes),
		Role:       decodeOptional(d, roles, "results.role", r.GetRole()),
		RecalledAt: d.time("results.recalled_at", r.GetRecalledAt()),
		Until:      d.time("results.until", r.GetUntil()), RetryAt: d.time("results.retry_at", r.GetRetryAt()),
		With: r.GetWith(),
	}
}

// texts reads texts by language tag.
func (d *decoder) texts(field string, texts map[string]string) map[string]string {
	if err := validTexts(field, texts); err != nil {
		d.fail(err)
		return nil
	}
	return texts
}

func encodeExplanation(e shared.Explanation) *recallv1.Explanation {
	w := &recallv1.Explanation{
		MessageId: e.MessageID, Result: encodeRecallResult(e.Result),
		Rules: mapSlice(e.Rules, func(r shared.RuleTrace) *recallv1.RuleTrace {
			return &recallv1.RuleTrace{
				Rule: encodeRule(r.Rule), Kind: r.Kind, Shadow: r.Shadow, Matched: r.Matched, Decides: r.Decides,
				Conditions: mapSlice(r.Conditions, func(c shared.RuleCondition) *recallv1.RuleCondition {
					return &recallv1.RuleCondition{
						Text: c.Text, Holds: c.Holds, Field: c.Field, Value: c.Value, Depth: int32(c.Depth),
					}
				}),
			}
		}),
	}
	if s := e.Shadow; s != nil {
		w.Shadow = &recallv1.ShadowVerdict{Permit: s.Permit, Code: string(s.Code), Rule: encodeRule(s.Rule)}
	}
	return w
}

func (d *decoder) explanation(w *recallv1.Explanation) shared.Explanation {
	d.atMost("explanations.rules", len(w.GetRules()), maxRuleTraces)
	for _, r := range w.GetRules() {
		d.atMost("explanations.rules.conditions", len(r.GetConditions()), maxRuleConditions)
	}
	if d.err != nil {
		return shared.Explanation{}
	}
	text := func(s string) string { return clipText(s, maxAnswerTextBytes) }
	e := shared.Explanation{
		MessageID: w.GetMessageId(), Result: d.recallResult(w.GetResult()),
		Rules: mapSlice(w.GetRules(), func(r *recallv1.RuleTrace) shared.RuleTrace {
			return shared.RuleTrace{
				Rule: d.rule(r.GetRule()), Kind: d.text("explanations.rules.kind", r.GetKind(), shared.MaxIDBytes),
				Shadow: r.GetShadow(), Matched: r.GetMatched(), Decides: r.GetDecides(),
				Conditions: mapSlice(r.GetConditions(), func(c *recallv1.RuleCondition) shared.RuleCondition {
					return shared.RuleCondition{
						Text: text(c.GetText()), Holds: c.GetHolds(), Field: text(c.GetField()), Value: text(c.GetValue()),
						Depth: int(c.GetDepth()),
					}
				}),
			}
		}),
	}
	if s := w.GetShadow(); s != nil {
		e.Shadow = &shared.ShadowVerdict{
			Permit: s.GetPermit(), Code: shared.Code(d.text("explanations.shadow.code", s.GetCode(), maxAnswerTextBytes)),
			Rule: d.rule(s.GetRule()),
		}
	}
	return e
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

func encodeEvent(e shared.Event) *recallv1.Event {
	w := &recallv1.Event{
		Sequence: e.Sequence, Tenant: e.Tenant, RecallId: e.RecallID, Actor: encodeActor(e.Actor),
		Role: roles.number[e.Role], Ext: e.Ext, Reason: e.Reason, RecalledAt: encodeTime(e.RecalledAt),
		Message: encodeMessage(e.Message), Attachments: mapSlice(e.Attachments, encodeAttachment),
		Rule: encodeRule(e.Rule), PolicyDigest: e.PolicyDigest, Silent: e.Silent, Placeholder: e.Placeholder,
		Disposition: dispositions.number[e.Disposition], Retention: e.Retention.Microseconds(),
		Related: mapSlice(e.Related, encodeRelated), MoreRelated: e.MoreRelated, JobId: e.JobID,
	}
	if e.Cause != nil {
		w.Cause = encodeRelation(*e.Cause)
	}
	return w
}

func (d *decoder) event(e *recallv1.Event) shared.Event {
	good := d.err == nil
	message := d.message(e.GetMessage())
	if good && d.err != nil {
		d.err = under("event.message.", d.err)
	}
	d.atMost("event.related", len(e.GetRelated()), shared.MaxRelated)
	event := shared.Event{
		Sequence: e.GetSequence(), Tenant: e.GetTenant(), RecallID: e.GetRecallId(), Actor: decodeActor(e.GetActor()),
		Role: decodeOptional(d, roles, "event.role", e.GetRole()), Ext: e.GetExt(), Reason: e.GetReason(),
		RecalledAt: decodeTime(e.GetRecalledAt()), Message: message,
		Attachments: mapSlice(e.GetAttachments(), decodeAttachment), Rule: d.rule(e.GetRule()),
		PolicyDigest: e.GetPolicyDigest(), Silent: e.GetSilent(), Placeholder: e.GetPlaceholder(),
		Disposition: decodeEnum(d, dispositions, "event.disposition", e.GetDisposition()),
		Retention:   decodeDuration(e.GetRetention()),
		Related:     mapSlice(e.GetRelated(), d.related), MoreRelated: e.GetMoreRelated(), JobID: e.GetJobId(),
	}
	if e.Cause != nil {
		cause := d.relation(e.Cause)
		event.Cause = &cause
	}
	d.checkEvent(&event)
	return event
}

func encodeDelivery(x shared.Delivery) *recallv1.Delivery {
	return &recallv1.Delivery{Event: encodeEvent(x.Event), Step: x.Step, Attempt: int32(x.Attempt)}
}

func (d *decoder) delivery(w *recallv1.Delivery) shared.Delivery {
	return shared.Delivery{Event: d.event(w.GetEvent()), Step: w.GetStep(), Attempt: int(w.GetAttempt())}
}

func encodeSettlement(s Settlement) *recallv1.Settlement {
	return &recallv1.Settlement{
		Sequence: s.Sequence, Key: s.Key, Step: s.Step, Outcome: outcomes.number[s.Outcome],
		Error: strings.ToValidUTF8(s.Error, "\uFFFD"), Attempt: int32(s.Attempt),
	}
}

func (d *decoder) settlement(s *recallv1.Settlement) Settlement {
	return Settlement{
		Sequence: s.GetSequence(), Key: s.GetKey(), Step: s.GetStep(), Attempt: int(s.GetAttempt()),
		Outcome: decodeEnum(d, outcomes, "outcome", s.GetOutcome()), Error: s.GetError(),
	}
}

func encodeLedgerEntry(e shared.LedgerEntry) *recallv1.LedgerEntry {
	return &recallv1.LedgerEntry{Event: encodeEvent(e.Event),
		Steps: mapSlice(e.Steps, func(s shared.StepRecord) *recallv1.StepRecord {
			return &recallv1.StepRecord{
				Step: s.Step, Outcome: outcomes.number[s.Outcome], Attempts: int32(s.Attempts), Error: s.Error,
				ChangedAt: encodeTime(s.ChangedAt), Node: s.Node,
			}
		})}
}

func (d *decoder) ledgerEntry(e *recallv1.LedgerEntry) shared.LedgerEntry {
	d.atMost("steps", len(e.GetSteps()), maxEntrySteps)
	return shared.LedgerEntry{Event: d.event(e.GetEvent()),
		Steps: mapSlice(e.GetSteps(), func(s *recallv1.StepRecord) shared.StepRecord {
			return shared.StepRecord{
				Step:    d.text("steps.step", s.GetStep(), shared.MaxStepBytes),
				Outcome: decodeOptional(d, outcomes, "steps.outcome", s.GetOutcome()), Attempts: int(s.GetAttempts()),
				Error:     d.text("steps.error", s.GetError(), maxAnswerTextBytes),
				ChangedAt: d.time("steps.changed_at", s.GetChangedAt()),
				Node:      d.text("steps.node", s.GetNode(), shared.MaxNodeBytes),
			}
		})}
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
