package wire

import (
	"strings"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

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
