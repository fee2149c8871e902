package index

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// bytes is an upper bound of what the operation writes.
func (op *JobOp) bytes() int {
	n := 32 << 10 // counts by code, and what has no length of its own
	if op.Start != nil {
		r := &op.Start.Request
		n += len(r.Ext) + len(r.Reason) + len(r.Actor.ID) + len(r.Filter.Sender)
		for _, list := range [][]string{r.Actor.Labels, r.ConversationLabels, r.Filter.Labels} {
			for _, text := range list {
				n += len(text) + 2
			}
		}
	} else {
		n += shared.MaxExtBytes + shared.MaxReasonBytes + 3*shared.MaxLabels*shared.MaxLabelBytes // which are written again
	}
	return n
}

func (op *JobOp) check() error {
	if err := checkTexts("job", "tenant", op.Tenant, "id", op.ID); err != nil {
		return err
	}
	switch {
	case op.Start != nil && op.Slice == nil && op.Cancel == nil:
		return op.checkStart()
	case op.Slice != nil && op.Start == nil && op.Cancel == nil:
		return op.Slice.check()
	case op.Cancel != nil && op.Start == nil && op.Slice == nil:
		return nil
	}
	return shared.Invalidf("job", "exactly one of start, slice and cancel must be set")
}

func (op *JobOp) checkStart() error {
	r := &op.Start.Request
	if r.Tenant != op.Tenant || r.JobID != op.ID {
		return shared.Invalidf("job.request", "is of job %q of tenant %q in an operation of job %q of tenant %q", r.JobID,
			r.Tenant, op.ID, op.Tenant)
	}
	if err := checkTexts("job.request", "actor.id", r.Actor.ID); err != nil {
		return err
	}
	if _, ok := roles.number[r.Role]; !ok {
		return shared.Invalidf("job.request.role", "unknown role %q", r.Role)
	}
	if c := r.Filter.Conversation; c != nil {
		if err := checkTexts("job.request", "filter.conversation.id", c.ID); err != nil {
			return err
		}
		if _, ok := conversationTypes.number[c.Type]; !ok {
			return shared.Invalidf("job.request.filter.conversation.type", "unknown conversation type %q", c.Type)
		}
	}
	for i, t := range r.Filter.Types {
		if _, ok := messageTypes.number[t]; !ok {
			return shared.Invalidf(fmt.Sprintf("job.request.filter.types[%d]", i), "unknown message type %q", t)
		}
	}
	return nil
}

func (s *JobSlice) check() error {
	if s.To.Compare(s.From) < 0 || s.From.Offset < 0 || s.To.Offset < 0 {
		return shared.Invalidf("job.slice.to", "is %v, before %v", s.To, s.From)
	}
	for code, n := range s.Counts.Denied {
		if n < 0 {
			return shared.Invalidf("job.slice.counts.denied", "has %d of %q", n, code)
		}
	}
	if s.Examined < 0 || s.Counts.Recalled < 0 || s.Counts.AlreadyRecalled < 0 || s.RecallNumber < 0 {
		return shared.Invalidf("job.slice", "has counts below 0: %+v, examined %d", s.Counts, s.Examined)
	}
	return nil
}

// checkSlice refuses a call with an operation on a job that has something else in it: a slice has its recalls, and the
// others are alone.
func checkSlice(ops []Op) error {
	if !isSlice(ops) {
		if len(ops) > 1 {
			return shared.Invalidf("operation", "a job is not started or canceled alone in its call")
		}
		return nil
	}
	job := ops[0].Job
	for i := range ops[1:] {
		r := ops[i+1].Recall
		if r == nil || r.Atomic || r.Event.JobID != job.ID || r.Event.Tenant != job.Tenant {
			return fmt.Errorf("operation %d: %w", i+1, shared.Invalidf("operation",
				"is no recall of the job %q, in a slice of it", job.ID))
		}
	}
	return checkTogether(ops[1:])
}

// checkNoSlice refuses a recall of a job that is not in a slice of it.
func checkNoSlice(ops []Op) error {
	for i := range ops {
		if r := ops[i].Recall; r != nil && r.Event.JobID != "" {
			return fmt.Errorf("operation %d: %w", i, shared.Invalidf("recall.event.job_id",
				"is %q, and the call is no slice of that job", r.Event.JobID))
		}
	}
	return nil
}

// The kinds of operations on a job in a log.
const (
	jobStart = iota + 1
	jobSlice
	jobCancel
)

func (w *opWriter) job(op *JobOp) {
	w.since(3)
	w.code(codeJob)
	w.text(op.Tenant, op.ID)
	switch {
	case op.Start != nil:
		req := normalRequest(op.Start.Request)
		w.number(jobStart)
		w.message(encodeJobRequest(&req))
		w.number(uint64(encodeTime(op.Start.At)))
	case op.Cancel != nil:
		w.number(jobCancel, uint64(encodeTime(op.Cancel.At)))
	default:
		s := op.Slice
		w.number(jobSlice, s.From.Position, uint64(s.From.Offset), s.To.Position, uint64(s.To.Offset), uint64(s.Examined),
			uint64(s.Counts.Recalled), uint64(s.Counts.AlreadyRecalled), uint64(s.RecallNumber), uint64(encodeTime(s.At)),
			uint64(len(s.Counts.Denied)))
		for _, code := range slices.Sorted(maps.Keys(s.Counts.Denied)) {
			w.text(string(code))
			w.number(uint64(s.Counts.Denied[code]))
		}
		w.flags(s.Seal, s.Done)
	}
}

func (r *opReader) job() *JobOp {
	r.since(3)
	op := &JobOp{Tenant: r.text(), ID: r.text()}
	switch r.number() {
	case jobStart:
		var pb indexpb.JobRequest
		r.message(&pb)
		op.Start = &JobStart{Request: decodeJobRequest(op.Tenant, op.ID, &pb), At: decodeTime(int64(r.number()))}
	case jobCancel:
		op.Cancel = &JobCancel{At: decodeTime(int64(r.number()))}
	case jobSlice:
		s := &JobSlice{From: r.place(), To: r.place(), Examined: r.count64()}
		s.Counts.Recalled, s.Counts.AlreadyRecalled, s.RecallNumber = r.count64(), r.count64(), r.count64()
		s.At = decodeTime(int64(r.number()))
		for range r.count() {
			code := shared.Code(r.text())
			s.Counts.Deny(code, r.count64())
		}
		flags := r.flags(0, 0, 2)
		s.Seal, s.Done = flags&1 != 0, flags&2 != 0
		op.Slice = s
	default:
		r.fail(ErrNewer)
	}
	return op
}

func (r *opReader) place() Place { return Place{Position: r.number(), Offset: r.count64()} }

// count64 reads a number that an int holds.
func (r *opReader) count64() int { return int(r.limited(math.MaxInt64)) }
