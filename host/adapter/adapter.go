// Package adapter is what every adapter of a chat platform needs beside its steps. An [Adapter] answers the requests of
// users: it looks up the facts of messages and the roles of users on the [Platform], asks the plugin, and puts a
// sentence for the user into each answer. Its Handler serves them over HTTP. A [Follower] keeps the index in step with
// the platform, and a [Spool] keeps on disk what could not be indexed at once.
package adapter

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/chat-recall/recall/shared"
)

// Platform is what an adapter knows of its chat platform. The methods are called at the same time.
type Platform interface {
	// Facts looks messages up on the platform. It is asked for messages that the plugin does not know: those that were
	// sent before the plugin was installed, or a moment ago. It leaves out what the platform does not have. At most
	// shared.MaxRecallTargets ids.
	Facts(ctx context.Context, ids []string) (map[string]shared.Message, error)

	// Role is what a user is in a conversation now. A user who may not read the conversation is shared.RoleNone: to them
	// its messages do not exist, and neither do its recalls.
	Role(ctx context.Context, user string, c shared.Conversation) (shared.Role, error)
}

// Config configures an Adapter.
type Config struct {
	Tenant   string
	Platform Platform

	// Recalled, if set, is called with the messages that a request of a user recalled, or found recalled, before the user
	// is answered. A platform with queues in memory takes them out there: the steps run a moment later.
	Recalled func(ids []string)
}

// Adapter answers the requests of users of one chat platform. Its methods may be called at the same time.
type Adapter struct {
	Config

	attached chan struct{} // closed when recall is set
	once     sync.Once
	recall   shared.Recall
}

// ErrNotVisible says that a conversation does not exist for this user.
var ErrNotVisible = errors.New("there is no such conversation, or you are not in it")

// New returns an Adapter. Until it is given a plugin by Attach, its calls wait.
func New(c Config) *Adapter { return &Adapter{Config: c, attached: make(chan struct{})} }

// Attach gives the adapter its plugin: the host, once it is open. Only the first call counts.
func (a *Adapter) Attach(recall shared.Recall) {
	a.once.Do(func() {
		a.recall = recall
		close(a.attached)
	})
}

// plugin waits until there is a plugin, or ctx ends.
func (a *Adapter) plugin(ctx context.Context) (shared.Recall, error) {
	select {
	case <-a.attached:
		return a.recall, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: it has not started yet: %w", shared.ErrUnavailable, ctx.Err())
	}
}
