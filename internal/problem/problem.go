// Package problem writes errors of HTTP APIs as RFC 9457 has them.
package problem

import (
	"encoding/json"
	"net/http"
)

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

// Write answers with the problem. It fills Type and Title.
func (p Problem) Write(w http.ResponseWriter) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that went away has no use for it
}
