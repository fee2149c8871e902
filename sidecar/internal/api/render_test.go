package api

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
)

// messages are all messages of the API.
func messages() (all []protoreflect.MessageType) {
	file := (&v1.Event{}).ProtoReflect().Descriptor().ParentFile()
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		for _, known := range []proto.Message{&v1.IndexResponse{}, &v1.RecallResponse{},
			&v1.ExplainResponse{}, &v1.StatusResponse{}, &v1.EventPage{}, &v1.LedgerPage{},
			&v1.TakeResponse{}, &v1.SettleResponse{}, &v1.StateResponse{}, &v1.Event{}} {
			if known.ProtoReflect().Descriptor() == m {
				all = append(all, known.ProtoReflect().Type())
			}
		}
	}
	return all
}

// renders compares render with protojson.
func renders(t *testing.T, m proto.Message) {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	text, ok := render(nil, data, m.ProtoReflect().Descriptor())
	want, err := toJSON.Marshal(m)
	if err != nil {
		if ok {
			t.Errorf("it is %s, and protojson says %v", text, err)
		}
		return
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, want); err != nil { // protojson puts blanks here and there
		t.Fatal(err)
	}
	if !ok || string(text) != compact.String() {
		t.Errorf("it is %t %s\nand protojson says %s", ok, text, &compact)
	}
}

// fillMessage sets every field, however deep.
func fillMessage(m protoreflect.Message, n int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		value := func() protoreflect.Value {
			n++
			switch f.Kind() {
			case protoreflect.StringKind:
				return protoreflect.ValueOfString([]string{"text", "", "\"\\\b\f\n\r\t\x01\x7fü😀<&>\u2028"}[n%3])
			case protoreflect.BoolKind:
				return protoreflect.ValueOfBool(n%2 == 0)
			case protoreflect.Int32Kind:
				return protoreflect.ValueOfInt32(int32(n%5-2) * 1_000_000)
			default:
				return protoreflect.Value{}
			}
		}
		switch {
		case f.IsMap():
			for _, key := range []string{"zh-Hans", "en", ""} {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString(key).MapKey(), protoreflect.ValueOfString("text "+key))
			}
		case f.IsList() && f.Message() != nil:
			for range 2 {
				fillMessage(m.Mutable(f).List().AppendMutable().Message(), n)
			}
		case f.IsList():
			m.Mutable(f).List().Append(value())
			m.Mutable(f).List().Append(value())
		case f.Message() != nil && f.Message().FullName() == "google.protobuf.Timestamp":
			at := time.Date(1+n%9999, 12, 31, 23, 59, 59, []int{0, 1, 1000, 1_000_000, 120_000_000, 999_999_999}[n%6], time.UTC)
			m.Set(f, protoreflect.ValueOfMessage(timestamppb.New(at).ProtoReflect()))
		case f.Message() != nil && f.Message().FullName() == "google.protobuf.Duration":
			d := []time.Duration{0, 1, -1500 * time.Millisecond, time.Hour, -time.Nanosecond}[n%5]
			m.Set(f, protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()))
		case f.Message() != nil:
			fillMessage(m.Mutable(f).Message(), n)
		default:
			m.Set(f, value())
		}
		n++
	}
}

func TestRender_EveryResponse(t *testing.T) {
	all := messages()
	if len(all) < 10 {
		t.Fatalf("%d messages", len(all))
	}
	for _, kind := range all {
		renders(t, kind.New().Interface())
		for n := range 60 {
			m := kind.New()
			fillMessage(m, n)
			renders(t, m.Interface())
		}
	}
}

func TestRender_Unusual(t *testing.T) {
	at := func(seconds int64, nanos int32) proto.Message {
		return &v1.Event{RecalledAt: &timestamppb.Timestamp{Seconds: seconds, Nanos: nanos}}
	}
	for _, m := range []proto.Message{
		at(0, 0), at(-62135596800, 0), at(-62135596801, 0), at(253402300799, 999999999), at(253402300800, 0), at(0, -1),
		at(0, 1_000_000_000), at(-1, 5),
		&v1.Event{Retention: &durationpb.Duration{Seconds: 1, Nanos: -1}},
		&v1.Event{Retention: &durationpb.Duration{Seconds: 315576000001}},
		&v1.Event{Retention: &durationpb.Duration{Seconds: -5, Nanos: -10}},
		&v1.RecallResponse{Results: []*v1.RecallResult{nil, {}, {Text: map[string]string{}}}},
	} {
		renders(t, m)
	}
	// An encoder that is not ours may put the entries of a list apart.
	apart, err := proto.Marshal(&v1.Conversation{Type: "group"})
	if err != nil {
		t.Fatal(err)
	}
	apart = append(append(apart, 0x12, 1, 'g'), apart...)
	if text, ok := render(nil, apart, (&v1.Conversation{}).ProtoReflect().Descriptor()); ok {
		t.Errorf("a field that comes twice is %s", text)
	}
}

func FuzzRender(f *testing.F) {
	for i, kind := range messages() {
		m := kind.New()
		fillMessage(m, i)
		data, err := proto.Marshal(m.Interface())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range messages() {
			m := kind.New().Interface()
			if proto.Unmarshal(data, m) != nil || refuseUnknown(m.ProtoReflect(), "") != nil {
				continue
			}
			renders(t, m)
		}
	})
}

func BenchmarkJSON_Marshal(b *testing.B) {
	var r v1.IndexResponse
	for range 100 {
		one := shared.IndexResult{MessageID: "message-1", Status: shared.IndexAdded}
		r.Results = append(r.Results, encodeIndexResult(one))
	}
	for b.Loop() {
		if text, err := (JSON{}).Marshal(&r); err != nil || !strings.HasPrefix(string(text), "{") {
			b.Fatal(err)
		}
	}
}
