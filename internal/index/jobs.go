package index

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// A job goes through the messages of a tenant in slices. What a slice recalls, what it counted and where it ends are in
// one call, which applies if the job is where the slice begins. So a slice counts once, however often it is decided and
// by whom.

// Job is a job as the index has it.
type Job struct {
	shared.Job
	Number  uint64 // among all jobs, in the order of their starts
	Started uint64 // position of the entry with which it started
	End     uint64 // position of the last group that it examines; 0: it goes on with what is indexed
	Place   Place  // where it goes on

	RecallNumber   int // of its last recall id, from 1; 0: none yet
	RecallMessages int // that it recalled under that id
}

// JobOp starts, advances or cancels a job. Exactly one of its pointers is set.
type JobOp struct {
	Tenant, ID string

	Start  *JobStart
	Slice  *JobSlice
	Cancel *JobCancel
}

// JobStart starts a job, unless one has the id.
type JobStart struct {
	Request shared.JobRequest // of the tenant and id of the operation
	At      time.Time
}

// JobSlice advances a job that is at From. The other operations of the call are the recalls of the slice. If the facts
// of one of those messages have changed since it was judged, nothing of the call is applied.
type JobSlice struct {
	From, To Place
	Examined int              // messages of the tenant
	Counts   shared.JobCounts // of messages that match, but for those that the recalls of the call are about

	RecallNumber int  // of the recall id of the recalls
	Seal         bool // what is indexed from here on is no matter for the job
	Done         bool // the job is at its end
	At           time.Time
}

// JobCancel cancels a job that is running.
type JobCancel struct{ At time.Time }

// jobStates are the states of a job on disk.
var jobStates = newEnum(map[shared.JobState]indexpb.JobState{
	shared.JobRunning:  indexpb.JobState_JOB_STATE_RUNNING,
	shared.JobDone:     indexpb.JobState_JOB_STATE_DONE,
	shared.JobCanceled: indexpb.JobState_JOB_STATE_CANCELED,
})

func hasJob(ops []Op) bool {
	return slices.ContainsFunc(ops, func(op Op) bool { return op.Job != nil })
}

// isSlice reports whether a call is a slice of a job.
func isSlice(ops []Op) bool { return len(ops) > 0 && ops[0].Job != nil && ops[0].Job.Slice != nil }

// normalRequest is a request as the index keeps and compares it.
func normalRequest(r shared.JobRequest) shared.JobRequest {
	r.Filter.Types, r.Filter.Labels = sortedCopy(r.Filter.Types), sortedSet(r.Filter.Labels)
	for _, t := range []*time.Time{&r.Filter.From, &r.Filter.Before, &r.Until} {
		*t = decodeTime(encodeTime(*t))
	}
	return r
}

func sortedCopy[T cmp.Ordered](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

func encodeJobRequest(r *shared.JobRequest) *indexpb.JobRequest {
	pb := &indexpb.JobRequest{
		ActorId: r.Actor.ID, ActorLabels: r.Actor.Labels, Role: roles.number[r.Role],
		ConversationLabels: r.ConversationLabels, Reason: r.Reason, Ext: r.Ext, Until: encodeTime(r.Until),
		Sender: r.Filter.Sender, Labels: r.Filter.Labels, From: encodeTime(r.Filter.From),
		Before: encodeTime(r.Filter.Before),
	}
	if c := r.Filter.Conversation; c != nil {
		pb.ConversationType, pb.ConversationId = conversationTypes.number[c.Type], c.ID
	}
	for _, t := range r.Filter.Types {
		pb.Types = append(pb.Types, messageTypes.number[t])
	}
	return pb
}

func decodeJobRequest(tenant, id string, pb *indexpb.JobRequest) shared.JobRequest {
	r := shared.JobRequest{
		Tenant: tenant, JobID: id, Actor: shared.Actor{ID: pb.GetActorId(), Labels: pb.GetActorLabels()},
		Role: roles.word[pb.GetRole()], ConversationLabels: pb.GetConversationLabels(), Reason: pb.GetReason(),
		Ext: pb.GetExt(), Until: decodeTime(pb.GetUntil()),
		Filter: shared.JobFilter{
			Sender: pb.GetSender(), Labels: pb.GetLabels(), From: decodeTime(pb.GetFrom()), Before: decodeTime(pb.GetBefore()),
		},
	}
	if pb.GetConversationType() != 0 {
		r.Filter.Conversation = &shared.Conversation{
			Type: conversationTypes.word[pb.GetConversationType()], ID: pb.GetConversationId(),
		}
	}
	for _, t := range pb.GetTypes() {
		r.Filter.Types = append(r.Filter.Types, messageTypes.word[t])
	}
	return r
}

func encodeJob(j *Job) *indexpb.Job {
	pb := &indexpb.Job{
		Request: encodeJobRequest(&j.Request), State: jobStates.number[j.State], StartedAt: encodeTime(j.StartedAt),
		EndedAt: encodeTime(j.EndedAt), Number: j.Number, Started: j.Started, End: j.End, Position: j.Place.Position,
		Offset: uint64(j.Place.Offset), Examined: uint64(j.Examined), Recalled: uint64(j.Counts.Recalled),
		AlreadyRecalled: uint64(j.Counts.AlreadyRecalled), RecallNumber: uint64(j.RecallNumber),
		RecallMessages: uint64(j.RecallMessages),
	}
	for code, n := range j.Counts.Denied {
		if pb.Denied == nil {
			pb.Denied = map[string]uint64{}
		}
		pb.Denied[string(code)] = uint64(n)
	}
	return pb
}

func decodeJob(tenant, id string, pb *indexpb.Job) *Job {
	j := &Job{
		Job: shared.Job{
			Request: decodeJobRequest(tenant, id, pb.Request), State: jobStates.word[pb.State],
			StartedAt: decodeTime(pb.StartedAt), EndedAt: decodeTime(pb.EndedAt), Examined: int(pb.Examined),
			Counts: shared.JobCounts{Recalled: int(pb.Recalled), AlreadyRecalled: int(pb.AlreadyRecalled)},
		},
		Number: pb.Number, Started: pb.Started, End: pb.End,
		Place:        Place{Position: pb.Position, Offset: int(pb.Offset)},
		RecallNumber: int(pb.RecallNumber), RecallMessages: int(pb.RecallMessages),
	}
	for code, n := range pb.Denied {
		if j.Counts.Denied == nil {
			j.Counts.Denied = map[shared.Code]int{}
		}
		j.Counts.Denied[shared.Code(code)] = int(n)
	}
	return j
}

// readJob returns nil for a job that the tenant does not have.
func readJob(txn *badger.Txn, tenant, id string) (*Job, error) {
	var pb indexpb.Job
	if found, err := get(txn, jobKey(tenant, id), &pb); err != nil || !found {
		return nil, err
	}
	return decodeJob(tenant, id, &pb), nil
}

// eachJob visits the jobs of a tenant, in the order of their ids.
func eachJob(ctx context.Context, txn *badger.Txn, tenant string, visit func(*Job) error) error {
	prefix := jobPrefix(tenant)
	return each(ctx, txn, prefix, nil, func(item *badger.Item) (bool, error) {
		var pb indexpb.Job
		if err := decode(item, &pb); err != nil {
			return false, err
		}
		return true, visit(decodeJob(tenant, textAt(item.Key(), len(prefix)), &pb))
	})
}

// setJob writes a job, and whether it is among those that run.
func (w *writes) setJob(j *Job) error {
	tenant, id := j.Request.Tenant, j.Request.JobID
	if err := w.set(jobKey(tenant, id), encodeJob(j)); err != nil {
		return err
	}
	if j.State != shared.JobRunning {
		w.delete(runningJobKey(j.Number))
	}
	return nil
}

// planJob plans what is not a slice.
func (b *batch) planJob(op *JobOp, w *writes) (Result, error) {
	job, err := readJob(b.txn, op.Tenant, op.ID)
	switch {
	case err != nil:
		return Result{}, err
	case op.Start != nil && job == nil:
		return b.planJobStart(op, w)
	case op.Cancel != nil && job.State == shared.JobRunning:
		job.State, job.EndedAt = shared.JobCanceled, decodeTime(encodeTime(op.Cancel.At))
		return Result{Job: job, New: true}, w.setJob(job)
	}
	return Result{Job: job}, nil
}

// planJobStart makes a job, and forgets the oldest of those that have ended if they are too many.
func (b *batch) planJobStart(op *JobOp, w *writes) (Result, error) {
	job := &Job{
		Job: shared.Job{
			Request: normalRequest(op.Start.Request), State: shared.JobRunning,
			StartedAt: decodeTime(encodeTime(op.Start.At)),
		},
		Number: b.jobs + 1, Started: b.position(),
	}
	if job.Request.Until.IsZero() {
		job.End = job.Started
	}
	var ended []*Job
	err := eachJob(context.Background(), b.txn, op.Tenant, func(j *Job) error {
		if j.State != shared.JobRunning {
			ended = append(ended, j)
		}
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	if more := len(ended) - shared.MaxEndedJobs; more > 0 {
		slices.SortFunc(ended, func(a, b *Job) int { return cmp.Compare(a.Number, b.Number) })
		for _, j := range ended[:more] {
			w.delete(jobKey(op.Tenant, j.Request.JobID))
		}
	}
	w.job = true
	if err := w.set(runningJobKey(job.Number), &indexpb.RunningJob{Tenant: op.Tenant, JobId: op.ID}); err != nil {
		return Result{}, err
	}
	return Result{Job: job, New: true}, w.setJob(job)
}

// jobRefused refuses to start a job under the id of another one or while too many are running, and to go on with or
// cancel one that the tenant does not have.
func (b *batch) jobRefused(op *JobOp) error {
	job, err := readJob(b.txn, op.Tenant, op.ID)
	switch {
	case err != nil:
		return err
	case op.Start == nil && job == nil:
		return noJob(op.ID)
	case op.Start == nil:
		return nil
	case job != nil:
		req := normalRequest(op.Start.Request)
		if !proto.Equal(encodeJobRequest(&req), encodeJobRequest(&job.Request)) {
			return shared.Invalidf("job_id", "%q is a job with another request, started at %s", op.ID,
				job.StartedAt.Format(time.RFC3339))
		}
		return nil
	}
	running := 0
	err = eachJob(context.Background(), b.txn, op.Tenant, func(j *Job) error {
		if j.State == shared.JobRunning {
			running++
		}
		return nil
	})
	if err == nil && running >= shared.MaxRunningJobs {
		err = shared.Invalidf("tenant", "%q has %d running jobs; at most %d run at once: cancel one, or wait", op.Tenant,
			running, shared.MaxRunningJobs)
	}
	return err
}

func noJob(id string) error { return shared.Invalidf("job_id", "the tenant has no job %.80q", id) }

// applySlice applies a slice of a job: its recalls, what it counted, and where it ends.
func (x *Index) applySlice(b *batch, ops []Op, w *writes) (Answer, error) {
	op, recalls, results := ops[0].Job, ops[1:], make([]Result, len(ops))
	var job *Job
	err := x.dir.Guard(func() (err error) {
		job, err = readJob(b.txn, op.Tenant, op.ID)
		return err
	})
	if err != nil {
		return Answer{}, err
	}
	results[0].Job = job
	if job.State != shared.JobRunning || job.Place != op.Slice.From {
		return Answer{Results: results}, nil
	}
	planned, err := x.planAll(b, recalls, w)
	if err != nil {
		return Answer{}, err
	}
	if abort(planned) {
		return Answer{Results: append(results[:1], planned...)}, nil
	}
	applied, err := x.applyOps(b, recalls, w)
	if err != nil {
		return Answer{}, err
	}
	job.advance(op.Slice, recalls, applied, b.position())
	err = x.applyPlan(b, w, func() error { return w.setJob(job) })
	if err != nil {
		return Answer{}, err
	}
	b.ops++
	results[0].New = true
	return Answer{Results: append(results[:1], applied...)}, nil
}

// advance makes a slice that was applied part of the job.
func (j *Job) advance(s *JobSlice, recalls []Op, results []Result, position uint64) {
	j.Place = s.To
	j.Examined += s.Examined
	j.Counts.Add(s.Counts)
	if len(recalls) > 0 && j.RecallNumber != s.RecallNumber {
		j.RecallNumber, j.RecallMessages = s.RecallNumber, 0
	}
	for i, r := range results {
		event := &recalls[i].Recall.Event
		switch {
		case r.New:
			j.Counts.Recalled++
			j.RecallMessages++
		case r.Tombstone.RecallID == event.RecallID && r.Tombstone.RecalledBy == event.Actor.ID:
			j.Counts.Recalled++ // with another message of the slice
		default: // another recall came between the judgement and the commit
			j.Counts.AlreadyRecalled++
		}
	}
	if s.Seal && j.End == 0 {
		j.End = position
	}
	if s.Done {
		j.State, j.EndedAt = shared.JobDone, decodeTime(encodeTime(s.At))
	}
}

// LastJob is the number of the last job that was started; 0: there never was one.
func (x *Index) LastJob() uint64 { return x.lastJob.Load() }

// Job returns a job, or nil if the tenant has none with the id.
func (x *Index) Job(tenant, id string) (job *Job, err error) {
	if err := checkTexts("job", "tenant", tenant, "id", id); err != nil {
		return nil, err
	}
	err = x.dir.View(func(txn *badger.Txn) error {
		if job, err = readJob(txn, tenant, id); err == nil && job != nil {
			job.estimate(lastGroup(txn))
		}
		return err
	})
	return job, err
}

// RunningJobs returns the jobs of all tenants that are running, in the order of their starts.
func (x *Index) RunningJobs(ctx context.Context) (running []*Job, err error) {
	err = x.dir.Read(func(txn *badger.Txn) error {
		return each(ctx, txn, runningJobPrefix(), nil, func(item *badger.Item) (bool, error) {
			var at indexpb.RunningJob
			if err := decode(item, &at); err != nil {
				return false, err
			}
			j, err := readJob(txn, at.Tenant, at.JobId)
			if err == nil && j == nil {
				err = fmt.Errorf("%w: %q names the job %q of tenant %q, which is not there", ErrCorrupt, item.Key(), at.JobId,
					at.Tenant)
			}
			running = append(running, j)
			return true, err
		})
	})
	return running, err
}

// Jobs is [shared.Recall] Jobs, of a valid request.
func (x *Index) Jobs(ctx context.Context, req shared.JobsRequest) (page shared.JobPage, err error) {
	if err := checkTexts("jobs", "tenant", req.Tenant); err != nil {
		return page, err
	}
	before, void, err := x.sequenceOf(req.After, math.MaxUint64)
	if err != nil || void {
		page.Reset = void
		return page, err
	}
	limit := cmp.Or(req.Limit, shared.MaxJobsLimit)
	var found []*Job // the newest, and one more
	err = x.dir.View(func(txn *badger.Txn) error {
		last := lastGroup(txn)
		err := eachJob(ctx, txn, req.Tenant, func(j *Job) error {
			if (before > 0 && j.Number >= before) || (req.State != "" && j.State != req.State) {
				return nil
			}
			j.estimate(last)
			i, _ := slices.BinarySearchFunc(found, j, func(a, b *Job) int { return cmp.Compare(b.Number, a.Number) })
			if found = slices.Insert(found, i, j); len(found) > limit+1 {
				found = found[:limit+1]
			}
			return nil
		})
		return err
	})
	if err != nil {
		return shared.JobPage{}, err
	}
	page.Next = req.After
	for i, j := range found {
		if i == limit {
			page.More = true
			break
		}
		page.Jobs, page.Next = append(page.Jobs, j.Job), x.cursorOf(j.Number)
	}
	return page, nil
}

// estimate estimates how many messages the job has to examine, by how far it is. last is the position of the last group
// that there is.
func (j *Job) estimate(last uint64) {
	j.Total = j.Examined
	if j.State == shared.JobRunning {
		j.Total = EstimateTotal(j.Examined, j.Place, cmp.Or(j.End, last))
	}
}

// EstimateTotal estimates how many messages a walk passes up to a position, if it has passed so many at a place. 0: it
// has passed none.
func EstimateTotal(passed int, at Place, end uint64) int {
	if at.Position == 0 || at.Position > end {
		return passed
	}
	return int(float64(passed) * float64(end) / float64(at.Position))
}
