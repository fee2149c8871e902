package index

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

// everyOp is an operation of each kind, with everything that it can have.
func everyOp() []Op {
	m := message("m", "file", "photo")
	m.Attachments[1].Owner = "bob"
	m.Labels, m.Ref = []string{"urgent", "work"}, "db/7"
	m = normal(m)
	r := recall("r", m, shared.StepNotify, shared.StepHistory, "own")
	r.Recall.Event.Actor.Labels = []string{"staff"}
	r.Recall.After = map[string][]string{shared.StepHistory: {shared.StepNotify}}
	r.Recall.Unsupported, r.Recall.Atomic = []string{"own"}, true
	r.Recall.Spend = spend(start.Add(time.Minute), time.Hour)
	r.Recall.Spend.Waited = 3 * time.Second
	ref := ""
	failed := fail(1, shared.StepNotify, 3, "no")
	failed.Settle.Node = "n1"
	return []Op{
		put(m), put(normal(message("bare"))), r, recall("r", normal(message("bare")), shared.StepHistory),
		{Amend: &shared.Amendment{Tenant: "acme", MessageID: "m", Conversation: &m.Conversation, Labels: []string{"a"},
			Attachments: m.Attachments, Ref: &ref}},
		{Amend: &shared.Amendment{Tenant: "acme", MessageID: "m", Labels: []string{}, Attachments: []shared.Attachment{}}},
		failed, settle(2, shared.StepHistory, shared.OutcomeDone), {Ungate: &Ungate{Sequence: 5}},
		{Join: &Join{Member: memberOf(1), After: 7}}, {Leave: &Leave{Node: "n1", Epoch: 9, Forget: true}},
		{Leave: &Leave{Node: "n1", Epoch: 9, At: start}},
		{Forget: &Forget{What: shared.ForgetRequest{Tenant: "acme", Sender: "ann"}, Key: testSecret}},
		{Forget: &Forget{What: shared.ForgetRequest{Tenant: "acme", Conversation: m.Conversation}, Position: 7,
			Messages: []string{"a", "b"}, Pass: 2, Next: Place{8, 9}}},
		{Forget: &Forget{What: shared.ForgetRequest{Tenant: "acme", Sender: "ann"}, Replace: []string{"a"}, Pass: 2,
			Next: beyondGroups, After: "b", EndPass: true}},
		{Forget: &Forget{What: shared.ForgetRequest{Tenant: "acme", Before: start}, Expire: true}},
	}
}

// relatedOps are operations that only the newest format has, with everything that they can have.
func relatedOps() []Op {
	quote := normal(related("q", shared.Relation{Kind: shared.RelationQuote, MessageID: "m"},
		shared.Relation{Kind: shared.RelationEdit, MessageID: "old"}))
	r := recall("r", normal(message("m")), shared.StepHistory)
	r.Recall.Known, r.Recall.Cascade = true, KindsOf(shared.RelationQuote, shared.RelationThread)
	r.Recall.With = []With{
		{Kind: shared.RelationQuote, To: "m", Message: quote, Originals: math.MaxUint64},
		{Kind: shared.RelationEdit, To: "q", Message: quote, Stays: true},
	}
	edited := recall("r", quote, shared.StepHistory)
	edited.Recall.Originals = 1 << 40
	bare := recall("r", normal(message("m")), shared.StepHistory)
	bare.Recall.Cascade = KindsOf(shared.RelationForward)
	return []Op{
		put(quote), r, bare, recall("r", quote, shared.StepHistory), edited,
		waiting("m", "r"),
		{EndWait: &EndWait{Tenant: "acme", MessageID: "m", RecallID: "r"}},
		{
			Put: &quote,
			Judged: &Judged{Waited: []Waited{
				{RecallID: "r", RequestedAt: 5, Recall: recall("r", quote, shared.StepHistory).Recall},
				{RecallID: "r2", End: &EndWait{Tenant: "acme", MessageID: "q", RecallID: "r2", State: shared.WaitRefused,
					Code: "late", At: 7, Rule: shared.Rule{Name: "n", File: "f", Line: 3}}},
			}},
		},
		{Put: &quote, Judged: &Judged{Late: &Late{UpTo: 300}}},
		{Put: &quote, Judged: &Judged{Late: &Late{UpTo: 300, Stays: []uint64{7}, Originals: 1 << 40}}},
		{Cascade: &Cascade{Tenant: "acme", Sequence: 7, After: "\x02q\x00", With: r.Recall.With}},
	}
}

func TestAppendOp_RelationsNeedNewNodes(t *testing.T) {
	for i, op := range relatedOps() {
		if err := CheckOps([]Op{op}); err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
		_, err := AppendOp(nil, &op, OpFormat-1)
		if bare := op.Recall != nil && len(op.Recall.With)+len(op.Recall.Event.Message.Relations) == 0; bare && err != nil ||
			!bare && !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("operation %d in an older format: %v", i, err)
		}
	}
}

// everyJobOp is an operation on a job of each kind, which older formats do not have.
func everyJobOp() []Op {
	full := startOf("j")
	full.Job.Start.Request = shared.JobRequest{
		Tenant: "acme", JobID: "j", Actor: shared.Actor{ID: "mod", Labels: []string{"staff"}}, Role: shared.RoleAdmin,
		ConversationLabels: []string{"public"}, Reason: "spam", Ext: "{}", Until: start.Add(time.Hour),
		Filter: shared.JobFilter{
			Sender: "ann", Conversation: &shared.Conversation{Type: shared.ConversationGroup, ID: "g"},
			Types: []shared.MessageType{shared.TypeImage, shared.TypeText}, Labels: []string{"a", "b"},
			From: start, Before: start.Add(time.Minute),
		},
	}
	counts := shared.JobCounts{Recalled: 1, AlreadyRecalled: 2, Denied: map[shared.Code]int{"late": 3, "x": 4}}
	slice := sliceOf("j", JobSlice{
		From: Place{1, 2}, To: Place{3, 4}, Examined: 5, Counts: counts, RecallNumber: 6, Seal: true, Done: true,
	}, normal(message("m")))
	return append(slice, startOf("j"), full, cancelOf("j"), sliceOf("j", JobSlice{})[0])
}

func encodeOps(t testing.TB, ops ...Op) (b []byte) {
	t.Helper()
	for i := range ops {
		var err error
		if b, err = AppendOp(b, &ops[i], OpFormat); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// readOp is ReadOp of the newest format.
func readOp(data []byte) (op Op, rest []byte, err error) { return readOpOf(data, OpFormat) }

// readOpOf is ReadOp, without how the operation was encoded.
func readOpOf(data []byte, format int) (op Op, rest []byte, err error) {
	op, after, err := ReadOp(string(data), format)
	op.record = ""
	return op, []byte(after), err
}

func TestOpCodec(t *testing.T) {
	ops := slices.Concat(everyOp(), relatedOps(), everyJobOp())
	if err := CheckOps(ops[2:3]); err != nil {
		t.Fatal(err)
	}
	rest := encodeOps(t, ops...)
	for i, want := range ops {
		var got Op
		var err error
		if got, rest, err = readOp(rest); err != nil {
			t.Fatalf("operation %d: %v", i, err)
		}
		if want.Recall != nil {
			want.Recall.Event.Message = normal(want.Recall.Event.Message)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("operation %d\n%+v\nwant\n%+v", i, got, want)
		}
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
}

// A version that knows an older format only reads what is written for it.
func TestOpCodec_OldestFormat(t *testing.T) {
	for _, op := range everyOp() {
		data, err := AppendOp(nil, &op, OldestOpFormat)
		if op.Forget != nil {
			if !errors.Is(err, shared.ErrUnavailable) {
				t.Errorf("%+v is written: %v", op.Forget, err)
			}
			if _, _, err := readOpOf(encodeOps(t, op), 2); !errors.Is(err, ErrNewer) {
				t.Errorf("%+v is read: %v", op.Forget, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := readOpOf(data, OldestOpFormat)
		if newest := encodeOps(t, op); !bytes.Equal(newest, data) {
			if _, _, err := readOpOf(newest, OldestOpFormat); !errors.Is(err, ErrNewer) {
				t.Errorf("%+v has what this format has not: %v", op, err)
			}
		}
		switch {
		case op.Recall != nil:
			op.Recall.Spend = nil
			op.Recall.Event.Message = normal(op.Recall.Event.Message)
		case op.Leave != nil:
			op.Leave.At = time.Time{}
		}
		if err != nil || !reflect.DeepEqual(got, op) {
			t.Errorf("%+v\nwant\n%+v, %v", got, op, err)
		}
	}
}

// What older formats do not have and must not be left out is written in none of them.
func TestAppendOp_JobInAnOlderFormat(t *testing.T) {
	for _, op := range everyJobOp() {
		for format := OldestOpFormat; format < OpFormat; format++ {
			if _, err := AppendOp(nil, &op, format); !errors.Is(err, shared.ErrUnavailable) {
				t.Errorf("%+v in format %d: %v", op, format, err)
			}
			if _, _, err := readOpOf(encodeOps(t, op), format); !errors.Is(err, ErrNewer) {
				t.Errorf("%+v read as format %d: %v", op, format, err)
			}
		}
	}
}

func TestReadOp_CutShort(t *testing.T) {
	for i, op := range slices.Concat(everyOp(), relatedOps(), everyJobOp()) {
		whole := encodeOps(t, op)
		for n := range len(whole) {
			if _, _, err := readOp(whole[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("operation %d, %d of %d bytes: %v", i, n, len(whole), err)
			}
		}
	}
}

// What is read takes memory in proportion to its size, also where it says that it has a message in each byte.
func TestReadOp_TooManyRelated(t *testing.T) {
	w := opWriter{format: OpFormat}
	w.code(codeCascade)
	w.text("acme")
	w.number(1)
	w.text("")
	const size = 1 << 20
	w.number(size)
	text := string(append(w.b, make([]byte, size)...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := readOp([]byte(text))
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrNewer) || took > 8*size {
		t.Errorf("%d bytes for an operation of %d bytes, %v", took, size, err)
	}
}

// unknownField is a field that no version has.
func unknownField() []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
}

// newFlag is a recall with a flag that no version has.
func newFlag() []byte {
	w := opWriter{}
	w.code(codeRecall)
	w.text("acme", "m", "r")
	w.flags(false, false, false, false, true)
	return w.b
}

func TestReadOp_Newer(t *testing.T) {
	record := func(pb *indexpb.Record) []byte {
		b, err := encode(pb)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	withRecord := func(data []byte) []byte {
		w := opWriter{}
		w.code(codePut)
		w.text("acme", "m")
		w.bytes(data, nil)
		return w.b
	}
	withEntry := func(change func(*indexpb.Entry)) []byte {
		w := opWriter{}
		w.code(codeRecall)
		w.text("acme", "m", "r")
		w.flags(false)
		m := normal(message("m"))
		w.record(&m)
		e := &indexpb.Entry{ActorId: "ann", Steps: []*indexpb.Step{{Name: shared.StepNotify}}}
		change(e)
		w.message(e)
		return w.b
	}
	m := normal(message("m"))
	good := encodeRecord(&Record{Message: m})
	leave := encodeOps(t, Op{Leave: &Leave{Node: "n1", Epoch: 9}})
	for name, data := range map[string][]byte{
		"a kind":              {99},
		"a field":             withRecord(append(record(good), unknownField()...)),
		"a conversation type": withRecord(record(&indexpb.Record{ConversationType: 99, ConversationId: "g", Type: 1})),
		"a message type":      withRecord(record(&indexpb.Record{ConversationType: 1, ConversationId: "g", Type: 99})),
		"a tombstone":         withRecord(record(encodeRecord(&Record{Message: m, Tombstone: &Tombstone{}}))),
		"a role":              withEntry(func(e *indexpb.Entry) { e.Role = 99 }),
		"a field of an entry": withEntry(func(e *indexpb.Entry) { e.ProtoReflect().SetUnknown(unknownField()) }),
		"a field of a step":   withEntry(func(e *indexpb.Entry) { e.Steps[0].ProtoReflect().SetUnknown(unknownField()) }),
		"an outcome":          withEntry(func(e *indexpb.Entry) { e.Steps[0].Outcome = indexpb.Outcome_OUTCOME_DONE }),
		"a flag":              append(bytes.Clone(leave[:len(leave)-1]), 4),
		"a flag of a recall":  newFlag(),
	} {
		if _, _, err := readOp(data); !errors.Is(err, ErrNewer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpCodec_Random(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		op := randomOp(r, 50)
		if CheckOps([]Op{op}) != nil {
			continue
		}
		once := encodeOps(t, op)
		got, _, err := readOp(once)
		if err != nil {
			t.Fatalf("%+v: %v", op, err)
		}
		if twice := encodeOps(t, got); !bytes.Equal(once, twice) {
			t.Fatalf("%+v\n%x\n%x", op, once, twice)
		}
	}
}

func FuzzReadOp(f *testing.F) {
	for _, op := range slices.Concat(everyOp(), relatedOps(), everyJobOp()) {
		f.Add(encodeOps(f, op))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		op, _, err := readOp(data)
		if err != nil {
			if !errors.Is(err, ErrNewer) && !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v", err)
			}
			return
		}
		if CheckOps([]Op{op}) != nil {
			return
		}
		first, err := AppendOp(nil, &op, OpFormat)
		if err != nil {
			return // a text that is not UTF-8
		}
		again, rest, err := readOp(first)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%+v: %v, %d bytes are left", op, err, len(rest))
		}
		if second, err := AppendOp(nil, &again, OpFormat); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%v\n%x\n%x", err, first, second)
		}
	})
}
