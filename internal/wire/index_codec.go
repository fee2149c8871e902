package wire

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// indexRequest is a recallv1.IndexRequest. It is encoded and decoded without the structs that protobuf generates, to
// the same bytes and values, because no other call carries as many messages.
type indexRequest struct {
	messages []shared.Message
	compact  bool
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
	messageRef          = 9<<3 | bytesField
	messageRelations    = 10<<3 | bytesField

	relationKind      = 1<<3 | varintField
	relationMessageID = 2<<3 | bytesField

	attachmentKey   = 1<<3 | bytesField
	attachmentOwner = 2<<3 | bytesField

	conversationType = 1<<3 | varintField
	conversationID   = 2<<3 | bytesField
)

// message is the request as protobuf has it.
func (r *indexRequest) message() proto.Message {
	return &recallv1.IndexRequest{Messages: mapSlice(r.messages, encodeMessage), Compact: r.compact}
}

// payload is the request on the wire. Its messages must have passed ValidateMessage, so that only lists, owners and
// refs may be empty.
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

// sizeType is the size of the field of a message type or conversation type: the values take one byte.
const sizeType = 2

// sizeBytes returns the size of a field with n bytes.
func sizeBytes(n int) int { return 1 + protowire.SizeBytes(n) }

func sizeTexts(list []string) (size int) {
	for _, s := range list {
		size += sizeBytes(len(s))
	}
	return size
}

func sizeConversation(c *shared.Conversation) int { return sizeType + sizeBytes(len(c.ID)) }

func sizeMessage(m *shared.Message) int {
	return sizeBytes(len(m.Tenant)) + sizeBytes(len(m.ID)) + sizeBytes(sizeConversation(&m.Conversation)) +
		sizeBytes(len(m.Sender)) + sizeType + 1 + protowire.SizeVarint(uint64(m.SentAt.UnixMicro())) +
		sizeAttachments(m.Attachments) + sizeTexts(m.Labels) + sizeOptional(m.Ref) + sizeRelations(m.Relations)
}

// sizeRelation returns the size of a relation: its kind takes one byte.
func sizeRelation(r *shared.Relation) int { return sizeType + sizeBytes(len(r.MessageID)) }

func sizeRelations(list []shared.Relation) (size int) {
	for i := range list {
		size += sizeBytes(sizeRelation(&list[i]))
	}
	return size
}

// sizeOptional returns the size of a text field that is omitted if it is empty.
func sizeOptional(s string) int {
	if s == "" {
		return 0
	}
	return sizeBytes(len(s))
}

func sizeAttachment(a *shared.Attachment) int { return sizeBytes(len(a.Key)) + sizeOptional(a.Owner) }

func sizeAttachments(list []shared.Attachment) (size int) {
	for i := range list {
		size += sizeBytes(sizeAttachment(&list[i]))
	}
	return size
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

func appendMessage(b []byte, m *shared.Message) []byte {
	b = appendText(b, messageTenant, m.Tenant)
	b = appendText(b, messageID, m.ID)
	b = appendVarint(b, messageConversation, uint64(sizeConversation(&m.Conversation)))
	b = append(b, conversationType, byte(conversationTypes.number[m.Conversation.Type]))
	b = appendText(b, conversationID, m.Conversation.ID)
	b = appendText(b, messageSender, m.Sender)
	b = append(b, messageType, byte(messageTypes.number[m.Type]))
	b = appendVarint(b, messageSentAt, uint64(m.SentAt.UnixMicro()))
	for i := range m.Attachments {
		a := &m.Attachments[i]
		b = appendVarint(b, messageAttachments, uint64(sizeAttachment(a)))
		b = appendText(b, attachmentKey, a.Key)
		b = appendOptional(b, attachmentOwner, a.Owner)
	}
	b = appendTexts(b, messageLabels, m.Labels)
	b = appendOptional(b, messageRef, m.Ref)
	for i := range m.Relations {
		r := &m.Relations[i]
		b = appendVarint(b, messageRelations, uint64(sizeRelation(r)))
		b = append(b, relationKind, byte(relationKinds.number[r.Kind]))
		b = appendText(b, relationMessageID, r.MessageID)
	}
	return b
}

func appendOptional(b []byte, field byte, s string) []byte {
	if s == "" {
		return b
	}
	return appendText(b, field, s)
}

// readIndexRequest reads the request of a call of Index. An error is a status.
func readIndexRequest(decode func(any) error) (*indexRequest, error) {
	req := &indexRequest{}
	if err := decode(req); err != nil {
		return nil, err
	}
	return req, nil
}

// decode reads the request from the wire. The texts of all messages share the memory of one string. As in protobuf, the
// last value of a field wins, lists grow, nested messages merge, and unknown fields are skipped.
func (r *indexRequest) decode(data []byte) error {
	text := string(data)
	r.messages = make([]shared.Message, 0, min(elements(data), shared.MaxIndexBatch))
	for at := 0; at < len(data); {
		f, err := nextField(data, at)
		if err != nil {
			return err
		}
		at = f.end
		switch f.tag {
		case uint64(requestMessages):
			r.messages = append(r.messages, shared.Message{})
			if err := wireMessage(&r.messages[len(r.messages)-1], data[:f.end], text, f.start); err != nil {
				return err
			}
		case uint64(requestCompact):
			r.compact = protowire.DecodeBool(f.varint)
		}
	}
	return nil
}

// wireMessage reads the message from start to the end of data. text begins with the same bytes as data. An error says
// that the encoding is malformed. A type that this version does not know is left empty: the message is then answered
// IndexInvalid.
func wireMessage(m *shared.Message, data []byte, text string, start int) error {
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
			m.Attachments = append(m.Attachments, shared.Attachment{})
			err = wireAttachment(&m.Attachments[len(m.Attachments)-1], data[:f.end], text, f.start)
		case uint64(messageLabels):
			m.Labels, err = f.appendText(m.Labels, text)
		case uint64(messageRef):
			m.Ref, err = f.text(text)
		case uint64(messageRelations):
			m.Relations = append(m.Relations, shared.Relation{})
			err = wireRelation(&m.Relations[len(m.Relations)-1], data[:f.end], text, f.start)
		}
		if err != nil {
			return err
		}
	}
	m.Conversation.Type = conversationTypes.word[recallv1.ConversationType(conversation)]
	m.Type = messageTypes.word[recallv1.MessageType(kind)]
	return nil
}

func wireAttachment(a *shared.Attachment, data []byte, text string, start int) error {
	for at := start; at < len(data); {
		f, err := nextField(data, at)
		if err != nil {
			return err
		}
		at = f.end
		switch f.tag {
		case uint64(attachmentKey):
			a.Key, err = f.text(text)
		case uint64(attachmentOwner):
			a.Owner, err = f.text(text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func wireRelation(r *shared.Relation, data []byte, text string, start int) error {
	for at := start; at < len(data); {
		f, err := nextField(data, at)
		if err != nil {
			return err
		}
		at = f.end
		switch f.tag {
		case uint64(relationKind):
			r.Kind = relationKinds.word[recallv1.RelationKind(f.varint)]
		case uint64(relationMessageID):
			if r.MessageID, err = f.text(text); err != nil {
				return err
			}
		}
	}
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

// wireField is one field of an encoded message. It holds offsets instead of slices: with slices, writing the pointers
// took half of the time while the garbage collector ran.
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

// response returns the answer of the plugin. It is compact if the host asked for that, the results are in the order of
// the messages, and none has more than a status. Otherwise the results are complete.
func (r *indexRequest) response(results []shared.IndexResult, err error) (*recallv1.IndexResponse, error) {
	if err != nil {
		return nil, toStatus(err)
	}
	inOrder := slices.EqualFunc(results, r.messages, func(r shared.IndexResult, m shared.Message) bool {
		return r.MessageID == m.ID && r.Status != shared.IndexInvalid && len(r.Related) == 0
	})
	if !r.compact || !inOrder {
		return &recallv1.IndexResponse{Results: mapSlice(results, encodeIndexResult)}, nil
	}
	return &recallv1.IndexResponse{Statuses: mapSlice(results, func(r shared.IndexResult) byte {
		return byte(indexStatuses.number[r.Status])
	})}, nil
}

// results reads the answer of the plugin. A plugin that does not know compact answers with complete results.
func (r *indexRequest) results(resp *recallv1.IndexResponse) ([]shared.IndexResult, error) {
	d := decoder{}
	idOf := func(i int) string { return r.messages[i].ID }
	if len(resp.GetStatuses()) == 0 {
		return answers(&d, idOf, len(r.messages), resp.GetResults(), d.indexResult,
			func(r *shared.IndexResult) string { return r.MessageID })
	}
	if got := len(resp.GetStatuses()); got != len(r.messages) {
		return nil, badAnswer(fmt.Errorf("%d statuses for %d messages", got, len(r.messages)))
	}
	results := make([]shared.IndexResult, len(r.messages))
	for i, number := range resp.GetStatuses() {
		results[i] = shared.IndexResult{
			MessageID: idOf(i), Status: decodeEnum(&d, indexStatuses, "statuses", recallv1.IndexStatus(number)),
		}
	}
	if d.err != nil {
		return nil, badAnswer(d.err)
	}
	return results, nil
}
