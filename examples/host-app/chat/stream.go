package chat

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// stream sends what happens, as server-sent events, until the client goes.
func (a *api) stream(w http.ResponseWriter, r *http.Request) {
	user, err := a.user(r)
	if err != nil {
		a.web().Answer(w, r, nil, err)
		return
	}
	leave, err := a.limits.stream(w)
	if err != nil {
		a.web().Answer(w, r, nil, err)
		return
	}
	defer leave()
	c, err := a.server.Connect(user)
	if err != nil {
		a.web().Answer(w, r, nil, err)
		return
	}
	defer func() {
		if err := c.Leave(); err != nil {
			a.server.log.Error("a client left with messages undelivered", "error", err)
		}
	}()
	out := http.NewResponseController(w)
	// the server's bound on requests is not meant for a stream; a test's writer has none
	_ = out.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Connection", "close") // its descriptor is free once it ends, whether the client reads on or not
	write := func(event string, body []byte) error {
		if err := out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, body); err != nil {
			return err
		}
		return out.Flush()
	}
	if write("hello", encode(map[string]string{"user": user})) != nil {
		return
	}
	for {
		frame, err := c.Next(r.Context())
		if errors.Is(err, errReplaced) {
			_ = write("replaced", encode(map[string]string{"reason": err.Error()}))
			return
		}
		if errors.Is(err, errCutOff) {
			_ = write("resync", encode(map[string]string{"reason": err.Error()})) // the connection ends either way
			return
		}
		if err != nil || write(frame.Event, frame.Body) != nil {
			return
		}
	}
}
