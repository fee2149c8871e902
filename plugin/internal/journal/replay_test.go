package journal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/shared"
)

// A memoryLog keeps the entries of one node in memory, and hands them to others.
type memoryLog struct {
	mu      sync.Mutex
	entries []memoryEntry
}

type memoryEntry struct {
	position uint64
	calls    [][]index.Op
}

// record makes a log keep what a node applies.
func (m *memoryLog) record(l *Local) {
	applyNext := l.applyNext
	l.applyNext = func(calls [][]index.Op) (index.Applied, error) {
		position := l.index.Identity().Version + 1
		applied, err := applyNext(calls)
		if err == nil && l.index.Identity().Version == position { // an entry that changed nothing has no position
			m.mu.Lock()
			defer m.mu.Unlock()
			m.entries = append(m.entries, memoryEntry{position, slices.Clone(calls)})
		}
		return applied, err
	}
}

// follow applies to an index the entries from one on, each once and in order, up to another.
func (m *memoryLog) follow(t *testing.T, x *index.Index, from, to int) {
	t.Helper()
	for _, e := range m.entries[from:to] {
		if _, err := x.Apply(e.position, e.calls); err != nil {
			t.Fatalf("entry %d: %v", e.position, err)
		}
	}
}

// contents are the keys and values of a closed index, without what is of one node: its identity (i/), the padding of
// its log (g/), and where it is in the log of another node (p/).
func contents(t *testing.T, path string) (list []string) {
	t.Helper()
	db, err := badger.OpenManaged(badger.DefaultOptions(path).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	txn := db.NewTransactionAt(db.MaxVersion(), false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		value, err := it.Item().ValueCopy(nil)
		if err != nil {
			t.Fatal(err)
		}
		if key := it.Item().Key(); !slices.Contains([]byte("igp"), key[0]) {
			list = append(list, fmt.Sprintf("%q = %x", key, value))
		}
	}
	return list
}

// randomCall is a call of a kind that the engine makes, also one that is refused or changes nothing.
func randomCall(r *rand.Rand) (ops []index.Op) {
	steps := []string{shared.StepNotify, shared.StepHistory, shared.StepAttachments}
	orders := []map[string][]string{
		nil, {shared.StepHistory: {shared.StepAttachments}},
		{shared.StepAttachments: {shared.StepNotify, shared.StepHistory}},
	}
	nth := func(n int) shared.Message {
		m := message(fmt.Sprint("m", n), fmt.Sprint("file", n/3))
		m.Tenant = []string{"acme", "other"}[n%2]
		m.Sender = fmt.Sprint("user", n%5)
		return m
	}
	aMessage := func() shared.Message { return nth(r.IntN(2000)) }
	aRecall := func(id string, m shared.Message) index.Op {
		op := recall(id, m, steps...)
		op.Recall.After = orders[r.IntN(len(orders))]
		return op
	}
	switch r.IntN(7) {
	case 0:
		for range 1 + r.IntN(100) {
			ops = append(ops, put(aMessage()))
		}
	case 1:
		for range 1 + r.IntN(3) {
			m := aMessage()
			m.Sender = fmt.Sprint("user", r.IntN(5)) // sometimes not what is indexed
			ops = append(ops, aRecall(fmt.Sprint("r", r.IntN(50)), m))
		}
	case 2:
		op := settle(1+r.Uint64N(200), steps[r.IntN(3)], shared.OutcomeDone)
		if r.IntN(2) == 0 {
			op.Settle.Outcome, op.Settle.Error, op.Settle.Attempt = shared.OutcomeFailed, "no", 1+r.IntN(4)
		}
		ops = append(ops, op)
	case 3:
		for range r.IntN(5) {
			ops = append(ops, index.Op{Ungate: &index.Ungate{Sequence: 1 + r.Uint64N(200)}})
		}
	case 4:
		m := aMessage()
		ops = append(ops, put(m), aRecall(fmt.Sprint("own", m.ID), m))
	case 5:
		m := aMessage()
		ops = append(ops, index.Op{Amend: &shared.Amendment{
			Tenant: m.Tenant, MessageID: m.ID, Attachments: attached(fmt.Sprint("file", r.IntN(700))),
		}})
	case 6:
		id, actor, first := fmt.Sprint("all", r.IntN(100)), fmt.Sprint("moderator", r.IntN(2)), r.IntN(2000)
		for i := range 1 + r.IntN(3) {
			op := aRecall(id, nth((first+2*i)%2000)) // of one tenant
			op.Recall.Atomic, op.Recall.Event.Actor.ID = true, actor
			ops = append(ops, op)
		}
	}
	return ops
}

// TestReplay_SameLogSameIndex applies the log of one node, which many callers wrote at once, to a second index.
func TestReplay_SameLogSameIndex(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	l := openAt(t, first)
	var log memoryLog
	log.record(l)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	refused := 0
	var mu sync.Mutex
	var callers sync.WaitGroup
	for c := range uint64(8) {
		callers.Go(func() {
			r := rand.New(rand.NewPCG(seed, c))
			for range 200 {
				if _, err := l.Append(t.Context(), randomCall(r)); err != nil {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			}
		})
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	callers.Wait()
	if err := l.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if version := l.index.Identity().Version; version < uint64(len(log.entries))+10 {
		t.Errorf("version %d after %d entries: no padding was committed", version, len(log.entries))
	}
	var large []index.Op
	for i := range 6000 {
		large = append(large, put(message(fmt.Sprintf("large-%0200d", i))))
	}
	entries := len(log.entries)
	apply(t, l, large...)
	if refused == 0 || len(log.entries) < entries+2 {
		t.Errorf("%d calls were refused, the large one took %d entries", refused, len(log.entries)-entries)
	}
	recalls := l.index.LastSequence()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	half := len(log.entries) / 2
	x, err := index.Open(t.Context(), index.Options{Path: second})
	if err != nil {
		t.Fatal(err)
	}
	log.follow(t, x, 0, half)
	if err := x.Flush(t.Context(), &sync.Mutex{}); err != nil { // whose padding takes no position
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if x, err = index.Open(t.Context(), index.Options{Path: second}); err != nil {
		t.Fatal(err)
	}
	if got, want := x.Position(), log.entries[half-1].position; got != want {
		t.Errorf("position %d after a restart, want %d", got, want)
	}
	log.follow(t, x, 0, len(log.entries)) // entries that were applied before come again
	if x.LastSequence() != recalls || recalls == 0 {
		t.Errorf("%d recalls, want %d", x.LastSequence(), recalls)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	got, want := contents(t, second), contents(t, first)
	if len(want) == 0 || len(got) != len(want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("key %d of %d:\n%s\nwant\n%s", i, len(want), got[i], want[i])
		}
	}
}
