package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// contents are the keys and values of a closed index, without what is of one machine: its identity (i/) and the padding
// of its log (g/).
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
		if key := it.Item().Key(); !slices.Contains([]byte("ig"), key[0]) {
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

// node is one node of a cluster over a stream in memory.
type node struct {
	name, path string
	patience   time.Duration
	format     int // the newest that it reads; EntryFormat if it is 0
	log        *Replicated
}

// follow opens the index of a node and has it follow a stream.
func (n *node) follow(t *testing.T, s Stream) {
	t.Helper()
	x, err := index.Open(t.Context(), index.Options{Path: n.path})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Follow(t.Context(), "log", n.name); err != nil {
		t.Fatal(err)
	}
	if n.format == 0 {
		n.format = EntryFormat
	}
	n.log = NewReplicated(x, ReplicatedOptions{Node: n.name, Stream: s, Patience: n.patience, Format: n.format})
}

// start is follow for a node that joins.
func (n *node) start(t *testing.T, s Stream) {
	t.Helper()
	n.follow(t, s)
	join(t, n.log, index.Member{
		Instance: n.name, Format: n.format, Version: "1.0.0", EachNode: []string{shared.StepNotify},
		Steps: []string{shared.StepAttachments, shared.StepHistory},
	})
}

// join has a node join, also if that takes longer than its log waits.
func join(t *testing.T, r *Replicated, m index.Member) {
	t.Helper()
	inTheEnd(t, func() error {
		_, err := r.Join(t.Context(), m)
		return err
	})
}

// inTheEnd does something until the log answers while it is waited for.
func inTheEnd(t *testing.T, do func() error) {
	t.Helper()
	for err := do(); err != nil; err = do() {
		if !errors.Is(err, shared.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	if err := n.log.Close(); err != nil {
		t.Error(err)
	}
}

func startNodes(t *testing.T, s Stream, count int) []*node {
	t.Helper()
	var all []*node
	for i := range count {
		n := &node{name: fmt.Sprint("n", i), path: t.TempDir()}
		n.start(t, s)
		all = append(all, n)
	}
	return all
}

// wantSame checks that the closed indexes of nodes are the same.
func wantSame(t *testing.T, all []*node) {
	t.Helper()
	want := contents(t, all[0].path)
	if len(want) == 0 {
		t.Error("the index is empty")
	}
	for _, n := range all[1:] {
		got := contents(t, n.path)
		if len(got) != len(want) {
			t.Errorf("%s has %d keys, and %s %d", n.name, len(got), all[0].name, len(want))
		}
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("%s, key %d of %d:\n%s\n%s has\n%s", n.name, i, len(want), got[i], all[0].name, want[i])
			}
		}
	}
}

// TestReplicated_SameLogSameIndex has many callers write through three nodes at once, of which one is restarted and one
// is declared gone, while every entry is in the stream twice.
func TestReplicated_SameLogSameIndex(t *testing.T) {
	s := journaltest.NewStream()
	s.Copies(1)
	all := startNodes(t, s, 3)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var mu sync.Mutex // guards the nodes and what follows
	refused, winners := 0, map[string]int{}
	round := func(at uint64) {
		var callers sync.WaitGroup
		for c := range uint64(8) {
			callers.Go(func() {
				r := rand.New(rand.NewPCG(seed, at*8+c))
				for range 100 {
					ops := randomCall(r)
					results, err := all[c%3].log.Append(t.Context(), ops)
					mu.Lock()
					if err != nil {
						refused++
						if !errors.Is(err, shared.ErrInvalid) && !t.Failed() {
							t.Error(err)
						}
					}
					for i, result := range results {
						if m := ops[i].Recall; m != nil && result.New {
							winners[m.Event.Tenant+"/"+m.Event.Message.ID]++
						}
					}
					mu.Unlock()
				}
			})
		}
		if err := all[0].log.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		callers.Wait()
	}
	round(0)
	all[1].stop(t)
	all[1].start(t, s)
	members, err := all[0].log.index.Members()
	if err != nil {
		t.Fatal(err)
	}
	if err := all[0].log.Leave(t.Context(), *members["n2"], start, false); err != nil {
		t.Fatal(err)
	}
	round(1)
	if _, err := all[2].log.Join(t.Context(), *members["n2"]); err != nil {
		t.Fatal(err)
	}
	round(2)
	for _, n := range all {
		if err := n.log.Barrier(t.Context()); err != nil {
			t.Error(err)
		}
	}
	waitUntilApplied(t, s, all)
	recalls := all[0].log.index.LastSequence()
	for _, n := range all {
		n.stop(t)
	}
	if refused == 0 || len(winners) == 0 || uint64(len(winners)) != recalls {
		t.Errorf("%d calls were refused; %d messages were recalled, in %d events", refused, len(winners), recalls)
	}
	for id, n := range winners {
		if n != 1 {
			t.Errorf("%s was recalled %d times", id, n)
		}
	}
	wantSame(t, all)
}

// waitUntilApplied waits until every node has applied all of the stream.
func waitUntilApplied(t *testing.T, s *journaltest.Stream, all []*node) {
	t.Helper()
	for _, n := range all {
		for n.log.Position() < s.Len() {
			if t.Context().Err() != nil {
				t.Fatal(context.Cause(t.Context()))
			}
			s.Pause()
		}
	}
}
