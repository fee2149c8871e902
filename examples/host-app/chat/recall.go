package chat

import (
	"context"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// platform gives the adapter the facts and roles of this server.
type platform struct{ store *Store }

// Facts implements [adapter.Platform].
func (p platform) Facts(ctx context.Context, ids []string) (map[string]shared.Message, error) {
	facts := make(map[string]shared.Message, len(ids))
	for _, id := range ids {
		m, found, err := p.store.Message(ctx, id)
		if err != nil {
			return nil, err
		}
		if found {
			facts[id] = m.Message
		}
	}
	return facts, nil
}

// Role implements [adapter.Platform].
func (p platform) Role(_ context.Context, user string, room shared.Conversation) (shared.Role, bool, error) {
	member, in := p.store.Member(room, user)
	return member.Role, in, nil
}

// gone takes recalled messages out of the queues in memory, before anybody hears of the recall. Who was first may not
// be answered yet.
func (s *Server) gone(ids []string) {
	for _, id := range ids {
		s.hub.Gone(id)
	}
}

// Recall recalls messages for a user. When it returns, no queue delivers a recalled message any more. The steps clean
// the stores a moment later.
func (s *Server) Recall(ctx context.Context, user string, ask adapter.Ask) ([]shared.RecallResult, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.adapter.Recall(ctx, user, ask)
}
