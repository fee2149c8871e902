package api

import (
	"context"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
)

func decodeJob(r *v1.JobRequest) shared.JobRequest {
	f := r.GetFilter()
	out := shared.JobRequest{
		Tenant: r.GetTenant(), JobID: r.GetJobId(), Actor: shared.Actor{ID: r.GetActor().GetId(),
			Labels: r.GetActor().GetLabels()},
		Role: shared.Role(r.GetRole()), ConversationLabels: r.GetConversationLabels(), Reason: r.GetReason(),
		Ext: r.GetExt(), Until: decodeTime(r.GetUntil()),
		Filter: shared.JobFilter{
			Sender: f.GetSender(), Labels: f.GetLabels(), From: decodeTime(f.GetFrom()), Before: decodeTime(f.GetBefore()),
		},
	}
	if f.GetConversation() != nil {
		c := decodeConversation(f.GetConversation())
		out.Filter.Conversation = &c
	}
	for _, t := range f.GetTypes() {
		out.Filter.Types = append(out.Filter.Types, shared.MessageType(t))
	}
	return out
}

func encodeJob(j shared.Job) *v1.Job {
	r, f := &j.Request, &j.Request.Filter
	out := &v1.Job{
		Request: &v1.JobRequest{
			Tenant: r.Tenant, JobId: r.JobID, Actor: &v1.Actor{Id: r.Actor.ID, Labels: r.Actor.Labels}, Role: string(r.Role),
			ConversationLabels: r.ConversationLabels, Reason: r.Reason, Ext: r.Ext, Until: encodeTime(r.Until),
			Filter: &v1.JobFilter{
				Sender: f.Sender, Labels: f.Labels, From: encodeTime(f.From), Before: encodeTime(f.Before),
				Types: each(f.Types, func(t shared.MessageType) string { return string(t) }),
			},
		},
		State: string(j.State), StartedAt: encodeTime(j.StartedAt), EndedAt: encodeTime(j.EndedAt),
		Examined: count(j.Examined), Total: count(j.Total), Counts: encodeJobCounts(j.Counts),
		WaitingUntil: encodeTime(j.WaitingUntil), Error: j.Error,
	}
	if f.Conversation != nil {
		out.Request.Filter.Conversation = encodeConversation(*f.Conversation)
	}
	return out
}

func encodeJobCounts(c shared.JobCounts) *v1.JobCounts {
	out := &v1.JobCounts{
		Recalled: count(c.Recalled), AlreadyRecalled: count(c.AlreadyRecalled), Denied: map[string]int32{},
	}
	for code, n := range c.Denied {
		out.Denied[string(code)] = count(n)
	}
	return out
}

// StartJob implements RecallService.
func (s *Service) StartJob(ctx context.Context, r *v1.JobRequest) (*v1.Job, error) {
	req := decodeJob(r)
	if req.JobID == "" {
		req.JobID = key(ctx)
	}
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.Job, error) {
		return h.StartJob(ctx, req)
	}, encodeJob)
}

// PreviewJob implements RecallService.
func (s *Service) PreviewJob(ctx context.Context, r *v1.JobPreviewRequest) (*v1.JobPreview, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.JobPreview, error) {
		return h.PreviewJob(ctx, shared.JobPreviewRequest{Job: decodeJob(r.GetJob()), After: r.GetAfter()})
	}, func(p shared.JobPreview) *v1.JobPreview {
		return &v1.JobPreview{Counts: encodeJobCounts(p.Counts), Examined: count(p.Examined), Total: count(p.Total),
			Next: p.Next, More: p.More, Reset_: p.Reset}
	})
}

// JobStatus implements RecallService.
func (s *Service) JobStatus(ctx context.Context, r *v1.JobName) (*v1.Job, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.Job, error) {
		return h.JobStatus(ctx, r.GetTenant(), r.GetJobId())
	}, encodeJob)
}

// ListJobs implements RecallService.
func (s *Service) ListJobs(ctx context.Context, r *v1.JobsRequest) (*v1.JobPage, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.JobPage, error) {
		return h.Jobs(ctx, shared.JobsRequest{Tenant: r.GetTenant(), State: shared.JobState(r.GetState()),
			After: r.GetAfter(), Limit: int(r.GetLimit())})
	}, func(p shared.JobPage) *v1.JobPage {
		return &v1.JobPage{Jobs: each(p.Jobs, encodeJob), Next: p.Next, More: p.More, Reset_: p.Reset}
	})
}

// CancelJob implements RecallService.
func (s *Service) CancelJob(ctx context.Context, r *v1.JobName) (*v1.Job, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.Job, error) {
		return h.CancelJob(ctx, r.GetTenant(), r.GetJobId())
	}, encodeJob)
}
