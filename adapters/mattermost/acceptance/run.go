package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const soon = time.Minute // for what happens in the background

// A run is a run of the scenarios.
type run struct {
	options *options
	ctx     context.Context
	mm      *mattermost
	db      *postgres

	root, alice, bob, carol, dave, erin *client // root is a system admin, dave a team admin; erin is not in the team
	team                                string
	town, private, direct               string // channels: public; of alice and bob; between alice and bob

	scenario string
	checks   []check
	count    int      // of texts
	recalled []string // texts that must be nowhere in the end
	kept     []string // texts that must be there
}

// check adds a line to the table.
func (r *run) check(ok bool, name string, detail ...any) {
	c := check{Scenario: r.scenario, Name: name, OK: ok}
	if !ok {
		c.Detail = strings.TrimSpace(fmt.Sprintln(detail...))
		say("FAILED %s: %s: %s", r.scenario, name, c.Detail)
	}
	r.checks = append(r.checks, c)
}

// becomes adds a line for what is to become true soon.
func (r *run) becomes(name string, is func() error) {
	err := wait(r.ctx, soon, is)
	r.check(err == nil, name, err)
}

// must ends the scenario when something that is not checked fails.
func must[T any](value T, err error) T {
	if err != nil {
		panic(scenarioError{err})
	}
	return value
}

func try(err error) {
	if err != nil {
		panic(scenarioError{err})
	}
}

type scenarioError struct{ error }

// text returns a text that is nowhere else: one word, which is found by search.
func (r *run) text(kind string) string {
	r.count++
	return fmt.Sprintf("%sword%04dx%s", kind, r.count, strings.Repeat("q", 5))
}

// doomed returns a text that will be recalled.
func (r *run) doomed() string {
	t := r.text("recalled")
	r.recalled = append(r.recalled, t)
	return t
}

// lasting returns a text that will not.
func (r *run) lasting() string {
	t := r.text("kept")
	r.kept = append(r.kept, t)
	return t
}

// all runs the scenarios. An error is one that ends the run.
func (r *run) all() error {
	scenarios := []struct {
		name string
		run  func()
	}{
		{"install", r.install},
		{"own in time", r.ownInTime},
		{"too late", r.tooLate},
		{"direct messages", r.directMessages},
		{"roles", r.roles},
		{"system posts", r.systemPosts},
		{"offline reader", r.offlineReader},
		{"files", r.files},
		{"threads", r.threads},
		{"permalinks", r.permalinks},
		{"edits", r.edits},
		{"pins and saved", r.pinsAndSaved},
		{"command", r.commands},
		{"rules", r.rules},
		{"deletions", r.deletions},
		{"catch-up", r.catchUp},
		{"delete_post", r.deletePermissions},
		{"upgrade", r.upgrade},
		{"changed binary", r.changedBinary},
		{"kills", r.kills},
		{"nothing left", r.nothingLeft},
	}
	for i, s := range scenarios {
		if i > 0 && !r.options.run.MatchString(s.name) {
			continue
		}
		if r.ctx.Err() != nil {
			return errStopped
		}
		r.scenario = s.name
		say("%s", s.name)
		if failed := r.one(s.run); failed != nil {
			r.check(false, "runs to its end", failed)
			if i == 0 {
				return fmt.Errorf("%s: %w", s.name, failed)
			}
		}
	}
	return nil
}

func (r *run) one(scenario func()) (failed error) {
	defer func() {
		if v := recover(); v != nil {
			e, ok := v.(scenarioError)
			if !ok {
				panic(v)
			}
			failed = e.error
		}
	}()
	scenario()
	return nil
}

// install makes users, a team and channels, and installs the bundle.
func (r *run) install() {
	for name, c := range map[string]**client{
		"root": &r.root, "alice": &r.alice, "bob": &r.bob, "carol": &r.carol, "dave": &r.dave, "erin": &r.erin,
	} {
		*c = &client{base: r.mm.url(), name: name}
	}
	users := []*client{r.root, r.alice, r.bob, r.carol, r.dave, r.erin} // the first one becomes the system admin
	for _, c := range users {
		if c.login() == nil {
			continue // with data of an earlier run
		}
		try(c.do("POST", "/api/v4/users", map[string]string{"email": c.name + "@example.test", "username": c.name,
			"password": password}, nil))
		try(c.login())
	}
	name := fmt.Sprintf("t%x", time.Now().UnixNano())
	r.team = r.id(r.root, "POST", "/api/v4/teams", map[string]string{"name": name, "display_name": name, "type": "O"})
	for _, c := range []*client{r.alice, r.bob, r.carol, r.dave} {
		try(r.root.do("POST", "/api/v4/teams/"+r.team+"/members", map[string]string{"team_id": r.team, "user_id": c.id}, nil))
	}
	try(r.root.do("PUT", "/api/v4/teams/"+r.team+"/members/"+r.dave.id+"/schemeRoles",
		map[string]bool{"scheme_user": true, "scheme_admin": true}, nil))
	r.town = r.id(r.root, "GET", "/api/v4/teams/"+r.team+"/channels/name/town-square", nil)
	r.private = r.id(r.alice, "POST", "/api/v4/channels",
		map[string]string{"team_id": r.team, "name": "private", "display_name": "private", "type": "P"})
	r.join(r.private, r.bob)
	r.direct = r.id(r.alice, "POST", "/api/v4/channels/direct", []string{r.alice.id, r.bob.id})

	status, text, err := r.root.uploadBundle(r.options.bundle)
	r.check(err == nil && status == 201, "the bundle is uploaded", status, text, err)
	try(r.root.do("POST", "/api/v4/plugins/"+pluginID+"/enable", nil, nil))
	r.becomes("recall-plugin runs", r.running)
	_, err = r.pluginState(r.alice)
	r.check(statusOf(err) == 403, "its state is for system admins", err)
	nobody := &client{base: r.mm.url()}
	status, _, err = nobody.call("GET", "/plugins/"+pluginID+"/since?channel_id="+r.town, "", nil)
	r.check(status == 401, "nobody is let in without a session", status, err)
}

// id makes a call and returns the id in the answer.
func (r *run) id(c *client, method, path string, in any) string {
	var out struct{ ID string }
	try(c.do(method, path, in, &out))
	return out.ID
}

func (r *run) join(channel string, c *client) {
	try(r.root.do("POST", "/api/v4/channels/"+channel+"/members", map[string]string{"user_id": c.id}, nil))
}

// pluginStateOf is what GET /state answers.
type pluginStateOf struct {
	Phase     string
	PID       int
	Version   string
	Error     string
	TakenFrom int `json:"taken_from"`
	Rules     struct {
		Digest  string
		Refused []json.RawMessage
	}
}

func (r *run) pluginState(c *client) (s pluginStateOf, err error) {
	return s, c.do("GET", "/plugins/"+pluginID+"/state", nil, &s)
}

func (r *run) running() error {
	s, err := r.pluginState(r.root)
	if err == nil && (s.Phase != "running" || s.PID == 0 || s.Version == "") {
		err = fmt.Errorf("state %+v", s)
	}
	return err
}

// enable and disable are what an administrator does in the System Console.
func (r *run) enable() {
	try(r.root.do("POST", "/api/v4/plugins/"+pluginID+"/enable", nil, nil))
	try(wait(r.ctx, soon, r.running))
}

func (r *run) disable() { try(r.root.do("POST", "/api/v4/plugins/"+pluginID+"/disable", nil, nil)) }

// set changes a setting of the plugin.
func (r *run) set(key string, value any) {
	try(r.root.do("PUT", "/api/v4/config/patch", map[string]any{"PluginSettings": map[string]any{
		"Plugins": map[string]any{pluginID: map[string]any{key: value}}}}, nil))
}

// settled reports whether every step of a recall is settled, seen by the system admin; a ledger that shows nothing to
// them is of a direct message.
func (r *run) settled(by *client, recallID string) error {
	steps, found, err := by.ledger(recallID)
	if err != nil {
		return err
	}
	if !found {
		return errors.New("no entry in the ledger")
	}
	for step, outcome := range steps {
		if outcome != "done" && outcome != "nothing_to_do" && outcome != "unsupported" {
			return fmt.Errorf("step %s is %q", step, outcome)
		}
	}
	return nil
}

// recallNow recalls a post of a user and waits until every step is settled.
func (r *run) recallNow(by *client, p post) result {
	res := must(by.recall(p.ID))
	if res.Status != "recalled" {
		panic(scenarioError{fmt.Errorf("recall of %s: %+v", p.ID, res)})
	}
	try(wait(r.ctx, soon, func() error { return r.settled(by, res.RecallID) }))
	return res
}

// inDatabase returns the lines of a dump that have a text.
func (r *run) inDatabase(text string) []string {
	dump := must(r.db.dump())
	var found []string
	for line := range bytes.Lines(dump) {
		if bytes.Contains(line, []byte(text)) {
			found = append(found, string(line[:min(len(line), 200)]))
		}
	}
	return found
}

// onDisk returns the files below the data folder, but for the database and the log, with a text in name or content.
func (r *run) onDisk(texts ...string) []string {
	var found []string
	for _, folder := range []string{r.mm.files(), r.mm.pluginDir()} {
		try(filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return ignoreMissing(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return ignoreMissing(err)
			}
			for _, text := range texts {
				if strings.Contains(path, text) || bytes.Contains(content, []byte(text)) {
					found = append(found, path+" has "+text)
				}
			}
			return nil
		}))
	}
	return found
}

func ignoreMissing(err error) error { // files come and go under the walk
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
