package chat

import (
	"context"
	"time"

	"github.com/chat-recall/recall/shared"
)

// Ask is a request to take messages back, as a user makes it. What the user is in the conversation is not in it: that
// comes from the list of members.
type Ask struct {
	MessageIDs  []string
	Ext         string
	Reason      string
	RecallID    string
	RequestedAt time.Time // zero: now
}

// Recall takes messages back. When it returns, no client gets a recalled message any more, from whatever queue it would
// have come; the stores are cleaned a moment later by the steps.
func (s *Server) Recall(ctx context.Context, user string, ask Ask) ([]shared.RecallResult, error) {
	results, err := s.judge(ctx, user, ask, s.recall.Recall)
	for _, r := range results {
		if r.Status == shared.Recalled || r.Status == shared.AlreadyRecalled { // who was first may not be answered yet
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
	request := shared.RecallRequest{Tenant: Tenant, MessageIDs: ask.MessageIDs, Actor: shared.Actor{ID: user},
		Ext: ask.Ext, Reason: ask.Reason, RecallID: ask.RecallID, RequestedAt: ask.RequestedAt}
	if err := request.Validate(); err != nil {
		return nil, err
	}
	// One request has one role. Messages of several conversations, in which the user is one thing and another, are
	// asked for in one request a role, all under the same recall id.
	byRole := make(map[shared.Role]*shared.RecallRequest)
	var order []shared.Role
	answers := make(map[string]shared.RecallResult, len(ask.MessageIDs))
	for _, id := range ask.MessageIDs {
		role := shared.Member
		room, found, err := s.store.RoomOf(ctx, id)
		if err != nil {
			return nil, err
		}
		if found {
			m, in := s.store.Member(room, user)
			if !in { // to somebody else this message does not exist
				answers[id] = shared.RecallResult{MessageID: id, Status: shared.NotFound}
				continue
			}
			role = m.Role
		}
		r := byRole[role]
		if r == nil {
			r = new(shared.RecallRequest)
			*r = request
			r.Actor.Role, r.MessageIDs = role, nil
			byRole[role], order = r, append(order, role)
		}
		r.MessageIDs = append(r.MessageIDs, id)
		// The facts go along: a message that is recalled while it is being sent, or that is older than the plugin, is
		// in the store and not in the index yet.
		if m, found, err := s.store.Message(ctx, id); err != nil {
			return nil, err
		} else if found && !m.indexed {
			r.Messages = append(r.Messages, m.Message)
		}
	}
	var failed error
	for _, role := range order {
		results, err := call(ctx, *byRole[role])
		if err != nil {
			failed = err
			break
		}
		for _, r := range results {
			answers[r.MessageID] = r
		}
	}
	list := make([]shared.RecallResult, 0, len(answers))
	for _, id := range ask.MessageIDs {
		if r, ok := answers[id]; ok {
			list = append(list, r)
		}
	}
	return list, failed
}
