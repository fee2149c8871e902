package wire

import (
	"fmt"
	"slices"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

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
