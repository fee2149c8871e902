package chat

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// This server copies text: a quote repeats the beginning of a message, an edit is a new version of it, a forward a copy
// of all of it. Each is indexed with its relation to the original, so that a recall of the original reaches it: edits
// and forwards are recalled with it, and quotes are cleared.
//
// An edit can be recalled alone, such as by a job that removes what was sent in the last hour. The original then has
// the text before that edit. So a quote or a forward that copies the text of an edit relates to both: first to the
// original, then to the edit. A recall of either reaches it.

const (
	// maxQuoted is how many bytes of a message a quote repeats at most.
	maxQuoted = 200

	// maxEdits bounds the edits that a message has at a time. A page of the history asks the plugin about each of them:
	// about 10,000 ids at most, with maxPage messages.
	maxEdits = 100
)

// relate gives a message what it has from the message that it quotes, edits or forwards. A message that is sent again
// keeps what it had.
func (s *Server) relate(ctx context.Context, m *Stored, out Outgoing) error {
	count := 0
	for kind, id := range map[shared.RelationKind]string{
		shared.RelationQuote: out.Quote, shared.RelationEdit: out.Edit, shared.RelationForward: out.Forward,
	} {
		if id != "" {
			count++
			m.Relations = []shared.Relation{{Kind: kind, MessageID: id}}
		}
	}
	switch {
	case count == 0:
		return nil
	case count > 1:
		return shared.Invalidf("quote", "a message quotes, edits or forwards another one: one of these")
	}
	was, known, err := s.store.Message(ctx, m.ID)
	if err != nil {
		return err
	}
	if known && was.Sender == m.Sender && was.about() == m.about() {
		m.Quoted, m.Relations = was.Quoted, was.Relations
		if out.Forward != "" {
			m.Type, m.Text, m.Attachments = was.Type, was.Text, was.Attachments
		}
		return nil
	}
	switch {
	case out.Quote != "":
		return s.quote(ctx, m, out.Quote)
	case out.Edit != "":
		return s.edit(ctx, m, out.Edit)
	}
	return s.forward(ctx, m, out)
}

func (s *Server) quote(ctx context.Context, m *Stored, id string) error {
	room, found, err := s.store.RoomOf(ctx, id)
	if err != nil {
		return err
	}
	if !found || room != m.Conversation {
		return shared.Invalidf("quote", "there is no such message in this conversation")
	}
	text, err := s.copyOf(ctx, m, shared.RelationQuote, id)
	m.Quoted = begin(text, maxQuoted)
	return err
}

// begin is the beginning of a text, of at most so many bytes.
func begin(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

func (s *Server) edit(ctx context.Context, m *Stored, id string) error {
	original, found, err := s.store.Message(ctx, id)
	if err != nil {
		return err
	}
	if !found || original.Conversation != m.Conversation || original.Sender != m.Sender || len(m.Attachments) > 0 ||
		original.Type != shared.TypeText || original.related(shared.RelationEdit) != "" ||
		original.related(shared.RelationForward) != "" {
		return shared.Invalidf("edit", "there is no such text of yours in this conversation")
	}
	m.Type = original.Type
	return nil
}

func (s *Server) forward(ctx context.Context, m *Stored, out Outgoing) error {
	if out.Text != "" || len(out.Attachments) > 0 {
		return shared.Invalidf("forward", "a forwarded message has the content of its original, and no other")
	}
	original, found, err := s.store.Message(ctx, out.Forward)
	if err != nil {
		return err
	}
	_, reads := s.store.Member(original.Conversation, m.Sender)
	if !found || !reads || original.Type == shared.TypeCommand || original.related(shared.RelationEdit) != "" {
		return adapter.ErrNotVisible
	}
	m.Type = original.Type
	for _, a := range original.Attachments { // they stay those of whoever sent them first
		m.Attachments = append(m.Attachments, shared.Attachment{Key: a.Key, Owner: cmp.Or(a.Owner, original.Sender)})
	}
	m.Text, err = s.copyOf(ctx, m, shared.RelationForward, out.Forward)
	return err
}

// copyOf returns the text of a message for m, which relates to it so. If that is the text of an edit, m relates to the
// edit too. A message that is recalled has no text.
func (s *Server) copyOf(ctx context.Context, m *Stored, kind shared.RelationKind, id string) (string, error) {
	original, found, err := s.store.Message(ctx, id)
	if err != nil || !found {
		return "", err
	}
	edits, err := s.store.editsOf(ctx, []Stored{original})
	if err != nil {
		return "", err
	}
	live, err := s.live(ctx, append(edits[id], id))
	if err != nil || !live[id] {
		return "", err
	}
	p, err := s.shown(ctx, original, edits[id], live)
	if p.Version != "" {
		m.Relations = append(m.Relations, shared.Relation{Kind: kind, MessageID: p.Version})
	}
	return p.Text, err
}

// shown is a message with the text of its newest live edit, and without what it repeats of messages that are not live.
func (s *Server) shown(ctx context.Context, m Stored, edits []string, live map[string]bool) (Payload, error) {
	if !allLive(live, m.quotes()) {
		m.Quoted = ""
	}
	p := m.payload()
	for _, id := range edits {
		if !live[id] {
			continue
		}
		e, found, err := s.store.Message(ctx, id)
		if err != nil {
			return p, err
		}
		if found { // it may have been recalled since the plugin was asked
			p.Text, p.Edited, p.Version = e.Text, e.Seq, id
			break
		}
	}
	return p, nil
}

// quotes lists the messages of which this one repeats a part: the message that it quotes, and the edit that has the
// text.
func (m *Stored) quotes() (ids []string) {
	for _, r := range m.Relations {
		if r.Kind == shared.RelationQuote {
			ids = append(ids, r.MessageID)
		}
	}
	return ids
}

func allLive(live map[string]bool, ids []string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return !live[id] })
}

// editsOf lists the ids of the edits of messages, by message and newest first.
func (s *Store) editsOf(ctx context.Context, of []Stored) (map[string][]string, error) {
	edits := make(map[string][]string)
	if len(of) == 0 {
		return edits, nil
	}
	ids := make([]any, len(of))
	for i := range of {
		ids[i] = of[i].ID
	}
	rows, err := s.read.QueryContext(ctx, `SELECT other, id FROM relations JOIN messages USING (id)
		WHERE kind = 'edit' AND other IN (?`+strings.Repeat(", ?", len(ids)-1)+") ORDER BY seq DESC", ids...)
	if err != nil {
		return nil, fmt.Errorf("read the edits of messages: %w", err)
	}
	_, err = scanAll(rows, func(r *sql.Rows) (struct{}, error) {
		var of, id string
		err := r.Scan(&of, &id)
		edits[of] = append(edits[of], id)
		return struct{}{}, err
	})
	return edits, err
}

// checkEdits refuses one more edit of a message that has too many.
func (tx *writeTx) checkEdits(of string) error {
	var edits int
	_, err := tx.row("SELECT count(*) FROM relations WHERE kind = 'edit' AND other = ?", []any{of}, &edits)
	if err != nil {
		return err
	}
	if edits >= maxEdits {
		return shared.Invalidf("edit", "the message has %d edits; at most %d", edits, maxEdits)
	}
	return nil
}

// isEdit reports whether the recalled message of an event is an edit of another one.
func isEdit(e *shared.Event) bool { return relatedBy(&e.Message, shared.RelationEdit) != "" }

// clearQuotes removes what the quotes of a recalled message repeat of it.
func (s *Server) clearQuotes(ctx context.Context, e *shared.Event) error {
	related, more := e.Related, e.MoreRelated
	req := shared.RelatedRequest{Tenant: Tenant, MessageID: e.Message.ID}
	for {
		var ids []string
		for _, r := range related {
			if r.Kind == shared.RelationQuote {
				ids = append(ids, r.MessageID)
			}
		}
		if err := s.store.ClearQuotes(ctx, e.Message.ID, ids...); err != nil || !more {
			return err
		}
		select {
		case <-s.ready: // steps may run before Open has returned
		case <-ctx.Done():
			return ctx.Err()
		}
		page, err := s.recall.Related(ctx, req)
		if err != nil {
			return fmt.Errorf("find what relates to a recalled message: %w", err)
		}
		related, more, req.After = page.Related, page.More, page.Next
	}
}

// ClearQuotes removes what messages repeat of a recalled one, which may be an edit, wherever they are stored.
func (s *Store) ClearQuotes(ctx context.Context, recalled string, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	return s.apply(ctx, func(tx *writeTx) error {
		for _, id := range ids {
			n, err := tx.change(`UPDATE relations SET text = '' WHERE id = ?1 AND kind = 'quote' AND text <> ''
				AND EXISTS (SELECT 1 FROM relations r WHERE r.id = ?1 AND r.kind = 'quote' AND r.other = ?2)`, id, recalled)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			tx.deleted = true
			m, found, err := tx.message(id)
			if err != nil {
				return err
			}
			if !found {
				continue
			}
			for _, table := range []string{"offline", "roaming"} {
				if err := tx.exec("UPDATE "+table+" SET payload = ? WHERE id = ?", string(encode(m.payload())), id); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// bodies are a message as clients get it, with what it quotes and without.
type bodies struct {
	body, plain json.RawMessage
	quotes      []string // Stored.quotes
}

func (m *Stored) bodies() bodies {
	p := m.payload()
	b := bodies{body: encode(p), quotes: m.quotes()}
	if b.plain = b.body; p.Quoted != "" {
		p.Quoted = ""
		b.plain = encode(p)
	}
	return b
}

// bodiesOf is bodies of a message that lies in a queue.
func bodiesOf(body json.RawMessage) bodies {
	b := bodies{body: body, plain: body}
	var p Payload
	if err := json.Unmarshal(body, &p); err != nil {
		return b // nothing of this server
	}
	for _, id := range []string{p.Quote, p.QuotedEdit} {
		if id != "" {
			b.quotes = append(b.quotes, id)
		}
	}
	if p.Quoted != "" {
		p.Quoted = ""
		b.plain = encode(p)
	}
	return b
}

// asFar is without what it quotes unless that is live.
func (b bodies) asFar(live map[string]bool) bodies {
	if !allLive(live, b.quotes) {
		b.body = b.plain
	}
	return b
}
