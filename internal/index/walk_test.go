package index

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/chat-recall/recall/internal/badgerdir/dirtest"
	"github.com/chat-recall/recall/shared"
)

// walkAll walks to the end in as many walks as that takes, and checks the places on the way.
func walkAll(t *testing.T, x *Index, req WalkRequest) (found []Found, examined, walks int) {
	t.Helper()
	for {
		page, err := x.Walk(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		walks++
		at := req.From
		for i, f := range page.Found {
			if i > 0 && f.Place.Compare(at) <= 0 || f.Place.Compare(at) < 0 || f.Place.Compare(page.Next) >= 0 {
				t.Fatalf("%q is at %v, from %v to %v", f.Message.ID, f.Place, req.From, page.Next)
			}
			at = f.Place
			f.Examined += examined
			found = append(found, f)
		}
		examined += page.Examined
		if !page.More {
			return found, examined, walks
		}
		if page.Next.Compare(req.From) <= 0 {
			t.Fatalf("a walk from %v goes on at %v", req.From, page.Next)
		}
		req.From = page.Next
	}
}

func idsOf(found []Found) (ids []string) {
	for _, f := range found {
		ids = append(ids, f.Message.Tenant+" "+f.Message.ID)
	}
	return ids
}

func TestWalk_Order(t *testing.T) {
	x := openNew(t)
	a, b, c, d := message("z"), message("b"), message("c"), message("a")
	b.Tenant = "other"
	apply(t, x, put(a), put(b), recall("r", c)) // c is indexed by its recall
	apply(t, x, put(d), recall("r", a))
	for tenant, want := range map[string][]string{
		"":       {"acme z", "acme c", "other b", "acme a"},
		"acme":   {"acme z", "acme c", "acme a"},
		"other":  {"other b"},
		"nobody": nil,
	} {
		found, examined, walks := walkAll(t, x, WalkRequest{Tenant: tenant})
		if !slices.Equal(idsOf(found), want) || examined != len(want) || walks != 1 {
			t.Errorf("tenant %q: %q in %d walks, examined %d, want %q", tenant, idsOf(found), walks, examined, want)
		}
		for _, f := range found {
			if recalled := f.Tombstone != nil; recalled != (f.Message.ID == "c" || f.Message.ID == "z") {
				t.Errorf("%q: %+v", f.Message.ID, f.Tombstone)
			}
		}
	}
}

func TestWalk_GoesOnWhereItStopped(t *testing.T) {
	x := openNew(t)
	var want []string
	for entry := range 20 {
		var ops []Op
		for i := range 1 + entry%7 {
			for _, tenant := range []string{"acme", "other"} {
				m := message(fmt.Sprintf("m-%d-%d", entry, i))
				m.Tenant = tenant
				if i%3 == 2 {
					m.Sender = "bob"
				}
				ops = append(ops, put(m))
				if tenant == "acme" && m.Sender == "ann" {
					want = append(want, "acme "+m.ID)
				}
			}
		}
		apply(t, x, ops...)
	}
	all, examined, _ := walkAll(t, x, WalkRequest{Tenant: "acme", Sender: "ann"})
	if !slices.Equal(idsOf(all), want) || examined <= len(want) {
		t.Fatalf("%d messages of %d, examined %d", len(all), len(want), examined)
	}
	for name, limit := range map[string]WalkRequest{
		"found": {MaxFound: 3}, "examined": {MaxExamined: 4}, "bytes": {MaxBytes: 200}, "time": {MaxTime: 1},
		"one": {MaxFound: 1, MaxExamined: 1},
	} {
		t.Run(name, func(t *testing.T) {
			limit.Tenant, limit.Sender = "acme", "ann"
			found, passed, walks := walkAll(t, x, limit)
			if !slices.EqualFunc(found, all, func(a, b Found) bool {
				return a.Message.ID == b.Message.ID && a.Place == b.Place && a.Examined == b.Examined
			}) {
				t.Errorf("%q", idsOf(found))
			}
			if walks < 10 || passed != examined {
				t.Errorf("examined %d in %d walks, want %d", passed, walks, examined)
			}
		})
	}
	t.Run("from each message", func(t *testing.T) {
		for i, f := range all {
			rest, passed, _ := walkAll(t, x, WalkRequest{Tenant: "acme", Sender: "ann", From: f.Place})
			if !slices.Equal(idsOf(rest), want[i:]) || passed+f.Examined != examined {
				t.Fatalf("from %v: %d messages, want %d; examined %d and %d before", f.Place, len(rest), len(want[i:]), passed,
					f.Examined)
			}
		}
	})
	t.Run("a tenant without messages", func(t *testing.T) {
		if _, _, walks := walkAll(t, x, WalkRequest{Tenant: "nobody", MaxTime: 1}); walks != 20 {
			t.Errorf("%d walks over 20 groups, each out of time", walks)
		}
	})
}

func TestWalk_UpToAPositionAndFromThereOn(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("a")), put(message("b")))
	end := x.dir.Version()
	apply(t, x, put(message("c")))
	page, err := x.Walk(t.Context(), WalkRequest{End: end, MaxFound: 2})
	if err != nil || len(page.Found) != 2 || page.More {
		t.Fatalf("up to %d: %+v %v", end, page, err)
	}
	page, err = x.Walk(t.Context(), WalkRequest{From: page.Next})
	if err != nil || !slices.Equal(idsOf(page.Found), []string{"acme c"}) || page.More {
		t.Fatalf("from there on: %+v %v", page, err)
	}
	next := page.Next
	if page, err = x.Walk(t.Context(), WalkRequest{From: next}); err != nil || page.Next != next || len(page.Found) > 0 {
		t.Errorf("nothing new: %+v %v, want %v", page, err, next)
	}
	apply(t, x, put(message("d")))
	if page, err = x.Walk(t.Context(), WalkRequest{From: next}); err != nil || len(page.Found) != 1 {
		t.Errorf("what came since: %+v %v", page, err)
	}
}

func TestWalk_Filter(t *testing.T) {
	x := openNew(t)
	sums := map[uint32]string{} // two senders with one sum
	other := ""
	for i := 0; other == ""; i++ {
		sender := fmt.Sprintf("s%d", i)
		if first := sums[senderSum(sender)]; first != "" {
			sums[0], other = first, sender
		}
		sums[senderSum(sender)] = sender
	}
	for i, sender := range []string{sums[0], other, sums[0]} {
		m := message(fmt.Sprint("m", i))
		m.Sender, m.SentAt = sender, start.Add(time.Duration(i)*100*time.Microsecond)
		apply(t, x, put(m))
	}
	at := func(i int) time.Time { return start.Add(time.Duration(i) * 100 * time.Microsecond) }
	for name, c := range map[string]struct {
		req  WalkRequest
		want []string
	}{
		"sender":          {WalkRequest{Sender: sums[0]}, []string{"acme m0", "acme m2"}},
		"the other":       {WalkRequest{Sender: other}, []string{"acme m1"}},
		"from":            {WalkRequest{SentFrom: at(1)}, []string{"acme m1", "acme m2"}},
		"before":          {WalkRequest{SentBefore: at(1)}, []string{"acme m0"}},
		"from and before": {WalkRequest{SentFrom: at(1), SentBefore: at(2)}, []string{"acme m1"}},
		"all":             {WalkRequest{Sender: sums[0], SentFrom: at(1), SentBefore: at(2)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if found, examined, _ := walkAll(t, x, c.req); !slices.Equal(idsOf(found), c.want) || examined != 3 {
				t.Errorf("%q, examined %d, want %q", idsOf(found), examined, c.want)
			}
		})
	}
}

func TestWalk_Errors(t *testing.T) {
	x := openNew(t)
	apply(t, x, put(message("a")))
	apply(t, x, put(message("b")))
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := x.Walk(ctx, WalkRequest{}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	change := func(change func(txn *badger.Txn) error) {
		txn := x.dir.NewTransaction(true)
		defer txn.Discard()
		if err := errors.Join(change(txn), x.dir.Commit(txn)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("no record", func(t *testing.T) {
		change(func(txn *badger.Txn) error { return txn.Delete(messageKey("acme", "b")) })
		page, err := x.Walk(t.Context(), WalkRequest{MaxFound: 1})
		if err != nil || len(page.Found) != 1 {
			t.Fatalf("up to it: %+v %v", page, err)
		}
		if _, err := x.Walk(t.Context(), WalkRequest{From: page.Next}); !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
	})
	t.Run("damaged group", func(t *testing.T) {
		groups, err := x.numbers(t.Context(), newKey('t'), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		change(func(txn *badger.Txn) error { return txn.Set(groupKey(groups[0]), []byte{0xff}) })
		if _, err := x.Walk(t.Context(), WalkRequest{}); !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		y, err := Open(t.Context(), Options{Path: t.TempDir()})
		if err == nil {
			err = y.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := y.Walk(t.Context(), WalkRequest{}); !errors.Is(err, shared.ErrUnavailable) {
			t.Error(err)
		}
	})
}

func TestWalk_DamagedBlock(t *testing.T) {
	path := closedIndex(t, 4000)
	x, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	for _, file := range dirtest.Tables(t, path) {
		dirtest.Edit(t, file, func(b []byte) []byte {
			for i := 100; i < len(b)*9/10; i += 500 {
				b[i] ^= 1
			}
			return b
		})
	}
	if page, err := x.Walk(t.Context(), WalkRequest{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("examined %d: %v", page.Examined, err)
	}
}

func TestWalk_SalvagedAndConverted(t *testing.T) {
	all := func(t *testing.T, x *Index, want int) {
		t.Helper()
		found, _, _ := walkAll(t, x, WalkRequest{Tenant: "acme", MaxFound: 7})
		ids := idsOf(found)
		slices.Sort(ids)
		if len(slices.Compact(ids)) != want || len(found) != want {
			t.Errorf("%d messages, %d different, want %d", len(found), len(slices.Compact(ids)), want)
		}
	}
	t.Run("salvaged", func(t *testing.T) {
		_, y := salvage(t, closedIndex(t, 4000))
		all(t, y, 4000)
		apply(t, y, put(message("later")))
		all(t, y, 4001)
	})
	t.Run("converted", func(t *testing.T) {
		n := clusterOf(t, singleMachine(t), 2)
		all(t, n.indexes[1], 12)
		path, _ := toSingle(t, n.indexes[1])
		y := openAt(t, path)
		apply(t, y, put(message("later")))
		all(t, y, 13)
	})
}

func TestWalk_WhileMessagesAreIndexed(t *testing.T) {
	x := openNew(t)
	var want []string
	var found []Found
	at := WalkRequest{Tenant: "acme"}
	for i := range 300 {
		m := message(fmt.Sprint("m", i))
		apply(t, x, put(m))
		want = append(want, "acme "+m.ID)
		if rand.IntN(3) == 0 {
			at.MaxFound = 1 + rand.IntN(5)
			page, err := x.Walk(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			found, at.From = append(found, page.Found...), page.Next
		}
	}
	at.MaxFound = 0
	rest, _, _ := walkAll(t, x, at)
	if got := idsOf(append(found, rest...)); !slices.Equal(got, want) {
		t.Errorf("%d messages, want %d", len(got), len(want))
	}
}
