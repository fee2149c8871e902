package wire

import (
	"bytes"
	"context"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// indexBatches are valid requests of different shapes.
func indexBatches() map[string][]shared.Message {
	long := fullMessage
	long.ID = strings.Repeat("i", shared.MaxIDBytes)
	long.Attachments = attached(shared.MaxAttachments, shared.MaxAttachmentBytes)
	long.Labels = slices.Repeat([]string{"日本"}, shared.MaxLabels)
	var types []shared.Message // of every kind, and times of every size
	for kind := range messageTypes.number {
		for of := range conversationTypes.number {
			m := benchBatch(1)[0]
			m.Type, m.Conversation.Type, m.SentAt = kind, of, time.UnixMicro(1<<(4*len(types))%maxTime.UnixMicro()+1).UTC()
			types = append(types, m)
		}
	}
	return map[string][]shared.Message{
		"none": nil, "one": {fullMessage}, "many": benchBatch(500), "long": {long, fullMessage, long},
		"types": types,
	}
}

func TestIndexRequest_EncodedAsProtobuf(t *testing.T) {
	for name, msgs := range indexBatches() {
		for _, compact := range []bool{false, true} {
			req := indexRequest{messages: msgs, compact: compact}
			want, err := proto.MarshalOptions{Deterministic: true}.Marshal(req.message())
			if err != nil {
				t.Fatal(err)
			}
			payload := req.payload()
			got, err := payload.appendTo([]byte("head"))
			if err != nil || !bytes.Equal(got, append([]byte("head"), want...)) {
				t.Errorf("%s, compact %v: %v\n got %x\nwant %x", name, compact, err, got, want)
			}
			if payload.size != len(want) {
				t.Errorf("%s, compact %v: its size is %d; want %d", name, compact, payload.size, len(want))
			}
		}
	}
}

// decodedAsProtobuf fails unless data is decoded as protobuf decodes it.
func decodedAsProtobuf(t *testing.T, data []byte) {
	t.Helper()
	var wire recallv1.IndexRequest
	wantErr := proto.Unmarshal(data, &wire)
	var got indexRequest
	err := got.decode(data)
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("error %v; protobuf has %v", err, wantErr)
	}
	if err != nil {
		return
	}
	want := mapSlice(wire.GetMessages(), (&decoder{}).message) // an enum value that is not known is left empty
	if got.compact != wire.GetCompact() {
		t.Errorf("compact %v; by protobuf %v", got.compact, wire.GetCompact())
	}
	if len(got.messages) != len(want) || len(want) > 0 && !reflect.DeepEqual(got.messages, want) {
		t.Errorf("messages\n got %+v\nwant %+v", got.messages, want)
	}
}

// nested is a field with a message.
func nested(field byte, fields ...[]byte) []byte {
	return appendText(nil, field, string(slices.Concat(fields...)))
}

// wireRequests are encoded requests that this version of either side does not write, by what is special about them.
func wireRequests() map[string][]byte {
	text := func(field byte, s string) []byte { return appendText(nil, field, s) }
	number := func(field byte, v uint64) []byte { return protowire.AppendVarint([]byte{field}, v) }
	group := slices.Concat(protowire.AppendTag(nil, 9, protowire.StartGroupType), text(messageID, "in the group"),
		protowire.AppendTag(nil, 9, protowire.EndGroupType))
	unknown := slices.Concat(text(14<<3|bytesField, "x"), number(15<<3|varintField, math.MaxUint64),
		protowire.AppendFixed32(protowire.AppendTag(nil, 100, protowire.Fixed32Type), 1),
		protowire.AppendFixed64(protowire.AppendTag(nil, 1<<20, protowire.Fixed64Type), 1), group)
	return map[string][]byte{
		"unknown fields": slices.Concat(unknown, nested(requestMessages, unknown, text(messageID, "m"),
			nested(messageConversation, unknown, text(conversationID, "c"), unknown), unknown), unknown),
		"last value": slices.Concat(number(requestCompact, 1), nested(requestMessages, text(messageID, "first"),
			number(messageType, 1), number(messageSentAt, 5), text(messageID, "last"), number(messageType, 2),
			number(messageSentAt, 0)), number(requestCompact, 0)),
		"lists go on": nested(requestMessages, text(messageLabels, "a"), nested(messageAttachments, text(attachmentKey, "x")),
			text(messageLabels, "b")),
		"nested messages merge": nested(requestMessages, nested(messageConversation, text(conversationID, "c")),
			nested(messageConversation, number(conversationType, 2)), nested(messageConversation)),
		"other wire types": slices.Concat(number(1<<3|varintField, 1), text(2<<3|bytesField, "\x01"), nested(requestMessages,
			number(2<<3|varintField, 1), text(5<<3|bytesField, "\x01"), number(3<<3|varintField, 1),
			number(8<<3|varintField, 1))),
		"wide numbers": nested(requestMessages, number(messageType, 1<<32|3), number(messageSentAt, math.MaxUint64),
			nested(messageConversation, number(conversationType, math.MaxUint64))),
		"wide tags": {0x8a, 0x00, 0x04, 0x92, 0x80, 0x00, 0x01, 'm', 0x90, 0x00, 0x07},
		"zero values": slices.Concat(nested(requestMessages), nested(requestMessages, nested(messageConversation),
			nested(messageAttachments), nested(messageAttachments, text(attachmentKey, "a")), text(messageLabels, ""))),
		"unknown enums": slices.Concat(nested(requestMessages, number(messageType, 99), nested(messageConversation,
			number(conversationType, 98))), nested(requestMessages)),
		"attachments": nested(requestMessages,
			nested(messageAttachments, text(attachmentOwner, "ann"), text(attachmentKey, "a")),
			nested(messageAttachments, text(attachmentKey, "a"), text(attachmentKey, "b")), text(messageRef, "row")),
		"invalid UTF-8 in an owner": nested(requestMessages, nested(messageAttachments, text(attachmentOwner, "\xff"))),
		"invalid UTF-8":             nested(requestMessages, text(messageTenant, "\xff")),
		"invalid UTF-8 in a list":   nested(requestMessages, text(messageLabels, "a\xc0")),
		"invalid UTF-8 in a conversation": nested(requestMessages, nested(messageConversation,
			text(conversationID, "\xed\xa0\x80"))),
		"invalid UTF-8 that is replaced": nested(requestMessages, text(messageID, "\xff"), text(messageID, "m")),
		"invalid enum, then no wire":     slices.Concat(nested(requestMessages), []byte{0x0a, 5}),
		"cut short":                      nested(requestMessages, text(messageID, "m"))[:4],
		"cut short within":               nested(requestMessages, []byte{messageID, 9, 'm'}),
		"field number 0":                 {0x00, 0x01},
		"field number 0 in a wide tag":   {0x80, 0x00},
		"field number above the largest": append(protowire.AppendTag(nil, protowire.MaxValidNumber+1,
			protowire.VarintType), 1),
		"largest field number":      append(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.VarintType), 1),
		"group that does not end":   protowire.AppendTag(nil, 1, protowire.StartGroupType),
		"group that does not begin": protowire.AppendTag(nil, 1, protowire.EndGroupType),
		"wire type 6":               {1<<3 | 6, 0},
		"varint of eleven bytes":    append(bytes.Repeat([]byte{0xff}, 11), 1),
		"groups in groups":          bytes.Repeat([]byte{1<<3 | byte(protowire.StartGroupType)}, 20_000),
	}
}

func TestIndexRequest_DecodedAsProtobuf(t *testing.T) {
	for name, msgs := range indexBatches() {
		t.Run(name, func(t *testing.T) {
			req := indexRequest{messages: msgs, compact: true}
			decodedAsProtobuf(t, mustMarshal(t, req.message()))
		})
	}
	for name, data := range wireRequests() {
		t.Run(name, func(t *testing.T) { decodedAsProtobuf(t, data) })
	}
}

func FuzzIndexRequest(f *testing.F) {
	for _, msgs := range indexBatches() {
		if len(msgs) < 10 {
			req := indexRequest{messages: msgs, compact: true}
			data, err := proto.Marshal(req.message())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	for _, data := range wireRequests() {
		if len(data) < 4<<10 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		decodedAsProtobuf(t, data)
		var req indexRequest
		if req.decode(data) != nil || slices.ContainsFunc(req.messages, func(m shared.Message) bool {
			return ValidateMessage(&m) != nil
		}) {
			return
		}
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(req.message())
		if err != nil {
			t.Fatal(err)
		}
		payload := req.payload()
		if got, err := payload.appendTo(nil); err != nil || !bytes.Equal(got, want) || payload.size != len(want) {
			t.Errorf("encoded in %d bytes, %v\n got %x\nwant %x", payload.size, err, got, want)
		}
	})
}

// statuses answers every message with another status.
type statuses struct{ echo }

var everyStatus = []shared.IndexStatus{
	shared.IndexAdded, shared.IndexUnchanged, shared.IndexConflict, shared.IndexRecalled, shared.IndexAmended,
	shared.IndexNotFound,
}

func (*statuses) Index(_ context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	results := make([]shared.IndexResult, len(msgs))
	for i := range msgs {
		results[i] = shared.IndexResult{MessageID: msgs[i].ID, Status: everyStatus[i%len(everyStatus)]}
	}
	return results, nil
}

func TestIndex_CompactAnswer(t *testing.T) {
	msgs := benchBatch(9)
	want, _ := (&statuses{}).Index(t.Context(), msgs)
	if len(indexStatuses.number) != len(everyStatus)+1 { // and invalid, which has more to say
		t.Fatalf("the test knows %d of %d statuses", len(everyStatus), len(indexStatuses.number))
	}
	bothWays(t, func(t *testing.T, connect func(Plugin) *Client) {
		c := connect(&statuses{})
		if got, err := c.Index(t.Context(), msgs); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v\nwant %v", got, err, want)
		}
		if got, err := c.Index(t.Context(), []shared.Message{}); err != nil || len(got) > 0 {
			t.Errorf("of no message: %v, %v", got, err)
		}
		for _, compact := range []bool{false, true} { // false: an older host
			req, resp := indexRequest{messages: msgs, compact: compact}, &recallv1.IndexResponse{}
			err := c.calls.Invoke(t.Context(), recallv1.RecallService_Index_FullMethodName, req.message(), resp)
			if err != nil {
				t.Fatal(err)
			}
			if len(resp.GetResults()) > 0 == compact || len(resp.GetStatuses()) > 0 != compact {
				t.Errorf("compact %v is answered by %v", compact, resp)
			}
			if got, err := req.results(resp); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("compact %v: got %v, %v\nwant %v", compact, got, err, want)
			}
		}
	})
}

// disordered answers in the opposite order.
type disordered struct{ statuses }

func (p *disordered) Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	results, err := p.statuses.Index(ctx, msgs)
	slices.Reverse(results)
	return results, err
}

func TestIndex_AnswerInAnotherOrder(t *testing.T) {
	bothWays(t, func(t *testing.T, connect func(Plugin) *Client) {
		_, err := connect(&disordered{}).Index(t.Context(), benchBatch(4))
		if err == nil || !strings.Contains(err.Error(), "results[0]: is about message") {
			t.Errorf("got %v", err)
		}
	})
}

func TestIndex_AnswerInFull(t *testing.T) {
	impl := &broken{index: &recallv1.IndexResponse{Results: []*recallv1.IndexResult{
		{MessageId: "m/1", Status: recallv1.IndexStatus_INDEX_STATUS_CONFLICT},
	}}}
	c := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) { recallv1.RegisterRecallServiceServer(s, impl) }))
	got, err := c.Index(t.Context(), []shared.Message{fullMessage})
	if want := []shared.IndexResult{{MessageID: "m/1", Status: shared.IndexConflict}}; err != nil ||
		!reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestIndex_InvalidUTF8(t *testing.T) {
	bothWays(t, func(t *testing.T, connect func(Plugin) *Client) {
		c := connect(&statuses{})
		request := rawMessage(nested(requestMessages, appendText(nil, messageID, "\xff"))...)
		err := c.calls.Invoke(t.Context(), recallv1.RecallService_Index_FullMethodName, request, &recallv1.IndexResponse{})
		if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "read the request of Index: a text is not") {
			t.Errorf("got %v", err)
		}
	})
}
