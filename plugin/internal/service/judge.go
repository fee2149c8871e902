package service

import (
	"fmt"
	"slices"
	"time"

	"github.com/chat-recall/recall/plugin/internal/index"
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

// verdicts are the answers to one request, before anything is committed.
type verdicts struct {
	results      []shared.RecallResult
	ops          []index.Op          // the permitted ones
	at           []int               // of each op, the result that waits for it
	reservations []rules.Reservation // of each op, the unit of a limit that it holds
	shadows      []shadowed          // what shadow rules would have changed
}

// shadowed is what a shadow rule would have changed about one result.
type shadowed struct {
	at int // the result
	rules.Shadow
}

// decider is a policy with its limits: Reserve of a [rules.Limiter], or of a trial of it.
type decider func(*rules.Policy, *rules.Input) (rules.Decision, rules.Reservation)

// judge decides a request by one policy at one moment. It writes nothing, and where it fails decide was not called.
func (s *Service) judge(a *active, req *shared.RecallRequest, decide decider) (*verdicts, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	policy, now := a.rules.Policy(), s.now()
	asked := micros(now.Add(-max(req.Held, 0)))
	if !req.RequestedAt.IsZero() {
		asked = micros(req.RequestedAt)
		if err := notAhead("requested_at", asked, now, policy); err != nil {
			return nil, err
		}
	}
	records, err := a.index.Messages(req.Tenant, req.MessageIDs)
	if err != nil {
		return nil, fmt.Errorf("find the messages: %w", err)
	}
	if err := carry(records, req, now, policy); err != nil {
		return nil, err
	}
	for i, r := range records {
		// The two times may be of two servers' clocks.
		if skew := policy.ClockSkew(); r != nil && !req.RequestedAt.IsZero() && asked.Before(r.Message.SentAt.Add(-skew)) {
			return nil, shared.Invalidf("requested_at", "%s is before message_ids[%d] was sent, at %s, and clocks may differ by %s",
				asked.Format(time.RFC3339Nano), i, r.Message.SentAt.UTC().Format(time.RFC3339Nano), skew)
		}
	}
	counted := steady.Add(s.elapsed() + asked.Sub(now))
	actor := req.Actor
	if actor.Role == "" {
		actor.Role = shared.Member
	}
	v := &verdicts{results: make([]shared.RecallResult, len(records))}
	for i, r := range records {
		result := &v.results[i]
		result.MessageID = req.MessageIDs[i]
		switch {
		case r == nil:
			result.Status = shared.NotFound
		case r.Tombstone != nil:
			took(result, r.Tombstone, req)
		default:
			actor := actorIn(actor, records, r)
			asked := asked
			if req.RequestedAt.IsZero() && req.Held > 0 && asked.Before(r.Message.SentAt) {
				asked = r.Message.SentAt // the SDK's word, by another clock or before a jump of this one
			}
			in := input(req, actor, asked, &r.Message)
			in.CountedAt = counted
			d, reservation := decide(policy, in)
			result.Rule = shared.Rule{Name: d.Rule.Name, File: d.Rule.File, Line: d.Rule.Line}
			if d.Shadow.Differs {
				v.shadows = append(v.shadows, shadowed{i, d.Shadow})
			}
			if !d.Permit {
				result.Status, result.Code, result.RetryAt = shared.Denied, shared.Code(d.Code), d.RetryAt
				continue
			}
			result.Status = shared.Recalled
			result.RecallID, result.RecalledBy, result.RecalledAt, result.Until = req.RecallID, actor, asked, d.Until
			v.at = append(v.at, i)
			v.reservations = append(v.reservations, reservation)
			op := &index.Recall{Event: shared.Event{
				Tenant: req.Tenant, RecallID: req.RecallID, Actor: actor, Ext: req.Ext, Reason: req.Reason,
				RecalledAt: asked, Message: r.Message, Rule: result.Rule, PolicyDigest: policy.Digest(),
				Silent: d.OnRecall.Silent, Disposition: shared.Disposition(d.OnRecall.Disposition), Retention: d.OnRecall.Retention,
			}}
			if d.OnRecall.Placeholder != nil {
				op.Event.Tombstone = d.OnRecall.Placeholder.Texts
			}
			op.Steps, op.Unsupported = a.stepsOf(d.OnRecall)
			v.ops = append(v.ops, index.Op{Recall: op})
		}
	}
	return v, nil
}

// actorIn is the actor as far as the role of the request goes: a request has one role, which the host looked up in one
// conversation. That is taken to be the one of the first message that is known; in another conversation it makes nobody
// an owner or admin.
func actorIn(actor shared.Actor, records []*index.Record, r *index.Record) shared.Actor {
	if actor.Role != shared.Owner && actor.Role != shared.Admin {
		return actor
	}
	first := records[slices.IndexFunc(records, func(r *index.Record) bool { return r != nil })]
	if r.Message.Conversation != first.Message.Conversation {
		actor.Role = shared.Member
	}
	return actor
}

// denyRecallID answers for a message that would be recalled under the recall id of another actor.
func denyRecallID(result *shared.RecallResult) {
	*result = shared.RecallResult{MessageID: result.MessageID, Status: shared.Denied, Code: shared.CodeRecallIDUsed}
}

// steady is where the moments begin by which limits count, which no change of the wall clock moves.
var steady = time.Unix(0, 0).UTC()

// took answers for a message that has a tombstone. The role of who took it back may have changed since.
func took(result *shared.RecallResult, t *index.Tombstone, req *shared.RecallRequest) {
	result.Status = shared.AlreadyRecalled
	if t.RecallID == req.RecallID && t.RecalledBy.ID == req.Actor.ID {
		result.Status = shared.Recalled
	}
	result.RecallID, result.RecalledBy, result.RecalledAt = t.RecallID, t.RecalledBy, t.RecalledAt
}

// carry puts the messages that the request brings along in the places of those that the index does not know.
func carry(records []*index.Record, req *shared.RecallRequest, now time.Time, policy *rules.Policy) error {
	for i := range req.Messages {
		m := kept(req.Messages[i])
		field := fmt.Sprintf("messages[%d]", i)
		if err := notAhead(field+".sent_at", m.SentAt, now, policy); err != nil {
			return err
		}
		at := slices.Index(req.MessageIDs, m.ID)
		if r := records[at]; r == nil {
			records[at] = &index.Record{Message: m}
		} else if !index.SameFacts(m, r.Message) {
			return shared.Invalidf(field, "the message %q is indexed with other facts, which stay; leave it out", m.ID)
		}
	}
	return nil
}

// kept is a message as it is kept: times to the microsecond.
func kept(m shared.Message) shared.Message {
	m.SentAt = micros(m.SentAt)
	return m
}

// ahead tells of a time further in the future than two clocks may differ.
func ahead(t, now time.Time, policy *rules.Policy) bool { return t.After(now.Add(policy.ClockSkew())) }

// notAhead refuses a time that is ahead.
func notAhead(field string, t, now time.Time, policy *rules.Policy) error {
	if skew := policy.ClockSkew(); ahead(t, now, policy) {
		return shared.Invalidf(field, "%s is in the future: the plugin's clock says %s, and clocks may differ by %s",
			t.Format(time.RFC3339Nano), now.Format(time.RFC3339Nano), skew)
	}
	return nil
}

func input(req *shared.RecallRequest, actor shared.Actor, asked time.Time, m *shared.Message) *rules.Input {
	return &rules.Input{
		Tenant: req.Tenant, MessageID: m.ID, MessageType: string(m.Type), Sender: m.Sender, MessageLabels: m.Labels,
		SentAt: m.SentAt, ConversationID: m.Conversation.ID, ConversationType: string(m.Conversation.Type),
		ConversationLabels: req.ConversationLabels, ActorID: actor.ID, ActorRole: string(actor.Role),
		RequestedAt: asked, Reason: req.Reason, Ext: req.Ext,
	}
}
