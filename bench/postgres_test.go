package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chat-recall/recall/host/hosttest"
	"github.com/chat-recall/recall/shared"
)

func startTestPostgres(t *testing.T) *postgres {
	t.Helper()
	if _, err := postgresBinaries(); err != nil {
		hosttest.Missing(t, "PostgreSQL (Debian package postgresql)")
	}
	dir, err := os.MkdirTemp("", "recall-bench") // not t.TempDir, whose parent the server's user may not enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &postgres{dir: filepath.Join(dir, "postgres"), size: 1000}
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Errorf("%v\n%s", err, p.log.Bytes())
		}
	})
	return p
}

func count(t *testing.T, c *pgx.Conn, sql string, args ...any) (n int) {
	t.Helper()
	if err := c.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// TestPostgres checks that it does the work that Recall does: the same answers, and what they leave.
func TestPostgres(t *testing.T) {
	p := startTestPostgres(t)
	c := p.conns[0]
	ctx := t.Context()

	t.Run("index answers as Recall does", func(t *testing.T) {
		m := newMessages(1)[0]
		other := m
		other.Sender = "somebody else"
		index := func(m shared.Message, want shared.IndexStatus) {
			t.Helper()
			if got, err := indexOne(ctx, c, &m); err != nil || got != want {
				t.Errorf("indexOne: %s, %v; want %s", got, err, want)
			}
			msgs := append([]shared.Message{m}, newMessages(1)...)
			if got, err := indexMany(ctx, c, msgs); err != nil || got[1] != shared.IndexAdded ||
				got[0] != want && want != shared.IndexAdded {
				t.Errorf("indexMany: %s, %v; want %s, %s", got, err, want, shared.IndexAdded)
			}
		}
		index(m, shared.IndexAdded)
		index(m, shared.IndexUnchanged)
		index(other, shared.IndexConflict)
		req := recallRequest(&m, ids.Add(1), shared.RoleAdmin)
		if got, err := recallOne(ctx, c, req, []string{}); err != nil || got != "recalled" {
			t.Fatalf("recall: %s, %v", got, err)
		}
		index(m, shared.IndexRecalled)
		index(other, shared.IndexRecalled)
	})

	t.Run("recall answers as Recall does", func(t *testing.T) {
		msgs := newMessages(3)
		msgs[1].SentAt = time.Now().Add(-8 * 24 * time.Hour)
		if _, err := indexMany(ctx, c, msgs); err != nil {
			t.Fatal(err)
		}
		req := recallRequest(&msgs[0], ids.Add(1), shared.RoleSystem)
		edit := func(f func(*shared.RecallRequest)) shared.RecallRequest {
			r := req
			f(&r)
			return r
		}
		for _, x := range []struct {
			name string
			req  shared.RecallRequest
			want string
		}{
			{"a member may not", edit(func(r *shared.RecallRequest) {
				r.Targets = []shared.Target{{MessageID: r.Targets[0].MessageID}}
			}), "forbidden"},
			{"a new recall", req, "recalled"},
			{"the same again", req, "recalled"},
			{"another", edit(func(r *shared.RecallRequest) { r.RecallID = "another" }), "already_recalled"},
			{"the recall id of another actor", edit(func(r *shared.RecallRequest) {
				r.Targets, r.Actor.ID = []shared.Target{{MessageID: msgs[2].ID, Role: shared.RoleAdmin}}, "another"
			}), "recall_id_taken"},
			{"too late", edit(func(r *shared.RecallRequest) {
				r.Targets = []shared.Target{{MessageID: msgs[1].ID, Role: shared.RoleAdmin}}
			}), "window_expired"},
			{"an unknown message", edit(func(r *shared.RecallRequest) {
				r.Targets = []shared.Target{{MessageID: "unknown", Role: shared.RoleAdmin}}
			}), "not_found"},
		} {
			if got, err := recallOne(ctx, c, x.req, []string{shared.StepNotify}); err != nil || got != x.want {
				t.Errorf("%s: %s, %v; want %s", x.name, got, err, x.want)
			}
		}
		for table, want := range map[string]int{
			"messages WHERE id = $1 AND recalled_by = 'moderator'": 1,
			"outbox WHERE message = $1":                            1, "ledger WHERE message = $1": 1,
			"steps JOIN outbox USING (sequence) WHERE message = $1 AND outcome IS NULL": 1,
		} {
			if got := count(t, c, "SELECT count(*) FROM "+table, msgs[0].ID); got != want {
				t.Errorf("%d rows in %s, want %d", got, table, want)
			}
		}
	})

	t.Run("the worker settles each step once", func(t *testing.T) {
		open := count(t, c, "SELECT count(*) FROM steps WHERE outcome IS NULL")
		if n, err := settleOpenSteps(ctx, c); err != nil || n != open || n == 0 {
			t.Errorf("settled %d of %d, %v", n, open, err)
		}
		if n, err := settleOpenSteps(ctx, c); err != nil || n != 0 {
			t.Errorf("settled %d again, %v", n, err)
		}
		if n := count(t, c, "SELECT count(*) FROM steps WHERE outcome = 'done' AND attempts = 1"); n != open {
			t.Errorf("%d are done, want %d", n, open)
		}
	})

	t.Run("every load runs", func(t *testing.T) {
		before := count(t, c, "SELECT count(*) FROM steps WHERE outcome = 'done'")
		for name, l := range map[string]*load{
			"index": p.index(2, 1), "batches": p.index(2, 10), "check": p.check(2), "status": p.status(2),
			"recall": p.recall(2, 100, false), "steps": p.recall(2, 100, true), "steps again": p.recall(2, 100, true),
		} {
			if s, err := l.run(ctx, 20*time.Millisecond); err != nil || s.Rate <= 0 || s.CPU == 0 {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
		}
		if n := count(t, c, "SELECT count(*) FROM steps WHERE outcome IS NULL"); n != 0 {
			t.Errorf("%d steps are open after the run", n)
		}
		if n := count(t, c, "SELECT count(*) FROM steps WHERE outcome = 'done'"); n <= before {
			t.Error("no step was settled by the run")
		}
	})

	t.Run("it is as safe as it claims", func(t *testing.T) {
		for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
			var value string
			if err := c.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value); err != nil || value != "on" {
				t.Errorf("%s is %s, %v", name, value, err)
			}
		}
	})

	t.Run("it begins anew when it has grown", func(t *testing.T) {
		p.written.Store(mostGrowth*p.size + 1)
		if err := p.renew(ctx); err != nil {
			t.Fatal(err)
		}
		if n := count(t, c, "SELECT count(*) FROM messages"); n != int(p.size) {
			t.Errorf("%d messages, want %d", n, p.size)
		}
	})
}
