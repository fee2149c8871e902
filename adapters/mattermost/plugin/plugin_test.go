package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mattermost/mattermost/server/public/model"

	"github.com/chat-recall/recall/host"
	"github.com/chat-recall/recall/host/hosttest"
)

// newPlugin makes a plugin with a bundle and a data folder, on a fake server. It is not activated.
func newPlugin(t *testing.T) (*Plugin, *fakeServer) {
	t.Helper()
	db := newChat(t)
	f := newFake(t, db)
	f.bundle = t.TempDir()
	f.settings["DataFolder"] = hosttest.RunDir(t) // short enough for sockets
	rules, err := os.ReadFile("../../../rules/default.hcl")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal(map[string]any{"settings_schema": map[string]any{"settings": []any{
		map[string]any{"key": "Rules", "type": "longtext", "default": string(rules)}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(f.bundle, "plugin.json"), manifest, 0o600),
		os.Mkdir(filepath.Join(f.bundle, "server"), 0o700)); err != nil {
		t.Fatal(err)
	}
	p := &Plugin{}
	p.SetAPI(f)
	return p, f
}

// installRecall puts recall-plugin into the bundle.
func installRecall(t *testing.T, f *fakeServer) {
	t.Helper()
	if err := os.Symlink(hosttest.BuildPlugin(t), filepath.Join(f.bundle, "server", recallPlugin)); err != nil {
		t.Fatal(err)
	}
}

func activate(t *testing.T, p *Plugin) {
	t.Helper()
	if err := p.OnActivate(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.OnDeactivate(); err != nil {
			t.Error(err)
		}
	})
}

// until waits for what becomes true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// call makes a request as a user.
func call(p *Plugin, user, method, path, body string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if user != "" {
		r.Header.Set("Mattermost-User-Id", user)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(nil, w, r)
	return w.Code, w.Body.String()
}

// Mattermost waits for OnActivate, and kills a plugin that takes long.
func TestPlugin_ActivateWaitsForNothing(t *testing.T) {
	p, f := newPlugin(t)
	registers := make(chan struct{})
	f.before = map[string]func(){"RegisterCommand": func() {
		select {
		case <-registers:
		case <-time.After(time.Minute): // OnActivate waits
		}
	}}
	activate(t, p)
	if status, body := call(p, root, "GET", "/state", ""); !strings.Contains(body, "starting") {
		t.Errorf("%d %s", status, body)
	}
	close(registers)
	until(t, "it goes on", func() bool { return strings.Contains(f.log.String(), "did not open") })
}

func TestPlugin_Opens(t *testing.T) {
	p, f := newPlugin(t)
	f.db.post("p", town, alice, "secret", time.Minute)
	activate(t, p)
	until(t, "a try that fails: the bundle has no recall-plugin", func() bool {
		return strings.Contains(f.log.String(),
			"did not open")
	})
	t.Run("while it is not open", func(t *testing.T) {
		for _, test := range []struct {
			user, path string
			want       int
		}{{"", "/state", 401}, {alice, "/state", 503}, {root, "/state", 200}, {alice, "/since?channel_id=town", 503}} {
			if status, body := call(p, test.user, "GET", test.path, ""); status != test.want {
				t.Errorf("%+v: %d %s", test, status, body)
			}
		}
		if _, body := call(p, root, "GET", "/state", ""); !strings.Contains(body, `"phase":"failed"`) ||
			!strings.Contains(body, "recall-plugin: no such file") {
			t.Errorf("the state does not say why: %s", body)
		}
		if answer, _ := p.ExecuteCommand(nil, &model.CommandArgs{Command: "/recall"}); !strings.Contains(answer.Text,
			"starting") {
			t.Errorf("%q", answer.Text)
		}
	})
	installRecall(t, f)
	until(t, "it opens by itself", func() bool { return p.service.Load() != nil })

	t.Run("the state is for system admins, with pid and version", func(t *testing.T) {
		if status, _ := call(p, alice, "GET", "/state", ""); status != http.StatusForbidden {
			t.Errorf("%d", status)
		}
		_, body := call(p, root, "GET", "/state", "")
		var s struct {
			PID     int
			Version string
		}
		if err := json.Unmarshal([]byte(body), &s); err != nil || s.PID == 0 || s.Version == "" {
			t.Errorf("%s, %v", body, err)
		}
	})
	t.Run("requests of users", func(t *testing.T) {
		for _, test := range []struct{ user, method, path, body, want string }{
			{bob, "POST", "/check", `{"targets": [{"message_id": "p"}]}`, `"code":"forbidden"`},
			{bob, "POST", "/recall", `{"message_ids": ["p"]}`, `"code":"forbidden"`},
			{carol, "POST", "/recall", `{"message_ids": ["p"]}`, `"not_found"`},
			{alice, "POST", "/recall", `{"targets": [{"message_id": "p"}], "recall_id": "r"}`, `"status":"recalled"`},
			{bob, "GET", "/since?channel_id=town", "", `"recall_id":"r"`},
			{carol, "GET", "/since?channel_id=town", "", `"not_found"`},
			{alice, "GET", "/since", "", `channel_id`},
			{bob, "GET", "/ledger?recall_id=r", "", `"step":"history"`},
			{carol, "GET", "/ledger?recall_id=r", "", `"entries":[]`},
			{root, "GET", "/bypassed", "", `"bypassed":[]`},
			{root, "GET", "/bypassed?limit=x", "", `limit`},
			{bob, "GET", "/bypassed", "", `system admins`},
			{"", "POST", "/recall", `{"message_ids": ["p"]}`, `log in`},
		} {
			if _, body := call(p, test.user, test.method, test.path, test.body); !strings.Contains(body, test.want) {
				t.Errorf("%+v: %s", test, body)
			}
		}
	})
	t.Run("the post is gone in the end", func(t *testing.T) {
		if err := p.service.Load().host.Wait(t.Context(), tenant, "r"); err != nil {
			t.Fatal(err)
		}
		if got := f.db.text(`SELECT message || (deleteat > 0) FROM posts WHERE id = 'p'`); got != "true" {
			t.Errorf("%q", got)
		}
	})
	t.Run("recall-plugin is killed", func(t *testing.T) {
		h := p.service.Load().host
		hosttest.Kill(t, h)
		f.db.post("q", town, alice, "secret", time.Minute)
		if _, body := call(p, alice, "POST", "/recall", `{"message_ids": ["q"]}`); !strings.Contains(body,
			`"status":"recalled"`) {
			t.Error(body)
		}
	})
}

func TestPlugin_Settings(t *testing.T) {
	p, f := newPlugin(t)
	installRecall(t, f)
	activate(t, p)
	until(t, "it opens", func() bool { return p.service.Load() != nil })
	set := func(key string, value any) {
		t.Helper()
		f.mu.Lock()
		f.settings[key] = value
		f.mu.Unlock()
		if err := p.OnConfigurationChange(); err != nil {
			t.Fatal(err)
		}
	}
	check := func() string {
		_, body := call(p, bob, "POST", "/check", `{"message_ids": ["p"]}`)
		return body
	}
	f.db.post("p", town, bob, "secret", time.Hour)
	if body := check(); !strings.Contains(body, "window_expired") {
		t.Errorf("empty rules are not the built-in ones: %s", body)
	}
	set("Rules", `permit "own" {
  sender = true
  window = "2h"
}`)
	if body := check(); !strings.Contains(body, `"status":"recalled"`) {
		t.Errorf("new rules are not in force at once: %s", body)
	}
	set("Rules", `permit {`)
	if body := check(); !strings.Contains(body, `"status":"recalled"`) {
		t.Errorf("broken rules are in force: %s", body)
	}
	if log := f.log.String(); !strings.Contains(log, "new settings are not in force") || !strings.Contains(log,
		"rules.hcl:1") {
		t.Errorf("the log does not say where they are broken: %s", log)
	}
	t.Run("a server that is dead has no settings", func(t *testing.T) {
		f.mu.Lock()
		f.dead = true
		f.mu.Unlock()
		defer f.revive()
		if _, err := loadSettings(f); err == nil {
			t.Error("zero settings were taken")
		}
	})
	t.Run("another data folder is not taken while it runs", func(t *testing.T) {
		set("DataFolder", t.TempDir())
		if !strings.Contains(f.log.String(), "disable and enable the plugin") {
			t.Error("not said")
		}
	})
}

// changesSettings is a server whose settings change while the plugin opens.
type changesSettings struct{ *fakeServer }

func (c changesSettings) GetBundlePath() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings["Rules"] = "permit \"own\" {\n  sender = true\n  window = \"2h\"\n}"
	return c.bundle, nil
}

func TestPlugin_SettingsChangeWhileItOpens(t *testing.T) {
	p, f := newPlugin(t)
	installRecall(t, f)
	p.SetAPI(changesSettings{f})
	activate(t, p)
	f.db.post("p", town, bob, "secret", time.Hour)
	until(t, "the new rules are in force", func() bool {
		_, body := call(p, bob, "POST", "/check", `{"message_ids": ["p"]}`)
		return strings.Contains(body, `"status":"recalled"`)
	})
}

// Mattermost gives up a plugin whose process ends three times in an hour.
func TestPlugin_NeverEndsByItself(t *testing.T) {
	for name, breakIt := range map[string]func(f *fakeServer){
		"a database that is not PostgreSQL": func(f *fakeServer) {
			f.config.SqlSettings.DriverName = model.NewPointer("mysql")
		},
		"a cluster": func(f *fakeServer) { f.config.ClusterSettings.Enable = model.NewPointer(true) },
		"a database that is away": func(f *fakeServer) {
			f.config.SqlSettings.DataSource = model.NewPointer("host=/nowhere sslmode=disable")
		},
		"a damaged list of bypasses": func(f *fakeServer) { write(t, f, "bypassed.jsonl", "x\n") },
		"a data folder that is a file": func(f *fakeServer) {
			f.settings["DataFolder"] = filepath.Join(f.bundle,
				"plugin.json")
		},
		"a server that dies": func(f *fakeServer) { f.diesOn = "GetConfig" },
	} {
		t.Run(name, func(t *testing.T) {
			p, f := newPlugin(t)
			installRecall(t, f)
			breakIt(f)
			activate(t, p)
			until(t, "it says so", func() bool { return strings.Contains(f.log.String(), "did not open") })
			if s := p.closedState(); s.Phase != host.PhaseFailed || s.Error == "" {
				t.Errorf("%+v", s)
			}
		})
	}
}

func write(t *testing.T, f *fakeServer, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(fmt.Sprint(f.settings["DataFolder"]), name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What was posted and deleted while the plugin was disabled is caught up with when it is enabled.
func TestPlugin_CatchesUp(t *testing.T) {
	p, f := newPlugin(t)
	installRecall(t, f)
	activate(t, p)
	until(t, "it opens", func() bool { return p.service.Load() != nil })
	cursors := func() (n int) {
		for _, name := range []string{"posts.cursor", "deletions.cursor"} {
			if _, err := os.Stat(filepath.Join(fmt.Sprint(f.settings["DataFolder"]), name)); err == nil {
				n++
			}
		}
		return n
	}
	until(t, "it begins", func() bool { return cursors() == 2 })
	if err := p.OnDeactivate(); err != nil {
		t.Fatal(err)
	}
	f.db.post("posted", town, alice, "secret", 0)
	f.db.post("deleted", town, bob, "secret", 0)
	f.db.delete("deleted", bob)
	f.db.post("against", town, bob, "secret", time.Hour)
	f.db.delete("against", bob)

	next := &Plugin{}
	next.SetAPI(f)
	activate(t, next)
	until(t, "it opens again", func() bool { return next.service.Load() != nil })
	s := next.service.Load()
	until(t, "the post is indexed", func() bool {
		states, err := s.host.Status(t.Context(), tenant, []string{"posted"})
		return err == nil && states[0].State == "live"
	})
	until(t, "the deletion is a recall", func() bool {
		return f.db.text(`SELECT message FROM posts WHERE id =
		'deleted'`) == ""
	})
	until(t, "the deletion against the rules is listed", func() bool { return s.bypassed.len() == 1 })
}

func TestPlugin_ChangedBinary(t *testing.T) {
	p, f := newPlugin(t)
	installRecall(t, f)
	recallPluginSHA256 = strings.Repeat("0", 64)
	defer func() { recallPluginSHA256 = "" }()
	activate(t, p)
	until(t, "it is refused", func() bool { return strings.Contains(f.log.String(), "another SHA-256 than configured") })
	if err := p.OnDeactivate(); err != nil {
		t.Fatal(err)
	}
}

func TestRecoverPanic(t *testing.T) {
	f := newFake(t, testDB{t: t})
	p := &Plugin{log: f.logger()}
	p.failure.Store(&errStarting)
	p.SetAPI(nil) // a call of it panics
	if status, body := call(p, root, "GET", "/state", ""); !strings.Contains(f.log.String(), "panic") {
		t.Errorf("%d %s", status, body)
	}
}

func TestCommand(t *testing.T) {
	const id = "abcdefghijklmnopqrstuvwxyz"
	for text, want := range map[string]line{
		"/recall":                                {},
		"/recall wrong channel":                  {reason: "wrong channel"},
		"/recall " + id:                          {postID: id},
		"/recall " + id + " a typo":              {postID: id, reason: "a typo"},
		"/recall https://x/t/pl/" + id + " typo": {postID: id, reason: "typo"},
		"/recall <https://x/t/pl/" + id + ">":    {postID: id},
		"/recall check":                          {check: true},
		"/recall check " + id:                    {check: true, postID: id},
		"/recall help":                           {help: true},
		"/recall  abc":                           {reason: "abc"},
		"/recall https://x/t/pl/" + id + "?a=b":  {badLink: true, reason: "https://x/t/pl/" + id + "?a=b"},
		"/recall check x/pl/" + id + "x":         {check: true, badLink: true, reason: "x/pl/" + id + "x"},
	} {
		if got := parseLine(text); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
	p, f := newPlugin(t)
	installRecall(t, f)
	activate(t, p)
	until(t, "it opens", func() bool { return p.service.Load() != nil })
	say := func(user, command string) string {
		t.Helper()
		answer, aerr := p.ExecuteCommand(nil, &model.CommandArgs{Command: command, UserId: user, ChannelId: town})
		if aerr != nil || answer.ResponseType != model.CommandResponseTypeEphemeral {
			t.Fatal(answer, aerr)
		}
		return answer.Text
	}
	f.db.exec(`UPDATE users SET locale = 'zh-CN' WHERE id = 'alice'`)
	f.db.exec(`UPDATE channels SET creatorid = '' WHERE id = 'town'`)
	f.db.exec(`UPDATE channelmembers SET schemeadmin = false`)
	f.db.post(id, town, bob, "secret", time.Minute)
	for _, test := range []struct{ user, command, want string }{
		{bob, "/recall check", "You can recall this message until"},
		{alice, "/recall check " + id, "你不能撤回这条消息。"},
		{alice, "/recall", "这里没有你的消息。"},
		{alice, "/recall help", "撤回一条消息"},
		{carol, "/recall " + id, "does not exist"},
		{bob, "/recall https://x/t/pl/" + id + "?a=b", "Nothing was recalled"},
		{bob, "/recall wrong channel", "The message was recalled."},
		{bob, "/recall " + id, "recalled before"},
		{dave, "/recall", "There is no message of yours here."},
		{bob, "/recall " + id + " " + strings.Repeat("x", 2000), "reason"},
	} {
		if got := say(test.user, test.command); !strings.Contains(got, test.want) {
			t.Errorf("%s: %s: %q, want %q", test.user, test.command, got, test.want)
		}
	}
	f.db.Close() // the plugin has connections of its own
	_ = p.service.Load().db.Close()
	if got := say(alice, "/recall"); !strings.Contains(got, "because of an error") {
		t.Errorf("%q", got)
	}
}
