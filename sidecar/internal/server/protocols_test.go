package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/apiv1/apiv1connect"
	"github.com/chat-recall/recall/sidecar/internal/calls"
	"github.com/chat-recall/recall/sidecar/internal/npm"
)

// client is an HTTP client of the unix socket, with HTTP/2 as gRPC needs it.
func (r *rig) client(http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{Transport: &http.Transport{Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", r.socket)
		}}}
}

func group() *v1.Conversation { return &v1.Conversation{Type: "group", Id: "g"} }

func message(id string) *v1.Message {
	return &v1.Message{Tenant: "acme", Id: id, Conversation: group(), Sender: "ann", Type: "text",
		SentAt: timestamppb.Now(), Attachments: []*v1.Attachment{{Key: "files/" + id}}, Ref: "row " + id}
}

func recallOf(id string) *v1.RecallRequest {
	return &v1.RecallRequest{Tenant: "acme", Actor: &v1.Actor{Id: "ann"}, RecallId: "r-" + id, Ext: `{"n":1}`,
		Targets: []*v1.Target{{MessageId: id, Conversation: group(), Role: "member"}}}
}

func TestServer_Protocols(t *testing.T) {
	r := opened(t, nil)
	for name, c := range map[string]struct {
		http2   bool
		options []connect.ClientOption
	}{
		"connect":      {},
		"connect json": {options: []connect.ClientOption{connect.WithProtoJSON()}},
		"grpc":         {true, []connect.ClientOption{connect.WithGRPC()}},
		"grpc-web":     {options: []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, id := t.Context(), strings.ReplaceAll(name, " ", "-")
			rpc := apiv1connect.NewRecallServiceClient(r.client(c.http2), "http://localhost", c.options...)
			steps := apiv1connect.NewStepServiceClient(r.client(c.http2), "http://localhost", c.options...)
			indexed, err := rpc.Index(ctx, &v1.IndexRequest{Messages: []*v1.Message{message(id), {Tenant: "acme"}}})
			if err != nil || indexed.Results[0].Status != "indexed" || indexed.Results[1].Status != "invalid" {
				t.Fatal(indexed, err)
			}
			checked, err := rpc.Check(ctx, recallOf(id))
			if err != nil || checked.Results[0].Status != "recalled" ||
				!checked.Results[0].Until.AsTime().After(checked.Now.AsTime()) {
				t.Fatal(checked, err)
			}
			recalled, err := rpc.Recall(ctx, recallOf(id))
			if err != nil || recalled.Results[0].Status != "recalled" || recalled.Results[0].RecallId != "r-"+id {
				t.Fatal(recalled, err)
			}
			again, err := rpc.Recall(ctx, recallOf(id))
			if err != nil || again.Results[0].Status != "recalled" {
				t.Fatal(again, err)
			}
			taken, err := steps.Take(ctx, &v1.TakeRequest{Steps: []string{"history"}, Wait: "10s"})
			if err != nil || len(taken.Deliveries) != 1 {
				t.Fatal(taken, err)
			}
			d := taken.Deliveries[0]
			if e := d.Event; d.Step != "history" || d.Attempt != 1 || e.Message.Ref != "row "+id || e.Ext != `{"n":1}` ||
				e.Attachments[0].Key != "files/"+id || e.Key == "" || !strings.HasPrefix(d.Id, e.Key+":history:") {
				t.Errorf("%v", d)
			}
			settled, err := steps.Settle(ctx, &v1.SettleRequest{Settle: []*v1.Settlement{{Id: d.Id, Outcome: "done"}}})
			if err != nil || len(settled.Late) > 0 {
				t.Fatal(settled, err)
			}
			ledger, err := rpc.Ledger(ctx, &v1.LedgerRequest{Tenant: "acme", RecallId: "r-" + id})
			if err != nil || len(ledger.Entries) != 1 || ledger.Entries[0].Event.Key != d.Event.Key {
				t.Fatal(ledger, err)
			}
			for _, s := range ledger.Entries[0].Steps {
				if want := map[string]string{"history": "done"}[s.Step]; s.Outcome != want && s.Outcome != "unsupported" {
					t.Errorf("%v", s)
				}
			}
			_, err = rpc.Status(ctx, &v1.StatusRequest{Tenant: "acme", Ids: []string{""}})
			var ours *connect.Error
			if connect.CodeOf(err) != connect.CodeInvalidArgument || !errors.As(err, &ours) || len(ours.Details()) != 1 {
				t.Errorf("%v", err)
			}
		})
	}
}

// A field that this sidecar does not know is refused in every encoding, however deep.
func TestServer_UnknownField(t *testing.T) {
	r := opened(t, nil)
	unknown := func(m proto.Message) {
		m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1))
	}
	top, deep := recallOf("m"), recallOf("m")
	unknown(top)
	unknown(deep.Targets[0].Conversation)
	for field, req := range map[string]*v1.RecallRequest{"999": top, "targets[0].conversation.999": deep} {
		for name, rpc := range map[string]apiv1connect.RecallServiceClient{
			"grpc":    apiv1connect.NewRecallServiceClient(r.client(true), "http://localhost", connect.WithGRPC()),
			"connect": apiv1connect.NewRecallServiceClient(r.client(false), "http://localhost"),
		} {
			_, err := rpc.Recall(t.Context(), req)
			if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(fmt.Sprint(err), field) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// The client of another implementation: health, a call and its refusals with grpc-go.
func TestServer_GRPC(t *testing.T) {
	r := newRig(t, nil)
	c, err := grpc.NewClient("unix:"+r.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	health := grpc_health_v1.NewHealthClient(c)
	serving := func() string {
		answer, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: apiv1connect.RecallServiceName})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Status.String()
	}
	if s := serving(); s != "NOT_SERVING" {
		t.Error(s)
	}
	r.open(t)
	if s := serving(); s != "SERVING" {
		t.Error(s)
	}
	var out v1.StatusResponse
	method := "/" + apiv1connect.RecallServiceName + "/Status"
	if err := c.Invoke(t.Context(), method, &v1.StatusRequest{Tenant: "acme", Ids: []string{"m"}}, &out); err != nil ||
		out.Results[0].State != "unknown" {
		t.Error(err)
	}
	tcp, err := grpc.NewClient(r.tcp.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	err = tcp.Invoke(t.Context(), method, &v1.StatusRequest{}, &out)
	if !strings.Contains(fmt.Sprint(err), "Unauthenticated") {
		t.Error(err)
	}
}

func TestServer_Reflection(t *testing.T) {
	r := opened(t, nil)
	stream := grpcreflect.NewClient(r.client(true), "http://localhost", connect.WithGRPC()).NewStream(t.Context())
	defer stream.Close()
	names, err := stream.ListServices()
	if err != nil || !slices.Contains(names, "recall.api.v1.AdminService") {
		t.Fatal(names, err)
	}
	files, err := stream.FileContainingSymbol("recall.api.v1.RecallService")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
}

func TestServer_IdempotencyKey(t *testing.T) {
	r := opened(t, nil)
	var indexed, out struct {
		Results []struct {
			Status   string `json:"status"`
			RecallID string `json:"recall_id"`
		} `json:"results"`
	}
	now := time.Now().UTC().Format(time.RFC3339)
	r.post(t, "/v1/index", "",
		`{"messages":[{"tenant":"acme","id":"m","conversation":{"type":"group","id":"g"},"sender":"ann",`+
			`"type":"text","sent_at":"`+now+`"}]}`, &indexed)
	body := `{"tenant":"acme","actor":{"id":"ann"},"targets":[{"message_id":"m","conversation":{"type":"group","id":"g"}}]`
	for range 2 {
		r.post(t, "/v1/recall", "Idempotency-Key: key-1\r\n", body+"}", &out)
		if out.Results[0].Status != "recalled" || out.Results[0].RecallID != "key-1" {
			t.Errorf("%+v", out)
		}
	}
	r.post(t, "/v1/recall", "Idempotency-Key: key-2\r\n", body+`,"recall_id":"key-1"}`, &out)
	if out.Results[0].Status != "recalled" || out.Results[0].RecallID != "key-1" {
		t.Errorf("the field counts before the header: %+v", out)
	}
	rpc := apiv1connect.NewRecallServiceClient(r.client(true), "http://localhost", connect.WithGRPC())
	req := recallOf("m")
	req.RecallId = ""
	ctx, info := connect.NewClientContext(t.Context())
	info.RequestHeader().Set("Idempotency-Key", "key-1")
	if answer, err := rpc.Recall(ctx, req); err != nil || answer.Results[0].Status != "recalled" {
		t.Error(answer, err)
	}
}

// openapi.json is a valid document of OpenAPI 3.1 and describes every call.
func TestOpenAPI(t *testing.T) {
	r := opened(t, nil)
	a := r.raw(t, "unix", "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if a.StatusCode != 200 || !bytes.Equal(a.text, v1.OpenAPI) {
		t.Fatal(a.Status)
	}
	var doc struct {
		Paths map[string]any
	}
	if err := json.Unmarshal(a.text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, c := range calls.All {
		delete(doc.Paths, c.HTTP())
	}
	if rest := slices.Sorted(maps.Keys(doc.Paths)); !slices.Equal(rest,
		[]string{"/healthz", "/metrics", "/openapi.json", "/readyz"}) {
		t.Error(rest)
	}
	node, dir := npm.Require(t)
	check := exec.CommandContext(t.Context(), node, "--input-type=module", "-e", `
		import { readFileSync } from "node:fs";
		import { Validator } from "@seriousme/openapi-schema-validator";
		const validator = new Validator();
		const result = await validator.validate(JSON.parse(readFileSync(0, "utf8")));
		if (!result.valid || validator.version !== "3.1") { console.error(validator.version,
			JSON.stringify(result.errors)); process.exit(1); }
	`)
	check.Dir, check.Stdin = dir, bytes.NewReader(a.text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestServer_Metrics(t *testing.T) {
	r := opened(t, nil)
	for _, path := range []string{"/v1/status", "/v1/status", "/v1/unknown", "/v1/steps/take/../index"} {
		r.raw(t, "unix", request(path, "", status))
	}
	r.raw(t, "unix", request("/v1/status", "Origin: x\r\n", status))
	a := r.raw(t, "unix", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
	for _, want := range []string{
		`recall_sidecar_request_seconds_count{path="/v1/status",status="200"} 2`,
		`recall_sidecar_request_seconds_count{path="other",status="404"} 1`,
		`recall_sidecar_refused_total{reason="origin"} 1`, `recall_sidecar_refused_total{reason="token"} 0`,
		`recall_sidecar_pulled_steps{state="waiting",step="history"} 0`, `recall_host_plugin_running 1`,
		"recall_sidecar_in_flight 1",
	} {
		if !strings.Contains(string(a.text), want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", a.text)
	}
}

// A worker that is gone before it could read its deliveries keeps none of them.
func TestServer_WorkerGone(t *testing.T) {
	r := opened(t, nil)
	for range 20 {
		c := r.dial(t, "unix")
		if _, err := io.WriteString(c, request("/v1/steps/take", "", `{"wait":"20s"}`)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	ctx := t.Context()
	rpc := apiv1connect.NewRecallServiceClient(r.client(true), "http://localhost", connect.WithGRPC())
	if _, err := rpc.Index(ctx, &v1.IndexRequest{Messages: []*v1.Message{message("gone")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.Recall(ctx, recallOf("gone")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var out struct{ Deliveries []shared.Delivery }
	r.post(t, "/v1/steps/take", "", `{"wait":"20s"}`, &out)
	if len(out.Deliveries) != 1 || time.Since(began) > 15*time.Second {
		t.Errorf("%+v after %s", out, time.Since(began))
	}
}
