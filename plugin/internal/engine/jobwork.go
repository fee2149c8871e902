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
	"github.com/chat-recall/recall/rules"
	"github.com/chat-recall/recall/shared"
)

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

func jobName(tenant, id string) string { return fmt.Sprintf("job %q of tenant %q", id, tenant) }

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
	now := w.engine.clock.Elapsed()
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
		return progress{due: now + otherNode}, err
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
	now, version := e.moment(), a.index.Version()
	untilOver := job.Request.Until.Sub(now.now)
	isOver := untilOver <= 0
	if job.End == 0 && w.seen == version && !isOver {
		if now.elapsed-w.noted >= noteEvery {
			w.job = nil // another node may have canceled it
		}
		return progress{due: now.elapsed + min(tailEvery, untilOver)}, nil
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
		found, p.due = found[:at], j.now.elapsed+min(j.delay, limitWait)
		w.waitUntil(j.now.now.Add(j.delay))
	} else {
		w.waitUntil(time.Time{})
	}
	w.passed.Examined += passed
	w.count(found, j)
	if isEnd && job.End == 0 {
		w.seen = version
		p.due = now.elapsed + tailEvery
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

// judged is what the rules answer for messages of a slice.
type judged struct {
	*verdicts
	req     *shared.RecallRequest
	now     moment        // when they were judged
	limited string        // the first message for which a limit has no room yet: what follows was not judged
	delay   time.Duration // until the limit has
}

// judge judges live messages of a slice.
func (w *jobWork) judge(a *active, ids []string) (*judged, error) {
	e, job := w.engine, w.job
	w.recallID = max(w.recallID, job.RecallNumber, 1)
	if w.recallID == job.RecallNumber && job.RecallMessages+len(ids) > shared.MaxRecallMessages {
		w.recallID++
	}
	now := e.moment()
	j := &judged{now: now}
	j.req = requestOf(&job.Request, w.recallPrefix()+strconv.Itoa(w.recallID), job.StartedAt, now, ids)
	decide := func(p *rules.Policy, in *rules.Input) (rules.Decision, rules.Reservation) {
		if j.limited != "" {
			return rules.Decision{}, rules.Reservation{}
		}
		in.CountedAt = steady.Add(now.elapsed) // limits count when a job recalls, and not when it started
		d, reservation := e.limiter.Reserve(p, in)
		if d.Code == rules.CodeRateLimited && !d.FreeAt.IsZero() { // else it is the code of a forbid
			j.limited, j.delay = in.MessageID, d.FreeAt.Sub(in.RequestedAt)
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
	j.recalledWith()
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
		if slices.ContainsFunc(results, func(r index.Result) bool { return r.OtherActor }) {
			w.recallID++
		}
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
