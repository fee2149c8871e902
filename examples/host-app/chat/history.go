package chat

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/chat-recall/recall/shared"
)

var (
	// ErrConflict says that the id belongs to another message.
	ErrConflict = refuse(http.StatusConflict, "another message has this id")

	// ErrRecalled says that the message was taken back.
	ErrRecalled = refuse(http.StatusGone, "this message was recalled")
)

// NoSuchFile is what is wrong with an attachment that was never uploaded, or is deleted.
const NoSuchFile = "there is no such file; upload it first"

// Stored is a message as history holds it.
type Stored struct {
	Seq    int64 // grows with every message of the server
	Text   string
	Quoted string // what it repeats of the message that it quotes
	shared.Message
	indexed bool
}

// Payload is a message as a client gets it, or its placeholder.
type Payload struct {
	Seq          int64               `json:"seq"`
	ID           string              `json:"id"`
	Conversation shared.Conversation `json:"conversation"`
	Sender       string              `json:"sender,omitempty"`
	Type         shared.MessageType  `json:"type,omitempty"`
	SentAt       time.Time           `json:"sent_at,omitzero"`
	Text         string              `json:"text,omitempty"`
	Quote        string              `json:"quote,omitempty"`       // the id of the message that it answers
	Quoted       string              `json:"quoted,omitempty"`      // the beginning of that message
	QuotedEdit   string              `json:"quoted_edit,omitempty"` // the id of the edit that Quoted is from
	Edit         string              `json:"edit,omitempty"`        // the id of the message of which this is the new text
	Edited       int64               `json:"edited,omitempty"`      // text is that of its newest edit, which has this seq
	Version      string              `json:"version,omitempty"`     // the id of that edit
	Forward      string              `json:"forward,omitempty"`     // the id of the message of which this is a copy
	Attachments  []string            `json:"attachments,omitempty"`
	Recalled     *shared.Notice      `json:"recalled,omitempty"` // it was: this is its placeholder
}

func (m *Stored) payload() Payload {
	p := Payload{Seq: m.Seq, ID: m.ID, Conversation: m.Conversation, Sender: m.Sender, Type: m.Type,
		SentAt: m.SentAt, Text: m.Text, Quote: m.related(shared.RelationQuote), Quoted: m.Quoted,
		Edit: m.related(shared.RelationEdit), Forward: m.related(shared.RelationForward),
		Attachments: keysOf(m.Attachments)}
	if quotes := m.quotes(); len(quotes) > 1 {
		p.QuotedEdit = quotes[1]
	}
	return p
}

// about is the relation to the message that this one quotes, edits or forwards; the zero value if there is none.
func (m *Stored) about() shared.Relation {
	if len(m.Relations) == 0 {
		return shared.Relation{}
	}
	return m.Relations[0]
}

// related returns the id of the message to which this one relates so; empty if there is none.
func (m *Stored) related(kind shared.RelationKind) string { return relatedBy(&m.Message, kind) }

func relatedBy(m *shared.Message, kind shared.RelationKind) string {
	for _, r := range m.Relations {
		if r.Kind == kind {
			return r.MessageID
		}
	}
	return ""
}

const messageColumns = "seq, id, conversation, sender, type, sent_at, text, attachments, indexed, " +
	"COALESCE((SELECT json_group_array(json_object('kind', kind, 'message_id', other) ORDER BY place) FROM relations " +
	"WHERE relations.id = messages.id), '[]'), " +
	"COALESCE((SELECT r.text FROM relations r WHERE r.id = messages.id AND r.place = 0), '')"

// scanStored reads messageColumns.
func scanStored(scan func(...any) error) (m Stored, err error) {
	var room, attachments, relations string
	var sentAt int64
	if err := scan(&m.Seq, &m.ID, &room, &m.Sender, &m.Type, &sentAt, &m.Text, &attachments, &m.indexed, &relations,
		&m.Quoted); err != nil {
		return m, err
	}
	m.Tenant, m.Conversation, m.SentAt = Tenant, parseRoom(room), time.UnixMicro(sentAt).UTC()
	if err := errors.Join(unmarshalList(attachments, &m.Attachments), unmarshalList(relations, &m.Relations)); err != nil {
		return m, fmt.Errorf("attachments and relations of a message: %w", err)
	}
	return m, nil
}

// unmarshalList reads a list; an empty one is nil.
func unmarshalList[T any](text string, into *[]T) error {
	if text == "[]" {
		return nil
	}
	return json.Unmarshal([]byte(text), into)
}

// Insert records a message in history, and with it in the queues of the users who are away and in the roaming logs:
// all of it or nothing. It fills in m.Seq. A retransmission finds the message that is there and changes nothing.
func (s *Store) Insert(ctx context.Context, m *Stored, away, roaming []string) (known bool, err error) {
	err = s.apply(ctx, func(tx *writeTx) error {
		var room string
		dead, err := tx.row("SELECT conversation FROM tombstones WHERE id = ?", []any{m.ID}, &room)
		switch {
		case err != nil:
			return err
		case dead && room == roomKey(m.Conversation):
			return ErrRecalled
		case dead: // to who is elsewhere it is another's id, as before its recall
			return ErrConflict
		}
		old, found, err := tx.message(m.ID)
		if err != nil {
			return err
		}
		if found {
			if old.Conversation != m.Conversation || old.Sender != m.Sender || old.Type != m.Type || old.Text != m.Text ||
				old.about() != m.about() || !slices.Equal(old.Attachments, m.Attachments) {
				return ErrConflict
			}
			*m, known = old, true
			return nil
		}
		if err := tx.insert(m, away, roaming); err != nil || s.node == "" {
			return err
		}
		return tx.exec("INSERT INTO relay (id, node) VALUES (?, ?)", m.ID, s.node)
	})
	if err == nil {
		s.saw(m.Seq)
	}
	return known, err
}

// message reads a message by id.
func (tx *writeTx) message(id string) (Stored, bool, error) {
	st, err := tx.stmt("SELECT " + messageColumns + " FROM messages WHERE id = ?")
	if err != nil {
		return Stored{}, false, err
	}
	m, err := scanStored(st.QueryRow(id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Stored{}, false, nil
	}
	return m, err == nil, err
}

func (tx *writeTx) insert(m *Stored, away, roaming []string) error {
	for i, key := range keysOf(m.Attachments) {
		var gone bool
		found, err := tx.row("SELECT gone FROM files WHERE key = ?", []any{key}, &gone)
		if err != nil {
			return err
		}
		if !found || gone {
			return shared.Invalidf(fmt.Sprintf("attachments[%d]", i), NoSuchFile)
		}
		if err := tx.exec("INSERT INTO uses (key, id) VALUES (?, ?) ON CONFLICT DO NOTHING", key, m.ID); err != nil {
			return err
		}
	}
	for place, r := range m.Relations {
		if r.Kind == shared.RelationEdit {
			if err := tx.checkEdits(r.MessageID); err != nil {
				return err
			}
		}
		text := ""
		if place == 0 {
			text = m.Quoted
		}
		if err := tx.exec("INSERT INTO relations (id, place, kind, other, text) VALUES (?, ?, ?, ?, ?)", m.ID, place, r.Kind,
			r.MessageID, text); err != nil {
			return err
		}
	}
	attachments := "[]"
	if len(m.Attachments) > 0 {
		attachments = string(encode(m.Attachments))
	}
	if _, err := tx.row(`INSERT INTO messages (id, conversation, sender, type, sent_at, text, attachments)
		VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING seq`,
		[]any{m.ID, roomKey(m.Conversation), m.Sender, m.Type, m.SentAt.UnixMicro(), m.Text, attachments},
		&m.Seq); err != nil {
		return err
	}
	if len(away) == 0 && len(roaming) == 0 {
		return nil
	}
	payload := string(encode(m.payload()))
	for _, user := range away {
		if err := tx.exec("INSERT INTO offline (user, id, payload) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", user, m.ID,
			payload); err != nil {
			return err
		}
	}
	for _, user := range roaming {
		if err := tx.exec("INSERT INTO roaming (user, id, payload) VALUES (?, ?, ?)", user, m.ID, payload); err != nil {
			return err
		}
	}
	return nil
}

// MarkIndexed notes that the plugin knows a message. It does not wait: a note that is lost in a crash only makes the
// next start index the message once more, which changes nothing.
func (s *Store) MarkIndexed(id string) {
	j := job{answer: make(chan error, 1), do: func(tx *writeTx) error {
		return tx.exec("UPDATE messages SET indexed = 1 WHERE id = ?", id)
	}}
	select {
	case s.jobs <- j:
	case <-s.quit:
	}
}

// Unindexed lists up to limit messages that the plugin has not answered for, oldest first.
func (s *Store) Unindexed(ctx context.Context, after int64, limit int) ([]Stored, error) {
	return s.messages(ctx, "indexed = 0 AND seq > ? ORDER BY seq LIMIT ?", after, limit)
}

// Newest lists up to limit messages of all conversations, newest first.
func (s *Store) Newest(ctx context.Context, limit int) ([]Stored, error) {
	return s.messages(ctx, "type <> 'command' AND "+noEdit+" ORDER BY seq DESC LIMIT ?", limit)
}

// noEdit is true of messages that are not the new text of others.
const noEdit = "NOT EXISTS (SELECT 1 FROM relations e WHERE e.id = messages.id AND e.kind = 'edit')"

// History lists up to limit messages of a conversation, without edits, before a sequence number (0: the newest),
// newest first. more says that there may be others. A page ends early when it has maxPageText bytes of text.
func (s *Store) History(ctx context.Context, room shared.Conversation, before int64, limit int) (list []Stored,
	more bool, err error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	rows, err := s.messageRows(ctx,
		"conversation = ? AND seq < ? AND type <> 'command' AND "+noEdit+" ORDER BY seq DESC LIMIT ?",
		roomKey(room), before, limit)
	if err != nil {
		return nil, false, err
	}
	size := 0
	list, err = scanUntil(rows, func(r *sql.Rows) (m Stored, end bool, err error) {
		m, err = scanStored(r.Scan)
		size += len(m.Text)
		return m, size >= maxPageText, err
	})
	return list, len(list) == limit || size >= maxPageText, err
}

func (s *Store) messages(ctx context.Context, where string, args ...any) ([]Stored, error) {
	rows, err := s.messageRows(ctx, where, args...)
	if err != nil {
		return nil, err
	}
	return scanAll(rows, func(r *sql.Rows) (Stored, error) { return scanStored(r.Scan) })
}

func (s *Store) messageRows(ctx context.Context, where string, args ...any) (*sql.Rows, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT "+messageColumns+" FROM messages WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return rows, nil
}

// Message reads a message; found is false for one that is unknown or was removed.
func (s *Store) Message(ctx context.Context, id string) (m Stored, found bool, err error) {
	list, err := s.messages(ctx, "id = ?", id)
	if err != nil || len(list) == 0 {
		return m, false, err
	}
	return list[0], true, nil
}

// untouched returns the sequence number of a message that no step has removed from any store yet, or 0.
func (s *Store) untouched(ctx context.Context, id string) (seq int64, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT seq FROM messages
		WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM tombstones WHERE id = ?1)`, id).Scan(&seq)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("find a message: %w", err)
	}
	return seq, nil
}

// RoomOf tells the conversation of a message, also of one that was recalled.
func (s *Store) RoomOf(ctx context.Context, id string) (room shared.Conversation, found bool, err error) {
	var key string
	err = s.read.QueryRowContext(ctx, `SELECT conversation FROM messages WHERE id = ?1
		UNION ALL SELECT conversation FROM tombstones WHERE id = ?1 LIMIT 1`, id).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		return room, false, nil
	}
	if err != nil {
		return room, false, fmt.Errorf("find a message: %w", err)
	}
	return parseRoom(key), true, nil
}

// Remove deletes a message from the history and reports whether it was there. The store still knows which attachments
// the message used: nobody may download them, and members of the conversation are answered that they are gone.
func (s *Store) Remove(ctx context.Context, id string, room shared.Conversation) (bool, error) {
	return s.bury(ctx, id, room, "DELETE FROM messages WHERE id = ?",
		"DELETE FROM relations WHERE id = ?")
}

// Discard forgets a message that was not accepted. It leaves no tombstone: its id is another's.
func (s *Store) Discard(ctx context.Context, id string) error {
	return s.apply(ctx, func(tx *writeTx) error {
		for _, table := range []string{"messages", "relations", "offline", "roaming", "uses"} {
			if err := tx.exec("DELETE FROM "+table+" WHERE id = ?", id); err != nil {
				return err
			}
		}
		tx.deleted = true
		return nil
	})
}

// bury sets the tombstone of a message and deletes of it what the statements name. The tombstone is in the same
// transaction in every step, so whichever step is first, nothing can be put back after it.
func (s *Store) bury(ctx context.Context, id string, room shared.Conversation, deletes ...string) (bool, error) {
	var removed int64
	err := s.apply(ctx, func(tx *writeTx) error {
		if err := tx.exec("INSERT INTO tombstones (id, conversation) VALUES (?, ?) ON CONFLICT DO NOTHING", id,
			roomKey(room)); err != nil {
			return err
		}
		for _, query := range deletes {
			n, err := tx.change(query, id)
			if err != nil {
				return err
			}
			removed += n
		}
		tx.deleted = tx.deleted || removed > 0
		return nil
	})
	return removed > 0, err
}

// keysOf lists the keys of attachments.
func keysOf(list []shared.Attachment) []string {
	var keys []string
	for _, a := range list {
		keys = append(keys, a.Key)
	}
	return keys
}

// attachmentsOf are the attachments of these keys, of whoever sends them.
func attachmentsOf(keys []string) []shared.Attachment {
	var list []shared.Attachment
	for _, key := range keys {
		list = append(list, shared.Attachment{Key: key})
	}
	return list
}
