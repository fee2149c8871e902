// Package shared is the contract between a chat server and the recall plugin: the interface Recall that both
// sides speak, the types it is made of, and the gRPC wire between the two processes.
package shared

import (
	"context"
	"errors"
	"sync"
)

// Recall is what the plugin offers a chat server. The plugin implements it over its index; the host SDK
// implements it over gRPC; a chat server is written against this one type.
//
// A refusal is a result, not an error. An error is a *FieldError for a call that was malformed (nothing of it was
// carried out), ErrUnavailable or ErrOverloaded for one that could not be answered, the error of ctx, or another one
// for what somebody has to mend, such as a full disk, and says so. Every call may be repeated after an error: none is
// applied twice.
type Recall interface {
	// Index records messages that the server accepted, at most MaxIndexBatch a call. It returns, in order, one
	// result a message, once all are on disk. Recording the same id again changes nothing; with different facts
	// it is a conflict, and the first facts stay.
	Index(ctx context.Context, msgs []Message) ([]IndexResult, error)

	// Recall takes messages back and returns, in order, one result a message, once all are on disk.
	Recall(ctx context.Context, req RecallRequest) ([]RecallResult, error)

	// Check answers what Recall would answer now and changes nothing. A permitted result carries the moment
	// until which it holds, so a client can show the menu item, and hide it on time.
	Check(ctx context.Context, req RecallRequest) ([]RecallResult, error)

	// Status tells of each message, at most MaxStatusIDs a call, whether it is unknown, live or recalled: the
	// filter for a late delivery.
	Status(ctx context.Context, tenant string, ids []string) ([]MessageStatus, error)

	// Since pages through the recalls of some conversations after a cursor, oldest first: what a client that was
	// away missed.
	Since(ctx context.Context, req SinceRequest) (SincePage, error)

	// Ledger tells what became of each step of a recall, with an entry for each message that was recalled under this id,
	// at most MaxRecallMessages. An unknown recall has a ledger without entries. A LedgerReader reads it in pages.
	Ledger(ctx context.Context, tenant, recallID string) (Ledger, error)

	// Events calls handle for every event with open steps, oldest first, and again after a retry delay until
	// each step is settled. Calls of handle run side by side. A newer call of Events ends an older one. It
	// returns when ctx ends or the plugin goes away, after every handle it called has returned.
	Events(ctx context.Context, handle func(Event, Settler)) error
}

// A Settler records what became of the steps of one event.
type Settler interface {
	// Settle returns once the outcome of the step is on disk. A step that is settled keeps its outcome: settling it
	// again changes nothing. OutcomeFailed leaves the step open, to be delivered again after a delay; cause says
	// why, for the ledger, and is kept up to MaxStepErrorBytes. An event or step that does not exist, and a step that
	// still waits for notify, is a *FieldError. After another error, and unless Events has ended, the step is not
	// delivered again: ask again, until it is recorded.
	Settle(ctx context.Context, step string, outcome Outcome, cause error) error
}

// Settlement is what became of one attempt of one step of an event.
type Settlement struct {
	Sequence uint64 // of the event
	Step     string
	Attempt  int // Event.Attempt of the delivery, from 1; 0: the next
	Outcome  Outcome
	Error    string // of OutcomeFailed; at most MaxStepErrorBytes
}

// NewSettlement is what became of a step of one delivery. Of cause it keeps MaxStepErrorBytes.
func NewSettlement(e Event, step string, outcome Outcome, cause error) Settlement {
	return Settlement{Sequence: e.Sequence, Step: step, Attempt: e.Attempt, Outcome: outcome, Error: stepError(cause)}
}

// stepError is the text of an error as a ledger keeps it.
func stepError(cause error) string {
	if cause == nil {
		return ""
	}
	return clipText(cause.Error(), MaxStepErrorBytes)
}

// AttemptSettler is what a plugin offers that orders attempts by their number and not by time. A failure counts if it
// is of the attempt after the last one that counted, so reporting it again changes nothing. An outcome that settles the
// step counts whichever attempt it is of: one that was given up and succeeds late settles the step, and is not counted
// twice.
type AttemptSettler interface {
	// SettleAttempt is Settler.Settle for one attempt.
	SettleAttempt(ctx context.Context, s Settlement) error
}

// BatchSettler is what a plugin offers that records several outcomes in one operation.
type BatchSettler interface {
	// SettleAll is SettleAttempt for at most MaxSettlements attempts; more are a *FieldError. It returns, in order, nil
	// for each that is on disk, and otherwise why it is not: one that is refused does not refuse the others. After an
	// error of the call any of them may be recorded: repeat it. The caller must not change all, even after it returns.
	SettleAll(ctx context.Context, all []Settlement) ([]error, error)
}

// SettleEach is [BatchSettler] for a plugin that is none. It settles each attempt by itself, side by side.
func SettleEach(ctx context.Context, plugin Plugin, all []Settlement) ([]error, error) {
	errs := make([]error, len(all))
	var each sync.WaitGroup
	for i := range all {
		each.Go(func() {
			x := &all[i]
			s := settler{plugin, x.Sequence, x.Attempt}
			errs[i] = s.settle(ctx, x.Step, x.Outcome, x.Error)
		})
	}
	each.Wait()
	for _, err := range errs {
		if errors.Is(err, ErrUnavailable) || err != nil && ctx.Err() != nil {
			return nil, err
		}
	}
	return errs, nil
}

// Deliverer is what a plugin offers that hands over several deliveries at once.
type Deliverer interface {
	// Deliver is Recall.Events, but calls handle with the deliveries that are due at the same moment: one call at a time,
	// in order. What becomes due while handle runs goes together in the next call.
	Deliver(ctx context.Context, handle func([]Event)) error
}

// LedgerReader reads a ledger in pages.
type LedgerReader interface {
	// LedgerPage reads one page of the ledger of a recall. An unknown recall has a page without entries.
	LedgerPage(ctx context.Context, req LedgerRequest) (LedgerPage, error)
}

// ReadLedger reads a whole ledger page by page.
func ReadLedger(ctx context.Context, from LedgerReader, tenant, recallID string) (Ledger, error) {
	ledger, req := Ledger{Tenant: tenant, RecallID: recallID}, LedgerRequest{Tenant: tenant, RecallID: recallID}
	for more := true; more; {
		page, err := from.LedgerPage(ctx, req)
		if err != nil {
			return Ledger{}, err
		}
		ledger.Entries = append(ledger.Entries, page.Entries...)
		if len(ledger.Entries) > MaxRecallMessages {
			return Ledger{}, badAnswer(Invalidf("entries", "more than %d", MaxRecallMessages))
		}
		if page.More && page.Next <= req.After {
			return Ledger{}, badAnswer(Invalidf("next", "is %d after a page from %d on", page.Next, req.After))
		}
		req.After, more = page.Next, page.More
	}
	return ledger, nil
}
