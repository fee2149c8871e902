package main

import (
	"errors"
	"math"
	"net/http"

	"github.com/mattermost/mattermost/server/public/model"
	"github.com/mattermost/mattermost/server/public/plugin"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

// ServeHTTP serves /plugins/com.chat-recall.recall/…
func (p *Plugin) ServeHTTP(_ *plugin.Context, w http.ResponseWriter, r *http.Request) {
	defer recoverPanic(p.log, "ServeHTTP")
	if s := p.service.Load(); s != nil {
		s.handler.ServeHTTP(w, r)
		return
	}
	closed := adapter.HTTP{User: requestUser, Log: p.log}
	closed.Handle(func(r *http.Request, user string) (any, error) {
		if r.URL.Path == "/state" && p.API.HasPermissionTo(user, model.PermissionManageSystem) {
			return p.closedState(), nil
		}
		return nil, shared.ErrUnavailable
	}).ServeHTTP(w, r)
}

// closedState says why the service is not open.
func (p *Plugin) closedState() state {
	err := *p.failure.Load()
	s := state{State: host.State{Phase: host.PhaseFailed, Error: err.Error()}, AdapterVersion: version}
	if errors.Is(err, errStarting) {
		s.Phase = host.PhaseRestarting
	}
	return s
}

// newHandler returns the handler of the calls of users, and of system admins.
func (s *service) newHandler() http.Handler {
	users := adapter.HTTP{User: requestUser, Conversations: s.conversations, Log: s.log}
	mux := http.NewServeMux()
	mux.Handle("/", s.adapter.Handler(users))
	mux.Handle("GET /state", users.Handle(s.forAdmins(func(*http.Request) (any, error) { return s.state() })))
	mux.Handle("GET /bypassed", users.Handle(s.forAdmins(func(r *http.Request) (any, error) {
		after, err := adapter.Number(r, "after", math.MaxInt32)
		if err != nil {
			return nil, err
		}
		limit, err := adapter.Number(r, "limit", maxBypassPage)
		if err != nil {
			return nil, err
		}
		return s.bypassed.page(after, limit), nil
	})))
	return mux
}

// requestUser is who sent a request. Mattermost has checked the session, and for a session in a cookie that the
// request comes from a page of its own; it removes the header from what a client sends.
func requestUser(r *http.Request) (string, error) {
	if user := r.Header.Get("Mattermost-User-Id"); user != "" {
		return user, nil
	}
	return "", adapter.ErrNoSession
}

// conversations reads channel_id, which may be there more than once.
func (s *service) conversations(r *http.Request) ([]shared.Conversation, error) {
	channels := r.URL.Query()["channel_id"]
	if len(channels) == 0 {
		return nil, shared.Invalidf("channel_id", "is missing")
	}
	return s.platform.conversations(r.Context(), channels)
}

func (s *service) forAdmins(do func(*http.Request) (any, error)) func(*http.Request, string) (any, error) {
	return func(r *http.Request, user string) (any, error) {
		admin, err := s.platform.isSystemAdmin(r.Context(), user)
		if err != nil {
			return nil, err
		}
		if !admin {
			return nil, &adapter.StatusError{Status: http.StatusForbidden, Err: errors.New("this is for system admins")}
		}
		return do(r)
	}
}

// state is the answer of GET /state.
type state struct {
	host.State
	AdapterVersion string `json:"adapter_version"` // of this plugin
	DataFolder     string `json:"data_folder"`
	TakeDeletePost bool   `json:"take_delete_post"` // the setting
	TakenFrom      int    `json:"taken_from"`       // roles that have it to get back
	Bypassed       int    `json:"bypassed"`         // length of the list
}
