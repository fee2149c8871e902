package api

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1 "github.com/chat-recall/recall/sidecar/apiv1"
)

// requests are one of each kind that has a body of some size.
func requests() []proto.Message {
	return []proto.Message{&v1.IndexRequest{}, &v1.AmendRequest{}, &v1.RecallRequest{}, &v1.StatusRequest{},
		&v1.SinceRequest{}, &v1.LedgerRequest{}, &v1.TakeRequest{}, &v1.SettleRequest{}, &v1.UpgradeRequest{}}
}

const indexJSON = `{"messages":[{"tenant":"t","id":"m1","conversation":{"type":"group","id":"g"},"sender":"ann",` +
	`"type":"text","sent_at":"2026-11-26T10:00:00.123456789Z","attachments":[{"key":"k","owner":"o"},{"key":"l"}],` +
	`"labels":["a","b"],"ref":"r","relations":[]}, {} ]}`

var usualRequests = map[string]proto.Message{
	indexJSON: &v1.IndexRequest{},
	`{"tenant":"t","targets":[{"message_id":"m","conversation":{"type":"group","id":"g"},"role":"member","labels":["x"],` +
		`"message":{"id":"m","sent_at":"2026-11-26T10:00:00+08:00"}}],"actor":{"id":"ann","labels":[]},"recall_id":"r",` +
		`"ext":"{}","reason":"` + strings.Repeat("why ", 100) + `","requested_at":"0001-01-01T00:00:00Z","atomic":true}`: &v1.
		RecallRequest{},
	`{"tenant":"t","ids":["a","b","ü"]}`: &v1.StatusRequest{},
	" {\n\t\"steps\" : [ \"notify\" ] , \"max\" : 100 , \"wait\" : \"0s\" ," +
		" \"settle\" : [ { \"id\" : \"i\" } ] }\r\n": &v1.TakeRequest{},
	`{"tenant":"t","recall_id":"r","after":"","limit":0}`:                           &v1.LedgerRequest{},
	`{"amendments":[{"message_id":"m","ref":"","clear":["labels"]},{"labels":[]}]}`: &v1.AmendRequest{},
	`{"atomic":false}`: &v1.RecallRequest{},
	`{}`:               &v1.SinceRequest{},
}

func TestTranscode_UsualRequests(t *testing.T) {
	for text, into := range usualRequests {
		data, ok := transcode([]byte(text), into.ProtoReflect().Descriptor())
		if !ok {
			t.Errorf("not transcoded: %s", text)
			continue
		}
		agrees(t, text, data, into)
	}
}

// agrees compares what transcode made of a text with protojson.
func agrees(t *testing.T, text string, data []byte, into proto.Message) {
	t.Helper()
	want := into.ProtoReflect().New().Interface()
	if err := protojson.Unmarshal([]byte(text), want); err != nil {
		if proto.Unmarshal(data, into) == nil { // it finds what is not UTF-8
			t.Errorf("%s is transcoded, and protojson says %v", text, err)
		}
		return
	}
	if err := proto.Unmarshal(data, into); err != nil || !proto.Equal(into, want) {
		t.Errorf("%s is %v, and protojson says %v; %v", text, into, want, err)
	}
}

func FuzzTranscode(f *testing.F) {
	for text := range usualRequests {
		f.Add(text)
	}
	for _, text := range []string{
		`{"tenant":null}`, `{"tenant":"t","tenant":"t"}`, `{"limit":1e2}`, `{"limit":-1}`, `{"limit":01}`, `{"limit":"1"}`,
		`{"recallId":"r"}`, `{"recall_id":"\u0041"}`, "{\"tenant\":\"\xff\"}", "{\"tenant\":\"\n\"}", `{"tenant":"t"}x`,
		`{"tenant":"t",}`,
		`{"requested_at":"2026-11-26T10:00:00,5Z"}`, `{"requested_at":"2026-11-26T10:00:00.1234567891Z"}`,
		`{"requested_at":"0000-12-31T23:59:59Z"}`, `{"requested_at":"9999-12-31T23:59:59-01:00"}`, `{"requested_at":{}}`,
		`{"limit":2147483647}`, `{"limit":999999999}`, `{"atomic":truefalse}`, `[]`, ``, `{"ids":["a",]}`,
		`{"ids":[[]]}`, `{"ids":"a"}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, into := range requests() {
			if data, ok := transcode([]byte(text), into.ProtoReflect().Descriptor()); ok {
				agrees(t, text, data, into)
			}
		}
	})
}

func TestJSON_Unmarshal(t *testing.T) {
	t.Run("reads what transcode does not know", func(t *testing.T) {
		for _, text := range []string{`{"tenant":"\u0041","recallId":"r","limit":1e1,"after":null}`,
			`{"tenant":"` + strings.Repeat("A", maxTranscoded) + `"}`} {
			var got v1.LedgerRequest
			if err := (JSON{}).Unmarshal([]byte(text), &got); err != nil || got.Tenant[0] != 'A' {
				t.Errorf("%.80s is %.80s, %v", text, got.String(), err)
			}
		}
	})
	t.Run("refuses text that is not UTF-8", func(t *testing.T) {
		var got v1.LedgerRequest
		if err := (JSON{}).Unmarshal([]byte("{\"tenant\":\"\xff\"}"), &got); err == nil {
			t.Errorf("it is %v", &got)
		}
	})
}

func BenchmarkJSON_Unmarshal(b *testing.B) {
	one := indexJSON[len(`{"messages":[`) : len(indexJSON)-len(`, {} ]}`)]
	text := []byte(`{"messages":[` + strings.TrimSuffix(strings.Repeat(one+",", 100), ",") + `]}`)
	for b.Loop() {
		var r v1.IndexRequest
		if err := (JSON{}).Unmarshal(text, &r); err != nil || len(r.Messages) != 100 {
			b.Fatal(err)
		}
	}
}
