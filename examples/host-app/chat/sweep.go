package chat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// sweepBack is how far back a moderator removes what somebody sent.
const sweepBack = time.Hour

// sweepRoutes are for moderators, who remove everything that somebody sent to their conversation in the last hour: with
// a preview first, and as a job of the plugin. Of an older message it removes the edits of that hour, alone.
func (a *api) sweepRoutes(mux *http.ServeMux) {
	web := a.web()
	mux.Handle("POST /sweep/preview", web.Handle(a.sweepPreview))
	mux.Handle("POST /sweep/start", web.Handle(a.sweepStart))
	mux.Handle("POST /sweep/status", web.Handle(func(r *http.Request, user string) (any, error) {
		return a.sweepOf(r, user, a.server.recall.JobStatus)
	}))
	mux.Handle("POST /sweep/cancel", web.Handle(func(r *http.Request, user string) (any, error) {
		return a.sweepOf(r, user, a.server.recall.CancelJob)
	}))
}

// sweep is what a moderator asks for.
type sweep struct {
	Conversation shared.Conversation `json:"conversation"`
	Sender       string              `json:"sender"`
	Reason       string              `json:"reason"`
	From         time.Time           `json:"from"`   // start: that of the preview
	JobID        string              `json:"job_id"` // start
}

// moderates returns the role of a user who may remove what others sent.
func (a *api) moderates(user string, room shared.Conversation) (shared.Role, error) {
	member, in := a.server.store.Member(room, user)
	if !in {
		return "", adapter.ErrNotVisible
	}
	if room.Type == shared.ConversationSingle || member.Role != shared.RoleOwner && member.Role != shared.RoleAdmin {
		return "", refuse(http.StatusForbidden, "only the owner and admins of a group remove what others sent")
	}
	return member.Role, nil
}

// sweepRequest reads a request and makes that of its job.
func (a *api) sweepRequest(r *http.Request, user string) (sweep, shared.JobRequest, error) {
	var in sweep
	if err := adapter.ReadJSON(r, maxBodyBytes, &in); err != nil {
		return in, shared.JobRequest{}, err
	}
	role, err := a.moderates(user, in.Conversation)
	if err != nil {
		return in, shared.JobRequest{}, err
	}
	if in.Sender == "" {
		return in, shared.JobRequest{}, shared.Invalidf("sender", "is empty")
	}
	if in.From.IsZero() {
		in.From = time.Now().Add(-sweepBack).Truncate(time.Microsecond)
	}
	return in, shared.JobRequest{
		Tenant: Tenant, JobID: in.JobID, Actor: shared.Actor{ID: user}, Role: role, Reason: in.Reason,
		Filter: shared.JobFilter{Sender: in.Sender, Conversation: &in.Conversation, From: in.From},
	}, nil
}

// sweepPreview counts what the rules would answer.
func (a *api) sweepPreview(r *http.Request, user string) (any, error) {
	in, req, err := a.sweepRequest(r, user)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	preview, err := shared.PreviewJob(ctx, a.server.recall, req, nil)
	if err != nil {
		return nil, fmt.Errorf("count what can be removed: %w", err)
	}
	return struct {
		Counts shared.JobCounts `json:"counts"`
		From   time.Time        `json:"from"`
	}{preview.Counts, in.From}, nil
}

// sweepStart starts the job. The page has made its id, so that to start it again changes nothing.
func (a *api) sweepStart(r *http.Request, user string) (any, error) {
	_, req, err := a.sweepRequest(r, user)
	if err != nil {
		return nil, err
	}
	if req.JobID == "" {
		return nil, shared.Invalidf("job_id", "is empty")
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	job, err := a.server.recall.StartJob(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("start to remove messages: %w", err)
	}
	return progressOf(&job), nil
}

// sweepOf answers a job to a moderator of its conversation, after do.
func (a *api) sweepOf(r *http.Request, user string,
	do func(ctx context.Context, tenant, jobID string) (shared.Job, error)) (any, error) {
	var in sweep
	if err := adapter.ReadJSON(r, maxBodyBytes, &in); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	job, err := a.server.recall.JobStatus(ctx, Tenant, in.JobID)
	room := job.Request.Filter.Conversation
	switch {
	case errors.Is(err, shared.ErrInvalid):
		return nil, adapter.ErrNotVisible
	case err != nil:
		return nil, fmt.Errorf("find the job: %w", err)
	case room == nil:
		return nil, adapter.ErrNotVisible
	}
	if _, err := a.moderates(user, *room); err != nil {
		return nil, err
	}
	if job, err = do(ctx, Tenant, in.JobID); err != nil {
		return nil, fmt.Errorf("ask about the job: %w", err)
	}
	return progressOf(&job), nil
}

// sweepProgress is what the page shows of a job.
type sweepProgress struct {
	State        shared.JobState  `json:"state"`
	Examined     int              `json:"examined"`
	Total        int              `json:"total"`
	Counts       shared.JobCounts `json:"counts"`
	WaitingUntil time.Time        `json:"waiting_until,omitzero"`
	Now          time.Time        `json:"now"`
}

func progressOf(j *shared.Job) sweepProgress {
	return sweepProgress{j.State, j.Examined, j.Total, j.Counts, j.WaitingUntil, time.Now()}
}
