package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chat-recall/recall/shared"
)

const (
	sqlTake = `SELECT s.sequence, o.tenant, o.conversation_type, o.conversation, o.message, o.recall_id,
			l.actor, l.role, l.recalled_at, m.sender, m.type, m.sent_at
		FROM steps s JOIN outbox o USING (sequence)
			JOIN ledger l ON l.tenant = o.tenant AND l.recall_id = o.recall_id AND l.message = o.message
			JOIN messages m ON m.tenant = o.tenant AND m.id = o.message
		WHERE s.step = $1 AND s.outcome IS NULL ORDER BY s.sequence LIMIT 500 FOR UPDATE OF s SKIP LOCKED`
	sqlSettle = `UPDATE steps SET outcome = 'done', attempts = attempts + 1, changed_at = now()
		WHERE step = $1 AND sequence = ANY ($2)`
)

// workerPause is how long the worker rests when no step was open. It polls: NOTIFY takes a lock of the whole database
// until its transaction is on disk, so that no two recalls share a sync, and a recall with 64 callers is slower for it.
const workerPause = 5 * time.Millisecond

// A stepWorker carries out the steps of recalls, which do nothing, and settles them: many in one transaction. It has a
// connection of its own, which stays open: a process that ends during a run blurs the processor time.
type stepWorker struct {
	conn          *pgx.Conn
	owed, settled atomic.Int64
	stop          chan struct{}
	done          chan error
}

func (w *stepWorker) start(ctx context.Context, p *postgres) (err error) {
	if w.conn == nil {
		if w.conn, err = p.open(ctx); err != nil {
			return err
		}
	}
	w.stop, w.done = make(chan struct{}), make(chan error, 1)
	go func() { w.done <- w.run(ctx) }()
	return nil
}

// finish waits until what is owed is settled, and ends the worker.
func (w *stepWorker) finish(ctx context.Context) error {
	for w.settled.Load() < w.owed.Load() {
		select {
		case err := <-w.done:
			return fmt.Errorf("the worker has ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	close(w.stop)
	return <-w.done
}

func (w *stepWorker) run(ctx context.Context) error {
	for {
		n, err := settleOpenSteps(ctx, w.conn)
		if err != nil {
			return err
		}
		w.settled.Add(int64(n))
		pause := time.Duration(0)
		if n == 0 {
			pause = workerPause
		}
		select {
		case <-w.stop:
			return nil
		case <-time.After(pause):
		}
	}
}

// settleOpenSteps takes what is open, carries it out and settles it, in two round trips.
func settleOpenSteps(ctx context.Context, c *pgx.Conn) (int, error) {
	var taken []int64
	var take pgx.Batch
	take.Queue("BEGIN")
	take.Queue(sqlTake, shared.StepNotify).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			e, err := scanEvent(rows)
			if err != nil {
				return err
			}
			taken = append(taken, int64(e.Sequence))
		}
		return rows.Err()
	})
	if err := c.SendBatch(ctx, &take).Close(); err != nil {
		return 0, err
	}
	var settle pgx.Batch
	if len(taken) > 0 {
		settle.Queue(sqlSettle, shared.StepNotify, taken)
	}
	settle.Queue("COMMIT")
	return len(taken), c.SendBatch(ctx, &settle).Close()
}

// scanEvent reads what a step gets.
func scanEvent(rows pgx.Rows) (e shared.Event, err error) {
	var conversation, kind int16
	err = rows.Scan(&e.Sequence, &e.Tenant, &conversation, &e.Message.Conversation.ID, &e.Message.ID, &e.RecallID,
		&e.Actor.ID, &e.Role, &e.RecalledAt, &e.Message.Sender, &kind, &e.Message.SentAt)
	return e, err
}
