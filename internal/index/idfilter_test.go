package index

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/chat-recall/recall/internal/index/indexpb"
	"github.com/chat-recall/recall/shared"
)

func TestIDFilter_NoFalseNegatives(t *testing.T) {
	f := newIDFilter()
	f.complete.Store(true)
	hash := func(n int) uint64 { return f.hash(messageKey("acme", fmt.Sprint("m", n))) }
	const known = 3_000_000 // into the third layer
	for n := range known {
		f.add(hash(n))
	}
	for n := range known {
		if f.isNew(hash(n)) {
			t.Fatalf("the filter reports the known message %d as new", n)
		}
	}
	looked := 0
	for n := known; n < known+100_000; n++ {
		if !f.isNew(hash(n)) {
			looked++
		}
	}
	if looked > 4_000 || len(f.layers) != 3 {
		t.Errorf("%d of 100,000 new messages are looked up, in %d layers", looked, len(f.layers))
	}
}

func TestIDFilter_BoundedInBytes(t *testing.T) {
	f := newIDFilter()
	for len(f.layers) < 5 {
		f.add(1)
		f.layers[len(f.layers)-1].free = 0
	}
	f.add(2)
	if f.bytes > maxFilterBytes || len(f.layers) != 5 {
		t.Errorf("%d bytes in %d layers", f.bytes, len(f.layers))
	}
	if f.complete.Store(true); f.isNew(2) {
		t.Error("what was added to a full filter is not in it")
	}
}

// learned waits until the filter of an index is complete.
func learned(x *Index) {
	for !x.ids.complete.Load() {
		runtime.Gosched()
	}
}

func TestIDFilter_Reopened(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	var ops []Op
	for i := range 5000 {
		ops = append(ops, put(message(fmt.Sprint("m", i))))
	}
	apply(t, x, ops...)
	apply(t, x, recall("r", message("brought along")))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = openAt(t, path)
	var wg sync.WaitGroup
	wg.Go(func() { // while it learns
		for i := range 5000 {
			m := message(fmt.Sprint("new", i))
			if r := apply(t, x, put(m), put(m), ops[i]); r[0].Put != shared.IndexAdded || r[1].Put != shared.IndexUnchanged ||
				r[2].Put != shared.IndexUnchanged {
				t.Errorf("message %d: %+v", i, r)
			}
		}
	})
	wg.Wait()
	learned(x)
	for i, r := range apply(t, x, ops...) {
		if r.Put != shared.IndexUnchanged {
			t.Fatalf("message %d is %s", i, r.Put)
		}
	}
	if r := apply(t, x, put(message("brought along"))); r[0].Put != shared.IndexRecalled {
		t.Errorf("a recalled message is %s", r[0].Put)
	}
	for i := range 5000 {
		if x.ids.isNew(x.ids.hash(messageKey("acme", fmt.Sprint("new", i)))) {
			t.Fatalf("the filter reports message %d as new, which was indexed while it learned", i)
		}
	}
}

func TestIDFilter_DamagedGroup(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	apply(t, x, put(message("m")))
	txn := x.dir.NewTransaction(true)
	if err := set(
		txn,
		groupKey(1),
		&indexpb.Group{Parts: []*indexpb.GroupPart{{Tenant: "acme", Senders: []uint32{1}}}},
	); err != nil {
		t.Fatal(err)
	}
	if err := x.dir.Commit(txn); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	y, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for y.Failure() == nil {
		runtime.Gosched()
	}
	if !errors.Is(y.Failure(), ErrCorrupt) {
		t.Error(y.Failure())
	}
	_ = y.Close()
}
