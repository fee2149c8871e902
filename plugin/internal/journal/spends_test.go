package journal

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/chat-recall/recall/internal/index"
	"github.com/chat-recall/recall/plugin/internal/journal/journaltest"
	"github.com/chat-recall/recall/shared"
)

// spending is a recall that spends of a limit, which has a number.
func spending(id string, number int) index.Op {
	op := recall("r-"+id, message(id))
	op.Recall.Spend = &index.Spend{At: start, Kept: time.Duration(number) * time.Microsecond}
	return op
}

// TestReplicated_Spends has a node hear of what others spent, and of what it spent itself where nobody waits any more.
func TestReplicated_Spends(t *testing.T) {
	s := journaltest.NewStream()
	a := startNode(t, s).log
	impatient := &node{name: "n9", path: t.TempDir(), patience: time.Second}
	impatient.start(t, s)
	defer impatient.stop(t)
	b := impatient.log
	apply(t, a, spending("before", 1))
	if err := b.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	number := func(s *index.Spend) int { return int(s.Kept.Microseconds()) }
	heard := make(chan int, 10)
	var stored []int
	err := b.Spends(10, func(s *index.Spend) { stored = append(stored, number(s)) },
		func(s *index.Spend) { heard <- number(s) })
	if err != nil || !slices.Equal(stored, []int{1}) {
		t.Fatalf("%v, %v", stored, err)
	}
	apply(t, b, spending("own", 2))
	apply(t, a, spending("others", 3), spending("before", 4)) // which is recalled already
	if got := <-heard; got != 3 {
		t.Errorf("heard of %d", got)
	}
	s.Break(func([]byte) error { return errors.New("no quorum") })
	ended := make(chan error, 1)
	inDoubt := []index.Op{spending("in doubt", 5)}
	b.AppendThen(inDoubt, false, func(_ []index.Result, err error) { ended <- err })
	if err := <-ended; !errors.Is(err, shared.ErrUnavailable) {
		t.Fatal(err)
	}
	s.Break(nil)
	if got := <-heard; got != 5 {
		t.Errorf("heard of %d", got)
	}
}
