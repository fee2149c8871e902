package chat

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/chat-recall/recall/shared"
)

// setPlaceholder records what stands in the history in the place of a recalled message, so that every device of every
// member shows it, now and later. It changes nothing for a message that has a placeholder, was removed, or was recalled
// silently. The step notify calls it first and says which users had the message. If that step is late, the step history
// calls it without them. In a cluster every server calls it, with the users of whom it knows that they had the message.
func (s *Store) setPlaceholder(ctx context.Context, e shared.Event, had map[string]bool) error {
	if e.Silent || isEdit(&e) { // the original of an edit has the placeholder, or shows the text before the edit
		return nil
	}
	received := []string{}
	for user, got := range had {
		if got {
			received = append(received, user)
		}
	}
	conflict := "ON CONFLICT DO NOTHING"
	if s.node != "" {
		conflict = `ON CONFLICT DO UPDATE SET received = (SELECT json_group_array(value) FROM
			(SELECT value FROM json_each(received) UNION SELECT value FROM json_each(excluded.received)))`
	}
	err := s.apply(ctx, func(tx *writeTx) error {
		var seq int64
		found, err := tx.row("SELECT seq FROM messages WHERE id = ? AND type <> 'command'", []any{e.Message.ID}, &seq)
		if err != nil || !found {
			return err
		}
		return tx.exec(`INSERT INTO placeholders (seq, id, conversation, notice, received) VALUES (?, ?, ?, ?, ?)
			`+conflict,
			seq, e.Message.ID, roomKey(e.Message.Conversation), string(encode(e.Notice(true))), string(encode(received)))
	})
	if err != nil {
		return fmt.Errorf("set the placeholder: %w", err)
	}
	return nil
}

// placeholder is one row of the table.
type placeholder struct {
	seq      int64
	notice   shared.Notice
	received []string
}

// placeholders lists up to limit placeholders of a conversation before a sequence number, newest first.
func (s *Store) placeholders(ctx context.Context, room shared.Conversation, before int64, limit int) (
	[]placeholder, error,
) {
	rows, err := s.read.QueryContext(ctx, `SELECT seq, notice, received FROM placeholders
		WHERE conversation = ? AND seq < ? ORDER BY seq DESC LIMIT ?`, roomKey(room), before, limit)
	if err != nil {
		return nil, fmt.Errorf("read the placeholders: %w", err)
	}
	return scanAll(rows, func(r *sql.Rows) (p placeholder, err error) {
		var notice, received string
		err = r.Scan(&p.seq, &notice, &received)
		if err == nil {
			err = errors.Join(json.Unmarshal([]byte(notice), &p.notice), json.Unmarshal([]byte(received), &p.received))
		}
		return p, err
	})
}

// payload is the placeholder as one user gets it: without the facts of the message, unless the user had the message or
// took it back.
func (p placeholder) payload(user string) Payload {
	out := Payload{Seq: p.seq, ID: p.notice.MessageID, Conversation: p.notice.Conversation}
	if m := p.notice.Message; m.Sender == user || p.notice.Actor == user || slices.Contains(p.received, user) {
		out.Sender, out.Type, out.SentAt = m.Sender, m.Type, m.SentAt
	} else {
		p.notice.Message = nil
	}
	out.Recalled = &p.notice
	return out
}

// timeline is a page of the history as a user sees it: messages that may be shown and placeholders, newest first. next
// is the sequence number before which the next page begins, 0 at the end.
func (s *Server) timeline(ctx context.Context, room shared.Conversation, user string, before int64, limit int) (
	list []Payload, next int64, err error,
) {
	if before == 0 {
		before = math.MaxInt64
	}
	messages, more, err := s.store.History(ctx, room, before, limit)
	if err != nil {
		return nil, 0, err
	}
	edits, err := s.store.editsOf(ctx, messages)
	if err != nil {
		return nil, 0, err
	}
	ids := make([]string, 0, len(messages))
	for _, m := range messages {
		ids = append(append(append(ids, m.ID), m.quotes()...), edits[m.ID]...)
	}
	live, err := s.live(ctx, ids)
	if err != nil {
		return nil, 0, err
	}
	// After the plugin has answered, so that a message which is not live any more has its placeholder, as soon as the
	// step notify has set it.
	placeholders, err := s.store.placeholders(ctx, room, before, limit)
	if err != nil {
		return nil, 0, err
	}
	if more {
		next = messages[len(messages)-1].Seq
	}
	if len(placeholders) == limit {
		next = max(next, placeholders[limit-1].seq)
	}
	list = []Payload{}
	for _, p := range placeholders {
		live[p.notice.MessageID] = false // it may have been recalled since the plugin was asked
	}
	size := 0
	for _, m := range messages {
		if m.Seq < next || !live[m.ID] {
			continue
		}
		p, err := s.shown(ctx, m, edits[m.ID], live)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, p)
		if size += len(p.Text); size >= maxPageText {
			next = m.Seq
			break
		}
	}
	for _, p := range placeholders {
		if p.seq >= next {
			list = append(list, p.payload(user))
		}
	}
	slices.SortFunc(list, func(a, b Payload) int { return cmp.Compare(b.Seq, a.Seq) })
	return list, next, nil
}
