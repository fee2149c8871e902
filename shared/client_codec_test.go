package shared

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared/recallv1"
)

// empty is a list of so many empty messages, of two bytes each on the wire.
func empty[M any](n int) []*M {
	list := make([]*M, n)
	for i := range list {
		list[i] = new(M)
	}
	return list
}

func TestClientCodec_AnswerTooLargeWhenDecoded(t *testing.T) {
	const many = 1 << 20
	check := func(t *testing.T, err error) {
		t.Helper()
		if err == nil || !strings.HasPrefix(err.Error(), "answer of the plugin: ") ||
			!strings.Contains(err.Error(), tooLargeDecoded) {
			t.Errorf("got %v", err)
		}
	}
	t.Run("list", func(t *testing.T) {
		impl := &broken{since: &recallv1.SinceResponse{Events: empty[recallv1.Event](many)}}
		c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) }))
		_, err := c.Since(t.Context(), SinceRequest{Tenant: "acme", Conversations: []Conversation{{Group, "g"}}})
		check(t, err)
	})
	t.Run("list in a list", func(t *testing.T) {
		impl := &broken{ledger: func(send func(*recallv1.LedgerResponse) error) error {
			return send(&recallv1.LedgerResponse{Entries: []*recallv1.LedgerEntry{{Steps: empty[recallv1.StepRecord](many)}}})
		}}
		c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) }))
		_, err := c.LedgerPage(t.Context(), LedgerRequest{Tenant: "acme", RecallID: "r1"})
		check(t, err)
	})
}

// TestClientCodec_LargestPage is about an event with as many of everything as the contract and the rules allow.
func TestClientCodec_LargestPage(t *testing.T) {
	e := proto.Clone(encodeEvent(fullEvent)).(*recallv1.Event)
	e.Attachments, e.Steps, e.Tombstone = nil, nil, map[string]string{}
	entry := &recallv1.LedgerEntry{Event: e}
	for i := range MaxAttachments {
		e.Attachments = append(e.Attachments, fmt.Sprint("attachment", i))
	}
	for i := range maxEventLanguages {
		e.Tombstone[fmt.Sprint("l", i)] = "{actor} took a message back"
	}
	for i := range MaxSteps + len(StandardSteps()) {
		step := fmt.Sprint("step", i)
		e.Steps = append(e.Steps, step)
		entry.Steps = append(entry.Steps, &recallv1.StepRecord{Step: step, Attempts: 1, Error: "disk", ChangedAt: 1})
	}
	page := &recallv1.LedgerResponse{}
	for range MaxLedgerLimit {
		page.Entries = append(page.Entries, entry)
	}
	data, err := proto.Marshal(page)
	if err != nil || len(data) > MaxWireBytes {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	if err := checkDecoded(page, data); err != nil {
		t.Error(err)
	}
}
