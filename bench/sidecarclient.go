package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/apiv1/apiv1connect"
)

// sidecarURL is that of every request: the unix socket says where it goes.
const sidecarURL = "http://localhost"

// unixClient is an HTTP client of a unix socket that keeps its connections. With http2 there is only one.
func unixClient(socket string, http2 bool) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{Transport: &http.Transport{
		Protocols: &protocols, MaxIdleConnsPerHost: 64, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
}

// jsonClient makes the calls of /v1. It is a [shared.Recall], except that its events have no sequence.
type jsonClient struct {
	http  *http.Client
	retry bool // what may succeed later, until the context of the call ends

	retries atomic.Int64
}

const (
	firstRetryDelay = 10 * time.Millisecond
	maxRetryDelay   = 300 * time.Millisecond
)

// A problem is an answer that is no result.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return fmt.Sprintf("status %d: %s", p.status, p.text) }

// temporary tells whether the same call may succeed later.
func (p *problem) temporary() bool {
	return p.status >= 500 || p.status == http.StatusRequestTimeout || p.status == http.StatusTooManyRequests
}

// post makes one call and reads its answer into out.
func (c *jsonClient) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	for delay := firstRetryDelay; ; delay = min(2*delay, maxRetryDelay) {
		text, err := c.once(ctx, path, body)
		if err == nil {
			return json.Unmarshal(text, out)
		}
		if p := (*problem)(nil); !c.retry || errors.As(err, &p) && !p.temporary() {
			return fmt.Errorf("%s: %w", path, err)
		}
		c.retries.Add(1)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", path, err)
		case <-time.After(delay):
		}
	}
}

func (c *jsonClient) once(ctx context.Context, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, sidecarURL+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = &problem{res.StatusCode, string(text)}
	}
	return text, err
}

// results is an answer with one result for each element of the request.
type results[T any] struct {
	Results []T `json:"results"`
}

func (c *jsonClient) Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	var out results[shared.IndexResult]
	err := c.post(ctx, "index", map[string]any{"messages": msgs}, &out)
	return out.Results, err
}

func (c *jsonClient) Amend(ctx context.Context, amendments []shared.Amendment) ([]shared.IndexResult, error) {
	var out results[shared.IndexResult]
	err := c.post(ctx, "amend", map[string]any{"amendments": amendments}, &out)
	return out.Results, err
}

func (c *jsonClient) Recall(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	var out results[shared.RecallResult]
	err := c.post(ctx, "recall", req, &out)
	return out.Results, err
}

func (c *jsonClient) Check(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	var out results[shared.RecallResult]
	err := c.post(ctx, "check", req, &out)
	return out.Results, err
}

func (c *jsonClient) Explain(ctx context.Context, req shared.RecallRequest) ([]shared.Explanation, error) {
	var out results[shared.Explanation]
	err := c.post(ctx, "explain", req, &out)
	return out.Results, err
}

func (c *jsonClient) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	var out results[shared.MessageStatus]
	err := c.post(ctx, "status", map[string]any{"tenant": tenant, "ids": ids}, &out)
	return out.Results, err
}

func (c *jsonClient) Since(ctx context.Context, req shared.SinceRequest) (out shared.EventPage, err error) {
	err = c.post(ctx, "since", req, &out)
	return out, err
}

func (c *jsonClient) List(ctx context.Context, req shared.ListRequest) (out shared.EventPage, err error) {
	err = c.post(ctx, "list", req, &out)
	return out, err
}

func (c *jsonClient) Ledger(ctx context.Context, req shared.LedgerRequest) (out shared.LedgerPage, err error) {
	err = c.post(ctx, "ledger", req, &out)
	return out, err
}

func (c *jsonClient) Forget(
	ctx context.Context, req shared.ForgetRequest,
) (out shared.ForgetResult, err error) {
	err = c.post(ctx, "admin/forget", req, &out)
	return out, err
}

func (c *jsonClient) Waits(ctx context.Context, req shared.WaitsRequest) (out shared.WaitPage, err error) {
	err = c.post(ctx, "waits", req, &out)
	return out, err
}

func (c *jsonClient) StartJob(ctx context.Context, req shared.JobRequest) (out shared.Job, err error) {
	err = c.post(ctx, "jobs/start", req, &out)
	return out, err
}

func (c *jsonClient) PreviewJob(ctx context.Context, req shared.JobPreviewRequest) (out shared.JobPreview, err error) {
	err = c.post(ctx, "jobs/preview", req, &out)
	return out, err
}

func (c *jsonClient) JobStatus(ctx context.Context, tenant, jobID string) (out shared.Job, err error) {
	err = c.post(ctx, "jobs/status", map[string]string{"tenant": tenant, "job_id": jobID}, &out)
	return out, err
}

func (c *jsonClient) Jobs(ctx context.Context, req shared.JobsRequest) (out shared.JobPage, err error) {
	err = c.post(ctx, "jobs/list", req, &out)
	return out, err
}

func (c *jsonClient) CancelJob(ctx context.Context, tenant, jobID string) (out shared.Job, err error) {
	err = c.post(ctx, "jobs/cancel", map[string]string{"tenant": tenant, "job_id": jobID}, &out)
	return out, err
}

func (c *jsonClient) Related(ctx context.Context, req shared.RelatedRequest) (out shared.RelatedPage, err error) {
	err = c.post(ctx, "related", req, &out)
	return out, err
}

// A leased is a delivery that a worker has taken.
type leased struct {
	ID    string       `json:"id"`
	Step  string       `json:"step"`
	Event shared.Event `json:"event"`
}

// A verdict is what a worker says of a delivery.
type verdict struct {
	ID      string         `json:"id"`
	Outcome shared.Outcome `json:"outcome"`
	Error   string         `json:"error,omitempty"`

	key workKey // of the delivery; not sent
}

// A take asks for deliveries and settles earlier ones.
type take struct {
	Steps  []string  `json:"steps"`
	Max    int       `json:"max"`
	Wait   string    `json:"wait"`
	Settle []verdict `json:"settle,omitempty"`
}

type taken struct {
	Deliveries []leased `json:"deliveries"`
	Late       []string `json:"late"` // of the verdicts
}

// maxTake is how many deliveries a worker takes at most.
const maxTake = 100

func (c *jsonClient) take(ctx context.Context, t take) (out taken, err error) {
	err = c.post(ctx, "steps/take", t, &out)
	return out, err
}

func (c *jsonClient) settle(ctx context.Context, list []verdict) (late []string, err error) {
	var out taken
	err = c.post(ctx, "steps/settle", map[string]any{"settle": list}, &out)
	return out.Late, err
}

// rpcClient makes the measured calls with protobuf, by Connect or gRPC.
type rpcClient struct {
	service apiv1connect.RecallServiceClient
}

func newRPCClient(socket string, grpc bool) *rpcClient {
	var options []connect.ClientOption
	if grpc {
		options = append(options, connect.WithGRPC())
	}
	return &rpcClient{apiv1connect.NewRecallServiceClient(unixClient(socket, grpc), sidecarURL, options...)}
}

func (c *rpcClient) Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	req := &apiv1.IndexRequest{}
	for _, m := range msgs {
		req.Messages = append(req.Messages, &apiv1.Message{
			Tenant: m.Tenant, Id: m.ID, Conversation: protoConversation(m.Conversation), Sender: m.Sender, Type: string(m.Type),
			SentAt: timestamppb.New(m.SentAt),
		})
	}
	answer, err := c.service.Index(ctx, req)
	var out []shared.IndexResult
	for _, r := range answer.GetResults() {
		out = append(out, shared.IndexResult{MessageID: r.GetMessageId(), Status: shared.IndexStatus(r.GetStatus())})
	}
	return out, err
}

func (c *rpcClient) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	answer, err := c.service.Status(ctx, &apiv1.StatusRequest{Tenant: tenant, Ids: ids})
	var out []shared.MessageStatus
	for _, r := range answer.GetResults() {
		out = append(out, shared.MessageStatus{MessageID: r.GetMessageId(), State: shared.MessageState(r.GetState())})
	}
	return out, err
}

func (c *rpcClient) Recall(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	return recallResults(c.service.Recall(ctx, protoRecall(req)))
}

func (c *rpcClient) Check(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	return recallResults(c.service.Check(ctx, protoRecall(req)))
}

func protoConversation(c shared.Conversation) *apiv1.Conversation {
	return &apiv1.Conversation{Type: string(c.Type), Id: c.ID}
}

func protoRecall(r shared.RecallRequest) *apiv1.RecallRequest {
	out := &apiv1.RecallRequest{Tenant: r.Tenant, Actor: &apiv1.Actor{Id: r.Actor.ID}, RecallId: r.RecallID}
	for _, t := range r.Targets {
		out.Targets = append(out.Targets, &apiv1.Target{
			MessageId: t.MessageID, Conversation: protoConversation(t.Conversation), Role: string(t.Role),
		})
	}
	return out
}

func recallResults(answer *apiv1.RecallResponse, err error) (out []shared.RecallResult, _ error) {
	for _, r := range answer.GetResults() {
		out = append(out, shared.RecallResult{
			MessageID: r.GetMessageId(), Status: shared.RecallStatus(r.GetStatus()), RecallID: r.GetRecallId(),
		})
	}
	return out, err
}
