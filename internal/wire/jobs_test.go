package wire

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

var (
	fullCounts = shared.JobCounts{Recalled: 4, AlreadyRecalled: 5, Denied: map[shared.Code]int{"late": 6}}
	fullJob    = shared.Job{
		Request: shared.JobRequest{
			Tenant: "acme", JobID: "j1", Actor: fullActor, Role: shared.RoleAdmin, ConversationLabels: []string{"public"},
			Reason: "spam", Ext: "{}", Until: at.Add(time.Hour),
			Filter: shared.JobFilter{
				Sender: "ann", Conversation: &fullMessage.Conversation, Types: []shared.MessageType{shared.TypeImage},
				Labels: []string{"spam"}, From: at, Before: at.Add(time.Minute),
			},
		},
		State: shared.JobCanceled, StartedAt: at, EndedAt: at, Examined: 2, Total: 3, Counts: fullCounts, WaitingUntil: at,
		Error: "disk",
	}
	fullJobs           = shared.JobsRequest{Tenant: "acme", State: shared.JobRunning, After: "cd34-3", Limit: 9}
	fullPreviewRequest = shared.JobPreviewRequest{Job: fullJob.Request, After: "cd34-3"}
	fullPreview        = shared.JobPreview{
		Counts: fullCounts, Examined: 2, Total: 3, Next: "cd34-8", More: true, Reset: true,
	}
)

func (p *echo) StartJob(_ context.Context, r shared.JobRequest) (shared.Job, error) {
	p.asked = []any{r}
	return fullJob, p.err
}
func (p *echo) PreviewJob(_ context.Context, r shared.JobPreviewRequest) (shared.JobPreview, error) {
	p.asked = []any{r}
	return fullPreview, p.err
}
func (p *echo) JobStatus(_ context.Context, tenant, id string) (shared.Job, error) {
	p.asked = []any{tenant, id}
	return fullJob, p.err
}
func (p *echo) Jobs(_ context.Context, r shared.JobsRequest) (shared.JobPage, error) {
	p.asked = []any{r}
	return shared.JobPage{Jobs: []shared.Job{fullJob}, Next: "cd34-8", More: true, Reset: true}, p.err
}
func (p *echo) CancelJob(_ context.Context, tenant, id string) (shared.Job, error) {
	p.asked = []any{tenant, id}
	return fullJob, p.err
}

func (b *broken) StartJob(context.Context, *recallv1.JobRequest) (*recallv1.Job, error) {
	return b.job, nil
}
func (b *broken) JobStatus(context.Context, *recallv1.JobName) (*recallv1.Job, error) {
	return b.job, nil
}
func (b *broken) CancelJob(context.Context, *recallv1.JobName) (*recallv1.Job, error) {
	return b.job, nil
}
func (b *broken) Jobs(context.Context, *recallv1.JobsRequest) (*recallv1.JobPage, error) {
	return b.jobs, nil
}
func (b *broken) PreviewJob(context.Context, *recallv1.JobPreviewRequest) (*recallv1.JobPreview, error) {
	return b.preview, nil
}

func TestValidateJob(t *testing.T) {
	long := strings.Repeat("x", shared.MaxIDBytes+1)
	many := make([]string, shared.MaxLabels+1)
	for i := range many {
		many[i] = "label"
	}
	for name, c := range map[string]struct {
		change func(*shared.JobRequest, *shared.JobFilter)
		field  string
	}{
		"tenant":        {func(r *shared.JobRequest, _ *shared.JobFilter) { r.Tenant = "" }, "tenant"},
		"no id":         {func(r *shared.JobRequest, _ *shared.JobFilter) { r.JobID = "" }, "job_id"},
		"id with a NUL": {func(r *shared.JobRequest, _ *shared.JobFilter) { r.JobID = "a\x00" }, "job_id"},
		"long id": {func(r *shared.JobRequest, _ *shared.JobFilter) { r.JobID = long[:shared.MaxJobIDBytes+1] },
			"job_id"},
		"empty filter": {func(r *shared.JobRequest, f *shared.JobFilter) {
			*f, r.Role = shared.JobFilter{}, shared.RoleSystem
		}, "filter"},
		"sender": {func(_ *shared.JobRequest, f *shared.JobFilter) { f.Sender = long }, "filter.sender"},
		"conversation": {func(_ *shared.JobRequest, f *shared.JobFilter) {
			f.Conversation = &shared.Conversation{Type: "crowd", ID: "g"}
		}, "filter.conversation.type"},
		"no conversation": {func(_ *shared.JobRequest, f *shared.JobFilter) { f.Conversation = nil },
			"filter.conversation"},
		"type": {func(_ *shared.JobRequest, f *shared.JobFilter) { f.Types = []shared.MessageType{"smell"} },
			"filter.types[0]"},
		"one type twice": {func(_ *shared.JobRequest, f *shared.JobFilter) {
			f.Types = []shared.MessageType{"text", "text"}
		}, "filter.types[1]"},
		"labels": {func(_ *shared.JobRequest, f *shared.JobFilter) { f.Labels = many }, "filter.labels"},
		"empty label": {func(_ *shared.JobRequest, f *shared.JobFilter) { f.Labels = []string{"a", ""} },
			"filter.labels[1]"},
		"from": {func(_ *shared.JobRequest, f *shared.JobFilter) { f.From = minTime.Add(-time.Second) },
			"filter.from"},
		"before": {func(_ *shared.JobRequest, f *shared.JobFilter) { f.Before = maxTime.Add(time.Second) },
			"filter.before"},
		"before from":     {func(_ *shared.JobRequest, f *shared.JobFilter) { f.Before = f.From }, "filter.before"},
		"actor":           {func(r *shared.JobRequest, _ *shared.JobFilter) { r.Actor.ID = "" }, "actor.id"},
		"labels of actor": {func(r *shared.JobRequest, _ *shared.JobFilter) { r.Actor.Labels = many }, "actor.labels"},
		"role":            {func(r *shared.JobRequest, _ *shared.JobFilter) { r.Role = "king" }, "role"},
		"labels of the conversation": {func(r *shared.JobRequest, _ *shared.JobFilter) { r.ConversationLabels = many },
			"conversation_labels"},
		"reason": {func(r *shared.JobRequest, _ *shared.JobFilter) {
			r.Reason = strings.Repeat("x", shared.MaxReasonBytes+1)
		}, "reason"},
		"ext": {func(r *shared.JobRequest, _ *shared.JobFilter) {
			r.Ext = strings.Repeat("x", shared.MaxExtBytes+1)
		}, "ext"},
		"until": {func(r *shared.JobRequest, _ *shared.JobFilter) { r.Until = maxTime.Add(time.Second) }, "until"},
	} {
		t.Run(name, func(t *testing.T) {
			req := fullJob.Request
			c.change(&req, &req.Filter)
			wantField(t, ValidateJob(&req), c.field)
			if c.field != "job_id" || req.JobID != "" { // a preview needs none
				wantField(t, ValidatePreview(&shared.JobPreviewRequest{Job: req}), "job."+c.field)
			}
		})
	}
	only := func(f shared.JobFilter) *shared.JobRequest {
		return &shared.JobRequest{
			Tenant: "t", JobID: long[:shared.MaxJobIDBytes], Filter: f, Actor: shared.Actor{ID: "a"}, Role: shared.RoleSystem,
		}
	}
	for name, f := range map[string]shared.JobFilter{
		"sender": {Sender: "ann"}, "conversation": {Conversation: &fullMessage.Conversation},
		"types": {Types: []shared.MessageType{"text"}}, "labels": {Labels: []string{"a"}}, "from": {From: at},
		"before": {Before: at},
	} {
		if err := ValidateJob(only(f)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantField(t, ValidatePreview(&shared.JobPreviewRequest{Job: fullJob.Request, After: long}), "after")
}

func TestValidateJobs(t *testing.T) {
	long := strings.Repeat("x", maxCursorBytes+1)
	for field, req := range map[string]shared.JobsRequest{
		"tenant": {}, "state": {Tenant: "t", State: "lost"}, "after": {Tenant: "t", After: long},
		"limit": {Tenant: "t", Limit: shared.MaxJobsLimit + 1},
	} {
		wantField(t, ValidateJobs(&req), field)
	}
	wantField(t, ValidateJobs(&shared.JobsRequest{Tenant: "t", Limit: -1}), "limit")
	wantField(t, ValidateJobName("", "j"), "tenant")
	wantField(t, ValidateJobName("t", ""), "job_id")
	for _, req := range []shared.JobsRequest{
		{Tenant: "t"}, {Tenant: "t", State: shared.JobDone, Limit: shared.MaxJobsLimit},
	} {
		if err := ValidateJobs(&req); err != nil {
			t.Error(err)
		}
	}
}

func TestClient_JobsThatWereNotAskedFor(t *testing.T) {
	impl := &broken{}
	c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) }))
	job := func(change func(*recallv1.Job)) *recallv1.Job {
		w := encodeJob(fullJob)
		change(w)
		return w
	}
	start := func() error { _, err := c.StartJob(t.Context(), fullJob.Request); return err }
	status := func() error { _, err := c.JobStatus(t.Context(), "acme", "j1"); return err }
	cancel := func() error { _, err := c.CancelJob(t.Context(), "acme", "j1"); return err }
	jobs := func() error { _, err := c.Jobs(t.Context(), fullJobs); return err }
	preview := func() error { _, err := c.PreviewJob(t.Context(), fullPreviewRequest); return err }
	codes := map[string]uint64{}
	for i := range shared.MaxJobCodes + 2 {
		codes[strings.Repeat("c", i+1)] = 1
	}
	for name, c := range map[string]struct {
		answer func()
		call   func() error
		want   string
	}{
		"start: another job": {func() { impl.job = job(func(w *recallv1.Job) { w.Request.JobId = "j2" }) }, start, `"j2"`},
		"status: another tenant": {func() { impl.job = job(func(w *recallv1.Job) { w.Request.Tenant = "x" }) }, status,
			`of tenant "x"`},
		"cancel: no state": {func() { impl.job = job(func(w *recallv1.Job) { w.State = 0 }) }, cancel, "state: is not set"},
		"status: no filter": {func() {
			impl.job = job(func(w *recallv1.Job) { w.Request.Filter, w.Request.Role = nil, recallv1.Role_ROLE_SYSTEM })
		}, status, "request.filter: is empty"},
		"status: codes": {func() { impl.job = job(func(w *recallv1.Job) { w.Counts.Denied = codes }) }, status,
			"counts.denied: 66 entries"},
		"jobs: too many": {func() {
			impl.jobs = &recallv1.JobPage{Jobs: make([]*recallv1.Job, fullJobs.Limit+1)}
		}, jobs, "jobs: 10 entries; at most 9"},
		"jobs: another tenant": {func() {
			impl.jobs = &recallv1.JobPage{Jobs: []*recallv1.Job{job(func(w *recallv1.Job) { w.Request.Tenant = "x" })}}
		}, jobs, `jobs[0].request.tenant: is "x"`},
		"jobs: the same page again": {func() { impl.jobs = &recallv1.JobPage{Next: fullJobs.After, More: true} }, jobs,
			"next: is the cursor of the page itself"},
		"preview: the same page again": {func() {
			impl.preview = &recallv1.JobPreview{Next: fullPreviewRequest.After, More: true}
		}, preview, "next: is the cursor of the page itself"},
	} {
		t.Run(name, func(t *testing.T) {
			c.answer()
			if err := c.call(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func wantField(t *testing.T, err error, field string) {
	t.Helper()
	f, ok := err.(*shared.FieldError)
	if !ok || f.Field != field {
		t.Errorf("got %v, want an error about %s", err, field)
	}
}
