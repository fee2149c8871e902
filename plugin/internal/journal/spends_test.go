package journal

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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

// waiting is the recall of spending, which waits.
func waiting(id string) index.Op {
	e := spending(id, 1).Recall.Event
	return index.Op{Wait: &shared.Waiting{
		Tenant: e.Tenant, MessageID: id, RecallID: e.RecallID, Actor: e.Actor, Role: e.Role, RequestedAt: start,
		Until: start.Add(time.Hour), State: shared.WaitWaiting,
	}}
}

// TestReplicated_Spends has a node hear of what others spent, and of what it spent itself where nobody waits any more.
func TestReplicated_Spends(t *testing.T) {
	s := journaltest.NewStream()
	a := startNode(t, s).log
	impatient := &node{name: "n9", path: t.TempDir(), patience: 3 * time.Second}
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
	waited := put(message("waited for"))
	waited.Judged = &index.Judged{Waited: []index.Waited{
		{RecallID: "r-waited for", RequestedAt: start.UnixMicro(), Recall: spending("waited for", 6).Recall},
	}}
	if r := apply(t, a, waiting("waited for"), waited); r[1].Put != shared.IndexRecalled {
		t.Fatalf("%+v", r)
	}
	if got := <-heard; got != 6 {
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

// TestReplicated_SpendsOfAPart has a call be so large that it becomes several entries, of which only the first is
// applied while its caller waits. Its caller gets an error, and counts none of them.
func TestReplicated_SpendsOfAPart(t *testing.T) {
	s := journaltest.NewStream()
	n := &node{name: "n9", path: t.TempDir(), patience: 3 * time.Second}
	n.start(t, s)
	defer n.stop(t)
	heard := make(chan int, 1000)
	err := n.log.Spends(0, func(*index.Spend) {}, func(s *index.Spend) { heard <- int(s.Kept.Microseconds()) })
	if err != nil {
		t.Fatal(err)
	}
	const recalls = 400
	var ops []index.Op
	for i := range recalls {
		op := spending(fmt.Sprint("large", i), i+1)
		op.Recall.Event.Ext = strings.Repeat("x", 1000)
		ops = append(ops, op)
	}
	if parts := n.log.split(ops); len(parts) < 2 {
		t.Fatalf("it is %d entry", len(parts))
	}
	entries := 0
	s.Break(func(data []byte) error {
		e, err := decodeEntry(data, EntryFormat)
		if err != nil || len(e.Calls) == 0 {
			return err
		}
		if entries++; entries > 1 {
			return errors.New("no quorum")
		}
		return nil
	})
	if _, err := n.log.Append(t.Context(), ops); !errors.Is(err, shared.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	if len(heard) == 0 || len(heard) == recalls {
		t.Errorf("heard of %d recalls of a part", len(heard))
	}
	s.Break(nil)
	seen := map[int]bool{}
	for range recalls {
		number := <-heard
		if seen[number] {
			t.Errorf("heard of %d twice", number)
		}
		seen[number] = true
	}
}
