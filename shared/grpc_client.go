package shared

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/chat-recall/recall/shared/recallv1"
)

// Client is Plugin over one gRPC connection to a plugin process.
type Client struct {
	ctx       context.Context // ends when the plugin goes away
	calls     *callConn
	recall    recallv1.RecallServiceClient
	lifecycle recallv1.LifecycleServiceClient

	settlesSingly  atomic.Bool // the plugin has no SettleAll
	deliversSingly atomic.Bool // the plugin has no Deliver
}

var (
	_ Plugin       = (*Client)(nil)
	_ BatchSettler = (*Client)(nil)
	_ Deliverer    = (*Client)(nil)
)

// NewClient speaks to a plugin over conn; ctx ends when the plugin goes away.
func NewClient(ctx context.Context, conn grpc.ClientConnInterface) *Client {
	calls := &callConn{ClientConnInterface: conn, unary: semaphore.NewWeighted(maxUnaryClient)}
	return &Client{
		ctx: ctx, calls: calls, recall: recallv1.NewRecallServiceClient(calls),
		lifecycle: recallv1.NewLifecycleServiceClient(conn),
	}
}

// UseLane makes calls go by the lane whose other end the plugin serves: see CapabilityLane. It is called once. The
// Client closes conn when the plugin goes away.
func (c *Client) UseLane(conn *net.UnixConn) error {
	lane, err := newLaneClient(conn)
	if err != nil {
		return err
	}
	context.AfterFunc(c.ctx, func() { conn.Close() })
	c.calls.lane.Store(lane)
	return nil
}

// Done is closed when the plugin has gone away.
func (c *Client) Done() <-chan struct{} { return c.ctx.Done() }

// call makes one unary call and reads its answer.
func call[Req, Resp any](
	ctx context.Context,
	f func(context.Context, Req, ...grpc.CallOption) (Resp, error),
	req Req,
) (Resp, error) {
	resp, err := f(ctx, req)
	return resp, fromStatus(ctx, err)
}

func (c *Client) Index(ctx context.Context, msgs []Message) ([]IndexResult, error) {
	if err := ValidateIndex(msgs); err != nil { // so that an oversized batch is refused before it crosses the wire
		return nil, err
	}
	req, resp := indexRequest{messages: msgs, compact: true}, &recallv1.IndexResponse{}
	err := c.calls.invoke(ctx, recallv1.RecallService_Index_FullMethodName, req.payload(), req.message, resp,
		grpc.StaticMethod())
	if err != nil {
		return nil, fromStatus(ctx, err)
	}
	return req.results(resp)
}

func (c *Client) Recall(ctx context.Context, req RecallRequest) ([]RecallResult, error) {
	return c.judge(ctx, req, c.recall.Recall)
}

func (c *Client) Check(ctx context.Context, req RecallRequest) ([]RecallResult, error) {
	return c.judge(ctx, req, c.recall.Check)
}

func (c *Client) judge(
	ctx context.Context,
	req RecallRequest,
	f func(context.Context, *recallv1.RecallRequest, ...grpc.CallOption) (*recallv1.RecallResponse, error),
) ([]RecallResult, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	resp, err := call(ctx, f, encodeRecallRequest(req))
	if err != nil {
		return nil, err
	}
	d := decoder{}
	return answers(&d, func(i int) string { return req.MessageIDs[i] }, len(req.MessageIDs), resp.GetResults(),
		d.recallResult,
		func(r *RecallResult) string { return r.MessageID })
}

func (c *Client) Status(ctx context.Context, tenant string, ids []string) ([]MessageStatus, error) {
	if err := ValidateStatus(tenant, ids); err != nil {
		return nil, err
	}
	resp, err := call(ctx, c.recall.Status, &recallv1.StatusRequest{Tenant: tenant, MessageIds: ids})
	if err != nil {
		return nil, err
	}
	d := decoder{}
	return answers(&d, func(i int) string { return ids[i] }, len(ids), resp.GetStatuses(), d.messageStatus,
		func(s *MessageStatus) string { return s.MessageID })
}

func (c *Client) Since(ctx context.Context, req SinceRequest) (SincePage, error) {
	if err := req.Validate(); err != nil {
		return SincePage{}, err
	}
	resp, err := call(ctx, c.recall.Since, encodeSinceRequest(req))
	if err != nil {
		return SincePage{}, err
	}
	d := decoder{}
	d.atMost("events", len(resp.GetEvents()), cmp.Or(req.Limit, MaxSinceLimit))
	if d.err != nil {
		return SincePage{}, badAnswer(d.err)
	}
	page := SincePage{Events: mapSlice(resp.GetEvents(), d.event), Next: resp.GetNext(), More: resp.GetMore()}
	for i := range page.Events {
		if tenant := page.Events[i].Tenant; tenant != req.Tenant {
			d.fail(Invalidf(fmt.Sprintf("events[%d].tenant", i), "is %q, asked was %q", tenant, req.Tenant))
		}
	}
	if d.err != nil {
		return SincePage{}, badAnswer(d.err)
	}
	return page, nil
}

// Ledger is Recall. It reads page by page.
func (c *Client) Ledger(ctx context.Context, tenant, recallID string) (Ledger, error) {
	return ReadLedger(ctx, c, tenant, recallID)
}

// LedgerPage is LedgerReader. A plugin from before there were pages answers with all entries from the first on.
func (c *Client) LedgerPage(ctx context.Context, req LedgerRequest) (LedgerPage, error) {
	if err := req.Validate(); err != nil {
		return LedgerPage{}, err
	}
	if req.Limit == 0 {
		req.Limit = MaxLedgerLimit
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.recall.Ledger(ctx, &recallv1.LedgerRequest{
		Tenant: req.Tenant, RecallId: req.RecallID, After: req.After, Limit: int32(req.Limit),
	})
	if err != nil {
		return LedgerPage{}, fromStatus(ctx, err)
	}
	page, d := LedgerPage{Next: req.After}, decoder{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return page, nil
		}
		if err != nil {
			return LedgerPage{}, fromStatus(ctx, err)
		}
		d.atMost("entries", len(page.Entries)+len(resp.GetEntries()), req.Limit)
		if d.err != nil {
			return LedgerPage{}, badAnswer(d.err)
		}
		for _, entry := range mapSlice(resp.GetEntries(), d.ledgerEntry) {
			if entry.Event.Tenant != req.Tenant || entry.Event.RecallID != req.RecallID {
				d.fail(Invalidf("entries", "are of recall %.80q of tenant %.80q", entry.Event.RecallID, entry.Event.Tenant))
			}
			page.Entries = append(page.Entries, entry)
		}
		page.Next, page.More = resp.GetNext(), resp.GetMore()
		if d.err != nil {
			return LedgerPage{}, badAnswer(d.err)
		}
	}
}

// Settle is Plugin.
func (c *Client) Settle(ctx context.Context, sequence uint64, step string, outcome Outcome, cause string) error {
	return c.SettleAttempt(ctx, Settlement{Sequence: sequence, Step: step, Outcome: outcome, Error: cause})
}

// SettleAttempt is AttemptSettler.
func (c *Client) SettleAttempt(ctx context.Context, s Settlement) error {
	_, err := call(ctx, c.recall.Settle, encodeSettlement(s))
	return err
}

// SettleAll is BatchSettler. A plugin from before there was SettleAll gets each settlement by itself.
func (c *Client) SettleAll(ctx context.Context, all []Settlement) ([]error, error) {
	if err := ValidateSettlements(len(all)); err != nil || len(all) == 0 {
		return nil, err
	}
	if c.settlesSingly.Load() {
		return SettleEach(ctx, c, all)
	}
	resp, err := call(ctx, c.recall.SettleAll, &recallv1.SettleAllRequest{Settlements: mapSlice(all, encodeSettlement)})
	if errors.Is(err, ErrUnimplemented) {
		c.settlesSingly.Store(true)
		return SettleEach(ctx, c, all)
	}
	if err != nil {
		return nil, err
	}
	if n := len(resp.GetStatuses()); n != len(all) {
		return nil, badAnswer(fmt.Errorf("%d statuses for %d settlements", n, len(all)))
	}
	errs := make([]error, len(all))
	for i, data := range resp.GetStatuses() {
		if len(data) > maxAnswerTextBytes {
			return nil, badAnswer(fmt.Errorf("statuses[%d] is %d bytes long; at most %d", i, len(data), maxAnswerTextBytes))
		}
		errs[i] = fromStatus(ctx, unmarshalStatus(data))
	}
	return errs, nil
}

func (c *Client) Describe(ctx context.Context) (Description, error) {
	resp, err := call(ctx, c.lifecycle.Describe, &recallv1.DescribeRequest{})
	if err != nil {
		return Description{}, err
	}
	d := decoder{}
	d.atMost("protocol_versions", len(resp.GetProtocolVersions()), maxProtocolVersions)
	d.atMost("capabilities", len(resp.GetCapabilities()), maxCapabilities)
	description := Description{
		Name:             d.text("name", resp.GetName(), MaxIDBytes),
		Version:          d.text("version", resp.GetVersion(), MaxIDBytes),
		IndexFormat:      int(resp.GetIndexFormat()),
		ProtocolVersions: mapSlice(resp.GetProtocolVersions(), func(v int32) int { return int(v) }),
		Capabilities: mapSlice(
			resp.GetCapabilities(),
			func(c string) string { return d.text("capabilities", c, MaxIDBytes) },
		),
	}
	if d.err != nil {
		return Description{}, badAnswer(d.err)
	}
	return description, nil
}

func (c *Client) Prepare(ctx context.Context, configFile string) (Diagnostics, error) {
	resp, err := call(ctx, c.lifecycle.Prepare, &recallv1.PrepareRequest{ConfigFile: configFile})
	return readDiagnostics(resp, err)
}

func (c *Client) Activate(ctx context.Context, steps []string) error {
	_, err := call(ctx, c.lifecycle.Activate, &recallv1.ActivateRequest{Steps: steps})
	return err
}

func (c *Client) Expect(ctx context.Context, index IndexIdentity) error {
	_, err := call(ctx, c.lifecycle.Expect, &recallv1.ExpectRequest{Index: encodeIdentity(index)})
	return err
}

func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.lifecycle.Backup(ctx, &recallv1.BackupRequest{})
	if err != nil {
		return fromStatus(ctx, err)
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fromStatus(ctx, err)
		}
		if _, err := w.Write(chunk.GetData()); err != nil {
			return fmt.Errorf("write the backup: %w", err)
		}
	}
}

func (c *Client) Flush(ctx context.Context) error {
	_, err := call(ctx, c.lifecycle.Flush, &recallv1.FlushRequest{})
	return err
}

func (c *Client) Quiesce(ctx context.Context) error {
	_, err := call(ctx, c.lifecycle.Quiesce, &recallv1.QuiesceRequest{})
	return err
}

func (c *Client) Health(ctx context.Context) (Health, error) {
	resp, err := call(ctx, c.lifecycle.Health, &recallv1.HealthRequest{})
	if err != nil {
		return Health{}, err
	}
	d := decoder{}
	h := d.health(resp)
	if d.err != nil {
		return Health{}, badAnswer(d.err)
	}
	return h, nil
}

func (c *Client) Reload(ctx context.Context) (Diagnostics, error) {
	resp, err := call(ctx, c.lifecycle.Reload, &recallv1.ReloadRequest{})
	return readDiagnostics(resp, err)
}

func readDiagnostics(resp *recallv1.DiagnosticsResponse, err error) (Diagnostics, error) {
	if err != nil {
		return nil, err
	}
	d := decoder{}
	ds := d.diagnostics("diagnostics", resp.GetDiagnostics())
	if d.err != nil {
		return nil, badAnswer(d.err)
	}
	return ds, nil
}

func (c *Client) Metrics(ctx context.Context) ([]Metric, error) {
	resp, err := call(ctx, c.lifecycle.Metrics, &recallv1.MetricsRequest{})
	if err != nil {
		return nil, err
	}
	d := decoder{}
	d.atMost("metrics", len(resp.GetMetrics()), maxMetrics)
	if d.err != nil {
		return nil, badAnswer(d.err)
	}
	metrics := mapSlice(resp.GetMetrics(), func(m *recallv1.Metric) Metric {
		return Metric{Name: d.text("metrics.name", m.GetName(), maxAnswerTextBytes), Value: m.GetValue()}
	})
	if d.err != nil {
		return nil, badAnswer(d.err)
	}
	return metrics, nil
}

// settler settles the steps of one delivery.
type settler struct {
	plugin   Plugin
	sequence uint64
	attempt  int // 0: unknown
}

// NewSettler settles the steps of the event of this sequence, whichever attempt they are at.
func NewSettler(plugin Plugin, sequence uint64) Settler {
	return &settler{plugin: plugin, sequence: sequence}
}

// EventSettler settles the steps of one delivery, which are of its attempt.
func EventSettler(plugin Plugin, e Event) Settler { return &settler{plugin, e.Sequence, e.Attempt} }

func (s *settler) Settle(ctx context.Context, step string, outcome Outcome, cause error) error {
	return s.settle(ctx, step, outcome, stepError(cause))
}

func (s *settler) settle(ctx context.Context, step string, outcome Outcome, cause string) error {
	if p, ok := s.plugin.(AttemptSettler); ok {
		return p.SettleAttempt(ctx, Settlement{s.sequence, step, s.attempt, outcome, cause})
	}
	return s.plugin.Settle(ctx, s.sequence, step, outcome, cause)
}
