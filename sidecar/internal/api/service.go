// Package api is the API of recall-sidecar over a host.
package api

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
	v1 "github.com/chat-recall/recall/sidecar/apiv1"
	"github.com/chat-recall/recall/sidecar/internal/pull"
)

// Timeout bounds a call whose client set no deadline.
const Timeout = 30 * time.Second

// Service implements the services of recall.proto.
type Service struct {
	// Broker leases the pulled steps.
	Broker *pull.Broker

	opened  chan struct{} // closed when host is set
	host    *host.Host
	leaving context.Context // ends when the sidecar begins to stop
	leave   context.CancelFunc
}

// New returns a service whose calls wait until [Service.Open]. pulled are the steps that workers take.
func New(pulled map[string]pull.Step) *Service {
	s := &Service{opened: make(chan struct{})}
	s.leaving, s.leave = context.WithCancel(context.Background())
	s.Broker = pull.New(pulled, func(ctx context.Context, key, step string, o shared.Outcome, cause error) error {
		h, err := s.await(ctx)
		if err != nil {
			return err
		}
		return h.Settle(ctx, key, step, o, cause)
	})
	return s
}

// Open lets the calls through to a host.
func (s *Service) Open(h *host.Host) {
	s.host = h
	close(s.opened)
}

// Leave ends the calls of Take that wait, and lets no other one wait.
func (s *Service) Leave() { s.leave() }

// Host returns the host, nil as long as it is being opened.
func (s *Service) Host() *host.Host {
	select {
	case <-s.opened:
		return s.host
	default:
		return nil
	}
}

// await returns the host as soon as it is open.
func (s *Service) await(ctx context.Context) (*host.Host, error) {
	select {
	case <-s.opened:
		return s.host, nil
	default:
	}
	select {
	case <-s.opened:
		return s.host, nil
	case <-s.leaving.Done():
		return nil, shared.ErrUnavailable
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: it has not started yet: %v", shared.ErrUnavailable, ctx.Err())
	}
}

// bounded returns a context that ends with the deadline of the client, or after Timeout if it set none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, set := ctx.Deadline(); set {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, Timeout)
}

// call makes one call of the host, within Timeout if ctx has no deadline.
func call[A, B any](ctx context.Context, s *Service, do func(context.Context, *host.Host) (A, error), encode func(A) B,
) (out B, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	h, err := s.await(ctx)
	if err != nil {
		return out, Error(err)
	}
	answer, err := do(ctx, h)
	if err != nil {
		return out, Error(err)
	}
	return encode(answer), nil
}

// Index implements RecallService.
func (s *Service) Index(ctx context.Context, r *v1.IndexRequest) (*v1.IndexResponse, error) {
	return indexEach(
		ctx,
		s,
		r.GetMessages(),
		"messages",
		func(m *v1.Message) (shared.Message, *shared.FieldError) { return decodeMessage(m), nil },
		(*v1.Message).GetId,
		(*host.Host).Index,
	)
}

// Amend implements RecallService.
func (s *Service) Amend(ctx context.Context, r *v1.AmendRequest) (*v1.IndexResponse, error) {
	return indexEach(ctx, s, r.GetAmendments(), "amendments", decodeAmendment, (*v1.Amendment).GetMessageId,
		(*host.Host).Amend)
}

// indexEach makes one call with a result for each element, of which some may be refused here.
func indexEach[V, T any](ctx context.Context, s *Service, list []V, field string,
	decode func(V) (T, *shared.FieldError), id func(V) string,
	do func(*host.Host, context.Context, []T) ([]shared.IndexResult, error)) (*v1.IndexResponse, error) {
	if len(list) == 0 || len(list) > shared.MaxIndexBatch {
		return nil, Invalid(field, fmt.Sprintf("has %d elements; 1 to %d", len(list), shared.MaxIndexBatch))
	}
	refused := map[int]*v1.IndexResult{}
	good := make([]T, 0, len(list))
	for i, one := range list {
		decoded, wrong := decode(one)
		if wrong != nil {
			refused[i] = &v1.IndexResult{MessageId: id(one), Status: string(shared.IndexInvalid), Field: wrong.Field,
				Problem: wrong.Problem}
			continue
		}
		good = append(good, decoded)
	}
	return call(ctx, s, func(ctx context.Context, h *host.Host) ([]shared.IndexResult, error) {
		if len(good) == 0 {
			return nil, nil
		}
		return do(h, ctx, good)
	}, func(results []shared.IndexResult) *v1.IndexResponse {
		out := &v1.IndexResponse{Results: make([]*v1.IndexResult, len(list))}
		for i := range list {
			if out.Results[i] = refused[i]; out.Results[i] == nil {
				out.Results[i] = encodeIndexResult(results[0])
				results = results[1:]
			}
		}
		return out
	})
}

type idempotencyKey struct{}

// WithIdempotencyKey returns a context for Recall with the header Idempotency-Key of a plain request.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, key)
}

// key returns the header Idempotency-Key of a request of any protocol.
func key(ctx context.Context) string {
	if key, ok := ctx.Value(idempotencyKey{}).(string); ok {
		return key
	}
	if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
		return info.RequestHeader().Get("Idempotency-Key")
	}
	return ""
}

// judged makes a call about a recall.
func judged[A any, B any](ctx context.Context, s *Service, r *v1.RecallRequest,
	do func(*host.Host, context.Context, shared.RecallRequest) (A, error), encode func(A) B) (out B, err error) {
	req := decodeRecall(r)
	if req.RecallID == "" {
		req.RecallID = key(ctx)
	}
	return call(ctx, s, func(ctx context.Context, h *host.Host) (A, error) { return do(h, ctx, req) }, encode)
}

func encodeRecallResults(list []shared.RecallResult) *v1.RecallResponse {
	return &v1.RecallResponse{Results: each(list, encodeRecallResult), Now: timestamppb.Now()}
}

// Recall implements RecallService.
func (s *Service) Recall(ctx context.Context, r *v1.RecallRequest) (*v1.RecallResponse, error) {
	return judged(ctx, s, r, (*host.Host).Recall, encodeRecallResults)
}

// Check implements RecallService.
func (s *Service) Check(ctx context.Context, r *v1.RecallRequest) (*v1.RecallResponse, error) {
	return judged(ctx, s, r, (*host.Host).Check, encodeRecallResults)
}

// Explain implements RecallService.
func (s *Service) Explain(ctx context.Context, r *v1.RecallRequest) (*v1.ExplainResponse, error) {
	return judged(ctx, s, r, (*host.Host).Explain, func(list []shared.Explanation) *v1.ExplainResponse {
		return &v1.ExplainResponse{Results: each(list, encodeExplanation)}
	})
}

// Status implements RecallService.
func (s *Service) Status(ctx context.Context, r *v1.StatusRequest) (*v1.StatusResponse, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) ([]shared.MessageStatus, error) {
		return h.Status(ctx, r.GetTenant(), r.GetIds())
	}, func(list []shared.MessageStatus) *v1.StatusResponse {
		return &v1.StatusResponse{Results: each(list, encodeStatus)}
	})
}

// Since implements RecallService.
func (s *Service) Since(ctx context.Context, r *v1.SinceRequest) (*v1.EventPage, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.EventPage, error) {
		return h.Since(ctx, shared.SinceRequest{Tenant: r.GetTenant(), After: r.GetAfter(), Limit: int(r.GetLimit()),
			Conversations: each(r.GetConversations(), decodeConversation)})
	}, encodeEventPage)
}

// List implements RecallService.
func (s *Service) List(ctx context.Context, r *v1.ListRequest) (*v1.EventPage, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.EventPage, error) {
		return h.List(ctx, shared.ListRequest{
			Tenant: r.GetTenant(), From: decodeTime(r.GetFrom()), Before: decodeTime(r.GetBefore()), Actor: r.GetActor(),
			Sender: r.GetSender(), Conversation: decodeConversation(r.GetConversation()), Rule: r.GetRule(),
			JobID: r.GetJobId(), Steps: shared.StepsFilter(r.GetSteps()), After: r.GetAfter(), Limit: int(r.GetLimit()),
		})
	}, encodeEventPage)
}

// Ledger implements RecallService.
func (s *Service) Ledger(ctx context.Context, r *v1.LedgerRequest) (*v1.LedgerPage, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.LedgerPage, error) {
		return h.Ledger(ctx, shared.LedgerRequest{Tenant: r.GetTenant(), RecallID: r.GetRecallId(), After: r.GetAfter(),
			Limit: int(r.GetLimit())})
	}, func(p shared.LedgerPage) *v1.LedgerPage {
		return &v1.LedgerPage{Entries: each(p.Entries, encodeLedgerEntry), Next: p.Next, More: p.More, Reset_: p.Reset}
	})
}

// Related implements RecallService.
func (s *Service) Related(ctx context.Context, r *v1.RelatedRequest) (*v1.RelatedPage, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.RelatedPage, error) {
		return h.Related(ctx, shared.RelatedRequest{Tenant: r.GetTenant(), MessageID: r.GetMessageId(), After: r.GetAfter(),
			Limit: int(r.GetLimit())})
	}, func(p shared.RelatedPage) *v1.RelatedPage {
		return &v1.RelatedPage{Related: each(p.Related, encodeRelated), Next: p.Next, More: p.More}
	})
}

// Waits implements RecallService.
func (s *Service) Waits(ctx context.Context, r *v1.WaitsRequest) (*v1.WaitPage, error) {
	return call(ctx, s, func(ctx context.Context, h *host.Host) (shared.WaitPage, error) {
		return h.Waits(ctx, shared.WaitsRequest{Tenant: r.GetTenant(), After: r.GetAfter(), Limit: int(r.GetLimit())})
	}, func(p shared.WaitPage) *v1.WaitPage {
		return &v1.WaitPage{Waits: each(p.Waits, encodeWaiting), Next: p.Next, More: p.More}
	})
}
