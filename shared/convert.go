package shared

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/chat-recall/recall/shared/recallv1"
)

// A decoder turns wire values into domain values and keeps the first thing it could not read.
type decoder struct{ err error }

// decodeEnum reads an enum that may not be left out.
func decodeEnum[W ~int32, D ~string](d *decoder, e enum[W, D], field string, w W) D {
	word, ok := e.word[w]
	if !ok && d.err == nil {
		if w == 0 {
			d.err = Invalidf(field, "is not set; one of %s", e.words())
		} else {
			d.err = Invalidf(field, "value %d is not known to this version; one of %s", w, e.words())
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

func encodeConversation(c Conversation) *recallv1.Conversation {
	return &recallv1.Conversation{Type: conversationTypes.number[c.Type], Id: c.ID}
}

// conversation reads one; typeField is the name of its type.
func (d *decoder) conversation(typeField string, c *recallv1.Conversation) Conversation {
	return Conversation{Type: decodeEnum(d, conversationTypes, typeField, c.GetType()), ID: c.GetId()}
}

func encodeMessage(m Message) *recallv1.Message {
	return &recallv1.Message{
		Tenant: m.Tenant, Id: m.ID, Conversation: encodeConversation(m.Conversation), Sender: m.Sender,
		Type: messageTypes.number[m.Type], SentAt: encodeTime(m.SentAt), Attachments: m.Attachments, Labels: m.Labels,
	}
}

func (d *decoder) message(m *recallv1.Message) Message {
	return Message{
		Tenant: m.GetTenant(), ID: m.GetId(), Conversation: d.conversation("conversation.type", m.GetConversation()),
		Sender: m.GetSender(), Type: decodeEnum(d, messageTypes, "type", m.GetType()),
		SentAt: decodeTime(m.GetSentAt()), Attachments: m.GetAttachments(), Labels: m.GetLabels(),
	}
}

func (d *decoder) messages(in []*recallv1.Message) []Message {
	if len(in) == 0 {
		return nil
	}
	out := make([]Message, 0, len(in))
	for i, m := range in {
		good := d.err == nil
		out = append(out, d.message(m))
		if good && d.err != nil {
			d.err = under(fmt.Sprintf("messages[%d].", i), d.err)
		}
	}
	return out
}

func encodeActor(a Actor) *recallv1.Actor {
	if a == (Actor{}) {
		return nil
	}
	return &recallv1.Actor{Id: a.ID, Role: roles.number[a.Role]}
}

func (d *decoder) actor(field string, a *recallv1.Actor) Actor {
	return Actor{ID: a.GetId(), Role: decodeOptional(d, roles, field+".role", a.GetRole())}
}

func encodeRule(r Rule) *recallv1.Rule {
	if r == (Rule{}) {
		return nil
	}
	return &recallv1.Rule{Name: r.Name, File: r.File, Line: int32(r.Line)}
}

func (d *decoder) rule(r *recallv1.Rule) Rule {
	return Rule{
		Name: d.text("rule.name", r.GetName(), maxAnswerTextBytes), File: d.text("rule.file", r.GetFile(),
			maxAnswerTextBytes),
		Line: int(r.GetLine()),
	}
}

func encodeIndexResult(r IndexResult) *recallv1.IndexResult {
	return &recallv1.IndexResult{MessageId: r.MessageID, Status: indexStatuses.number[r.Status]}
}

func (d *decoder) indexResult(r *recallv1.IndexResult) IndexResult {
	return IndexResult{MessageID: r.GetMessageId(), Status: decodeEnum(d, indexStatuses, "results.status", r.GetStatus())}
}

func encodeRecallRequest(r RecallRequest) *recallv1.RecallRequest {
	return &recallv1.RecallRequest{
		Tenant: r.Tenant, MessageIds: r.MessageIDs, Actor: encodeActor(r.Actor), Ext: r.Ext, Reason: r.Reason,
		RecallId: r.RecallID, RequestedAt: encodeTime(r.RequestedAt), ConversationLabels: r.ConversationLabels,
		Messages: mapSlice(r.Messages, encodeMessage), Held: max(r.Held, 0).Microseconds(),
	}
}

func (d *decoder) recallRequest(r *recallv1.RecallRequest) RecallRequest {
	return RecallRequest{
		Tenant: r.GetTenant(), MessageIDs: r.GetMessageIds(), Actor: d.actor("actor", r.GetActor()), Ext: r.GetExt(),
		Reason: r.GetReason(), RecallID: r.GetRecallId(), RequestedAt: decodeTime(r.GetRequestedAt()),
		ConversationLabels: r.GetConversationLabels(), Messages: d.messages(r.GetMessages()),
		Held: decodeHeld(r.GetHeld()),
	}
}

func encodeRecallResult(r RecallResult) *recallv1.RecallResult {
	return &recallv1.RecallResult{
		MessageId: r.MessageID, Status: recallStatuses.number[r.Status], Code: string(r.Code), Rule: encodeRule(r.Rule),
		RecallId: r.RecallID, RecalledBy: encodeActor(r.RecalledBy), RecalledAt: encodeTime(r.RecalledAt),
		Until: encodeTime(r.Until), RetryAt: encodeTime(r.RetryAt),
	}
}

func (d *decoder) recallResult(r *recallv1.RecallResult) RecallResult {
	d.text("results.recalled_by.id", r.GetRecalledBy().GetId(), MaxIDBytes)
	return RecallResult{
		MessageID: r.GetMessageId(), Status: decodeEnum(d, recallStatuses, "results.status", r.GetStatus()),
		Code: Code(d.text("results.code", r.GetCode(), maxAnswerTextBytes)), Rule: d.rule(r.GetRule()),
		RecallID:   d.text("results.recall_id", r.GetRecallId(), MaxIDBytes),
		RecalledBy: d.actor("results.recalled_by", r.GetRecalledBy()),
		RecalledAt: d.time("results.recalled_at", r.GetRecalledAt()),
		Until:      d.time("results.until", r.GetUntil()), RetryAt: d.time("results.retry_at", r.GetRetryAt()),
	}
}

func encodeMessageStatus(s MessageStatus) *recallv1.MessageStatus {
	return &recallv1.MessageStatus{
		MessageId: s.MessageID, State: messageStates.number[s.State], RecallId: s.RecallID,
		RecalledAt: encodeTime(s.RecalledAt),
	}
}

func (d *decoder) messageStatus(s *recallv1.MessageStatus) MessageStatus {
	return MessageStatus{
		MessageID: s.GetMessageId(), State: decodeEnum(d, messageStates, "statuses.state", s.GetState()),
		RecallID:   d.text("statuses.recall_id", s.GetRecallId(), MaxIDBytes),
		RecalledAt: d.time("statuses.recalled_at", s.GetRecalledAt()),
	}
}

func encodeSinceRequest(r SinceRequest) *recallv1.SinceRequest {
	return &recallv1.SinceRequest{
		Tenant: r.Tenant, Conversations: mapSlice(r.Conversations, encodeConversation), After: r.After,
		Limit: int32(max(-1, min(r.Limit, MaxSinceLimit+1))), // a limit out of range stays out of range
	}
}

func (d *decoder) sinceRequest(r *recallv1.SinceRequest) SinceRequest {
	req := SinceRequest{Tenant: r.GetTenant(), After: r.GetAfter(), Limit: int(r.GetLimit())}
	for i, c := range r.GetConversations() {
		req.Conversations = append(req.Conversations, d.conversation(fmt.Sprintf("conversations[%d].type", i), c))
	}
	return req
}

func encodeEvent(e Event) *recallv1.Event {
	return &recallv1.Event{
		Sequence: e.Sequence, Tenant: e.Tenant, RecallId: e.RecallID, Actor: encodeActor(e.Actor), Ext: e.Ext,
		Reason: e.Reason, RecalledAt: encodeTime(e.RecalledAt), Message: encodeMessage(e.Message),
		Attachments: e.Attachments, Rule: encodeRule(e.Rule), PolicyDigest: e.PolicyDigest, Steps: e.Steps,
		Attempt: int32(e.Attempt), Silent: e.Silent, Tombstone: e.Tombstone, Disposition: dispositions.number[e.Disposition],
		Retention: e.Retention.Microseconds(),
	}
}

func (d *decoder) event(e *recallv1.Event) Event {
	good := d.err == nil
	message := d.message(e.GetMessage())
	if good && d.err != nil {
		d.err = under("event.message.", d.err)
	}
	disposition := DispositionErase
	if w := e.GetDisposition(); w != recallv1.Disposition_DISPOSITION_UNSPECIFIED {
		disposition = decodeEnum(d, dispositions, "event.disposition", w)
	}
	event := Event{
		Sequence: e.GetSequence(), Tenant: e.GetTenant(), RecallID: e.GetRecallId(), Actor: d.actor("event.actor", e.GetActor()),
		Ext: e.GetExt(), Reason: e.GetReason(), RecalledAt: decodeTime(e.GetRecalledAt()),
		Message: message, Attachments: e.GetAttachments(), Rule: d.rule(e.GetRule()),
		PolicyDigest: e.GetPolicyDigest(), Steps: e.GetSteps(), Attempt: int(e.GetAttempt()),
		Silent: e.GetSilent(), Tombstone: e.GetTombstone(), Disposition: disposition,
		Retention: time.Duration(min(e.GetRetention(), int64(math.MaxInt64/time.Microsecond))) * time.Microsecond,
	}
	d.checkEvent(&event)
	return event
}

func encodeSettlement(s Settlement) *recallv1.SettleRequest {
	return &recallv1.SettleRequest{
		Sequence: s.Sequence, Step: s.Step, Outcome: outcomes.number[s.Outcome],
		Error: strings.ToValidUTF8(s.Error, "\uFFFD"), Attempt: int32(s.Attempt),
	}
}

func (d *decoder) settlement(s *recallv1.SettleRequest) Settlement {
	return Settlement{
		Sequence: s.GetSequence(), Step: s.GetStep(), Attempt: int(s.GetAttempt()),
		Outcome: decodeEnum(d, outcomes, "outcome", s.GetOutcome()), Error: s.GetError(),
	}
}

func encodeLedgerEntry(e LedgerEntry) *recallv1.LedgerEntry {
	return &recallv1.LedgerEntry{Event: encodeEvent(e.Event), Steps: mapSlice(e.Steps, func(s StepRecord) *recallv1.StepRecord {
		return &recallv1.StepRecord{
			Step: s.Step, Outcome: outcomes.number[s.Outcome], Attempts: int32(s.Attempts), Error: s.Error,
			ChangedAt: encodeTime(s.ChangedAt),
		}
	})}
}

func (d *decoder) ledgerEntry(e *recallv1.LedgerEntry) LedgerEntry {
	d.atMost("steps", len(e.GetSteps()), maxEventSteps)
	return LedgerEntry{Event: d.event(e.GetEvent()), Steps: mapSlice(e.GetSteps(), func(s *recallv1.StepRecord) StepRecord {
		return StepRecord{
			Step:    d.text("steps.step", s.GetStep(), MaxStepBytes),
			Outcome: decodeOptional(d, outcomes, "steps.outcome", s.GetOutcome()), Attempts: int(s.GetAttempts()),
			Error: d.text("steps.error", s.GetError(), maxAnswerTextBytes), ChangedAt: d.time("steps.changed_at",
				s.GetChangedAt()),
		}
	})}
}

func encodeHealth(h Health) *recallv1.HealthResponse {
	return &recallv1.HealthResponse{
		State: pluginStates.number[h.State], Reason: h.Reason, Since: encodeTime(h.Since),
		Rules: &recallv1.RulesState{
			Digest: h.Rules.Digest, Paths: h.Rules.Paths, LoadedAt: encodeTime(h.Rules.LoadedAt),
			Warnings: encodeDiagnostics(h.Rules.Warnings), Refused: encodeDiagnostics(h.Rules.Refused),
			Fallback: h.Rules.Fallback,
		},
		Index: encodeIdentity(h.Index), Waiting: uint32(h.Waiting), Done: h.Done,
	}
}

func (d *decoder) health(h *recallv1.HealthResponse) Health {
	r := h.GetRules()
	d.atMost("rules.paths", len(r.GetPaths()), maxDiagnostics)
	return Health{
		State:  decodeEnum(d, pluginStates, "state", h.GetState()),
		Reason: clipText(h.GetReason(), maxAnswerTextBytes), Since: d.time("since", h.GetSince()),
		Rules: RulesState{
			Digest: d.text("rules.digest", r.GetDigest(), MaxIDBytes), Paths: r.GetPaths(),
			LoadedAt: d.time("rules.loaded_at", r.GetLoadedAt()),
			Warnings: d.diagnostics("rules.warnings", r.GetWarnings()), Refused: d.diagnostics("rules.refused", r.GetRefused()),
			Fallback: r.GetFallback(),
		},
		Index: d.identity("index", h.GetIndex()), Waiting: int(h.GetWaiting()), Done: h.GetDone(),
	}
}

func encodeIdentity(id IndexIdentity) *recallv1.IndexIdentity {
	return &recallv1.IndexIdentity{Id: id.ID, Epoch: id.Epoch, Version: id.Version}
}

func (d *decoder) identity(field string, id *recallv1.IndexIdentity) IndexIdentity {
	return IndexIdentity{
		ID: d.text(field+".id", id.GetId(), MaxIDBytes), Epoch: d.text(field+".epoch", id.GetEpoch(), MaxIDBytes),
		Version: id.GetVersion(),
	}
}

func encodeDiagnostics(ds Diagnostics) []*recallv1.Diagnostic {
	return mapSlice(ds, func(d Diagnostic) *recallv1.Diagnostic {
		return &recallv1.Diagnostic{
			Severity: severities.number[d.Severity], Summary: d.Summary, Detail: d.Detail, File: d.File,
			Line: int32(d.Line), Column: int32(d.Column), Source: d.Source,
		}
	})
}

func (d *decoder) diagnostics(field string, list []*recallv1.Diagnostic) Diagnostics {
	d.atMost(field, len(list), maxDiagnostics)
	// They are for people, and worth more in part than not at all.
	text := func(s string) string { return clipText(s, maxAnswerTextBytes) }
	return mapSlice(list, func(w *recallv1.Diagnostic) Diagnostic {
		return Diagnostic{
			Severity: decodeEnum(d, severities, field+".severity", w.GetSeverity()),
			Summary:  text(w.GetSummary()), Detail: text(w.GetDetail()), File: text(w.GetFile()),
			Line: int(w.GetLine()), Column: int(w.GetColumn()), Source: text(w.GetSource()),
		}
	})
}
