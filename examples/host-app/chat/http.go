package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/shared"
)

const (
	// maxBodyBytes bounds a JSON body: the longest text with room for its escapes.
	maxBodyBytes = 2*maxTextBytes + 64<<10

	// maxPage is the most messages that one call lists.
	maxPage = 100
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

// refusal is an error with the HTTP status that it is.
type refusal struct {
	status int
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Errorf(format, args...)}
}

// handler routes the API.
func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request, user string) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			user, err := a.user(r)
			var answer any
			if err == nil {
				answer, err = do(r, user)
			}
			a.answer(w, answer, err)
		})
	}
	handle("GET /conversations", a.conversations)
	handle("GET /history", a.history)
	handle("GET /sync", a.sync)
	handle("GET /plugin", func(*http.Request, string) (any, error) { return a.plugin.State(), nil })
	handle("GET /ledger", a.ledger)
	handle("POST /messages", a.send)
	handle("POST /attachments", a.upload)
	handle("POST /recall", a.recall(a.server.Recall))
	handle("POST /check", a.recall(a.server.Check))
	handle("POST /offline", func(_ *http.Request, user string) (any, error) {
		a.server.hub.Kick(user)
		return struct{}{}, nil
	})
	mux.HandleFunc("GET /attachments", a.download)
	mux.HandleFunc("GET /stream", a.stream)
	a.operatorRoutes(mux)
	pageRoutes(mux, a.server.store, contentPolicy("'self'", "'self' "+a.framedBy))
	return Guard(mux, a.framedBy)
}

// Guard keeps out what a web page of somebody else may make a browser send here: requests with a foreign Origin, a
// foreign Host (a name that was rebound to this machine), or a body of a type that needs no preflight. framedBy is the
// origin of a page that may have this server's documents in frames, if any.
func Guard(next http.Handler, framedBy string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkOrigin(r, framedBy != ""); err != nil {
			writeError(w, err)
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

func (a *api) user(r *http.Request) (string, error) {
	user := r.Header.Get("X-User")
	if user == "" {
		user = r.URL.Query().Get("user")
	}
	if user == "" {
		return "", &refusal{http.StatusUnauthorized, shared.Invalidf("user", "say who you are: the header X-User or ?user=")}
	}
	if !a.server.store.UserExists(user) {
		return "", &refusal{http.StatusUnauthorized, shared.Invalidf("user", "%.80q: %v", user, errNoUser)}
	}
	return user, nil
}

func (a *api) answer(w http.ResponseWriter, answer any, err error) {
	if err != nil {
		if status := writeError(w, err); status == http.StatusInternalServerError {
			a.server.log.Error("request failed", "error", err)
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(encode(answer), '\n')) // a client that went away has no use for it
}

// writeError answers {"error": ..., "field": ...}.
func writeError(w http.ResponseWriter, err error) int {
	var refused *refusal
	var field *shared.FieldError
	var tooLarge *http.MaxBytesError
	status := http.StatusInternalServerError
	switch {
	case errors.As(err, &refused):
		status = refused.status
	case errors.As(err, &tooLarge):
		status = http.StatusRequestEntityTooLarge
		err = shared.Invalidf("body", "is too large; at most %d bytes", tooLarge.Limit)
	case errors.Is(err, shared.ErrInvalid):
		status = http.StatusBadRequest
	case errors.Is(err, errNotMember), errors.Is(err, errNoFile):
		status = http.StatusNotFound
	case errors.Is(err, ErrConflict):
		status = http.StatusConflict
	case errors.Is(err, ErrRecalled), errors.Is(err, errFileGone):
		status = http.StatusGone
	case errors.Is(err, shared.ErrUnavailable), errors.Is(err, shared.ErrOverloaded),
		errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	body := struct {
		Error string `json:"error"`
		Field string `json:"field,omitempty"`
	}{Error: err.Error()}
	if errors.As(err, &field) {
		body.Error, body.Field = field.Problem, field.Field
	} else if status == http.StatusInternalServerError {
		body.Error = "internal error; see the log of the server"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(encode(body), '\n'))
	return status
}

// room reads ?type= and ?id= and refuses a conversation that the user is not in.
func (a *api) room(r *http.Request, user string) (shared.Conversation, error) {
	q := r.URL.Query()
	room := shared.Conversation{Type: shared.ConversationType(q.Get("type")), ID: q.Get("id")}
	if _, ok := a.server.store.Member(room, user); !ok {
		return room, errNotMember
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
	before, err := number(r, "before")
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	list, oldest, err := a.server.timeline(r.Context(), room, user, before, limit)
	if err != nil {
		return nil, err
	}
	return struct {
		Messages []Payload `json:"messages"` // newest first, with the placeholders of recalled ones
		Before   int64     `json:"before,omitempty"`
	}{list, oldest}, nil
}

func limitOf(r *http.Request) (int, error) {
	limit, err := number(r, "limit")
	if err != nil || limit > maxPage {
		return 0, shared.Invalidf("limit", "is %.40q; 1 to %d, or none for %d", r.URL.Query().Get("limit"), maxPage, maxPage)
	}
	if limit == 0 {
		limit = maxPage
	}
	return int(limit), nil
}

func (a *api) send(r *http.Request, user string) (any, error) {
	var in struct {
		ID           string              `json:"id"`
		Conversation shared.Conversation `json:"conversation"`
		Type         shared.MessageType  `json:"type"`
		Text         string              `json:"text"`
		Quote        string              `json:"quote"`
		Attachments  []string            `json:"attachments"`
	}
	if err := readJSON(r, &in); err != nil {
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
		Text: in.Text, Quote: in.Quote, Attachments: in.Attachments})
	if err != nil {
		return nil, err
	}
	return m.payload(), nil
}

func (a *api) recall(
	do func(context.Context, string, Ask) ([]shared.RecallResult, error),
) func(*http.Request, string) (any, error) {
	return func(r *http.Request, user string) (any, error) {
		var in struct {
			MessageIDs []string `json:"message_ids"`
			Ext        string   `json:"ext"`
			Reason     string   `json:"reason"`
			RecallID   string   `json:"recall_id"`
		}
		if err := readJSON(r, &in); err != nil {
			return nil, err
		}
		results, err := do(r.Context(), user,
			Ask{MessageIDs: in.MessageIDs, Ext: in.Ext, Reason: in.Reason, RecallID: in.RecallID})
		if err != nil {
			return nil, err
		}
		return struct {
			Results []shared.RecallResult `json:"results"`
			Now     time.Time             `json:"now"` // by the server's clock, to which a client holds until
		}{results, time.Now().UTC()}, nil
	}
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
	after, err := number(r, "after")
	if err != nil {
		return nil, err
	}
	cursor := r.URL.Query().Get("recalls_after")
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	logged, err := a.server.store.Roamed(r.Context(), user, after, limit)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(logged))
	for _, w := range logged {
		ids, after = append(ids, w.ID), w.Entry
	}
	live, err := a.server.live(r.Context(), ids)
	if err != nil {
		return nil, err
	}
	messages := []json.RawMessage{}
	for _, w := range logged {
		if live[w.ID] {
			messages = append(messages, w.Body)
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
		recalls = append(recalls, withReason(e).Notice(false))
	}
	return struct {
		Messages     []json.RawMessage `json:"messages"`
		After        int64             `json:"after"`
		Recalls      []shared.Notice   `json:"recalls"`
		RecallsAfter string            `json:"recalls_after"`
		More         bool              `json:"more"`
	}{messages, after, recalls, page.Next, page.More || len(logged) == limit}, nil
}

// ledger shows what became of a recall to the members of its conversations. What the message was it shows to who sent
// it and who took it back: others have their notice, which does not tell who never got the message. The reason is
// shown to who gave it alone.
func (a *api) ledger(r *http.Request, user string) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	all, err := a.server.Ledger(ctx, r.URL.Query().Get("recall_id"))
	if err != nil {
		return nil, err
	}
	entries := []shared.LedgerEntry{}
	for _, e := range all {
		if _, in := a.server.store.Member(e.Event.Message.Conversation, user); in {
			if user != e.Event.Actor.ID {
				e.Event.Reason = ""
			}
			if m := e.Event.Message; user != m.Sender && user != e.Event.Actor.ID {
				e.Event.Message = shared.Message{Tenant: m.Tenant, ID: m.ID, Conversation: m.Conversation}
				e.Event.Attachments = nil
			}
			entries = append(entries, e)
		}
	}
	return map[string]any{"entries": entries}, nil
}
