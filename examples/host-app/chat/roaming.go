package chat

import (
	"context"

	"github.com/chat-recall/recall/shared"
)

// Roamed lists up to limit messages of a user's roaming log after an entry, oldest first.
func (s *Store) Roamed(ctx context.Context, user string, after int64, limit int) ([]Waiting, error) {
	return s.waiting(ctx, false,
		"SELECT entry, id, payload FROM roaming WHERE user = ? AND entry > ? ORDER BY entry LIMIT ?", user, after, limit)
}

// Unroam removes a message from every roaming log and tells whether it was in one.
func (s *Store) Unroam(ctx context.Context, id string, room shared.Conversation) (bool, error) {
	return s.bury(ctx, id, room, "DELETE FROM roaming WHERE id = ?")
}
