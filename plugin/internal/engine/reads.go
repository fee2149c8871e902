package engine

import (
	"context"
	"fmt"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// Status is [shared.Recall].
func (e *Engine) Status(_ context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	a, leave, err := e.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := wire.ValidateStatus(tenant, ids); err != nil || len(ids) == 0 {
		return nil, err
	}
	records, err := a.index.States(tenant, ids)
	if err != nil {
		return nil, fmt.Errorf("find the messages: %w", err)
	}
	out := make([]shared.MessageStatus, len(ids))
	for i, r := range records {
		out[i] = shared.MessageStatus{MessageID: ids[i], State: shared.MessageUnknown}
		if r == nil {
			continue
		}
		out[i].State, out[i].Message = shared.MessageLive, &r.Message
		if t := r.Tombstone; t != nil {
			out[i].State, out[i].RecallID, out[i].RecalledAt = shared.MessageRecalled, t.RecallID, t.RecalledAt
			if r.Forgotten {
				out[i].Message = nil
			}
		}
	}
	return out, nil
}

// Since is [shared.Recall].
func (e *Engine) Since(ctx context.Context, req shared.SinceRequest) (shared.EventPage, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.EventPage{}, err
	}
	defer leave()
	if err := wire.ValidateSince(&req); err != nil {
		return shared.EventPage{}, err
	}
	page, err := a.index.Since(ctx, req)
	if err != nil {
		return shared.EventPage{}, fmt.Errorf("read recalls: %w", err)
	}
	return page, nil
}

// List is [shared.Recall].
func (e *Engine) List(ctx context.Context, req shared.ListRequest) (shared.EventPage, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.EventPage{}, err
	}
	defer leave()
	if err := wire.ValidateList(&req); err != nil {
		return shared.EventPage{}, err
	}
	page, err := a.index.List(ctx, req)
	if err != nil {
		return shared.EventPage{}, fmt.Errorf("list recalls: %w", err)
	}
	return page, nil
}

// Waits is [shared.Recall].
func (e *Engine) Waits(ctx context.Context, req shared.WaitsRequest) (shared.WaitPage, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.WaitPage{}, err
	}
	defer leave()
	if err := wire.ValidateWaits(&req); err != nil {
		return shared.WaitPage{}, err
	}
	page, err := a.index.Waits(ctx, req)
	if err != nil {
		return shared.WaitPage{}, fmt.Errorf("read waiting recalls: %w", err)
	}
	return page, nil
}

// Related is [shared.Recall].
func (e *Engine) Related(_ context.Context, req shared.RelatedRequest) (shared.RelatedPage, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.RelatedPage{}, err
	}
	defer leave()
	if err := wire.ValidateRelated(&req); err != nil {
		return shared.RelatedPage{}, err
	}
	page, err := a.index.Related(req)
	if err != nil {
		return shared.RelatedPage{}, fmt.Errorf("read related messages: %w", err)
	}
	return page, nil
}

// Ledger is [shared.Recall].
func (e *Engine) Ledger(ctx context.Context, req shared.LedgerRequest) (shared.LedgerPage, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.LedgerPage{}, err
	}
	defer leave()
	if err := wire.ValidateLedger(&req); err != nil {
		return shared.LedgerPage{}, err
	}
	page, err := a.index.LedgerPage(ctx, req)
	if err != nil {
		return shared.LedgerPage{}, fmt.Errorf("read the ledger: %w", err)
	}
	return page, nil
}
