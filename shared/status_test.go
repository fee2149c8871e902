package shared

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestToStatus_EveryError(t *testing.T) {
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{nil, codes.OK},
		{Invalidf("labels[3]", "is empty"), codes.InvalidArgument},
		{fmt.Errorf("call: %w", Invalidf("labels[3]", "is empty")), codes.InvalidArgument},
		{ErrUnavailable, codes.Unavailable},
		{fmt.Errorf("%w: in standby", ErrUnavailable), codes.Unavailable},
		{fmt.Errorf("%w: %w", ErrUnavailable, context.DeadlineExceeded), codes.Unavailable},
		{fmt.Errorf("%w: 4,096 calls", ErrOverloaded), codes.ResourceExhausted},
		{fmt.Errorf("%w: Flush", ErrUnimplemented), codes.Unimplemented},
		{fmt.Errorf("read: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{fmt.Errorf("read: %w", context.Canceled), codes.Canceled},
		{errors.New("the disk is full"), codes.Unknown},
	} {
		if got := status.Code(toStatus(c.err)); got != c.code {
			t.Errorf("%v is %s, want %s", c.err, got, c.code)
		}
	}
}

func TestFromStatus_EveryCode(t *testing.T) {
	want := map[codes.Code]error{
		codes.InvalidArgument:    ErrInvalid,
		codes.ResourceExhausted:  ErrOverloaded,
		codes.Unavailable:        ErrUnavailable,
		codes.Canceled:           ErrUnavailable,
		codes.Internal:           ErrUnavailable,
		codes.Unimplemented:      ErrUnimplemented,
		codes.DeadlineExceeded:   context.DeadlineExceeded,
		codes.Unknown:            nil,
		codes.NotFound:           nil,
		codes.AlreadyExists:      nil,
		codes.PermissionDenied:   nil,
		codes.FailedPrecondition: nil,
		codes.Aborted:            nil,
		codes.OutOfRange:         nil,
		codes.DataLoss:           nil,
		codes.Unauthenticated:    nil,
	}
	sentinels := []error{ErrInvalid, ErrOverloaded, ErrUnavailable, ErrUnimplemented, context.DeadlineExceeded}
	if err := fromStatus(t.Context(), status.Error(codes.OK, "")); err != nil {
		t.Errorf("OK is %v", err)
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		sentinel, ok := want[code]
		if !ok {
			t.Errorf("the test lacks %s", code)
			continue
		}
		err := fromStatus(t.Context(), status.Error(code, "what the other side says"))
		if err == nil || (code != codes.DeadlineExceeded && !strings.Contains(err.Error(), "what the other side says")) {
			t.Errorf("%s is %v", code, err)
		}
		for _, s := range sentinels {
			if errors.Is(err, s) != (s == sentinel) {
				t.Errorf("%s: is %v: %t", code, s, errors.Is(err, s))
			}
		}
	}
	t.Run("names the field", func(t *testing.T) {
		var field *FieldError
		err := fromStatus(t.Context(), toStatus(Invalidf("labels[3]", "is empty")))
		if !errors.As(err, &field) || field.Field != "labels[3]" || field.Problem != "is empty" || !errors.Is(err, ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("names the limit of a message", func(t *testing.T) {
		err := fromStatus(t.Context(), status.Error(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"))
		if !errors.Is(err, ErrInvalid) || errors.Is(err, ErrOverloaded) || !strings.Contains(err.Error(), fmt.Sprint(MaxWireBytes)) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("is the caller's own end first", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
			if err := fromStatus(ctx, status.Error(code, "")); err != context.Canceled {
				t.Errorf("%s after the caller cancelled is %v", code, err)
			}
		}
	})
}
