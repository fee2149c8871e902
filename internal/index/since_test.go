package index

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

func group(n int) shared.Conversation {
	return shared.Conversation{Type: shared.ConversationGroup, ID: fmt.Sprint("g", n)}
}

// recallIn recalls a message of its own in a group.
func recallIn(n int, id string) Op {
	m := message(id)
	m.Conversation = group(n)
	return recall("r", m, shared.StepHistory)
}

func sequences(events []shared.Event) (list []uint64) {
	for _, e := range events {
		list = append(list, e.Sequence)
	}
	return list
}

func TestSince_MergesConversations(t *testing.T) {
	x := openNew(t)
	for i := range 60 {
		apply(t, x, recallIn(i%3, fmt.Sprint("m", i))) // sequences 1…60; group 0 has 1, 4, 7, …
	}
	for _, limit := range []int{1, 2, 7, 39, 40, 41, 59, 60, 0, -1, -2, -7} {
		var got []uint64
		req := shared.SinceRequest{Tenant: "acme", Conversations: []shared.Conversation{group(2), group(0)}, Limit: limit}
		all := limit < 0
		if all { // the latest first, so that later conversations come before what was found
			limit = -limit
			req.Conversations, req.Limit = append(req.Conversations, group(1)), limit
		}
		for {
			page, err := x.Since(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if limit != 0 && len(page.Events) > limit || page.More && len(page.Events) == 0 {
				t.Fatalf("limit %d: a page of %d", limit, len(page.Events))
			}
			got = append(got, sequences(page.Events)...)
			req.After = page.Next
			if !page.More {
				break
			}
		}
		if req.After != x.cursorOf(60) {
			t.Errorf("limit %d: the cursor stands at %s, not behind the last recall", limit, req.After)
		}
		var want []uint64
		for s := uint64(1); s <= 60; s++ {
			if all || s%3 != 2 {
				want = append(want, s)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
}

func TestSince_WithoutConversations(t *testing.T) {
	x := openNew(t)
	req := shared.SinceRequest{Tenant: "acme"}
	if page, err := x.Since(t.Context(), req); err != nil || page.Next != x.cursorOf(0) || page.More ||
		page.Events != nil {
		t.Errorf("an empty index: %+v %v", page, err)
	}
	apply(t, x, recallIn(1, "m1"), recallIn(2, "m2"))
	if page, err := x.Since(t.Context(), req); err != nil || page.Next != x.cursorOf(2) || page.More ||
		page.Events != nil {
		t.Errorf("%+v %v", page, err)
	}
	req.Conversations = []shared.Conversation{group(1)}
	for _, after := range []string{x.cursorOf(math.MaxUint64), x.cursorOf(3), "0123456789abcdef-2", "-2"} {
		req.After = after
		if page, err := x.Since(t.Context(), req); err != nil || !reflect.DeepEqual(page, shared.EventPage{Reset: true}) {
			t.Errorf("a cursor that this index never gave, %s: %+v %v", after, page, err)
		}
	}
	for _, after := range []string{"7", "a-", "x-?", x.cursorOf(1) + " "} {
		req.After = after
		if page, err := x.Since(t.Context(), req); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("no cursor, %s: %+v %v", after, page, err)
		}
	}
}

func TestSince_PageFitsTheWire(t *testing.T) {
	x := openNew(t)
	const n = 40
	for i := range n {
		op := recallIn(1, fmt.Sprint("m", i))
		for a := range shared.MaxAttachments {
			op.Recall.Event.Message.Attachments = append(op.Recall.Event.Message.Attachments,
				attached(strings.Repeat("x", shared.MaxAttachmentBytes-6)+fmt.Sprintf("%03d%03d", i, a))...)
		}
		apply(t, x, op)
	}
	req := shared.SinceRequest{Tenant: "acme", Conversations: []shared.Conversation{group(1)}}
	total, pages := 0, 0
	for more := true; more; pages++ {
		page, err := x.Since(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, e := range page.Events {
			for _, a := range slices.Concat(e.Attachments, e.Message.Attachments) {
				size += len(a.Key)
			}
		}
		if size > wire.MaxWireBytes/2 {
			t.Fatalf("a page of %d bytes", size)
		}
		total += len(page.Events)
		req.After, more = page.Next, page.More
	}
	if total != n || pages < 2 {
		t.Errorf("%d events in %d pages", total, pages)
	}
}

func TestSince_WhileOthersRecall(t *testing.T) {
	x := openNew(t)
	const writers, each = 4, 150
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := x.Append(context.Background(), []Op{recallIn(w, fmt.Sprintf("m%d-%d", w, i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	follow := func(limit int, conversations ...shared.Conversation) {
		seen, after := map[string]bool{}, uint64(0)
		req := shared.SinceRequest{Tenant: "acme", Conversations: conversations, Limit: limit}
		for last := false; ; {
			page, err := x.Since(t.Context(), req)
			if err != nil {
				t.Error(err)
				return
			}
			for _, e := range page.Events {
				if e.Sequence <= after || seen[e.Message.ID] {
					t.Errorf("event %d of %s after %d", e.Sequence, e.Message.ID, after)
				}
				seen[e.Message.ID] = true
			}
			next, void, err := x.sequenceOf(page.Next, math.MaxUint64)
			if err != nil || void || next < after {
				t.Errorf("the cursor went from %s to %s: %v", req.After, page.Next, err)
			}
			req.After, after = page.Next, next
			if last && !page.More {
				break
			}
			select {
			case <-done:
				last = true
			default:
			}
		}
		if want := each * len(conversations); len(seen) != want {
			t.Errorf("%d of %d recalls", len(seen), want)
		}
	}
	var readers sync.WaitGroup
	for _, limit := range []int{1, 3, 0} {
		readers.Go(func() { follow(limit, group(0), group(2)) })
		readers.Go(func() { follow(limit, group(3)) })
	}
	readers.Wait()
}

func TestOpenSteps_Pages(t *testing.T) {
	x := openNew(t)
	for i := range 300 { // beyond 255, so the order is that of numbers and not of text
		apply(t, x, recallIn(1, fmt.Sprint("m", i)))
	}
	apply(t, x, settle(2, shared.StepHistory, shared.OutcomeDone), fail(299, shared.StepHistory, 1, ""))
	var got []uint64
	for after := uint64(0); ; {
		page, err := x.OpenSteps(t.Context(), shared.StepHistory, after, 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
		after = page[len(page)-1]
	}
	if len(got) != 298 || !slices.IsSorted(got) || slices.Contains(got, 2) || slices.Contains(got, 299) {
		t.Errorf("%v", got)
	}
	if other, err := x.OpenSteps(t.Context(), shared.StepHistory+"x", 0, 10); err != nil || other != nil {
		t.Errorf("a step whose name begins alike: %v %v", other, err)
	}
}
