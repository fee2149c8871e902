package adapter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/internal/problem"
	"github.com/chat-recall/recall/shared"
)

const (
	callTimeout  = 30 * time.Second // of a request, also while the plugin restarts
	maxBodyBytes = 1 << 20
)

// ErrNoSession is for HTTP.User: the request comes from nobody.
var ErrNoSession error = &StatusError{http.StatusUnauthorized, errors.New("log in first")}

// HTTP configures handlers of requests of users.
type HTTP struct {
	// User tells who sent a request. Whatever it answers is trusted: it checks the session, and that the request does not
	// come from a page of another site. Without a session the error is ErrNoSession.
	User func(*http.Request) (string, error)

	// Conversations reads the conversations of GET /since from the query; nil: one or more ids, all of one type.
	Conversations func(*http.Request) ([]shared.Conversation, error)

	Log hclog.Logger // of errors that are not the user's; nil: no log
}

// Handler serves the calls of users. Each ends after 30 seconds. The JSON is that of the sidecar's /v1, without what
// the server looks up itself:
//
//	POST /recall  {"targets":[{"message_id","conversation"}],"recall_id","ext","reason","atomic","wait"}
//	              → {"results":[…],"now"}
//	POST /check   the same
//	GET  /since?type=&id=&id=…&after=&limit=  → {"events":[…],"next","more","reset"}
//	GET  /ledger?recall_id=&after=&limit=     → {"entries":[…],"next","more","reset"}
//
// The conversation of a target is the one in which the user sees the message. It may be left out without a wait, which
// is text such as "30s". "message_ids":[…] is short for targets that have nothing but an id. The header
// Idempotency-Key fills an empty recall_id. An error is a document of RFC 9457.
func (a *Adapter) Handler(h HTTP) http.Handler {
	mux := http.NewServeMux()
	handle := func(method, path string, do func(r *http.Request, user string) (any, error)) {
		mux.Handle(path, h.Handle(func(r *http.Request, user string) (any, error) {
			if r.Method != method {
				return nil, &StatusError{http.StatusMethodNotAllowed, fmt.Errorf("the method is %s; use %s", r.Method, method)}
			}
			ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
			defer cancel()
			return do(r.WithContext(ctx), user)
		}))
	}
	handle(http.MethodPost, "/recall", judgeHandler(a.Recall))
	handle(http.MethodPost, "/check", judgeHandler(a.Check))
	handle(http.MethodGet, "/since", func(r *http.Request, user string) (any, error) {
		read := h.Conversations
		if read == nil {
			read = conversationsOf
		}
		list, err := read(r)
		if err != nil {
			return nil, err
		}
		req := shared.SinceRequest{Conversations: list, After: r.URL.Query().Get("after")}
		if req.Limit, err = Number(r, "limit", shared.MaxSinceLimit); err != nil {
			return nil, err
		}
		return a.Since(r.Context(), user, req)
	})
	handle(http.MethodGet, "/ledger", func(r *http.Request, user string) (any, error) {
		q := r.URL.Query()
		limit, err := Number(r, "limit", shared.MaxLedgerLimit)
		if err != nil {
			return nil, err
		}
		return a.Ledger(r.Context(), user,
			shared.LedgerRequest{RecallID: q.Get("recall_id"), After: q.Get("after"), Limit: limit})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		WriteError(w, &StatusError{http.StatusNotFound, errors.New("there is no such path")})
	})
	return mux
}

func conversationsOf(r *http.Request) ([]shared.Conversation, error) {
	q := r.URL.Query()
	var list []shared.Conversation
	for _, id := range q["id"] {
		list = append(list, shared.Conversation{Type: shared.ConversationType(q.Get("type")), ID: id})
	}
	if list == nil {
		return nil, shared.Invalidf("id", "name a conversation: type and id")
	}
	return list, nil
}

// Handle makes a handler of what answers a request of a user: with a value, which is sent as JSON, or an error.
func (h HTTP) Handle(do func(r *http.Request, user string) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := h.User(r)
		var answer any
		if err == nil {
			answer, err = do(r, user)
		}
		h.Answer(w, r, answer, err)
	})
}

// Answer answers a request with a value, which is sent as JSON, or an error.
func (h HTTP) Answer(w http.ResponseWriter, r *http.Request, value any, err error) {
	var text bytes.Buffer
	if err == nil {
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false) // a leak of text is found as it was written
		err = e.Encode(value)
	}
	if err != nil {
		if status := WriteError(w, err); status >= http.StatusInternalServerError {
			orNone(h.Log).Error("request failed", "path", r.URL.Path, "status", status, "error", err)
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text.Bytes()) // a client that went away has no use for it
}

func judgeHandler(
	do func(context.Context, string, Ask) ([]shared.RecallResult, error),
) func(*http.Request, string) (any, error) {
	type target struct {
		MessageID    string              `json:"message_id"`
		Conversation shared.Conversation `json:"conversation"`
	}
	return func(r *http.Request, user string) (any, error) {
		var in struct {
			Targets    []target `json:"targets"`
			MessageIDs []string `json:"message_ids"`
			RecallID   string   `json:"recall_id"`
			Ext        string   `json:"ext"`
			Reason     string   `json:"reason"`
			Atomic     bool     `json:"atomic"`

			Wait json.RawMessage `json:"wait"`
		}
		if err := ReadJSON(r, maxBodyBytes, &in); err != nil {
			return nil, err
		}
		ask := Ask{MessageIDs: in.MessageIDs, RecallID: in.RecallID, Ext: in.Ext, Reason: in.Reason, Atomic: in.Atomic}
		var err error
		if ask.Wait, err = waitOf(in.Wait); err != nil {
			return nil, err
		}
		if len(in.Targets) > 0 && len(in.MessageIDs) > 0 {
			return nil, shared.Invalidf("message_ids", "is short for targets; give one of them")
		}
		for _, t := range in.Targets {
			ask.MessageIDs, ask.Conversations = append(ask.MessageIDs, t.MessageID), append(ask.Conversations, t.Conversation)
		}
		if ask.RecallID == "" {
			ask.RecallID = r.Header.Get("Idempotency-Key")
		}
		results, err := do(r.Context(), user, ask)
		if err != nil {
			return nil, err
		}
		return struct {
			Results []shared.RecallResult `json:"results"`
			Now     time.Time             `json:"now"` // by the server's clock, to which a client holds until
		}{results, time.Now().UTC()}, nil
	}
}

// seconds is a duration as /v1 has it.
var seconds = regexp.MustCompile(`^[0-9]+(\.[0-9]{1,9})?s$`)

// waitOf reads a duration of JSON; absent and null are 0.
func waitOf(value json.RawMessage) (time.Duration, error) {
	if len(value) == 0 || string(value) == "null" {
		return 0, nil
	}
	var text string
	if json.Unmarshal(value, &text) == nil && seconds.MatchString(text) {
		if wait, err := time.ParseDuration(text); err == nil && wait <= shared.MaxWait {
			return wait, nil
		}
	}
	return 0, shared.Invalidf("wait", `is %.40s; want text such as "30s", at most "%.0fs"`, value,
		shared.MaxWait.Seconds())
}

// Number reads a query parameter that is a whole number from 0 to most; absent is 0.
func Number(r *http.Request, name string, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, shared.Invalidf(name, "is %.40q; a whole number from 0 to %d", text, most)
	}
	return n, nil
}

// StatusError is an error with the HTTP status that a client gets.
type StatusError struct {
	Status int
	Err    error
}

func (e *StatusError) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e *StatusError) Unwrap() error { return e.Err }

// WriteError answers with an error, and returns the status. What is not the client's to know is left out.
func WriteError(w http.ResponseWriter, err error) (status int) {
	p := problem.Problem{Status: http.StatusInternalServerError, Detail: err.Error()}
	var known *StatusError
	var field *shared.FieldError
	switch {
	case errors.As(err, &known):
		p.Status = known.Status
	case errors.Is(err, shared.ErrInvalid):
		p.Status = http.StatusBadRequest
	case errors.Is(err, ErrNotVisible):
		p.Status = http.StatusNotFound
	case errors.Is(err, context.Canceled):
		p.Status = problem.StatusClientGone
	case errors.Is(err, shared.ErrOverloaded):
		p.Status, p.Detail = http.StatusTooManyRequests, "recall is busy; try again"
	case errors.Is(err, shared.ErrDamaged):
		p.Code, p.Detail = "data_loss", "the index of the server is damaged; see its log"
	case errors.Is(err, shared.ErrUnimplemented):
		p.Status, p.Detail = http.StatusNotImplemented, "the recall plugin is too old for this"
	case errors.Is(err, shared.ErrUnavailable):
		p.Status, p.Detail = http.StatusServiceUnavailable, "recall is starting or busy; try again"
	case errors.Is(err, context.DeadlineExceeded):
		p.Status, p.Detail = http.StatusServiceUnavailable, "the server is busy; try again"
	default:
		p.Detail = "internal error; see the log of the server"
	}
	if errors.As(err, &field) {
		p.Errors = []problem.Violation{{Field: field.Field, Detail: field.Problem}}
	}
	again := p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests
	if again && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1")
	}
	p.Write(w)
	return p.Status
}
