package chat

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/chat-recall/recall/shared"
)

// Waiting is what lies ready for a user who was away: messages and notices of recalls.
type Waiting struct {
	Entry  int64
	ID     string // of the message
	Body   json.RawMessage
	Notice bool
}

// Enqueue puts a message in the offline queue of users, unless it was removed meanwhile.
func (s *Store) Enqueue(ctx context.Context, users []string, ids ...string) error {
	return s.apply(ctx, func(tx *writeTx) error {
		for _, id := range ids {
			m, found, err := tx.message(id)
			if err != nil {
				return err
			}
			dead, err := tx.row("SELECT 1 FROM tombstones WHERE id = ?", []any{id}, new(int))
			if err != nil {
				return err
			}
			if !found || dead {
				continue
			}
			for _, user := range users {
				if err := tx.exec("INSERT INTO offline (user, id, payload) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
					user, id, string(encode(m.payload()))); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Queued lists up to limit messages that wait for a user, oldest first.
func (s *Store) Queued(ctx context.Context, user string, after int64, limit int) ([]Waiting, error) {
	return s.waiting(ctx, false,
		"SELECT entry, id, payload FROM offline WHERE user = ? AND entry > ? ORDER BY entry LIMIT ?", user, after, limit)
}

// Kept lists up to limit notices that wait for a user, oldest first.
func (s *Store) Kept(ctx context.Context, user string, after int64, limit int) ([]Waiting, error) {
	return s.waiting(ctx, true,
		`SELECT entry, id, iif(had, notice, json_remove(notice, '$.message')) FROM notices
		WHERE user = ? AND entry > ? ORDER BY entry LIMIT ?`, user, after, limit)
}

func (s *Store) waiting(ctx context.Context, notice bool, query string, args ...any) ([]Waiting, error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read what waits for a user: %w", err)
	}
	return scanAll(rows, func(r *sql.Rows) (Waiting, error) {
		w := Waiting{Notice: notice}
		var body string
		err := r.Scan(&w.Entry, &w.ID, &body)
		w.Body = json.RawMessage(body)
		return w, err
	})
}

// Got takes from the queues of a user what its client has received.
func (s *Store) Got(ctx context.Context, user string, messages, notices []string) error {
	return s.apply(ctx, func(tx *writeTx) error {
		for _, id := range messages {
			if err := tx.exec("DELETE FROM offline WHERE user = ? AND id = ?", user, id); err != nil {
				return err
			}
			if s.node == "" {
				continue
			}
			// Another server may have kept a notice while the client had not confirmed the message yet.
			if err := tx.exec("UPDATE notices SET had = 1 WHERE user = ? AND id = ?", user, id); err != nil {
				return err
			}
		}
		for _, id := range notices {
			if err := tx.exec("DELETE FROM notices WHERE user = ? AND id = ?", user, id); err != nil {
				return err
			}
			if s.node == "" {
				continue
			}
			if err := tx.exec("INSERT INTO heard (user, id) VALUES (?, ?) ON CONFLICT DO NOTHING", user, id); err != nil {
				return err
			}
		}
		tx.deleted = tx.deleted || len(messages) > 0
		return nil
	})
}

// QueuedFor tells which users a message still waits for.
func (s *Store) QueuedFor(ctx context.Context, id string) (map[string]bool, error) {
	waits := make(map[string]bool)
	// Through the writer, so that it comes after every Got that was handed over before.
	err := s.apply(ctx, func(tx *writeTx) error {
		users, err := tx.strings("SELECT user FROM offline WHERE id = ?", id)
		for _, u := range users {
			waits[u] = true
		}
		return err
	})
	return waits, err
}

// Keep stores the notice of a recall for users who are away: they get it when they connect, unless another server has
// delivered it. had tells, by user, who got the message; only their notices include its facts. queued are the users
// whose offline queues held the message when had was determined. If it has left such a queue since, that user got it.
//
// A notice that is stored already is not changed: an earlier run of the step knew more about who got the message. In a
// cluster, another server may have stored it. Then the user got the message if one of the servers says so.
func (s *Store) Keep(ctx context.Context, id string, notice json.RawMessage, had, queued map[string]bool) error {
	if len(had) == 0 {
		return nil
	}
	conflict := "ON CONFLICT DO NOTHING"
	if s.node != "" {
		conflict = "ON CONFLICT DO UPDATE SET had = had OR excluded.had"
	}
	return s.apply(ctx, func(tx *writeTx) error {
		for user, got := range had {
			if queued[user] && !got {
				var err error
				got, err = tx.row(`SELECT 1 FROM messages WHERE id = ?2
					AND NOT EXISTS (SELECT 1 FROM offline WHERE user = ?1 AND id = ?2)
					AND NOT EXISTS (SELECT 1 FROM tombstones WHERE id = ?2)`, []any{user, id}, new(int))
				if err != nil {
					return err
				}
			}
			if err := tx.exec(`INSERT INTO notices (user, id, notice, had) SELECT ?1, ?2, ?3, ?4
				WHERE NOT EXISTS (SELECT 1 FROM heard WHERE user = ?1 AND id = ?2) `+conflict,
				user, id, string(notice), got); err != nil {
				return err
			}
		}
		return nil
	})
}

// Dequeue removes a message from every offline queue and tells whether it was in one.
func (s *Store) Dequeue(ctx context.Context, id string, room shared.Conversation) (bool, error) {
	return s.bury(ctx, id, room, "DELETE FROM offline WHERE id = ?")
}
