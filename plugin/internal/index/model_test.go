package index

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
)

// model is what the index should be, in maps, and without any care for speed.
type model struct {
	records map[[2]string]*Record
	entries []*shared.LedgerEntry // by sequence
}

func (m *model) apply(op Op) Result {
	switch {
	case op.Put != nil:
		k := [2]string{op.Put.Tenant, op.Put.ID}
		r := m.records[k]
		switch {
		case r == nil:
			m.records[k] = &Record{Message: normal(*op.Put)}
			return Result{Put: shared.Indexed}
		case r.Tombstone != nil:
			return Result{Put: shared.IndexRecalled}
		case !reflect.DeepEqual(r.Message, normal(*op.Put)):
			return Result{Put: shared.IndexConflict}
		}
		return Result{Put: shared.IndexUnchanged}
	case op.Recall != nil:
		e := op.Recall.Event
		k := [2]string{e.Tenant, e.Message.ID}
		r := m.records[k]
		if r == nil {
			r = &Record{Message: normal(e.Message)}
			m.records[k] = r
		}
		if r.Tombstone != nil {
			return Result{Tombstone: *r.Tombstone}
		}
		e.Message, e.Sequence = r.Message, uint64(len(m.entries)+1)
		for _, a := range r.Message.Attachments {
			if !m.used(e.Tenant, a, e.Message.ID) {
				e.Attachments = append(e.Attachments, a)
			}
		}
		r.Tombstone = &Tombstone{RecallID: e.RecallID, RecalledBy: e.Actor, RecalledAt: e.RecalledAt, Sequence: e.Sequence}
		entry := &shared.LedgerEntry{Event: e, Steps: []shared.StepRecord{}}
		for _, s := range op.Recall.Steps {
			rec := shared.StepRecord{Step: s}
			if slices.Contains(op.Recall.Unsupported, s) {
				rec.Outcome, rec.ChangedAt = shared.OutcomeUnsupported, e.RecalledAt
			} else if s == shared.StepAttachments && len(e.Attachments) == 0 {
				rec.Outcome, rec.ChangedAt = shared.OutcomeNothingToDo, e.RecalledAt
			}
			entry.Steps = append(entry.Steps, rec)
		}
		m.entries = append(m.entries, entry)
		return Result{Tombstone: *r.Tombstone, New: true}
	default:
		s := op.Settle
		for _, open := range m.open(s.Step) {
			if open.Event.Sequence != s.Sequence {
				continue
			}
			rec := &open.Steps[slices.IndexFunc(open.Steps, func(r shared.StepRecord) bool { return r.Step == s.Step })]
			if s.Outcome == shared.OutcomeFailed && !s.At.After(rec.ChangedAt) {
				continue
			}
			rec.Attempts++
			rec.Outcome, rec.ChangedAt = s.Outcome, s.At
			if s.Outcome == shared.OutcomeFailed {
				rec.Error = s.Error
			}
		}
		return Result{}
	}
}

func (m *model) used(tenant, attachment, but string) bool {
	for k, r := range m.records {
		if k[0] == tenant && k[1] != but && r.Tombstone == nil && slices.Contains(r.Message.Attachments, attachment) {
			return true
		}
	}
	return false
}

// open lists the entries of which a step may be delivered.
func (m *model) open(step string) (list []*shared.LedgerEntry) {
	for _, e := range m.entries {
		waits := func(s string) bool {
			return slices.ContainsFunc(e.Steps, func(r shared.StepRecord) bool { return r.Step == s && !r.Outcome.Settles() })
		}
		if waits(step) && (step == shared.StepNotify || !waits(shared.StepNotify)) {
			list = append(list, e)
		}
	}
	return list
}

// randomOp draws from few names, so that operations meet.
func randomOp(r *rand.Rand, recalls int) Op {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	m := message(fmt.Sprint("m", r.IntN(60)))
	m.Tenant = pick("a", "a", "a/b")
	m.Conversation = shared.Conversation{Type: shared.Group, ID: pick("g", "g/1")}
	for range r.IntN(3) {
		m.Attachments = append(m.Attachments, pick("f1", "f2", "f3", "f1/x"))
	}
	steps := slices.Concat(shared.StandardSteps(), []string{"own"})
	switch n := r.IntN(10); {
	case n < 4:
		return put(m)
	case n < 6:
		op := recall(fmt.Sprint("r", r.IntN(20)), m)
		op.Recall.Steps, op.Recall.Unsupported = nil, nil
		for _, s := range steps {
			if r.IntN(3) > 0 {
				op.Recall.Steps = append(op.Recall.Steps, s)
			}
			if r.IntN(5) == 0 {
				op.Recall.Unsupported = append(op.Recall.Unsupported, s)
			}
		}
		return op
	}
	outcomes := []shared.Outcome{shared.OutcomeDone, shared.OutcomeNothingToDo, shared.OutcomeUnsupported, shared.OutcomeFailed}
	op := settle(uint64(1+r.IntN(recalls+2)), pick(append(steps, shared.StepNotify, shared.StepNotify)...), outcomes[r.IntN(4)])
	op.Settle.At = start.Add(time.Duration(r.IntN(1000)) * time.Second)
	if op.Settle.Outcome == shared.OutcomeFailed {
		op.Settle.Error = pick("disk", "net")
	}
	return op
}

func TestIndexIsTheModelAlsoWhenTheLogIsAppliedTwice(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	path := t.TempDir()
	x := openAt(t, path)
	m := &model{records: map[[2]string]*Record{}}
	for round := range 120 {
		var ops []Op
		var wants []Result
		for range 1 + r.IntN(30) {
			op := randomOp(r, len(m.entries))
			if e := op.Recall; e != nil {
				if known := m.records[[2]string{e.Event.Tenant, e.Event.Message.ID}]; known != nil {
					e.Event.Message = known.Message // a recall by other facts is refused
				}
			}
			ops, wants = append(ops, op), append(wants, m.apply(op))
		}
		var twice []Op
		for _, op := range ops {
			twice = append(twice, op, op)
		}
		results := apply(t, x, twice...)
		for i, want := range wants {
			if !reflect.DeepEqual(results[2*i], want) {
				t.Fatalf("round %d, operation %d %+v: %+v, want %+v", round, i, ops[i], results[2*i], want)
			}
		}
		if round%40 == 20 {
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			x = openAt(t, path)
		}
		if round%10 == 0 {
			m.compare(t, x)
		}
		// What of a log is applied twice changes nothing; m knows only of the first time. (These settlements are not
		// of a log, where none comes before its step is open: so each is applied again at its own place.)
		var again []Op
		for _, op := range ops {
			if op.Settle == nil {
				again = append(again, op)
			}
		}
		for i, res := range apply(t, x, again...) {
			if res.New || res.Put == shared.Indexed {
				t.Fatalf("round %d: operation %d again: %+v", round, i, res)
			}
		}
	}
	m.compare(t, x)
}

func (m *model) compare(t *testing.T, x *Index) {
	t.Helper()
	for k, want := range m.records {
		if got, err := x.Messages(k[0], []string{k[1]}); err != nil || !reflect.DeepEqual(got[0], want) {
			t.Fatalf("%v: %+v %v, want %+v", k, got, err, want)
		}
	}
	ledgers := map[[2]string]shared.Ledger{}
	for _, e := range m.entries {
		k := [2]string{e.Event.Tenant, e.Event.RecallID}
		l := ledgers[k]
		l.Tenant, l.RecallID, l.Entries = k[0], k[1], append(l.Entries, *e)
		ledgers[k] = l
	}
	for k, want := range ledgers {
		if got := ledger(t, x, k[0], k[1]); !reflect.DeepEqual(got, want) {
			t.Fatalf("ledger %v\n%+v\nwant\n%+v", k, got, want)
		}
	}
	var lanes []string
	for _, step := range append(shared.StandardSteps(), "own") {
		var want []uint64
		for _, e := range m.open(step) {
			want = append(want, e.Event.Sequence)
			if got, err := x.Entry(e.Event.Sequence, step); err != nil || !reflect.DeepEqual(got, e) {
				t.Fatalf("entry %d of %s: %+v %v", e.Event.Sequence, step, got, err)
			}
		}
		if got, err := x.OpenSteps(step, 0, 1<<20); err != nil || !slices.Equal(got, want) {
			t.Fatalf("open %s: %v %v, want %v", step, got, err, want)
		}
		if want != nil {
			lanes = append(lanes, step)
		}
	}
	slices.SortFunc(lanes, cmp.Compare[string])
	if got, err := x.Lanes(); err != nil || !slices.Equal(got, lanes) {
		t.Fatalf("lanes %v %v, want %v", got, err, lanes)
	}
	for _, tenant := range []string{"a", "a/b"} {
		for _, id := range []string{"g", "g/1"} {
			c := shared.Conversation{Type: shared.Group, ID: id}
			var want []uint64
			for _, e := range m.entries {
				if e.Event.Tenant == tenant && e.Event.Message.Conversation == c {
					want = append(want, e.Event.Sequence)
				}
			}
			page, err := x.Since(shared.SinceRequest{Tenant: tenant, Conversations: []shared.Conversation{c}})
			if err != nil || !slices.Equal(sequences(page.Events), want) || page.Next&maxSequence != uint64(len(m.entries)) {
				t.Fatalf("since of %s %s: %+v %v, want %v", tenant, id, page, err, want)
			}
		}
	}
}
