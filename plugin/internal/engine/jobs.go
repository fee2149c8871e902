package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// What a slice of a job, or of a preview, takes at most.
const (
	sliceMessages = 16 // that match: judging and committing them takes about a millisecond
	busyMessages  = 4  // while the host calls: a call waits for their commit, which is little longer than its own
	sliceBytes    = 64 << 10
	sliceTime     = time.Millisecond // of the walk
)

const (
	// noteEvery is how often a job that finds nothing notes how far it is. A crash makes it look again at what it passed
	// since.
	noteEvery = 2 * time.Second

	// tailEvery is how often a job with an Until looks for new messages.
	tailEvery = 50 * time.Millisecond

	// limitWait is how long a job waits for a limit of the rules at most before it asks again.
	limitWait = time.Minute

	// otherNode is how often a node looks whether a job that another node runs has become its own.
	otherNode = time.Second

	// previewTime is how long one page of a preview takes at most, pauses included.
	previewTime = 250 * time.Millisecond
)

// StartJob is [shared.Recall]. JobID must be set.
func (e *Engine) StartJob(ctx context.Context, req shared.JobRequest) (shared.Job, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.Job{}, err
	}
	defer leave()
	if err := wire.ValidateJob(&req); err != nil {
		return shared.Job{}, err
	}
	known, err := a.index.Job(req.Tenant, req.JobID)
	if err != nil {
		return shared.Job{}, fmt.Errorf("find the job: %w", err)
	}
	now := e.now()
	if known == nil {
		if err := validUntil(&req, now); err != nil {
			return shared.Job{}, err
		}
	}
	return e.changeJob(ctx, a, &index.JobOp{
		Tenant: req.Tenant, ID: req.JobID, Start: &index.JobStart{Request: req, At: now},
	})
}

// validUntil checks what needs the clock.
func validUntil(req *shared.JobRequest, now time.Time) error {
	switch {
	case req.Until.IsZero():
		return nil
	case !req.Until.After(now):
		return shared.Invalidf("until", "%s is not in the future: the plugin's clock says %s",
			req.Until.UTC().Format(time.RFC3339Nano), now.Format(time.RFC3339Nano))
	case req.Until.Sub(now) > shared.MaxJobUntil:
		return shared.Invalidf("until", "%s is more than %d days after now, %s", req.Until.UTC().Format(time.RFC3339),
			shared.MaxJobUntil/(24*time.Hour), now.Format(time.RFC3339))
	}
	return nil
}

// CancelJob is [shared.Recall].
func (e *Engine) CancelJob(ctx context.Context, tenant, jobID string) (shared.Job, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.Job{}, err
	}
	defer leave()
	if err := wire.ValidateJobName(tenant, jobID); err != nil {
		return shared.Job{}, err
	}
	return e.changeJob(ctx, a, &index.JobOp{Tenant: tenant, ID: jobID, Cancel: &index.JobCancel{At: e.now()}})
}

// changeJob applies a start or a cancellation, and returns the job after it.
func (e *Engine) changeJob(ctx context.Context, a *active, op *index.JobOp) (shared.Job, error) {
	if _, err := a.log.Append(ctx, []index.Op{{Job: op}}); err != nil {
		return shared.Job{}, fmt.Errorf("write the job: %w", err)
	}
	e.runner.poke(jobName(op.Tenant, op.ID))
	return e.job(a, op.Tenant, op.ID)
}

// JobStatus is [shared.Recall].
func (e *Engine) JobStatus(ctx context.Context, tenant, jobID string) (shared.Job, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.Job{}, err
	}
	defer leave()
	if err := wire.ValidateJobName(tenant, jobID); err != nil {
		return shared.Job{}, err
	}
	job, err := e.job(a, tenant, jobID)
	if errors.Is(err, shared.ErrInvalid) && a.cluster != nil { // another node may have started it just now
		if err := a.log.Barrier(ctx); err != nil {
			return shared.Job{}, fmt.Errorf("find the job: %w", err)
		}
		job, err = e.job(a, tenant, jobID)
	}
	return job, err
}

// job is a job as the index has it, with what its runner knows.
func (e *Engine) job(a *active, tenant, jobID string) (shared.Job, error) {
	job, err := a.index.Job(tenant, jobID)
	if err != nil {
		return shared.Job{}, fmt.Errorf("find the job: %w", err)
	}
	if job == nil {
		return shared.Job{}, shared.Invalidf("job_id", "the tenant has no job %q", jobID)
	}
	e.annotate(&job.Job)
	return job.Job, nil
}

// annotate adds to a job what its runner knows.
func (e *Engine) annotate(job *shared.Job) {
	if job.State != shared.JobRunning {
		return
	}
	w, err := e.runner.at(jobName(job.Request.Tenant, job.Request.JobID))
	if err != nil {
		job.Error = err.Error()
	}
	if w, ok := w.(*jobWork); ok {
		job.WaitingUntil = w.waitingUntil()
	}
}

// Jobs is [shared.Recall].
func (e *Engine) Jobs(ctx context.Context, req shared.JobsRequest) (shared.JobPage, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.JobPage{}, err
	}
	defer leave()
	if err := wire.ValidateJobs(&req); err != nil {
		return shared.JobPage{}, err
	}
	page, err := a.index.Jobs(ctx, req)
	if err != nil {
		return shared.JobPage{}, fmt.Errorf("read the jobs: %w", err)
	}
	for i := range page.Jobs {
		e.annotate(&page.Jobs[i])
	}
	return page, nil
}

// walkOf is a walk over what may match a request.
func walkOf(req *shared.JobRequest, from index.Place, end uint64) index.WalkRequest {
	return index.WalkRequest{
		From: from, End: end, Tenant: req.Tenant, Sender: req.Filter.Sender, SentFrom: req.Filter.From,
		SentBefore: req.Filter.Before, MaxFound: sliceMessages, MaxBytes: sliceBytes, MaxTime: sliceTime,
	}
}

// matches tells whether a message that the walk found matches the rest of a filter.
func matches(f *shared.JobFilter, m *shared.Message) bool {
	return (f.Conversation == nil || m.Conversation == *f.Conversation) &&
		(len(f.Types) == 0 || slices.Contains(f.Types, m.Type)) &&
		!slices.ContainsFunc(f.Labels, func(label string) bool { return !slices.Contains(m.Labels, label) })
}

// requestOf is the request to recall messages of a job.
func requestOf(job *shared.JobRequest, recallID string, asked time.Time, now moment, ids []string,
) *shared.RecallRequest {
	req := &shared.RecallRequest{
		Tenant: job.Tenant, Actor: job.Actor, Ext: job.Ext, Reason: job.Reason, RecallID: recallID,
		Held: max(now.now.Sub(asked), 0), // a message that was sent later is judged as of that time
	}
	for _, id := range ids {
		t := shared.Target{MessageID: id, Role: job.Role, Labels: job.ConversationLabels}
		if job.Filter.Conversation != nil {
			t.Conversation = *job.Filter.Conversation
		}
		req.Targets = append(req.Targets, t)
	}
	return req
}

// count counts the answer to a message of a job.
func count(c *shared.JobCounts, r *shared.RecallResult) {
	switch r.Status {
	case shared.StatusRecalled:
		c.Recalled++
	case shared.StatusAlreadyRecalled:
		c.AlreadyRecalled++
	case shared.StatusDenied:
		c.Deny(r.Code, 1)
	}
}
