package wire

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
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
		impl := &broken{since: &recallv1.EventPage{Events: empty[recallv1.Event](many)}}
		c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) }))
		_, err := c.Since(t.Context(), shared.SinceRequest{Tenant: "acme", Conversations: fullSince.Conversations})
		check(t, err)
	})
	t.Run("list in a list", func(t *testing.T) {
		impl := &broken{ledger: &recallv1.LedgerPage{
			Entries: []*recallv1.LedgerEntry{{Steps: empty[recallv1.StepRecord](many)}},
		}}
		c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) }))
		_, err := c.Ledger(t.Context(), shared.LedgerRequest{Tenant: "acme", RecallID: "r1"})
		check(t, err)
	})
}

// TestClientCodec_LargestPage is about an event with as many of everything as the contract and the rules allow.
func TestClientCodec_LargestPage(t *testing.T) {
	e := proto.Clone(encodeEvent(fullEvent)).(*recallv1.Event)
	e.Attachments, e.Placeholder = nil, map[string]string{}
	entry := &recallv1.LedgerEntry{Event: e}
	for i := range shared.MaxAttachments {
		e.Attachments = append(e.Attachments, &recallv1.Attachment{Key: fmt.Sprint("attachment", i)})
	}
	for i := range maxLanguages {
		e.Placeholder[fmt.Sprint("l", i)] = "{actor} took a message back"
	}
	for i := range shared.MaxSteps + len(shared.StandardSteps()) {
		step := fmt.Sprint("step", i)
		entry.Steps = append(entry.Steps, &recallv1.StepRecord{Step: step, Attempts: 1, Error: "disk", ChangedAt: 1})
	}
	page := &recallv1.LedgerPage{}
	for range shared.MaxLedgerLimit {
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

func TestDecodedBytes(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	statuses := func(n int) proto.Message {
		return &recallv1.StatusResponse{Statuses: empty[recallv1.MessageStatus](n)}
	}
	const most = maxDecodedBytes/messageBytes - 1 // statuses in a response of maxDecodedBytes
	for name, tc := range map[string]struct {
		m    proto.Message
		want int
	}{
		"nothing":           {&recallv1.StatusResponse{}, messageBytes},
		"a text":            {&recallv1.StatusRequest{Tenant: text(9)}, messageBytes + elementBytes + 1 + 9},
		"two texts":         {&recallv1.StatusRequest{MessageIds: []string{"m", "n"}}, messageBytes + 2*(elementBytes+2)},
		"messages":          {statuses(3), messageBytes * 4},
		"as many as fit":    {statuses(most), maxDecodedBytes},
		"one more":          {statuses(most + 1), maxDecodedBytes + messageBytes},
		"stops counting":    {statuses(most + 9), maxDecodedBytes + messageBytes},
		"unknown field":     {rawMessage(15<<3|2, 3, 'a', 'b', 'c'), messageBytes + 4},
		"no tag":            {rawMessage(0xff), messageBytes},
		"a tag and no more": {rawMessage(1<<3 | 2), messageBytes},
	} {
		data := mustMarshal(t, tc.m)
		if got := decodedBytes(tc.m.ProtoReflect().Descriptor(), data); got != tc.want {
			t.Errorf("%s: %d bytes, want %d", name, got, tc.want)
		}
		if err := checkDecoded(tc.m, data); (err != nil) != (tc.want > maxDecodedBytes) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
