package main

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

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
	if err != nil {
		return nil, err
	}
	return map[string]string{"key": key}, nil
}

// mayRead tells whether a user may read a file: its owner, and whoever is in a conversation with a live message that
// uses it. To others it does not exist; who could read it before its message was recalled learns that it is gone.
func (a *api) mayRead(ctx context.Context, user, key string) error {
	info, users, err := a.server.files.Info(ctx, key)
	if err != nil {
		return err
	}
	if _, in := a.server.store.Member(info.Conversation, user); info.Gone && (in || info.Owner == user) {
		return errFileGone
	}
	live, err := a.server.live(ctx, users)
	if err != nil {
		return err
	}
	concerned, used := info.Owner == user, false
	for _, id := range users {
		room, found, err := a.server.store.RoomOf(ctx, id)
		if err != nil {
			return err
		}
		_, in := a.server.store.Member(room, user)
		in = in && found
		if in && live[id] {
			return nil
		}
		concerned, used = concerned || in, true
	}
	switch {
	case !concerned:
		return errNoFile
	case used: // every message that used it is recalled, and it is about to be deleted
		return errFileGone
	}
	return nil // uploaded by this user and not sent yet
}

// download serves a file, never as something a browser would run.
func (a *api) download(w http.ResponseWriter, r *http.Request) {
	user, err := a.user(r)
	key := r.URL.Query().Get("key")
	if err == nil {
		err = a.mayRead(r.Context(), user, key)
	}
	if err != nil {
		a.answer(w, nil, err)
		return
	}
	info, _, err := a.server.files.Info(r.Context(), key)
	if err != nil {
		a.answer(w, nil, err)
		return
	}
	file, err := a.server.files.Open(key)
	if err != nil {
		a.answer(w, nil, err)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": info.Name}))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // not every connection has one
	if _, err := io.Copy(w, file); err != nil && !errors.Is(err, context.Canceled) {
		a.server.log.Debug("a download ended early", "error", err)
	}
}
