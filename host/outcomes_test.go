package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/internal/wire"
	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// pluginConn is a connection to a plugin whose SettleAll is this function; it serves nothing else.
type pluginConn struct {
	grpc.ClientConnInterface
	settleAll func(context.Context, *recallv1.SettleRequest) (*recallv1.SettleResponse, error)
}

func (c pluginConn) Invoke(ctx context.Context, _ string, args, reply any, _ ...grpc.CallOption) error {
	resp, err := c.settleAll(ctx, args.(*recallv1.SettleRequest))
	if err == nil {
		reply.(*recallv1.SettleResponse).Statuses = resp.GetStatuses()
	}
	return err
}

// openReporter runs a reporter to such a plugin until the test ends.
func openReporter(t *testing.T,
	settleAll func(context.Context, *recallv1.SettleRequest) (*recallv1.SettleResponse, error)) *reporter {
	t.Helper()
	g := newGate(nil)
	g.open(&process{api: wire.NewClient(t.Context(), pluginConn{settleAll: settleAll})})
	r := newReporter(g)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return r
}

func outcomeOf(sequence uint64) wire.Settlement {
	return wire.Settlement{Sequence: sequence, Step: "wipe", Attempt: 1, Outcome: shared.OutcomeDone}
}

func stored(req *recallv1.SettleRequest) *recallv1.SettleResponse {
	return &recallv1.SettleResponse{Statuses: make([][]byte, len(req.Settlements))}
}

func TestReporter_GathersWhileAReportIsUnderWay(t *testing.T) {
	for name, tc := range map[string]struct {
		cause   string
		reports []int
	}{
		"at most 512 go together":      {"", []int{1, wire.MaxSettlements, 600 - wire.MaxSettlements}},
		"at most 64 KiB of error text": {strings.Repeat("x", shared.MaxStepErrorBytes), []int{1, 61, 61, 61}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				let := make(chan struct{})
				var reports []int
				r := openReporter(t, func(_ context.Context,
					req *recallv1.SettleRequest) (*recallv1.SettleResponse, error) {
					reports = append(reports, len(req.Settlements))
					<-let
					return stored(req), nil
				})
				var owners sync.WaitGroup
				all := -1
				for _, n := range tc.reports {
					all += n
				}
				for i := range all + 1 {
					owners.Go(func() {
						s := outcomeOf(uint64(i))
						if i > 0 {
							s.Error = tc.cause
						}
						if err := r.settle(t.Context(), s); err != nil {
							t.Error(err)
						}
					})
					if i == 0 {
						synctest.Wait() // the first is under way
					}
				}
				synctest.Wait()
				close(let)
				owners.Wait()
				if fmt.Sprint(reports) != fmt.Sprint(tc.reports) {
					t.Errorf("reports of %v outcomes, want %v", reports, tc.reports)
				}
			})
		})
	}
}

func TestReporter_EachOutcomeGetsItsOwnAnswer(t *testing.T) {
	refused, err := proto.Marshal(status.New(codes.InvalidArgument, "there is no event 2").Proto())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		first := make(chan struct{})
		r := openReporter(t, func(_ context.Context,
			req *recallv1.SettleRequest) (*recallv1.SettleResponse, error) {
			<-first
			resp := stored(req)
			for i, s := range req.Settlements {
				if s.Sequence == 2 {
					resp.Statuses[i] = refused
				}
			}
			return resp, nil
		})
		var owners sync.WaitGroup
		for sequence := range uint64(4) {
			owners.Go(func() {
				if err := r.settle(t.Context(), outcomeOf(sequence)); errors.Is(err, shared.ErrInvalid) != (sequence == 2) {
					t.Errorf("event %d: %v", sequence, err)
				}
			})
		}
		synctest.Wait()
		close(first)
		owners.Wait()
	})
}

func TestReporter_NoOutcomeWaitsBehindOneWhoseContextEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openReporter(t, func(ctx context.Context,
			req *recallv1.SettleRequest) (*recallv1.SettleResponse, error) {
			if req.Settlements[0].Sequence == 1 { // the plugin is stuck in it
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return stored(req), nil
		})
		stuck, end := context.WithCancel(t.Context())
		waiting, endToo := context.WithCancel(t.Context())
		var owners sync.WaitGroup
		for i, ctx := range []context.Context{stuck, waiting, t.Context()} {
			owners.Go(func() {
				err := r.settle(ctx, outcomeOf(uint64(i)+1))
				if want := ctx.Err(); !errors.Is(err, want) {
					t.Errorf("outcome %d: %v, want %v", i, err, want)
				}
			})
			synctest.Wait()
		}
		endToo() // it is not sent any more
		synctest.Wait()
		if n := len(r.waiting); n != 1 {
			t.Errorf("%d outcomes wait, want 1", n)
		}
		end()
		owners.Wait()
	})
}

// What a plugin answers to the report as a whole refuses no outcome: it would be lost.
func TestReporter_ARefusedReportRefusesNoOutcome(t *testing.T) {
	r := openReporter(t, func(context.Context, *recallv1.SettleRequest) (*recallv1.SettleResponse, error) {
		return nil, status.Error(codes.InvalidArgument, "too many settlements")
	})
	if err := r.settle(t.Context(), outcomeOf(1)); err == nil || errors.Is(err, shared.ErrInvalid) ||
		!strings.Contains(err.Error(), "too many settlements") {
		t.Errorf("got %v", err)
	}
}
