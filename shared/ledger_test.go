package shared

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// api is embedded under a name that hides no method.
type api = Recall

// paged is a plugin with a ledger in pages of two.
type paged struct {
	api
	entries int
	reset   bool
	late    bool // the last page comes before an empty one
	endless bool
	asked   []string
}

func (p *paged) Ledger(_ context.Context, req LedgerRequest) (LedgerPage, error) {
	p.asked = append(p.asked, req.Tenant+" "+req.RecallID+" "+req.After)
	var from int
	if req.After != "" {
		if _, err := fmt.Sscan(req.After, &from); err != nil {
			return LedgerPage{}, err
		}
	}
	if p.reset && from > 0 {
		return LedgerPage{Reset: true}, nil
	}
	n := min(2, p.entries-from)
	if p.endless {
		n = MaxLedgerLimit
	}
	return LedgerPage{
		Entries: make([]LedgerEntry, n), Next: fmt.Sprint(from + n), More: p.endless || from+n < p.entries || p.late && n > 0,
	}, nil
}

func TestReadLedger(t *testing.T) {
	for _, n := range []int{0, 1, 2, 5} {
		p := &paged{entries: n}
		entries, err := ReadLedger(t.Context(), p, "acme", "r")
		if err != nil || len(entries) != n || p.asked[0] != "acme r " || len(p.asked) != max(1, (n+1)/2) {
			t.Errorf("%d of %d entries, %v; asked %q", len(entries), n, err, p.asked)
		}
	}
	if _, err := ReadLedger(t.Context(), &paged{entries: 5, reset: true}, "acme", "r"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an index that was restored meanwhile: %v", err)
	}
	largest := &paged{entries: MaxRecallMessages, late: true}
	if entries, err := ReadLedger(t.Context(), largest, "acme", "r"); err != nil || len(entries) != MaxRecallMessages {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if _, err := ReadLedger(t.Context(), &paged{endless: true}, "acme", "r"); err == nil {
		t.Error("a ledger without end was read")
	}
}
