package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/chat-recall/recall/examples/host-app/chat"
)

// Of the users of a replay, one in awayShare is away all the time, and one in roamingShare keeps a roaming log. The
// others are connected.
const (
	awayShare    = 16
	roamingShare = 16
)

// crowd is the users of a replay with their clients.
type crowd struct {
	server *chat.Server
	log    hclog.Logger
	ctx    context.Context
	stop   context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	users map[string]*sync.Once
	away  []string
	leaks []string // messages that came after the notice of their recall
}

func newCrowd(s *chat.Server, log hclog.Logger) *crowd {
	c := &crowd{server: s, log: log, users: make(map[string]*sync.Once)}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// join makes a user, once, and connects it unless it is one of those who are away.
func (c *crowd) join(ctx context.Context, user string) (err error) {
	c.mu.Lock()
	once := c.users[user]
	if once == nil {
		once = new(sync.Once)
		c.users[user] = once
	}
	c.mu.Unlock()
	once.Do(func() {
		if err = c.server.Store().AddUser(ctx, user, user, share(user, "roaming", roamingShare)); err != nil {
			return
		}
		if share(user, "away", awayShare) {
			c.mu.Lock()
			c.away = append(c.away, user)
			c.mu.Unlock()
			return
		}
		client, connectErr := c.server.Connect(user)
		if err = connectErr; err == nil {
			c.done.Go(func() { c.listen(user, client) })
		}
	})
	return err
}

// listen is the client of one user, which connects again when it was too slow.
func (c *crowd) listen(user string, client *chat.Client) {
	noticed := make(map[string]bool)
	for {
		frame, err := client.Next(c.ctx)
		switch {
		case err == nil && frame.Event == "notice":
			noticed[frame.ID] = true
		case err == nil && noticed[frame.ID]:
			c.leak("message %s was delivered to %s after the notice of its recall", frame.ID, user)
		case err != nil:
			if leaveErr := client.Leave(); leaveErr != nil {
				c.log.Error("a client left with messages undelivered", "error", leaveErr)
			}
			if c.ctx.Err() != nil {
				return
			}
			if client, err = c.server.Connect(user); err != nil {
				return
			}
		}
	}
}

func (c *crowd) leak(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaks = append(c.leaks, fmt.Sprintf(format, args...))
}

// comeBack connects those who were away, one after the other, and returns what should not have been delivered, to them
// and to everybody before.
func (c *crowd) comeBack(ctx context.Context, recalled map[string]bool) ([]string, error) {
	for _, user := range c.away {
		if err := c.drain(ctx, user, recalled); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaks, nil
}

// drain takes all that waits for a user.
func (c *crowd) drain(ctx context.Context, user string, recalled map[string]bool) (err error) {
	waiting := 0
	for _, list := range []func(context.Context, string, int64, int) ([]chat.Waiting, error){
		c.server.Store().Queued, c.server.Store().Kept,
	} {
		all, err := list(ctx, user, 0, 1<<30)
		if err != nil {
			return err
		}
		waiting += len(all)
	}
	client, err := c.server.Connect(user)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Leave()) }()
	for range waiting {
		frame, err := client.Next(ctx)
		if err != nil {
			return err
		}
		if frame.Event == "message" && recalled[frame.ID] {
			c.leak("message %s was delivered late to %s, recalled as it is", frame.ID, user)
		}
	}
	return nil
}

// leave disconnects everyone.
func (c *crowd) leave() {
	c.stop()
	c.done.Wait()
}
