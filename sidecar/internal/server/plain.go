package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/chat-recall/recall/sidecar/internal/api"
)

// MaxBody is how many bytes a request may have.
const MaxBody = 16 << 20

// plain serves a call as POST /v1/name with JSON, and errors as problem details.
func plain[Q, A any, PQ interface {
	*Q
	proto.Message
}, PA interface {
	*A
	proto.Message
}](mux *http.ServeMux, name string, call func(context.Context, PQ) (PA, error)) {
	post(mux, name, func(w http.ResponseWriter, r *http.Request) {
		req := PQ(new(Q))
		if status, err := readJSON(w, r, req); err != nil {
			fail(w, status, err)
			return
		}
		ctx := r.Context()
		if key := r.Header.Get("Idempotency-Key"); key != "" {
			ctx = api.WithIdempotencyKey(ctx, key)
		}
		answer, err := call(ctx, req)
		if err != nil {
			fail(w, 0, err)
			return
		}
		text, err := api.JSON{}.Marshal(answer)
		if err != nil {
			fail(w, 0, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(text, '\n'))
	})
}

// post serves POST /v1/name, and says so to other methods.
func post(mux *http.ServeMux, name string, handle http.HandlerFunc) {
	path := "/v1/" + name
	mux.HandleFunc("POST "+path, handle)
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", http.MethodPost)
		fail(w, http.StatusMethodNotAllowed, connect.NewError(connect.CodeUnimplemented,
			fmt.Errorf("%s answers POST, not %.20s", path, r.Method)))
	})
}

// readJSON reads the body of a plain request. With an error it returns the status to answer.
func readJSON(w http.ResponseWriter, r *http.Request, into proto.Message) (status int, err error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || kind != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return http.StatusUnsupportedMediaType, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("the Content-Type is %.80q; it must be application/json", r.Header.Get("Content-Type")))
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return http.StatusUnsupportedMediaType, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("the Content-Encoding is %.80q; /v1 takes none", e))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case connect.CodeOf(err) == connect.CodeResourceExhausted:
		return 0, err
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("the body has more than %d bytes", MaxBody))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, connect.NewError(connect.CodeDeadlineExceeded,
			fmt.Errorf("the body did not arrive within %s", bodyTimeout))
	case err != nil:
		return http.StatusBadRequest, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("read the body: %w", err))
	}
	return 0, api.JSON{}.Unmarshal(body, into)
}
