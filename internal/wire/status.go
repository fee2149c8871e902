package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/shared"
)

// toStatus is an error of this contract as a gRPC status.
func toStatus(err error) error {
	var field *shared.FieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &field):
		st, detailErr := status.New(codes.InvalidArgument, field.Error()).WithDetails(&errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field.Field, Description: field.Problem}},
		})
		if detailErr != nil {
			return status.Error(codes.InvalidArgument, field.Error())
		}
		return st.Err()
	case errors.Is(err, shared.ErrDamaged):
		return status.Error(codes.DataLoss, err.Error())
	case errors.Is(err, shared.ErrUnavailable):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, shared.ErrOverloaded):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, shared.ErrUnimplemented):
		return status.Error(codes.Unimplemented, err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unknown, err.Error())
}

// marshalStatus encodes an error of this contract as a google.rpc.Status; nil is empty.
func marshalStatus(err error) []byte {
	if err == nil {
		return nil
	}
	data, marshalErr := proto.Marshal(status.Convert(toStatus(err)).Proto())
	if marshalErr != nil { // its text is no valid UTF-8
		data, _ = proto.Marshal(status.New(codes.Unknown, strings.ToValidUTF8(err.Error(), "\uFFFD")).Proto())
	}
	return data
}

// unmarshalStatus reads what marshalStatus wrote, as an error of gRPC: see fromStatus.
func unmarshalStatus(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	var st spb.Status
	if err := proto.Unmarshal(data, &st); err != nil {
		return status.Errorf(codes.Internal, "read a status: %v", err)
	}
	return status.FromProto(&st).Err()
}

// remoteError is an error of the other side: its text, and the sentinel it stands for.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

// fromStatus is a gRPC status as an error of this contract. The error of the caller's own ctx wins: what the
// transport says after that is only its consequence.
func fromStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.InvalidArgument:
		for _, detail := range st.Details() {
			if bad, ok := detail.(*errdetails.BadRequest); ok && len(bad.GetFieldViolations()) > 0 {
				v := bad.GetFieldViolations()[0]
				return &shared.FieldError{Field: v.GetField(), Problem: v.GetDescription()}
			}
		}
		return &remoteError{text: st.Message(), is: shared.ErrInvalid}
	case codes.ResourceExhausted:
		switch message := st.Message(); { // gRPC's own words for a message over MaxWireBytes
		case strings.Contains(message, "trying to send message larger than max"):
			return shared.Invalidf("request", "%s; send fewer messages a call, a message on the wire has at most %d bytes",
				message,
				MaxWireBytes)
		case strings.Contains(message, "larger than max"):
			return badAnswer(fmt.Errorf("it has more than %d bytes (%s)", MaxWireBytes, message))
		}
		return &remoteError{text: st.Message(), is: shared.ErrOverloaded}
	case codes.Unavailable, codes.Canceled, codes.Internal: // the last two are how gRPC tells of a connection cut short
		if strings.Contains(st.Message(), tooLargeDecoded) {
			return badAnswer(errors.New(st.Message()))
		}
		return &remoteError{text: st.Message(), is: shared.ErrUnavailable}
	case codes.DataLoss:
		return &remoteError{text: st.Message(), is: shared.ErrDamaged}
	case codes.Unimplemented:
		return &remoteError{text: st.Message(), is: shared.ErrUnimplemented}
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	}
	return errors.New(st.Message())
}
