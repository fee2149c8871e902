package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/mattermost/mattermost/server/public/model"
	"github.com/mattermost/mattermost/server/public/plugin"

	"github.com/chat-recall/recall/host/hosttest"
)

// fakeServer is a Mattermost server as a plugin sees it: the plugin API, and the REST API that needs an admin. After
// it died, each call of the plugin API returns zero values, and so success, as those of the real one do.
type fakeServer struct {
	plugin.API // nil: a call that the fake does not have panics
	db         testDB
	rest       *httptest.Server
	log        hosttest.LogBuffer

	mu       sync.Mutex
	dead     bool
	diesOn   string            // a call
	before   map[string]func() // what happens before a call, once
	version  string
	config   *model.Config
	settings map[string]any
	bundle   string
	events   []map[string]any
	pushed   []string
	tokens   map[string]string // users by token
	calls    []string          // of the REST API
}

func newFake(t testing.TB, db testDB) *fakeServer {
	f := &fakeServer{db: db, version: "6.7.2", tokens: map[string]string{}, settings: map[string]any{},
		config: &model.Config{}}
	f.rest = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.rest.Close)
	f.config.FileSettings.DriverName = model.NewPointer(model.ImageDriverLocal)
	f.config.FileSettings.Directory = model.NewPointer(t.TempDir())
	f.config.SqlSettings.DriverName = model.NewPointer(model.DatabaseDriverPostgres)
	f.config.SqlSettings.DataSource = model.NewPointer(db.source)
	f.config.ServiceSettings.ListenAddress = model.NewPointer(strings.TrimPrefix(f.rest.URL, "http://"))
	f.config.ServiceSettings.SiteURL = model.NewPointer(f.rest.URL)
	return f
}

// gone counts a call and reports whether the server has died.
func (f *fakeServer) gone(call string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if happens := f.before[call]; happens != nil {
		delete(f.before, call)
		f.mu.Unlock()
		happens()
		f.mu.Lock()
	}
	if f.diesOn == call {
		f.dead = true
	}
	return f.dead
}

func (f *fakeServer) revive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead, f.diesOn = false, ""
}

func (f *fakeServer) LogDebug(msg string, pairs ...any) { f.write("DEBUG", msg, pairs) }
func (f *fakeServer) LogInfo(msg string, pairs ...any)  { f.write("INFO", msg, pairs) }
func (f *fakeServer) LogWarn(msg string, pairs ...any)  { f.write("WARN", msg, pairs) }
func (f *fakeServer) LogError(msg string, pairs ...any) { f.write("ERROR", msg, pairs) }

func (f *fakeServer) write(level, msg string, pairs []any) {
	text, _ := json.Marshal(pairs)
	_, _ = f.log.Write([]byte(level + " " + msg + " " + string(text) + "\n"))
}

func (f *fakeServer) GetServerVersion() string {
	if f.gone("GetServerVersion") {
		return ""
	}
	return f.version
}

func (f *fakeServer) GetConfig() *model.Config {
	if f.gone("GetConfig") {
		return nil
	}
	return f.config
}

func (f *fakeServer) GetUnsanitizedConfig() *model.Config { return f.GetConfig() }

func (f *fakeServer) LoadPluginConfiguration(dest any) error {
	if f.gone("LoadPluginConfiguration") {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := json.Marshal(f.settings)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, dest)
}

func (f *fakeServer) GetBundlePath() (string, error) { return f.bundle, nil }

func (f *fakeServer) RegisterCommand(*model.Command) error {
	f.gone("RegisterCommand")
	return nil
}

func (f *fakeServer) HasPermissionTo(user string, _ *model.Permission) bool {
	return !f.gone("HasPermissionTo") && user == root
}

func (f *fakeServer) PublishWebSocketEvent(event string, payload map[string]any, _ *model.WebsocketBroadcast) {
	if f.gone("PublishWebSocketEvent") {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	payload["event"] = event
	f.events = append(f.events, payload)
}

func (f *fakeServer) DeletePost(id string) *model.AppError {
	if f.gone("DeletePost") {
		return nil
	}
	f.db.exec(`UPDATE posts SET deleteat = $2, updateat = $2, props = jsonb_set(props, '{deleteBy}', to_jsonb($3::text))
		WHERE id = $1 OR rootid = $1`, id, time.Now().UnixMilli(), pluginID)
	return nil
}

func (f *fakeServer) UpdatePost(p *model.Post) (*model.Post, *model.AppError) {
	if f.gone("UpdatePost") {
		return nil, nil
	}
	now := max(time.Now().UnixMilli(), int64(f.db.count(`SELECT updateat + 1 FROM posts WHERE id = $1`, p.Id)))
	f.db.exec(`INSERT INTO posts (id, originalid, message, createat, updateat, deleteat) 
		SELECT 'v' || $2::bigint, id, message, createat, $2, $2 FROM posts WHERE id = $1`, p.Id, now)
	props, _ := json.Marshal(p.Props)
	f.db.exec(`UPDATE posts SET message = $2, props = $3, updateat = $4 WHERE id = $1`, p.Id, p.Message, props, now)
	return p, nil
}

func (f *fakeServer) SendPushNotification(_ *model.PushNotification, user string) *model.AppError {
	if !f.gone("SendPushNotification") {
		f.pushed = append(f.pushed, user)
	}
	return nil
}

func (f *fakeServer) CreateSession(s *model.Session) (*model.Session, *model.AppError) {
	if f.gone("CreateSession") {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Id, s.Token = "session", model.NewId()
	f.tokens[s.Token] = s.UserId
	return s, nil
}

func (f *fakeServer) RevokeSession(string) *model.AppError {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
	return nil
}

// serve is the REST API.
func (f *fakeServer) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	user := f.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	f.calls = append(f.calls, r.Method+" "+r.URL.Path)
	dead := f.dead
	f.mu.Unlock()
	if user != root {
		http.Error(w, "not an admin", http.StatusForbidden)
		return
	}
	if id, ok := strings.CutPrefix(r.URL.Path, "/api/v4/roles/"); ok && !dead {
		var in struct{ Permissions []string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f.db.exec(`UPDATE roles SET permissions = $2 WHERE id = $1`, strings.TrimSuffix(id, "/patch"),
			strings.Join(in.Permissions, " "))
	}
}

func (f *fakeServer) called(call string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.calls, call)
}

// logger writes to the fake's log.
func (f *fakeServer) logger() hclog.Logger { return newLogger(f) }
