package chat

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/chat-recall/recall/shared"
)

// Ask is a user's request to take messages back. It does not say what the user is in the conversation: the server reads
// that from the list of members.
type Ask struct {
	MessageIDs  []string
	Ext         string
	Reason      string
	RecallID    string
	RequestedAt time.Time // zero: now
}

// Recall takes messages back. When it returns, no queue delivers a recalled message any more. The steps clean the
// stores a moment later.
func (s *Server) Recall(ctx context.Context, user string, ask Ask) ([]shared.RecallResult, error) {
	results, err := s.judge(ctx, user, ask, s.recall.Recall)
	for _, r := range results {
		// who was first may not be answered yet
		if r.Status == shared.StatusRecalled || r.Status == shared.StatusAlreadyRecalled {
			s.hub.Gone(r.MessageID)
		}
	}
	return results, err
}

// Check tells what Recall would answer now.
func (s *Server) Check(ctx context.Context, user string, ask Ask) ([]shared.RecallResult, error) {
	return s.judge(ctx, user, ask, s.recall.Check)
}

// judge asks the plugin with the facts and the roles that the server knows.
func (s *Server) judge(ctx context.Context, user string, ask Ask,
	call func(context.Context, shared.RecallRequest) ([]shared.RecallResult, error)) ([]shared.RecallResult, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if ask.RecallID == "" {
		ask.RecallID = newID()
	}
	request := shared.RecallRequest{
		Tenant: Tenant, Actor: shared.Actor{ID: user}, Ext: ask.Ext, Reason: ask.Reason, RecallID: ask.RecallID,
		RequestedAt: ask.RequestedAt,
	}
	for _, id := range ask.MessageIDs {
		target, err := s.target(ctx, user, id)
		if err != nil {
			return nil, err
		}
		request.Targets = append(request.Targets, target)
	}
	results, err := call(ctx, request)
	var field *shared.FieldError
	if errors.As(err, &field) && strings.HasPrefix(field.Field, "targets") { // the user gave ids, not targets
		name := strings.TrimSuffix(strings.Replace(field.Field, "targets", "message_ids", 1), ".message_id")
		return nil, &shared.FieldError{Field: name, Problem: field.Problem}
	}
	return results, err
}

// nowhere is a conversation without messages: a message that is looked for in it is not found.
var nowhere = shared.Conversation{Type: shared.ConversationSingle, ID: "nowhere"}

// target is a message as the plugin is asked about it: where it is, and what the user is there. To a user who is not in
// its conversation a message does not exist.
func (s *Server) target(ctx context.Context, user, id string) (shared.Target, error) {
	unknown := shared.Target{MessageID: id, Conversation: nowhere, Role: shared.RoleNone}
	room, found, err := s.store.RoomOf(ctx, id)
	if err != nil || !found {
		return unknown, err
	}
	member, in := s.store.Member(room, user)
	if !in {
		return unknown, nil
	}
	t := shared.Target{MessageID: id, Conversation: room, Role: member.Role}
	// The facts go along: a message that is recalled while it is being sent, or that is older than the plugin, is
	// in the store and not in the index yet.
	m, found, err := s.store.Message(ctx, id)
	if found && !m.indexed {
		t.Message = &m.Message
	}
	return t, err
}
