package index

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// The formats of operations in a log that this package reads and writes. Anything added to an operation is a new
// format, because a node must not apply half of one. Format 2 added what a recall spends of a limit, and when a node
// was found to be gone. Format 1 leaves them out. Format 3 added relations, waiting recalls, jobs and Forget. An
// operation that has any cannot be written in an older format.
const (
	OldestOpFormat = 1
	OpFormat       = 3
)

// ErrOlderNodes says that an operation cannot be written in a format.
var ErrOlderNodes = fmt.Errorf("%w: nodes of the cluster have an older version, which does not know this; upgrade "+
	"their plugins", shared.ErrUnavailable)

// ErrNewer says that a log has something that this version does not know.
var ErrNewer = errors.New("written by a newer version")

// errCut says that an operation ends within a field.
var errCut = fmt.Errorf("%w: an operation of the log ends within a field", ErrCorrupt)

// The first byte of an operation in a log.
const (
	codePut byte = iota + 1
	codeAmend
	codeRecall
	codeSettle
	codeUngate
	codeJoin
	codeLeave
	codeCascade
	codeWait
	codeJob
)

// Of later kinds.
const (
	codeForget    byte = 11
	codeJudgedPut byte = iota + 11
	codeEndWait
)

// AppendOp appends an operation that passed [CheckOps] in one of the formats of a log. A Settle without an attempt has
// none there either.
func AppendOp(b []byte, op *Op, format int) ([]byte, error) {
	w := opWriter{b: b, format: format}
	switch {
	case op.Put != nil:
		m := normal(*op.Put)
		if len(op.waited()) == 0 && op.late() == nil {
			w.code(codePut)
		} else {
			w.since(3)
			w.code(codeJudgedPut)
			w.waited(op.waited())
			w.late(op.late())
		}
		w.text(m.Tenant, m.ID)
		w.record(&m)
	case op.Wait != nil:
		w.since(3)
		w.code(codeWait)
		w.text(op.Wait.Tenant, op.Wait.MessageID, op.Wait.RecallID)
		w.message(encodeWait(op.Wait))
	case op.EndWait != nil:
		w.since(3)
		w.code(codeEndWait)
		w.endWait(op.EndWait)
	case op.Amend != nil:
		w.amend(op.Amend)
	case op.Recall != nil:
		w.recall(op.Recall)
	case op.Settle != nil:
		s := op.Settle
		w.code(codeSettle)
		w.number(s.Sequence, uint64(s.Attempt), uint64(outcomes.number[s.Outcome]), uint64(encodeTime(s.At)))
		w.text(s.Step, s.Node, s.Error)
	case op.Ungate != nil:
		w.code(codeUngate)
		w.number(op.Ungate.Sequence)
	case op.Cascade != nil:
		w.since(3)
		w.code(codeCascade)
		w.text(op.Cascade.Tenant)
		w.number(op.Cascade.Sequence)
		w.bytes([]byte(op.Cascade.After), nil)
		w.with(op.Cascade.With)
	case op.Join != nil:
		w.code(codeJoin)
		m := &op.Join.Member
		w.text(m.Node)
		w.message(encodeMember(&Member{
			Instance: m.Instance, Steps: m.Steps, EachNode: m.EachNode, Format: m.Format, Version: m.Version,
		}))
		w.number(op.Join.After)
	case op.Leave != nil:
		w.code(codeLeave)
		w.text(op.Leave.Node)
		w.number(op.Leave.Epoch)
		at := op.Leave.At
		if format < 2 {
			at = time.Time{}
		}
		w.flags(op.Leave.Forget, !at.IsZero())
		if !at.IsZero() {
			w.number(uint64(encodeTime(at)))
		}
	case op.Forget != nil:
		w.since(3)
		w.code(codeForget)
		w.forget(op.Forget)
	case op.Job != nil:
		w.job(op.Job)
	}
	return w.b, w.err
}

// ReadOp reads an operation that AppendOp wrote in a format, and returns what follows it. It fails with [ErrNewer] or
// [ErrCorrupt]: what a format does not have is newer in every version, or one would apply it and another one not. The
// operation is still to be checked with [CheckOps]. The texts of a Put are parts of s.
func ReadOp(s string, format int) (op Op, rest string, err error) {
	r := opReader{s: s, format: format}
	code := r.byte()
	r.copies = code != codePut
	switch code {
	case codePut, codeJudgedPut:
		if code == codeJudgedPut {
			r.since(3)
			op.Judged = &Judged{Waited: r.waited(), Late: r.late()}
		}
		tenant, id := r.text(), r.text()
		op.record = r.bytes()
		m := r.record(op.record, tenant, id)
		op.Put = &m
	case codeAmend:
		op.Amend = r.amend()
	case codeRecall:
		op.Recall = r.recall()
	case codeSettle:
		s := &Settle{Sequence: r.number(), Attempt: int(r.limited(math.MaxInt32))}
		s.Outcome = outcomes.word[indexpb.Outcome(r.limited(math.MaxInt32))]
		if s.Outcome == "" {
			r.fail(ErrNewer)
		}
		s.At = decodeTime(int64(r.number()))
		s.Step, s.Node, s.Error = r.text(), r.text(), r.text()
		op.Settle = s
	case codeUngate:
		op.Ungate = &Ungate{Sequence: r.number()}
	case codeWait:
		r.since(3)
		tenant, messageID, recallID := r.text(), r.text(), r.text()
		var pb indexpb.Wait
		r.message(&pb)
		x := decodeWait(tenant, messageID, recallID, &pb)
		op.Wait = &x
	case codeEndWait:
		r.since(3)
		op.EndWait = r.endWait()
	case codeCascade:
		r.since(3)
		c := &Cascade{Tenant: r.text(), Sequence: r.number(), After: r.bytes()}
		c.With = r.with(c.Tenant)
		op.Cascade = c
	case codeJoin:
		node := r.text()
		var pb indexpb.Member
		r.message(&pb)
		op.Join = &Join{Member: *decodeMember(node, &pb), After: r.number()}
	case codeLeave:
		op.Leave = &Leave{Node: r.text(), Epoch: r.number()}
		flags := r.flags(1, 1)
		op.Leave.Forget = flags&1 != 0
		if flags&2 != 0 {
			op.Leave.At = decodeTime(int64(r.number()))
		}
	case codeForget:
		r.since(3)
		op.Forget = r.forget()
	case codeJob:
		op.Job = r.job()
	default:
		r.fail(ErrNewer)
	}
	return op, r.s, r.err
}
