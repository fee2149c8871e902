package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestPermissions(t *testing.T) {
	db := newChat(t)
	f := newFake(t, db)
	db.exec(`INSERT INTO roles VALUES ('1', 'channel_user', 'create_post delete_post', 0),
		('2', 'team_admin', 'delete_others_posts delete_post x', 0), ('3', 'guest', 'create_post', 0), ('4',
			'of_old_scheme', 'delete_post', 5)`)
	file := filepath.Join(t.TempDir(), "taken.json")
	roles := func() string {
		return db.text(`SELECT string_agg(name || '=' || permissions, '; ' ORDER BY id) FROM roles WHERE deleteat = 0`)
	}
	before := roles()
	begin := func(on bool) (*permissions, func() error) {
		p := &permissions{admin: &admin{f, db.DB}, db: db.DB, file: file, log: f.logger(), on: on}
		follower := p.follower()
		return p, func() error { return follower.Once(t.Context()) }
	}
	p, pass := begin(false)
	check := func(what, want string) {
		t.Helper()
		if err := pass(); err != nil {
			t.Fatal(what, err)
		}
		if got := roles(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	check("off", before)
	if len(f.calls) != 0 {
		t.Errorf("calls without need: %v", f.calls)
	}
	p.set(true)
	taken := "channel_user=create_post; team_admin=x; guest=create_post"
	check("on", taken)
	_, pass = begin(true) // a new process
	check("after a restart", taken)
	db.exec(`INSERT INTO roles VALUES ('5', 'of_new_scheme', 'delete_post y')`)
	check("a new role", taken+"; of_new_scheme=y")
	db.exec(`DELETE FROM roles WHERE id = '5'`)
	p, pass = begin(false)

	f.dead = true
	if err := pass(); err == nil {
		t.Error("given back, and the server is dead")
	}
	f.revive()
	check("off again", strings.Replace(before, "delete_others_posts delete_post x", "x delete_others_posts delete_post",
		1))
	db.exec(`UPDATE roles SET permissions = 'create_post' WHERE id = '1'`) // by an administrator
	check("what is given back is not given again",
		"channel_user=create_post; team_admin=x delete_others_posts delete_post; guest=create_post")

	p.set(true)
	f.diesOn = "RevokeSession" // the fake's REST API does nothing when it is dead
	f.mu.Lock()
	f.dead = true
	f.mu.Unlock()
	if err := pass(); err == nil {
		t.Error("taken, and the server is dead")
	}
}

func TestBaseURL(t *testing.T) {
	f := newFake(t, testDB{t: t})
	for address, want := range map[string]string{
		":8065": "http://127.0.0.1:8065/chat", "0.0.0.0:80": "http://127.0.0.1:80/chat",
		"[::]:8065":     "http://127.0.0.1:8065/chat",
		"10.0.0.1:8065": "http://10.0.0.1:8065/chat",
	} {
		f.config.ServiceSettings.ListenAddress = &address
		site := "https://example.org/chat/"
		f.config.ServiceSettings.SiteURL = &site
		if got, err := baseURL(f.config); got != want {
			t.Errorf("%s: %q, want %q (%v)", address, got, want, err)
		}
	}
	tls, address := "TLS", ":443"
	f.config.ServiceSettings.ConnectionSecurity, f.config.ServiceSettings.ListenAddress = &tls, &address
	if got, _ := baseURL(f.config); got != "https://127.0.0.1:443/chat" {
		t.Errorf("%q", got)
	}
	bad := "8065"
	f.config.ServiceSettings.ListenAddress = &bad
	if _, err := baseURL(f.config); err == nil || !strings.Contains(err.Error(), "ListenAddress") {
		t.Error(err)
	}
}
