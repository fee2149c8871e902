package chat

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// accessesPage is how many accesses to the archive are listed at a time.
const accessesPage = 50

// archiveRead answers the content of a message. It is a POST, since it records who has read it.
func (a *api) archiveRead(r *http.Request, auditor string) (any, error) {
	var in struct {
		MessageID string `json:"message_id"`
	}
	if err := adapter.ReadJSON(r, maxBodyBytes, &in); err != nil {
		return nil, err
	}
	return a.server.archive.Read(r.Context(), auditor, in.MessageID)
}

// archiveFile answers an attachment, never as something a browser would run.
func (a *api) archiveFile(w http.ResponseWriter, r *http.Request) error {
	auditor, err := a.auditor(r)
	if err != nil {
		return err
	}
	var in struct {
		MessageID string `json:"message_id"`
		Key       string `json:"key"`
	}
	if err := adapter.ReadJSON(r, maxBodyBytes, &in); err != nil {
		return err
	}
	file, name, err := a.server.archive.ReadFile(r.Context(), auditor, in.MessageID, in.Key)
	if err != nil {
		return err
	}
	defer file.Close()
	sendFile(w, file, name, func(err error) { a.server.log.Debug("a download ended early", "error", err) })
	return nil
}

// archiveHold keeps the content of a message and of its edits from being purged, or releases it. The archive comes
// first: it records the decision together with who made it, so that a crash leaves no hold that nobody recorded. A live
// message then gets or loses the label "hold", for the rules.
func (a *api) archiveHold(r *http.Request, auditor string) (any, error) {
	var in struct {
		MessageID string `json:"message_id"`
		Hold      bool   `json:"hold"`
	}
	if err := adapter.ReadJSON(r, maxBodyBytes, &in); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	states, err := a.server.recall.Status(ctx, Tenant, []string{in.MessageID})
	var field *shared.FieldError
	switch {
	case errors.As(err, &field):
		return nil, &shared.FieldError{Field: "message_id", Problem: field.Problem}
	case err != nil:
		return nil, fmt.Errorf("ask for the message to hold: %w", err)
	case states[0].State == shared.MessageUnknown:
		return nil, errNotArchived
	}
	held, err := a.server.archive.Hold(ctx, auditor, in.MessageID, in.Hold)
	if err != nil {
		return nil, err
	}
	if states[0].State == shared.MessageLive {
		amendment := shared.Amendment{Tenant: Tenant, MessageID: in.MessageID, Labels: []string{}}
		if in.Hold {
			amendment.Labels = []string{HoldLabel} // this server has no other labels
		}
		if _, err := a.server.recall.Amend(ctx, []shared.Amendment{amendment}); err != nil {
			return nil, fmt.Errorf("the archive has the decision, and the label is not changed yet; repeat it: %w", err)
		}
	}
	return map[string]bool{"held": held}, nil
}

// archiveAccesses lists what compliance did to the archive, newest first.
func (a *api) archiveAccesses(r *http.Request, _ string) (any, error) {
	before, err := adapter.Number(r, "before", math.MaxInt)
	if err != nil {
		return nil, err
	}
	list, err := a.server.archive.Accesses(r.Context(), int64(before), accessesPage)
	return map[string]any{"accesses": list, "more": len(list) == accessesPage}, err
}
