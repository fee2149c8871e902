package shared

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared/recallv1"
)

// indexRequest is a recallv1.IndexRequest that is encoded and decoded without the structs that protobuf generates, to
// the same bytes and the same values: no other call carries as many messages.
type indexRequest struct {
	messages []Message
	compact  bool

	invalid error // a field of a well-formed request that decode does not understand
}

// The fields of an IndexRequest, a Message and a Conversation as they begin on the wire: number and wire type.
const (
	varintField = byte(protowire.VarintType)
	bytesField  = byte(protowire.BytesType)

	requestMessages = 1<<3 | bytesField
	requestCompact  = 2<<3 | varintField

	messageTenant       = 1<<3 | bytesField
	messageID           = 2<<3 | bytesField
	messageConversation = 3<<3 | bytesField
	messageSender       = 4<<3 | bytesField
	messageType         = 5<<3 | varintField
	messageSentAt       = 6<<3 | varintField
	messageAttachments  = 7<<3 | bytesField
	messageLabels       = 8<<3 | bytesField

	conversationType = 1<<3 | varintField
	conversationID   = 2<<3 | bytesField
)

// message is the request as protobuf has it.
func (r *indexRequest) message() proto.Message {
	return &recallv1.IndexRequest{Messages: mapSlice(r.messages, encodeMessage), Compact: r.compact}
}

// payload is the request on the wire. Its messages must have passed ValidateIndex, so that only lists may be empty.
func (r *indexRequest) payload() lanePayload {
	size := 0
	for i := range r.messages {
		size += sizeBytes(sizeMessage(&r.messages[i]))
	}
	if r.compact {
		size += 2
	}
	return lanePayload{size, func(b []byte) ([]byte, error) {
		for i := range r.messages {
			m := &r.messages[i]
			b = appendVarint(b, requestMessages, uint64(sizeMessage(m)))
			b = appendMessage(b, m)
		}
		if r.compact {
			b = append(b, requestCompact, 1)
		}
		return b, nil
	}}
}

// sizeType is the size of either type of a message, whose numbers take one byte.
const sizeType = 2

// sizeBytes is the size of a field with so many bytes.
func sizeBytes(n int) int { return 1 + protowire.SizeBytes(n) }

func sizeTexts(list []string) (size int) {
	for _, s := range list {
		size += sizeBytes(len(s))
	}
	return size
}

func sizeConversation(c *Conversation) int { return sizeType + sizeBytes(len(c.ID)) }

func sizeMessage(m *Message) int {
	return sizeBytes(len(m.Tenant)) + sizeBytes(len(m.ID)) + sizeBytes(sizeConversation(&m.Conversation)) +
		sizeBytes(len(m.Sender)) + sizeType + 1 + protowire.SizeVarint(uint64(m.SentAt.UnixMicro())) +
		sizeTexts(m.Attachments) + sizeTexts(m.Labels)
}

func appendVarint(b []byte, field byte, v uint64) []byte {
	return protowire.AppendVarint(append(b, field), v)
}

func appendText(b []byte, field byte, s string) []byte {
	return append(appendVarint(b, field, uint64(len(s))), s...)
}

func appendTexts(b []byte, field byte, list []string) []byte {
	for _, s := range list {
		b = appendText(b, field, s)
	}
	return b
}

func appendMessage(b []byte, m *Message) []byte {
	b = appendText(b, messageTenant, m.Tenant)
	b = appendText(b, messageID, m.ID)
	b = appendVarint(b, messageConversation, uint64(sizeConversation(&m.Conversation)))
	b = append(b, conversationType, byte(conversationTypes.number[m.Conversation.Type]))
	b = appendText(b, conversationID, m.Conversation.ID)
	b = appendText(b, messageSender, m.Sender)
	b = append(b, messageType, byte(messageTypes.number[m.Type]))
	b = appendVarint(b, messageSentAt, uint64(m.SentAt.UnixMicro()))
	b = appendTexts(b, messageAttachments, m.Attachments)
	return appendTexts(b, messageLabels, m.Labels)
}

// readIndexRequest reads the request of a call of Index. An error is a status.
func readIndexRequest(decode func(any) error) (*indexRequest, error) {
	req := &indexRequest{}
	if err := decode(req); err != nil {
		return nil, err
	}
	if req.invalid != nil {
		return nil, toStatus(req.invalid)
	}
	return req, nil
}

// decode reads the request from the wire. The texts of all messages share the memory of one string. As in protobuf, the
// last value of a field wins, lists grow, nested messages merge, and unknown fields are skipped.
func (r *indexRequest) decode(data []byte) error {
	d, text := decoder{}, string(data)
	r.messages = make([]Message, 0, min(elements(data), MaxIndexBatch))
	for at := 0; at < len(data); {
		f, err := nextField(data, at)
		if err != nil {
			return err
		}
		at = f.end
		switch f.tag {
		case uint64(requestMessages):
			good := d.err == nil
			r.messages = append(r.messages, Message{})
			if err := d.wireMessage(&r.messages[len(r.messages)-1], data[:f.end], text, f.start); err != nil {
				return err
			}
			if good && d.err != nil {
				d.err = under(fmt.Sprintf("messages[%d].", len(r.messages)-1), d.err)
			}
		case uint64(requestCompact):
			r.compact = protowire.DecodeBool(f.varint)
		}
	}
	r.invalid = d.err
	return nil
}

// wireMessage reads the message from start to the end of data. text begins with the same bytes as data. An error says
// that the encoding is malformed, d.err that a value is not known.
func (d *decoder) wireMessage(m *Message, data []byte, text string, start int) error {
	var kind, conversation int32
	for at := start; at < len(data); {
		f, err := nextField(data, at)
		if err != nil {
			return err
		}
		at = f.end
		switch f.tag {
		case uint64(messageTenant):
			m.Tenant, err = f.text(text)
		case uint64(messageID):
			m.ID, err = f.text(text)
		case uint64(messageConversation):
			err = wireConversation(&conversation, &m.Conversation.ID, data[:f.end], text, f.start)
		case uint64(messageSender):
			m.Sender, err = f.text(text)
		case uint64(messageType):
			kind = int32(f.varint)
		case uint64(messageSentAt):
			m.SentAt = decodeTime(int64(f.varint))
		case uint64(messageAttachments):
			m.Attachments, err = f.appendText(m.Attachments, text)
		case uint64(messageLabels):
			m.Labels, err = f.appendText(m.Labels, text)
		}
		if err != nil {
			return err
		}
	}
	m.Conversation.Type = decodeEnum(d, conversationTypes, "conversation.type", recallv1.ConversationType(conversation))
	m.Type = decodeEnum(d, messageTypes, "type", recallv1.MessageType(kind))
	return nil
}

func wireConversation(kind *int32, id *string, data []byte, text string, start int) error {
	for at := start; at < len(data); {
		f, err := nextField(data, at)
		if err != nil {
			return err
		}
		at = f.end
		switch f.tag {
		case uint64(conversationType):
			*kind = int32(f.varint)
		case uint64(conversationID):
			if *id, err = f.text(text); err != nil {
				return err
			}
		}
	}
	return nil
}

// wireField is one field of an encoded message. It holds offsets and no slices: writing pointers took half of the time
// while the garbage collector ran.
type wireField struct {
	tag        uint64 // number and wire type
	varint     uint64 // of a varint
	start, end int    // of a text or nested message; every field ends at end
}

// nextField reads the field at an offset of data.
func nextField(data []byte, at int) (f wireField, err error) {
	size := 1
	if f.tag = uint64(data[at]); f.tag >= 0x80 {
		if f.tag, size = protowire.ConsumeVarint(data[at:]); size < 0 {
			return f, protowire.ParseError(size)
		}
	}
	number, kind := f.tag>>3, protowire.Type(f.tag&7)
	if number < uint64(protowire.MinValidNumber) || number > uint64(protowire.MaxValidNumber) {
		return f, fmt.Errorf("there is no field number %d", number)
	}
	at += size
	switch kind {
	case protowire.VarintType:
		f.varint, size = protowire.ConsumeVarint(data[at:])
	case protowire.BytesType:
		var length uint64
		length, size = protowire.ConsumeVarint(data[at:])
		if f.start = at + size; size >= 0 {
			if length > uint64(len(data)-f.start) {
				return f, io.ErrUnexpectedEOF
			}
			size += int(length)
		}
	default:
		size = protowire.ConsumeFieldValue(protowire.Number(number), kind, data[at:])
	}
	if size < 0 {
		return f, protowire.ParseError(size)
	}
	f.end = at + size
	return f, nil
}

var errNoText = errors.New("a text is not valid UTF-8")

// text is the value of a text field; all is the whole encoded request.
func (f *wireField) text(all string) (string, error) {
	s := all[f.start:f.end]
	if !utf8.ValidString(s) {
		return "", errNoText
	}
	return s, nil
}

func (f *wireField) appendText(list []string, all string) ([]string, error) {
	s, err := f.text(all)
	return append(list, s), err
}

// response is the answer of the plugin. It is compact if the host asked for that and the results are those of the
// messages, in their order. Others go in full, so that the host can name what is wrong.
func (r *indexRequest) response(results []IndexResult, err error) (*recallv1.IndexResponse, error) {
	if err != nil {
		return nil, toStatus(err)
	}
	inOrder := slices.EqualFunc(results, r.messages, func(r IndexResult, m Message) bool { return r.MessageID == m.ID })
	if !r.compact || !inOrder {
		return &recallv1.IndexResponse{Results: mapSlice(results, encodeIndexResult)}, nil
	}
	return &recallv1.IndexResponse{Statuses: mapSlice(results, func(r IndexResult) byte {
		return byte(indexStatuses.number[r.Status])
	})}, nil
}

// results reads the answer of the plugin. One that does not know compact answers with results.
func (r *indexRequest) results(resp *recallv1.IndexResponse) ([]IndexResult, error) {
	d := decoder{}
	idOf := func(i int) string { return r.messages[i].ID }
	if len(resp.GetStatuses()) == 0 {
		return answers(&d, idOf, len(r.messages), resp.GetResults(), d.indexResult,
			func(r *IndexResult) string { return r.MessageID })
	}
	if got := len(resp.GetStatuses()); got != len(r.messages) {
		return nil, badAnswer(fmt.Errorf("%d statuses for %d messages", got, len(r.messages)))
	}
	results := make([]IndexResult, len(r.messages))
	for i, number := range resp.GetStatuses() {
		results[i] = IndexResult{idOf(i), decodeEnum(&d, indexStatuses, "statuses", recallv1.IndexStatus(number))}
	}
	if d.err != nil {
		return nil, badAnswer(d.err)
	}
	return results, nil
}
