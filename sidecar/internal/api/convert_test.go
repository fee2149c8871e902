package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/internal/pull"
)

// fill sets every field of v, however deep, to a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, *n*1000, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		key.SetString("en")
		fill(value, n)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	default:
		if v.Type() == reflect.TypeFor[time.Duration]() {
			*n = *n + 1
			v.SetInt(int64(*n) * int64(time.Second))
			return
		}
		v.SetInt(int64(*n))
	}
}

// leaves lists the values of a JSON text by path.
func leaves(t *testing.T, text []byte) map[string]string {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, one := range v {
				walk(path+"."+k, one)
			}
		case []any:
			for i, one := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), one)
			}
		default:
			out[path] = fmt.Sprint(v)
			if at, err := time.Parse(time.RFC3339Nano, out[path]); err == nil { // written with more or fewer zeros
				out[path] = at.String()
			}
		}
	}
	walk("", v)
	return out
}

// same compares the JSON of the contract with that of the API. different are the paths that differ on purpose.
func same(t *testing.T, contract any, api proto.Message, different ...string) {
	t.Helper()
	text, err := json.Marshal(contract)
	if err != nil {
		t.Fatal(err)
	}
	want := leaves(t, text)
	if text, err = toJSON.Marshal(api); err != nil {
		t.Fatal(err)
	}
	got := leaves(t, text)
	for _, path := range different {
		if _, there := want[path]; !there && got[path] == "" {
			t.Errorf("%T has no %s", contract, path)
		}
		delete(want, path)
		delete(got, path)
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got[path] != want[path] {
			t.Errorf("%T: %s is %q, want %q", contract, path, got[path], want[path])
		}
		delete(got, path)
	}
	for path, value := range got {
		if value != "" && value != "0" && value != "false" {
			t.Errorf("%T has no %s: %q", contract, path, value)
		}
	}
}

func filled[T any]() (v T) {
	n := 0
	fill(reflect.ValueOf(&v).Elem(), &n)
	return v
}

// Whatever the contract says is in the API under the same name.
func TestEncode_NothingLost(t *testing.T) {
	e := filled[shared.Event]()
	same(t, e, encodeEvent(e), ".key", ".sequence", ".retention")
	if got := encodeEvent(e); got.Key != e.Key() || got.Retention.AsDuration() != e.Retention {
		t.Errorf("%v", got)
	}
	r := filled[shared.RecallResult]()
	same(t, r, encodeRecallResult(r))
	i := filled[shared.IndexResult]()
	same(t, i, encodeIndexResult(i))
	m := filled[shared.MessageStatus]()
	same(t, m, encodeStatus(m))
	l := filled[shared.LedgerEntry]()
	same(t, l, encodeLedgerEntry(l), ".event.key", ".event.sequence", ".event.retention")
	x := filled[shared.Explanation]()
	for i := range x.Rules { // the contract has the fields of the rule beside the others
		x.Rules[i].Rule = shared.Rule{}
	}
	same(t, x, encodeExplanation(x))
	j := filled[shared.Job]()
	same(t, j, encodeJob(j))
	s := filled[host.State]()
	same(t, s, encodeState(s), ".index.version")
}

func TestDecode_NothingLost(t *testing.T) {
	m := filled[shared.Message]()
	if got := decodeMessage(encodeMessage(&m)); !reflect.DeepEqual(got, m) {
		t.Errorf("%+v, want %+v", got, m)
	}
	j := filled[shared.Job]()
	if got := decodeJob(encodeJob(j).Request); !reflect.DeepEqual(got, j.Request) {
		t.Errorf("%+v, want %+v", got, j.Request)
	}
	want := filled[shared.RecallRequest]()
	want.Held = 0 // of the host
	req := &v1.RecallRequest{
		Tenant: want.Tenant, Actor: &v1.Actor{Id: want.Actor.ID, Labels: want.Actor.Labels}, RecallId: want.RecallID,
		Ext: want.Ext, Reason: want.Reason, RequestedAt: encodeTime(want.RequestedAt), Atomic: true,
		Wait: durationpb.New(want.Wait),
	}
	for _, target := range want.Targets {
		req.Targets = append(req.Targets, &v1.Target{MessageId: target.MessageID, Role: string(target.Role),
			Conversation: encodeConversation(target.Conversation), Labels: target.Labels,
			Message: encodeMessage(target.Message)})
	}
	if got := decodeRecall(req); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestDecodeAmendment(t *testing.T) {
	for _, c := range []struct {
		text  string
		want  shared.Amendment
		field string
	}{
		{`{"tenant":"a","message_id":"m"}`, shared.Amendment{Tenant: "a", MessageID: "m"}, ""},
		{`{"labels":["x"],"ref":"","conversation":{"type":"group","id":"g"}}`, shared.Amendment{Labels: []string{"x"},
			Ref: new(string), Conversation: &shared.Conversation{Type: "group", ID: "g"}}, ""},
		{`{"clear":["labels","attachments"]}`, shared.Amendment{Labels: []string{}, Attachments: []shared.Attachment{}}, ""},
		{`{"clear":["labels","labels"]}`, shared.Amendment{}, "clear[1]"},
		{`{"labels":["x"],"clear":["labels"]}`, shared.Amendment{}, "clear[0]"},
		{`{"clear":["ref"]}`, shared.Amendment{}, "clear[0]"},
	} {
		var a v1.Amendment
		if err := (JSON{}).Unmarshal([]byte(c.text), &a); err != nil {
			t.Fatal(err)
		}
		got, wrong := decodeAmendment(&a)
		if c.field != "" {
			if wrong == nil || wrong.Field != c.field {
				t.Errorf("%s: %v", c.text, wrong)
			}
			continue
		}
		if wrong != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v; %v", c.text, got, c.want, wrong)
		}
	}
}

// FuzzJSON reads hostile requests. One that is refused names a field, in few words; one that is read reads the same
// again.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{
		`{}`, ``, `null`, `[]`, `{"tenant":"a","targets":[{"message_id":"m","message":{"attachments":[{"key":"k"}]}}]}`,
		`{"targets":[{"message":{"sent_at":"2026-01-31T12:00:00Z"}}],"atomic":true}`, `{"tenant":1}`, `{"x":[{"y":{}}]}`,
		`{"actor":{"labels":[null]}}`, `{"requested_at":"9999-99-99T00:00:00Z"}`, "{\"tenant\":\"\xff\"}",
		`{"tenant":"\ud800"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var req v1.RecallRequest
		if err := (JSON{}).Unmarshal(text, &req); err != nil {
			var field *shared.FieldError
			if !errors.As(err, &field) || field.Field == "" || field.Problem == "" || len(err.Error()) > 2000 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		again, err := JSON{}.Marshal(&req)
		if err != nil {
			t.Fatal(err)
		}
		var same v1.RecallRequest
		if err := (JSON{}).Unmarshal(again, &same); err != nil || !proto.Equal(&req, &same) {
			t.Fatalf("%q: %s, %v", text, again, err)
		}
	})
}

func TestError_Codes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("x: %w", shared.Invalidf("a.b", "is bad")), "invalid_argument: a.b: is bad"},
		{fmt.Errorf("x: %w", shared.ErrOverloaded), "resource_exhausted"},
		{shared.ErrUnavailable, "unavailable"},
		{shared.ErrUnimplemented, "unimplemented"},
		{fmt.Errorf("x: %w", shared.ErrDamaged), "data_loss"},
		{&shared.UpgradeError{Step: host.StepVerify, Cause: shared.ErrUnavailable}, "failed_precondition"},
		{&shared.ConfigError{Diagnostics: shared.Diagnostics{{Summary: "bad"}}}, "failed_precondition"},
		{errors.New("disk full"), "internal: disk full"},
	} {
		if got := Error(c.err).Error(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

// JSON has numbers of at most 32 bits: larger ones stay the largest, and do not become negative.
func TestEncode_LargeCounts(t *testing.T) {
	const large, most = math.MaxInt32 + 1, math.MaxInt32
	forgotten := encodeForget(shared.ForgetResult{Live: large, Recalled: large, Replaced: large, Waiting: large})
	for name, got := range map[string]int32{
		"live": forgotten.GetLive(), "recalled": forgotten.GetRecalled(), "replaced": forgotten.GetReplaced(),
		"waiting":  forgotten.GetWaiting(),
		"restarts": encodeState(host.State{Restarts: large}).GetRestarts(),
		"upgrades": encodeState(host.State{Upgrades: large}).GetUpgrades(),
		"attempts": encodeLedgerEntry(shared.LedgerEntry{Steps: []shared.StepRecord{{Attempts: large}}}).GetSteps()[0].
			GetAttempts(),
		"attempt": encodeLeased(pull.Leased{Delivery: shared.Delivery{Attempt: large}}).GetAttempt(),
	} {
		if got != most {
			t.Errorf("%s is %d", name, got)
		}
	}
}
