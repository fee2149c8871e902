package chat

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/adapter"
	"github.com/chat-recall/recall/shared"
)

const (
	// maxBodyBytes bounds a JSON body: the longest text with room for its escapes.
	maxBodyBytes = 2*maxTextBytes + 64<<10

	// maxPage is the most messages that one call lists.
	maxPage = 100

	// maxPageText is with how many bytes of text a page of the history ends, so that a request holds at most 10 MiB of
	// texts: originals and edits, each of at most maxPageText and one text more.
	maxPageText = 4 << 20
)

// api is the HTTP API. The user is whom the header X-User or ?user= names: these are demo accounts without passwords,
// which is why the server listens on the loopback interface alone.
type api struct {
	server *Server
	plugin *host.Host
	held   *heldCalls // what an operator is shown of them
	limits *limits

	framedBy string // Options.FramedBy
}

func refuse(status int, format string, args ...any) error {
	return &adapter.StatusError{Status: status, Err: fmt.Errorf(format, args...)}
}

// web is how requests of users are answered.
func (a *api) web() adapter.HTTP { return adapter.HTTP{User: a.user, Log: a.server.log} }

// handler routes the API.
func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request, user string) (any, error)) {
		mux.Handle(pattern, a.web().Handle(do))
	}
	handle("GET /conversations", a.conversations)
	handle("GET /history", a.history)
	handle("GET /sync", a.sync)
	handle("GET /plugin", func(*http.Request, string) (any, error) { return a.plugin.State(), nil })
	handle("POST /messages", a.send)
	handle("POST /attachments", a.upload)
	handle("POST /offline", func(_ *http.Request, user string) (any, error) {
		a.server.hub.Kick(user)
		return struct{}{}, nil
	})
	recalls := a.server.adapter.Handler(a.web())
	for _, pattern := range []string{"POST /recall", "POST /check", "GET /since", "GET /ledger"} {
		mux.Handle(pattern, recalls)
	}
	mux.HandleFunc("GET /attachments", a.download)
	mux.HandleFunc("GET /stream", a.stream)
	a.operatorRoutes(mux)
	a.auditRoutes(mux)
	a.sweepRoutes(mux)
	pageRoutes(mux, a.server.store, contentPolicy("'self'", "'self' "+a.framedBy))
	return Guard(mux, a.framedBy)
}

// Guard keeps out what a web page of somebody else may make a browser send here: requests with a foreign Origin, a
// foreign Host (a name that was rebound to this machine), or a body of a type that needs no preflight. framedBy is the
// origin of a page that may have this server's documents in frames, if any.
func Guard(next http.Handler, framedBy string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkOrigin(r, framedBy != ""); err != nil {
			adapter.WriteError(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkOrigin refuses a request that a page of another site may have sent. A document that may be framed is given to a
// frame of any page on this machine: the page cannot read it, and the browser shows it to those alone that the content
// policy of the document names.
func checkOrigin(r *http.Request, framed bool) error {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if ip := net.ParseIP(strings.Trim(host, "[]")); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return refuse(http.StatusForbidden, "the Host header is %q; this server answers to localhost alone", r.Host)
	}
	framed = framed && r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Dest") == "iframe"
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" && !framed {
		return refuse(http.StatusForbidden, "cross-site request; open http://%s itself", r.Host)
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || u.Host != r.Host {
			return refuse(http.StatusForbidden, "cross-site request: the Origin is %q, not http://%s", origin, r.Host)
		}
	}
	if r.Method != http.MethodPost {
		return nil
	}
	want := "application/json"
	if r.URL.Path == "/attachments" {
		want = "application/octet-stream"
	}
	sent := r.Header.Get("Content-Type")
	if got, _, err := mime.ParseMediaType(sent); err != nil || got != want {
		return refuse(http.StatusUnsupportedMediaType, "the Content-Type is %q; send %s", sent, want)
	}
	return nil
}

func unknown(err error) error { return &adapter.StatusError{Status: http.StatusUnauthorized, Err: err} }

// userOf is whom a request says that it is from.
func userOf(r *http.Request) string { return cmp.Or(r.Header.Get("X-User"), r.URL.Query().Get("user")) }

func (a *api) user(r *http.Request) (string, error) {
	user := userOf(r)
	if user == "" {
		return "", unknown(shared.Invalidf("user", "say who you are: the header X-User or ?user="))
	}
	if !a.server.store.UserExists(user) {
		return "", unknown(shared.Invalidf("user", "%.80q: %v", user, errNoUser))
	}
	return user, nil
}

// room reads ?type= and ?id= and refuses a conversation that the user is not in.
func (a *api) room(r *http.Request, user string) (shared.Conversation, error) {
	q := r.URL.Query()
	room := shared.Conversation{Type: shared.ConversationType(q.Get("type")), ID: q.Get("id")}
	if _, ok := a.server.store.Member(room, user); !ok {
		return room, adapter.ErrNotVisible
	}
	return room, nil
}

func (a *api) conversations(_ *http.Request, user string) (any, error) {
	type entry struct {
		Conversation shared.Conversation `json:"conversation"`
		Title        string              `json:"title"`
		Members      []Member            `json:"members"`
	}
	list := []entry{}
	for _, room := range a.server.store.RoomsOf(user) {
		list = append(list, entry{room, a.server.store.Title(room), a.server.store.Members(room)})
	}
	return list, nil
}

func (a *api) history(r *http.Request, user string) (any, error) {
	room, err := a.room(r, user)
	if err != nil {
		return nil, err
	}
	before, err := adapter.Number(r, "before", math.MaxInt)
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	list, oldest, err := a.server.timeline(r.Context(), room, user, int64(before), limit)
	if err != nil {
		return nil, err
	}
	return struct {
		Messages []Payload `json:"messages"` // newest first, with the placeholders of recalled ones
		Before   int64     `json:"before,omitempty"`
	}{list, oldest}, nil
}

// limitOf reads how many messages a page may have.
func limitOf(r *http.Request) (int, error) {
	limit, err := adapter.Number(r, "limit", maxPage)
	if limit == 0 {
		limit = maxPage
	}
	return limit, err
}

func (a *api) send(r *http.Request, user string) (any, error) {
	var in struct {
		ID           string              `json:"id"`
		Conversation shared.Conversation `json:"conversation"`
		Type         shared.MessageType  `json:"type"`
		Text         string              `json:"text"`
		Quote        string              `json:"quote"`
		Edit         string              `json:"edit"`
		Forward      string              `json:"forward"`
		Attachments  []string            `json:"attachments"`
	}
	if err := adapter.ReadJSON(r, maxBodyBytes, &in); err != nil {
		return nil, err
	}
	if len(in.Attachments) > shared.MaxAttachments { // before each of them is looked up
		return nil, shared.Invalidf("attachments", "%d entries; at most %d", len(in.Attachments), shared.MaxAttachments)
	}
	for i, key := range in.Attachments {
		if _, err := a.mayRead(r.Context(), user, key); errors.Is(err, errNoFile) || errors.Is(err, errFileGone) {
			return nil, shared.Invalidf(fmt.Sprintf("attachments[%d]", i), "%v; upload it first", err)
		} else if err != nil {
			return nil, err
		}
	}
	m, err := a.server.Send(r.Context(), user, Outgoing{ID: in.ID, Conversation: in.Conversation, Type: in.Type,
		Text: in.Text, Quote: in.Quote, Edit: in.Edit, Forward: in.Forward, Attachments: in.Attachments})
	if err != nil {
		return nil, err
	}
	return m.payload(), nil
}

// recallsAfter pages through recalls. A client whose cursor is void, for the index was restored from a backup, starts
// again: it may have missed recalls, and one that it has seen changes nothing.
func (a *api) recallsAfter(ctx context.Context, req shared.SinceRequest) (shared.EventPage, error) {
	page, err := a.server.recall.Since(ctx, req)
	if err == nil && page.Reset {
		req.After = ""
		page, err = a.server.recall.Since(ctx, req)
	}
	if err != nil {
		return page, fmt.Errorf("ask for missed recalls: %w", err)
	}
	return page, nil
}

// sync is what a new device asks: the user's roaming log after an entry, and the recalls after a cursor.
func (a *api) sync(r *http.Request, user string) (any, error) {
	entry, err := adapter.Number(r, "after", math.MaxInt)
	if err != nil {
		return nil, err
	}
	after := int64(entry)
	cursor := r.URL.Query().Get("recalls_after")
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	logged, err := a.server.store.Roamed(r.Context(), user, after, limit)
	if err != nil {
		return nil, err
	}
	ids, all := make([]string, 0, len(logged)), make([]bodies, 0, len(logged))
	for _, w := range logged {
		ids, after = append(ids, w.ID), w.Entry
		b := bodiesOf(w.Body)
		all, ids = append(all, b), append(ids, b.quotes...)
	}
	live, err := a.server.live(r.Context(), ids)
	if err != nil {
		return nil, err
	}
	messages := []json.RawMessage{}
	for i, w := range logged {
		if live[w.ID] {
			messages = append(messages, all[i].asFar(live).body)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	rooms := a.server.store.RoomsOf(user)
	rooms = rooms[:min(len(rooms), shared.MaxSinceConversations)]
	page, err := a.recallsAfter(ctx,
		shared.SinceRequest{Tenant: Tenant, Conversations: rooms, After: cursor, Limit: limit})
	var field *shared.FieldError
	if errors.As(err, &field) && field.Field == "after" {
		return nil, &shared.FieldError{Field: "recalls_after", Problem: field.Problem}
	}
	if err != nil {
		return nil, err
	}
	recalls := []shared.Notice{}
	for _, e := range page.Events {
		recalls = append(recalls, adapter.FillReason(e).Notice(false))
	}
	return struct {
		Messages     []json.RawMessage `json:"messages"`
		After        int64             `json:"after"`
		Recalls      []shared.Notice   `json:"recalls"`
		RecallsAfter string            `json:"recalls_after"`
		More         bool              `json:"more"`
	}{messages, after, recalls, page.Next, page.More || len(logged) == limit}, nil
}
