package chat

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// auditPage is how many recalls the audit view lists at a time. Each comes with its steps, which may take a call more.
const auditPage = 50

// auditRoutes is what the audit view calls. Only accounts of compliance may: they read the facts, reasons and actors of
// every conversation. They are no users of the chat, and users of the chat are not of compliance.
func (a *api) auditRoutes(mux *http.ServeMux) {
	web := adapter.HTTP{User: a.auditor, Log: a.server.log}
	mux.Handle("GET /audit/choices", web.Handle(a.auditChoices))
	mux.Handle("GET /audit/recalls", web.Handle(a.auditRecalls))
	mux.Handle("POST /audit/forget", web.Handle(a.auditForget))
	mux.Handle("POST /archive/read", web.Handle(a.archiveRead))
	mux.Handle("POST /archive/hold", web.Handle(a.archiveHold))
	mux.Handle("GET /archive/accesses", web.Handle(a.archiveAccesses))
	mux.HandleFunc("POST /archive/file", func(w http.ResponseWriter, r *http.Request) {
		if err := a.archiveFile(w, r); err != nil {
			web.Answer(w, r, nil, err)
		}
	})
	mux.HandleFunc("GET /audit/export", func(w http.ResponseWriter, r *http.Request) {
		if err := a.auditExport(w, r); err != nil {
			web.Answer(w, r, nil, err)
		}
	})
}

// auditor returns the account of compliance that a request is from, and refuses others.
func (a *api) auditor(r *http.Request) (string, error) {
	user := userOf(r)
	known, err := a.server.store.IsAuditor(r.Context(), user)
	if err == nil && !known {
		err = refuse(http.StatusForbidden, "only compliance may see this, and %.80q is not of it", user)
	}
	return user, err
}

// auditChoices lists what the filters offer.
func (a *api) auditChoices(*http.Request, string) (any, error) {
	type room struct {
		Conversation shared.Conversation `json:"conversation"`
		Title        string              `json:"title"`
	}
	rooms := []room{}
	for _, c := range a.server.store.Rooms() {
		rooms = append(rooms, room{c, a.server.store.Title(c)})
	}
	return struct {
		Users []User `json:"users"`
		Rooms []room `json:"rooms"`
	}{a.server.store.Users(), rooms}, nil
}

// listRequest reads the filters of a request.
func listRequest(r *http.Request) (shared.ListRequest, error) {
	q := r.URL.Query()
	req := shared.ListRequest{
		Tenant: Tenant, Actor: q.Get("actor"), Sender: q.Get("sender"), Rule: q.Get("rule"), JobID: q.Get("job_id"),
		Conversation: shared.Conversation{Type: shared.ConversationType(q.Get("type")), ID: q.Get("id")},
		Steps:        shared.StepsFilter(q.Get("steps")), After: q.Get("after"),
	}
	for name, into := range map[string]*time.Time{"from": &req.From, "before": &req.Before} {
		if q.Get(name) == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, q.Get(name))
		if err != nil {
			return req, shared.Invalidf(name, "is %.40q; want a time like 2026-11-01T12:00:00Z", q.Get(name))
		}
		*into = t
	}
	return req, nil
}

// auditRecalls answers one page of recalls, newest first, each with its steps.
func (a *api) auditRecalls(r *http.Request, _ string) (any, error) {
	req, err := listRequest(r)
	if err != nil {
		return nil, err
	}
	req.Limit = auditPage
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	page, err := a.server.recall.List(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("list recalls: %w", err)
	}
	entries, err := a.server.withSteps(ctx, page.Events)
	if err != nil {
		return nil, err
	}
	return struct {
		Entries []shared.LedgerEntry `json:"entries"`
		Next    string               `json:"next"`
		More    bool                 `json:"more"`
		Reset   bool                 `json:"reset"`
	}{entries, page.Next, page.More, page.Reset}, nil
}

// withSteps reads the steps of events. It reads the ledger of each recall until it has those that are asked for.
func (s *Server) withSteps(ctx context.Context, events []shared.Event) ([]shared.LedgerEntry, error) {
	entries := make([]shared.LedgerEntry, len(events))
	missing := map[string]map[string]*shared.LedgerEntry{} // by recall and message
	for i, e := range events {
		entries[i].Event, entries[i].Steps = e, []shared.StepRecord{}
		if missing[e.RecallID] == nil {
			missing[e.RecallID] = map[string]*shared.LedgerEntry{}
		}
		missing[e.RecallID][e.Message.ID] = &entries[i]
	}
	for id, wanted := range missing {
		req := shared.LedgerRequest{Tenant: Tenant, RecallID: id}
		for more := true; more && len(wanted) > 0; {
			page, err := s.recall.Ledger(ctx, req)
			if err != nil {
				return nil, fmt.Errorf("read the steps of a recall: %w", err)
			}
			for _, l := range page.Entries {
				if entry := wanted[l.Event.Message.ID]; entry != nil {
					entry.Steps = l.Steps
					delete(wanted, l.Event.Message.ID)
				}
			}
			req.After, more = page.Next, page.More
		}
	}
	return entries, nil
}

// auditExport streams all recalls that match as JSON lines. If it fails on the way, the download breaks off, so that
// nobody takes a part for the whole.
func (a *api) auditExport(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.auditor(r); err != nil {
		return err
	}
	req, err := listRequest(r)
	if err != nil {
		return err
	}
	began := false
	for page, err := range shared.ListPages(r.Context(), a.server.recall.List, req) {
		if err != nil && began {
			a.server.log.Error("an export of recalls is incomplete", "error", err)
			panic(http.ErrAbortHandler)
		}
		if err != nil {
			return fmt.Errorf("list recalls: %w", err)
		}
		if !began {
			h := w.Header()
			h.Set("Content-Type", "application/jsonl; charset=utf-8")
			h.Set("Content-Disposition", `attachment; filename="recalls.jsonl"`)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Cache-Control", "no-store")
			began = true
		}
		var lines bytes.Buffer
		e := json.NewEncoder(&lines)
		for i := range page.Events {
			if err := e.Encode(&page.Events[i]); err != nil {
				return fmt.Errorf("write a recall: %w", err)
			}
		}
		if _, err := w.Write(lines.Bytes()); err != nil {
			return nil // the client has gone
		}
	}
	return nil
}

// AddAuditor makes an account of compliance, once.
func (s *Store) AddAuditor(ctx context.Context, id string) error {
	err := s.apply(ctx, func(tx *writeTx) error {
		return tx.exec("INSERT INTO auditors (id) VALUES (?) ON CONFLICT DO NOTHING", id)
	})
	if err != nil {
		return fmt.Errorf("add an account of compliance: %w", err)
	}
	return nil
}

// IsAuditor tells whether an account is of compliance.
func (s *Store) IsAuditor(ctx context.Context, id string) (bool, error) {
	err := s.read.QueryRowContext(ctx, "SELECT id FROM auditors WHERE id = ?", id).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the accounts of compliance: %w", err)
	}
	return true, nil
}
