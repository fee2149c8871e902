package wire

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/chat-recall/recall/shared"
	"github.com/chat-recall/recall/shared/recallv1"
)

// errServer answers every call with one gRPC status.
type errServer struct {
	recallv1.UnimplementedRecallServiceServer
	err error
}

func (s *errServer) Status(context.Context, *recallv1.StatusRequest) (*recallv1.StatusResponse, error) {
	return nil, s.err
}

func (s *errServer) Since(context.Context, *recallv1.SinceRequest) (*recallv1.EventPage, error) {
	return nil, s.err
}

func (s *errServer) Deliver(*recallv1.DeliverRequest, recallv1.RecallService_DeliverServer) error {
	return s.err
}

func TestFromStatus_EveryCode(t *testing.T) {
	detailed, err := status.New(codes.InvalidArgument, "text").WithDetails(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "message_ids[3]", Description: "is empty"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	vague, err := status.New(codes.InvalidArgument, "text").WithDetails(&errdetails.BadRequest{}) // which names no field
	if err != nil {
		t.Fatal(err)
	}
	sentinels := []error{shared.ErrInvalid, shared.ErrOverloaded, shared.ErrUnavailable, shared.ErrUnimplemented,
		shared.ErrDamaged,
		context.DeadlineExceeded, context.Canceled}
	cases := []struct {
		status error
		is     error // among sentinels; nil: none of them
		text   string
	}{
		{detailed.Err(), shared.ErrInvalid, "message_ids[3]: is empty"},
		{status.Error(codes.InvalidArgument, "text"), shared.ErrInvalid, "text"},
		{vague.Err(), shared.ErrInvalid, "text"},
		{status.Error(codes.ResourceExhausted, "text"), shared.ErrOverloaded, "text"},
		{status.Error(codes.ResourceExhausted, "trying to send message larger than max (2 vs. 1)"), shared.ErrInvalid,
			"request: trying to send message larger than max (2 vs. 1); send fewer messages a call, a message on the wire has " +
				"at most 16777216 bytes"},
		{status.Error(codes.ResourceExhausted, "grpc: received message larger than max (2 vs. 1)"), nil,
			"answer of the plugin: it has more than 16777216 bytes (grpc: received message larger than max (2 vs. 1)); " +
				"nothing of it is used"},
		{status.Error(codes.Unavailable, "text"), shared.ErrUnavailable, "text"},
		// not the caller's: how gRPC tells of a connection cut short
		{status.Error(codes.Canceled, "text"), shared.ErrUnavailable, "text"},
		{status.Error(codes.Internal, "text"), shared.ErrUnavailable, "text"},
		{status.Error(codes.Unimplemented, "text"), shared.ErrUnimplemented, "text"},
		{status.Error(codes.DeadlineExceeded, "text"), context.DeadlineExceeded, "context deadline exceeded"},
		{status.Error(codes.Unknown, "text"), nil, "text"},
		{status.Error(codes.NotFound, "text"), nil, "text"},
		{status.Error(codes.AlreadyExists, "text"), nil, "text"},
		{status.Error(codes.PermissionDenied, "text"), nil, "text"},
		{status.Error(codes.FailedPrecondition, "text"), nil, "text"},
		{status.Error(codes.Aborted, "text"), nil, "text"},
		{status.Error(codes.OutOfRange, "text"), nil, "text"},
		{status.Error(codes.DataLoss, "text"), shared.ErrDamaged, "text"},
		{status.Error(codes.Unauthenticated, "text"), nil, "text"},
	}
	tried := map[codes.Code]bool{codes.OK: true}
	for _, tc := range cases {
		code := status.Code(tc.status)
		tried[code] = true
		client := NewClient(t.Context(), dialServer(t, func(s *grpc.Server) {
			recallv1.RegisterRecallServiceServer(s, &errServer{err: tc.status})
		}))
		host, plugin := laneEnds(t)
		if err := client.UseLane(host); err != nil {
			t.Fatal(err)
		}
		go func() { // ends with the lane
			in := &laneReader{conn: plugin, limit: maxLaneCall}
			for in.fill() == nil {
				f, size, err := in.frame()
				if err != nil || size == 0 {
					t.Errorf("read a call: %d, %v", size, err)
					return
				}
				in.skip(size)
				_, _ = plugin.Write(encodeError(f.id, tc.status))
			}
		}()
		calls := map[string]func() error{
			"unary call": func() error { _, err := client.Since(t.Context(), fullSince); return err },
			"stream":     func() error { return client.Deliver(t.Context(), func([]shared.Delivery) {}) },
			"lane": func() error {
				_, err := client.Status(t.Context(), "acme", []string{"m/1"})
				return err
			},
		}
		for way, call := range calls {
			err := call()
			if err == nil || err.Error() != tc.text {
				t.Errorf("%s by %s: got %q, want %q", code, way, fmt.Sprint(err), tc.text)
			}
			for _, sentinel := range sentinels {
				if errors.Is(err, sentinel) != (sentinel == tc.is) {
					t.Errorf("%s by %s: errors.Is(%v, %v) is %v", code, way, err, sentinel, errors.Is(err, sentinel))
				}
			}
		}
	}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if !tried[code] {
			t.Errorf("code %s is not tested", code)
		}
	}
	t.Run("is the caller's own end first", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
			if err := fromStatus(ctx, status.Error(code, "")); err != context.Canceled {
				t.Errorf("%s after the caller canceled is %v", code, err)
			}
		}
	})
}

func TestToStatus_EveryError(t *testing.T) {
	impl := &echo{}
	conn := dial(t, impl)
	wire := recallv1.NewRecallServiceClient(conn)
	onLane, _ := onLane(t, impl)
	for _, tc := range []struct {
		err  error
		code codes.Code
	}{
		{shared.Invalidf("tenant", "is empty"), codes.InvalidArgument},
		{fmt.Errorf("index: %w", shared.Invalidf("tenant", "is empty")), codes.InvalidArgument},
		{shared.ErrUnavailable, codes.Unavailable},
		{fmt.Errorf("%w: standby", shared.ErrUnavailable), codes.Unavailable},
		{fmt.Errorf("%w: %w", shared.ErrUnavailable, context.DeadlineExceeded), codes.Unavailable},
		{shared.ErrOverloaded, codes.ResourceExhausted},
		{fmt.Errorf("%w: 4,096 calls", shared.ErrOverloaded), codes.ResourceExhausted},
		{shared.ErrUnimplemented, codes.Unimplemented},
		{fmt.Errorf("%w: 000001.sst", shared.ErrDamaged), codes.DataLoss},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{fmt.Errorf("read: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
		{errors.New("the disk is full"), codes.Unknown},
	} {
		impl.err = tc.err
		calls := map[string]func() error{
			"unary call": func() error {
				_, err := wire.Since(t.Context(), encodeSinceRequest(fullSince))
				return err
			},
			"stream": func() error {
				stream, err := wire.Deliver(t.Context(), &recallv1.DeliverRequest{})
				for err == nil {
					_, err = stream.Recv()
				}
				return err
			},
			"lane": func() error {
				_, err := onLane.recall.Status(t.Context(), &recallv1.StatusRequest{Tenant: "acme", MessageIds: []string{"m/1"}})
				return err
			},
		}
		for way, call := range calls {
			if err := call(); status.Code(err) != tc.code {
				t.Errorf("%v by %s: code %s, want %s", tc.err, way, status.Code(err), tc.code)
			}
		}
		_, unary := NewClient(t.Context(), conn).Since(t.Context(), fullSince)
		_, lane := onLane.Status(t.Context(), "acme", []string{"m/1"})
		for way, err := range map[string]error{"unary call": unary, "lane": lane} {
			var field *shared.FieldError
			if wanted := (&shared.FieldError{}); errors.As(tc.err, &wanted) && (!errors.As(err, &field) || *field != *wanted) {
				t.Errorf("%v came back by %s as %v", tc.err, way, err)
			}
		}
	}
}
