package host

import (
	"context"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// StartJob implements [shared.Recall]. It makes a JobID if that is empty. A caller that may have to repeat the call
// after an error sets one: else each call starts a job of its own.
func (h *Host) StartJob(ctx context.Context, req shared.JobRequest) (shared.Job, error) {
	if err := ensureID(&req.JobID, "job"); err != nil {
		return shared.Job{}, err
	}
	return sizedCall(ctx, h.gate, sizeOfJob(&req), func(api *wire.Client) (shared.Job, error) {
		return api.StartJob(ctx, req)
	})
}

// PreviewJob implements [shared.Recall].
func (h *Host) PreviewJob(ctx context.Context, req shared.JobPreviewRequest) (shared.JobPreview, error) {
	return sizedCall(ctx, h.gate, sizeOfJob(&req.Job), func(api *wire.Client) (shared.JobPreview, error) {
		return api.PreviewJob(ctx, req)
	})
}

// JobStatus implements [shared.Recall].
func (h *Host) JobStatus(ctx context.Context, tenant, jobID string) (shared.Job, error) {
	return call(ctx, h.gate, func(api *wire.Client) (shared.Job, error) { return api.JobStatus(ctx, tenant, jobID) })
}

// Jobs implements [shared.Recall].
func (h *Host) Jobs(ctx context.Context, req shared.JobsRequest) (shared.JobPage, error) {
	return call(ctx, h.gate, func(api *wire.Client) (shared.JobPage, error) { return api.Jobs(ctx, req) })
}

// CancelJob implements [shared.Recall].
func (h *Host) CancelJob(ctx context.Context, tenant, jobID string) (shared.Job, error) {
	return call(ctx, h.gate, func(api *wire.Client) (shared.Job, error) { return api.CancelJob(ctx, tenant, jobID) })
}
