package index

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/chat-recall/recall/shared"
)

// leakyEnv is set for a test that runs in a process of its own, and leaves goroutines behind.
const leakyEnv = "RECALL_INDEX_LEAKY_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(leakyEnv) != "" {
		os.Exit(m.Run())
	}
	if path := os.Getenv(childEnv); path != "" {
		runChild(path)
		return
	}
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
	x.queue.mu.Lock()
	x.queue.patience = 0 // a test settles one step after the other, and queue_test has the waiting
	x.queue.mu.Unlock()
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
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
		Tenant: "acme", ID: id, Conversation: shared.Conversation{Type: shared.Group, ID: "g1"}, Sender: "ann",
		Type: shared.Text, SentAt: start, Attachments: attachments,
	}
}

func put(m shared.Message) Op { return Op{Put: &m} }

func recall(id string, m shared.Message, steps ...string) Op {
	if steps == nil {
		steps = shared.StandardSteps()
	}
	return Op{Recall: &Recall{Steps: steps, Event: shared.Event{
		Tenant: m.Tenant, RecallID: id, Actor: shared.Actor{ID: m.Sender, Role: shared.Member}, Ext: "ext",
		Reason: "typo", RecalledAt: start.Add(time.Minute), Message: m, Rule: shared.Rule{Name: "r", File: "f.hcl", Line: 3},
		PolicyDigest: "abc", Silent: true, Tombstone: map[string]string{"en": "gone", "zh": "没了"},
		Disposition: shared.DispositionArchive, Retention: 36 * time.Hour,
	}}}
}

func settle(sequence uint64, step string, o shared.Outcome) Op {
	return Op{Settle: &Settle{Sequence: sequence, Step: step, Outcome: o, At: start.Add(2 * time.Minute)}}
}

func lanes(t testing.TB, x *Index) string {
	t.Helper()
	steps, err := x.Lanes()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(steps)
}

func ledger(t testing.TB, x *Index, tenant, id string) shared.Ledger {
	t.Helper()
	l, err := x.Ledger(tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
