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
	"time"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
)

// list reads all pages.
func list(t *testing.T, x *Index, req shared.ListRequest) (events []shared.Event) {
	t.Helper()
	for {
		page, err := x.List(t.Context(), req)
		if err != nil || page.Reset || req.Limit > 0 && len(page.Events) > req.Limit {
			t.Fatalf("list %+v: %+v %v", req, page, err)
		}
		events = append(events, page.Events...)
		if req.After = page.Next; !page.More {
			return events
		}
	}
}

// recallBy recalls a message of its own; change changes the event.
func recallBy(id string, change func(*shared.Event)) Op {
	op := recall("r-"+id, message(id), shared.StepNotify, shared.StepHistory)
	change(&op.Recall.Event)
	return op
}

func TestList_Filters(t *testing.T) {
	x := openNew(t)
	at := func(hours int) time.Time { return start.Add(time.Duration(hours) * time.Hour) }
	single := shared.Conversation{Type: shared.ConversationSingle, ID: "g1"}
	apply(t, x,
		recallBy("m1", func(e *shared.Event) { e.RecalledAt = at(3) }), // it waited
		recallBy("m2", func(e *shared.Event) { e.RecalledAt, e.Actor.ID = at(2), "bob" }),
		recallBy("m3", func(e *shared.Event) { e.RecalledAt, e.Message.Sender = at(9), "cid" }),
		recallBy("m4", func(e *shared.Event) { e.RecalledAt, e.Message.Conversation = at(4), single }),
		recallBy("m5", func(e *shared.Event) { e.RecalledAt, e.Rule.Name = at(5), "other" }),
		recallBy("m6", func(e *shared.Event) { e.RecalledAt, e.Tenant, e.Message.Tenant = at(6), "other", "other" }),
		recallBy("m7", func(e *shared.Event) { e.RecalledAt, e.Message.Conversation = at(1), group(2) }),
	)
	apply(t, x, settle(1, shared.StepNotify, shared.OutcomeDone), fail(2, shared.StepNotify, 1, "net"),
		settle(3, shared.StepNotify, shared.OutcomeDone), settle(7, shared.StepNotify, shared.OutcomeUnsupported))
	apply(t, x, settle(1, shared.StepHistory, shared.OutcomeDone), fail(3, shared.StepHistory, 1, "disk"),
		settle(7, shared.StepHistory, shared.OutcomeNothingToDo))
	for name, tc := range map[string]struct {
		req  shared.ListRequest
		want []uint64
	}{
		"all":                       {shared.ListRequest{}, []uint64{7, 5, 4, 3, 2, 1}},
		"another tenant":            {shared.ListRequest{Tenant: "other"}, []uint64{6}},
		"tenant without recalls":    {shared.ListRequest{Tenant: "none"}, nil},
		"actor":                     {shared.ListRequest{Actor: "bob"}, []uint64{2}},
		"sender":                    {shared.ListRequest{Sender: "cid"}, []uint64{3}},
		"conversation":              {shared.ListRequest{Conversation: single}, []uint64{4}},
		"conversation and actor":    {shared.ListRequest{Conversation: group(1), Actor: "ann"}, []uint64{5, 3, 1}},
		"unknown conversation":      {shared.ListRequest{Conversation: group(9)}, nil},
		"rule":                      {shared.ListRequest{Rule: "other"}, []uint64{5}},
		"from":                      {shared.ListRequest{From: at(4)}, []uint64{5, 4, 3}},
		"before":                    {shared.ListRequest{Before: at(4)}, []uint64{7, 2, 1}},
		"from and before":           {shared.ListRequest{From: at(2), Before: at(5)}, []uint64{4, 2, 1}},
		"from, in a conversation":   {shared.ListRequest{From: at(3), Conversation: group(1)}, []uint64{5, 3, 1}},
		"open":                      {shared.ListRequest{Steps: shared.StepsOpen}, []uint64{5, 4, 3, 2}},
		"failed":                    {shared.ListRequest{Steps: shared.StepsFailed}, []uint64{3, 2}},
		"failed, in a conversation": {shared.ListRequest{Steps: shared.StepsFailed, Conversation: group(1)}, []uint64{3, 2}},
		"several":                   {shared.ListRequest{Steps: shared.StepsOpen, Actor: "ann", Rule: "r"}, []uint64{4, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.req.Tenant == "" {
				tc.req.Tenant = "acme"
			}
			for _, tc.req.Limit = range []int{0, 1, 2} {
				events := list(t, x, tc.req)
				if got := sequences(events); !slices.Equal(got, tc.want) {
					t.Errorf("limit %d: %v, want %v", tc.req.Limit, got, tc.want)
				}
				for i := range events {
					want := ledger(t, x, tc.req.Tenant, events[i].RecallID).Entries[0].Event
					if !reflect.DeepEqual(events[i], want) {
						t.Errorf("%+v, want %+v", events[i], want)
					}
				}
			}
		})
	}
}

func TestList_Cursors(t *testing.T) {
	x := openNew(t)
	req := shared.ListRequest{Tenant: "acme"}
	none := shared.EventPage{Next: x.cursorOf(0)}
	if page, err := x.List(t.Context(), req); err != nil || !reflect.DeepEqual(page, none) {
		t.Errorf("an empty index: %+v %v", page, err)
	}
	apply(t, x, recallIn(1, "m1"), recallIn(2, "m2"))
	for _, conversation := range []shared.Conversation{{}, group(1)} {
		req.Conversation = conversation
		req.After = ""
		page, err := x.List(t.Context(), req)
		if err != nil || page.More {
			t.Fatalf("%+v %v", page, err)
		}
		req.After = page.Next
		if page, err := x.List(t.Context(), req); err != nil || page.More || page.Events != nil || page.Next != req.After {
			t.Errorf("after the oldest recall: %+v %v", page, err)
		}
		for _, after := range []string{x.cursorOf(math.MaxUint64), x.cursorOf(3), "0123456789abcdef-2", "-2"} {
			req.After = after
			if page, err := x.List(t.Context(), req); err != nil || !reflect.DeepEqual(page, shared.EventPage{Reset: true}) {
				t.Errorf("a cursor that this index never gave, %s: %+v %v", after, page, err)
			}
		}
		for _, after := range []string{"7", "a-", "x-?", x.cursorOf(1) + " "} {
			req.After = after
			if page, err := x.List(t.Context(), req); !errors.Is(err, shared.ErrInvalid) {
				t.Errorf("no cursor, %s: %+v %v", after, page, err)
			}
		}
	}
	for _, bad := range []shared.ListRequest{{}, {Tenant: "a\x00"}, {Tenant: "a", Conversation: group(1)}} {
		if bad.Conversation.ID != "" {
			bad.Conversation.ID = "g\x00"
		}
		if _, err := x.List(t.Context(), bad); !errors.Is(err, shared.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestList_BoundedPages(t *testing.T) {
	x := openNew(t)
	const n = 2*maxListed + 10
	ops := []Op{recallBy("first", func(e *shared.Event) { e.Tenant, e.Message.Tenant = "rare", "rare" })}
	for i := range n {
		ops = append(ops, recallBy(fmt.Sprint("m", i), func(*shared.Event) {}))
	}
	for part := range slices.Chunk(ops, 1000) {
		apply(t, x, part...)
	}
	for name, tc := range map[string]struct {
		req  shared.ListRequest
		want []int // events of each page
	}{
		"another tenant": {shared.ListRequest{Tenant: "rare"}, []int{0, 0, 1}},
		"no match":       {shared.ListRequest{Tenant: "acme", Actor: "nobody"}, []int{0, 0, 0}},
		"no match in a conversation": {
			shared.ListRequest{Tenant: "acme", Actor: "nobody", Conversation: group(1)}, []int{0, 0, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			var got []int
			for more := true; more; {
				page, err := x.List(t.Context(), tc.req)
				if err != nil || len(got) > len(tc.want) {
					t.Fatalf("%v %v", got, err)
				}
				got = append(got, len(page.Events))
				tc.req.After, more = page.Next, page.More
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("pages of %v events, want %v", got, tc.want)
			}
			t.Logf("%d recalls in %s", n, time.Since(began))
		})
	}
	t.Run("the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := x.List(ctx, shared.ListRequest{Tenant: "acme"}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func TestList_PageFitsTheWire(t *testing.T) {
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
	req := shared.ListRequest{Tenant: "acme"}
	total, pages := 0, 0
	for more := true; more; pages++ {
		page, err := x.List(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for i := range page.Events {
			size += EventBytes(&page.Events[i])
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

// While others recall, a list has every recall from before its first page once, and none from after it.
func TestList_WhileOthersRecall(t *testing.T) {
	x := openNew(t)
	const writers, each = 3, 100
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	apply(t, x, recallIn(0, "first"))
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				if _, err := x.Append(context.Background(), []Op{recallIn(w, fmt.Sprintf("m%d-%d", w, i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { writing.Wait(); close(done) }()
	for _, limit := range []int{1, 7} {
		reading.Go(func() {
			for last := false; !last && !t.Failed(); {
				select {
				case <-done:
					last = true
				default:
				}
				committed := x.LastSequence()
				var got []uint64
				req := shared.ListRequest{Tenant: "acme", Limit: limit}
				for more := true; more; {
					page, err := x.List(t.Context(), req)
					if err != nil {
						t.Error(err)
						return
					}
					got = append(got, sequences(page.Events)...)
					req.After, more = page.Next, page.More
				}
				for i, s := range got {
					if s != got[0]-uint64(i) {
						t.Errorf("%d is followed by %d", got[i-1], s)
					}
				}
				if got[0] < committed || uint64(len(got)) != got[0] {
					t.Errorf("%d recalls were committed; listed are %d, the newest %d", committed, len(got), got[0])
				}
			}
		})
	}
	reading.Wait()
}

// A cursor of one node is good on another as soon as that one has applied as much of the log.
func TestList_Cluster(t *testing.T) {
	n := newNodes(t, 2)
	for i := range n.indexes {
		n.join(memberOf(i))
	}
	n.apply(0, recallIn(1, "m1"), recallIn(1, "m2"), recallIn(1, "m3"))
	req := shared.ListRequest{Tenant: "acme", Limit: 1}
	page, err := n.indexes[0].List(t.Context(), req)
	if err != nil || !slices.Equal(sequences(page.Events), []uint64{3}) {
		t.Fatalf("%+v %v", page, err)
	}
	req.After = page.Next
	if page, err = n.indexes[1].List(t.Context(), req); err != nil || !slices.Equal(sequences(page.Events), []uint64{2}) {
		t.Errorf("%+v %v", page, err)
	}
	req.After = n.indexes[0].cursorOf(4)
	if page, err := n.indexes[1].List(t.Context(), req); !errors.Is(err, shared.ErrUnavailable) {
		t.Errorf("a node that is behind: %+v %v", page, err)
	}
}

// A step that every node carries out is failed if it failed on one of them.
func TestList_StepsOfEachNode(t *testing.T) {
	n := newNodes(t, 2)
	for i := range n.indexes {
		n.join(memberOf(i))
	}
	op := recallIn(1, "m1")
	op.Recall.Steps = []string{shared.StepNotify}
	n.apply(0, op)
	want := func(open, failed int) {
		t.Helper()
		for i, x := range n.indexes {
			for filter, want := range map[shared.StepsFilter]int{shared.StepsOpen: open, shared.StepsFailed: failed} {
				if got := list(t, x, shared.ListRequest{Tenant: "acme", Steps: filter}); len(got) != want {
					t.Errorf("n%d: %d are %s, want %d", i, len(got), filter, want)
				}
			}
		}
	}
	want(1, 0)
	failing := fail(1, shared.StepNotify, 1, "net")
	failing.Settle.Node = "n1"
	n.apply(1, failing)
	want(1, 1)
	n.settleOn(0, 1, shared.StepNotify, shared.OutcomeDone)
	want(1, 1)
	n.settleOn(1, 1, shared.StepNotify, shared.OutcomeDone)
	want(0, 0)
}

func TestList_OfJob(t *testing.T) {
	x := openNew(t)
	a, b, c := message("a"), message("b"), message("c")
	apply(t, x, put(a), put(b), put(c))
	apply(t, x, startOf("j"))
	apply(t, x, sliceOf("j", JobSlice{To: Place{Position: 2, Offset: 1}, RecallNumber: 1}, a, b)...)
	apply(t, x, recall("r", c))
	for job, want := range map[string][]uint64{"j": {2, 1}, "k": nil, "": {3, 2, 1}} {
		if got := sequences(list(t, x, shared.ListRequest{Tenant: "acme", JobID: job})); !slices.Equal(got, want) {
			t.Errorf("job %q: %v, want %v", job, got, want)
		}
	}
}
