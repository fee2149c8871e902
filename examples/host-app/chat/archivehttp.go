package chat

import (
	"context"
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

// archiveHold keeps the content of a message from being purged, or releases it. A live message gets or loses the label
// "hold", so that its recall carries it; for a recalled one the archive remembers it.
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
	amendment := shared.Amendment{Tenant: Tenant, MessageID: in.MessageID, Labels: []string{}}
	if in.Hold {
		amendment.Labels = []string{HoldLabel} // this server has no other labels
	}
	results, err := a.server.recall.Amend(ctx, []shared.Amendment{amendment})
	if err != nil {
		return nil, err
	}
	switch result := results[0]; result.Status {
	case shared.IndexNotFound:
		return nil, errNotArchived
	case shared.IndexInvalid:
		return nil, shared.Invalidf(result.Field, "%s", result.Problem)
	case shared.IndexRecalled:
		if err := a.server.archive.Hold(ctx, auditor, in.MessageID, in.Hold); err != nil {
			return nil, err
		}
	}
	return map[string]bool{"held": in.Hold}, nil
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
