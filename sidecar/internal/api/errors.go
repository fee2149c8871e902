package api

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/chat-recall/recall/shared"
)

// retryAfter is when a client is asked to repeat a call that could not be answered.
const retryAfter = time.Second

// Error returns an error of the contract as every protocol carries it: a code, a text, and details of package
// errdetails.
func Error(err error) error {
	var ours *connect.Error
	var field *shared.FieldError
	var config *shared.ConfigError
	var upgrade *shared.UpgradeError
	code := connect.CodeInternal
	switch {
	case errors.As(err, &ours):
		return err
	case errors.As(err, &upgrade), errors.As(err, &config):
		code = connect.CodeFailedPrecondition
	case errors.As(err, &field):
		return Invalid(field.Field, field.Problem)
	case errors.Is(err, shared.ErrInvalid):
		code = connect.CodeInvalidArgument
	case errors.Is(err, shared.ErrOverloaded):
		code = connect.CodeResourceExhausted
	case errors.Is(err, shared.ErrDamaged):
		code = connect.CodeDataLoss
	case errors.Is(err, shared.ErrUnimplemented):
		code = connect.CodeUnimplemented
	case errors.Is(err, context.DeadlineExceeded):
		code = connect.CodeDeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = connect.CodeCanceled
	case errors.Is(err, shared.ErrUnavailable):
		code = connect.CodeUnavailable
	}
	out := connect.NewError(code, err)
	if code == connect.CodeResourceExhausted || code == connect.CodeUnavailable {
		retry(out)
	}
	return out
}

// retry says when to repeat the call.
func retry(err *connect.Error) {
	addDetail(err, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	err.Meta().Set("Retry-After", "1")
}

// Overloaded returns the error for a request that was not taken because there are too many.
func Overloaded(problem string) error {
	out := connect.NewError(connect.CodeResourceExhausted, errors.New(problem))
	retry(out)
	return out
}

// Invalid returns the error for a request with a wrong field.
func Invalid(field, problem string) error {
	out := connect.NewError(connect.CodeInvalidArgument, &shared.FieldError{Field: field, Problem: problem})
	violation := &errdetails.BadRequest_FieldViolation{Field: field, Description: problem}
	addDetail(out, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}})
	return out
}

func addDetail(err *connect.Error, m proto.Message) {
	if d, bad := connect.NewErrorDetail(m); bad == nil {
		err.AddDetail(d)
	}
}
