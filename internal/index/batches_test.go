package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/shared"
)

// said is what applying an entry did, on any node.
func said(a Applied) string {
	text := fmt.Sprintf("dropped %t, sum %x", a.Dropped, a.Sum)
	for _, answer := range a.Answers {
		text += fmt.Sprintf("\n%v", answer.Refused)
		for _, r := range answer.Results {
			member, tombstone := r.Member, r.Tombstone
			r.Member, r.Tombstone = nil, nil
			text += fmt.Sprintf("\n%+v %+v %+v", r, member, tombstone)
		}
	}
	return text
}

// TestApplyLog_AnyBatches checks that keys, sums and answers do not depend on how entries are batched, on restarts, or
// on what is cached. One index applies the entries one by one, the others apply random batches.
func TestApplyLog_AnyBatches(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	n := newNodes(t, 1)
	var entries []LogEntry
	var answers []string
	n.process["n1"], n.process["n2"] = 1, 1
	steps := append(shared.StandardSteps(), "own")
	write := func(e LogEntry) {
		a := n.write(e)
		e.Position = n.last
		entries, answers = append(entries, e), append(answers, said(a))
	}
	random := func(i int) Member {
		m := memberOf(i)
		m.Steps, m.EachNode = nil, nil
		for _, step := range steps {
			switch r.IntN(3) {
			case 0:
				m.EachNode = append(m.EachNode, step)
			case 1:
				m.Steps = append(m.Steps, step)
			}
		}
		return m
	}
	for range 600 {
		by := r.IntN(3)
		name := nodeName(by)
		switch r.IntN(30) {
		case 0: // a part of a Join, of this process or another one, and perhaps one that does not apply
			after := uint64(0)
			if m := n.members()[name]; m != nil {
				after = m.Epoch
			}
			if r.IntN(3) == 0 {
				after++
			}
			if r.IntN(2) == 0 {
				n.process[name]++
				n.written[name] = 0
			}
			write(n.entry(by, []Op{{Join: &Join{Member: random(by), After: after}}}))
		case 1:
			of := r.IntN(3)
			if m := n.members()[nodeName(of)]; m != nil {
				write(n.entry(by, []Op{{Leave: &Leave{Node: m.Node, Epoch: m.Epoch + uint64(r.IntN(2)), Forget: r.IntN(4) == 0}}}))
			}
		case 2: // a copy
			if len(entries) > 0 {
				write(entries[r.IntN(len(entries))])
			}
		case 3: // a barrier
			write(LogEntry{Node: name, Process: 9, Number: 1 << 63})
		case 4: // too large together with others
			var ops []Op
			for i := range 12 {
				op := recall("all", message(fmt.Sprint("large", n.last, "-", i)))
				op.Recall.Atomic, op.Recall.Event.Actor.ID = true, "ann"
				op.Recall.Event.Ext = strings.Repeat("x", 1000*(1+r.IntN(260)))
				ops = append(ops, op)
			}
			if CheckOps(ops) == nil {
				write(n.entry(by, ops))
			}
		default:
			var calls [][]Op
			for range 1 + r.IntN(3) {
				var ops []Op
				for range 1 + r.IntN(3) {
					op := randomOp(r, int(n.indexes[0].LastSequence()))
					if op.Settle != nil {
						op.Settle.Node = name
					}
					ops = append(ops, op)
				}
				if CheckOps(ops) == nil {
					calls = append(calls, ops)
				}
			}
			if len(calls) > 0 && !slices.ContainsFunc(calls, isAtomic) {
				write(n.entry(by, calls...))
			}
		}
	}
	for k := 1; k < 4; k++ {
		path := t.TempDir()
		x := openAt(t, path)
		if err := x.Follow(t.Context(), "log", nodeName(k-1)); err != nil {
			t.Fatal(err)
		}
		for at, read := 0, 0; at < len(entries); {
			applied, err := x.ApplyLog(entries[at:min(at+1+r.IntN(256), len(entries))])
			if err != nil {
				t.Fatal(err)
			}
			for i, a := range applied {
				if at+i >= read && said(a) != answers[at+i] {
					t.Fatalf("entry %d: %.600s\nand alone: %.600s", at+i+1, said(a), answers[at+i])
				}
			}
			at += len(applied)
			read = max(read, at)
			switch r.IntN(4) {
			case 0:
				x.recent = recentEvents{}
			case 1:
				learned(x)
			case 2:
				if err := x.Close(); err != nil {
					t.Fatal(err)
				}
				x = openAt(t, path)
				if err := x.Follow(t.Context(), "log", nodeName(k-1)); err != nil {
					t.Fatal(err)
				}
				at = max(0, at-r.IntN(50)) // read again
				at = min(at, int(x.Log().Position))
			}
		}
		n.indexes = append(n.indexes, x)
	}
	n.wantEqual()
}

// wantNoneLost checks that every step of every event is settled, open on somebody, or waits for a step that is not
// settled.
func wantNoneLost(t *testing.T, x *Index) {
	t.Helper()
	err := x.dir.View(func(txn *badger.Txn) error {
		for sequence := range x.LastSequence() {
			_, entry, err := entryOf(txn, sequence+1)
			if err == nil && entry == nil {
				if x.mayForget.Load() {
					continue
				}
				err = missing(sequence+1, eventKey(sequence+1))
			}
			if err != nil {
				return err
			}
			gate, err := find(txn, gateKey(sequence+1))
			if err != nil {
				return err
			}
			dependents, err := find(txn, dependentsKey(sequence+1))
			if err != nil {
				return err
			}
			for _, s := range entry.Steps {
				a, err := readAttempts(txn, entry, s)
				if err != nil {
					return err
				}
				h, err := readHolders(txn, sequence+1, s.Name)
				if err != nil {
					return err
				}
				if gate != nil && s.Name == shared.StepNotify && settled(a) {
					t.Errorf("event %d: notify is settled, and the gate is closed", sequence+1)
				}
				if settled(a) || h != nil {
					continue
				}
				waitsFor, err := unsettled(txn, sequence+1, s.After, "")
				if err != nil {
					return err
				}
				switch {
				case len(waitsFor) > 0 && dependents == nil:
					t.Errorf("event %d: nothing will open %s", sequence+1, s.Name)
				case len(waitsFor) == 0 && gate == nil:
					t.Errorf("event %d: nobody has %s", sequence+1, s.Name)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
