// Package adapter is what every adapter of a chat platform needs beside its steps. An [Adapter] answers the requests of
// users: it looks up the facts of messages and the roles of users on the [Platform], asks the plugin, and puts a
// sentence for the user into each answer. Its Handler serves them over HTTP. A [Follower] keeps the index in step with
// the platform, and a [Feed] indexes messages as they are sent, or keeps them on disk until it can.
package adapter

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/shared"
)

// Platform is what an adapter knows of its chat platform. The methods are called at the same time.
type Platform interface {
	// Facts looks messages up on the platform. It is asked for messages that the plugin does not know: those that were
	// sent before the plugin was installed, or a moment ago. It leaves out what the platform does not have. At most
	// shared.MaxRecallTargets ids. Tenant and ID are filled in.
	Facts(ctx context.Context, ids []string) (map[string]shared.Message, error)

	// Role is what a user is in a conversation now, and whether they may read it. To who may not, its messages do not
	// exist, and neither do its recalls. Somebody who may read a conversation without being in it is shared.RoleNone
	// there.
	Role(ctx context.Context, user string, c shared.Conversation) (role shared.Role, reads bool, err error)
}

// Config configures an Adapter.
type Config struct {
	Tenant   string
	Platform Platform

	// Recalled, if not nil, is called with the messages that a request of a user recalled, with what went with them, or
	// found recalled, before the user is answered. A platform with queues in memory takes them out there: the steps run
	// a moment later.
	Recalled func(ids []string)

	Log hclog.Logger // nil: no log
}

// Adapter answers the requests of users of one chat platform. Its methods may be called at the same time. Make one with
// New.
type Adapter struct {
	tenant   string
	platform Platform
	recalled func(ids []string)
	log      hclog.Logger

	mu       sync.Mutex
	recall   shared.Recall
	attached chan struct{} // closed when recall is set
	feed     *Feed         // nil: none
}

// ErrNotVisible says that a conversation does not exist for this user.
var ErrNotVisible = errors.New("there is no such conversation, or you may not read it")

// New returns an Adapter. Until it is given a plugin by Attach, its calls wait.
func New(c Config) *Adapter {
	return &Adapter{tenant: c.Tenant, platform: c.Platform, recalled: c.Recalled, log: orNone(c.Log),
		attached: make(chan struct{})}
}

func orNone(log hclog.Logger) hclog.Logger {
	if log == nil {
		return hclog.NewNullLogger()
	}
	return log
}

// Attach gives the adapter its plugin: the host, once it is open. Another host may take its place later.
func (a *Adapter) Attach(recall shared.Recall) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := a.recall == nil
	a.recall = recall
	if first {
		close(a.attached)
	}
}

// plugin waits until there is a plugin, or ctx ends.
func (a *Adapter) plugin(ctx context.Context) (shared.Recall, error) {
	select {
	case <-a.attached:
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.recall, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: it has not started yet: %w", shared.ErrUnavailable, ctx.Err())
	}
}

// roles are the roles of one user, each asked for once.
type roles struct {
	adapter *Adapter
	user    string
	known   map[shared.Conversation]shared.Role // "": the user may not read it
}

func (a *Adapter) rolesOf(user string) *roles {
	return &roles{a, user, map[shared.Conversation]shared.Role{}}
}

func (r *roles) in(ctx context.Context, c shared.Conversation) (role shared.Role, reads bool, err error) {
	if role, known := r.known[c]; known {
		return role, role != "", nil
	}
	role, reads, err = r.adapter.platform.Role(ctx, r.user, c)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("role of the user: %w", err)
	case reads && role == "":
		return "", false, fmt.Errorf("the platform names no role of user %q in %s %q", r.user, c.Type, c.ID)
	case !reads:
		role = ""
	}
	r.known[c] = role
	return role, reads, nil
}
