package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/host/adapter"
)

// deletePermissions let a user delete posts by Mattermost's own means.
var deletePermissions = []string{"delete_post", "delete_others_posts"}

// permissions takes deletePermissions from all roles while it is on, so that every deletion goes through the rules,
// and gives them back to the roles that had them once it is off.
type permissions struct {
	admin *admin
	db    *sql.DB
	file  string // what was taken from which role, until it is given back
	log   hclog.Logger

	mu sync.Mutex
	on bool
}

func (p *permissions) set(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on = on
}

// follower checks the roles every minute: a new scheme brings new ones.
func (p *permissions) follower() *adapter.Follower[role] {
	return &adapter.Follower[role]{What: "permissions to delete posts", Read: p.read, Do: p.change, Every: time.Minute,
		Log: p.log}
}

// A role is a role that is to have other permissions.
type role struct {
	id, name    string
	permissions []string // that it is to have
	taken       []string // what was taken from it, if this gives it back
}

// taken is what was taken from which role, by its id.
type taken map[string][]string

func (p *permissions) readTaken() (taken, error) {
	text, err := os.ReadFile(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return taken{}, nil
	}
	if err != nil {
		return nil, err
	}
	t := taken{}
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", p.file, err)
	}
	return t, nil
}

func (p *permissions) writeTaken(t taken) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return writeFile(p.file, text)
}

// read returns the roles to change.
func (p *permissions) read(ctx context.Context, _ string) (page adapter.Page[role], err error) {
	p.mu.Lock()
	on := p.on
	p.mu.Unlock()
	t, err := p.readTaken()
	if err != nil || !on && len(t) == 0 {
		return page, err
	}
	roles, err := p.roles(ctx)
	if err != nil {
		return page, err
	}
	before := maps.Clone(t)
	exist := map[string]bool{}
	for _, r := range roles {
		exist[r.id] = true
		isTaken := func(permission string) bool { return slices.Contains(deletePermissions, permission) }
		switch {
		case on && slices.ContainsFunc(r.permissions, isTaken):
			for _, permission := range r.permissions {
				if isTaken(permission) && !slices.Contains(t[r.id], permission) {
					t[r.id] = append(t[r.id], permission)
				}
			}
			r.permissions = slices.DeleteFunc(r.permissions, isTaken)
			page.Items = append(page.Items, r)
		case !on && t[r.id] != nil:
			r.taken = t[r.id]
			for _, permission := range r.taken {
				if !slices.Contains(r.permissions, permission) {
					r.permissions = append(r.permissions, permission)
				}
			}
			page.Items = append(page.Items, r)
		}
	}
	maps.DeleteFunc(t, func(id string, _ []string) bool { return !exist[id] })
	if !maps.EqualFunc(before, t, slices.Equal) {
		err = p.writeTaken(t) // before it is taken
	}
	return page, err
}

func (p *permissions) roles(ctx context.Context) (roles []role, err error) {
	rows, err := p.db.QueryContext(ctx, `SELECT id, name, permissions FROM roles WHERE deleteat = 0 ORDER BY name`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r role
		var list string
		if err := rows.Scan(&r.id, &r.name, &list); err != nil {
			return nil, err
		}
		r.permissions = strings.Fields(list)
		roles = append(roles, r)
	}
	return roles, rows.Err()
}

// change gives roles their new permissions.
func (p *permissions) change(ctx context.Context, roles []role) error {
	var errs error
	for _, r := range roles {
		if err := p.changeOne(ctx, r); err != nil {
			errs = errors.Join(errs, fmt.Errorf("role %s: %w", r.name, err))
		}
	}
	return errs
}

// changeOne changes a role, and proves it by the database.
func (p *permissions) changeOne(ctx context.Context, r role) error {
	err := p.admin.do(ctx, "PUT", "/api/v4/roles/"+r.id+"/patch", map[string]any{"permissions": r.permissions})
	if err != nil {
		return err
	}
	var now string
	if err := p.db.QueryRowContext(ctx, `SELECT permissions FROM roles WHERE id = $1`, r.id).Scan(&now); err != nil {
		return err
	}
	for _, permission := range deletePermissions {
		if slices.Contains(strings.Fields(now), permission) != slices.Contains(r.permissions, permission) {
			return errors.New("the Mattermost server did not change it")
		}
	}
	if r.taken == nil {
		p.log.Info("took the permissions to delete posts from a role", "role", r.name)
		return nil
	}
	t, err := p.readTaken()
	if err != nil {
		return err
	}
	delete(t, r.id)
	p.log.Info("gave a role its permissions to delete posts back", "role", r.name)
	return p.writeTaken(t)
}
