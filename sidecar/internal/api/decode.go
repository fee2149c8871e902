package api

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
)

func decodeTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func decodeConversation(c *v1.Conversation) shared.Conversation {
	return shared.Conversation{Type: shared.ConversationType(c.GetType()), ID: c.GetId()}
}

func decodeAttachments(list []*v1.Attachment) []shared.Attachment {
	var out []shared.Attachment
	for _, a := range list {
		out = append(out, shared.Attachment{Key: a.GetKey(), Owner: a.GetOwner()})
	}
	return out
}

func decodeRelations(list []*v1.Relation) []shared.Relation {
	var out []shared.Relation
	for _, r := range list {
		out = append(out, shared.Relation{Kind: shared.RelationKind(r.GetKind()), MessageID: r.GetMessageId()})
	}
	return out
}

func decodeMessage(m *v1.Message) shared.Message {
	return shared.Message{
		Tenant: m.GetTenant(), ID: m.GetId(), Conversation: decodeConversation(m.GetConversation()), Sender: m.GetSender(),
		Type: shared.MessageType(m.GetType()), SentAt: decodeTime(m.GetSentAt()),
		Attachments: decodeAttachments(m.GetAttachments()), Labels: m.GetLabels(), Ref: m.GetRef(),
		Relations: decodeRelations(m.GetRelations()),
	}
}

// decodeAmendment returns an amendment. An empty list that is not nil removes all elements.
func decodeAmendment(a *v1.Amendment) (shared.Amendment, *shared.FieldError) {
	out := shared.Amendment{
		Tenant: a.GetTenant(), MessageID: a.GetMessageId(), Attachments: decodeAttachments(a.GetAttachments()),
		Labels: a.GetLabels(), Ref: a.Ref,
	}
	if a.GetConversation() != nil {
		c := decodeConversation(a.GetConversation())
		out.Conversation = &c
	}
	for i, name := range a.GetClear() {
		problem := "it is set as well: one or the other"
		switch {
		case slices.Contains(a.GetClear()[:i], name):
			problem = "it is named twice"
		case name == "labels" && len(out.Labels) == 0:
			out.Labels = []string{}
			continue
		case name == "attachments" && len(out.Attachments) == 0:
			out.Attachments = []shared.Attachment{}
			continue
		case name != "labels" && name != "attachments":
			problem = "one of attachments, labels"
		}
		return out, &shared.FieldError{Field: fmt.Sprintf("clear[%d]", i), Problem: fmt.Sprintf("is %.80q; %s", name,
			problem)}
	}
	return out, nil
}

func decodeRecall(r *v1.RecallRequest) shared.RecallRequest {
	out := shared.RecallRequest{
		Tenant: r.GetTenant(), Actor: shared.Actor{ID: r.GetActor().GetId(), Labels: r.GetActor().GetLabels()},
		Ext: r.GetExt(), Reason: r.GetReason(), RecallID: r.GetRecallId(), RequestedAt: decodeTime(r.GetRequestedAt()),
		Atomic: r.GetAtomic(), Wait: r.GetWait().AsDuration(),
	}
	for _, t := range r.GetTargets() {
		target := shared.Target{
			MessageID: t.GetMessageId(), Conversation: decodeConversation(t.GetConversation()),
			Role: shared.Role(t.GetRole()), Labels: t.GetLabels(),
		}
		if t.GetMessage() != nil {
			m := decodeMessage(t.GetMessage())
			target.Message = &m
		}
		out.Targets = append(out.Targets, target)
	}
	return out
}
