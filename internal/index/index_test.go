package index

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/chat-recall/recall/shared"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Badger leaves these two behind where it fails to open damaged files. An index left open leaves many more.
		goleak.IgnoreAnyFunction("github.com/dgraph-io/ristretto/v2/z.(*AllocatorPool).freeupAllocators"),
		goleak.IgnoreAnyFunction("github.com/dgraph-io/badger/v4.(*DB).monitorCache"))
}

var start = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

func openAt(t testing.TB, path string) *Index {
	t.Helper()
	x, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// turns is held by whoever applies an entry in a test.
var turns sync.Mutex

// Append applies one call as the next entry of the log, or as several if it is too large for one. Packages that use the
// index have journal.Log for it, which this package cannot import.
func (x *Index) Append(_ context.Context, ops []Op) ([]Result, error) {
	if err := CheckOps(ops); err != nil {
		return nil, err
	}
	turns.Lock()
	defer turns.Unlock()
	return x.applyAll(ops)
}

func (x *Index) applyAll(ops []Op) ([]Result, error) {
	applied, err := x.applyNext(ops)
	if errors.Is(err, ErrTooLarge) && len(ops) > 1 {
		first, err := x.applyAll(ops[:len(ops)/2])
		if err != nil {
			return nil, err
		}
		rest, err := x.applyAll(ops[len(ops)/2:])
		return append(first, rest...), err
	}
	if err != nil {
		return nil, err
	}
	return applied.Answers[0].Results, applied.Answers[0].Refused
}

// applyNext applies an entry of one call, also to an index that follows a log in which no other process writes.
func (x *Index) applyNext(ops []Op) (Applied, error) {
	if x.logID == "" {
		return x.Apply([][]Op{ops})
	}
	for i := range ops {
		if settle := ops[i].Settle; settle != nil {
			settle.Node = x.node
		}
	}
	next := x.log.Position + 1
	applied, err := x.ApplyLog([]LogEntry{{Position: next, Node: x.node, Process: 1, Number: next, Calls: [][]Op{ops}}})
	if err != nil {
		return Applied{}, err
	}
	return applied[0], nil
}

func openNew(t testing.TB) *Index { return openAt(t, t.TempDir()) }

func apply(t testing.TB, x *Index, ops ...Op) []Result {
	t.Helper()
	results, err := x.Append(context.Background(), ops)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func message(id string, attachments ...string) shared.Message {
	return shared.Message{
		Tenant: "acme", ID: id, Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: "g1"}, Sender: "ann",
		Type: shared.TypeText, SentAt: start, Attachments: attached(attachments...),
	}
}

// attached are attachments of the sender.
func attached(keys ...string) (list []shared.Attachment) {
	for _, key := range keys {
		list = append(list, shared.Attachment{Key: key})
	}
	return list
}

func put(m shared.Message) Op { return Op{Put: &m} }

func recall(id string, m shared.Message, steps ...string) Op {
	if steps == nil {
		steps = shared.StandardSteps()
	}
	return Op{Recall: &Recall{Steps: steps, Event: shared.Event{
		Tenant: m.Tenant, RecallID: id, Actor: shared.Actor{ID: m.Sender}, Role: shared.RoleMember, Ext: "ext",
		Reason: "typo", RecalledAt: start.Add(time.Minute), Message: m, Rule: shared.Rule{Name: "r", File: "f.hcl", Line: 3},
		PolicyDigest: "abc", Silent: true, Placeholder: map[string]string{"en": "gone", "zh": "没了"},
		Disposition: shared.DispositionArchive, Retention: 36 * time.Hour,
	}}}
}

func settle(sequence uint64, step string, o shared.Outcome) Op {
	return Op{Settle: &Settle{Sequence: sequence, Step: step, Outcome: o, At: start.Add(2 * time.Minute)}}
}

// fail is the failure of one attempt of a step.
func fail(sequence uint64, step string, attempt int, cause string) Op {
	op := settle(sequence, step, shared.OutcomeFailed)
	op.Settle.Attempt, op.Settle.Error = attempt, cause
	return op
}

// queued lists the events in which a step may be delivered: those that never failed, then those that back off.
func queued(t testing.TB, x *Index, step string) (sequences []uint64) {
	t.Helper()
	sequences, err := x.OpenSteps(t.Context(), step, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for level := range BackoffLevels {
		failures, err := x.BackingOff(t.Context(), step, level+1, 0, math.MaxUint64, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range failures {
			sequences = append(sequences, f.Sequence)
		}
	}
	return sequences
}

// queues lists the steps that may be delivered in any event.
func queues(t testing.TB, x *Index) string {
	t.Helper()
	var steps []string
	for _, step := range slices.Sorted(slices.Values(append(shared.StandardSteps(), "own"))) {
		if len(queued(t, x, step)) > 0 {
			steps = append(steps, step)
		}
	}
	return fmt.Sprint(steps)
}

// ledger reads a ledger in pages of 7.
func ledger(t testing.TB, x *Index, tenant, id string) shared.LedgerPage {
	t.Helper()
	var l shared.LedgerPage
	req := shared.LedgerRequest{Tenant: tenant, RecallID: id, Limit: 7}
	for more := true; more; {
		page, err := x.LedgerPage(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Entries) > req.Limit || page.More && len(page.Entries) == 0 {
			t.Fatalf("a page of %d entries, more %v", len(page.Entries), page.More)
		}
		l.Entries = append(l.Entries, page.Entries...)
		req.After, more = page.Next, page.More
	}
	return l
}
