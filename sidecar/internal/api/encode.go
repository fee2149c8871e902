package api

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/internal/pull"
)

func encodeTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func each[A, B any](list []A, encode func(A) B) []B {
	out := make([]B, len(list))
	for i, one := range list {
		out[i] = encode(one)
	}
	return out
}

func encodeConversation(c shared.Conversation) *v1.Conversation {
	return &v1.Conversation{Type: string(c.Type), Id: c.ID}
}

func encodeRule(r shared.Rule) *v1.Rule {
	if r == (shared.Rule{}) {
		return nil
	}
	return &v1.Rule{Name: r.Name, File: r.File, Line: int32(r.Line)}
}

func encodeAttachment(a shared.Attachment) *v1.Attachment {
	return &v1.Attachment{Key: a.Key, Owner: a.Owner}
}

func encodeMessage(m *shared.Message) *v1.Message {
	return &v1.Message{
		Tenant: m.Tenant, Id: m.ID, Conversation: encodeConversation(m.Conversation), Sender: m.Sender,
		Type: string(m.Type), SentAt: encodeTime(m.SentAt), Attachments: each(m.Attachments, encodeAttachment),
		Labels: m.Labels, Ref: m.Ref, Relations: each(m.Relations, encodeRelation),
	}
}

func encodeRelation(r shared.Relation) *v1.Relation {
	return &v1.Relation{Kind: string(r.Kind), MessageId: r.MessageID}
}

func encodeRelated(r shared.Related) *v1.Related {
	return &v1.Related{
		Kind: string(r.Kind), MessageId: r.MessageID, Conversation: encodeConversation(r.Conversation), Ref: r.Ref,
	}
}

func encodeIndexResult(r shared.IndexResult) *v1.IndexResult {
	return &v1.IndexResult{MessageId: r.MessageID, Status: string(r.Status), Field: r.Field, Problem: r.Problem,
		Related: each(r.Related, encodeRelated)}
}

func encodeRecallResult(r shared.RecallResult) *v1.RecallResult {
	return &v1.RecallResult{
		MessageId: r.MessageID, Status: string(r.Status), Code: string(r.Code), Text: r.Text, Rule: encodeRule(r.Rule),
		RecallId: r.RecallID, RecalledBy: r.RecalledBy, Role: string(r.Role), RecalledAt: encodeTime(r.RecalledAt),
		Until: encodeTime(r.Until), RetryAt: encodeTime(r.RetryAt),
		With: r.With,
	}
}

func encodeWaiting(w shared.Waiting) *v1.Waiting {
	out := &v1.Waiting{
		Tenant: w.Tenant, MessageId: w.MessageID, RecallId: w.RecallID,
		Actor: &v1.Actor{Id: w.Actor.ID, Labels: w.Actor.Labels},
		Role:  string(w.Role), Labels: w.Labels, Ext: w.Ext, Reason: w.Reason, RequestedAt: encodeTime(w.RequestedAt),
		Until: encodeTime(w.Until), State: string(w.State), Code: string(w.Code), Rule: encodeRule(w.Rule),
		EndedAt: encodeTime(w.EndedAt),
	}
	if w.Conversation != (shared.Conversation{}) {
		out.Conversation = encodeConversation(w.Conversation)
	}
	return out
}

func encodeExplanation(e shared.Explanation) *v1.Explanation {
	out := &v1.Explanation{MessageId: e.MessageID, Result: encodeRecallResult(e.Result)}
	if s := e.Shadow; s != nil {
		out.Shadow = &v1.ShadowVerdict{Permit: s.Permit, Code: string(s.Code), Rule: encodeRule(s.Rule)}
	}
	out.Rules = each(e.Rules, func(r shared.RuleTrace) *v1.RuleTrace {
		return &v1.RuleTrace{
			Rule: encodeRule(r.Rule), Kind: r.Kind, Shadow: r.Shadow, Matched: r.Matched, Decides: r.Decides,
			Conditions: each(r.Conditions, func(c shared.RuleCondition) *v1.RuleCondition {
				return &v1.RuleCondition{Text: c.Text, Holds: c.Holds, Field: c.Field, Value: c.Value, Depth: int32(c.Depth)}
			}),
		}
	})
	return out
}

func encodeStatus(s shared.MessageStatus) *v1.MessageStatus {
	out := &v1.MessageStatus{MessageId: s.MessageID, State: string(s.State), RecallId: s.RecallID,
		RecalledAt: encodeTime(s.RecalledAt)}
	if s.Message != nil {
		out.Message = encodeMessage(s.Message)
	}
	return out
}

func encodeEvent(e shared.Event) *v1.Event {
	out := &v1.Event{
		Key: e.Key(), Tenant: e.Tenant, RecallId: e.RecallID, Actor: &v1.Actor{Id: e.Actor.ID, Labels: e.Actor.Labels},
		Role: string(e.Role), Ext: e.Ext, Reason: e.Reason, RecalledAt: encodeTime(e.RecalledAt),
		Message: encodeMessage(&e.Message), Silent: e.Silent, Placeholder: e.Placeholder, Disposition: string(e.Disposition),
		Attachments: each(e.Attachments, encodeAttachment), Rule: encodeRule(e.Rule), PolicyDigest: e.PolicyDigest,
		Related: each(e.Related, encodeRelated), MoreRelated: e.MoreRelated, JobId: e.JobID,
	}
	if e.Cause != nil {
		out.Cause = encodeRelation(*e.Cause)
	}
	if e.Retention > 0 {
		out.Retention = durationpb.New(e.Retention)
	}
	return out
}

// count is a number as JSON has it: at most that of an int32, because larger ones would be strings.
func count(n int) int32 { return int32(min(n, math.MaxInt32)) }

func encodeEventPage(p shared.EventPage) *v1.EventPage {
	return &v1.EventPage{Events: each(p.Events, encodeEvent), Next: p.Next, More: p.More, Reset_: p.Reset}
}

func encodeLedgerEntry(e shared.LedgerEntry) *v1.LedgerEntry {
	return &v1.LedgerEntry{Event: encodeEvent(e.Event), Steps: each(e.Steps, func(s shared.StepRecord) *v1.StepRecord {
		return &v1.StepRecord{Step: s.Step, Node: s.Node, Outcome: string(s.Outcome), Attempts: count(s.Attempts),
			Error: s.Error, ChangedAt: encodeTime(s.ChangedAt)}
	})}
}

// Webhook returns the JSON of a delivery, for the body of a webhook.
func Webhook(d shared.Delivery) ([]byte, error) {
	return toJSON.Marshal(&v1.Delivery{Id: pull.StepKey(&d), Step: d.Step, Attempt: count(d.Attempt),
		Event: encodeEvent(d.Event)})
}

func encodeLeased(l pull.Leased) *v1.Delivery {
	return &v1.Delivery{Id: l.ID, Step: l.Step, Attempt: count(l.Attempt), Event: encodeEvent(l.Event),
		LeaseUntil: encodeTime(l.Until)}
}
