package engine

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
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
	refusals     []refusal           // the targets that are denied or not found
	digest       string              // of the policy
	unknown      bool                // there is a target that the index does not know
}

// shadowed is what a shadow rule would have changed about one result.
type shadowed struct {
	at int // the result
	rules.Shadow
}

// decider is a policy with its limits: Reserve of a [rules.Limiter], or of a trial of it.
type decider func(*rules.Policy, *rules.Input) (rules.Decision, rules.Reservation)

// judge decides a request by one policy, as of the moment when it arrived. It writes nothing, and where it fails decide
// was not called. cancel gives back what decide reserved for a recall that does not come about.
func (a *active) judge(req *shared.RecallRequest, arrived moment, decide decider,
	cancel func(rules.Reservation)) (*verdicts, error) {
	if err := wire.ValidateRecall(req); err != nil {
		return nil, err
	}
	if req.Wait > 0 && req.Atomic {
		return nil, shared.Invalidf("wait", "is not allowed with atomic: one of the targets may never come")
	}
	policy, now := a.rules.Policy(), arrived.now
	asked := micros(now.Add(-max(req.Held, 0)))
	if !req.RequestedAt.IsZero() {
		asked = micros(req.RequestedAt)
		if err := notInFuture("requested_at", asked, now, policy); err != nil {
			return nil, err
		}
	}
	records, err := a.index.Messages(req.Tenant, targetIDs(req))
	if err != nil {
		return nil, fmt.Errorf("find the messages: %w", err)
	}
	for i := range req.Targets {
		t, r := &req.Targets[i], records[i]
		if r == nil && t.Message != nil {
			m := micro(*t.Message)
			if err := notInFuture(fmt.Sprintf("targets[%d].message.sent_at", i), m.SentAt, now, policy); err != nil {
				return nil, err
			}
			records[i] = &index.Record{Message: m}
		}
		if r != nil && !r.Forgotten && t.Conversation != (shared.Conversation{}) &&
			r.Message.Conversation != t.Conversation {
			records[i] = nil // the role is of another conversation than the message
		}
	}
	for i, r := range records {
		// The two times may be of two servers' clocks.
		if skew := policy.ClockSkew(); r != nil && !req.RequestedAt.IsZero() && asked.Before(r.Message.SentAt.Add(-skew)) {
			return nil, shared.Invalidf("requested_at", "%s is before targets[%d] was sent, at %s, and clocks may differ by %s",
				asked.Format(time.RFC3339Nano), i, r.Message.SentAt.UTC().Format(time.RFC3339Nano), skew)
		}
	}
	counted := steady.Add(arrived.elapsed + asked.Sub(now))
	v := &verdicts{results: make([]shared.RecallResult, len(records)), digest: policy.Digest()}
	relations := a.newRelations(policy)
	for i, r := range records {
		target, result := &req.Targets[i], &v.results[i]
		result.MessageID = target.MessageID
		switch {
		case r == nil && req.Wait > 0 && asked.Add(req.Wait).After(now):
			v.unknown = true
			v.wait(req, i, asked)
		case r == nil:
			result.Status = shared.StatusNotFound
			v.unknown = true
			v.refusals = append(v.refusals, refusal{at: i, asked: asked})
		case r.Tombstone != nil:
			alreadyRecalled(result, r.Tombstone, req)
		default:
			judged, originals, err := relations.facts(r)
			if err != nil {
				return nil, err
			}
			in := input(req, target, askedOf(req, asked, r), &judged)
			in.CountedAt = counted
			d, reservation := decide(policy, in)
			result.Rule = ruleOf(d.Rule)
			if d.Shadow.Differs {
				v.shadows = append(v.shadows, shadowed{i, d.Shadow})
			}
			if !d.Permit {
				result.Status, result.Code, result.RetryAt = shared.StatusDenied, shared.Code(d.Code), d.RetryAt
				result.Text = d.Texts
				v.refusals = append(v.refusals, refusal{i, &r.Message, in.RequestedAt})
				break
			}
			op, err := a.recallOp(req, in, v.digest, &d, r)
			if err == nil {
				result.With, err = relations.find(op, in)
			}
			if err != nil {
				return nil, err
			}
			op.Spend, op.Known, op.Originals = spendOf(reservation, arrived), target.Message == nil, originals
			result.Status, result.Until = shared.StatusRecalled, d.Until
			result.RecallID, result.RecalledBy, result.Role, result.RecalledAt = req.RecallID, req.Actor.ID, op.Event.Role,
				in.RequestedAt
			v.at = append(v.at, i)
			v.reservations = append(v.reservations, reservation)
			v.ops = append(v.ops, index.Op{Recall: op})
		}
	}
	if req.Atomic && slices.ContainsFunc(v.results, refused) {
		v.abort(cancel)
	}
	v.setTexts()
	return v, nil
}

func targetIDs(req *shared.RecallRequest) []string {
	ids := make([]string, len(req.Targets))
	for i := range req.Targets {
		ids[i] = req.Targets[i].MessageID
	}
	return ids
}

// askedOf is when a message was asked for. How long a request was held is measured by another clock than its message
// was sent by, and this one may have jumped.
func askedOf(req *shared.RecallRequest, asked time.Time, r *index.Record) time.Time {
	if req.RequestedAt.IsZero() && req.Held > 0 && asked.Before(r.Message.SentAt) {
		return r.Message.SentAt
	}
	return asked
}

// recallOp is the operation that recalls a message by a decision of the policy with a digest.
func (a *active) recallOp(req *shared.RecallRequest, in *rules.Input, digest string, d *rules.Decision,
	r *index.Record) (*index.Recall, error) {
	op := &index.Recall{Atomic: req.Atomic, Event: shared.Event{
		Tenant: req.Tenant, RecallID: req.RecallID, Actor: req.Actor, Role: shared.Role(in.ActorRole), Ext: req.Ext,
		Reason: req.Reason, RecalledAt: in.RequestedAt, Message: r.Message,
		Silent: d.OnRecall.Silent, Disposition: shared.Disposition(d.OnRecall.Disposition), Retention: d.OnRecall.Retention,
	}}
	if d.OnRecall.Placeholder != nil {
		op.Event.Placeholder = d.OnRecall.Placeholder.Texts
	}
	op.Event.PolicyDigest, op.Event.Rule = digest, ruleOf(d.Rule)
	op.After = a.after
	for _, kind := range d.OnRecall.Cascade {
		op.Cascade |= index.KindsOf(shared.RelationKind(kind))
	}
	var err error
	op.Steps, op.Unsupported, err = a.stepsOf(d.OnRecall)
	return op, err
}

// refused tells whether the message of a result stays readable.
func refused(r shared.RecallResult) bool {
	return r.Status == shared.StatusDenied || r.Status == shared.StatusNotFound
}

// abort takes back what an atomic request was permitted.
func (v *verdicts) abort(cancel func(rules.Reservation)) {
	for n, i := range v.at {
		cancel(v.reservations[n])
		v.results[i] = shared.RecallResult{MessageID: v.results[i].MessageID, Status: shared.StatusAborted}
	}
	v.ops, v.at, v.reservations = nil, nil, nil
}

// setTexts sets what to tell the user about each refusal.
func (v *verdicts) setTexts() {
	for i := range v.results {
		if r := &v.results[i]; r.Text == nil {
			r.Text = shared.Words(r.Status, r.Code)
		}
	}
}

// denyRecallID answers for a message that would be recalled under the recall id of another actor.
func denyRecallID(result *shared.RecallResult) {
	*result = shared.RecallResult{MessageID: result.MessageID, Status: shared.StatusDenied, Code: shared.CodeRecallIDUsed}
}

// steady is where the moments begin by which limits count, which no change of the wall clock moves.
var steady = time.Unix(0, 0).UTC()

// alreadyRecalled answers for a message that has a tombstone. The role of the actor may have changed since.
func alreadyRecalled(result *shared.RecallResult, t *index.Tombstone, req *shared.RecallRequest) {
	result.Status = shared.StatusAlreadyRecalled
	if t.RecallID == req.RecallID && t.RecalledBy == req.Actor.ID {
		result.Status = shared.StatusRecalled
	}
	result.RecallID, result.RecalledBy, result.Role, result.RecalledAt = t.RecallID, t.RecalledBy, t.Role, t.RecalledAt
}

// micro is a message with the precision to which times are kept.
func micro(m shared.Message) shared.Message {
	m.SentAt = micros(m.SentAt)
	return m
}

// inFuture tells whether a time is further in the future than two clocks may differ.
func inFuture(t, now time.Time, policy *rules.Policy) bool {
	return t.After(now.Add(policy.ClockSkew()))
}

// notInFuture refuses a time in the future.
func notInFuture(field string, t, now time.Time, policy *rules.Policy) error {
	if skew := policy.ClockSkew(); inFuture(t, now, policy) {
		return shared.Invalidf(field, "%s is in the future: the plugin's clock says %s, and clocks may differ by %s",
			t.Format(time.RFC3339Nano), now.Format(time.RFC3339Nano), skew)
	}
	return nil
}

// input is what the rules decide about.
func input(req *shared.RecallRequest, t *shared.Target, asked time.Time, m *shared.Message) *rules.Input {
	return &rules.Input{
		Tenant: req.Tenant, MessageID: m.ID, MessageType: string(m.Type), Sender: m.Sender, MessageLabels: m.Labels,
		SentAt: m.SentAt, ConversationID: m.Conversation.ID, ConversationType: string(m.Conversation.Type),
		ConversationLabels: t.Labels, ActorID: req.Actor.ID, ActorRole: string(roleOf(t)),
		ActorLabels: req.Actor.Labels,
		RequestedAt: asked, Reason: req.Reason, Ext: req.Ext,
	}
}

// roleOf is the role of the actor in the conversation of a target.
func roleOf(t *shared.Target) shared.Role { return cmp.Or(t.Role, shared.RoleMember) }
