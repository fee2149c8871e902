package wire

import (
	"cmp"
	"context"
	"fmt"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// ValidateJob checks the request of StartJob by itself. The plugin checks what needs its clock.
func ValidateJob(r *shared.JobRequest) error {
	if err := ValidateJobName(r.Tenant, r.JobID); err != nil {
		return err
	}
	return validJobRequest(r)
}

// ValidatePreview checks the request of PreviewJob. Its job needs no id.
func ValidatePreview(r *shared.JobPreviewRequest) error {
	err := validID("tenant", r.Job.Tenant)
	if err == nil {
		err = validText("job_id", r.Job.JobID, shared.MaxJobIDBytes)
	}
	if err == nil {
		err = validJobRequest(&r.Job)
	}
	if err != nil {
		return under("job.", err)
	}
	return validText("after", r.After, maxCursorBytes)
}

func validJobRequest(r *shared.JobRequest) error {
	f := &r.Filter
	if f.Sender == "" && f.Conversation == nil && len(f.Types) == 0 && len(f.Labels) == 0 && f.From.IsZero() &&
		f.Before.IsZero() {
		return shared.Invalidf("filter", "is empty: it would recall every message of the tenant")
	}
	if err := validText("filter.sender", f.Sender, shared.MaxIDBytes); err != nil {
		return err
	}
	if f.Conversation != nil {
		if err := validateConversation(*f.Conversation); err != nil {
			return under("filter.conversation.", err)
		}
	}
	seen := map[shared.MessageType]bool{}
	for i, t := range f.Types {
		field := fmt.Sprintf("filter.types[%d]", i)
		if _, ok := messageTypes.number[t]; !ok {
			return shared.Invalidf(field, "unknown message type %.40q; one of %s", t, messageTypes.words())
		}
		if seen[t] {
			return shared.Invalidf(field, "is %s for the second time", t)
		}
		seen[t] = true
	}
	if err := validList("filter.labels", f.Labels, shared.MaxLabels, shared.MaxLabelBytes); err != nil {
		return err
	}
	if err := validTime("filter.from", f.From); err != nil {
		return err
	}
	if err := validTime("filter.before", f.Before); err != nil {
		return err
	}
	if !f.From.IsZero() && !f.Before.IsZero() && !f.From.Before(f.Before) {
		return shared.Invalidf("filter.before", "is not after from")
	}
	if err := validID("actor.id", r.Actor.ID); err != nil {
		return err
	}
	if err := validList("actor.labels", r.Actor.Labels, shared.MaxLabels, shared.MaxLabelBytes); err != nil {
		return err
	}
	if _, ok := roles.number[r.Role]; !ok && r.Role != "" {
		return shared.Invalidf("role", "unknown role %.40q; one of %s", r.Role, roles.words())
	}
	if f.Conversation == nil && r.Role != shared.RoleSystem {
		return shared.Invalidf("filter.conversation", "is not set; only the role system may leave it out")
	}
	err := validList("conversation_labels", r.ConversationLabels, shared.MaxLabels, shared.MaxLabelBytes)
	if err != nil {
		return err
	}
	if err := validText("reason", r.Reason, shared.MaxReasonBytes); err != nil {
		return err
	}
	if err := validText("ext", r.Ext, shared.MaxExtBytes); err != nil {
		return err
	}
	return validTime("until", r.Until)
}

// ValidateJobName checks the arguments of JobStatus and CancelJob.
func ValidateJobName(tenant, jobID string) error {
	if err := validID("tenant", tenant); err != nil {
		return err
	}
	if jobID == "" {
		return shared.Invalidf("job_id", "is empty")
	}
	return validText("job_id", jobID, shared.MaxJobIDBytes)
}

// ValidateJobs checks the request of Jobs.
func ValidateJobs(r *shared.JobsRequest) error {
	if err := validID("tenant", r.Tenant); err != nil {
		return err
	}
	if _, ok := jobStates.number[r.State]; !ok && r.State != "" {
		return shared.Invalidf("state", "unknown state %.40q; one of %s", r.State, jobStates.words())
	}
	if err := validText("after", r.After, maxCursorBytes); err != nil {
		return err
	}
	if r.Limit < 0 || r.Limit > shared.MaxJobsLimit {
		return shared.Invalidf("limit", "is %d; 1 to %d, or 0 for %d", r.Limit, shared.MaxJobsLimit, shared.MaxJobsLimit)
	}
	return nil
}

func encodeJobRequest(r shared.JobRequest) *recallv1.JobRequest {
	f := &recallv1.JobFilter{
		Sender: r.Filter.Sender, Labels: r.Filter.Labels, From: encodeTime(r.Filter.From),
		Before: encodeTime(r.Filter.Before),
		Types: mapSlice(r.Filter.Types, func(t shared.MessageType) recallv1.MessageType {
			return messageTypes.number[t]
		}),
	}
	if r.Filter.Conversation != nil {
		f.Conversation = encodeConversation(*r.Filter.Conversation)
	}
	return &recallv1.JobRequest{
		Tenant: r.Tenant, JobId: r.JobID, Filter: f, Actor: encodeActor(r.Actor), Role: roles.number[r.Role],
		ConversationLabels: r.ConversationLabels, Reason: r.Reason, Ext: r.Ext, Until: encodeTime(r.Until),
	}
}

func (d *decoder) jobRequest(r *recallv1.JobRequest) shared.JobRequest {
	f := r.GetFilter()
	req := shared.JobRequest{
		Tenant: r.GetTenant(), JobID: r.GetJobId(), Actor: decodeActor(r.GetActor()),
		Role: decodeOptional(d, roles, "role", r.GetRole()), ConversationLabels: r.GetConversationLabels(),
		Reason: r.GetReason(), Ext: r.GetExt(), Until: decodeTime(r.GetUntil()),
		Filter: shared.JobFilter{
			Sender: f.GetSender(), Labels: f.GetLabels(), From: decodeTime(f.GetFrom()), Before: decodeTime(f.GetBefore()),
			Types: mapSlice(f.GetTypes(), func(t recallv1.MessageType) shared.MessageType {
				return decodeEnum(d, messageTypes, "filter.types", t)
			}),
		},
	}
	if f.GetConversation() != nil {
		c := d.conversation("filter.conversation.type", f.GetConversation())
		req.Filter.Conversation = &c
	}
	return req
}

func encodeJobCounts(c shared.JobCounts) *recallv1.JobCounts {
	w := &recallv1.JobCounts{Recalled: uint64(c.Recalled), AlreadyRecalled: uint64(c.AlreadyRecalled)}
	for code, n := range c.Denied {
		if w.Denied == nil {
			w.Denied = map[string]uint64{}
		}
		w.Denied[string(code)] = uint64(n)
	}
	return w
}

func (d *decoder) jobCounts(w *recallv1.JobCounts) shared.JobCounts {
	c := shared.JobCounts{
		Recalled: int(w.GetRecalled()), AlreadyRecalled: int(w.GetAlreadyRecalled()),
	}
	d.atMost("counts.denied", len(w.GetDenied()), shared.MaxJobCodes+1)
	for code, n := range w.GetDenied() {
		if c.Denied == nil {
			c.Denied = map[shared.Code]int{}
		}
		c.Denied[shared.Code(d.text("counts.denied", code, maxAnswerTextBytes))] = int(n)
	}
	return c
}

func encodeJob(j shared.Job) *recallv1.Job {
	return &recallv1.Job{
		Request: encodeJobRequest(j.Request), State: jobStates.number[j.State], StartedAt: encodeTime(j.StartedAt),
		EndedAt: encodeTime(j.EndedAt), Examined: uint64(j.Examined), Total: uint64(j.Total),
		Counts: encodeJobCounts(j.Counts), WaitingUntil: encodeTime(j.WaitingUntil), Error: j.Error,
	}
}

func (d *decoder) job(w *recallv1.Job) shared.Job {
	j := shared.Job{
		Request: d.jobRequest(w.GetRequest()), State: decodeEnum(d, jobStates, "state", w.GetState()),
		StartedAt: d.time("started_at", w.GetStartedAt()), EndedAt: d.time("ended_at", w.GetEndedAt()),
		Examined: int(w.GetExamined()), Total: int(w.GetTotal()), Counts: d.jobCounts(w.GetCounts()),
		WaitingUntil: d.time("waiting_until", w.GetWaitingUntil()), Error: clipText(w.GetError(), maxAnswerTextBytes),
	}
	if err := ValidateJob(&j.Request); err != nil {
		d.fail(under("request.", err))
	}
	return j
}

// jobNamed reads the answer of a call about one job.
func jobNamed(tenant, jobID string, w *recallv1.Job, err error) (shared.Job, error) {
	if err != nil {
		return shared.Job{}, err
	}
	d := decoder{}
	j := d.job(w)
	if j.Request.Tenant != tenant || j.Request.JobID != jobID {
		d.fail(shared.Invalidf("request", "is of job %.80q of tenant %.80q, want %.80q of %.80q", j.Request.JobID,
			j.Request.Tenant, jobID, tenant))
	}
	if d.err != nil {
		return shared.Job{}, badAnswer(d.err)
	}
	return j, nil
}

// StartJob is [shared.Recall].
func (c *Client) StartJob(ctx context.Context, req shared.JobRequest) (shared.Job, error) {
	if err := ValidateJob(&req); err != nil {
		return shared.Job{}, err
	}
	resp, err := call(ctx, c.recall.StartJob, encodeJobRequest(req))
	return jobNamed(req.Tenant, req.JobID, resp, err)
}

// JobStatus is [shared.Recall].
func (c *Client) JobStatus(ctx context.Context, tenant, jobID string) (shared.Job, error) {
	if err := ValidateJobName(tenant, jobID); err != nil {
		return shared.Job{}, err
	}
	resp, err := call(ctx, c.recall.JobStatus, &recallv1.JobName{Tenant: tenant, JobId: jobID})
	return jobNamed(tenant, jobID, resp, err)
}

// CancelJob is [shared.Recall].
func (c *Client) CancelJob(ctx context.Context, tenant, jobID string) (shared.Job, error) {
	if err := ValidateJobName(tenant, jobID); err != nil {
		return shared.Job{}, err
	}
	resp, err := call(ctx, c.recall.CancelJob, &recallv1.JobName{Tenant: tenant, JobId: jobID})
	return jobNamed(tenant, jobID, resp, err)
}

// Jobs is [shared.Recall].
func (c *Client) Jobs(ctx context.Context, req shared.JobsRequest) (shared.JobPage, error) {
	if err := ValidateJobs(&req); err != nil {
		return shared.JobPage{}, err
	}
	resp, err := call(ctx, c.recall.Jobs, &recallv1.JobsRequest{
		Tenant: req.Tenant, State: jobStates.number[req.State], After: req.After, Limit: int32(req.Limit),
	})
	if err != nil {
		return shared.JobPage{}, err
	}
	d := decoder{}
	d.atMost("jobs", len(resp.GetJobs()), cmp.Or(req.Limit, shared.MaxJobsLimit))
	if d.err != nil {
		return shared.JobPage{}, badAnswer(d.err)
	}
	page := shared.JobPage{
		Jobs: mapSlice(resp.GetJobs(), d.job), Next: d.text("next", resp.GetNext(), maxCursorBytes), More: resp.GetMore(),
		Reset: resp.GetReset_(),
	}
	for i := range page.Jobs {
		if tenant := page.Jobs[i].Request.Tenant; tenant != req.Tenant {
			d.fail(shared.Invalidf(fmt.Sprintf("jobs[%d].request.tenant", i), "is %q; want %q", tenant, req.Tenant))
		}
	}
	d.checkPage(req.After, page.Next, page.More, page.Reset)
	if d.err != nil {
		return shared.JobPage{}, badAnswer(d.err)
	}
	return page, nil
}

// PreviewJob is [shared.Recall].
func (c *Client) PreviewJob(ctx context.Context, req shared.JobPreviewRequest) (shared.JobPreview, error) {
	if err := ValidatePreview(&req); err != nil {
		return shared.JobPreview{}, err
	}
	resp, err := call(ctx, c.recall.PreviewJob, &recallv1.JobPreviewRequest{
		Job: encodeJobRequest(req.Job), After: req.After,
	})
	if err != nil {
		return shared.JobPreview{}, err
	}
	d := decoder{}
	page := shared.JobPreview{
		Counts: d.jobCounts(resp.GetCounts()), Examined: int(resp.GetExamined()), Total: int(resp.GetTotal()),
		Next: d.text("next", resp.GetNext(), maxCursorBytes), More: resp.GetMore(), Reset: resp.GetReset_(),
	}
	d.checkPage(req.After, page.Next, page.More, page.Reset)
	if d.err != nil {
		return shared.JobPreview{}, badAnswer(d.err)
	}
	return page, nil
}

func jobResponse(j shared.Job, err error) (*recallv1.Job, error) {
	if err != nil {
		return nil, toStatus(err)
	}
	return encodeJob(j), nil
}

func (s *recallServer) StartJob(ctx context.Context, w *recallv1.JobRequest) (*recallv1.Job, error) {
	d := decoder{}
	req := d.jobRequest(w)
	if d.err != nil {
		return nil, toStatus(d.err)
	}
	return jobResponse(s.impl.StartJob(ctx, req))
}

func (s *recallServer) JobStatus(ctx context.Context, w *recallv1.JobName) (*recallv1.Job, error) {
	return jobResponse(s.impl.JobStatus(ctx, w.GetTenant(), w.GetJobId()))
}

func (s *recallServer) CancelJob(ctx context.Context, w *recallv1.JobName) (*recallv1.Job, error) {
	return jobResponse(s.impl.CancelJob(ctx, w.GetTenant(), w.GetJobId()))
}

func (s *recallServer) Jobs(ctx context.Context, w *recallv1.JobsRequest) (*recallv1.JobPage, error) {
	d := decoder{}
	req := shared.JobsRequest{
		Tenant: w.GetTenant(), State: decodeOptional(&d, jobStates, "state", w.GetState()), After: w.GetAfter(),
		Limit: int(w.GetLimit()),
	}
	if d.err != nil {
		return nil, toStatus(d.err)
	}
	page, err := s.impl.Jobs(ctx, req)
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.JobPage{
		Jobs: mapSlice(page.Jobs, encodeJob), Next: page.Next, More: page.More, Reset_: page.Reset,
	}, nil
}

func (s *recallServer) PreviewJob(ctx context.Context, w *recallv1.JobPreviewRequest) (*recallv1.JobPreview, error) {
	d := decoder{}
	req := shared.JobPreviewRequest{Job: d.jobRequest(w.GetJob()), After: w.GetAfter()}
	if d.err != nil {
		return nil, toStatus(under("job.", d.err))
	}
	page, err := s.impl.PreviewJob(ctx, req)
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.JobPreview{
		Counts: encodeJobCounts(page.Counts), Examined: uint64(page.Examined), Total: uint64(page.Total), Next: page.Next,
		More: page.More, Reset_: page.Reset,
	}, nil
}
