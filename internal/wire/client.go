package wire

import (
	"cmp"
	"context"
	"fmt"
	"net"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// Client implements [Plugin] with one gRPC connection to a plugin process.
type Client struct {
	ctx       context.Context // ends when the plugin goes away
	calls     *callConn
	recall    recallv1.RecallServiceClient
	lifecycle recallv1.LifecycleServiceClient
}

var _ Plugin = (*Client)(nil)

// NewClient speaks to a plugin over conn; ctx ends when the plugin goes away.
func NewClient(ctx context.Context, conn grpc.ClientConnInterface) *Client {
	calls := &callConn{ClientConnInterface: conn, unary: semaphore.NewWeighted(maxUnaryClient)}
	return &Client{
		ctx: ctx, calls: calls, recall: recallv1.NewRecallServiceClient(calls),
		lifecycle: recallv1.NewLifecycleServiceClient(conn),
	}
}

// UseLane sends calls over the lane whose other end the plugin serves: see [CapabilityLane]. Call it at most once. The
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

// Index is [shared.Recall]. It answers for malformed messages itself and sends the others.
func (c *Client) Index(ctx context.Context, msgs []shared.Message) ([]shared.IndexResult, error) {
	if err := ValidateBatch("messages", len(msgs)); err != nil { // before it crosses the wire
		return nil, err
	}
	return eachValid(msgs, ValidateMessage, func(m *shared.Message) string { return m.ID },
		func(msgs []shared.Message) ([]shared.IndexResult, error) {
			req, resp := indexRequest{messages: msgs, compact: true}, &recallv1.IndexResponse{}
			err := c.calls.invoke(ctx, recallv1.RecallService_Index_FullMethodName, req.payload(), req.message, resp,
				grpc.StaticMethod())
			if err != nil {
				return nil, fromStatus(ctx, err)
			}
			return req.results(resp)
		})
}

// Amend is [shared.Recall]. It answers for malformed amendments itself and sends the others.
func (c *Client) Amend(ctx context.Context, amendments []shared.Amendment) ([]shared.IndexResult, error) {
	if err := ValidateBatch("amendments", len(amendments)); err != nil {
		return nil, err
	}
	return eachValid(amendments, ValidateAmendment, func(a *shared.Amendment) string { return a.MessageID },
		func(all []shared.Amendment) ([]shared.IndexResult, error) {
			resp, err := call(ctx, c.recall.Amend, &recallv1.AmendRequest{Amendments: mapSlice(all, encodeAmendment)})
			if err != nil {
				return nil, err
			}
			d := decoder{}
			return answers(&d, func(i int) string { return all[i].MessageID }, len(all), resp.GetResults(), d.indexResult,
				func(r *shared.IndexResult) string { return r.MessageID })
		})
}

// eachValid answers IndexInvalid for each element of a batch that validate refuses, and calls do for the others.
func eachValid[T any](
	batch []T,
	validate func(*T) error,
	idOf func(*T) string,
	do func([]T) ([]shared.IndexResult, error),
) ([]shared.IndexResult, error) {
	var results []shared.IndexResult // nil while all are valid
	var valid []T
	var at []int // the position in batch of each element of valid
	for i := range batch {
		err := validate(&batch[i])
		if err != nil && results == nil {
			results = make([]shared.IndexResult, len(batch))
			valid = append(valid, batch[:i]...)
			for k := range i {
				at = append(at, k)
			}
		}
		switch {
		case err != nil:
			results[i] = InvalidResult(idOf(&batch[i]), err)
		case results != nil:
			valid, at = append(valid, batch[i]), append(at, i)
		}
	}
	if results == nil {
		return do(batch)
	}
	if len(valid) == 0 {
		return results, nil
	}
	answered, err := do(valid)
	if err != nil {
		return nil, err
	}
	for k, i := range at {
		results[i] = answered[k]
	}
	return results, nil
}

// Recall is [shared.Recall].
func (c *Client) Recall(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	return c.judge(ctx, req, c.recall.Recall)
}

// Check is [shared.Recall].
func (c *Client) Check(ctx context.Context, req shared.RecallRequest) ([]shared.RecallResult, error) {
	return c.judge(ctx, req, c.recall.Check)
}

func (c *Client) judge(
	ctx context.Context,
	req shared.RecallRequest,
	f func(context.Context, *recallv1.RecallRequest, ...grpc.CallOption) (*recallv1.RecallResponse, error),
) ([]shared.RecallResult, error) {
	if err := ValidateRecall(&req); err != nil {
		return nil, err
	}
	resp, err := call(ctx, f, encodeRecallRequest(req))
	if err != nil {
		return nil, err
	}
	d := decoder{}
	return answers(&d, func(i int) string { return req.Targets[i].MessageID }, len(req.Targets), resp.GetResults(),
		d.recallResult, func(r *shared.RecallResult) string { return r.MessageID })
}

// Explain is [shared.Recall].
func (c *Client) Explain(ctx context.Context, req shared.RecallRequest) ([]shared.Explanation, error) {
	if err := ValidateRecall(&req); err != nil {
		return nil, err
	}
	resp, err := call(ctx, c.recall.Explain, encodeRecallRequest(req))
	if err != nil {
		return nil, err
	}
	d := decoder{}
	return answers(&d, func(i int) string { return req.Targets[i].MessageID }, len(req.Targets), resp.GetExplanations(),
		d.explanation, func(e *shared.Explanation) string { return e.MessageID })
}

// Status is [shared.Recall].
func (c *Client) Status(ctx context.Context, tenant string, ids []string) ([]shared.MessageStatus, error) {
	if err := ValidateStatus(tenant, ids); err != nil {
		return nil, err
	}
	resp, err := call(ctx, c.recall.Status, &recallv1.StatusRequest{Tenant: tenant, MessageIds: ids})
	if err != nil {
		return nil, err
	}
	d := decoder{}
	return answers(&d, func(i int) string { return ids[i] }, len(ids), resp.GetStatuses(), d.messageStatus,
		func(s *shared.MessageStatus) string { return s.MessageID })
}

// Since is [shared.Recall].
func (c *Client) Since(ctx context.Context, req shared.SinceRequest) (shared.EventPage, error) {
	if err := ValidateSince(&req); err != nil {
		return shared.EventPage{}, err
	}
	resp, err := call(ctx, c.recall.Since, encodeSinceRequest(req))
	if err != nil {
		return shared.EventPage{}, err
	}
	return decodeEventPage(resp, req.Tenant, req.After, cmp.Or(req.Limit, shared.MaxSinceLimit))
}

// List is [shared.Recall].
func (c *Client) List(ctx context.Context, req shared.ListRequest) (shared.EventPage, error) {
	if err := ValidateList(&req); err != nil {
		return shared.EventPage{}, err
	}
	resp, err := call(ctx, c.recall.List, encodeListRequest(req))
	if err != nil {
		return shared.EventPage{}, err
	}
	return decodeEventPage(resp, req.Tenant, req.After, cmp.Or(req.Limit, shared.MaxListLimit))
}

// decodeEventPage reads the answer to a request with a tenant, a cursor and a limit.
func decodeEventPage(resp *recallv1.EventPage, tenant, after string, limit int) (shared.EventPage, error) {
	d := decoder{}
	d.atMost("events", len(resp.GetEvents()), limit)
	if d.err != nil {
		return shared.EventPage{}, badAnswer(d.err)
	}
	page := shared.EventPage{
		Events: mapSlice(resp.GetEvents(), d.event), Next: d.text("next", resp.GetNext(), maxCursorBytes),
		More: resp.GetMore(), Reset: resp.GetReset_(),
	}
	for i := range page.Events {
		if of := page.Events[i].Tenant; of != tenant {
			d.fail(shared.Invalidf(fmt.Sprintf("events[%d].tenant", i), "is %q; want %q", of, tenant))
		}
	}
	d.checkPage(after, page.Next, page.More, page.Reset)
	if d.err != nil {
		return shared.EventPage{}, badAnswer(d.err)
	}
	return page, nil
}

// checkPage refuses a page that would make the caller ask for the same page forever.
func (d *decoder) checkPage(after, next string, more, reset bool) {
	if more && next == after {
		d.fail(shared.Invalidf("next", "is the cursor of the page itself"))
	}
	if reset && after == "" {
		d.fail(shared.Invalidf("reset", "is set, and the request had no cursor"))
	}
}

// Ledger is [shared.Recall].
func (c *Client) Ledger(ctx context.Context, req shared.LedgerRequest) (shared.LedgerPage, error) {
	if err := ValidateLedger(&req); err != nil {
		return shared.LedgerPage{}, err
	}
	resp, err := call(ctx, c.recall.Ledger, &recallv1.LedgerRequest{
		Tenant: req.Tenant, RecallId: req.RecallID, After: req.After, Limit: int32(req.Limit),
	})
	if err != nil {
		return shared.LedgerPage{}, err
	}
	d := decoder{}
	d.atMost("entries", len(resp.GetEntries()), cmp.Or(req.Limit, shared.MaxLedgerLimit))
	if d.err != nil {
		return shared.LedgerPage{}, badAnswer(d.err)
	}
	page := shared.LedgerPage{
		Entries: mapSlice(resp.GetEntries(), d.ledgerEntry), Next: d.text("next", resp.GetNext(), maxCursorBytes),
		More: resp.GetMore(), Reset: resp.GetReset_(),
	}
	for i := range page.Entries {
		if e := &page.Entries[i].Event; e.Tenant != req.Tenant || e.RecallID != req.RecallID {
			d.fail(shared.Invalidf("entries", "are of recall %.80q of tenant %.80q", e.RecallID, e.Tenant))
		}
	}
	d.checkPage(req.After, page.Next, page.More, page.Reset)
	if d.err != nil {
		return shared.LedgerPage{}, badAnswer(d.err)
	}
	return page, nil
}

// Waits is [shared.Recall].
func (c *Client) Waits(ctx context.Context, req shared.WaitsRequest) (shared.WaitPage, error) {
	if err := ValidateWaits(&req); err != nil {
		return shared.WaitPage{}, err
	}
	resp, err := call(ctx, c.recall.Waits, &recallv1.WaitsRequest{
		Tenant: req.Tenant, After: req.After, Limit: int32(req.Limit),
	})
	if err != nil {
		return shared.WaitPage{}, err
	}
	d := decoder{}
	d.atMost("waits", len(resp.GetWaits()), cmp.Or(req.Limit, shared.MaxWaitsLimit))
	if d.err != nil {
		return shared.WaitPage{}, badAnswer(d.err)
	}
	page := shared.WaitPage{
		Waits: mapSlice(resp.GetWaits(), d.waiting), Next: d.text("next", resp.GetNext(), maxWaitsCursorBytes),
		More: resp.GetMore(),
	}
	d.checkPage(req.After, page.Next, page.More, false)
	if d.err != nil {
		return shared.WaitPage{}, badAnswer(d.err)
	}
	return page, nil
}

// Related is [shared.Recall].
func (c *Client) Related(ctx context.Context, req shared.RelatedRequest) (shared.RelatedPage, error) {
	if err := ValidateRelated(&req); err != nil {
		return shared.RelatedPage{}, err
	}
	resp, err := call(ctx, c.recall.Related, &recallv1.RelatedRequest{
		Tenant: req.Tenant, MessageId: req.MessageID, After: req.After, Limit: int32(req.Limit),
	})
	if err != nil {
		return shared.RelatedPage{}, err
	}
	d := decoder{}
	d.atMost("related", len(resp.GetRelated()), cmp.Or(req.Limit, shared.MaxRelatedLimit))
	if d.err != nil {
		return shared.RelatedPage{}, badAnswer(d.err)
	}
	page := shared.RelatedPage{
		Related: mapSlice(resp.GetRelated(), d.related), Next: d.text("next", resp.GetNext(), maxRelatedCursorBytes),
		More: resp.GetMore(),
	}
	d.checkPage(req.After, page.Next, page.More, false)
	if d.err != nil {
		return shared.RelatedPage{}, badAnswer(d.err)
	}
	return page, nil
}

// Forget is [shared.Recall].
func (c *Client) Forget(ctx context.Context, req shared.ForgetRequest) (shared.ForgetResult, error) {
	if err := ValidateForget(&req); err != nil {
		return shared.ForgetResult{}, err
	}
	resp, err := call(ctx, c.recall.Forget, encodeForgetRequest(req))
	if err != nil {
		return shared.ForgetResult{}, err
	}
	d := decoder{}
	count := func(field string, n int64) int {
		if n < 0 {
			d.fail(shared.Invalidf(field, "is %d", n))
		}
		return int(n)
	}
	result := shared.ForgetResult{
		Done: resp.GetDone(), Live: count("live", resp.GetLive()), Recalled: count("recalled", resp.GetRecalled()),
		Replaced: count("replaced", resp.GetReplaced()), Waiting: count("waiting", resp.GetWaiting()),
	}
	if d.err != nil {
		return shared.ForgetResult{}, badAnswer(d.err)
	}
	return result, nil
}

// Settle is [Plugin].
func (c *Client) Settle(ctx context.Context, all []Settlement) ([]error, error) {
	if err := ValidateSettlements(len(all)); err != nil || len(all) == 0 {
		return nil, err
	}
	resp, err := call(ctx, c.recall.Settle, &recallv1.SettleRequest{Settlements: mapSlice(all, encodeSettlement)})
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

// Retry is [Plugin].
func (c *Client) Retry(ctx context.Context, steps []string) error {
	_, err := call(ctx, c.recall.Retry, &recallv1.RetryRequest{Steps: steps})
	return err
}
