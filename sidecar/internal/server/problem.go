package server

import (
	"errors"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/chat-recall/recall/internal/problem"
	"github.com/chat-recall/recall/sidecar/internal/api"
)

// statuses are the HTTP statuses of the codes, for errors that have none of their own.
var statuses = map[connect.Code]int{
	connect.CodeInvalidArgument: http.StatusBadRequest, connect.CodeUnauthenticated: http.StatusUnauthorized,
	connect.CodePermissionDenied: http.StatusForbidden, connect.CodeFailedPrecondition: http.StatusConflict,
	connect.CodeResourceExhausted: http.StatusTooManyRequests, connect.CodeUnimplemented: http.StatusNotImplemented,
	connect.CodeUnavailable: http.StatusServiceUnavailable, connect.CodeDeadlineExceeded: http.StatusGatewayTimeout,
	connect.CodeCanceled: problem.StatusClientGone,
}

// fail answers a plain request with an error. status 0 means that of the error's code.
func fail(w http.ResponseWriter, status int, err error) {
	err = api.Error(err)
	code := connect.CodeOf(err)
	if status == 0 {
		if status = statuses[code]; status == 0 {
			status = http.StatusInternalServerError
		}
	}
	p := problem.Problem{Status: status, Code: code.String(), Detail: err.Error(),
		RequestID: w.Header().Get(requestIDHeader)}
	var ours *connect.Error
	if errors.As(err, &ours) {
		p.Detail = ours.Message()
		for _, d := range ours.Details() {
			v, _ := d.Value()
			if bad, ok := v.(*errdetails.BadRequest); ok {
				for _, f := range bad.GetFieldViolations() {
					p.Errors = append(p.Errors, problem.Violation{Field: f.GetField(), Detail: f.GetDescription()})
				}
			}
		}
		if after := ours.Meta().Get("Retry-After"); after != "" {
			w.Header().Set("Retry-After", after)
		}
	}
	if ours, ok := w.(*response); ok {
		ours.detail = p.Detail
	}
	p.Write(w)
}
