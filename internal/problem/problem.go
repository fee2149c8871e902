// Package problem writes errors of HTTP APIs as RFC 9457 has them.
package problem

import (
	"encoding/json"
	"net/http"
)

// StatusClientGone is the status of a request whose client has gone, as nginx has it.
const StatusClientGone = 499

// Problem is the document of one error.
type Problem struct {
	Type      string      `json:"type"`
	Title     string      `json:"title"`
	Status    int         `json:"status"`
	Code      string      `json:"code"`
	Detail    string      `json:"detail"`
	Errors    []Violation `json:"errors,omitempty"`
	RequestID string      `json:"request_id,omitempty"`
}

// Violation is a field of the request that is wrong.
type Violation struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

// codes are the codes of problems that name none: the words of Connect and gRPC.
var codes = map[int]string{
	http.StatusUnauthorized: "unauthenticated", http.StatusForbidden: "permission_denied",
	http.StatusNotFound: "not_found", http.StatusMethodNotAllowed: "unimplemented", http.StatusConflict: "already_exists",
	http.StatusGone: "not_found", http.StatusUnprocessableEntity: "failed_precondition",
	http.StatusTooManyRequests: "resource_exhausted", http.StatusNotImplemented: "unimplemented",
	http.StatusServiceUnavailable: "unavailable", http.StatusGatewayTimeout: "deadline_exceeded",
	StatusClientGone: "canceled",
}

// Write answers with the problem. It fills Type and Title, and Code if that is empty.
func (p Problem) Write(w http.ResponseWriter) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	switch {
	case p.Code != "":
	case codes[p.Status] != "":
		p.Code = codes[p.Status]
	case p.Status >= http.StatusInternalServerError:
		p.Code = "internal"
	default:
		p.Code = "invalid_argument"
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that went away has no use for it
}
