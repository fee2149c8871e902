package wire

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// benchBatch is a batch as a busy server sends it.
func benchBatch(n int) []shared.Message {
	out := make([]shared.Message, n)
	for i := range out {
		out[i] = shared.Message{
			Tenant: "acme", ID: fmt.Sprintf("01JD8Z0000000000000%07d", i),
			Conversation: shared.Conversation{Type: shared.ConversationGroup, ID: fmt.Sprint("group-", i%100)},
			Sender:       fmt.Sprint("user-", i%1000), Type: shared.TypeText, SentAt: at,
		}
	}
	return out
}

// Allocations are for a batch of 500 messages.

func BenchmarkValidateMessage(b *testing.B) {
	msgs := benchBatch(500)
	b.ReportAllocs()
	for b.Loop() {
		for i := range msgs {
			if err := ValidateMessage(&msgs[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkEncodeIndex(b *testing.B) {
	msgs := benchBatch(500)
	b.ReportAllocs()
	for b.Loop() {
		req := indexRequest{messages: msgs, compact: true}
		if _, err := encodeFrame(laneFrame{kind: laneCall, method: 1}, req.payload()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeIndex(b *testing.B) {
	data, err := proto.Marshal(&recallv1.IndexRequest{Messages: mapSlice(benchBatch(500), encodeMessage)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readIndexRequest(func(into any) error { return decodeRequest("Index", data, into) }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAnswerIndex is of the answer on both sides.
func BenchmarkAnswerIndex(b *testing.B) {
	msgs := benchBatch(500)
	results := mapSlice(msgs, func(m shared.Message) shared.IndexResult {
		return shared.IndexResult{MessageID: m.ID, Status: shared.IndexAdded}
	})
	for name, compact := range map[string]bool{"compact": true, "results": false} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req := indexRequest{messages: msgs, compact: compact}
				answer, err := req.response(results, nil)
				if err != nil {
					b.Fatal(err)
				}
				data, err := proto.Marshal(answer)
				if err != nil {
					b.Fatal(err)
				}
				var read recallv1.IndexResponse
				if err := proto.Unmarshal(data, &read); err != nil {
					b.Fatal(err)
				}
				if _, err := req.results(&read); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReadDelivery is of one event as a host receives it.
func BenchmarkReadDelivery(b *testing.B) {
	data, err := proto.Marshal(encodeDelivery(fullDelivery))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, readErr, err := readDelivery(data); readErr != nil || err != nil {
			b.Fatal(readErr, err)
		}
	}
}
