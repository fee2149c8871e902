package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// A client is a user with a session.
type client struct {
	base, name, token, id string
}

// call makes a call of the REST API and returns the status and the body.
func (c *client) call(method, path, contentType string, body io.Reader) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", contentType)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if path == "/api/v4/users/login" {
		c.token = resp.Header.Get("Token")
	}
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// do sends JSON and reads JSON into out, unless it is nil. An answer that is not 2xx is an error.
func (c *client) do(method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	status, text, err := c.call(method, path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return &callError{method, path, status, string(text)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s %s: %w in %.300s", method, path, err, text)
	}
	return nil
}

type callError struct {
	method, path string
	status       int
	text         string
}

func (e *callError) Error() string {
	return fmt.Sprintf("%s %s: %d %.300s", e.method, e.path, e.status, e.text)
}

// statusOf is the HTTP status of an answer of do.
func statusOf(err error) int {
	var e *callError
	if errors.As(err, &e) {
		return e.status
	}
	if err == nil {
		return http.StatusOK
	}
	return 0
}

func (c *client) login() error {
	var user struct{ ID string }
	err := c.do("POST", "/api/v4/users/login", map[string]string{"login_id": c.name, "password": password}, &user)
	c.id = user.ID
	return err
}

// A post is one as the REST API shows it.
type post struct {
	ID        string         `json:"id"`
	ChannelID string         `json:"channel_id"`
	RootID    string         `json:"root_id,omitempty"`
	Message   string         `json:"message"`
	FileIDs   []string       `json:"file_ids,omitempty"`
	CreateAt  int64          `json:"create_at,omitempty"`
	EditAt    int64          `json:"edit_at,omitempty"`
	Type      string         `json:"type,omitempty"`
	Props     map[string]any `json:"props,omitempty"`
}

func (c *client) post(p post) (post, error) {
	var out post
	return out, c.do("POST", "/api/v4/posts", p, &out)
}

// raw is the body of a GET, whatever the status.
func (c *client) raw(path string) (int, string, error) {
	status, text, err := c.call("GET", path, "", nil)
	return status, string(text), err
}

// upload uploads a file to a channel and returns its id.
func (c *client) upload(channel, name string, content []byte) (string, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := form.WriteField("channel_id", channel); err != nil {
		return "", err
	}
	part, err := form.CreateFormFile("files", name)
	if err != nil {
		return "", err
	}
	if _, err := part.Write(content); err != nil {
		return "", err
	}
	if err := form.Close(); err != nil {
		return "", err
	}
	status, text, err := c.call("POST", "/api/v4/files", form.FormDataContentType(), &body)
	if err != nil || status != http.StatusCreated {
		return "", errors.Join(err, fmt.Errorf("upload: %d %.200s", status, text))
	}
	var out struct {
		FileInfos []struct{ ID string } `json:"file_infos"`
	}
	if err := json.Unmarshal(text, &out); err != nil || len(out.FileInfos) != 1 {
		return "", fmt.Errorf("upload: %w in %.200s", err, text)
	}
	return out.FileInfos[0].ID, nil
}

// uploadBundle installs a bundle.
func (c *client) uploadBundle(file string) (int, string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, "", err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("plugin", "bundle.tar.gz")
	if err == nil {
		_, err = part.Write(content)
	}
	if err := errors.Join(err, form.WriteField("force", "true"), form.Close()); err != nil {
		return 0, "", err
	}
	status, text, err := c.call("POST", "/api/v4/plugins", form.FormDataContentType(), &body)
	return status, string(text[:min(len(text), 300)]), err
}

// A result is one of recall or check.
type result struct {
	MessageID  string            `json:"message_id"`
	Status     string            `json:"status"`
	Code       string            `json:"code"`
	Text       map[string]string `json:"text"`
	RecallID   string            `json:"recall_id"`
	RecalledBy string            `json:"recalled_by"`
	Role       string            `json:"role"`
	Until      time.Time         `json:"until"`
}

// judge asks recall or check about one post.
func (c *client) judge(call, id string, more map[string]any) (result, error) {
	in := map[string]any{"targets": []map[string]string{{"message_id": id}}}
	for k, v := range more {
		in[k] = v
	}
	var out struct{ Results []result }
	if err := c.do("POST", "/plugins/"+pluginID+"/"+call, in, &out); err != nil {
		return result{}, err
	}
	if len(out.Results) != 1 {
		return result{}, fmt.Errorf("%d results", len(out.Results))
	}
	return out.Results[0], nil
}

func (c *client) recall(id string) (result, error) { return c.judge("recall", id, nil) }

// An event is one of since or of the ledger.
type event struct {
	RecallID string `json:"recall_id"`
	Message  struct {
		ID     string `json:"id"`
		Sender string `json:"sender"`
	} `json:"message"`
}

func (c *client) since(channel, after string) (events []event, next string, err error) {
	var out struct {
		Events []event
		Next   string
	}
	q := url.Values{"channel_id": {channel}, "after": {after}}
	err = c.do("GET", "/plugins/"+pluginID+"/since?"+q.Encode(), nil, &out)
	return out.Events, out.Next, err
}

// ledger returns the outcomes of the steps of a recall of one message, and whether there is an entry.
func (c *client) ledger(recallID string) (steps map[string]string, found bool, err error) {
	var out struct {
		Entries []struct {
			Event event
			Steps []struct{ Step, Outcome, Error string }
		}
	}
	err = c.do("GET", "/plugins/"+pluginID+"/ledger?recall_id="+url.QueryEscape(recallID), nil, &out)
	steps = map[string]string{}
	for _, e := range out.Entries {
		for _, s := range e.Steps {
			steps[s.Step] = s.Outcome
		}
	}
	return steps, len(out.Entries) > 0, err
}

// command types a slash command and returns the answer.
func (c *client) command(team, channel, line string) (string, error) {
	var out struct{ Text string }
	err := c.do("POST", "/api/v4/commands/execute",
		map[string]string{"team_id": team, "channel_id": channel, "command": line}, &out)
	return out.Text, err
}

// A socket is a WebSocket connection that keeps what it got.
type socket struct {
	conn *websocket.Conn
	mu   sync.Mutex
	got  []string
}

func (c *client) socket() (*socket, error) {
	header := http.Header{"Authorization": {"Bearer " + c.token}}
	conn, resp, err := websocket.DefaultDialer.Dial(strings.Replace(c.base, "http", "ws", 1)+"/api/v4/websocket", header)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	s := &socket{conn: conn}
	go func() {
		for {
			_, text, err := conn.ReadMessage()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.got = append(s.got, string(text))
			s.mu.Unlock()
		}
	}()
	return s, nil
}

func (s *socket) close() { _ = s.conn.Close() }

// events are the events of a kind whose text has all of the words.
func (s *socket) events(kind string, words ...string) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range s.got {
		var e struct{ Event string }
		if json.Unmarshal([]byte(text), &e) != nil || e.Event != kind {
			continue
		}
		has := true
		for _, w := range words {
			has = has && strings.Contains(text, w)
		}
		if has {
			found = append(found, text)
		}
	}
	return found
}
