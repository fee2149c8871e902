package wire

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// Register serves impl on a gRPC server.
func Register(s grpc.ServiceRegistrar, impl Plugin, interceptors ...Interceptor) {
	newRecallServer(impl, interceptors...).register(s)
}

type recallServer struct {
	recallv1.UnimplementedRecallServiceServer
	impl      Plugin
	async     AsyncPlugin // nil: impl is none
	admission *admission
}

func newRecallServer(impl Plugin, interceptors ...Interceptor) *recallServer {
	async, _ := impl.(AsyncPlugin)
	s := &recallServer{impl: impl, async: async, admission: newAdmission(MaxWireBytes, maxReading)}
	s.admission.interceptors = interceptors
	return s
}

// register serves both services on a gRPC server. The plugin says in Describe that it has these capabilities.
func (s *recallServer) register(r grpc.ServiceRegistrar, capabilities ...string) {
	r.RegisterService(s.admission.admitted(serviceDesc), s)
	// Beside the calls: health is answered also where they wait for memory.
	lifecycle := newAdmission(maxSmallBytes, 1)
	lifecycle.interceptors = s.admission.interceptors
	r.RegisterService(lifecycle.admitted(recallv1.LifecycleService_ServiceDesc),
		&lifecycleServer{impl: s.impl, capabilities: capabilities})
}

// serviceDesc is RecallService, with a handler of Index that reads an indexRequest.
var serviceDesc = func() grpc.ServiceDesc {
	desc := recallv1.RecallService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i := range desc.Methods {
		if desc.Methods[i].MethodName == "Index" {
			desc.Methods[i].Handler = handleIndex
		}
	}
	return desc
}()

// handleIndex is a grpc.MethodHandler.
func handleIndex(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	req, err := readIndexRequest(decode)
	if err != nil {
		return nil, err
	}
	return req.response(srv.(*recallServer).impl.Index(ctx, req.messages))
}

func (s *recallServer) Recall(ctx context.Context, req *recallv1.RecallRequest) (*recallv1.RecallResponse, error) {
	return s.judge(ctx, req, s.impl.Recall)
}

func (s *recallServer) Check(ctx context.Context, req *recallv1.RecallRequest) (*recallv1.RecallResponse, error) {
	return s.judge(ctx, req, s.impl.Check)
}

func (s *recallServer) judge(ctx context.Context, req *recallv1.RecallRequest,
	call func(context.Context, shared.RecallRequest) ([]shared.RecallResult, error)) (*recallv1.RecallResponse, error) {
	d := decoder{}
	r := d.recallRequest(req)
	if d.err != nil {
		return nil, toStatus(d.err)
	}
	return recallResponse(call(ctx, r))
}

func recallResponse(results []shared.RecallResult, err error) (*recallv1.RecallResponse, error) {
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.RecallResponse{Results: mapSlice(results, encodeRecallResult)}, nil
}

func (s *recallServer) Status(ctx context.Context, req *recallv1.StatusRequest) (*recallv1.StatusResponse, error) {
	statuses, err := s.impl.Status(ctx, req.GetTenant(), req.GetMessageIds())
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.StatusResponse{Statuses: mapSlice(statuses, encodeMessageStatus)}, nil
}

func (s *recallServer) Amend(ctx context.Context, req *recallv1.AmendRequest) (*recallv1.IndexResponse, error) {
	results, err := s.impl.Amend(ctx, mapSlice(req.GetAmendments(), decodeAmendment))
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.IndexResponse{Results: mapSlice(results, encodeIndexResult)}, nil
}

func (s *recallServer) Explain(ctx context.Context, req *recallv1.RecallRequest) (*recallv1.ExplainResponse, error) {
	d := decoder{}
	r := d.recallRequest(req)
	if d.err != nil {
		return nil, toStatus(d.err)
	}
	explanations, err := s.impl.Explain(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.ExplainResponse{Explanations: mapSlice(explanations, encodeExplanation)}, nil
}

func (s *recallServer) Since(ctx context.Context, req *recallv1.SinceRequest) (*recallv1.EventPage, error) {
	d := decoder{}
	r := d.sinceRequest(req)
	if d.err != nil {
		return nil, toStatus(d.err)
	}
	return eventPage(s.impl.Since(ctx, r))
}

func (s *recallServer) List(ctx context.Context, req *recallv1.ListRequest) (*recallv1.EventPage, error) {
	d := decoder{}
	r := d.listRequest(req)
	if d.err != nil {
		return nil, toStatus(d.err)
	}
	return eventPage(s.impl.List(ctx, r))
}

func eventPage(page shared.EventPage, err error) (*recallv1.EventPage, error) {
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.EventPage{
		Events: mapSlice(page.Events, encodeEvent), Next: page.Next, More: page.More, Reset_: page.Reset,
	}, nil
}

func (s *recallServer) Ledger(ctx context.Context, w *recallv1.LedgerRequest) (*recallv1.LedgerPage, error) {
	page, err := s.impl.Ledger(ctx, shared.LedgerRequest{
		Tenant: w.GetTenant(), RecallID: w.GetRecallId(), After: w.GetAfter(), Limit: int(w.GetLimit()),
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.LedgerPage{
		Entries: mapSlice(page.Entries, encodeLedgerEntry), Next: page.Next, More: page.More, Reset_: page.Reset,
	}, nil
}

func (s *recallServer) Waits(ctx context.Context, w *recallv1.WaitsRequest) (*recallv1.WaitPage, error) {
	page, err := s.impl.Waits(ctx, shared.WaitsRequest{
		Tenant: w.GetTenant(), After: w.GetAfter(), Limit: int(w.GetLimit()),
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.WaitPage{Waits: mapSlice(page.Waits, encodeWaiting), Next: page.Next, More: page.More}, nil
}

func (s *recallServer) Related(ctx context.Context, w *recallv1.RelatedRequest) (*recallv1.RelatedPage, error) {
	page, err := s.impl.Related(ctx, shared.RelatedRequest{
		Tenant: w.GetTenant(), MessageID: w.GetMessageId(), After: w.GetAfter(), Limit: int(w.GetLimit()),
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.RelatedPage{
		Related: mapSlice(page.Related, encodeRelated), Next: page.Next, More: page.More,
	}, nil
}

func (s *recallServer) Forget(ctx context.Context, req *recallv1.ForgetRequest) (*recallv1.ForgetResponse, error) {
	d := decoder{}
	r := d.forgetRequest(req)
	if d.err != nil {
		return nil, toStatus(d.err)
	}
	result, err := s.impl.Forget(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.ForgetResponse{
		Done: result.Done, Live: int64(result.Live), Recalled: int64(result.Recalled), Replaced: int64(result.Replaced),
		Waiting: int64(result.Waiting),
	}, nil
}

func (s *recallServer) Settle(ctx context.Context, req *recallv1.SettleRequest) (*recallv1.SettleResponse, error) {
	if err := ValidateSettlements(len(req.GetSettlements())); err != nil {
		return nil, toStatus(err)
	}
	statuses := make([][]byte, len(req.GetSettlements()))
	var all []Settlement
	var at []int // where each of all stands
	for i, w := range req.GetSettlements() {
		d := decoder{}
		x := d.settlement(w)
		if d.err != nil {
			statuses[i] = marshalStatus(d.err)
			continue
		}
		all, at = append(all, x), append(at, i)
	}
	errs, err := s.impl.Settle(ctx, all)
	if err == nil && len(errs) != len(all) {
		err = fmt.Errorf("the plugin has %d answers for %d settlements", len(errs), len(all))
	}
	if err != nil {
		return nil, toStatus(err)
	}
	for i, err := range errs {
		statuses[at[i]] = marshalStatus(err)
	}
	return &recallv1.SettleResponse{Statuses: statuses}, nil
}

func (s *recallServer) Retry(ctx context.Context, req *recallv1.RetryRequest) (*recallv1.RetryResponse, error) {
	if err := s.impl.Retry(ctx, req.GetSteps()); err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.RetryResponse{}, nil
}

type lifecycleServer struct {
	recallv1.UnimplementedLifecycleServiceServer
	impl         Lifecycle
	capabilities []string // besides those of impl
}

func (s *lifecycleServer) Describe(ctx context.Context,
	_ *recallv1.DescribeRequest) (*recallv1.DescribeResponse, error) {
	d, err := s.impl.Describe(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.DescribeResponse{
		Name: d.Name, Version: d.Version, IndexFormat: int32(d.IndexFormat),
		ProtocolVersions: mapSlice(d.ProtocolVersions, func(v int) int32 { return int32(v) }),
		Capabilities:     slices.Concat(d.Capabilities, s.capabilities),
	}, nil
}

func (s *lifecycleServer) Prepare(ctx context.Context,
	req *recallv1.PrepareRequest) (*recallv1.DiagnosticsResponse, error) {
	ds, err := s.impl.Prepare(ctx, req.GetConfigFile())
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.DiagnosticsResponse{Diagnostics: encodeDiagnostics(ds)}, nil
}

func (s *lifecycleServer) Activate(ctx context.Context,
	req *recallv1.ActivateRequest) (*recallv1.ActivateResponse, error) {
	if err := s.impl.Activate(ctx, mapSlice(req.GetSteps(), decodeStepPlan)); err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.ActivateResponse{}, nil
}

func (s *lifecycleServer) Expect(ctx context.Context, req *recallv1.ExpectRequest) (*recallv1.ExpectResponse, error) {
	d := decoder{}
	index := d.identity("index", req.GetIndex())
	if d.err != nil {
		return nil, toStatus(d.err)
	}
	if err := s.impl.Expect(ctx, index); err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.ExpectResponse{}, nil
}

func (s *lifecycleServer) Backup(_ *recallv1.BackupRequest, stream recallv1.LifecycleService_BackupServer) error {
	return toStatus(s.impl.Backup(stream.Context(), &backupStream{stream: stream}))
}

// backupStream sends what is written to it.
type backupStream struct {
	stream recallv1.LifecycleService_BackupServer
}

// backupChunkBytes is how much of a backup goes into one message on the wire.
const backupChunkBytes = 256 << 10

func (b *backupStream) Write(p []byte) (n int, err error) {
	for n < len(p) {
		chunk := p[n:min(n+backupChunkBytes, len(p))]
		if err := b.stream.Send(&recallv1.BackupChunk{Data: chunk}); err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return n, nil
}

func (s *lifecycleServer) Flush(ctx context.Context, _ *recallv1.FlushRequest) (*recallv1.FlushResponse, error) {
	if err := s.impl.Flush(ctx); err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.FlushResponse{}, nil
}

func (s *lifecycleServer) Compact(ctx context.Context, _ *recallv1.CompactRequest) (*recallv1.CompactResponse, error) {
	if err := s.impl.Compact(ctx); err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.CompactResponse{}, nil
}

func (s *lifecycleServer) Quiesce(ctx context.Context, _ *recallv1.QuiesceRequest) (*recallv1.QuiesceResponse, error) {
	if err := s.impl.Quiesce(ctx); err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.QuiesceResponse{}, nil
}

func (s *lifecycleServer) Health(ctx context.Context, _ *recallv1.HealthRequest) (*recallv1.HealthResponse, error) {
	h, err := s.impl.Health(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return encodeHealth(h), nil
}

func (s *lifecycleServer) Reload(ctx context.Context,
	_ *recallv1.ReloadRequest) (*recallv1.DiagnosticsResponse, error) {
	ds, err := s.impl.Reload(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.DiagnosticsResponse{Diagnostics: encodeDiagnostics(ds)}, nil
}

func (s *lifecycleServer) Metrics(ctx context.Context, _ *recallv1.MetricsRequest) (*recallv1.MetricsResponse, error) {
	metrics, err := s.impl.Metrics(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return &recallv1.MetricsResponse{Metrics: mapSlice(metrics, encodeMetric)}, nil
}
