package adapter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chat-recall/recall/shared"
)

// Ask is what a user asks to recall. It does not say what the messages are, nor what the user is in their
// conversations: the adapter looks both up.
type Ask struct {
	MessageIDs []string // 1 to shared.MaxRecallTargets, each once

	// Conversations, if not empty, has for each message the conversation in which the user sees it: a message that is
	// elsewhere is not found. A zero one is not known.
	Conversations []shared.Conversation

	Ext      string
	Reason   string
	RecallID string // makes a retry the same recall; empty: package host makes one
	Atomic   bool   // recall all messages or none

	// RequestedAt is when the user asked, by a clock of the server; zero: now. It must not come from a client.
	RequestedAt time.Time
}

// Recall recalls messages for a user. It returns one result per message, in order, each with Text for the user. The
// errors are those of shared.Recall and of the platform; fields are named as in the JSON of the handler.
func (a *Adapter) Recall(ctx context.Context, user string, ask Ask) ([]shared.RecallResult, error) {
	results, err := judge(ctx, a, user, ask, shared.Recall.Recall)
	var gone []string
	for i, r := range results {
		results[i].Text = Text(r)
		if r.Status == shared.StatusRecalled || r.Status == shared.StatusAlreadyRecalled {
			gone = append(gone, r.MessageID)
		}
	}
	if a.Recalled != nil && len(gone) > 0 {
		a.Recalled(gone)
	}
	return results, err
}

// Check answers what Recall would answer now. It changes nothing.
func (a *Adapter) Check(ctx context.Context, user string, ask Ask) ([]shared.RecallResult, error) {
	results, err := judge(ctx, a, user, ask, shared.Recall.Check)
	for i, r := range results {
		results[i].Text = CheckText(r)
	}
	return results, err
}

// Explain answers which rules decide about a request of a user now, and why. It changes nothing.
func (a *Adapter) Explain(ctx context.Context, user string, ask Ask) ([]shared.Explanation, error) {
	return judge(ctx, a, user, ask, shared.Recall.Explain)
}

// judge asks the plugin with the facts and the roles of the platform.
func judge[T any](ctx context.Context, a *Adapter, user string, ask Ask,
	call func(shared.Recall, context.Context, shared.RecallRequest) ([]T, error)) ([]T, error) {
	recall, err := a.plugin(ctx)
	if err != nil {
		return nil, err
	}
	request := shared.RecallRequest{
		Tenant: a.Tenant, Actor: shared.Actor{ID: user}, Ext: ask.Ext, Reason: ask.Reason, RecallID: ask.RecallID,
		RequestedAt: ask.RequestedAt, Atomic: ask.Atomic,
	}
	if len(ask.MessageIDs) > 0 && len(ask.MessageIDs) <= shared.MaxRecallTargets { // else the plugin says the limit
		if request.Targets, err = a.targets(ctx, recall, user, ask); err != nil {
			return nil, err
		}
	} else {
		request.Targets = make([]shared.Target, len(ask.MessageIDs))
	}
	results, err := call(recall, ctx, request)
	var field *shared.FieldError
	if errors.As(err, &field) && strings.HasPrefix(field.Field, "targets") { // the user gave ids
		name := strings.TrimSuffix(strings.Replace(field.Field, "targets", "message_ids", 1), ".message_id")
		return nil, &shared.FieldError{Field: name, Problem: field.Problem}
	}
	return results, err
}

// nowhere is a conversation without messages: a message that is looked for in it is not found.
var nowhere = shared.Conversation{Type: shared.ConversationSingle, ID: "nowhere"}

// targets are the messages as the plugin is asked about them: where each is, and what the user is there. The plugin
// knows where an indexed message is; the platform, where any other is. Both kinds of message that do not exist for the
// user, for there is none or they may not read it, become the same target, and so get the same answer.
func (a *Adapter) targets(ctx context.Context, recall shared.Recall, user string, ask Ask) ([]shared.Target, error) {
	messages, err := a.find(ctx, recall, ask.MessageIDs)
	if err != nil {
		return nil, err
	}
	roles := make(map[shared.Conversation]shared.Role)
	targets := make([]shared.Target, len(ask.MessageIDs))
	for i, id := range ask.MessageIDs {
		targets[i] = shared.Target{MessageID: id, Conversation: nowhere, Role: shared.RoleNone}
		m, found := messages[id]
		if !found || i < len(ask.Conversations) && elsewhere(m.Conversation, ask.Conversations[i]) {
			continue
		}
		role, known := roles[m.Conversation]
		if !known {
			if role, err = a.Platform.Role(ctx, user, m.Conversation); err != nil {
				return nil, fmt.Errorf("role of the user: %w", err)
			}
			roles[m.Conversation] = role
		}
		if role == shared.RoleNone {
			continue
		}
		targets[i].Conversation, targets[i].Role = m.Conversation, role
		if !m.indexed {
			targets[i].Message = &m.Message
		}
	}
	return targets, nil
}

func elsewhere(is, expected shared.Conversation) bool {
	return expected != shared.Conversation{} && is != expected
}

// a fact is a message as the index or the platform knows it.
type fact struct {
	shared.Message
	indexed bool
}

// find looks messages up: in the index, and else on the platform.
func (a *Adapter) find(ctx context.Context, recall shared.Recall, ids []string) (map[string]fact, error) {
	states, err := recall.Status(ctx, a.Tenant, ids)
	if err != nil {
		var field *shared.FieldError
		if errors.As(err, &field) { // of the ids, which the user gave
			return nil, &shared.FieldError{Field: strings.Replace(field.Field, "ids", "message_ids", 1), Problem: field.Problem}
		}
		return nil, err
	}
	found := make(map[string]fact, len(ids))
	var missing []string
	for _, s := range states {
		if s.Message != nil {
			found[s.MessageID] = fact{*s.Message, true}
		} else {
			missing = append(missing, s.MessageID)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	facts, err := a.Platform.Facts(ctx, missing)
	if err != nil {
		return nil, fmt.Errorf("facts of the messages: %w", err)
	}
	for id, m := range facts {
		m.Tenant, m.ID = a.Tenant, id
		found[id] = fact{m, false}
	}
	return found, nil
}
