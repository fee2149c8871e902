package server

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/chat-recall/recall/sidecar/internal/api"
)

// bodyTimeout bounds how long the body of a request may take to arrive. Tests shorten it.
var bodyTimeout = 10 * time.Second

// writeTimeout bounds how long a client may take to read a part of a response.
const writeTimeout = 30 * time.Second

// body is the body of a request. Its bytes count among those of all bodies until release.
type body struct {
	io.ReadCloser
	controller *http.ResponseController
	budget     *semaphore.Weighted
	held       int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if !b.budget.TryAcquire(int64(n)) {
		return 0, api.Overloaded(fmt.Sprintf("the bodies of the requests under way have more than %d bytes together",
			maxBodies))
	}
	b.held += int64(n)
	if err == io.EOF { // the next request of the connection has a limit of its own
		_ = b.controller.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (b *body) release() {
	b.budget.Release(b.held)
	b.held = 0
}

// response is a response of which each part must be read within writeTimeout.
type response struct {
	http.ResponseWriter
	controller *http.ResponseController
	status     int
	detail     string // of a problem
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_ = w.controller.SetWriteDeadline(time.Now().Add(writeTimeout))
	return w.ResponseWriter.Write(p)
}

// Flush implements [http.Flusher]. Who streams has read of the request what it needs.
func (w *response) Flush() {
	_ = w.controller.SetReadDeadline(time.Time{})
	_ = w.controller.SetWriteDeadline(time.Now().Add(writeTimeout))
	_ = w.controller.Flush()
}

// Unwrap is for [http.ResponseController].
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
