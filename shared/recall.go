// Package shared is the contract between a chat server and the recall plugin: the interface [Recall], its types, limits
// and errors.
package shared

import "context"

// Recall is the interface of the plugin to a chat server. The plugin implements it with its index, and package host
// with the connection to the plugin.
//
// A refusal is a result, not an error. An error is one of these:
//   - a [*FieldError] for a malformed call: no part of it was carried out;
//   - [ErrOverloaded]: no part of it was carried out, try again later;
//   - [ErrUnavailable]: the call was not answered and may have been carried out;
//   - [ErrUnimplemented]: the plugin is too old to know the call;
//   - [ErrDamaged]: the index is damaged, and the plugin answers nothing from it;
//   - the error of ctx, after which the call may have been carried out;
//   - any other error, such as a full disk: it says what to fix.
//
// Every call can be repeated after an error: nothing is applied twice.
type Recall interface {
	// Index records messages that the server accepted, at most MaxIndexBatch per call. It returns one result per message,
	// in order, once all are on disk. Recording the same message again changes nothing.
	Index(ctx context.Context, msgs []Message) ([]IndexResult, error)

	// Amend changes facts of indexed messages, at most MaxIndexBatch per call. It returns one result per amendment, in
	// order, once all are on disk. A recalled message does not change.
	Amend(ctx context.Context, amendments []Amendment) ([]IndexResult, error)

	// Recall recalls messages. It returns one result per target, in order, once all are on disk.
	Recall(ctx context.Context, req RecallRequest) ([]RecallResult, error)

	// Check answers what Recall would answer now. It changes nothing. A permitted result says until when it holds, so that
	// a client can hide the menu item in time.
	Check(ctx context.Context, req RecallRequest) ([]RecallResult, error)

	// Explain answers which rules decide about a request now, and why. It ignores rate limits and changes nothing.
	Explain(ctx context.Context, req RecallRequest) ([]Explanation, error)

	// Status says for each message, at most MaxStatusIDs per call, whether it is unknown, live or recalled. Call it right
	// before a late delivery.
	Status(ctx context.Context, tenant string, ids []string) ([]MessageStatus, error)

	// Since pages through the recalls of some conversations after a cursor, oldest first. A client that was away gets the
	// recalls that it missed.
	Since(ctx context.Context, req SinceRequest) (EventPage, error)

	// List pages through the recalls of a tenant that match a filter, newest first. It is for audits: it reads events that
	// do not match too, see [ListRequest].
	List(ctx context.Context, req ListRequest) (EventPage, error)

	// Ledger pages through the messages of a recall with the state of their steps.
	Ledger(ctx context.Context, req LedgerRequest) (LedgerPage, error)

	// Waits pages through the recalls that came before their messages, and those that were refused or expired.
	Waits(ctx context.Context, req WaitsRequest) (WaitPage, error)

	// Forget erases what the index knows of messages: their ids, facts, recalls, reasons and attachment keys. A recalled
	// message stays recalled: Index answers IndexRecalled for its id, Status MessageRecalled, and Recall
	// StatusAlreadyRecalled without details. Cursors stay valid. A recall with an open step is erased once its steps are
	// settled. The server erases what it has itself before it calls Forget.
	//
	// Forget begins the work and returns when it is done, when all that is left waits for open steps, or after 5 s. The
	// work goes on in the background until it is done: see ForgetResult. At most 100 requests are under way; one more is
	// ErrOverloaded. The bytes leave the files of the index when it is compacted, see package host.
	Forget(ctx context.Context, req ForgetRequest) (ForgetResult, error)

	// Related pages through the live messages that relate to a message, which may be recalled or unknown.
	Related(ctx context.Context, req RelatedRequest) (RelatedPage, error)

	// StartJob starts a job that recalls every message that matches a filter, and returns it once that is on disk. The
	// plugin carries it out in the background, between other calls, also after a restart. A job that was started before
	// is returned as it is; if that one has another request, the error is a [*FieldError].
	StartJob(ctx context.Context, req JobRequest) (Job, error)

	// PreviewJob counts what the rules would answer now for the messages that match, in pages. It changes nothing. See
	// [PreviewJob] for all pages at once.
	PreviewJob(ctx context.Context, req JobPreviewRequest) (JobPreview, error)

	// JobStatus returns a job. A job that the tenant does not have is a [*FieldError].
	JobStatus(ctx context.Context, tenant, jobID string) (Job, error)

	// Jobs pages through the jobs of a tenant, the newest first: those that run, and the last MaxEndedJobs others.
	Jobs(ctx context.Context, req JobsRequest) (JobPage, error)

	// CancelJob ends a job once that is on disk. What it has recalled stays recalled. A job that has ended stays as it is.
	CancelJob(ctx context.Context, tenant, jobID string) (Job, error)
}
