package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/shared"
)

func spend(at time.Time, kept time.Duration) *Spend {
	return &Spend{Limit: [32]byte{1, 2, 31: 3}, At: at, Kept: kept}
}

// spends are those of an index, the oldest first, as how long after the start they count.
func spends(t *testing.T, x *Index) (all []time.Duration) {
	t.Helper()
	err := x.Spends(100, func(s *Spend) {
		if s.Limit != ([32]byte{1, 2, 31: 3}) || s.Kept != time.Minute {
			t.Errorf("%+v", s)
		}
		all = append(all, s.At.Sub(start))
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSpends(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	n := 0
	recallAt := func(after time.Duration) Op {
		n++
		op := recall(fmt.Sprint("r", n), message(fmt.Sprint("m", n)))
		op.Recall.Spend = spend(start.Add(after), time.Minute)
		return op
	}
	want := func(what string, want ...time.Duration) {
		t.Helper()
		if got := spends(t, x); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	first := recallAt(0)
	apply(t, x, first)
	apply(t, x, first)
	want("a recall and its copy", 0)
	apply(t, x, recallAt(time.Second), recallAt(2*time.Second), recallAt(3*time.Second), recall("none", message("none")))
	want("several in one entry", 0, time.Second, 2*time.Second, 3*time.Second)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = openAt(t, path)
	want("opened again", 0, time.Second, 2*time.Second, 3*time.Second)
	apply(t, x, recallAt(63*time.Second))
	want("two that count no longer are removed with each new one", 2*time.Second, 3*time.Second, 63*time.Second)
	apply(t, x, recallAt(62*time.Second), recallAt(63*time.Second))
	want("and no others", 63*time.Second, 62*time.Second, 63*time.Second)
	var newest []time.Duration
	err := x.Spends(2, func(s *Spend) { newest = append(newest, s.At.Sub(start)) })
	if err != nil || !slices.Equal(newest, []time.Duration{62 * time.Second, 63 * time.Second}) {
		t.Errorf("the newest two: %v, %v", newest, err)
	}
	x.Close()
	if err := x.Spends(2, func(*Spend) {}); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("of a closed index: %v", err)
	}
}

func TestSpends_Damaged(t *testing.T) {
	x := openNew(t)
	op := recall("r", message("m"))
	op.Recall.Spend = spend(start, time.Minute)
	apply(t, x, op)
	txn := x.dir.NewTransaction(true)
	defer txn.Discard()
	if err := errors.Join(txn.Delete(spendKey(1)), x.dir.Commit(txn)); err != nil {
		t.Fatal(err)
	}
	op = recall("s", message("n"))
	op.Recall.Spend = spend(start, time.Minute)
	if _, err := x.Append(context.Background(), []Op{op}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

// TestSpends_Salvaged checks that limits begin anew in an index that was salvaged, and count there.
func TestSpends_Salvaged(t *testing.T) {
	path := t.TempDir()
	x := openAt(t, path)
	for i := range 3 {
		op := recall(fmt.Sprint("r", i), message(fmt.Sprint("m", i)))
		op.Recall.Spend = spend(start.Add(time.Duration(i)*time.Second), time.Minute)
		apply(t, x, op)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	_, y := salvage(t, path)
	if got := spends(t, y); len(got) > 0 {
		t.Errorf("%v", got)
	}
	op := recall("later", message("later"))
	op.Recall.Spend = spend(start.Add(time.Hour), time.Minute)
	apply(t, y, op)
	if got := spends(t, y); !slices.Equal(got, []time.Duration{time.Hour}) {
		t.Errorf("%v", got)
	}
}

func TestCheckOps_Spend(t *testing.T) {
	for name, s := range map[string]*Spend{
		"without a time": {Kept: time.Minute},
		"kept for ever":  {At: start, Kept: -time.Minute},
		"not kept":       {At: start},
		"of the future":  {At: start, Kept: time.Minute, Waited: -1},
	} {
		op := recall("r", message("m"))
		op.Recall.Spend = s
		if err := CheckOps([]Op{op}); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
