package api

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/chat-recall/recall/shared"
)

// JSON is the JSON of every protocol: the field names of recall.proto, and every field that is not a message is present
// in a response. A request with an unknown field is refused.
type JSON struct{ Type string }

// Name implements [connect.Codec].
func (c JSON) Name() string { return c.Type }

var toJSON = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// Marshal implements [connect.Codec].
func (JSON) Marshal(m any) ([]byte, error) {
	from := m.(proto.Message)
	if data, err := proto.Marshal(from); err == nil {
		if text, ok := render(make([]byte, 0, 2*len(data)), data, from.ProtoReflect().Descriptor()); ok {
			return text, nil
		}
	}
	return toJSON.Marshal(from)
}

// Unmarshal implements [connect.Codec]. If the text is not a request of this kind, the error is a [*shared.FieldError].
func (JSON) Unmarshal(text []byte, m any) error {
	into := m.(proto.Message)
	if bytes.Count(text, []byte{','}) > maxValues {
		return tooManyValues()
	}
	if data, ok := transcode(text, into.ProtoReflect().Descriptor()); ok && proto.Unmarshal(data, into) == nil {
		return nil
	}
	err := protojson.Unmarshal(text, into)
	if err == nil {
		return nil
	}
	return jsonProblem(text, into.ProtoReflect().Descriptor(), err)
}

// Binary is protobuf. A request with an unknown field is refused.
type Binary struct{}

// Name implements [connect.Codec].
func (Binary) Name() string { return "proto" }

// Marshal implements [connect.Codec].
func (Binary) Marshal(m any) ([]byte, error) { return proto.Marshal(m.(proto.Message)) }

// Unmarshal implements [connect.Codec].
func (Binary) Unmarshal(data []byte, m any) error {
	into := m.(proto.Message)
	if countValues(data, into.ProtoReflect().Descriptor()) > maxValues {
		return tooManyValues()
	}
	if err := proto.Unmarshal(data, into); err != nil {
		return err
	}
	return refuseUnknown(into.ProtoReflect(), "")
}

// maxValues bounds the values of a request, which may take a hundred times their bytes in memory. It is above what a
// call of Index with the most messages, attachments and labels has.
const maxValues = shared.MaxIndexBatch * (3*shared.MaxAttachments + shared.MaxLabels + 20)

func tooManyValues() error {
	return &shared.FieldError{Field: "body", Problem: fmt.Sprintf("has more than %d values", maxValues)}
}

// countValues counts the fields of a message, however deep. What is malformed ends the count, and the decoding.
func countValues(data []byte, m protoreflect.MessageDescriptor) (n int) {
	for len(data) > 0 {
		number, kind, size := protowire.ConsumeTag(data)
		if size < 0 {
			return n
		}
		data = data[size:]
		if size = protowire.ConsumeFieldValue(number, kind, data); size < 0 {
			return n
		}
		n++
		if f := m.Fields().ByNumber(number); f != nil && f.Message() != nil && kind == protowire.BytesType {
			inner, _ := protowire.ConsumeBytes(data)
			n += countValues(inner, f.Message())
		}
		data = data[size:]
	}
	return n
}

// refuseUnknown refuses a message with a field that its type does not have, however deep.
func refuseUnknown(m protoreflect.Message, path string) (err error) {
	if raw := m.GetUnknown(); len(raw) > 0 {
		number, _, _ := protowire.ConsumeTag(raw)
		return &shared.FieldError{Field: path + fmt.Sprint(number), Problem: "is the number of a field that " +
			string(m.Descriptor().Name()) + " does not have: the sidecar is older than its client"}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = refuseUnknown(v.List().Get(i).Message(), fmt.Sprintf("%s%s[%d].", path, f.Name(), i))
			}
		default:
			err = refuseUnknown(v.Message(), path+string(f.Name())+".")
		}
		return err == nil
	})
	return err
}
