package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// relations find what is recalled with the targets of one request.
type relations struct {
	index  *index.Index
	policy *rules.Policy
	gone   map[string]bool // messages that the targets before recall; nil: none
}

func (a *active) newRelations(policy *rules.Policy) *relations {
	return &relations{index: a.index, policy: policy}
}

// facts returns the facts by which the rules judge a message: an edit is judged as its original. See
// [index.Index.EditFacts].
func (r *relations) facts(of *index.Record) (facts shared.Message, originals uint64, err error) {
	if !r.index.HasRelations() && len(of.Message.Relations) == 0 { // it may be the first one that has any
		return of.Message, 0, nil
	}
	facts, originals, err = r.index.EditFacts(of.Message)
	if err != nil {
		err = fmt.Errorf("find the original of message %q: %w", of.Message.ID, err)
	}
	return facts, originals, err
}

// find finds the messages that are recalled with that of a recall, whose ids it returns, and those that relate to them
// and stay. in is what the rules decided about.
func (r *relations) find(op *index.Recall, in *rules.Input) (going []string, err error) {
	if !r.index.HasRelations() {
		return nil, nil
	}
	with, err := r.index.FindRelated(op, r.gone, func(facts *shared.Message) bool {
		return r.policy.Forbids(relatedInput(in, facts))
	})
	if err != nil {
		return nil, fmt.Errorf("find what relates to message %q: %w", in.MessageID, err)
	}
	op.With = with
	if r.gone[in.MessageID] { // what goes with it goes with another target, or follows that one
		return nil, nil
	}
	if r.gone == nil {
		r.gone = map[string]bool{}
	}
	r.gone[in.MessageID] = true
	for i := range with {
		if w := &with[i]; !w.Stays {
			going = append(going, w.Message.ID)
			r.gone[w.Message.ID] = true
		}
	}
	return going, nil
}

// recalledWith answers for targets that are denied by themselves and went with another target of the request.
func (v *verdicts) recalledWith() {
	for i := range v.results {
		root := v.results[i]
		if len(root.With) == 0 {
			continue
		}
		for k := range v.results {
			if r := &v.results[k]; r.Status == shared.StatusDenied && slices.Contains(root.With, r.MessageID) {
				id := r.MessageID
				*r = root
				r.MessageID, r.With = id, nil
				v.refusals = slices.DeleteFunc(v.refusals, func(x refusal) bool { return x.at == k })
			}
		}
	}
}

// relatedInput is what the rules are asked about a message that would be recalled with the one of in: the same
// request for another message. The labels of another conversation are not known.
func relatedInput(in *rules.Input, m *shared.Message) *rules.Input {
	related := *in
	related.MessageID, related.MessageType, related.Sender = m.ID, string(m.Type), m.Sender
	related.MessageLabels, related.SentAt = m.Labels, m.SentAt
	if c := m.Conversation; c.ID != in.ConversationID || string(c.Type) != in.ConversationType {
		related.ConversationLabels = nil
	}
	related.ConversationID, related.ConversationType = m.Conversation.ID, string(m.Conversation.Type)
	return &related
}

// judgeLate decides with which recalls the message of a Put goes, if it comes after those of messages that it relates
// to: a message that the rules forbid to recall stays.
func (a *active) judgeLate(op *index.Op) error {
	if len(op.Put.Relations) == 0 {
		return nil
	}
	policy := a.rules.Policy()
	late, err := a.index.FindLate(op.Put, func(e *shared.Event, facts *shared.Message) bool {
		return policy.Forbids(relatedInput(eventInput(e), facts))
	})
	if err != nil {
		return fmt.Errorf("find what message %q relates to: %w", op.Put.ID, err)
	}
	op.Judged = &index.Judged{Late: late}
	return nil
}

// cascadesAtOnce is how many open cascades are read together.
const cascadesAtOnce = 16

// cascade recalls the next messages that relate to a recalled one and did not fit in the commit of its recall. more
// says that there may be others.
func (a *active) cascade(ctx context.Context) (more bool, err error) {
	if !a.index.HasOpenCascades() {
		return false, nil
	}
	open, err := a.index.OpenCascades(ctx, cascadesAtOnce)
	if err != nil {
		return false, fmt.Errorf("read open cascades: %w", err)
	}
	policy := a.rules.Policy()
	for _, at := range open {
		op, err := a.index.FindCascade(at, func(e *shared.Event, facts *shared.Message) bool {
			return policy.Forbids(relatedInput(eventInput(e), facts))
		})
		if err != nil {
			return false, fmt.Errorf("find what relates to the message of event %d: %w", at.Sequence, err)
		}
		if _, err := a.log.Append(ctx, []index.Op{{Cascade: op}}); err != nil {
			return false, fmt.Errorf("recall what relates to the message of event %d: %w", at.Sequence, err)
		}
	}
	return len(open) > 0, nil
}

// eventInput is what the rules decided about a recall, as far as its event has it.
func eventInput(e *shared.Event) *rules.Input {
	m := &e.Message
	return &rules.Input{
		Tenant: e.Tenant, MessageID: m.ID, MessageType: string(m.Type), Sender: m.Sender, MessageLabels: m.Labels,
		SentAt: m.SentAt, ConversationID: m.Conversation.ID, ConversationType: string(m.Conversation.Type),
		ActorID: e.Actor.ID, ActorRole: string(e.Role), ActorLabels: e.Actor.Labels, RequestedAt: e.RecalledAt,
		Reason: e.Reason, Ext: e.Ext,
	}
}
