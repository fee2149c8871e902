package chat

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

const (
	// writeTimeout bounds one write to a client that does not read.
	writeTimeout = 10 * time.Second

	// maxNameBytes bounds the name of an attachment.
	maxNameBytes = 200
)

// upload stores a file for a conversation and answers the key under which messages name it.
func (a *api) upload(r *http.Request, user string) (any, error) {
	room, err := a.room(r, user)
	if err != nil {
		return nil, err
	}
	name := r.URL.Query().Get("name")
	switch {
	case name == "" || len(name) > maxNameBytes:
		return nil, shared.Invalidf("name", "is %d bytes long; 1 to %d", len(name), maxNameBytes)
	case !utf8.ValidString(name) || strings.ContainsAny(name, "/\\") || name == "." || name == ".." ||
		strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return nil, shared.Invalidf("name", "is %.80q; a file name without folders and control characters", name)
	}
	key := newID()
	err = a.server.files.Put(r.Context(), key, FileInfo{Name: name, Owner: user, Conversation: room},
		http.MaxBytesReader(nil, r.Body, maxFileBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &adapter.StatusError{Status: http.StatusRequestEntityTooLarge,
			Err: shared.Invalidf("body", "is larger than %d bytes", tooLarge.Limit)}
	case err != nil:
		return nil, err
	}
	return map[string]string{"key": key}, nil
}

// mayRead checks that a user may download a file. Members of a conversation may while a live message there uses it, and
// its owner may until it is recalled. After the recall they get errFileGone. All others get errNoFile.
func (a *api) mayRead(ctx context.Context, user, key string) (FileInfo, error) {
	info, usedBy, err := a.server.files.Info(ctx, key)
	if err != nil {
		return info, err
	}
	states, err := a.server.states(ctx, usedBy)
	if err != nil {
		return info, err
	}
	owner, gone := info.Owner == user, info.Gone
	concerned := owner
	for _, id := range usedBy {
		room, _, err := a.server.store.RoomOf(ctx, id)
		if err != nil {
			return info, err
		}
		_, in := a.server.store.Member(room, user)
		switch {
		case info.Gone || states[id] == shared.MessageRecalled:
			gone, concerned = true, concerned || in
		case states[id] == shared.MessageLive && in:
			return info, nil
		}
	}
	switch {
	case gone && concerned:
		return info, errFileGone
	case owner:
		return info, nil
	}
	return info, errNoFile
}

// download serves a file, never as something a browser would run.
func (a *api) download(w http.ResponseWriter, r *http.Request) {
	user, err := a.user(r)
	if err != nil {
		a.web().Answer(w, r, nil, err)
		return
	}
	key := r.URL.Query().Get("key")
	info, err := a.mayRead(r.Context(), user, key)
	if err != nil {
		a.web().Answer(w, r, nil, err)
		return
	}
	file, err := a.server.files.Open(key)
	if err != nil {
		a.web().Answer(w, r, nil, err)
		return
	}
	defer file.Close()
	sendFile(w, file, info.Name, func(err error) { a.server.log.Debug("a download ended early", "error", err) })
}

// sendFile sends a file as a download, so that no browser runs its content. It calls failed with the error if the
// download ends early.
func sendFile(w http.ResponseWriter, file io.Reader, name string, failed func(error)) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // not every connection has one
	if _, err := io.Copy(w, file); err != nil && !errors.Is(err, context.Canceled) {
		failed(err)
	}
}
