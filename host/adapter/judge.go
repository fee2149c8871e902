package adapter

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
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

	// Wait is for how long the recall of a message that is not known yet waits for it, as in shared.RecallRequest. Each
	// message then needs its conversation, which the user must be able to read; else the error is ErrNotVisible.
	Wait time.Duration

	// RequestedAt is when the user asked, by a clock of the server; zero: now. It must not come from a client.
	RequestedAt time.Time
}

// Recall recalls messages for a user. It returns one result per message, in order, each with Text for the user. The
// errors are those of shared.Recall and of the platform; fields are named as in the JSON of the handler.
func (a *Adapter) Recall(ctx context.Context, user string, ask Ask) ([]shared.RecallResult, error) {
	results, err := judge(ctx, a, user, ask, shared.Recall.Recall)
	var gone []string
	for i, r := range results {
		results[i] = resultFor(r, Text(r))
		if r.Status == shared.StatusRecalled || r.Status == shared.StatusAlreadyRecalled {
			gone = append(append(gone, r.MessageID), r.With...)
		}
	}
	if a.recalled != nil && len(gone) > 0 {
		a.recalled(gone)
	}
	return results, err
}

// Check answers what Recall would answer now. It changes nothing.
func (a *Adapter) Check(ctx context.Context, user string, ask Ask) ([]shared.RecallResult, error) {
	results, err := judge(ctx, a, user, ask, shared.Recall.Check)
	for i, r := range results {
		results[i] = resultFor(r, CheckText(r))
	}
	return results, err
}

// resultFor is a result as a user may read it. What was recalled with the message may be in conversations of others.
func resultFor(r shared.RecallResult, text Texts) shared.RecallResult {
	r.Text, r.Rule, r.With = text, ruleFor(r.Rule), nil
	return r
}

// ruleFor names a rule to a user. In which folder of the server it is, is not theirs to know.
func ruleFor(r shared.Rule) shared.Rule {
	if r.File != "" {
		r.File = filepath.Base(r.File)
	}
	return r
}

// Explain answers which rules decide about a request of a user now, and why. It changes nothing. It is for an operator:
// the answers name files of the server.
func (a *Adapter) Explain(ctx context.Context, user string, ask Ask) ([]shared.Explanation, error) {
	return judge(ctx, a, user, ask, shared.Recall.Explain)
}

// judge asks the plugin with the facts and the roles of the platform.
func judge[T any](ctx context.Context, a *Adapter, user string, ask Ask,
	call func(shared.Recall, context.Context, shared.RecallRequest) ([]T, error)) ([]T, error) {
	began := time.Now()
	recall, err := a.plugin(ctx)
	if err != nil {
		return nil, err
	}
	if n := len(ask.Conversations); n > 0 && n != len(ask.MessageIDs) {
		return nil, shared.Invalidf("conversations", "%d entries for %d messages", n, len(ask.MessageIDs))
	}
	request := shared.RecallRequest{
		Tenant: a.tenant, Actor: shared.Actor{ID: user}, Ext: ask.Ext, Reason: ask.Reason, RecallID: ask.RecallID,
		RequestedAt: ask.RequestedAt, Atomic: ask.Atomic, Wait: ask.Wait, Targets: make([]shared.Target, len(ask.MessageIDs)),
	}
	if n := len(ask.MessageIDs); n > 0 && n <= shared.MaxRecallTargets { // else the plugin says the limit
		if request.Targets, err = a.targets(ctx, recall, user, ask); err != nil {
			return nil, err
		}
	}
	if request.RequestedAt.IsZero() {
		request.Held = time.Since(began) // a window does not run out while the plugin is being restarted
	}
	for {
		results, err := call(recall, ctx, request)
		var field *shared.FieldError
		if !errors.As(err, &field) || !strings.HasPrefix(field.Field, "targets") {
			return results, err
		}
		if i, of := wrongFacts(request.Targets, field.Field); i >= 0 {
			a.log.Error("the platform's facts of a message are not valid; it cannot be recalled", "message_id",
				request.Targets[i].MessageID, "field", of, "problem", field.Problem)
			request.Targets[i] = invisible(request.Targets[i].MessageID)
			continue
		}
		name := strings.TrimSuffix(strings.Replace(field.Field, "targets", "message_ids", 1), ".message_id")
		return nil, &shared.FieldError{Field: name, Problem: field.Problem} // the user gave ids
	}
}

// wrongFacts is the target whose facts a field is of, which are the platform's and not the user's; -1: none.
func wrongFacts(targets []shared.Target, field string) (i int, of string) {
	for i := range targets {
		if of, ok := strings.CutPrefix(field, fmt.Sprintf("targets[%d].message.", i)); ok && targets[i].Message != nil {
			return i, of
		}
	}
	return -1, ""
}

// invisible is a target that is not found: a message of a conversation in which there are none. Both kinds of message
// that do not exist for a user, for there is none or they may not read it, become the same target, and so get the same
// answer.
func invisible(id string) shared.Target {
	return shared.Target{MessageID: id, Role: shared.RoleNone,
		Conversation: shared.Conversation{Type: shared.ConversationSingle, ID: "nowhere"}}
}

// targets are the messages as the plugin is asked about them: where each is, and what the user is there. The plugin
// knows where an indexed message is; the platform, where any other is.
func (a *Adapter) targets(ctx context.Context, recall shared.Recall, user string, ask Ask) ([]shared.Target, error) {
	waiting := a.waiting() // before it looks for them: they may be indexed meanwhile
	messages, err := a.find(ctx, recall, ask.MessageIDs)
	if err != nil {
		return nil, err
	}
	roles := a.rolesOf(user)
	targets := make([]shared.Target, len(ask.MessageIDs))
	hidden := false // there is one that is not known, or that the user may not read: they must not be told apart
	for i, id := range ask.MessageIDs {
		targets[i] = invisible(id)
		if ask.Wait > 0 {
			if targets[i], err = a.expected(ctx, roles, id, ask.conversation(i), i); err != nil {
				return nil, err
			}
		}
		m, found := messages[id]
		if !found || elsewhere(m.Conversation, ask.conversation(i)) {
			hidden = true
			continue
		}
		role, reads, err := roles.in(ctx, m.Conversation)
		if err != nil {
			return nil, err
		}
		if !reads {
			hidden = true
			continue
		}
		targets[i].Conversation, targets[i].Role = m.Conversation, role
		if !m.indexed {
			targets[i].Message = &m.Message
		}
	}
	if hidden && waiting {
		return nil, fmt.Errorf("%w: messages wait to be indexed, and one of them may be this", shared.ErrUnavailable)
	}
	return targets, nil
}

// expected is a message that may still come. Whether the user may read its conversation does not depend on the message.
func (a *Adapter) expected(ctx context.Context, roles *roles, id string, c shared.Conversation, i int) (shared.Target,
	error) {
	if c == (shared.Conversation{}) {
		return shared.Target{}, shared.Invalidf(fmt.Sprintf("targets[%d].conversation", i),
			"is not set; a recall that may wait needs it")
	}
	role, reads, err := roles.in(ctx, c)
	if err == nil && !reads {
		err = ErrNotVisible
	}
	return shared.Target{MessageID: id, Conversation: c, Role: role}, err
}

// conversation is the one in which the user sees a message; zero if it is not known.
func (a *Ask) conversation(i int) (c shared.Conversation) {
	if len(a.Conversations) > 0 {
		c = a.Conversations[i]
	}
	return c
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
	states, err := recall.Status(ctx, a.tenant, ids)
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
		} else if !slices.Contains(missing, s.MessageID) {
			missing = append(missing, s.MessageID)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	facts, err := a.platform.Facts(ctx, missing)
	if err != nil {
		return nil, fmt.Errorf("facts of the messages: %w", err)
	}
	for _, id := range missing {
		if m, ok := facts[id]; ok {
			m.Tenant, m.ID = a.tenant, id
			found[id] = fact{m, false}
		}
	}
	return found, nil
}

// waiting tells whether the feed, if there is one, has messages that are not indexed yet.
func (a *Adapter) waiting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.feed != nil && !a.feed.spool.Empty()
}
