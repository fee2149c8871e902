// Package shared is the contract between a chat server and the recall plugin: the interface [Recall], its types, limits
// and errors.
package shared

import "context"

// Recall is what the plugin offers a chat server. The plugin implements it over its index, and package host over the
// connection to the plugin: a chat server is written against this one type.
//
// A refusal is a result, not an error. An error is one of these:
//   - a [*FieldError] for a malformed call: nothing of it was carried out;
//   - [ErrOverloaded]: nothing of it was carried out, try again later;
//   - [ErrUnavailable]: the call was not answered and may have been carried out;
//   - [ErrUnimplemented]: the plugin is older than the call;
//   - [ErrDamaged]: the index is damaged and answers nothing;
//   - the error of ctx, after which the call may have been carried out;
//   - another one, such as a full disk, that says what to mend.
//
// Every call can be repeated after an error: nothing is applied twice.
type Recall interface {
	// Index records messages that the server accepted, at most MaxIndexBatch a call. It returns one result a message, in
	// order, once all are on disk. Recording the same message again changes nothing.
	Index(ctx context.Context, msgs []Message) ([]IndexResult, error)

	// Amend changes facts of indexed messages, at most MaxIndexBatch a call. It returns one result an amendment, in order,
	// once all are on disk. A recalled message does not change.
	Amend(ctx context.Context, amendments []Amendment) ([]IndexResult, error)

	// Recall recalls messages. It returns one result a target, in order, once all are on disk.
	Recall(ctx context.Context, req RecallRequest) ([]RecallResult, error)

	// Check answers what Recall would answer now and changes nothing. A permitted result says until when it holds, so that
	// a client can show the menu item and hide it in time.
	Check(ctx context.Context, req RecallRequest) ([]RecallResult, error)

	// Explain answers which rules decide a request now, and why. It changes nothing.
	Explain(ctx context.Context, req RecallRequest) ([]Explanation, error)

	// Status says of each message, at most MaxStatusIDs a call, whether it is unknown, live or recalled. It is the filter
	// for a late delivery.
	Status(ctx context.Context, tenant string, ids []string) ([]MessageStatus, error)

	// Since pages through the recalls of some conversations after a cursor, oldest first: what a client that was away
	// missed.
	Since(ctx context.Context, req SinceRequest) (EventPage, error)

	// Ledger pages through the messages of a recall, at most MaxRecallMessages, and the state of their steps.
	Ledger(ctx context.Context, req LedgerRequest) (LedgerPage, error)
}
