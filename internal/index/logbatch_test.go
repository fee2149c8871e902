package index

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
)

// applyAll applies entries in batches of at most size.
func applyAll(t *testing.T, x *Index, size int, entries []LogEntry) {
	t.Helper()
	for len(entries) > 0 {
		applied, err := x.ApplyLog(entries[:min(size, len(entries))])
		if err != nil || len(applied) == 0 {
			t.Fatalf("%d applied: %v", len(applied), err)
		}
		entries = entries[len(applied):]
	}
}

func TestApplyLog_SumOfEntriesThatChangeNothing(t *testing.T) {
	n := newNodes(t, 2)
	n.join(memberOf(0))
	n.join(memberOf(1))
	late := n.entry(1, []Op{{Join: &Join{Member: memberOf(1), After: 99}}}) // of a process that does not join
	late.Process, late.Number = 7, 1
	leave := n.entry(1, []Op{{Leave: &Leave{Node: "n1", Epoch: 99}}})
	leave.Process, leave.Number = 8, 1
	entries := []LogEntry{late, leave, n.entry(0, []Op{put(message("m"))})}
	for i := range entries {
		n.last++
		entries[i].Position = n.last
	}
	applyAll(t, n.indexes[0], 1, entries)
	applyAll(t, n.indexes[1], 3, entries)
	n.wantEqual()
}

// TestApplyLog_FullOfEntriesThatAreRefused checks that what an entry has besides its operations fits, too: the last
// operation leaves almost no room, and none of the entries after it has one that is applied.
func TestApplyLog_FullOfEntriesThatAreRefused(t *testing.T) {
	for left := int64(1); left < 400; left += 60 {
		n := newNodes(t, 1)
		n.join(memberOf(0))
		x := n.indexes[0]
		var entries []LogEntry
		add := func(op Op) {
			e := n.entry(0, []Op{op})
			n.last++
			e.Position = n.last
			entries = append(entries, e)
		}
		fill := func(b *batch, size int64) {
			m := message(fmt.Sprint("m", len(entries)))
			m.Ref = strings.Repeat("x", int(size))
			add(put(m))
			if _, err := x.applyEntry(b, &entries[len(entries)-1]); err != nil {
				t.Fatal(err)
			}
		}
		b := x.newBatch()
		for b.maxBytes-b.bytes > 200_000 {
			fill(b, 60_000)
		}
		fill(b, 60_000)
		before := b.bytes
		fill(b, 60_000)
		each := b.bytes - before
		fill(b, 60_000+b.maxBytes-b.bytes-each-left)
		b.discard()
		for range 200 {
			add(settle(999, shared.StepNotify, shared.OutcomeDone))
		}
		applyAll(t, x, len(entries), entries)
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// asRead is an entry as a node reads it from the log.
func asRead(t *testing.T, e LogEntry) LogEntry {
	t.Helper()
	for _, ops := range e.Calls {
		for i := range ops {
			var err error
			if ops[i], _, err = ReadOp(string(encodeOps(t, ops[i])), OpFormat); err != nil {
				t.Fatal(err)
			}
		}
	}
	return e
}

// TestApplyLog_LargeEntries checks that it makes no difference which entries are applied together: of those that are
// large some do not fit with others, and some atomic recalls do not fit at all.
func TestApplyLog_LargeEntries(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	n := newNodes(t, 3)
	for i := range n.indexes {
		n.join(memberOf(i))
	}
	randomCall := func() (ops []Op) {
		if r.IntN(10) > 0 {
			op := randomOp(r, 50)
			if op.Put != nil {
				op.Put.Ref = strings.Repeat("x", r.IntN(200_000))
			}
			return []Op{op}
		}
		id := fmt.Sprint("atomic", r.IntN(1000))
		for i := range 1 + r.IntN(25) {
			m := message(fmt.Sprint("large", r.IntN(5), "-", i))
			m.Ref = strings.Repeat("x", 150_000)
			op := recall(id, m)
			op.Recall.Atomic, op.Recall.Spend = true, spend(start.Add(time.Duration(r.IntN(1000))*time.Second), time.Minute)
			ops = append(ops, op)
		}
		return ops
	}
	var entries []LogEntry
	for len(entries) < 200 {
		ops := randomCall()
		if CheckOps(ops) != nil {
			continue
		}
		e := asRead(t, n.entry(r.IntN(3), ops))
		for range 1 + r.IntN(2) { // some come twice
			n.last++
			e.Position = n.last
			entries = append(entries, e)
		}
	}
	applyAll(t, n.indexes[0], 1, entries)
	applyAll(t, n.indexes[1], len(entries), entries)
	applyAll(t, n.indexes[2], 7, entries)
	n.wantEqual()
}
