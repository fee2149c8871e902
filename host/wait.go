package host

import (
	"context"
	"time"

	"github.com/chat-recall/recall/shared"
)

// Times between two looks of Wait at a ledger.
const (
	firstLook = 5 * time.Millisecond
	lastLook  = time.Second
)

// Wait returns when every step of a recall is settled, for all messages that were recalled under this id so far. If ctx
// ends first, it returns the error of ctx. If the recall does not exist, the error is a [*shared.FieldError].
func (h *Host) Wait(ctx context.Context, tenant, recallID string) error {
	req := shared.LedgerRequest{Tenant: tenant, RecallID: recallID}
	found := false
	for delay := firstLook; ; {
		page, err := h.Ledger(ctx, req)
		if err != nil {
			return err
		}
		switch {
		case page.Reset: // the index was restored meanwhile
			req.After, found = "", false
			continue
		case len(page.Entries) == 0 && !found:
			return shared.Invalidf("recall_id", "there is no recall %.80q", recallID)
		case settled(page.Entries):
			if !page.More {
				return nil
			}
			req.After, found, delay = page.Next, true, firstLook
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
			delay = min(2*delay, lastLook)
		}
	}
}

func settled(entries []shared.LedgerEntry) bool {
	for _, e := range entries {
		for _, s := range e.Steps {
			if !s.Outcome.Settles() {
				return false
			}
		}
	}
	return true
}
