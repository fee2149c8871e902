package main

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chat-recall/recall/shared"
)

//go:embed postgres.sql
var postgresSchema string

// The statements that answer callers. pgx prepares each once a connection.
const (
	sqlIndex = `INSERT INTO messages (tenant, id, conversation_type, conversation, sender, type, sent_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`
	sqlIndexMany = `INSERT INTO messages (tenant, id, conversation_type, conversation, sender, type, sent_at)
		SELECT $1, u.* FROM unnest($2::text[], $3::smallint[], $4::text[], $5::text[], $6::smallint[], $7::timestamptz[]) u
		ON CONFLICT DO NOTHING RETURNING id`
	sqlKnown = `SELECT conversation_type, conversation, sender, type, sent_at, recall_id IS NOT NULL
		FROM messages WHERE tenant = $1 AND id = $2`
	sqlStatus = `SELECT recall_id, recalled_by, recalled_role, recalled_at FROM messages WHERE tenant = $1 AND id = $2`
	sqlRecall = `SELECT recall_message($1, $2, $3, $4, $5, $6, $7, $8)`
)

// sqlWords are the numbers of words in the tables.
var sqlWords = map[string]int16{"single": 1, "group": 2, "chatroom": 3, "text": 1}

func conversationType(m *shared.Message) int16 { return sqlWords[string(m.Conversation.Type)] }
func messageType(m *shared.Message) int16      { return sqlWords[string(m.Type)] }

// indexOne indexes a message, and answers as Recall does.
func indexOne(ctx context.Context, c *pgx.Conn, m *shared.Message) (shared.IndexStatus, error) {
	tag, err := c.Exec(ctx, sqlIndex,
		m.Tenant, m.ID, conversationType(m), m.Conversation.ID, m.Sender, messageType(m), m.SentAt)
	if err != nil {
		return "", err
	}
	if tag.RowsAffected() == 1 {
		return shared.IndexAdded, nil
	}
	return known(ctx, c, m)
}

// known compares a message with the one that has its id.
func known(ctx context.Context, c *pgx.Conn, m *shared.Message) (shared.IndexStatus, error) {
	var is shared.Message
	var conversation, kind int16
	var recalled bool
	err := c.QueryRow(ctx, sqlKnown, m.Tenant, m.ID).
		Scan(&conversation, &is.Conversation.ID, &is.Sender, &kind, &is.SentAt, &recalled)
	switch {
	case err != nil:
		return "", err
	case recalled:
		return shared.IndexRecalled, nil
	case conversation != conversationType(m) || kind != messageType(m) || is.Conversation.ID != m.Conversation.ID ||
		is.Sender != m.Sender || !is.SentAt.Equal(m.SentAt.Truncate(time.Microsecond)):
		return shared.IndexConflict, nil
	}
	return shared.IndexUnchanged, nil
}

// indexMany indexes messages in one transaction.
func indexMany(ctx context.Context, c *pgx.Conn, msgs []shared.Message) ([]shared.IndexStatus, error) {
	n := len(msgs)
	id, conversation, sender := make([]string, n), make([]string, n), make([]string, n)
	conversationTypes, types, sentAt := make([]int16, n), make([]int16, n), make([]time.Time, n)
	for i := range msgs {
		m := &msgs[i]
		id[i], conversation[i], sender[i], sentAt[i] = m.ID, m.Conversation.ID, m.Sender, m.SentAt
		conversationTypes[i], types[i] = conversationType(m), messageType(m)
	}
	rows, err := c.Query(ctx, sqlIndexMany, msgs[0].Tenant, id, conversationTypes, conversation, sender, types, sentAt)
	if err != nil {
		return nil, err
	}
	indexed, err := pgx.CollectRows(rows, pgx.RowTo[string]) // in the order of the messages
	if err != nil {
		return nil, err
	}
	out := make([]shared.IndexStatus, n)
	for i := range msgs {
		if len(indexed) > 0 && indexed[0] == id[i] {
			out[i], indexed = shared.IndexAdded, indexed[1:]
		} else if out[i], err = known(ctx, c, &msgs[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sqlPolicyDigest stands for the digest of the rules that decided, as the ledger keeps it.
var sqlPolicyDigest = strings.Repeat("0", 64)

// recallOne recalls a message, and answers with the words that Recall has.
func recallOne(ctx context.Context, c *pgx.Conn, req shared.RecallRequest, steps []string) (status string, err error) {
	err = c.QueryRow(ctx, sqlRecall, req.Tenant, req.Targets[0].MessageID, req.RecallID, req.Actor.ID,
		string(req.Targets[0].Role),
		time.Now(), steps, sqlPolicyDigest).Scan(&status)
	return status, err
}

// warmUp makes each call once.
func warmUp(ctx context.Context, c *pgx.Conn) error {
	msgs := newMessages(2)
	for range 2 { // known is asked the second time
		if _, err := indexOne(ctx, c, &msgs[0]); err != nil {
			return err
		}
	}
	if _, err := indexMany(ctx, c, msgs[1:]); err != nil {
		return err
	}
	if err := statusOne(ctx, c, &msgs[0]); err != nil {
		return err
	}
	for _, m := range msgs {
		if _, err := recallOne(ctx, c, recallRequest(&m, ids.Add(1), shared.RoleSystem), []string{}); err != nil {
			return err
		}
	}
	return nil
}

// index is the load of callers that index messages.
func (p *postgres) index(callers, per int) *load {
	return &load{callers: callers, per: per, cpu: p.cpu,
		prepare: func(ctx context.Context) error { return p.connect(ctx, callers) },
		do: func(ctx context.Context, caller, _ int) (time.Duration, error) {
			msgs := newMessages(per)
			return timed(func() error { return p.indexAll(ctx, caller, msgs) })
		}}
}

// indexAll indexes new messages in one call.
func (p *postgres) indexAll(ctx context.Context, caller int, msgs []shared.Message) error {
	p.written.Add(int64(len(msgs)))
	if len(msgs) == 1 {
		status, err := indexOne(ctx, p.conns[caller], &msgs[0])
		return expect(err, status, shared.IndexAdded)
	}
	statuses, err := indexMany(ctx, p.conns[caller], msgs)
	if err != nil {
		return err
	}
	return expect(nil, statuses[len(msgs)-1], shared.IndexAdded)
}

// recall is the load of callers that recall messages, with a step that the worker carries out or without.
func (p *postgres) recall(callers, calls int, step bool) *load {
	steps := []string{}
	if step {
		steps = []string{shared.StepNotify}
	}
	var msgs []shared.Message
	l := &load{callers: callers, per: 1, calls: calls, cpu: p.cpu}
	l.prepare = func(ctx context.Context) error {
		if err := p.connect(ctx, callers); err != nil {
			return err
		}
		msgs = newMessages(calls)
		for from := 0; from < calls; from += batch {
			if err := p.indexAll(ctx, 0, msgs[from:min(from+batch, calls)]); err != nil {
				return err
			}
		}
		if step {
			return p.worker.start(ctx, p)
		}
		return nil
	}
	l.do = func(ctx context.Context, caller, n int) (time.Duration, error) {
		req := recallRequest(&msgs[n], ids.Add(1), shared.RoleSystem)
		return timed(func() error {
			status, err := recallOne(ctx, p.conns[caller], req, steps)
			if err == nil && step {
				p.worker.owed.Add(1)
			}
			return expect(err, status, string(shared.StatusRecalled))
		})
	}
	if step {
		l.settle = p.worker.finish
	}
	return l
}

// status is the load of callers that ask about messages.
func (p *postgres) status(callers int) *load {
	return p.read(callers, statusOne)
}

func statusOne(ctx context.Context, c *pgx.Conn, m *shared.Message) error {
	var recallID, actor, role *string
	var at *time.Time
	return c.QueryRow(ctx, sqlStatus, m.Tenant, m.ID).Scan(&recallID, &actor, &role, &at)
}

// check is the load of callers that ask whether they may recall a message: its facts are read here and judged.
func (p *postgres) check(callers int) *load {
	return p.read(callers, func(ctx context.Context, c *pgx.Conn, m *shared.Message) error {
		status, err := known(ctx, c, m)
		if err == nil && (status != shared.IndexUnchanged || time.Since(m.SentAt) > 7*24*time.Hour) {
			return fmt.Errorf("message %s may not be recalled", m.ID)
		}
		return err
	})
}

func (p *postgres) read(callers int, one func(context.Context, *pgx.Conn, *shared.Message) error) *load {
	return &load{callers: callers, per: 1, cpu: p.cpu,
		prepare: func(ctx context.Context) error { return p.connect(ctx, callers) },
		do: func(ctx context.Context, caller, n int) (time.Duration, error) {
			m := p.dataset.some(n)
			return timed(func() error { return one(ctx, p.conns[caller], &m) })
		}}
}

// expect makes an error of an answer other than the expected one.
func expect[T comparable](err error, is, want T) error {
	if err == nil && is != want {
		return fmt.Errorf("answered %v instead of %v", is, want)
	}
	return err
}
