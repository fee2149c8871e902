package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/rules"
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
	if err := a.readsJobs(); err != nil {
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
	if err := a.readsJobs(); err != nil {
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

// readsJobs refuses where a node of the cluster does not read operations on jobs.
func (a *active) readsJobs() error {
	if a.cluster == nil {
		return nil
	}
	members, err := a.index.Members()
	if err != nil {
		return fmt.Errorf("read the members of the cluster: %w", err)
	}
	var old []string
	for node, m := range members {
		if m.Format < index.JobFormat {
			old = append(old, node)
		}
	}
	if len(old) > 0 {
		slices.Sort(old)
		return fmt.Errorf("%w: upgrade these nodes of the cluster, which know no jobs: %s", shared.ErrUnavailable,
			strings.Join(old, ", "))
	}
	return nil
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

// PreviewJob is [shared.Recall].
func (e *Engine) PreviewJob(ctx context.Context, req shared.JobPreviewRequest) (shared.JobPreview, error) {
	a, leave, err := e.enter()
	if err != nil {
		return shared.JobPreview{}, err
	}
	defer leave()
	if err := wire.ValidatePreview(&req); err != nil {
		return shared.JobPreview{}, err
	}
	p, void, err := e.previewAt(a, req.After)
	if err != nil || void {
		return shared.JobPreview{Reset: void}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.stop, cancel)() // Quiesce does not wait for it
	var page shared.JobPreview
	var pause time.Duration
	asked := e.asked.Load()
	for began := e.clock.Elapsed(); ; {
		slice := e.clock.Elapsed()
		walked, err := a.index.Walk(ctx, walkOf(&req.Job, p.at, p.end))
		if err == nil {
			err = e.previewSlice(a, &req.Job, p.asked, walked.Found, &page.Counts)
		}
		if err != nil {
			if e.stop.Err() != nil {
				err = e.unavailable()
			}
			return shared.JobPreview{}, fmt.Errorf("preview the job: %w", err)
		}
		e.counts.examined.Add(float64(walked.Examined))
		page.Examined += walked.Examined
		p.at, p.examined, page.More = walked.Next, p.examined+walked.Examined, walked.More
		now := e.clock.Elapsed()
		if !page.More || now-began >= previewTime {
			break
		}
		pause, asked = e.pauseAfter(now-slice, asked)
		select {
		case <-ctx.Done():
			return shared.JobPreview{}, ctx.Err()
		case <-e.clock.After(pause):
		}
	}
	page.Next, page.Total = p.cursor(a), p.examined
	if page.More {
		page.Total = index.EstimateTotal(p.examined, p.at, p.end)
	}
	return page, nil
}

// preview is where a preview goes on.
type preview struct {
	at       index.Place
	end      uint64    // position of the last group that was there at its first page
	asked    time.Time // when that was
	examined int       // messages so far
}

func (e *Engine) previewAt(a *active, cursor string) (p preview, void bool, err error) {
	if cursor == "" {
		p.asked = e.now()
		if p.end, err = a.index.LastGroup(); err != nil {
			return p, false, fmt.Errorf("preview the job: %w", err)
		}
		return p, false, nil
	}
	n, void, err := a.index.ParseCursor(cursor, 5)
	if err != nil || void {
		return p, void, err
	}
	return preview{
		at: index.Place{Position: n[0], Offset: int(n[1])}, end: n[2], asked: time.UnixMicro(int64(n[3])).UTC(),
		examined: int(n[4]),
	}, false, nil
}

func (p *preview) cursor(a *active) string {
	return a.index.Cursor(p.at.Position, uint64(p.at.Offset), p.end, uint64(p.asked.UnixMicro()), uint64(p.examined))
}

// previewSlice counts what the rules answer for messages that a walk found.
func (e *Engine) previewSlice(a *active, job *shared.JobRequest, asked time.Time, found []index.Found,
	counts *shared.JobCounts) error {
	var ids []string
	for _, f := range found {
		switch {
		case !matches(&job.Filter, &f.Message):
		case f.Tombstone != nil:
			counts.AlreadyRecalled++
		default:
			ids = append(ids, f.Message.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	now := e.moment()
	withoutLimits := func(p *rules.Policy, in *rules.Input) (rules.Decision, rules.Reservation) {
		return p.Decide(in), rules.Reservation{}
	}
	v, err := a.judge(requestOf(job, "preview", asked, now, ids), now, withoutLimits, noCancel)
	if err != nil {
		return err
	}
	for i := range v.results {
		count(counts, &v.results[i])
	}
	return nil
}

// jobSource finds the jobs that run.
type jobSource struct {
	engine *Engine
	found  uint64 // number of the last job that was started when it last looked
}

// find is [source].
func (s *jobSource) find(ctx context.Context, a *active) ([]work, error) {
	last := a.index.LastJob()
	if last == s.found {
		return nil, nil
	}
	jobs, err := a.index.RunningJobs(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the jobs that run: %w", err)
	}
	s.found = last
	all := make([]work, len(jobs))
	for i, j := range jobs {
		all[i] = &jobWork{engine: s.engine, tenant: j.Request.Tenant, id: j.Request.JobID, most: sliceMessages}
	}
	return all, nil
}

func jobName(tenant, id string) string { return "job " + id + " of tenant " + tenant }

// jobWork is a job that runs.
type jobWork struct {
	engine     *Engine
	tenant, id string

	job      *index.Job     // as of the last slice that was applied; nil: it is to be read
	passed   index.JobSlice // what was examined since that slice
	noted    time.Duration  // when that slice was applied, or the job was read
	seen     uint64         // version of the index up to which a job with an Until has examined everything
	recallID int            // the least number of the next recall id
	most     int            // messages of the next slice

	stale   atomic.Bool // job is to be read again
	mu      sync.Mutex
	waiting time.Time
}

func isJob(w work) bool {
	_, is := w.(*jobWork)
	return is
}

// name is [work].
func (w *jobWork) name() string { return jobName(w.tenant, w.id) }

// changed is [work].
func (w *jobWork) changed() { w.stale.Store(true) }

// waitingUntil is when a limit permits the next recall; zero if the job waits for none.
func (w *jobWork) waitingUntil() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiting
}

func (w *jobWork) waitUntil(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = t
}

// slice is [work].
func (w *jobWork) slice(ctx context.Context, a *active) (progress, error) {
	if w.stale.Swap(false) {
		w.job = nil
	}
	if w.job == nil {
		job, err := a.index.Job(w.tenant, w.id)
		if err != nil || job == nil {
			return progress{done: err == nil}, err
		}
		w.begin(job)
	}
	if w.job.State != shared.JobRunning {
		return progress{done: true}, nil
	}
	is, err := a.runsJob(w.job)
	if err != nil || !is {
		w.job = nil
		return progress{wait: otherNode}, err
	}
	p, err := w.walk(ctx, a)
	if err != nil {
		w.job = nil // what was not applied is examined again
	}
	return p, err
}

// runsJob tells whether this node runs a job. In a cluster it is one of the nodes that are there; should two take
// themselves for it, each slice still counts once.
func (a *active) runsJob(job *index.Job) (bool, error) {
	if a.cluster == nil {
		return true, nil
	}
	members, err := a.index.Members()
	if err != nil {
		return false, fmt.Errorf("read the members of the cluster: %w", err)
	}
	var able []string
	for node, m := range members {
		if !m.Gone {
			able = append(able, node)
		}
	}
	node, _ := a.cluster.log.Node()
	return index.Rendezvous(able, job.Number) == node, nil
}

// begin goes on from a job as the index has it.
func (w *jobWork) begin(job *index.Job) {
	w.job, w.passed, w.seen = job, index.JobSlice{From: job.Place, To: job.Place}, 0
	w.noted = w.engine.clock.Elapsed()
}

// walk examines the next messages, and recalls those that match.
func (w *jobWork) walk(ctx context.Context, a *active) (progress, error) {
	e, job := w.engine, w.job
	version, isOver := a.index.Version(), !e.now().Before(job.Request.Until)
	if job.End == 0 && w.seen == version && !isOver {
		return w.tail(), nil
	}
	req := walkOf(&job.Request, w.passed.To, job.End)
	if req.MaxFound = w.most; w.engine.busy.Load() {
		req.MaxFound = min(w.most, busyMessages)
	}
	walked, err := a.index.Walk(ctx, req)
	if err != nil {
		return progress{}, err
	}
	e.counts.examined.Add(float64(walked.Examined))
	var found []*index.Found // that match
	var ids []string         // of those that are live
	for i := range walked.Found {
		f := &walked.Found[i]
		late := f.Place.Position > job.Started && !f.Message.SentAt.Before(job.Request.Until)
		if late || !matches(&job.Request.Filter, &f.Message) {
			continue
		}
		if found = append(found, f); f.Tombstone == nil {
			ids = append(ids, f.Message.ID)
		}
	}
	j := &judged{verdicts: &verdicts{}}
	if len(ids) > 0 {
		if j, err = w.judge(a, ids); err != nil {
			return progress{}, err
		}
	}
	p := progress{}
	w.passed.To = walked.Next
	passed, isEnd := walked.Examined, !walked.More
	if j.limited != "" { // it goes on before that message
		at := slices.IndexFunc(found, func(f *index.Found) bool { return f.Message.ID == j.limited })
		w.passed.To, passed, isEnd = found[at].Place, found[at].Examined, false
		found, p.wait = found[:at], min(j.delay, limitWait)
		w.waitUntil(e.now().Add(j.delay))
	} else {
		w.waitUntil(time.Time{})
	}
	w.passed.Examined += passed
	w.count(found, j)
	if isEnd && job.End == 0 {
		w.seen = version
		p.wait = tailEvery
	}
	w.passed.Done, w.passed.Seal = isEnd && job.End != 0, isEnd && job.End == 0 && isOver
	isDue := e.clock.Elapsed()-w.noted >= noteEvery || j.limited != "" && w.passed.To != job.Place
	if len(j.ops) > 0 || w.passed.Done || w.passed.Seal || isDue {
		p, err = w.commit(ctx, a, j, p)
	}
	if j.limited != "" {
		w.job = nil // another node may cancel it while it waits
	}
	return p, err
}

// tail waits for new messages.
func (w *jobWork) tail() progress {
	until := w.job.Request.Until
	if w.engine.clock.Elapsed()-w.noted >= noteEvery {
		w.job = nil // another node may have canceled it
	}
	return progress{wait: min(tailEvery, max(until.Sub(w.engine.now()), 0))}
}

// judged is what the rules answer for messages of a slice.
type judged struct {
	*verdicts
	req     *shared.RecallRequest
	limited string        // the first message for which a limit has no room yet: what follows was not judged
	delay   time.Duration // until the limit has
}

// judge judges live messages of a slice.
func (w *jobWork) judge(a *active, ids []string) (*judged, error) {
	e, job, now := w.engine, w.job, w.engine.moment()
	w.recallID = max(w.recallID, job.RecallNumber, 1)
	if w.recallID == job.RecallNumber && job.RecallMessages+len(ids) > shared.MaxRecallMessages {
		w.recallID++
	}
	j := &judged{}
	j.req = requestOf(&job.Request, w.recallPrefix()+strconv.Itoa(w.recallID), job.StartedAt, now, ids)
	decide := func(p *rules.Policy, in *rules.Input) (rules.Decision, rules.Reservation) {
		if j.limited != "" {
			return rules.Decision{}, rules.Reservation{}
		}
		in.CountedAt = steady.Add(now.elapsed) // limits count when a job recalls, and not when it started
		d, reservation := e.limiter.Reserve(p, in)
		if d.Code == rules.CodeRateLimited && !d.RetryAt.IsZero() {
			j.limited, j.delay = in.MessageID, d.RetryAt.Sub(in.RequestedAt)
		}
		return d, reservation
	}
	var err error
	if j.verdicts, err = a.judge(j.req, now, decide, e.limiter.Cancel); err != nil {
		return nil, err
	}
	if at := slices.Index(ids, j.limited); at >= 0 {
		j.results = j.results[:at]
		j.shadows = slices.DeleteFunc(j.shadows, func(s shadowed) bool { return s.at >= at })
		j.refusals = slices.DeleteFunc(j.refusals, func(r refusal) bool { return r.at >= at })
	}
	for _, op := range j.ops {
		op.Recall.Event.JobID = job.Request.JobID
	}
	return j, nil
}

// recallPrefix begins the recall ids of the job.
func (w *jobWork) recallPrefix() string { return w.id + "-" }

// isOwn reports whether the job itself has recalled a message. Another one of the actor may be named like this one and
// more.
func (w *jobWork) isOwn(t *index.Tombstone) bool {
	number, has := strings.CutPrefix(t.RecallID, w.recallPrefix())
	n, err := strconv.Atoi(number)
	return has && err == nil && n >= 1 && n <= w.job.RecallNumber && t.RecalledBy == w.job.Request.Actor.ID
}

// count counts the messages that match and are not to be recalled.
func (w *jobWork) count(found []*index.Found, j *judged) {
	for _, f := range found {
		switch {
		case f.Tombstone == nil:
		case w.isOwn(f.Tombstone):
			w.passed.Counts.Recalled++ // with another message, or before its index was salvaged
		default:
			w.passed.Counts.AlreadyRecalled++
		}
	}
	for i := range j.results {
		if !slices.Contains(j.at, i) {
			count(&w.passed.Counts, &j.results[i])
		}
	}
	if len(j.results) > 0 && len(j.ops) == 0 {
		w.engine.recalled(j.req, j.verdicts, nil)
	}
}

// commit applies the recalls of a slice and everything that was passed since the last one.
func (w *jobWork) commit(ctx context.Context, a *active, j *judged, p progress) (progress, error) {
	e, slice := w.engine, w.passed
	slice.RecallNumber, slice.At = w.recallID, e.now()
	ops := append([]index.Op{{Job: &index.JobOp{Tenant: w.tenant, ID: w.id, Slice: &slice}}}, j.ops...)
	results, err := a.log.Append(ctx, ops)
	if err == nil && results[0].New {
		if len(ops) > 1 {
			e.recalled(j.req, j.verdicts, results[1:])
		}
		w.begin(results[0].Job)
		w.most = min(2*w.most, sliceMessages)
		return p, nil
	}
	e.cancel(j.verdicts)
	if err == nil { // it was canceled, another node goes on with it, or the facts of a message have changed
		w.begin(results[0].Job)
		return progress{}, nil
	}
	if f, ok := errors.AsType[*shared.FieldError](err); ok {
		switch {
		case f.Field == "recall_id": // somebody else used it, too
			w.recallID++
			w.job, err = nil, nil
		case f.Field == "targets" && w.most > 1: // what relates to them is too large for one commit
			w.most /= 2
			w.job, err = nil, nil
		}
	}
	if err != nil {
		err = fmt.Errorf("recall messages: %w", err)
	}
	return progress{}, err
}
