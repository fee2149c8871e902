package shared

import (
	"context"
	"fmt"
)

// maxLedgerRead bounds what ReadLedger keeps in memory.
const maxLedgerRead = 10 * MaxRecallMessages

// ReadLedger reads all pages of the ledger of a recall. A recall that does not exist has no entries. If the index is
// restored or replaced meanwhile, the error is [ErrUnavailable]. A ledger of more than 100,000 messages, as only a
// recall with many related messages has, is an error: read its pages instead.
func ReadLedger(ctx context.Context, from Recall, tenant, recallID string) ([]LedgerEntry, error) {
	var entries []LedgerEntry
	req := LedgerRequest{Tenant: tenant, RecallID: recallID}
	for {
		page, err := from.Ledger(ctx, req)
		if err != nil {
			return nil, err
		}
		if page.Reset {
			return nil, fmt.Errorf("%w: the index was restored or replaced while the ledger was read; read it again",
				ErrUnavailable)
		}
		entries, req.After = append(entries, page.Entries...), page.Next
		if !page.More {
			return entries, nil
		}
		if len(entries) > maxLedgerRead {
			return nil, fmt.Errorf("the ledger of recall %q has more than %d entries; read it in pages", recallID, maxLedgerRead)
		}
	}
}
